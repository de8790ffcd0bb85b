/*
 * The journal's files: the newest whole text counts, and the durable one
 * outlives whatever is written after it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <string.h>

#include "error.h"
#include "slots.h"

typedef struct {
    char *dir, *path;
    MscSlots slots;
} File;

static void file_init(File *f)
{
    f->dir = g_dir_make_tmp("msc-slots-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "entry", NULL);
    f->slots = (MscSlots){ 0 };
}

static void file_clean(File *f)
{
    g_unlink(f->path);
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->path);
    g_free(f->dir);
}

static void put(File *f, const char *text, bool durable)
{
    g_autoptr(GError) err = NULL;

    msc_slots_write(&f->slots, f->path, text, durable, &err);
    g_assert_no_error(err);
}

/* What a restarted helper finds. */
static void assert_text(File *f, const char *wanted)
{
    g_autoptr(GError) err = NULL;
    MscSlots slots;
    g_autofree char *text = msc_slots_read(&slots, f->path, &err);

    if (wanted) {
        g_assert_no_error(err);
    } else {
        g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
    }
    g_assert_cmpstr(text, ==, wanted);
}

/* A crash of the host in the middle of writing: @slot has half of it. */
static void spoil(File *f, guint slot, gsize at)
{
    g_autofree char *data = NULL;
    gsize len;

    g_assert_true(g_file_get_contents(f->path, &data, &len, NULL));
    g_assert_cmpuint(len, ==, MSC_SLOTS_LEN);
    data[slot * MSC_SLOT_LEN + at] ^= 1;
    g_assert_true(
        g_file_set_contents(f->path, data, (gssize)MSC_SLOTS_LEN, NULL));
}

static void test_newest_counts(void)
{
    File f;

    file_init(&f);
    for (int i = 0; i < 20; i++) {
        g_autofree char *text = g_strdup_printf("[a]\nb=%d\n", i);

        put(&f, text, i % 3 == 0);
        assert_text(&f, text);
    }
    file_clean(&f);
}

static void test_the_durable_one_is_not_touched(void)
{
    static const char *const later[] = { "one", "two", "three" };
    File f;

    file_init(&f);
    put(&f, "made", false); /* durable all the same */
    for (guint n = 0; n <= G_N_ELEMENTS(later); n++) {
        MscSlots before;

        put(&f, "durable", true);
        before = f.slots;
        for (guint i = 0; i < n; i++) {
            put(&f, later[i], false);
            assert_text(&f, later[i]);
        }
        spoil(&f, 1u - before.durable, 3);
        assert_text(&f, "durable");
    }
    file_clean(&f);
}

static void test_what_was_read_is_durable(void)
{
    File f;

    file_init(&f);
    put(&f, "first", true);
    put(&f, "second", false);
    {
        g_autofree char *text = msc_slots_read(&f.slots, f.path, NULL);

        g_assert_cmpstr(text, ==, "second");
    }
    put(&f, "third", false);
    spoil(&f, 1u - f.slots.durable, 3);
    assert_text(&f, "second");
    file_clean(&f);
}

static void test_half_of_it_does_not_count(void)
{
    static const gsize places[] = {
        0, 2, 3, 5, 20, 35, 36, 38, 40, 100, MSC_SLOT_LEN - 1
    };

    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        File f;

        file_init(&f);
        put(&f, "old", true);
        put(&f, "new, and not whole", true);
        spoil(&f, f.slots.durable, places[i]);
        assert_text(&f, "old");
        spoil(&f, 1u - f.slots.durable, places[i]);
        assert_text(&f, NULL);
        file_clean(&f);
    }
}

static void test_other_lengths_are_refused(void)
{
    static uint8_t data[2 * MSC_SLOTS_LEN];
    g_autofree char *whole = NULL;
    MscSlots slots;
    gsize len;
    File f;

    file_init(&f);
    put(&f, "text", true);
    g_assert_true(g_file_get_contents(f.path, &whole, &len, NULL));
    memcpy(data, whole, len);
    for (gsize n = 0; n <= sizeof(data); n += 512) {
        g_autoptr(GError) err = NULL;
        g_autofree char *text = msc_slots_decode(data, n, &slots, &err);

        g_assert_cmpint(text != NULL, ==, n == MSC_SLOTS_LEN);
        g_assert_cmpint(err == NULL, ==, n == MSC_SLOTS_LEN);
    }
    file_clean(&f);
}

static void test_a_text_that_does_not_fit(void)
{
    g_autofree char *text = g_strnfill(MSC_SLOT_LEN, 'x');
    g_autoptr(GError) err = NULL;
    File f;

    file_init(&f);
    put(&f, "text", true);
    g_assert_false(msc_slots_write(&f.slots, f.path, text, true, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_INTERNAL);
    assert_text(&f, "text");
    put(&f, "more", true);
    assert_text(&f, "more");
    file_clean(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/slots/newest-counts", test_newest_counts);
    g_test_add_func("/slots/the-durable-one-is-not-touched",
                    test_the_durable_one_is_not_touched);
    g_test_add_func("/slots/what-was-read-is-durable",
                    test_what_was_read_is_durable);
    g_test_add_func("/slots/half-of-it-does-not-count",
                    test_half_of_it_does_not_count);
    g_test_add_func("/slots/other-lengths-are-refused",
                    test_other_lengths_are_refused);
    g_test_add_func("/slots/a-text-that-does-not-fit",
                    test_a_text_that_does_not_fit);
    return g_test_run();
}
