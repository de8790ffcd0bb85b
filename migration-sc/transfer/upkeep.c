/*
 * What nobody asks for: after a start of the helper, when a QEMU hangs up, and
 * each second.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include "base.h"
#include "error.h"
#include "fault.h"

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

/* Early, so that as many flows as possible have begun after it. */
static void prepare_precopy(MscHub *hub)
{
    const MscProvider *const *p = msc_hub_providers(hub);

    for (; *p; p++) {
        g_autofree char *memo =
            g_strdup_printf("%s/%s.memo", msc_hub_state_dir(hub), (*p)->name);
        g_autoptr(GError) err = NULL;

        if ((*p)->precopy && (*p)->precopy->prepare &&
            !(*p)->precopy->prepare(memo, &err)) {
            g_message("%s: what is sent ahead will be looked at again when "
                      "the guest stops, which takes longer: %s",
                      (*p)->name, err->message);
        }
    }
}

bool msc_hub_recover(MscHub *hub, GError **errp)
{
    g_autoptr(GPtrArray) entries = NULL;

    if (!msc_base_prepare(msc_hub_state_dir(hub), errp)) {
        return false;
    }
    prepare_precopy(hub);
    entries = msc_journal_load(msc_hub_journal(hub), errp);
    if (!entries) {
        return false;
    }
    g_ptr_array_set_free_func(entries, NULL);
    for (guint i = 0; i < entries->len; i++) {
        MscEntry *entry = entries->pdata[i];
        g_autoptr(GError) err = NULL;
        MscVm *vm = msc_vm_load(msc_hub_config_dir(hub), entry->vm, &err);
        MscTransfer *t;

        msc_hub_claim_id(hub, entry, NULL);
        if (!vm) {
            if (!msc_stage_is_final(entry->stage)) {
                g_warning("journal: %s: %s", entry->name, err->message);
            }
            msc_entry_free(entry);
            continue;
        }
        t = msc_transfer_new(hub, entry, vm);
        msc_transfer_lock(t);
        recover(t);
        msc_transfer_unlock(t);
        msc_hub_add(hub, t);
    }
    return true;
}

static bool is_settling(MscTransfer *t)
{
    return g_atomic_int_get(&t->seen_context) &&
           msc_transfer_seen_stage(t) == MSC_STAGE_COMMITTED;
}

static bool is_moving(MscTransfer *t)
{
    return g_atomic_int_get(&t->connected) &&
           (1u << msc_transfer_seen_stage(t)) &
               (1u << MSC_STAGE_ADMITTED | 1u << MSC_STAGE_FROZEN |
                1u << MSC_STAGE_STAGED | 1u << MSC_STAGE_READY |
                1u << MSC_STAGE_RELEASED);
}

bool msc_hub_is_moving(MscHub *hub)
{
    g_autoptr(GPtrArray) moving = msc_hub_select(hub, is_moving);

    return moving->len > 0;
}

void msc_hub_settle(MscHub *hub)
{
    g_autoptr(GPtrArray) all = NULL;

    msc_hub_forget_old(hub);
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
