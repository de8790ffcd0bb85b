/*
 * The destination: chunks as they come, and the whole context up to READY.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "destination-private.h"

#include <string.h>

#include "error.h"
#include "fault.h"
#include "secret.h"

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

static bool validate_section(MscTransfer *t, const MscSection *s, GError **errp)
{
    MscAheadPart *part = msc_ahead_find(t, s->name);
    MscProviderStats stats = { 0 };
    const MscProvider *p;

    if (msc_destination_is_ahead(t, s)) {
        if (!part) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                        "security context holds the end of a pre-copy of "
                        "'%s', of which the admission said nothing",
                        s->name);
            return false;
        }
        return msc_ahead_validate(t, part, s->data, errp);
    }
    p = msc_destination_provider(t, s, errp);
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
    msc_destination_check_absent(t, t->context->sections, reasons);
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

        if (msc_destination_is_ahead(t, s)) {
            continue;
        }
        p = msc_destination_provider(t, s, errp);
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
    return msc_journal_write_blob(journal, t->entry, MSC_BLOB_CONTEXT, context,
                                  errp) &&
           msc_journal_write_blob(journal, t->entry, MSC_BLOB_REPLACED, bytes,
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

        if (msc_destination_is_ahead(t, s)) {
            if (!install_ahead(t, s, errp)) {
                return false;
            }
            continue;
        }
        p = msc_destination_provider(t, s, errp);
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
    GError *err = NULL;

    (void)in;
    if (t->validated) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "VALIDATE came twice");
        return false;
    }
    if (MSC_FAULT_PASSES(VALIDATE, &err) && decode_context(t, &err) &&
        MSC_FAULT_PASSES(DECODED, &err) && (replaced = prepare_all(t, &err)) &&
        MSC_FAULT_PASSES(PREPARED, &err) && record_undo(t, replaced, &err) &&
        MSC_FAULT_PASSES(UNDO_RECORDED, &err) && install_all(t, &err) &&
        MSC_FAULT_PASSES(INSTALLED, &err)) {
        t->validated = true;
        t->entry->stats.elapsed_us = (uint64_t)(g_get_monotonic_time() - start);
        msc_stats_encode(&t->entry->stats, out);
        return true;
    }
    refuse(t, err, errp);
    return false;
}

bool msc_destination_ready(MscTransfer *t, const GByteArray *in,
                           GByteArray *out, GError **errp)
{
    g_autoptr(GBytes) proof = NULL;
    GError *err = NULL;

    (void)in;
    if (!t->validated) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "READY came before VALIDATE");
        return false;
    }
    /* Not flushed: if the host goes down, so do the kernel's tables and the
     * guest's QEMU here, and to come back as ABORTED is right. */
    if (!msc_transfer_set_stage(t, MSC_STAGE_READY, false, &err) ||
        !MSC_FAULT_PASSES(READY, &err)) {
        refuse(t, err, errp);
        return false;
    }
    proof = msc_proof_encode(MSC_PROOF_READY, t->entry->id,
                             t->entry->token[MSC_PROOF_READY - 1]);
    msc_put_bytes(out, g_bytes_get_data(proof, NULL), g_bytes_get_size(proof));
    return true;
}
