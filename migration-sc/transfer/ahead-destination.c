/*
 * Pre-copy, the destination's half.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "ahead.h"

#include <string.h>

#include "base.h"
#include "batch.h"
#include "error.h"
#include "fault.h"
#include "staged-log.h"

/* While nothing is news, the rounds of settling become rarer. */
#define PAUSE_MIN G_USEC_PER_SEC
#define PAUSE_MAX (60 * G_USEC_PER_SEC)
/* Batches of settling in one step. */
#define SETTLED_AT_ONCE 8

typedef struct {
    MscTransfer *t;
    const MscAheadPart *part;
} Replacing;

/* On disk before it is in the kernel. */
static bool record(MscTransfer *t, const MscAheadPart *part, MscStagedKind kind,
                   GBytes *data, GError **errp)
{
    return msc_staged_append(msc_hub_journal(t->hub), t->entry, kind,
                             part->provider->name, data,
                             msc_hub_config(t->hub)->precopy_disk_mib, errp);
}

static bool note_replaced(GBytes *replaced, void *opaque, GError **errp)
{
    const Replacing *r = opaque;

    return record(r->t, r->part, MSC_STAGED_REPLACED, replaced, errp);
}

static void count_flows(MscTransfer *t)
{
    uint64_t flows = 0;

    for (guint i = 0; i < t->ahead->len; i++) {
        flows += ((const MscAheadPart *)t->ahead->pdata[i])->flows;
    }
    t->entry->progress.sent = t->entry->progress.total = flows;
}

static void begin(MscTransfer *t, MscAheadPart *part)
{
    if (!part->memory) {
        part->memory =
            part->provider->precopy->destination_begin(t->vm->selector);
    }
}

bool msc_ahead_validate(MscTransfer *t, MscAheadPart *part, GBytes *data,
                        GError **errp)
{
    begin(t, part);
    return part->provider->precopy->validate(part->memory, data, errp);
}

static bool stage(MscTransfer *t, MscAheadPart *part, GBytes *data,
                  uint64_t transit_us, GError **errp)
{
    Replacing r = { t, part };

    if (!record(t, part, MSC_STAGED_BATCH, data, errp) ||
        !MSC_FAULT_PASSES(BATCH_RECORDED, errp) ||
        !part->provider->precopy->stage(part->memory, data, transit_us,
                                        note_replaced, &r, &part->flows,
                                        errp)) {
        return false;
    }
    count_flows(t);
    return MSC_FAULT_PASSES(BATCH_STAGED, errp);
}

bool msc_ahead_stage(MscTransfer *t, MscAheadPart *part, GBytes *data,
                     uint64_t boot_us, GError **errp)
{
    uint64_t sent = boot_us + t->entry->boot_offset_us;
    uint64_t now = msc_boot_us();

    part->batches_came = true;
    if (!stage(t, part, data, now > sent ? now - sent : 0, errp)) {
        return false;
    }
    msc_base_note(t, part, data, sent);
    return true;
}

/* The next batch of the base, as it would be now. */
static bool stage_of_base(MscTransfer *t, MscAheadPart *part, GError **errp)
{
    const MscPrecopy *precopy = part->provider->precopy;
    g_autoptr(GBytes) kept = NULL;
    g_autoptr(GBytes) data = NULL;
    uint64_t when_us, now;
    int got = part->base && !part->batches_came
                  ? msc_base_reader_next(part->base, &kept, &when_us, errp)
                  : 0;

    if (!got) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "a batch of '%s' counts on more of a base than there is",
                    part->provider->name);
    }
    if (got != 1) {
        return false;
    }
    begin(t, part);
    now = msc_boot_us();
    part->whole = msc_base_reader_head(part->base)->whole;
    data = precopy->rebase(part->memory, kept,
                           now > when_us ? now - when_us : 0, errp);
    if (!data || !precopy->validate(part->memory, data, errp) ||
        !stage(t, part, data, 0, errp)) {
        return false;
    }
    msc_base_note(t, part, kept, when_us);
    return true;
}

static bool take_base_step(MscTransfer *t, const MscSection *s, GError **errp)
{
    MscAheadPart *part = msc_ahead_find(t, s->name);
    uint32_t batches;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(s->data, NULL),
                    g_bytes_get_size(s->data));
    if (!msc_reader_u32(&r, &batches) || !batches || batches > MSC_BASE_STEP ||
        msc_reader_left(&r)) {
        return msc_reader_error(&r, errp, "batch", "bad step of a base");
    }
    for (; batches; batches--) {
        if (!stage_of_base(t, part, errp)) {
            return false;
        }
    }
    return true;
}

static void end(MscAheadPart *part)
{
    if (part->memory) {
        part->end(part->memory);
        part->memory = NULL;
    }
    part->flows = 0;
    part->batches_came = false;
}

void msc_ahead_destination_end(MscTransfer *t)
{
    for (guint i = 0; i < t->ahead->len; i++) {
        end(t->ahead->pdata[i]);
    }
}

/* Every record of @kind, and of @provider if that is not NULL: unstaged, or put
 * back. */
static bool undo_records(MscTransfer *t, MscStagedKind kind,
                         const char *provider, GError **errp)
{
    g_autoptr(MscStagedReader) reader =
        msc_staged_open(msc_hub_journal(t->hub), t->entry, 0, errp);
    bool ok = reader;

    for (int got = 1; reader && got == 1;) {
        g_auto(MscStagedRecord) record = { 0 };
        const MscProvider *p;

        got = msc_staged_read(reader, &record, ok ? errp : NULL);
        if (got < 0) {
            ok = false;
        }
        if (got != 1 || record.kind != kind ||
            (provider && strcmp(record.provider, provider))) {
            continue;
        }
        p = msc_provider_find(msc_hub_providers(t->hub), record.provider);
        if (!p || !p->precopy) {
            if (ok) {
                g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "the journal holds what was staged of '%s', which "
                            "this version does not know",
                            record.provider);
            }
            ok = false;
        } else if (kind == MSC_STAGED_BATCH
                       ? !p->precopy->unstage(t->vm->selector, record.data,
                                              record.when_us, ok ? errp : NULL)
                       : !p->precopy->restore(t->vm->selector, record.data,
                                              ok ? errp : NULL)) {
            ok = false;
        }
    }
    return ok;
}

static bool undo(MscTransfer *t, const char *provider, GError **errp)
{
    bool ok;

    if (!msc_journal_has_blob(msc_hub_journal(t->hub), t->entry,
                              MSC_BLOB_STAGED)) {
        return true;
    }
    ok = undo_records(t, MSC_STAGED_BATCH, provider, errp);
    return undo_records(t, MSC_STAGED_REPLACED, provider, ok ? errp : NULL) &&
           ok;
}

bool msc_ahead_undo(MscTransfer *t, GError **errp)
{
    msc_ahead_destination_end(t);
    return undo(t, NULL, errp);
}

/* A batch that begins anew: what came before of its kinds is void. */
static bool begin_anew(MscTransfer *t, const MscBatchMessage *batch,
                       GError **errp)
{
    for (guint i = 0; i < batch->sections->len; i++) {
        const MscSection *s = batch->sections->pdata[i];
        MscAheadPart *part = msc_ahead_find(t, s->name);

        if (!part) {
            continue; /* check_batch() refuses it */
        }
        end(part);
        msc_base_void(part);
        if (!undo(t, s->name, errp) ||
            !msc_staged_forget(msc_hub_journal(t->hub), t->entry, s->name,
                               errp)) {
            return false;
        }
    }
    return true;
}

/* The parts that @batch speaks of; all of it is checked before any of it is
 * staged. */
static bool check_batch(MscTransfer *t, const MscBatchMessage *batch,
                        GError **errp)
{
    for (guint i = 0; i < batch->sections->len; i++) {
        const MscSection *s = batch->sections->pdata[i];
        MscAheadPart *part = msc_ahead_find(t, s->name);

        if (!part || !msc_ahead_section(part->provider, s)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                        "a batch of '%s', version %u, of which the admission "
                        "said nothing",
                        s->name, s->version);
            return false;
        }
        if (batch->flags == MSC_BATCH_BASED) {
            continue; /* it has no entries */
        }
        if (g_bytes_get_size(s->data)
                ? !msc_ahead_validate(t, part, s->data, errp)
                : !(batch->flags & MSC_BATCH_ANEW)) {
            if (errp && !*errp) {
                g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "a batch of '%s' without anything in it", s->name);
            }
            return false;
        }
    }
    return true;
}

static bool take(MscTransfer *t, const MscBatchMessage *batch, GError **errp)
{
    if ((t->entry->stage == MSC_STAGE_ADMITTED &&
         !msc_transfer_set_stage(t, MSC_STAGE_STAGED, false, errp)) ||
        (batch->flags == MSC_BATCH_ANEW && !begin_anew(t, batch, errp)) ||
        !check_batch(t, batch, errp)) {
        return false;
    }
    for (guint i = 0; i < batch->sections->len; i++) {
        const MscSection *s = batch->sections->pdata[i];

        if (batch->flags == MSC_BATCH_BASED) {
            if (!take_base_step(t, s, errp)) {
                return false;
            }
        } else if (g_bytes_get_size(s->data) &&
                   !msc_ahead_stage(t, msc_ahead_find(t, s->name), s->data,
                                    batch->boot_us, errp)) {
            return false;
        }
    }
    return true;
}

bool msc_ahead_take(MscTransfer *t, const GByteArray *plain, GError **errp)
{
    MscBatchMessage batch;
    bool ok;

    if (!msc_batch_message_decode(plain->data, plain->len, &batch, errp)) {
        return false;
    }
    ok = take(t, &batch, errp);
    g_ptr_array_unref(batch.sections);
    return ok;
}

/* Where the batches of the log are that have flows to settle. */
static bool list_unsettled(MscTransfer *t)
{
    g_autoptr(MscStagedReader) reader =
        msc_staged_open(msc_hub_journal(t->hub), t->entry, 0, NULL);

    t->unsettled = g_array_new(FALSE, FALSE, sizeof(gint64));
    t->settle_pause = PAUSE_MIN;
    while (reader) {
        gint64 at = msc_staged_offset(reader);
        g_auto(MscStagedRecord) record = { 0 };

        if (msc_staged_read(reader, &record, NULL) != 1) {
            break;
        }
        if (record.kind == MSC_STAGED_BATCH) {
            g_array_append_val(t->unsettled, at);
        }
    }
    return reader;
}

/* How many flows of the batch at @at are lenient yet. */
static guint settle_batch(MscTransfer *t, gint64 at)
{
    g_autoptr(MscStagedReader) reader =
        msc_staged_open(msc_hub_journal(t->hub), t->entry, at, NULL);
    g_auto(MscStagedRecord) record = { 0 };
    const MscProvider *p;

    if (!reader || msc_staged_read(reader, &record, NULL) != 1) {
        return 0;
    }
    p = msc_provider_find(msc_hub_providers(t->hub), record.provider);
    return p && p->precopy && p->precopy->settle
               ? p->precopy->settle(t->vm->selector, record.data)
               : 0;
}

guint msc_ahead_settle(MscTransfer *t)
{
    gint64 now = g_get_monotonic_time();

    if (!t->unsettled && (!msc_journal_has_blob(msc_hub_journal(t->hub),
                                                t->entry, MSC_BLOB_STAGED) ||
                          !list_unsettled(t))) {
        return 0;
    }
    if (now < t->settle_wake) {
        return t->unsettled->len;
    }
    for (int i = 0; i < SETTLED_AT_ONCE && t->settle_next < t->unsettled->len;
         i++) {
        gint64 at = g_array_index(t->unsettled, gint64, t->settle_next);

        if (settle_batch(t, at)) {
            t->settle_next++;
        } else {
            g_array_remove_index(t->unsettled, t->settle_next);
            t->settle_pause = PAUSE_MIN;
        }
    }
    if (t->settle_next >= t->unsettled->len) {
        /* A round without an end to anything makes the next wait longer. */
        t->settle_next = 0;
        t->settle_wake = now + t->settle_pause;
        t->settle_pause = MIN(2 * t->settle_pause, PAUSE_MAX);
    }
    return t->unsettled->len;
}
