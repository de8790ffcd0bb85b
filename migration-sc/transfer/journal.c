/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "context.h"
#include "error.h"
#include "fault.h"
#include "keyfile.h"
#include "secret.h"

#define GROUP "migration"
#define WHAT "journal entry"
#define ENTRY_SUFFIX ".entry"
#define UNFINISHED ".new"
/* Of the text of an error, so that an entry fits. */
#define ERROR_MAX 1000u

struct MscJournal {
    char *dir;
};

static const char *const stage_names[] = {
    [MSC_STAGE_OPEN] = "open",
    [MSC_STAGE_ADMITTED] = "admitted",
    [MSC_STAGE_FROZEN] = "frozen",
    [MSC_STAGE_RELEASED] = "released",
    [MSC_STAGE_FINISHED] = "finished",
    [MSC_STAGE_THAWED] = "thawed",
    [MSC_STAGE_STAGED] = "staged",
    [MSC_STAGE_READY] = "ready",
    [MSC_STAGE_COMMITTED] = "committed",
    [MSC_STAGE_ABORTED] = "aborted",
    [MSC_STAGE_TRANSPORT] = "transport-only",
    [MSC_STAGE_CLOSED] = "closed",
};
G_STATIC_ASSERT(G_N_ELEMENTS(stage_names) == MSC_STAGE_CLOSED + 1);

static const char *const token_keys[] = { "ready", "release", "done",
                                          "abandon" };
G_STATIC_ASSERT(G_N_ELEMENTS(token_keys) == MSC_PROOF_LAST);

const char *msc_stage_name(MscStage stage)
{
    return stage_names[stage];
}

bool msc_stage_is_final(MscStage stage)
{
    return stage == MSC_STAGE_FINISHED || stage == MSC_STAGE_THAWED ||
           stage == MSC_STAGE_COMMITTED || stage == MSC_STAGE_ABORTED ||
           stage == MSC_STAGE_CLOSED;
}

MscEntry *msc_entry_new(MscRole role, const char *vm, const char *name)
{
    MscEntry *entry = g_new0(MscEntry, 1);

    entry->role = role;
    entry->vm = g_strdup(vm);
    entry->name = g_strdup(name);
    entry->peer = g_strdup("");
    entry->suite = g_strdup("");
    entry->kem = g_strdup("");
    entry->error = g_strdup("");
    entry->started_us = g_get_real_time();
    return entry;
}

void msc_entry_free(MscEntry *entry)
{
    if (!entry) {
        return;
    }
    g_free(entry->vm);
    g_free(entry->name);
    g_free(entry->peer);
    g_free(entry->suite);
    g_free(entry->kem);
    g_free(entry->error);
    msc_wipe(entry->token, sizeof(entry->token));
    g_free(entry);
}

MscEntry *msc_entry_copy(const MscEntry *entry)
{
    MscEntry *copy = msc_entry_new(entry->role, entry->vm, entry->name);

    memcpy(copy->id, entry->id, sizeof(copy->id));
    copy->stage = entry->stage;
    copy->started_us = entry->started_us;
    copy->stats = entry->stats;
    copy->progress = entry->progress;
    g_free(copy->peer);
    g_free(copy->suite);
    g_free(copy->kem);
    g_free(copy->error);
    copy->peer = g_strdup(entry->peer);
    copy->suite = g_strdup(entry->suite);
    copy->kem = g_strdup(entry->kem);
    copy->error = g_strdup(entry->error);
    return copy;
}

char *msc_entry_id_text(const MscEntry *entry)
{
    char text[MSC_UUID_STR_LEN + 1];

    msc_uuid_format(entry->id, text);
    return g_strdup(text);
}

static void set_base64(GKeyFile *file, const char *prefix, const char *key,
                       const uint8_t *data, size_t len)
{
    g_autofree char *name = g_strconcat(prefix, key, NULL);
    g_autofree char *text = g_base64_encode(data, len);

    g_key_file_set_string(file, GROUP, name, text);
}

static bool get_text(GKeyFile *file, const char *key, char **text,
                     GError **errp)
{
    g_clear_pointer(text, g_free);
    if (!msc_keyfile_string(file, WHAT, GROUP, key, text, errp)) {
        return false;
    }
    if (!*text) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED, "%s: no %s=", WHAT,
                    key);
    }
    return *text != NULL;
}

static bool get_base64(GKeyFile *file, const char *prefix, const char *key,
                       uint8_t *data, size_t len, GError **errp)
{
    g_autofree char *name = g_strconcat(prefix, key, NULL);
    g_autofree char *text = NULL;
    g_autofree guchar *decoded = NULL;
    gsize got;

    if (!get_text(file, name, &text, errp)) {
        return false;
    }
    decoded = g_base64_decode(text, &got);
    if (got != len) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "%s is not %zu bytes in base64", name, len);
        return false;
    }
    memcpy(data, decoded, len);
    return true;
}

char *msc_entry_format(const MscEntry *entry)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *error =
        g_utf8_make_valid(entry->error,
                          (gssize)MIN(strlen(entry->error), ERROR_MAX));

    set_base64(file, "", "id", entry->id, sizeof(entry->id));
    g_key_file_set_string(file, GROUP, "role",
                          entry->role == MSC_ROLE_SOURCE ? "source"
                                                         : "destination");
    g_key_file_set_string(file, GROUP, "stage", msc_stage_name(entry->stage));
    g_key_file_set_string(file, GROUP, "vm", entry->vm);
    g_key_file_set_string(file, GROUP, "name", entry->name);
    g_key_file_set_string(file, GROUP, "peer", entry->peer);
    g_key_file_set_string(file, GROUP, "suite", entry->suite);
    g_key_file_set_string(file, GROUP, "kem", entry->kem);
    g_key_file_set_string(file, GROUP, "error", error);
    g_key_file_set_int64(file, GROUP, "started-us", entry->started_us);
    g_key_file_set_uint64(file, GROUP, "boot-offset-us", entry->boot_offset_us);
    g_key_file_set_uint64(file, GROUP, "flows", entry->stats.flows);
    g_key_file_set_uint64(file, GROUP, "left-behind", entry->stats.left_behind);
    g_key_file_set_uint64(file, GROUP, "bytes", entry->stats.bytes);
    g_key_file_set_uint64(file, GROUP, "elapsed-us", entry->stats.elapsed_us);
    for (size_t i = 0; i < G_N_ELEMENTS(token_keys); i++) {
        set_base64(file, "token-", token_keys[i], entry->token[i],
                   sizeof(entry->token[i]));
        set_base64(file, "commitment-", token_keys[i], entry->commitment[i],
                   sizeof(entry->commitment[i]));
    }
    return g_key_file_to_data(file, NULL, NULL);
}

static bool get_stage(GKeyFile *file, MscStage *stage, GError **errp)
{
    g_autofree char *text = NULL;

    if (!get_text(file, "stage", &text, errp)) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(stage_names); i++) {
        if (!strcmp(stage_names[i], text)) {
            *stage = (MscStage)i;
            return true;
        }
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED, "unknown stage '%s'",
                text);
    return false;
}

static bool get_u64(GKeyFile *file, const char *key, uint64_t *v, GError **errp)
{
    g_autoptr(GError) err = NULL;

    *v = g_key_file_get_uint64(file, GROUP, key, &err);
    if (err) {
        g_propagate_error(errp, g_steal_pointer(&err));
        return false;
    }
    return true;
}

MscEntry *msc_entry_parse(const char *data, size_t len, GError **errp)
{
    static const char *const keys[] = { "id",
                                        "role",
                                        "stage",
                                        "vm",
                                        "name",
                                        "peer",
                                        "suite",
                                        "kem",
                                        "error",
                                        "started-us",
                                        "boot-offset-us",
                                        "flows",
                                        "left-behind",
                                        "bytes",
                                        "elapsed-us",
                                        "token-ready",
                                        "token-release",
                                        "token-done",
                                        "token-abandon",
                                        "commitment-ready",
                                        "commitment-release",
                                        "commitment-done",
                                        "commitment-abandon",
                                        NULL };
    static const MscKeyFileGroup groups[] = { { GROUP, keys }, { 0 } };
    g_autoptr(MscEntry) entry = msc_entry_new(MSC_ROLE_SOURCE, "", "");
    g_autoptr(GKeyFile) file = msc_keyfile_parse(WHAT, data, len, groups, errp);
    g_autofree char *role = NULL;
    uint64_t started;

    if (!file ||
        !get_base64(file, "", "id", entry->id, sizeof(entry->id), errp) ||
        !get_text(file, "role", &role, errp) ||
        !get_stage(file, &entry->stage, errp) ||
        !get_text(file, "vm", &entry->vm, errp) ||
        !get_text(file, "name", &entry->name, errp) ||
        !get_text(file, "peer", &entry->peer, errp) ||
        !get_text(file, "suite", &entry->suite, errp) ||
        !get_text(file, "kem", &entry->kem, errp) ||
        !get_text(file, "error", &entry->error, errp) ||
        !get_u64(file, "started-us", &started, errp) ||
        !get_u64(file, "boot-offset-us", &entry->boot_offset_us, errp) ||
        !get_u64(file, "flows", &entry->stats.flows, errp) ||
        !get_u64(file, "left-behind", &entry->stats.left_behind, errp) ||
        !get_u64(file, "bytes", &entry->stats.bytes, errp) ||
        !get_u64(file, "elapsed-us", &entry->stats.elapsed_us, errp)) {
        return NULL;
    }
    entry->started_us = (gint64)started;
    if (!strcmp(role, "destination")) {
        entry->role = MSC_ROLE_DESTINATION;
    } else if (strcmp(role, "source")) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED, "unknown role '%s'",
                    role);
        return NULL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(token_keys); i++) {
        if (!get_base64(file, "token-", token_keys[i], entry->token[i],
                        sizeof(entry->token[i]), errp) ||
            !get_base64(file, "commitment-", token_keys[i],
                        entry->commitment[i], sizeof(entry->commitment[i]),
                        errp)) {
            return NULL;
        }
    }
    return g_steal_pointer(&entry);
}

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
