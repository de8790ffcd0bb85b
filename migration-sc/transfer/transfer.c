/*
 * The hub: all transfers of this host, and what survives a restart.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>
#include <time.h>

#include "ahead.h"
#include "base.h"
#include "error.h"
#include "fault.h"
#include "secret.h"

/* Ended migrations that the journal keeps, for "status". */
#define HISTORY 100

struct MscHub {
    char *config_dir;
    char *state_dir;
    MscConfig *config;
    MscJournal *journal;
    const MscProvider *const *providers;
    GMutex lock; /* guards what follows, never held in a
                                       verb */
    GPtrArray *transfers;
    GHashTable *ids; /* of all migrations, for ever */
};

uint64_t msc_boot_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * G_USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
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
    t->epochs =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    t->chunks = g_queue_new();
    t->ahead = g_ptr_array_new_with_free_func(msc_ahead_part_free);
    g_mutex_init(&t->lock);
    g_mutex_init(&t->seen_lock);
    randombytes_buf(t->token, sizeof(t->token));
    t->alone_us = g_get_monotonic_time();
    return t;
}

void msc_transfer_lock(MscTransfer *t)
{
    g_mutex_lock(&t->lock);
}

void msc_transfer_unlock(MscTransfer *t)
{
    MscEntry *seen = msc_entry_copy(t->entry), *before;

    g_mutex_lock(&t->seen_lock);
    before = t->seen_entry;
    t->seen_entry = seen;
    g_mutex_unlock(&t->seen_lock);
    msc_entry_free(before);
    g_atomic_int_set(&t->seen_stage, (gint)t->entry->stage);
    g_atomic_int_set(&t->seen_context, t->context != NULL);
    g_mutex_unlock(&t->lock);
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
    g_hash_table_unref(t->epochs);
    if (t->entry->role == MSC_ROLE_SOURCE) {
        msc_ahead_source_end(t);
    } else {
        msc_ahead_destination_end(t);
    }
    g_ptr_array_unref(t->ahead);
    g_clear_pointer(&t->answers, g_ptr_array_unref);
    msc_context_sealer_free(t->sealer);
    g_clear_pointer(&t->sections, g_ptr_array_unref);
    g_queue_free_full(t->chunks, (GDestroyNotify)g_bytes_unref);
    msc_context_opener_free(t->opener);
    g_clear_pointer(&t->plain, g_byte_array_unref);
    msc_destination_forget(t);
    msc_wipe(t->token, sizeof(t->token));
    msc_entry_free(t->entry);
    msc_entry_free(t->seen_entry);
    msc_vm_free(t->vm);
    msc_session_free(t->session);
    g_mutex_clear(&t->lock);
    g_mutex_clear(&t->seen_lock);
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
    g_autoptr(GError) err = NULL;

    g_free(t->entry->error);
    t->entry->error = g_strdup(why);
    t->entry->stage = stage;
    g_message("%s: %s%s%s", t->entry->name, msc_stage_name(stage),
              *why ? ": " : "", why);
    /* Before the handshake there is nothing to remember. */
    if (!sodium_is_zero(t->entry->id, sizeof(t->entry->id)) &&
        !msc_journal_write(t->hub->journal, t->entry, true, &err)) {
        g_warning("%s: %s", t->entry->name, err->message);
    }
}

bool msc_transfer_close(MscTransfer *t, const char *why)
{
    if (t->entry->stage != MSC_STAGE_TRANSPORT) {
        return false;
    }
    msc_transfer_end(t, MSC_STAGE_CLOSED, why);
    return true;
}

/* Brings what a crash left to a safe end; what needs a verdict is kept. */
static void recover(MscTransfer *t)
{
    MSC_FAULT(RECOVER);
    switch (t->entry->stage) {
    case MSC_STAGE_TRANSPORT:
        msc_transfer_close(t, "the helper was restarted");
        break;
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
                  "resolve %s' decides",
                  t->entry->name, t->entry->vm);
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

        g_hash_table_add(hub->ids, msc_entry_id_text(entry));
        if (!vm) {
            if (!msc_stage_is_final(entry->stage)) {
                g_warning("journal: %s: %s", entry->name, err->message);
            }
            msc_entry_free(entry);
            continue;
        }
        t = transfer_new(hub, entry, vm);
        msc_transfer_lock(t);
        recover(t);
        msc_transfer_unlock(t);
        g_ptr_array_add(hub->transfers, t);
    }
    return true;
}

/* Early, so that as many flows as possible have begun after it. */
static void prepare_precopy(MscHub *hub, const char *state_dir)
{
    for (const MscProvider *const *p = hub->providers; *p; p++) {
        g_autofree char *memo =
            g_strdup_printf("%s/%s.memo", state_dir, (*p)->name);
        g_autoptr(GError) err = NULL;

        if ((*p)->precopy && !(*p)->precopy->prepare(memo, &err)) {
            g_message("%s: what is sent ahead will be looked at again when "
                      "the guest stops, which takes longer: %s",
                      (*p)->name, err->message);
        }
    }
}

MscHub *msc_hub_new(const char *config_dir, const char *state_dir,
                    const MscProvider *const *providers, GError **errp)
{
    MscHub *hub = g_new0(MscHub, 1);

    hub->config_dir = g_strdup(config_dir);
    hub->state_dir = g_strdup(state_dir);
    hub->providers = providers;
    hub->transfers =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_transfer_unref);
    g_mutex_init(&hub->lock);
    hub->ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    hub->config = msc_config_load(config_dir, errp);
    if (hub->config) {
        hub->journal = msc_journal_open(state_dir, errp);
    }
    if (!hub->journal || !msc_base_prepare(state_dir, errp)) {
        msc_hub_free(hub);
        return NULL;
    }
    prepare_precopy(hub, state_dir);
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
    g_hash_table_unref(hub->ids);
    msc_journal_close(hub->journal);
    msc_config_free(hub->config);
    g_mutex_clear(&hub->lock);
    g_free(hub->config_dir);
    g_free(hub->state_dir);
    g_free(hub);
}

const char *msc_hub_config_dir(const MscHub *hub)
{
    return hub->config_dir;
}

const char *msc_hub_state_dir(const MscHub *hub)
{
    return hub->state_dir;
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

static MscVm *authorized_vm(MscHub *hub, const char *uuid, uid_t uid, pid_t pid,
                            GError **errp)
{
    g_autoptr(MscVm) vm = msc_vm_load(hub->config_dir, uuid, errp);

    if (!vm || !msc_vm_may_act(vm, uid, pid, errp)) {
        return NULL;
    }
    return g_steal_pointer(&vm);
}

static MscStage seen_stage(MscTransfer *t)
{
    return (MscStage)g_atomic_int_get(&t->seen_stage);
}

MscTransfer *msc_hub_find(MscHub *hub,
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

static bool is_settling(MscTransfer *t)
{
    return g_atomic_int_get(&t->seen_context) &&
           seen_stage(t) == MSC_STAGE_COMMITTED;
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
    if (open->transport_only && !hub->config->context_optional) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "guest %s may not move without its security context: "
                    "this host's policy is context=required; "
                    "'[handoff] context=optional' in migration-sc.conf would "
                    "allow transport only",
                    vm->name);
        msc_vm_free(vm);
        return NULL;
    }
    /* On the destination the other host may know more: msc_hub_supersede. */
    undecided = open->role == MSC_ROLE_SOURCE
                    ? msc_hub_find(hub, msc_transfer_undecided, open->vm)
                    : NULL;
    if (undecided) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "the last migration of guest %s has not ended: it is %s; "
                    "see 'migration-sc status', then 'migration-sc resolve'",
                    vm->name, msc_stage_name(seen_stage(undecided)));
        msc_vm_free(vm);
        return NULL;
    }
    t = transfer_new(hub, msc_entry_new(open->role, open->vm, vm->name), vm);
    t->transport_only = open->transport_only;
    g_atomic_int_set(&t->connected, true);
    g_mutex_lock(&hub->lock);
    g_ptr_array_add(hub->transfers, t);
    g_mutex_unlock(&hub->lock);
    return msc_transfer_ref(t);
}

MscTransfer *msc_transfer_draft(MscHub *hub, MscRole role, const char *uuid,
                                GError **errp)
{
    MscVm *vm = msc_vm_load(hub->config_dir, uuid, errp);

    return vm ? transfer_new(hub, msc_entry_new(role, uuid, vm->name), vm)
              : NULL;
}

static bool match_token(MscTransfer *t, const void *token)
{
    return g_atomic_int_get(&t->connected) &&
           !sodium_memcmp(t->token, token, MSC_TOKEN_LEN);
}

MscTransfer *msc_hub_find_token(MscHub *hub, const uint8_t token[MSC_TOKEN_LEN])
{
    return msc_hub_find(hub, match_token, token);
}

static bool match_attach(MscTransfer *t, const void *key)
{
    const MscAttachMessage *attach = key;

    return t->entry->role == attach->role && seen_stage(t) != MSC_STAGE_OPEN &&
           !strcmp(t->entry->vm, attach->vm) &&
           !memcmp(t->entry->id, attach->migration_id, MSC_ID_LEN);
}

bool msc_hub_claim_id(MscHub *hub, const MscEntry *entry, GError **errp)
{
    bool fresh;

    g_mutex_lock(&hub->lock);
    fresh = g_hash_table_add(hub->ids, msc_entry_id_text(entry));
    g_mutex_unlock(&hub->lock);
    if (!fresh) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH,
                            "this host knows a migration of that id: a "
                            "replay, or a host that migrates to itself");
    }
    return fresh;
}

MscTransfer *msc_hub_attach(MscHub *hub, const MscAttachMessage *attach,
                            uid_t uid, pid_t pid, GError **errp)
{
    g_autoptr(MscVm) vm = authorized_vm(hub, attach->vm, uid, pid, errp);
    MscTransfer *t;

    if (!vm) {
        return NULL;
    }
    t = msc_hub_find(hub, match_attach, attach);
    if (!t) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "the journal knows no such migration of guest %s",
                    vm->name);
    }
    return t;
}

GPtrArray *msc_hub_select(MscHub *hub, bool (*match)(MscTransfer *))
{
    GPtrArray *all =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_transfer_unref);

    g_mutex_lock(&hub->lock);
    for (guint i = 0; i < hub->transfers->len; i++) {
        MscTransfer *t = hub->transfers->pdata[i];

        if (match(t)) {
            g_ptr_array_add(all, msc_transfer_ref(t));
        }
    }
    g_mutex_unlock(&hub->lock);
    return all;
}

static bool is_admitted(MscTransfer *t)
{
    return seen_stage(t) != MSC_STAGE_OPEN;
}

GPtrArray *msc_hub_status(MscHub *hub)
{
    GPtrArray *out =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_entry_free);
    g_autoptr(GPtrArray) all = msc_hub_select(hub, is_admitted);

    for (guint i = 0; i < all->len; i++) {
        MscTransfer *t = all->pdata[i];

        g_mutex_lock(&t->seen_lock);
        g_ptr_array_add(out, msc_entry_copy(t->seen_entry));
        g_mutex_unlock(&t->seen_lock);
    }
    return out;
}

static bool is_unused(MscTransfer *t)
{
    return !g_atomic_int_get(&t->connected) &&
           !g_atomic_int_get(&t->seen_context);
}

static void hub_forget_old(MscHub *hub)
{
    guint ended = 0;

    g_mutex_lock(&hub->lock);
    for (guint i = hub->transfers->len; i; i--) {
        MscTransfer *t = hub->transfers->pdata[i - 1];

        /* Ended, and nobody uses it: only the journal need remember. */
        if (is_unused(t) &&
            (seen_stage(t) == MSC_STAGE_OPEN ||
             (msc_stage_is_final(seen_stage(t)) && ++ended > HISTORY))) {
            g_ptr_array_remove_index(hub->transfers, i - 1);
        }
    }
    g_mutex_unlock(&hub->lock);
}

void msc_hub_settle(MscHub *hub)
{
    g_autoptr(GPtrArray) all = NULL;

    hub_forget_old(hub);
    all = msc_hub_select(hub, is_settling);
    for (guint i = 0; i < all->len; i++) {
        MscTransfer *t = all->pdata[i];

        msc_transfer_lock(t);
        msc_destination_settle(t);
        msc_transfer_unlock(t);
    }
}

void msc_transfer_disconnect(MscTransfer *t)
{
    msc_transfer_lock(t);
    MSC_FAULT(DISCONNECTED);
    g_atomic_int_set(&t->connected, false);
    t->alone_us = g_get_monotonic_time();
    switch (t->entry->stage) {
    case MSC_STAGE_OPEN:
        break;
    case MSC_STAGE_TRANSPORT:
        msc_transfer_close(t, "the tunnel was gone before its end");
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
        msc_transfer_note_undecided(t);
        break;
    default:
        break;
    }
    msc_transfer_unlock(t);
}
