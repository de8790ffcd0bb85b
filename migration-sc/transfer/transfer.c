/*
 * One transfer: what it holds, and its stage.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "secret.h"

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

MscTransfer *msc_transfer_new(MscHub *hub, MscEntry *entry, MscVm *vm)
{
    MscTransfer *t = g_new0(MscTransfer, 1);

    t->refs = 1;
    t->hub = hub;
    t->entry = entry;
    t->vm = vm;
    t->epochs =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    t->chunks = g_queue_new();
    t->ahead = g_ptr_array_new();
    g_mutex_init(&t->lock);
    g_mutex_init(&t->seen_lock);
    randombytes_buf(t->token, sizeof(t->token));
    t->alone_us = g_get_monotonic_time();
    return t;
}

MscTransfer *msc_transfer_draft(MscHub *hub, MscRole role, const char *uuid,
                                GError **errp)
{
    MscVm *vm = msc_vm_load(msc_hub_config_dir(hub), uuid, errp);

    return vm ? msc_transfer_new(hub, msc_entry_new(role, uuid, vm->name), vm)
              : NULL;
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

void msc_transfer_forget_context(MscTransfer *t)
{
    for (guint i = 0; t->context && i < t->context->sections->len; i++) {
        const MscProvider *p = msc_provider_find(
            msc_hub_providers(t->hub),
            ((const MscSection *)t->context->sections->pdata[i])->name);

        if (p && p->settle_end) {
            p->settle_end(t->settling[i]);
            t->settling[i] = NULL;
        }
    }
    g_clear_pointer(&t->unsettled, g_array_unref);
    g_clear_pointer(&t->context, msc_context_free);
}

void msc_transfer_unref(MscTransfer *t)
{
    if (!t || !g_atomic_int_dec_and_test(&t->refs)) {
        return;
    }
    g_hash_table_unref(t->epochs);
    g_ptr_array_unref(t->ahead);
    g_clear_pointer(&t->answers, g_ptr_array_unref);
    msc_context_sealer_free(t->sealer);
    g_clear_pointer(&t->sections, g_ptr_array_unref);
    g_queue_free_full(t->chunks, (GDestroyNotify)g_bytes_unref);
    msc_context_opener_free(t->opener);
    g_clear_pointer(&t->plain, g_byte_array_unref);
    msc_transfer_forget_context(t);
    msc_wipe(t->token, sizeof(t->token));
    msc_entry_free(t->entry);
    msc_entry_free(t->seen_entry);
    msc_vm_free(t->vm);
    msc_session_free(t->session);
    g_mutex_clear(&t->lock);
    g_mutex_clear(&t->seen_lock);
    g_free(t);
}

MscStage msc_transfer_seen_stage(MscTransfer *t)
{
    return (MscStage)g_atomic_int_get(&t->seen_stage);
}

bool msc_transfer_undecided(MscTransfer *t, const void *vm)
{
    MscStage stage = msc_transfer_seen_stage(t);

    return !strcmp(t->entry->vm, vm) &&
           (stage == MSC_STAGE_RELEASED || stage == MSC_STAGE_READY);
}

bool msc_transfer_set_stage(MscTransfer *t, MscStage stage, bool durable,
                            GError **errp)
{
    MscStage before = t->entry->stage;

    t->entry->stage = stage;
    if (!msc_journal_write(msc_hub_journal(t->hub), t->entry, durable, errp)) {
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
        !msc_journal_write(msc_hub_journal(t->hub), t->entry, true, &err)) {
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
