/*
 * Migrations whose end was cut off: who is asked, and what decides.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>

#include "error.h"
#include "fault.h"

/* Who waits asks each second. */
#define ASKS_WITHIN_US (5 * G_USEC_PER_SEC)
/* Who lost its connection, or a helper that was restarted, asks by then. */
#define COMES_WITHIN_US (15 * G_USEC_PER_SEC)

static bool is_undecided(MscStage stage)
{
    return stage == MSC_STAGE_RELEASED || stage == MSC_STAGE_READY;
}

static bool seen_undecided(MscTransfer *t)
{
    return is_undecided(msc_transfer_seen_stage(t));
}

GPtrArray *msc_hub_undecided(MscHub *hub)
{
    return msc_hub_select(hub, seen_undecided);
}

MscQemuPresence msc_transfer_qemu(const MscTransfer *t)
{
    gint64 now = g_get_monotonic_time();

    if (t->unwanted) {
        return MSC_QEMU_IS_GONE;
    }
    if (t->asked_us && now - t->asked_us < ASKS_WITHIN_US) {
        return MSC_QEMU_WAITS;
    }
    /* One that is connected may still give up: a postcopy must, if RELEASE
     * does not come, for its RAM is elsewhere. */
    return g_atomic_int_get(&t->connected) ||
                   now - t->alone_us < COMES_WITHIN_US
               ? MSC_QEMU_MAY_COME
               : MSC_QEMU_IS_GONE;
}

/* The stage stays, but whoever asks should learn why nothing happens. */
void msc_transfer_note_undecided(MscTransfer *t)
{
    MscEntry *entry = t->entry;
    g_autoptr(GError) err = NULL;

    if (*entry->error) {
        return;
    }
    g_free(entry->error);
    entry->error = g_strdup_printf(
        "%s: the guest must not run here unless 'migration-sc resolve %s "
        "--here' says so",
        entry->stage == MSC_STAGE_RELEASED
            ? "no receipt came from the other host"
            : "no RELEASE came from the other host",
        entry->vm);
    g_message("%s: %s", entry->name, entry->error);
    if (!msc_journal_write(msc_hub_journal(t->hub), entry, false, &err)) {
        g_warning("%s: %s", entry->name, err->message);
    }
}

bool msc_hub_verdict(MscHub *hub, const MscAttachMessage *attach, uid_t uid,
                     pid_t pid, MscVerdict *verdict, GError **errp)
{
    g_autoptr(MscTransfer) t = msc_hub_attach(hub, attach, uid, pid, errp);
    bool ok = true;

    if (!t) {
        return false;
    }
    msc_transfer_lock(t);
    MSC_FAULT(VERDICT);
    t->asked_us = g_get_monotonic_time();
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
        /* Nobody asks while all goes well. */
        msc_transfer_note_undecided(t);
        *verdict = MSC_VERDICT_PENDING;
        break;
    case MSC_STAGE_TRANSPORT:
    case MSC_STAGE_CLOSED:
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "a migration without security context has no "
                            "verdict of the helpers");
        ok = false;
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
    msc_transfer_unlock(t);
    return ok;
}

/*
 * A helper begins no migration of a guest that it has given away, or may yet
 * get: msc_hub_open refuses.  So the host that now offers the guest has it,
 * and what was open between the two of us has ended there.  No other host's
 * word counts.
 */
bool msc_hub_supersede(MscHub *hub, const char *vm, const char *peer,
                       GError **errp)
{
    g_autoptr(MscTransfer) t = msc_hub_find(hub, msc_transfer_undecided, vm);
    static const char why[] = "the other host has the guest: it began another "
                              "migration of it";
    bool ok = true;

    if (!t) {
        return true;
    }
    msc_transfer_lock(t);
    MSC_FAULT(SUPERSEDE);
    if (!is_undecided(t->entry->stage)) {
        /* It ended while we waited for the lock. */
    } else if (strcmp(t->entry->peer, peer)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "the last migration of guest %s has not ended: it is %s; "
                    "see 'migration-sc status', then 'migration-sc resolve'",
                    t->entry->name, msc_stage_name(t->entry->stage));
        ok = false;
    } else if (t->entry->stage == MSC_STAGE_RELEASED) {
        ok = msc_source_retire(t, errp);
        msc_transfer_end(t, MSC_STAGE_FINISHED, why);
    } else {
        ok = msc_destination_undo(t, why, errp);
    }
    msc_transfer_unlock(t);
    return ok;
}
