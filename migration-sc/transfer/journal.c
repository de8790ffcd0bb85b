/*
 * The journal's files.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "fault.h"
#include "secret.h"

#define ENTRY_SUFFIX ".entry"
#define UNFINISHED ".new"

struct MscJournal {
    char *dir;
};

/* What a crash left that was to take a file's place. */
static void remove_unfinished(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        if (g_str_has_suffix(name, UNFINISHED)) {
            g_unlink(file);
        }
    }
}

MscJournal *msc_journal_open(const char *state_dir, GError **errp)
{
    MscJournal *journal = g_new0(MscJournal, 1);

    journal->dir = g_build_filename(state_dir, "journal", NULL);
    if (g_mkdir_with_parents(journal->dir, 0700)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO,
                    "cannot make the journal '%s': %s", journal->dir,
                    g_strerror(errno));
        msc_journal_close(journal);
        return NULL;
    }
    remove_unfinished(journal->dir);
    return journal;
}

void msc_journal_close(MscJournal *journal)
{
    if (journal) {
        g_free(journal->dir);
        g_free(journal);
    }
}

static char *entry_path(MscJournal *journal, const MscEntry *entry,
                        const char *suffix)
{
    g_autofree char *id = msc_entry_id_text(entry);
    g_autofree char *name = g_strconcat(id, suffix, NULL);

    return g_build_filename(journal->dir, name, NULL);
}

static bool journal_file_error(GError **errp, const char *verb,
                               const char *path)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot %s '%s': %s", verb, path,
                g_strerror(errno));
    return false;
}

static bool write_all(int fd, const uint8_t *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool msc_journal_write(MscJournal *journal, MscEntry *entry, bool durable,
                       GError **errp)
{
    g_autofree char *path = entry_path(journal, entry, ENTRY_SUFFIX);
    g_autofree char *text = msc_entry_format(entry);
    bool ok = msc_slots_write(&entry->slots, path, text, durable, errp);

    msc_wipe(text, strlen(text));
    return ok;
}

char *msc_journal_blob_path(MscJournal *journal, const MscEntry *entry,
                            const char *what)
{
    g_autofree char *suffix = g_strconcat(".", what, NULL);

    return entry_path(journal, entry, suffix);
}

/* Whole or not at all, through a rename. */
bool msc_journal_write_blob(MscJournal *journal, const MscEntry *entry,
                            const char *what, GBytes *blob, GError **errp)
{
    g_autofree char *path = msc_journal_blob_path(journal, entry, what);
    g_autofree char *tmp = g_strconcat(path, UNFINISHED, NULL);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_all(fd, g_bytes_get_data(blob, NULL),
                                   g_bytes_get_size(blob));

    if (!ok) {
        journal_file_error(errp, "write", tmp);
    }
    if (fd >= 0) {
        close(fd);
    }
    ok = ok && MSC_FAULT_PASSES(JOURNAL_BLOB, errp) &&
         (!rename(tmp, path) || journal_file_error(errp, "rename to", path));
    if (!ok) {
        g_unlink(tmp); /* the disk may be full */
    }
    return ok;
}

bool msc_journal_append_blob(MscJournal *journal, const MscEntry *entry,
                             const char *what, const void *data, size_t len,
                             GError **errp)
{
    g_autofree char *path = msc_journal_blob_path(journal, entry, what);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_all(fd, data, len);

    if (!ok) {
        journal_file_error(errp, "write", path);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

bool msc_journal_has_blob(MscJournal *journal, const MscEntry *entry,
                          const char *what)
{
    g_autofree char *path = msc_journal_blob_path(journal, entry, what);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

GBytes *msc_journal_read_blob(MscJournal *journal, const MscEntry *entry,
                              const char *what, GError **errp)
{
    g_autofree char *path = msc_journal_blob_path(journal, entry, what);
    char *data;
    gsize len;

    if (!g_file_get_contents(path, &data, &len, errp)) {
        return NULL;
    }
    return g_bytes_new_take(data, len);
}

bool msc_journal_rename_blob(MscJournal *journal, const MscEntry *entry,
                             const char *what, const char *to, GError **errp)
{
    g_autofree char *from_path = msc_journal_blob_path(journal, entry, what);
    g_autofree char *to_path = msc_journal_blob_path(journal, entry, to);

    return !rename(from_path, to_path) ||
           journal_file_error(errp, "rename to", to_path);
}

void msc_journal_remove_blob(MscJournal *journal, const MscEntry *entry,
                             const char *what)
{
    g_autofree char *path = msc_journal_blob_path(journal, entry, what);

    if (g_unlink(path) && errno != ENOENT) {
        g_warning("cannot remove '%s': %s", path, g_strerror(errno));
    }
}

void msc_journal_remove_blobs(MscJournal *journal, const MscEntry *entry)
{
    static const char *const all[] = { "context", "replaced", "staged",
                                       "staged-kept" };

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        msc_journal_remove_blob(journal, entry, all[i]);
    }
}

static gint by_start(gconstpointer a, gconstpointer b)
{
    const MscEntry *const *x = a;
    const MscEntry *const *y = b;

    return ((*x)->started_us > (*y)->started_us) -
           ((*x)->started_us < (*y)->started_us);
}

GPtrArray *msc_journal_load(MscJournal *journal, GError **errp)
{
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_entry_free);
    g_autoptr(GDir) dir = g_dir_open(journal->dir, 0, errp);
    const char *name;

    if (!dir) {
        return NULL;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(journal->dir, name, NULL);
        g_autofree char *text = NULL;
        g_autoptr(GError) err = NULL;
        MscEntry *entry;
        MscSlots slots;

        if (!g_str_has_suffix(name, ENTRY_SUFFIX)) {
            continue;
        }
        text = msc_slots_read(&slots, path, &err);
        entry = text ? msc_entry_parse(text, strlen(text), &err) : NULL;
        if (!entry) {
            g_warning("journal entry '%s' cannot be read and is left alone: "
                      "%s",
                      path, err->message);
            continue;
        }
        entry->slots = slots;
        g_ptr_array_add(entries, entry);
    }
    g_ptr_array_sort(entries, by_start);
    return g_steal_pointer(&entries);
}

void msc_journal_prune(MscJournal *journal, guint keep)
{
    g_autoptr(GPtrArray) entries = msc_journal_load(journal, NULL);
    guint final = 0;

    for (guint i = entries ? entries->len : 0; i; i--) {
        const MscEntry *entry = entries->pdata[i - 1];

        if (msc_stage_is_final(entry->stage) && ++final > keep) {
            g_autofree char *path = entry_path(journal, entry, ENTRY_SUFFIX);

            if (g_unlink(path)) {
                g_warning("cannot remove '%s': %s", path, g_strerror(errno));
            }
        }
    }
}
