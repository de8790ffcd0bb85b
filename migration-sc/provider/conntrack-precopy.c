/*
 * Pre-copy on the source: first every flow, then those that changed.
 *
 * A flow that changed is asked for when its turn comes, so it does not matter
 * in which order events come or how little they say.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-precopy-private.h"

#include "conntrack-admission.h"
#include "conntrack-probe.h"
#include "error.h"

/* Time-outs are refreshed without an event; so flows that have less than this
 * left are sent again and again. */
#define REFRESH_PERIOD (10 * G_USEC_PER_SEC)
#define REFRESH_BELOW_S 600
/* A table that changes faster than it can be followed must not keep the guest
 * from moving: after so many beginnings, or so long with a backlog, the rest
 * is left for the time when it is stopped. */
#define RESTARTS_MAX 3
#define CATCH_UP_MAX (30 * G_USEC_PER_SEC)
/* Replies of the kernel, some 100 flows each, that are read for one batch: of
 * a table that the other host has already, little comes of many. */
#define SCANNED_AT_ONCE 32

int msc_conntrack_event_buffer = MSC_WATCH_BUFFER;

gpointer msc_ct_source_hash(GBytes *key)
{
    return GSIZE_TO_POINTER(msc_flow_key_hash(key));
}

/* Forgets everything that was sent, and listens anew. */
static bool start(MscCtSource *p, GError **errp)
{
    msc_ct_source_forget_base(p);
    g_clear_pointer(&p->scan, msc_scan_free);
    g_clear_pointer(&p->watch, msc_watch_free);
    g_ptr_array_set_size(p->pending, 0);
    g_hash_table_remove_all(p->touched);
    g_hash_table_remove_all(p->silent);
    g_hash_table_remove_all(p->helped);
    g_hash_table_remove_all(p->sent);
    g_hash_table_remove_all(p->behind);
    p->live = false;
    p->began_us = g_get_monotonic_time();
    /* Whatever changes during the scan is heard of. */
    p->watch = msc_watch_new(msc_conntrack_event_buffer, errp);
    p->scan = p->watch ? msc_scan_new(p->selector, errp) : NULL;
    return p->scan;
}

gpointer msc_ct_source_begin(const MscSelector *selector, GError **errp)
{
    MscCtSource *p = g_new0(MscCtSource, 1);

    msc_watch_check();
    p->selector = selector;
    p->pending = msc_flows_new();
    p->touched = msc_ct_source_keys_new();
    p->silent = msc_ct_source_keys_new();
    p->helped = msc_ct_source_keys_new();
    p->sent = g_hash_table_new(NULL, NULL);
    p->behind = g_hash_table_new(NULL, NULL);
    if (!(p->ct = msc_ct_open(errp)) || !start(p, errp)) {
        msc_ct_source_end(p);
        return NULL;
    }
    return p;
}

GBytes *msc_ct_source_summarize(gpointer memory, size_t max, GError **errp)
{
    MscCtSource *p = memory;

    return msc_conntrack_summarize_scan(p->scan, max, &p->expected, errp);
}

bool msc_ct_source_admitted(gpointer memory, GBytes *answer, GError **errp)
{
    MscCtSource *p = memory;

    p->there = msc_conntrack_answer_decode(answer, errp);
    return p->there;
}

void msc_ct_source_end(gpointer memory)
{
    MscCtSource *p = memory;

    if (!p) {
        return;
    }
    msc_ct_source_forget_base(p);
    msc_scan_free(p->scan);
    msc_watch_free(p->watch);
    msc_ct_close(p->ct);
    g_ptr_array_unref(p->pending);
    g_hash_table_unref(p->touched);
    g_hash_table_unref(p->silent);
    g_hash_table_unref(p->helped);
    g_hash_table_unref(p->sent);
    g_hash_table_unref(p->behind);
    g_clear_pointer(&p->there, g_array_unref);
    g_free(p);
}

static void see(const MscFlow *flow, bool ended, void *opaque)
{
    MscCtSource *p = opaque;
    GBytes *key = msc_flow_key(flow);

    /* One that was the guest's and is no more (its mark changed) counts. */
    if (msc_flow_is_scratch(flow) || (!msc_flow_belongs(flow, p->selector) &&
                                      !msc_ct_source_has_sent(p, key))) {
        g_bytes_unref(key);
        return;
    }
    ended = ended || g_hash_table_lookup(p->touched, key);
    g_hash_table_replace(p->touched, key, GINT_TO_POINTER(ended));
}

/* The first @max of @all. */
static GPtrArray *take_out(GPtrArray *all, guint max)
{
    GPtrArray *some = msc_flows_new();
    guint count = MIN(max, all->len);

    for (guint i = 0; i < count; i++) {
        g_ptr_array_add(some, g_steal_pointer(&all->pdata[i]));
    }
    if (count) {
        g_ptr_array_remove_range(all, 0, count);
    }
    return some;
}

/* A refresh is for what may run out on the other host meanwhile. */
static void drop_long_lived(MscCtSource *p, guint from)
{
    guint below =
        MAX(REFRESH_BELOW_S, (guint)((g_get_monotonic_time() - p->began_us) /
                                     G_USEC_PER_SEC * 4));

    for (guint i = p->pending->len; i > from; i--) {
        if (nfct_get_attr_u32(p->pending->pdata[i - 1], ATTR_TIMEOUT) >=
            below) {
            g_ptr_array_remove_index_fast(p->pending, i - 1);
        }
    }
}

void msc_ct_source_go_live(MscCtSource *p)
{
    msc_ct_source_forget_base(p);
    p->live = true;
    p->live_us = g_get_monotonic_time();
}

void msc_ct_source_touch(MscCtSource *p, GBytes *key)
{
    if (!g_hash_table_contains(p->touched, key)) {
        g_hash_table_insert(p->touched, g_bytes_ref(key), NULL);
    }
}

/* One step of the scan. */
static bool scan_some(MscCtSource *p, GError **errp)
{
    guint before = p->pending->len;
    bool done;

    if (!msc_scan_next(p->scan, p->pending, &done, errp)) {
        return false;
    }
    if (p->live) {
        drop_long_lived(p, before);
    } else if (p->known && !msc_ct_source_drop_known(p, before, errp)) {
        return false;
    }
    if (done) {
        g_clear_pointer(&p->scan, msc_scan_free);
        p->scanned_us = g_get_monotonic_time();
        if (!p->live && !p->known) {
            msc_ct_source_go_live(p);
        }
    }
    return true;
}

static void tell_progress(const MscCtSource *p, MscPrecopyProgress *progress)
{
    progress->sent = g_hash_table_size(p->sent);
    progress->total =
        p->live ? progress->sent : MAX(progress->sent, p->expected);
    progress->backlog = g_hash_table_size(p->touched) + p->pending->len;
    progress->live = p->restarts > RESTARTS_MAX ||
                     (p->live && !p->pending->len &&
                      (g_hash_table_size(p->touched) <= MSC_BATCH_FLOWS ||
                       g_get_monotonic_time() - p->live_us > CATCH_UP_MAX));
}

/* A base that cannot be read after all is none. */
static void lose_base(const GError *err)
{
    g_message("conntrack: the guest's base cannot be read, all of it is sent: "
              "%s",
              err->message);
}

/* Reads on: to the end of a batch at first, then now and then a little. */
static bool scan_for_batch(MscCtSource *p, GError **errp)
{
    for (int i = 0; i < SCANNED_AT_ONCE && !p->live && p->scan &&
                    p->pending->len < MSC_BATCH_FLOWS;
         i++) {
        if (!scan_some(p, errp)) {
            return false;
        }
    }
    if (!p->live || p->pending->len) {
        return true;
    }
    if (!p->scan && g_get_monotonic_time() - p->scanned_us >= REFRESH_PERIOD) {
        p->scan = msc_scan_new(p->selector, errp);
        if (!p->scan) {
            return false;
        }
    }
    /* Changes have every other turn at least. */
    p->refreshed = p->scan && (!p->refreshed || !g_hash_table_size(p->touched));
    return !p->refreshed || scan_some(p, errp);
}

GBytes *msc_ct_source_next(gpointer memory, size_t max,
                           MscPrecopyProgress *progress, GError **errp)
{
    MscCtSource *p = memory;
    g_autoptr(MscBatch) batch = msc_batch_new();
    g_autoptr(GError) err = NULL;
    GBytes *bytes;
    bool lost;

    progress->anew = false;
    progress->based = 0;
    if (!msc_watch_read(p->watch, see, p, &lost, errp)) {
        return NULL;
    }
    p->restarts += lost;
    if (!lost && p->known && !msc_ct_source_step_base(p, progress, &err)) {
        lose_base(err);
        progress->based = 0;
        lost = true;
    }
    if (progress->based) {
        tell_progress(p, progress);
        return g_bytes_new(NULL, 0);
    }
    if (lost) {
        progress->anew = true;
        if (!start(p, errp)) {
            return NULL;
        }
    }
    if (!scan_for_batch(p, errp)) {
        return NULL;
    }
    /* Never both in one batch, and what was read before what was heard of
     * since: older news must not overtake later ones. */
    if (p->pending->len) {
        g_autoptr(GPtrArray) some = take_out(p->pending, MSC_BATCH_FLOWS);

        if (!msc_ct_source_fill(p, batch, some, errp)) {
            return NULL;
        }
    } else if ((p->live || !p->scan) &&
               !msc_ct_source_put_changes(p, batch, MSC_BATCH_FLOWS, errp)) {
        return NULL;
    }
    tell_progress(p, progress);
    if (!batch->gone->len && !batch->payload->flows->len && !progress->anew) {
        return g_bytes_new(NULL, 0);
    }
    bytes = msc_batch_encode(batch);
    if (g_bytes_get_size(bytes) > max) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                    "conntrack batch of %zu bytes, at most %zu",
                    g_bytes_get_size(bytes), max);
        g_clear_pointer(&bytes, g_bytes_unref);
    }
    return bytes;
}

/* The first scan goes on to its end, and what was read is read again. */
static bool end_scan(MscCtSource *p, GError **errp)
{
    if (p->live) {
        g_clear_pointer(&p->scan, msc_scan_free);
    }
    while (p->scan) {
        if (!scan_some(p, errp)) {
            return false;
        }
    }
    for (guint i = 0; i < p->pending->len; i++) {
        g_autoptr(GBytes) key = msc_flow_key(p->pending->pdata[i]);

        msc_ct_source_touch(p, key);
    }
    g_ptr_array_set_size(p->pending, 0);
    return true;
}

GBytes *msc_ct_source_final(gpointer memory, MscProviderStats *stats,
                            bool *lost, GError **errp)
{
    MscCtSource *p = memory;
    g_autoptr(MscBatch) batch = msc_batch_new();
    g_autoptr(GError) err = NULL;

    if (!end_scan(p, errp) || !msc_watch_read(p->watch, see, p, lost, errp)) {
        return NULL;
    }
    if (!*lost && p->known && !msc_ct_source_settle_base(p, G_MAXUINT, &err)) {
        lose_base(err);
        *lost = true;
    }
    if (*lost) {
        return g_bytes_new(NULL, 0);
    }
    if (!msc_ct_source_look_at_silent(p, errp) ||
        !msc_ct_source_put_changes(p, batch, G_MAXUINT, errp) ||
        !msc_ct_source_put_expects(p, batch, errp)) {
        return NULL;
    }
    stats->entries = g_hash_table_size(p->sent);
    stats->left_behind = g_hash_table_size(p->behind);
    return msc_batch_encode(batch);
}
