/*
 * The destination's verbs: admit, stage, validate, commit, abort.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>

#include "ahead.h"
#include "base.h"
#include "error.h"
#include "secret.h"
#include "fault.h"

#define BLOB_CONTEXT "context"
#define BLOB_REPLACED "replaced"

static bool versions_meet(const MscSection *s, const MscProvider *p)
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
    if (!versions_meet(s, p)) {
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

/* A kind of state that this host expects and the source does not send. */
static void check_absent(MscTransfer *t, const GPtrArray *sections,
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
        check_absent(t, request->sections, reasons);
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

GBytes *msc_destination_admit(MscTransfer *t, GBytes *bytes, const char *peer,
                              GError **errp)
{
    g_autoptr(GPtrArray) answers = msc_sections_new();
    MscAdmissionAnswer answer = { .sections = answers };
    MscEntry *entry = t->entry;
    MscAdmissionRequest request;
    bool ok;

    g_free(entry->peer);
    entry->peer = g_strdup(peer);
    if (!MSC_FAULT_PASSES(ADMIT, errp) ||
        !msc_hub_supersede(t->hub, entry->vm, peer, errp) ||
        !msc_admission_request_decode(bytes, &request, errp)) {
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

static bool take_chunk(MscTransfer *t, MscChunkKind kind,
                       const GByteArray *plain, GError **errp)
{
    switch (kind) {
    case MSC_CHUNK_BATCH:
        if (t->plain->len) {
            g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                                "a batch within the security context");
            return false;
        }
        return msc_ahead_take(t, plain, errp);
    case MSC_CHUNK_END:
        t->ended = true;
        break;
    case MSC_CHUNK_DATA:
        msc_put_bytes(t->plain, plain->data, plain->len);
        break;
    }
    if (t->plain->len > MSC_CONTEXT_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "security context of more than %u bytes", MSC_CONTEXT_MAX);
        return false;
    }
    return true;
}

static bool open_chunk(MscTransfer *t, const GByteArray *in, GError **errp)
{
    g_autoptr(GByteArray) plain = g_byte_array_new();
    MscChunkKind kind;
    bool ok;

    if (!MSC_FAULT_PASSES(OPEN, errp)) {
        return false;
    }
    if (t->ended) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "security context goes on after its END");
        return false;
    }
    if (!t->opener) {
        t->opener = msc_context_opener_new(t->session, errp);
        t->plain = g_byte_array_new();
        if (!t->opener) {
            return false;
        }
    }
    ok = msc_context_open(t->opener, in->data, in->len, plain, &kind, errp) &&
         take_chunk(t, kind, plain, errp);
    /* A context may hold IPsec keys. */
    msc_wipe(plain->data, plain->len);
    return ok;
}

/* Undoes what was staged, for the reason @err, which goes to @errp. */
static void refuse(MscTransfer *t, GError *err, GError **errp)
{
    if (!msc_destination_undo(t, err->message, NULL)) {
        g_prefix_error(&err, "what was staged could not be undone either, see "
                             "the helper's log: ");
    }
    g_propagate_error(errp, err);
}

bool msc_destination_stage(MscTransfer *t, const GByteArray *in,
                           GByteArray *out, GError **errp)
{
    GError *err = NULL;

    /* END would cover a chunk that was refused like the others. */
    if (!open_chunk(t, in, &err)) {
        refuse(t, err, errp);
        return false;
    }
    msc_put_u64(out, t->entry->progress.sent);
    return MSC_FAULT_PASSES(OPENED, errp);
}

static const MscProvider *section_provider(MscTransfer *t, const MscSection *s,
                                           GError **errp)
{
    const MscProvider *p =
        msc_provider_find(msc_hub_providers(t->hub), s->name);

    if (!p || !versions_meet(s, p)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "security context holds '%s' of version %u, which this "
                    "host does not read",
                    s->name, s->version);
        return NULL;
    }
    return p;
}

/* Does it end a pre-copy?  Then it was journalled, and is undone, with that. */
static bool is_ahead(MscTransfer *t, const MscSection *s)
{
    const MscProvider *p =
        msc_provider_find(msc_hub_providers(t->hub), s->name);

    return p && msc_ahead_section(p, s);
}

static bool validate_section(MscTransfer *t, const MscSection *s, GError **errp)
{
    MscAheadPart *part = msc_ahead_find(t, s->name);
    MscProviderStats stats = { 0 };
    const MscProvider *p;

    if (is_ahead(t, s)) {
        if (!part) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                        "security context holds the end of a pre-copy of "
                        "'%s', of which the admission said nothing",
                        s->name);
            return false;
        }
        return msc_ahead_validate(t, part, s->data, errp);
    }
    p = section_provider(t, s, errp);
    if (p && part && part->memory) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "security context holds all of '%s', of which batches "
                    "came",
                    s->name);
        return false;
    }
    if (!p || !p->validate(t->vm->selector, s->data, &stats, errp)) {
        return false;
    }
    t->entry->stats.flows += stats.entries;
    return true;
}

/* Batches that no section ends would be half a context. */
static bool all_ended(MscTransfer *t, GError **errp)
{
    for (guint i = 0; i < t->ahead->len; i++) {
        const MscAheadPart *part = t->ahead->pdata[i];

        if (part->memory &&
            !msc_sections_find(t->context->sections, part->provider->name)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                        "security context without an end of the batches of "
                        "'%s'",
                        part->provider->name);
            return false;
        }
    }
    return true;
}

static bool decode_context(MscTransfer *t, GError **errp)
{
    MscContextStats *stats = &t->entry->stats;
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);

    if (!t->ended) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "the security context did not arrive whole: "
                            "no END");
        return false;
    }
    t->context = msc_context_decode(t->plain->data, t->plain->len, errp);
    if (!t->context) {
        return false;
    }
    if (memcmp(t->context->vm, t->session->vm, sizeof(t->context->vm))) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH,
                            "the security context is another guest's");
        return false;
    }
    stats->bytes = t->plain->len;
    for (guint i = 0; i < t->context->sections->len; i++) {
        if (!validate_section(t, t->context->sections->pdata[i], errp)) {
            return false;
        }
    }
    if (!all_ended(t, errp)) {
        return false;
    }
    check_absent(t, t->context->sections, reasons);
    if (reasons->len) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED, "%s",
                    (const char *)reasons->pdata[0]);
        return false;
    }
    return true;
}

/* What staging will replace, from every provider; nothing is changed yet. */
static GPtrArray *prepare_all(MscTransfer *t, GError **errp)
{
    g_autoptr(GPtrArray) replaced = msc_sections_new();

    for (guint i = 0; i < t->context->sections->len; i++) {
        const MscSection *s = t->context->sections->pdata[i];
        const MscProvider *p;
        g_autoptr(GBytes) bytes = NULL;

        if (is_ahead(t, s)) {
            continue;
        }
        p = section_provider(t, s, errp);
        bytes = p ? p->prepare(t->vm->selector, s->data, errp) : NULL;
        if (!bytes) {
            return NULL;
        }
        msc_sections_add(replaced, s->name, s->version, s->oldest, bytes);
    }
    return g_steal_pointer(&replaced);
}

static bool record_undo(MscTransfer *t, GPtrArray *replaced, GError **errp)
{
    MscJournal *journal = msc_hub_journal(t->hub);
    g_autoptr(GBytes) context = g_bytes_new(t->plain->data, t->plain->len);
    g_autoptr(GBytes) bytes = NULL;
    GByteArray *out = g_byte_array_new();

    msc_sections_encode(replaced, out);
    bytes = g_byte_array_free_to_bytes(out);
    return msc_journal_write_blob(journal, t->entry, BLOB_CONTEXT, context,
                                  errp) &&
           msc_journal_write_blob(journal, t->entry, BLOB_REPLACED, bytes,
                                  errp) &&
           msc_transfer_set_stage(t, MSC_STAGE_STAGED, false, errp);
}

static bool install_ahead(MscTransfer *t, const MscSection *s, GError **errp)
{
    MscAheadPart *part = msc_ahead_find(t, s->name);

    if (!msc_ahead_stage(t, part, s->data, t->context->boot_us, errp)) {
        return false;
    }
    part->ended = true;
    t->entry->stats.flows += part->flows;
    return !part->provider->precopy->complete ||
           part->provider->precopy->complete(part->memory, errp);
}

static bool install_all(MscTransfer *t, GError **errp)
{
    uint64_t sent = t->context->boot_us + t->entry->boot_offset_us;
    uint64_t now = msc_boot_us();
    uint64_t transit = now > sent ? now - sent : 0;

    for (guint i = 0; i < t->context->sections->len; i++) {
        const MscSection *s = t->context->sections->pdata[i];
        const MscProvider *p;

        if (is_ahead(t, s)) {
            if (!install_ahead(t, s, errp)) {
                return false;
            }
            continue;
        }
        p = section_provider(t, s, errp);
        if (!p || !MSC_FAULT_PASSES(INSTALL, errp) ||
            !p->stage(t->vm->selector, s->data, transit, errp)) {
            return false;
        }
    }
    return true;
}

bool msc_destination_validate(MscTransfer *t, const GByteArray *in,
                              GByteArray *out, GError **errp)
{
    gint64 start = g_get_monotonic_time();
    g_autoptr(GPtrArray) replaced = NULL;
    g_autoptr(GBytes) proof = NULL;
    GError *err = NULL;

    (void)in;
    if (MSC_FAULT_PASSES(VALIDATE, &err) && decode_context(t, &err) &&
        MSC_FAULT_PASSES(DECODED, &err) && (replaced = prepare_all(t, &err)) &&
        MSC_FAULT_PASSES(PREPARED, &err) && record_undo(t, replaced, &err) &&
        MSC_FAULT_PASSES(UNDO_RECORDED, &err) && install_all(t, &err) &&
        MSC_FAULT_PASSES(INSTALLED, &err) &&
        /* Not flushed: if the host goes down, so do the kernel's tables and
         * the guest's QEMU here, and to come back as ABORTED is right. */
        msc_transfer_set_stage(t, MSC_STAGE_READY, false, &err) &&
        MSC_FAULT_PASSES(READY, &err)) {
        t->entry->stats.elapsed_us = (uint64_t)(g_get_monotonic_time() - start);
        proof = msc_proof_encode(MSC_PROOF_READY, t->entry->id,
                                 t->entry->token[MSC_PROOF_READY - 1]);
        msc_stats_encode(&t->entry->stats, proof, out);
        return true;
    }
    refuse(t, err, errp);
    return false;
}

/* After a crash: what the journal kept. */
static bool load_context(MscTransfer *t, GError **errp)
{
    g_autoptr(GBytes) bytes = NULL;

    if (t->context) {
        return true;
    }
    bytes = msc_journal_read_blob(msc_hub_journal(t->hub), t->entry,
                                  BLOB_CONTEXT, errp);
    if (bytes) {
        t->context = msc_context_decode(g_bytes_get_data(bytes, NULL),
                                        g_bytes_get_size(bytes), errp);
    }
    return t->context != NULL;
}

bool msc_destination_take(MscTransfer *t, const char *why, GError **errp)
{
    g_autoptr(GError) err = NULL;

    if (t->entry->stage == MSC_STAGE_COMMITTED) {
        return true;
    }
    g_free(t->entry->error);
    t->entry->error = g_strdup(why);
    if (!MSC_FAULT_PASSES(COMMIT, errp) ||
        !msc_transfer_set_stage(t, MSC_STAGE_COMMITTED, true, errp)) {
        return false;
    }
    MSC_FAULT(COMMITTED);
    /* The guest may run: nothing below can change that. */
    msc_base_keep(t);
    if (!load_context(t, &err)) {
        g_warning("%s: %s", t->entry->name, err->message);
        return true;
    }
    msc_ahead_destination_end(t);
    for (guint i = 0; i < t->context->sections->len; i++) {
        const MscSection *s = t->context->sections->pdata[i];
        const MscProvider *p =
            is_ahead(t, s) ? NULL : section_provider(t, s, NULL);

        if (p) {
            p->commit(t->vm->selector, s->data);
        }
    }
    MSC_FAULT(TAKEN);
    return true;
}

bool msc_destination_commit(MscTransfer *t, const GByteArray *in,
                            GByteArray *out, GError **errp)
{
    MscEntry *entry = t->entry;
    g_autoptr(GBytes) proof = NULL;

    if (!msc_proof_check(MSC_PROOF_RELEASE, in->data, in->len, entry->id,
                         entry->commitment[MSC_PROOF_RELEASE - 1], errp) ||
        !msc_destination_take(t, "", errp)) {
        return false;
    }
    proof = msc_proof_encode(MSC_PROOF_DONE, entry->id,
                             entry->token[MSC_PROOF_DONE - 1]);
    msc_put_bytes(out, g_bytes_get_data(proof, NULL), g_bytes_get_size(proof));
    return true;
}

static GPtrArray *load_replaced(MscTransfer *t, GError **errp)
{
    g_autoptr(GBytes) bytes =
        msc_journal_read_blob(msc_hub_journal(t->hub), t->entry, BLOB_REPLACED,
                              errp);
    g_autoptr(GPtrArray) sections = NULL;
    MscReader r;

    if (!bytes) {
        return NULL;
    }
    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    sections = msc_sections_decode(&r, "journal, replaced entries", errp);
    if (!sections || !msc_reader_end(&r, errp, "journal")) {
        return NULL;
    }
    return g_steal_pointer(&sections);
}

/* Of the context, what is not journalled with the batches. */
static bool uninstall_context(MscTransfer *t, GError **errp)
{
    g_autoptr(GPtrArray) replaced = NULL;
    bool ok = true;

    /* With batches alone, or a context that was refused, it never began. */
    if (t->entry->stage == MSC_STAGE_STAGED &&
        !msc_journal_has_blob(msc_hub_journal(t->hub), t->entry,
                              BLOB_REPLACED)) {
        return true;
    }
    if (!load_context(t, errp) || !(replaced = load_replaced(t, errp))) {
        return false;
    }
    for (guint i = t->context->sections->len; i; i--) {
        const MscSection *s = t->context->sections->pdata[i - 1];
        const MscSection *old = msc_sections_find(replaced, s->name);
        const MscProvider *p;

        if (is_ahead(t, s)) {
            continue;
        }
        p = section_provider(t, s, ok ? errp : NULL);
        if (!p || !old ||
            !p->abort(t->vm->selector, s->data, old->data, ok ? errp : NULL)) {
            ok = false;
        }
    }
    return ok;
}

static bool uninstall_all(MscTransfer *t, GError **errp)
{
    bool ok = uninstall_context(t, errp);

    return msc_ahead_undo(t, ok ? errp : NULL) && ok;
}

bool msc_destination_undo(MscTransfer *t, const char *why, GError **errp)
{
    MscStage stage = t->entry->stage;
    g_autoptr(GError) err = NULL;

    if (stage == MSC_STAGE_ABORTED || msc_transfer_close(t, why)) {
        return true;
    }
    MSC_FAULT(UNDO);
    msc_base_void_all(t);
    if ((stage == MSC_STAGE_STAGED || stage == MSC_STAGE_READY) &&
        !uninstall_all(t, &err)) {
        g_warning("%s: cannot undo what was staged: %s", t->entry->name,
                  err->message);
    }
    MSC_FAULT(UNINSTALLED);
    msc_transfer_end(t, MSC_STAGE_ABORTED, why);
    MSC_FAULT(ABORTED);
    if (err) {
        g_propagate_error(errp, g_steal_pointer(&err));
        return false;
    }
    msc_journal_remove_blobs(msc_hub_journal(t->hub), t->entry);
    msc_destination_forget(t);
    return true;
}

bool msc_destination_abort(MscTransfer *t, const GByteArray *in,
                           GByteArray *out, GError **errp)
{
    g_autofree char *why = NULL;

    (void)out;
    if (!msc_text_decode(in->data, in->len, &why, errp)) {
        return false;
    }
    if (t->entry->stage == MSC_STAGE_READY) {
        /* Not for QEMU to decide any more; but it will not run the guest. */
        t->unwanted = true;
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "READY was said: the source may have let go; only a "
                    "verdict ends this");
        return false;
    }
    return msc_destination_undo(t, why, errp);
}

void msc_destination_forget(MscTransfer *t)
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
    msc_ahead_settle_end(t);
    g_clear_pointer(&t->context, msc_context_free);
}

bool msc_destination_settle(MscTransfer *t)
{
    guint lenient = 0;

    if (t->entry->stage != MSC_STAGE_COMMITTED || !load_context(t, NULL)) {
        return false;
    }
    for (guint i = 0; i < t->context->sections->len; i++) {
        const MscSection *s = t->context->sections->pdata[i];
        const MscProvider *p =
            is_ahead(t, s) ? NULL : section_provider(t, s, NULL);

        if (p && p->settle) {
            lenient += p->settle(t->vm->selector, s->data, &t->settling[i]);
        }
    }
    lenient += msc_ahead_settle(t);
    if (!lenient) {
        MSC_FAULT(SETTLED);
        msc_journal_remove_blobs(msc_hub_journal(t->hub), t->entry);
        msc_destination_forget(t);
    }
    return lenient;
}
