/*
 * The destination, before RAM: may the guest come, with all that it has?
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "destination-private.h"

#include <sodium.h>
#include <string.h>

#include "base.h"
#include "error.h"
#include "fault.h"

bool msc_destination_reads(const MscSection *s, const MscProvider *p)
{
    return s->oldest <= p->version && s->version >= p->oldest;
}

/* Appends to @reasons why this host cannot take what @s describes. */
static bool admit_section(MscTransfer *t, const MscSection *s,
                          bool leave_behind, GPtrArray *reasons,
                          GPtrArray *answers, GError **errp)
{
    const MscProvider *p =
        msc_provider_find(msc_hub_providers(t->hub), s->name);
    g_autoptr(GBytes) answer = NULL;

    if (!p) {
        g_ptr_array_add(
            reasons,
            g_strdup_printf("this host does not know state of kind '%s'",
                            s->name));
        return true;
    }
    if (!msc_destination_reads(s, p)) {
        g_ptr_array_add(
            reasons, g_strdup_printf(
                         "'%s' state of version %u, this host reads %u to %u",
                         s->name, s->version, p->oldest, p->version));
        return true;
    }
    if (!p->check(t->vm->selector, s->data, leave_behind, reasons, &answer,
                  errp)) {
        return false;
    }
    if (answer) {
        uint16_t version = MIN(s->version, msc_ahead_version(t, p));

        msc_sections_add(answers, p->name, version, p->oldest, answer);
        if (msc_ahead_told(p, version)) {
            msc_ahead_add(t, p, version);
        }
    }
    return true;
}

void msc_destination_check_absent(MscTransfer *t, const GPtrArray *sections,
                                  GPtrArray *reasons)
{
    const MscProvider *const *p = msc_hub_providers(t->hub);

    for (; *p; p++) {
        if ((*p)->check_absent && !msc_sections_find(sections, (*p)->name)) {
            (*p)->check_absent(t->vm->selector, reasons);
        }
    }
}

/* Both ends must mean the same, or a guest would lose its context unnoticed. */
static bool agree_on_context(MscTransfer *t, const MscAdmissionRequest *request,
                             GError **errp)
{
    bool context = request->flags & MSC_ADMISSION_CONTEXT;

    if (context && t->transport_only) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                            "the guest comes with its security context, but "
                            "here waits a tunnel, which carries transport "
                            "only");
    } else if (!context && !t->transport_only) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                            "the source offers transport only, but here the "
                            "guest is awaited with its security context");
    } else if (!context && request->sections->len) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "admission request: transport only, but with "
                            "state of the guest");
    } else {
        return true;
    }
    return false;
}

static bool admit_all(MscTransfer *t, const MscAdmissionRequest *request,
                      GPtrArray *answers, GError **errp)
{
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    bool leave_behind = request->flags & MSC_ADMISSION_LEAVE_BEHIND;
    g_autofree char *text = NULL;

    for (guint i = 0; i < request->sections->len; i++) {
        if (!admit_section(t, request->sections->pdata[i], leave_behind,
                           reasons, answers, errp)) {
            return false;
        }
    }
    if (!t->transport_only) {
        msc_destination_check_absent(t, request->sections, reasons);
    }
    if (!reasons->len) {
        return true;
    }
    g_ptr_array_add(reasons, NULL);
    text = g_strjoinv("; ", (char **)reasons->pdata);
    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                "this host cannot take the guest: %s", text);
    return false;
}

bool msc_destination_check(MscTransfer *t, GBytes *bytes, const char *peer,
                           GError **errp)
{
    g_autoptr(MscTransfer) open =
        msc_hub_find(t->hub, msc_transfer_undecided, t->entry->vm);
    g_autoptr(GPtrArray) answers = msc_sections_new();
    MscAdmissionRequest request;
    bool ok;

    if (open && strcmp(open->entry->peer, peer)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "the last migration of guest %s here has not ended",
                    t->entry->name);
        return false;
    }
    if (!msc_admission_request_decode(bytes, &request, errp)) {
        return false;
    }
    ok = admit_all(t, &request, answers, errp);
    g_ptr_array_unref(request.sections);
    return ok;
}

GBytes *msc_destination_admit(MscTransfer *t, GBytes *bytes, GError **errp)
{
    g_autoptr(GPtrArray) answers = msc_sections_new();
    MscAdmissionAnswer answer = { .sections = answers };
    MscEntry *entry = t->entry;
    MscAdmissionRequest request;
    bool ok;

    if (!msc_admission_request_decode(bytes, &request, errp)) {
        return NULL;
    }
    ok = agree_on_context(t, &request, errp) &&
         admit_all(t, &request, answers, errp) &&
         MSC_FAULT_PASSES(CHECKED, errp);
    g_ptr_array_unref(request.sections);
    if (!ok) {
        return NULL;
    }
    for (guint i = 0; i < t->ahead->len; i++) {
        msc_base_offer(t, t->ahead->pdata[i], answers);
    }
    /* Each host's clock runs at the same speed but none agrees on the time;
     * the request's way here is the error, and it makes time-outs a bit
     * longer, never shorter than they are. */
    entry->boot_offset_us = msc_boot_us() - request.boot_us;
    memcpy(entry->commitment[MSC_PROOF_RELEASE - 1], request.release,
           sizeof(request.release));
    for (MscProofKind kind = MSC_PROOF_READY; kind <= MSC_PROOF_LAST; kind++) {
        if (kind != MSC_PROOF_RELEASE) {
            randombytes_buf(entry->token[kind - 1], MSC_PROOF_TOKEN_LEN);
        }
    }
    msc_proof_commit(MSC_PROOF_READY, entry->token[MSC_PROOF_READY - 1],
                     answer.ready);
    msc_proof_commit(MSC_PROOF_DONE, entry->token[MSC_PROOF_DONE - 1],
                     answer.done);
    msc_proof_commit(MSC_PROOF_ABANDON, entry->token[MSC_PROOF_ABANDON - 1],
                     answer.abandon);
    return msc_admission_answer_encode(&answer);
}
