/*
 * Pre-copy, the source's half.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "ahead.h"
#include "batch.h"
#include "error.h"
#include "fault.h"
#include "format.h"

void msc_ahead_source_negotiate(MscTransfer *t)
{
    const MscProvider *const *p = msc_hub_providers(t->hub);

    for (; *p; p++) {
        const MscSection *answer = msc_sections_find(t->answers, (*p)->name);

        if (t->carries_batches && answer && msc_ahead_section(*p, answer)) {
            msc_ahead_add(t, *p);
        }
    }
}

MscContextSealer *msc_source_sealer(MscTransfer *t, GError **errp)
{
    if (!t->sealer) {
        t->sealer = msc_context_sealer_new(t->session, errp);
    }
    return t->sealer;
}

static bool begin(MscTransfer *t, MscAheadPart *part, GError **errp)
{
    const MscProvider *p = part->provider;
    const MscSection *summary = msc_sections_find(t->summaries, p->name);
    const MscSection *answer = msc_sections_find(t->answers, p->name);

    part->memory = p->precopy->source_begin(t->vm->selector,
                                            summary ? summary->data : NULL,
                                            answer->data, errp);
    return part->memory;
}

static void end(MscAheadPart *part)
{
    if (part->memory) {
        part->provider->precopy->source_end(part->memory);
        part->memory = NULL;
    }
}

void msc_ahead_source_end(MscTransfer *t)
{
    for (guint i = 0; i < t->ahead->len; i++) {
        end(t->ahead->pdata[i]);
    }
}

/* @data: a batch of @part's, or no bytes if it only voids. */
static GBytes *seal_batch(MscTransfer *t, const MscAheadPart *part, bool anew,
                          GBytes *data, GError **errp)
{
    const MscProvider *p = part->provider;
    g_autoptr(GPtrArray) sections = msc_sections_new();
    MscBatchMessage batch = { anew, msc_boot_us(), sections };
    MscContextSealer *sealer = msc_source_sealer(t, errp);
    g_autoptr(GBytes) plain = NULL;
    GBytes *chunk;

    if (!sealer) {
        return NULL;
    }
    msc_sections_add(sections, p->name, p->precopy->version,
                     p->precopy->version, data);
    plain = msc_batch_message_encode(&batch);
    chunk = msc_context_seal_batch(sealer, g_bytes_get_data(plain, NULL),
                                   g_bytes_get_size(plain), errp);
    if (chunk) {
        t->entry->stats.bytes += g_bytes_get_size(chunk);
    }
    return chunk;
}

/* *@chunk: what @part has to say, or NULL. */
static bool next(MscTransfer *t, MscAheadPart *part, MscPrecopyStatus *status,
                 GBytes **chunk, GError **errp)
{
    const MscPrecopy *precopy = part->provider->precopy;
    MscPrecopyProgress progress = { 0 };
    g_autoptr(GBytes) data = NULL;

    if (!part->memory && !begin(t, part, errp)) {
        return false;
    }
    data = precopy->next(part->memory, MSC_BATCH_PAYLOAD_MAX, &progress, errp);
    if (!data) {
        return false;
    }
    if (progress.anew) {
        g_message("%s: %s changed faster than could be followed; what was "
                  "sent is sent again",
                  t->entry->name, part->provider->name);
    }
    part->live = progress.live;
    status->sent += progress.sent;
    status->total += progress.total;
    status->backlog += progress.backlog;
    if (progress.anew || g_bytes_get_size(data)) {
        *chunk = seal_batch(t, part, progress.anew, data, errp);
        return *chunk;
    }
    return true;
}

bool msc_source_batch(MscTransfer *t, const GByteArray *in, GByteArray *out,
                      GError **errp)
{
    MscPrecopyStatus status = { .state = MSC_PRECOPY_OFF };
    g_autoptr(GBytes) chunk = NULL;

    (void)in;
    if (t->ahead->len && !MSC_FAULT_PASSES(BATCH, errp)) {
        return false;
    }
    for (guint i = 0; i < t->ahead->len && !chunk; i++) {
        if (!next(t, t->ahead->pdata[i], &status, &chunk, errp)) {
            return false;
        }
    }
    if (t->ahead->len) {
        status.state = MSC_PRECOPY_LIVE;
    }
    for (guint i = 0; i < t->ahead->len; i++) {
        const MscAheadPart *part = t->ahead->pdata[i];

        if (!part->live) {
            status.state = MSC_PRECOPY_BULK;
        }
    }
    t->entry->progress = status;
    msc_precopy_encode(&status, out);
    if (chunk) {
        msc_put_bytes(out, g_bytes_get_data(chunk, NULL),
                      g_bytes_get_size(chunk));
    }
    return true;
}

GBytes *msc_ahead_final(MscTransfer *t, MscAheadPart *part,
                        MscProviderStats *stats, GError **errp)
{
    g_autoptr(GBytes) nothing = g_bytes_new(NULL, 0);
    bool lost = false;
    GBytes *data =
        part->provider->precopy->final(part->memory, stats, &lost, errp);
    GBytes *chunk;

    /* Freeing what it remembers takes milliseconds: not now. */
    if (!data || !lost) {
        return data;
    }
    g_bytes_unref(data);
    g_message("%s: changes of %s were missed when the guest stopped; all of "
              "it is collected",
              t->entry->name, part->provider->name);
    chunk = seal_batch(t, part, true, nothing, errp);
    if (chunk) {
        g_queue_push_tail(t->chunks, chunk);
    }
    return NULL;
}
