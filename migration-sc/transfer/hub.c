/*
 * The hub: all transfers of this host.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>

#include "error.h"

/* Ended migrations that the journal keeps, for "status". */
#define HISTORY 100

struct MscHub {
    char *config_dir;
    char *state_dir;
    MscConfig *config;
    MscJournal *journal;
    const MscProvider *const *providers;
    GMutex lock; /* guards what follows, never held in a verb */
    GPtrArray *transfers;
    GHashTable *ids; /* of all migrations, for ever */
};

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
    if (!hub->journal) {
        msc_hub_free(hub);
        return NULL;
    }
    msc_journal_prune(hub->journal, HISTORY);
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

void msc_hub_add(MscHub *hub, MscTransfer *t)
{
    g_mutex_lock(&hub->lock);
    g_ptr_array_add(hub->transfers, t);
    g_mutex_unlock(&hub->lock);
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
                    vm->name,
                    msc_stage_name(msc_transfer_seen_stage(undecided)));
        msc_vm_free(vm);
        return NULL;
    }
    t = msc_transfer_new(hub, msc_entry_new(open->role, open->vm, vm->name),
                         vm);
    t->transport_only = open->transport_only;
    g_atomic_int_set(&t->connected, true);
    msc_hub_add(hub, t);
    return msc_transfer_ref(t);
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

    return t->entry->role == attach->role &&
           msc_transfer_seen_stage(t) != MSC_STAGE_OPEN &&
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
    return msc_transfer_seen_stage(t) != MSC_STAGE_OPEN;
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

void msc_hub_forget_old(MscHub *hub)
{
    guint ended = 0;

    g_mutex_lock(&hub->lock);
    for (guint i = hub->transfers->len; i; i--) {
        MscTransfer *t = hub->transfers->pdata[i - 1];

        /* Ended, and nobody uses it: only the journal need remember. */
        if (is_unused(t) && (msc_transfer_seen_stage(t) == MSC_STAGE_OPEN ||
                             (msc_stage_is_final(msc_transfer_seen_stage(t)) &&
                              ++ended > HISTORY))) {
            g_ptr_array_remove_index(hub->transfers, i - 1);
        }
    }
    g_mutex_unlock(&hub->lock);
}
