/*
 * How it ends on the destination: commit or abort, and what is done once the
 * guest runs.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "destination-private.h"

#include "base.h"
#include "error.h"
#include "fault.h"

const MscProvider *msc_destination_provider(MscTransfer *t, const MscSection *s,
                                            GError **errp)
{
    const MscProvider *p =
        msc_provider_find(msc_hub_providers(t->hub), s->name);

    if (!p || !msc_destination_reads(s, p)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "security context holds '%s' of version %u, which this "
                    "host does not read",
                    s->name, s->version);
        return NULL;
    }
    return p;
}

bool msc_destination_is_ahead(MscTransfer *t, const MscSection *s)
{
    const MscProvider *p =
        msc_provider_find(msc_hub_providers(t->hub), s->name);

    return p && msc_ahead_section(p, s);
}

/* After a crash: what the journal kept. */
static bool load_context(MscTransfer *t, GError **errp)
{
    g_autoptr(GBytes) bytes = NULL;

    if (t->context) {
        return true;
    }
    bytes = msc_journal_read_blob(msc_hub_journal(t->hub), t->entry,
                                  MSC_BLOB_CONTEXT, errp);
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
    for (guint i = 0; i < t->context->sections->len; i++) {
        const MscSection *s = t->context->sections->pdata[i];
        const MscProvider *p = msc_destination_is_ahead(t, s)
                                   ? NULL
                                   : msc_destination_provider(t, s, NULL);

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
        msc_journal_read_blob(msc_hub_journal(t->hub), t->entry,
                              MSC_BLOB_REPLACED, errp);
    MscReader r;

    if (!bytes) {
        return NULL;
    }
    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    return msc_sections_decode(&r, "journal, replaced entries", errp);
}

/* Of the context, what is not journalled with the batches. */
static bool uninstall_context(MscTransfer *t, GError **errp)
{
    g_autoptr(GPtrArray) replaced = NULL;
    bool ok = true;

    /* With batches alone, or a context that was refused, it never began. */
    if (t->entry->stage == MSC_STAGE_STAGED &&
        !msc_journal_has_blob(msc_hub_journal(t->hub), t->entry,
                              MSC_BLOB_REPLACED)) {
        return true;
    }
    if (!load_context(t, errp) || !(replaced = load_replaced(t, errp))) {
        return false;
    }
    for (guint i = t->context->sections->len; i; i--) {
        const MscSection *s = t->context->sections->pdata[i - 1];
        const MscSection *old = msc_sections_find(replaced, s->name);
        const MscProvider *p;

        if (msc_destination_is_ahead(t, s)) {
            continue;
        }
        p = msc_destination_provider(t, s, ok ? errp : NULL);
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
    msc_transfer_forget_context(t);
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

bool msc_destination_settle(MscTransfer *t)
{
    guint lenient = 0;

    if (t->entry->stage != MSC_STAGE_COMMITTED || !load_context(t, NULL)) {
        return false;
    }
    msc_ahead_destination_end(t);
    for (guint i = 0; i < t->context->sections->len; i++) {
        const MscSection *s = t->context->sections->pdata[i];
        const MscProvider *p = msc_destination_is_ahead(t, s)
                                   ? NULL
                                   : msc_destination_provider(t, s, NULL);

        if (p && p->settle) {
            lenient += p->settle(t->vm->selector, s->data, &t->settling[i]);
        }
    }
    lenient += msc_ahead_settle(t);
    if (!lenient) {
        MSC_FAULT(SETTLED);
        msc_journal_remove_blobs(msc_hub_journal(t->hub), t->entry);
        msc_transfer_forget_context(t);
    }
    return lenient;
}
