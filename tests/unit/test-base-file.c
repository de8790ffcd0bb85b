/*
 * A base's file: read as it was written, or not at all.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <sodium.h>
#include <string.h>

#include "base-file.h"
#include "bytes.h"
#include "error.h"

#define BATCHES 3
#define CHECKSUM 32

static char *scratch(const char *name)
{
    return g_strdup_printf("%s/msc-base-%d-%s", g_get_tmp_dir(), getpid(),
                           name);
}

static MscBaseWriter *begin(const char *path)
{
    const MscBaseHead head = {
        .boot = { 1 },
        .id = { 2 },
        .vm = { 3 },
        .provider = (char *)"conntrack",
        .peer = (char *)"host1",
    };
    g_autoptr(GError) err = NULL;
    MscBaseWriter *w = msc_base_writer_new(path, &head, &err);

    g_assert_no_error(err);
    return w;
}

/* Batches of one letter each: 100 bytes, 70,000, 3. */
static GBytes *batch(int i)
{
    static const gsize lengths[BATCHES] = { 100, 70000, 3 };
    char *data = g_strnfill(lengths[i], (char)('a' + i));

    return g_bytes_new_take(data, lengths[i]);
}

/* The bytes of a good file. */
static GByteArray *good_file(void)
{
    g_autofree char *path = scratch("good");
    g_autofree char *next = scratch("good.new");
    g_autoptr(MscBaseWriter) w = begin(next);
    g_autoptr(GError) err = NULL;
    char *data;
    gsize len;

    for (int i = 0; i < BATCHES; i++) {
        g_autoptr(GBytes) b = batch(i);

        g_assert_true(msc_base_writer_add(w, g_bytes_get_data(b, NULL),
                                          g_bytes_get_size(b),
                                          (uint64_t)i * 1000, &err));
    }
    g_assert_true(msc_base_writer_finish(w, path, 77, 88, 99, &err));
    g_assert_no_error(err);
    g_assert_false(g_file_test(next, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    g_unlink(path);
    return g_byte_array_new_take((guint8 *)data, len);
}

/* Of bytes in memory. */
static MscBaseReader *reader_of(const GByteArray *file, GError **errp)
{
    static char nothing[1];
    FILE *f = file->len ? fmemopen(file->data, file->len, "r")
                        : fmemopen(nothing, 1, "r");

    if (!file->len) {
        fgetc(f);
    }
    return msc_base_reader_new(f, errp);
}

static void expect_malformed(const GByteArray *file)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscBaseReader) r = reader_of(file, &err);

    g_assert_null(r);
    g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
}

static void test_read_as_written(void)
{
    g_autoptr(GByteArray) file = good_file();
    g_autoptr(GError) err = NULL;
    g_autoptr(MscBaseReader) r = reader_of(file, &err);
    const MscBaseHead *head;

    g_assert_no_error(err);
    head = msc_base_reader_head(r);
    g_assert_cmpint(head->boot[0], ==, 1);
    g_assert_cmpint(head->id[0], ==, 2);
    g_assert_cmpint(head->vm[0], ==, 3);
    g_assert_cmpstr(head->provider, ==, "conntrack");
    g_assert_cmpstr(head->peer, ==, "host1");
    g_assert_cmpuint(head->ended_us, ==, 77);
    g_assert_cmpuint(head->wall_us, ==, 88);
    g_assert_cmpuint(head->whole, ==, 99);
    g_assert_cmpuint(head->bytes, ==, 70103);
    /* Twice: at the end it begins again. */
    for (int i = 0; i < 2 * BATCHES; i++) {
        g_autoptr(GBytes) want = batch(i % BATCHES);
        g_autoptr(GBytes) got = NULL;
        uint64_t when;

        g_assert_cmpint(msc_base_reader_next(r, &got, &when, &err), ==, 1);
        g_assert_true(g_bytes_equal(want, got));
        g_assert_cmpuint(when, ==, i % BATCHES * 1000);
        if (i % BATCHES == BATCHES - 1) {
            GBytes *none = NULL;

            g_assert_cmpint(msc_base_reader_next(r, &none, &when, &err), ==, 0);
            g_assert_null(none);
        }
    }
}

static void test_cut_short(void)
{
    g_autoptr(GByteArray) file = good_file();

    while (file->len) {
        /* Byte by byte at both ends. */
        bool inside = file->len > 1500 && file->len < 70100;

        g_byte_array_set_size(file, file->len - (inside ? 977 : 1));
        expect_malformed(file);
    }
}

static void test_every_changed_byte_counts(void)
{
    g_autoptr(GByteArray) file = good_file();

    for (guint i = 0; i < file->len; i += i < 300 || i > 70200 ? 1 : 499) {
        file->data[i] ^= 1;
        expect_malformed(file);
        file->data[i] ^= 1;
    }
    g_byte_array_append(file, (const guint8 *)"", 1);
    expect_malformed(file);
}

/* What is wrong though the checksum is right. */
static void seal(GByteArray *file)
{
    uint8_t hash[CHECKSUM];

    crypto_generichash(hash, sizeof(hash), file->data, file->len - CHECKSUM,
                       NULL, 0);
    memcpy(file->data + file->len - CHECKSUM, hash, sizeof(hash));
}

static void test_malformed_behind_a_right_checksum(void)
{
    /* Magic, version, zero; the provider's length; the first batch's. */
    static const struct {
        guint at;
        guint8 value;
    } rows[] = { { 0, 0 },  { 5, 2 },     { 7, 1 },
                 { 56, 1 }, { 58, 0xff }, { 74, 0x7f } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GByteArray) file = good_file();

        file->data[rows[i].at] = rows[i].value;
        seal(file);
        expect_malformed(file);
    }
    {
        /* The twin: a time means nothing to the decoder. */
        g_autoptr(GByteArray) file = good_file();
        g_autoptr(MscBaseReader) r = NULL;

        file->data[file->len - CHECKSUM - 32 - 1] ^= 1;
        seal(file);
        r = reader_of(file, NULL);
        g_assert_nonnull(r);
    }
}

static void test_too_much_is_refused(void)
{
    g_autofree char *path = scratch("large");
    g_autoptr(MscBaseWriter) w = begin(path);
    g_autofree char *large = g_malloc0(MSC_BASE_RECORD_MAX + 1);
    g_autoptr(GError) err = NULL;

    g_assert_false(msc_base_writer_add(w, large, 0, 0, NULL));
    g_assert_false(
        msc_base_writer_add(w, large, MSC_BASE_RECORD_MAX + 1, 0, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_STATE);
    g_assert_true(msc_base_writer_add(w, large, MSC_BASE_RECORD_MAX, 0, NULL));
}

static void test_unfinished_leaves_nothing(void)
{
    g_autofree char *path = scratch("unfinished");
    MscBaseWriter *w = begin(path);

    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    msc_base_writer_free(w);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

#define ADD(name, function) g_test_add_func("/base-file/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    ADD("read-as-written", test_read_as_written);
    ADD("cut-short", test_cut_short);
    ADD("every-changed-byte-counts", test_every_changed_byte_counts);
    ADD("malformed-behind-a-right-checksum",
        test_malformed_behind_a_right_checksum);
    ADD("too-much-is-refused", test_too_much_is_refused);
    ADD("unfinished-leaves-nothing", test_unfinished_leaves_nothing);
    return g_test_run();
}
