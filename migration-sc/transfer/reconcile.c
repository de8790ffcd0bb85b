/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "reconcile.h"

#include <sodium.h>
#include <string.h>

#include "error.h"
#include "fault.h"
#include "reconcile-message.h"
#include "talk.h"

static const char kept[] = "the other host kept the guest";
static const char given_up[] = "the other host has given the guest up";
static const char nobody[] = "no QEMU waited for the guest here; it is the "
                             "other host's";

static GBytes *proof_of(const MscTransfer *t, MscProofKind kind)
{
    return msc_proof_encode(kind, t->entry->id, t->entry->token[kind - 1]);
}

static bool proof_holds(const MscTransfer *t, MscProofKind kind, GBytes *proof,
                        GError **errp)
{
    return msc_proof_check(kind, g_bytes_get_data(proof, NULL),
                           g_bytes_get_size(proof), t->entry->id,
                           t->entry->commitment[kind - 1], errp);
}

static GBytes *answer_proof(const MscTransfer *t, MscProofKind kind)
{
    g_autoptr(GBytes) proof = proof_of(t, kind);

    return msc_reconcile_answer_encode(MSC_RECONCILE_PROOF, proof);
}

/* The destination asks a source. */
static GBytes *answer_as_source(const MscTransfer *t)
{
    switch (t->entry->stage) {
    case MSC_STAGE_RELEASED:
    case MSC_STAGE_FINISHED:
        return answer_proof(t, MSC_PROOF_RELEASE);
    case MSC_STAGE_THAWED:
        return msc_reconcile_answer_encode(MSC_RECONCILE_KEPT, NULL);
    default:
        return msc_reconcile_answer_encode(MSC_RECONCILE_WAIT, NULL);
    }
}

/* RELEASE is here: the guest is ours, if somebody still wants it. */
static bool take_or_leave(MscTransfer *t, GError **errp)
{
    switch (msc_transfer_qemu(t)) {
    case MSC_QEMU_WAITS:
        return msc_destination_take(t, "", errp);
    case MSC_QEMU_IS_GONE:
        return msc_destination_undo(t, nobody, errp);
    default:
        return true; /* next time */
    }
}

/* A source asks, and shows that it let go. */
static GBytes *answer_as_destination(MscTransfer *t, GBytes *release,
                                     GError **errp)
{
    static const uint8_t none[MSC_PROOF_TOKEN_LEN];
    const uint8_t *abandon = t->entry->token[MSC_PROOF_ABANDON - 1];

    if (!release || !proof_holds(t, MSC_PROOF_RELEASE, release, errp)) {
        return NULL;
    }
    if (t->entry->stage == MSC_STAGE_READY && !take_or_leave(t, errp)) {
        return NULL;
    }
    if (t->entry->stage == MSC_STAGE_COMMITTED) {
        return answer_proof(t, MSC_PROOF_DONE);
    }
    if (t->entry->stage == MSC_STAGE_ABORTED &&
        sodium_memcmp(abandon, none, sizeof(none))) {
        return answer_proof(t, MSC_PROOF_ABANDON);
    }
    return msc_reconcile_answer_encode(MSC_RECONCILE_WAIT, NULL);
}

static bool match_id(MscTransfer *t, const void *id)
{
    /* Set before the stage leaves OPEN, and never changed. */
    return g_atomic_int_get(&t->seen_stage) != MSC_STAGE_OPEN &&
           !memcmp(t->entry->id, id, MSC_ID_LEN);
}

GBytes *msc_reconcile_answer(MscHub *hub, GBytes *request, const char *peer,
                             GError **errp)
{
    g_autoptr(MscTransfer) t = NULL;
    MscReconcileQuestion q;
    GBytes *out = NULL;

    if (!msc_reconcile_question_decode(request, &q, errp)) {
        return NULL;
    }
    t = msc_hub_find(hub, match_id, q.id);
    if (t) {
        msc_transfer_lock(t);
    }
    if (!t || strcmp(t->entry->peer, peer)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                            "reconciling: this host knows no such migration "
                            "with yours");
    } else if (t->entry->role == MSC_ROLE_SOURCE) {
        out = answer_as_source(t);
    } else {
        out = answer_as_destination(t, q.proof, errp);
    }
    MSC_FAULT(RECONCILE_ANSWER);
    if (t) {
        msc_transfer_unlock(t);
    }
    msc_reconcile_question_clear(&q);
    return out;
}

/* The other host's word, checked; the lock is held. */
static bool take_answer(MscTransfer *t, MscReconcileWord word, GBytes *proof,
                        GError **errp)
{
    bool source = t->entry->role == MSC_ROLE_SOURCE;

    if (word == MSC_RECONCILE_WAIT) {
        return true;
    }
    if (!source && word == MSC_RECONCILE_KEPT) {
        return msc_destination_undo(t, kept, errp);
    }
    if (!source && word == MSC_RECONCILE_PROOF) {
        return proof_holds(t, MSC_PROOF_RELEASE, proof, errp) &&
               take_or_leave(t, errp);
    }
    if (word == MSC_RECONCILE_PROOF &&
        proof_holds(t, MSC_PROOF_DONE, proof, NULL)) {
        msc_source_let_go(t, "");
        return true;
    }
    return word == MSC_RECONCILE_PROOF &&
           proof_holds(t, MSC_PROOF_ABANDON, proof, errp) &&
           msc_source_give_up(t, given_up, errp);
}

static bool apply(MscTransfer *t, GBytes *got, GError **errp)
{
    g_autoptr(GBytes) proof = NULL;
    MscReconcileWord word;
    bool ok;

    if (!msc_reconcile_answer_decode(got, &word, &proof, errp)) {
        return false;
    }
    msc_transfer_lock(t);
    /* It may have ended while we asked. */
    MSC_FAULT(RECONCILE_APPLY);
    ok = (t->entry->stage != MSC_STAGE_RELEASED &&
          t->entry->stage != MSC_STAGE_READY) ||
         take_answer(t, word, proof, errp);
    msc_transfer_unlock(t);
    return ok;
}

static void ask(MscTransfer *t)
{
    g_autoptr(GBytes) question = NULL;
    g_autoptr(GBytes) proof = NULL;
    g_autoptr(GBytes) got = NULL;
    g_autofree char *peer = NULL;
    g_autoptr(GError) err = NULL;
    bool cut_off;

    msc_transfer_lock(t);
    /* While all goes well nothing is on record about it. */
    cut_off = *t->entry->error != 0;
    if (t->entry->role == MSC_ROLE_SOURCE &&
        t->entry->stage == MSC_STAGE_RELEASED) {
        proof = proof_of(t, MSC_PROOF_RELEASE);
    }
    question = msc_reconcile_question_encode(t->entry->id, proof);
    peer = g_strdup(t->entry->peer);
    msc_transfer_unlock(t);
    if (!cut_off) {
        return;
    }
    MSC_FAULT(RECONCILE_ASK);
    got = msc_talk_ask(t->hub, peer, question, &err);
    if (!got || !apply(t, got, &err)) {
        g_info("reconciling with %s: %s", peer, err->message);
    }
}

void msc_reconcile_all(MscHub *hub)
{
    g_autoptr(GPtrArray) waiting = msc_hub_undecided(hub);

    for (guint i = 0; i < waiting->len; i++) {
        ask(waiting->pdata[i]);
    }
}
