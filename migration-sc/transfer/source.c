/*
 * The source's verbs: admission, freeze, collect, release, finish, thaw.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>

#include "ahead.h"
#include "base.h"
#include "context.h"
#include "error.h"
#include "fault.h"

GBytes *msc_source_admission(MscTransfer *t, GError **errp)
{
    const MscProvider *const *p = msc_hub_providers(t->hub);
    MscAdmissionRequest request = {
        .flags = t->transport_only ? 0 : MSC_ADMISSION_CONTEXT,
        .boot_us = msc_boot_us(),
    };
    uint8_t *token = t->entry->token[MSC_PROOF_RELEASE - 1];
    g_autoptr(GPtrArray) sections = msc_sections_new();
    size_t room = MSC_ADMISSION_MAX;
    GBytes *bytes;

    if (!MSC_FAULT_PASSES(ADMISSION, errp)) {
        return NULL;
    }
    if (!t->transport_only &&
        t->vm->selector->nat_policy == MSC_NAT_LEAVE_BEHIND) {
        request.flags |= MSC_ADMISSION_LEAVE_BEHIND;
    }
    for (; *p && !t->transport_only; p++) {
        /* Half of what is left: the first one needs most of it. */
        g_autoptr(GBytes) summary = msc_ahead_summarize(t, *p, room / 2, errp);

        if (!summary) {
            return NULL;
        }
        if (!g_bytes_get_size(summary)) {
            continue;
        }
        room -= g_bytes_get_size(summary);
        msc_sections_add(sections, (*p)->name, msc_ahead_version(t, *p),
                         (*p)->oldest, summary);
    }
    randombytes_buf(token, MSC_PROOF_TOKEN_LEN);
    msc_proof_commit(MSC_PROOF_RELEASE, token, request.release);
    request.sections = sections;
    bytes = msc_admission_request_encode(&request);
    if (g_bytes_get_size(bytes) > MSC_ADMISSION_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                    "the guest's state does not fit an admission request "
                    "(%zu bytes, at most %u)",
                    g_bytes_get_size(bytes), MSC_ADMISSION_MAX);
        g_clear_pointer(&bytes, g_bytes_unref);
    }
    return bytes;
}

bool msc_source_admitted(MscTransfer *t, GBytes *bytes, GError **errp)
{
    MscAdmissionAnswer answer;

    if (!msc_admission_answer_decode(bytes, &answer, errp)) {
        return false;
    }
    memcpy(t->entry->commitment[MSC_PROOF_READY - 1], answer.ready,
           sizeof(answer.ready));
    memcpy(t->entry->commitment[MSC_PROOF_DONE - 1], answer.done,
           sizeof(answer.done));
    memcpy(t->entry->commitment[MSC_PROOF_ABANDON - 1], answer.abandon,
           sizeof(answer.abandon));
    t->answers = answer.sections;
    return msc_ahead_source_negotiate(t, errp) &&
           MSC_FAULT_PASSES(ANSWERED, errp) &&
           msc_transfer_set_stage(t, msc_admitted_stage(t), false, errp);
}

/* NULL: failed.  *@version: of what is returned. */
static GBytes *collect_one(MscTransfer *t, const MscProvider *p,
                           uint16_t *version, MscProviderStats *stats,
                           GError **errp)
{
    const MscSection *answer = msc_sections_find(t->answers, p->name);
    MscAheadPart *part = msc_ahead_find(t, p->name);
    g_autoptr(GError) err = NULL;

    *version = p->version;
    if (part && part->memory && part->asked) {
        GBytes *rest = msc_ahead_final(t, part, stats, &err);

        if (rest) {
            *version = p->precopy->version;
            return rest;
        }
        if (err) {
            g_propagate_error(errp, g_steal_pointer(&err));
            return NULL;
        }
    }
    return p->collect(t->vm->selector, answer ? answer->data : NULL, stats,
                      errp);
}

static bool collect_all(MscTransfer *t, GError **errp)
{
    const MscProvider *const *p = msc_hub_providers(t->hub);

    t->sections = msc_sections_new();
    for (; *p; p++) {
        MscProviderStats stats = { 0 };
        g_autoptr(GBytes) payload = NULL;
        uint16_t version;

        if (!MSC_FAULT_PASSES(COLLECT, errp) ||
            !(*p)->freeze(t->vm->selector, errp)) {
            return false;
        }
        payload = collect_one(t, *p, &version, &stats, errp);
        if (!payload) {
            return false;
        }
        t->entry->stats.flows += stats.entries;
        t->entry->stats.left_behind += stats.left_behind;
        if (!g_bytes_get_size(payload)) {
            continue;
        }
        msc_sections_add(t->sections, (*p)->name, version,
                         version == (*p)->version ? (*p)->oldest : version,
                         payload);
    }
    return true;
}

static bool queue_chunk(MscTransfer *t, GBytes *chunk)
{
    if (!chunk) {
        return false;
    }
    t->entry->stats.bytes += g_bytes_get_size(chunk);
    g_queue_push_tail(t->chunks, chunk);
    return true;
}

/* What ends the batches is the end of the next base. */
static void note_final(MscTransfer *t, uint64_t boot_us)
{
    for (guint i = 0; i < t->ahead->len; i++) {
        MscAheadPart *part = t->ahead->pdata[i];
        const MscSection *s =
            msc_sections_find(t->sections, part->provider->name);

        if (s && msc_ahead_section(part->provider, s)) {
            msc_base_note(t, part, s->data, boot_us);
            part->ended = true;
        }
    }
}

static bool seal_all(MscTransfer *t, GError **errp)
{
    g_autoptr(MscContext) context = msc_context_new();
    g_autoptr(GBytes) plain = NULL;
    MscContextSealer *sealer;
    const uint8_t *data;
    bool ok = true;
    gsize len;

    memcpy(context->vm, t->session->vm, sizeof(context->vm));
    context->wall_us = (uint64_t)g_get_real_time();
    context->boot_us = msc_boot_us();
    g_ptr_array_unref(context->sections);
    context->sections = g_ptr_array_ref(t->sections);
    plain = msc_context_encode(context);
    data = g_bytes_get_data(plain, &len);
    if (len > MSC_CONTEXT_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                    "security context of %zu bytes, at most %u", len,
                    MSC_CONTEXT_MAX);
        return false;
    }
    sealer = msc_source_sealer(t, errp);
    if (!sealer) {
        return false;
    }
    for (gsize at = 0; ok && at < len; at += MSC_CHUNK_PLAIN_MAX) {
        ok = queue_chunk(t, msc_context_seal(sealer, data + at,
                                             MIN(len - at, MSC_CHUNK_PLAIN_MAX),
                                             errp));
    }
    note_final(t, context->boot_us);
    return ok && queue_chunk(t, msc_context_seal_end(sealer, errp));
}

/* *@chunk: NULL after the last. */
static bool send_next(MscTransfer *t, GBytes **chunk, GError **errp)
{
    (void)errp;
    *chunk = NULL;
    if (!MSC_FAULT_PASSES(SEND, errp)) {
        return false;
    }
    *chunk = g_queue_pop_head(t->chunks);
    return true;
}

/* What fits goes along: each request more is a wake-up more at either end,
 * while the guest is stopped. */
static bool give_chunks(MscTransfer *t, GByteArray *out, GError **errp)
{
    GBytes *next;

    while ((next = g_queue_peek_head(t->chunks)) &&
           msc_frozen_has_room(out, next)) {
        if (!send_next(t, &next, errp)) {
            return false;
        }
        msc_frozen_put(out, next);
        g_bytes_unref(next);
    }
    if (!next) {
        msc_frozen_put(out, NULL);
    }
    return true;
}

bool msc_source_freeze(MscTransfer *t, const GByteArray *in, GByteArray *out,
                       GError **errp)
{
    gint64 start = g_get_monotonic_time();

    (void)in;
    if (!MSC_FAULT_PASSES(FREEZE, errp) ||
        !msc_transfer_set_stage(t, MSC_STAGE_FROZEN, false, errp) ||
        !MSC_FAULT_PASSES(FROZEN, errp) || !collect_all(t, errp) ||
        !MSC_FAULT_PASSES(COLLECTED, errp) || !seal_all(t, errp) ||
        !MSC_FAULT_PASSES(SEALED, errp)) {
        return false;
    }
    t->entry->stats.elapsed_us = (uint64_t)(g_get_monotonic_time() - start);
    msc_stats_encode(&t->entry->stats, out);
    return give_chunks(t, out, errp);
}

bool msc_source_collect(MscTransfer *t, const GByteArray *in, GByteArray *out,
                        GError **errp)
{
    g_autoptr(GBytes) chunk = NULL;

    (void)in;
    if (!send_next(t, &chunk, errp)) {
        return false;
    }
    if (chunk) {
        msc_put_bytes(out, g_bytes_get_data(chunk, NULL),
                      g_bytes_get_size(chunk));
    }
    return true;
}

bool msc_source_release(MscTransfer *t, const GByteArray *in, GByteArray *out,
                        GError **errp)
{
    MscEntry *entry = t->entry;
    g_autoptr(GBytes) proof = NULL;

    if (!msc_proof_check(MSC_PROOF_READY, in->data, in->len, entry->id,
                         entry->commitment[MSC_PROOF_READY - 1], errp)) {
        return false;
    }
    if (!g_queue_is_empty(t->chunks)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "READY came before the context was sent");
        return false;
    }
    /*
     * The point of no return.  It is on disk before anybody hears of it: a
     * helper that crashes now comes back knowing that it gave the guest away.
     */
    if (!MSC_FAULT_PASSES(READY_CAME, errp) ||
        (entry->stage != MSC_STAGE_RELEASED &&
         !msc_transfer_set_stage(t, MSC_STAGE_RELEASED, true, errp))) {
        return false;
    }
    MSC_FAULT(RELEASED);
    proof = msc_proof_encode(MSC_PROOF_RELEASE, entry->id,
                             entry->token[MSC_PROOF_RELEASE - 1]);
    msc_put_bytes(out, g_bytes_get_data(proof, NULL), g_bytes_get_size(proof));
    return true;
}

/* Removes what @p has of the guest on this host. */
static bool retire_one(MscTransfer *t, const MscProvider *p, GError **errp)
{
    const MscSection *section =
        t->sections ? msc_sections_find(t->sections, p->name) : NULL;
    const MscSection *answer =
        t->answers ? msc_sections_find(t->answers, p->name) : NULL;
    g_autoptr(GBytes) payload = NULL;
    MscProviderStats stats;

    if (p->precopy && p->precopy->retire &&
        (!section || msc_ahead_section(p, section))) {
        return p->precopy->retire(t->vm->selector, answer ? answer->data : NULL,
                                  errp);
    }
    if (section) {
        payload = g_bytes_ref(section->data);
    } else {
        /* The snapshot went with a crashed helper; the guest does not run
         * here, so all that its selector covers is a leftover. */
        payload = p->collect(t->vm->selector, NULL, &stats, errp);
    }
    return payload && p->retire(t->vm->selector, payload, errp);
}

bool msc_source_retire(MscTransfer *t, GError **errp)
{
    const MscProvider *const *p = msc_hub_providers(t->hub);
    bool ok = true;

    for (; *p; p++) {
        ok = retire_one(t, *p, ok ? errp : NULL) && ok;
    }
    return ok;
}

void msc_source_let_go(MscTransfer *t, const char *why)
{
    g_autoptr(GError) err = NULL;

    msc_base_keep(t);
    /* Or it would hear of all that is removed now. */
    msc_ahead_source_end(t);
    /* The guest is gone whether or not its leftovers are: say so, no more. */
    if (!msc_source_retire(t, &err)) {
        g_warning("%s: entries left behind on this host: %s", t->entry->name,
                  err->message);
    }
    MSC_FAULT(RETIRED);
    msc_transfer_end(t, MSC_STAGE_FINISHED, err && !*why ? err->message : why);
    MSC_FAULT(FINISHED);
}

/* Flows that are removed before FINISH is answered: about 10 ms. */
#define RETIRED_AT_ONCE 4096

void msc_transfer_after_reply(MscTransfer *t)
{
    msc_transfer_lock(t);
    if (t->retire_later && t->entry->stage == MSC_STAGE_RELEASED) {
        msc_source_let_go(t, "");
    }
    t->retire_later = false;
    if (msc_stage_is_final(t->entry->stage)) {
        /* The last use of a file that was replaced frees its blocks, which
         * takes milliseconds. */
        msc_base_void_all(t);
    }
    if (t->entry->stage == MSC_STAGE_COMMITTED) {
        /* What it remembers of a long list, likewise; the guest runs. */
        msc_ahead_destination_end(t);
    }
    msc_transfer_unlock(t);
}

bool msc_source_finish(MscTransfer *t, const GByteArray *in, GByteArray *out,
                       GError **errp)
{
    MscEntry *entry = t->entry;

    (void)out;
    if (!msc_proof_check(MSC_PROOF_DONE, in->data, in->len, entry->id,
                         entry->commitment[MSC_PROOF_DONE - 1], errp) ||
        !MSC_FAULT_PASSES(DONE_CAME, errp)) {
        return false;
    }
    if (entry->stage == MSC_STAGE_FINISHED) {
        return true;
    }
    /* There before the answer is: the guest may come back at once. */
    msc_base_keep(t);
    /* QEMU's migration has not ended before it has the answer. */
    if (entry->stats.flows > RETIRED_AT_ONCE) {
        t->retire_later = true;
    } else {
        msc_source_let_go(t, "");
    }
    return true;
}

bool msc_source_give_up(MscTransfer *t, const char *why, GError **errp)
{
    const MscProvider *const *p = msc_hub_providers(t->hub);
    bool ok = true;

    msc_ahead_source_end(t);
    msc_base_void_all(t);
    if (t->entry->stage == MSC_STAGE_THAWED || msc_transfer_close(t, why)) {
        return true;
    }
    MSC_FAULT(THAW);
    for (; *p; p++) {
        ok = (*p)->thaw(t->vm->selector, ok ? errp : NULL) && ok;
    }
    MSC_FAULT(UNFROZEN);
    msc_transfer_end(t, MSC_STAGE_THAWED, why);
    MSC_FAULT(THAWED);
    return ok;
}

bool msc_source_thaw(MscTransfer *t, const GByteArray *in, GByteArray *out,
                     GError **errp)
{
    g_autofree char *why = NULL;

    (void)out;
    return msc_text_decode(in->data, in->len, &why, errp) &&
           msc_source_give_up(t, why, errp);
}
