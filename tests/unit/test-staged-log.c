/*
 * What pre-copy staged, in the journal: one kind of it may be forgotten, and
 * it takes so much of the disk and no more.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <string.h>

#include "error.h"
#include "staged-log.h"

#define VM "01234567-89ab-cdef-0123-456789abcdef"
#define MIB (1024 * 1024)

typedef struct {
    char *dir;
    MscJournal *journal;
    MscEntry *entry;
} Log;

static void log_init(Log *l)
{
    g_autoptr(GError) err = NULL;

    l->dir = g_dir_make_tmp("msc-staged-XXXXXX", NULL);
    l->journal = msc_journal_open(l->dir, &err);
    g_assert_no_error(err);
    l->entry = msc_entry_new(MSC_ROLE_DESTINATION, VM, "guest");
}

/* Nothing but what there was may be left. */
static void log_clean(Log *l)
{
    g_autofree char *journal = g_build_filename(l->dir, "journal", NULL);

    msc_journal_remove_blobs(l->journal, l->entry);
    g_assert_cmpint(g_rmdir(journal), ==, 0);
    g_assert_cmpint(g_rmdir(l->dir), ==, 0);
    msc_journal_close(l->journal);
    msc_entry_free(l->entry);
    g_free(l->dir);
}

static bool add(Log *l, const char *provider, MscStagedKind kind, size_t len,
                unsigned max_mib, GError **errp)
{
    g_autoptr(GBytes) data = g_bytes_new_take(g_malloc0(len), len);

    return msc_staged_append(l->journal, l->entry, kind, provider, data,
                             max_mib, errp);
}

static void must_add(Log *l, const char *provider, size_t len)
{
    g_autoptr(GError) err = NULL;

    add(l, provider, MSC_STAGED_BATCH, len, 1024, &err);
    g_assert_no_error(err);
}

/* "a10 b20 ", a provider and a length each; *@sum: of the times. */
static char *contents(Log *l, uint64_t *sum)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscStagedReader) reader =
        msc_staged_open(l->journal, l->entry, 0, &err);
    g_autoptr(GString) text = g_string_new(NULL);
    int got = 1;

    g_assert_no_error(err);
    *sum = 0;
    while (got == 1) {
        g_auto(MscStagedRecord) record = { 0 };

        got = msc_staged_read(reader, &record, &err);
        g_assert_no_error(err);
        if (got == 1) {
            g_string_append_printf(text, "%s%zu ", record.provider,
                                   g_bytes_get_size(record.data));
            *sum += record.when_us;
        }
    }
    return g_strdup(text->str);
}

static void assert_contents(Log *l, const char *want)
{
    uint64_t sum;
    g_autofree char *text = contents(l, &sum);

    g_assert_cmpstr(text, ==, want);
}

static void test_one_kind_is_forgotten(void)
{
    g_autoptr(GError) err = NULL;
    uint64_t before, after;
    Log l;

    log_init(&l);
    must_add(&l, "a", 10);
    must_add(&l, "b", 20);
    must_add(&l, "a", 0);
    g_free(contents(&l, &before));
    g_assert_true(msc_staged_forget(l.journal, l.entry, "c", &err));
    assert_contents(&l, "a10 b20 a0 ");
    g_free(contents(&l, &after));
    g_assert_cmpuint(before, ==, after);
    g_assert_true(msc_staged_forget(l.journal, l.entry, "a", &err));
    assert_contents(&l, "b20 ");
    must_add(&l, "a", 30);
    assert_contents(&l, "b20 a30 ");
    log_clean(&l);
}

static void test_all_is_forgotten(void)
{
    g_autoptr(GError) err = NULL;
    Log l;

    log_init(&l);
    g_assert_true(msc_staged_forget(l.journal, l.entry, "a", &err));
    must_add(&l, "a", 10);
    g_assert_true(msc_staged_forget(l.journal, l.entry, "a", &err));
    g_assert_false(msc_journal_has_blob(l.journal, l.entry, MSC_BLOB_STAGED));
    log_clean(&l);
}

/* One that cannot be read is not replaced by what was understood of it. */
static void test_a_damaged_log_is_left_alone(void)
{
    static const uint8_t bad[] = { 0, 0, 0, 1, 9 };
    g_autoptr(GError) err = NULL;
    Log l;

    log_init(&l);
    must_add(&l, "b", 20);
    g_assert_true(msc_journal_append_blob(l.journal, l.entry, MSC_BLOB_STAGED,
                                          bad, sizeof(bad), &err));
    must_add(&l, "a", 20);
    g_assert_false(msc_staged_forget(l.journal, l.entry, "a", &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
    g_assert_true(msc_journal_has_blob(l.journal, l.entry, MSC_BLOB_STAGED));
    log_clean(&l);
}

static void test_the_limit_holds(void)
{
    static const MscStagedKind kinds[] = { MSC_STAGED_BATCH,
                                           MSC_STAGED_REPLACED };
    g_autoptr(GError) err = NULL;
    Log l;

    log_init(&l);
    g_assert_true(add(&l, "a", MSC_STAGED_BATCH, 2 * MIB - 1024, 2, &err));
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *want = g_strdup_printf("a%d ", 2 * MIB - 1024);

        g_assert_false(add(&l, "b", kinds[i], 1024, 2, &err));
        g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
        g_assert_nonnull(strstr(err->message, "guest guest"));
        g_assert_nonnull(strstr(err->message, "2 MiB"));
        g_assert_nonnull(strstr(err->message, l.dir));
        g_assert_nonnull(strstr(err->message, "precopy-disk-mib="));
        g_clear_error(&err);
        assert_contents(&l, want);
    }
    /* What fits does. */
    g_assert_true(add(&l, "b", MSC_STAGED_BATCH, 512, 2, &err));
    g_assert_true(add(&l, "b", MSC_STAGED_BATCH, 1024, 3, &err));
    log_clean(&l);
}

static void test_half_written_files_go(void)
{
    g_autofree char *kept = NULL, *half = NULL;
    Log l;

    log_init(&l);
    must_add(&l, "a", 10);
    kept = msc_journal_blob_path(l.journal, l.entry, MSC_BLOB_STAGED);
    half = g_strconcat(kept, ".new", NULL);
    g_assert_true(g_file_set_contents(half, "half", -1, NULL));
    msc_journal_close(l.journal);
    l.journal = msc_journal_open(l.dir, NULL);
    g_assert_false(g_file_test(half, G_FILE_TEST_EXISTS));
    assert_contents(&l, "a10 ");
    log_clean(&l);
}

#define ADD(name, function) g_test_add_func("/staged-log/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("one-kind-is-forgotten", test_one_kind_is_forgotten);
    ADD("all-is-forgotten", test_all_is_forgotten);
    ADD("a-damaged-log-is-left-alone", test_a_damaged_log_is_left_alone);
    ADD("the-limit-holds", test_the_limit_holds);
    ADD("half-written-files-go", test_half_written_files_go);
    return g_test_run();
}
