/*
 * One entry of the journal, and its text: a GKeyFile of one group.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "journal-entry.h"

#include <string.h>

#include "context.h"
#include "error.h"
#include "keyfile.h"
#include "secret.h"

#define GROUP "migration"
#define WHAT "journal entry"
/* Of the text of an error, so that an entry fits. */
#define ERROR_MAX 1000u

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
