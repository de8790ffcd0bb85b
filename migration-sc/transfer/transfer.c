/*
 * The hub: all transfers of this host, and what survives a restart.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "secret.h"

/* Ended migrations that the journal keeps, for "status". */
#define HISTORY 100

struct MscHub {
    char *config_dir;
    MscConfig *config;
    MscJournal *journal;
    const MscProvider *const *providers;
    GMutex lock;                    /* guards the list, never held in a verb */
    GPtrArray *transfers;
};

uint64_t msc_boot_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * G_USEC_PER_SEC +
           (uint64_t)now.tv_nsec / 1000;
}

const MscProvider *msc_provider_find(const MscProvider *const *providers,
                                     const char *name)
{
    for (; *providers; providers++) {
        if (!strcmp((*providers)->name, name)) {
            return *providers;
        }
    }
    return NULL;
}

static MscTransfer *transfer_new(MscHub *hub, MscEntry *entry, MscVm *vm)
{
    MscTransfer *t = g_new0(MscTransfer, 1);

    t->refs = 1;
    t->hub = hub;
    t->entry = entry;
    t->vm = vm;
    t->epochs = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                      NULL);
    t->chunks = g_queue_new();
    g_mutex_init(&t->lock);
    randombytes_buf(t->token, sizeof(t->token));
    return t;
}

MscTransfer *msc_transfer_ref(MscTransfer *t)
{
    g_atomic_int_inc(&t->refs);
    return t;
}

void msc_transfer_unref(MscTransfer *t)
{
    if (!t || !g_atomic_int_dec_and_test(&t->refs)) {
        return;
    }
    msc_entry_free(t->entry);
    msc_vm_free(t->vm);
    msc_session_free(t->session);
    g_hash_table_unref(t->epochs);
    g_clear_pointer(&t->answers, g_ptr_array_unref);
    g_clear_pointer(&t->sections, g_ptr_array_unref);
    g_queue_free_full(t->chunks, (GDestroyNotify)g_bytes_unref);
    msc_context_opener_free(t->opener);
    g_clear_pointer(&t->plain, g_byte_array_unref);
    msc_context_free(t->context);
    msc_wipe(t->token, sizeof(t->token));
    g_mutex_clear(&t->lock);
    g_free(t);
}

bool msc_transfer_set_stage(MscTransfer *t, MscStage stage, bool durable,
                            GError **errp)
{
    MscStage before = t->entry->stage;

    t->entry->stage = stage;
    if (!msc_journal_write(t->hub->journal, t->entry, durable, errp)) {
        t->entry->stage = before;
        return false;
    }
    g_info("%s: %s", t->entry->name, msc_stage_name(stage));
    return true;
}

void msc_transfer_end(MscTransfer *t, MscStage stage, const char *why)
{
    MscStage before = t->entry->stage;
    g_autoptr(GError) err = NULL;

    g_free(t->entry->error);
    t->entry->error = g_strdup(why);
    t->entry->stage = stage;
    g_message("%s: %s%s%s", t->entry->name, msc_stage_name(stage),
              *why ? ": " : "", why);
    /* A transfer that never was admitted has no id and leaves no trace. */
    if (before != MSC_STAGE_OPEN &&
        !msc_journal_write(t->hub->journal, t->entry, true, &err)) {
        g_warning("%s: %s", t->entry->name, err->message);
    }
}

/* Brings what a crash left to a safe end; what needs a verdict is kept. */
static void recover(MscTransfer *t)
{
    switch (t->entry->stage) {
    case MSC_STAGE_ADMITTED:
    case MSC_STAGE_FROZEN:
    case MSC_STAGE_STAGED:
        if (t->entry->role == MSC_ROLE_SOURCE) {
            msc_source_give_up(t, "the helper was restarted", NULL);
        } else {
            msc_destination_undo(t, "the helper was restarted", NULL);
        }
        break;
    case MSC_STAGE_RELEASED:
    case MSC_STAGE_READY:
        g_message("%s: the end of its migration is unknown; 'migration-sc "
                  "resolve %s' decides", t->entry->name, t->entry->vm);
        break;
    case MSC_STAGE_COMMITTED:
        /* Takes the context from the journal if there is work left. */
        msc_destination_settle(t);
        break;
    default:
        break;
    }
}

static bool hub_recover(MscHub *hub, GError **errp)
{
    g_autoptr(GPtrArray) entries = msc_journal_load(hub->journal, errp);

    if (!entries) {
        return false;
    }
    g_ptr_array_set_free_func(entries, NULL);
    for (guint i = 0; i < entries->len; i++) {
        MscEntry *entry = entries->pdata[i];
        g_autoptr(GError) err = NULL;
        MscVm *vm = msc_vm_load(hub->config_dir, entry->vm, &err);
        MscTransfer *t;

        if (!vm) {
            if (!msc_stage_is_final(entry->stage)) {
                g_warning("journal: %s: %s", entry->name, err->message);
            }
            msc_entry_free(entry);
            continue;
        }
        t = transfer_new(hub, entry, vm);
        recover(t);
        g_ptr_array_add(hub->transfers, t);
    }
    return true;
}

MscHub *msc_hub_new(const char *config_dir, const char *state_dir,
                    const MscProvider *const *providers, GError **errp)
{
    MscHub *hub = g_new0(MscHub, 1);

    hub->config_dir = g_strdup(config_dir);
    hub->providers = providers;
    hub->transfers =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_transfer_unref);
    g_mutex_init(&hub->lock);
    hub->config = msc_config_load(config_dir, errp);
    if (hub->config) {
        hub->journal = msc_journal_open(state_dir, errp);
    }
    if (!hub->journal) {
        msc_hub_free(hub);
        return NULL;
    }
    msc_journal_prune(hub->journal, HISTORY);
    if (!hub_recover(hub, errp)) {
        msc_hub_free(hub);
        return NULL;
    }
    return hub;
}

void msc_hub_free(MscHub *hub)
{
    if (!hub) {
        return;
    }
    g_ptr_array_unref(hub->transfers);
    msc_journal_close(hub->journal);
    msc_config_free(hub->config);
    g_mutex_clear(&hub->lock);
    g_free(hub->config_dir);
    g_free(hub);
}

const char *msc_hub_config_dir(const MscHub *hub)
{
    return hub->config_dir;
}

const MscConfig *msc_hub_config(const MscHub *hub)
{
    return hub->config;
}

const MscProvider *const *msc_hub_providers(const MscHub *hub)
{
    return hub->providers;
}

MscJournal *msc_hub_journal(const MscHub *hub)
{
    return hub->journal;
}

static MscVm *authorized_vm(MscHub *hub, const char *uuid, uid_t uid,
                            pid_t pid, GError **errp)
{
    g_autoptr(MscVm) vm = msc_vm_load(hub->config_dir, uuid, errp);

    if (!vm || !msc_vm_may_act(vm, uid, pid, errp)) {
        return NULL;
    }
    return g_steal_pointer(&vm);
}

/* The newest transfer for which @match holds, with a reference. */
static MscTransfer *hub_find(MscHub *hub,
                             bool (*match)(MscTransfer *, const void *),
                             const void *key)
{
    MscTransfer *found = NULL;

    g_mutex_lock(&hub->lock);
    for (guint i = hub->transfers->len; i && !found; i--) {
        MscTransfer *t = hub->transfers->pdata[i - 1];

        if (match(t, key)) {
            found = msc_transfer_ref(t);
        }
    }
    g_mutex_unlock(&hub->lock);
    return found;
}

static bool match_undecided(MscTransfer *t, const void *vm)
{
    return !strcmp(t->entry->vm, vm) &&
           (t->entry->stage == MSC_STAGE_RELEASED ||
            t->entry->stage == MSC_STAGE_READY);
}

static bool match_settling(MscTransfer *t, const void *vm)
{
    return !strcmp(t->entry->vm, vm) && t->context &&
           t->entry->stage == MSC_STAGE_COMMITTED;
}

MscTransfer *msc_hub_open(MscHub *hub, const MscOpenMessage *open, uid_t uid,
                          pid_t pid, GError **errp)
{
    g_autoptr(MscTransfer) undecided = NULL;
    MscVm *vm = authorized_vm(hub, open->vm, uid, pid, errp);
    MscTransfer *t;

    if (!vm) {
        return NULL;
    }
    undecided = hub_find(hub, match_undecided, open->vm);
    if (undecided) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "the last migration of guest %s has not ended: it is %s; "
                    "see 'migration-sc status', then 'migration-sc resolve'",
                    vm->name, msc_stage_name(undecided->entry->stage));
        msc_vm_free(vm);
        return NULL;
    }
    t = transfer_new(hub, msc_entry_new(open->role, open->vm, vm->name), vm);
    t->connected = true;
    g_mutex_lock(&hub->lock);
    g_ptr_array_add(hub->transfers, t);
    g_mutex_unlock(&hub->lock);
    return msc_transfer_ref(t);
}

static bool match_token(MscTransfer *t, const void *token)
{
    return t->connected && !sodium_memcmp(t->token, token, MSC_TOKEN_LEN);
}

MscTransfer *msc_hub_find_token(MscHub *hub,
                                const uint8_t token[MSC_TOKEN_LEN])
{
    return hub_find(hub, match_token, token);
}

static bool match_attach(MscTransfer *t, const void *key)
{
    const MscAttachMessage *attach = key;

    return t->entry->role == attach->role &&
           t->entry->stage != MSC_STAGE_OPEN &&
           !strcmp(t->entry->vm, attach->vm) &&
           !memcmp(t->entry->id, attach->migration_id, MSC_ID_LEN);
}

MscTransfer *msc_hub_attach(MscHub *hub, const MscAttachMessage *attach,
                            uid_t uid, pid_t pid, GError **errp)
{
    g_autoptr(MscVm) vm = authorized_vm(hub, attach->vm, uid, pid, errp);
    MscTransfer *t;

    if (!vm) {
        return NULL;
    }
    t = hub_find(hub, match_attach, attach);
    if (!t) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "the journal knows no such migration of guest %s",
                    vm->name);
    }
    return t;
}

bool msc_hub_verdict(MscHub *hub, const MscAttachMessage *attach, uid_t uid,
                     pid_t pid, MscVerdict *verdict, GError **errp)
{
    g_autoptr(MscTransfer) t = msc_hub_attach(hub, attach, uid, pid, errp);

    if (!t) {
        return false;
    }
    g_mutex_lock(&t->lock);
    switch (t->entry->stage) {
    case MSC_STAGE_COMMITTED:
    case MSC_STAGE_THAWED:
        *verdict = MSC_VERDICT_RUN;
        break;
    case MSC_STAGE_FINISHED:
    case MSC_STAGE_ABORTED:
        *verdict = MSC_VERDICT_DISCARD;
        break;
    case MSC_STAGE_RELEASED:
    case MSC_STAGE_READY:
        *verdict = MSC_VERDICT_PENDING;
        break;
    default:
        /* Neither side has gone too far: asking withdraws. */
        if (t->entry->role == MSC_ROLE_SOURCE) {
            msc_source_give_up(t, "withdrawn by QEMU", NULL);
            *verdict = MSC_VERDICT_RUN;
        } else {
            msc_destination_undo(t, "withdrawn by QEMU", NULL);
            *verdict = MSC_VERDICT_DISCARD;
        }
    }
    g_mutex_unlock(&t->lock);
    return true;
}

static bool match_resolvable(MscTransfer *t, const void *vm)
{
    return !strcmp(t->entry->vm, vm) && msc_transfer_resolvable(t, false);
}

bool msc_hub_resolve(MscHub *hub, const char *vm, bool here, const char *code,
                     bool force, char **given, GError **errp)
{
    g_autoptr(MscTransfer) t = hub_find(hub, match_undecided, vm);
    bool ok;

    if (!t && !here) {
        t = hub_find(hub, match_resolvable, vm);
    }
    if (!t) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "no migration of guest %s waits for a decision on this "
                    "host", vm);
        return false;
    }
    g_mutex_lock(&t->lock);
    ok = msc_transfer_resolve(t, here, code, force, given, errp);
    g_mutex_unlock(&t->lock);
    return ok;
}

static MscEntry *entry_copy(const MscEntry *entry)
{
    MscEntry *copy = msc_entry_new(entry->role, entry->vm, entry->name);

    memcpy(copy->id, entry->id, sizeof(copy->id));
    copy->stage = entry->stage;
    copy->started_us = entry->started_us;
    copy->stats = entry->stats;
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

GPtrArray *msc_hub_status(MscHub *hub)
{
    GPtrArray *out =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_entry_free);
    g_autoptr(GPtrArray) all =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_transfer_unref);

    g_mutex_lock(&hub->lock);
    for (guint i = 0; i < hub->transfers->len; i++) {
        g_ptr_array_add(all, msc_transfer_ref(hub->transfers->pdata[i]));
    }
    g_mutex_unlock(&hub->lock);
    for (guint i = 0; i < all->len; i++) {
        MscTransfer *t = all->pdata[i];

        g_mutex_lock(&t->lock);
        if (t->entry->stage != MSC_STAGE_OPEN) {
            g_ptr_array_add(out, entry_copy(t->entry));
        }
        g_mutex_unlock(&t->lock);
    }
    return out;
}

/* Ended, and nobody uses it: only the journal need remember. */
static bool transfer_is_over(MscTransfer *t)
{
    return !t->connected && !t->context && (t->entry->stage == MSC_STAGE_OPEN);
}

static void hub_forget_old(MscHub *hub)
{
    guint ended = 0;

    g_mutex_lock(&hub->lock);
    for (guint i = hub->transfers->len; i; i--) {
        MscTransfer *t = hub->transfers->pdata[i - 1];

        if (transfer_is_over(t) ||
            (!t->connected && !t->context &&
             msc_stage_is_final(t->entry->stage) && ++ended > HISTORY)) {
            g_ptr_array_remove_index(hub->transfers, i - 1);
        }
    }
    g_mutex_unlock(&hub->lock);
}

void msc_hub_settle(MscHub *hub)
{
    g_autoptr(GPtrArray) all =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_transfer_unref);

    hub_forget_old(hub);
    g_mutex_lock(&hub->lock);
    for (guint i = 0; i < hub->transfers->len; i++) {
        MscTransfer *t = hub->transfers->pdata[i];

        if (match_settling(t, t->entry->vm)) {
            g_ptr_array_add(all, msc_transfer_ref(t));
        }
    }
    g_mutex_unlock(&hub->lock);
    for (guint i = 0; i < all->len; i++) {
        MscTransfer *t = all->pdata[i];

        g_mutex_lock(&t->lock);
        msc_destination_settle(t);
        g_mutex_unlock(&t->lock);
    }
}

void msc_transfer_disconnect(MscTransfer *t)
{
    g_mutex_lock(&t->lock);
    t->connected = false;
    switch (t->entry->stage) {
    case MSC_STAGE_OPEN:
        break;
    case MSC_STAGE_ADMITTED:
    case MSC_STAGE_FROZEN:
    case MSC_STAGE_STAGED:
        if (t->entry->role == MSC_ROLE_SOURCE) {
            msc_source_give_up(t, "QEMU closed its connection", NULL);
        } else {
            msc_destination_undo(t, "QEMU closed its connection", NULL);
        }
        break;
    case MSC_STAGE_RELEASED:
    case MSC_STAGE_READY:
        g_message("%s: QEMU is gone and nobody has said how its migration "
                  "ended; 'migration-sc resolve %s' decides", t->entry->name,
                  t->entry->vm);
        break;
    default:
        break;
    }
    g_mutex_unlock(&t->lock);
}
