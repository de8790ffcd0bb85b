/*
 * Pre-copy, the source's half.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "ahead.h"

#include <time.h>

#include "base.h"
#include "batch.h"
#include "error.h"
#include "fault.h"
#include "format.h"

static void end(MscAheadPart *part)
{
    if (part->memory) {
        part->end(part->memory);
        part->memory = NULL;
    }
    g_clear_pointer(&part->reading.opaque, g_free);
}

void msc_ahead_source_end(MscTransfer *t)
{
    for (guint i = 0; i < t->ahead->len; i++) {
        end(t->ahead->pdata[i]);
    }
}

GBytes *msc_ahead_summarize(MscTransfer *t, const MscProvider *p, size_t max,
                            GError **errp)
{
    uint16_t version = msc_ahead_version(t, p);
    MscAheadPart *part;

    if (!msc_ahead_told(p, version)) {
        return p->summarize(t->vm->selector, max, errp);
    }
    part = msc_ahead_add(t, p, version);
    part->memory = p->precopy->source_begin(t->vm->selector, errp);
    if (!part->memory) {
        return NULL;
    }
    return p->precopy->source_summarize
               ? p->precopy->source_summarize(part->memory, max, errp)
               : p->summarize(t->vm->selector, max, errp);
}

bool msc_ahead_source_negotiate(MscTransfer *t, GError **errp)
{
    for (guint i = t->ahead->len; i; i--) {
        MscAheadPart *part = t->ahead->pdata[i - 1];
        const MscProvider *p = part->provider;
        const MscSection *answer = msc_sections_find(t->answers, p->name);

        if (!answer || !msc_ahead_told(p, answer->version)) {
            end(part);
            g_ptr_array_remove_index(t->ahead, i - 1);
            continue;
        }
        if (!p->precopy->source_admitted(part->memory, answer->data, errp)) {
            return false;
        }
        part->keeps = answer->version == p->precopy->based;
        msc_base_accept(t, part);
    }
    return true;
}

MscContextSealer *msc_source_sealer(MscTransfer *t, GError **errp)
{
    if (!t->sealer) {
        t->sealer = msc_context_sealer_new(t->session, errp);
    }
    return t->sealer;
}

typedef struct {
    MscTransfer *t;
    MscAheadPart *part;
} Reading;

/* What is read of the base for the first time is the beginning of the next
 * one, as on the other host. */
static int read_base(void *opaque, GBytes **batch, uint64_t *age_us,
                     GError **errp)
{
    const Reading *r = opaque;
    uint64_t when_us, now = msc_boot_us();
    int got;

    if (!r->part->base) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "there is no base any more");
        return -1;
    }
    got = msc_base_reader_next(r->part->base, batch, &when_us, errp);
    if (got != 1) {
        r->part->reread = true;
        return got;
    }
    *age_us = now > when_us ? now - when_us : 0;
    if (!r->part->reread) {
        msc_base_note(r->t, r->part, *batch, when_us);
    }
    return 1;
}

static bool reread_base(void *opaque, GError **errp)
{
    const Reading *r = opaque;

    r->part->reread = true;
    return msc_base_reader_rewind(r->part->base, errp);
}

static void begin_with_base(MscTransfer *t, MscAheadPart *part)
{
    Reading *r = g_new(Reading, 1);

    *r = (Reading){ t, part };
    part->reading = (MscBase){ read_base, reread_base, r };
    part->reread = false;
    part->whole = msc_base_reader_head(part->base)->whole;
    part->logged = msc_base_reader_head(part->base)->bytes;
    part->provider->precopy->source_base(part->memory, &part->reading);
}

/* The first time, what the admission began goes on. */
static bool begin(MscTransfer *t, MscAheadPart *part, GError **errp)
{
    const MscPrecopy *precopy = part->provider->precopy;
    const MscSection *answer =
        msc_sections_find(t->answers, part->provider->name);

    if (!part->memory &&
        (!(part->memory = precopy->source_begin(t->vm->selector, errp)) ||
         !precopy->source_admitted(part->memory, answer->data, errp))) {
        return false;
    }
    if (part->base) {
        begin_with_base(t, part);
    }
    return true;
}

/* @data: a batch of @part's, or no bytes if it only voids; with
 * MSC_BATCH_BASED, how many batches of the base. */
static GBytes *seal_batch(MscTransfer *t, MscAheadPart *part, uint16_t flags,
                          GBytes *data, GError **errp)
{
    const MscProvider *p = part->provider;
    g_autoptr(GPtrArray) sections = msc_sections_new();
    MscBatchMessage batch = { flags, msc_boot_us(), sections };
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
    if (!chunk) {
        return NULL;
    }
    t->entry->stats.bytes += g_bytes_get_size(chunk);
    if (flags & MSC_BATCH_ANEW) {
        msc_base_void(part);
        part->logged = part->bulk = 0;
    }
    if (!(flags & MSC_BATCH_BASED) && g_bytes_get_size(data)) {
        part->logged += g_bytes_get_size(data);
        msc_base_note(t, part, data, batch.boot_us);
    }
    return chunk;
}

static GBytes *seal_base_step(MscTransfer *t, MscAheadPart *part,
                              uint32_t batches, GError **errp)
{
    g_autoptr(GByteArray) count = g_byte_array_new();
    g_autoptr(GBytes) data = NULL;

    msc_put_u32(count, batches);
    data = g_byte_array_free_to_bytes(g_steal_pointer(&count));
    return seal_batch(t, part, MSC_BATCH_BASED, data, errp);
}

/*
 * All changes are in the other host's log, and in the next base, until the end:
 * a pre-copy of an hour, with 10,000 changes a second, would fill its disk.  So
 * once they take more than all that was sent at first did (and enough to be
 * worth it), all is sent anew.  That at most doubles what is sent, and the log
 * is never more than twice as long as it must be.
 */
static bool crowded(const MscAheadPart *part)
{
    return part->bulk &&
           part->logged - part->bulk > MAX(part->bulk, part->changes_max);
}

/* In two turns: after the first the guest does not stop, and if it was about
 * to, nothing is lost yet. */
static bool begin_anew(MscTransfer *t, MscAheadPart *part, GBytes **chunk,
                       GError **errp)
{
    g_autoptr(GBytes) nothing = g_bytes_new(NULL, 0);

    part->progress.live = false;
    part->anew_next = !part->anew_next;
    if (part->anew_next) {
        return true;
    }
    g_message("%s: changes of %s take more than all of it; it is sent again",
              t->entry->name, part->provider->name);
    end(part);
    *chunk = seal_batch(t, part, MSC_BATCH_ANEW, nothing, errp);
    return *chunk;
}

/* *@chunk: what @part has to say, or NULL. */
static bool next(MscTransfer *t, MscAheadPart *part, GBytes **chunk,
                 GError **errp)
{
    const MscPrecopy *precopy = part->provider->precopy;
    MscPrecopyProgress progress = { 0 };
    g_autoptr(GBytes) data = NULL;

    if (part->progress.live && !part->bulk) {
        part->bulk = MAX(part->logged, 1);
    }
    if (crowded(part)) {
        return begin_anew(t, part, chunk, errp);
    }
    if ((!part->memory || !part->asked) && !begin(t, part, errp)) {
        return false;
    }
    part->asked = true;
    data = precopy->next(part->memory, MSC_BATCH_PAYLOAD_MAX, &progress, errp);
    if (!data) {
        return false;
    }
    if (progress.anew) {
        g_message("%s: what was sent of %s is void (it changed faster than "
                  "could be followed, or its base is lost); it is sent again",
                  t->entry->name, part->provider->name);
    }
    part->progress = progress;
    if (progress.based) {
        *chunk = seal_base_step(t, part, progress.based, errp);
        return *chunk;
    }
    if (progress.anew || g_bytes_get_size(data)) {
        *chunk =
            seal_batch(t, part, progress.anew ? MSC_BATCH_ANEW : 0, data, errp);
        return *chunk;
    }
    return true;
}

uint64_t msc_ahead_pause_us(uint64_t used, unsigned percent)
{
    return MIN(used * (100 - percent) / percent, MSC_AHEAD_PAUSE_MAX);
}

static uint64_t used_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * G_USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

bool msc_source_batch(MscTransfer *t, const GByteArray *in, GByteArray *out,
                      GError **errp)
{
    MscPrecopyStatus status = { .state = MSC_PRECOPY_OFF };
    g_autoptr(GBytes) chunk = NULL;
    uint64_t begun = used_us();

    (void)in;
    if (t->ahead->len && !MSC_FAULT_PASSES(BATCH, errp)) {
        return false;
    }
    /* In turns: one that always has something to say holds up no other. */
    for (guint i = 0; i < t->ahead->len && !chunk; i++) {
        if (!next(t, t->ahead->pdata[t->turn++ % t->ahead->len], &chunk,
                  errp)) {
            return false;
        }
    }
    if (t->ahead->len) {
        status.state = MSC_PRECOPY_LIVE;
    }
    for (guint i = 0; i < t->ahead->len; i++) {
        const MscAheadPart *part = t->ahead->pdata[i];

        status.sent += part->progress.sent;
        status.total += part->progress.total;
        status.backlog += part->progress.backlog;
        if (!part->progress.live) {
            status.state = MSC_PRECOPY_BULK;
        }
    }
    t->entry->progress = status;
    msc_precopy_encode(&status, out);
    if (chunk) {
        msc_put_bytes(out, g_bytes_get_data(chunk, NULL),
                      g_bytes_get_size(chunk));
    }
    /* The other guests, and what the host forwards, need processors as well.
     * Changes are few, and the guest may stop any time: they do not wait. */
    if (status.state == MSC_PRECOPY_BULK) {
        g_usleep(msc_ahead_pause_us(used_us() - begun,
                                    msc_hub_config(t->hub)->precopy_cpu));
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
    chunk = seal_batch(t, part, MSC_BATCH_ANEW, nothing, errp);
    if (chunk) {
        g_queue_push_tail(t->chunks, chunk);
    }
    return NULL;
}
