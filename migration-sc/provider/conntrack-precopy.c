/*
 * Pre-copy on the source: first every flow, then those that changed.
 *
 * A flow that changed is asked for when its turn comes, so it does not matter
 * in which order events come or how little they say.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-precopy-private.h"

#include <string.h>

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

static GHashTable *keys_new(void)
{
    return g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                                 (GDestroyNotify)g_bytes_unref, NULL);
}

gpointer msc_ct_source_hash(GBytes *key)
{
    return GSIZE_TO_POINTER(msc_flow_key_hash(key));
}

static bool is_sent(const MscCtSource *p, GBytes *key)
{
    return g_hash_table_contains(p->sent, msc_ct_source_hash(key));
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
    p->touched = keys_new();
    p->silent = keys_new();
    p->helped = keys_new();
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
    if (msc_flow_is_scratch(flow) ||
        (!msc_flow_belongs(flow, p->selector) && !is_sent(p, key))) {
        g_bytes_unref(key);
        return;
    }
    ended = ended || g_hash_table_lookup(p->touched, key);
    g_hash_table_replace(p->touched, key, GINT_TO_POINTER(ended));
}

bool msc_ct_source_can_move(MscCtSource *p, const MscFlow *flow, bool *moves,
                            GError **errp)
{
    g_autoptr(GBytes) key = NULL;
    MscAddress address;

    *moves = !p->there || !msc_flow_nat_address(flow, p->selector, &address) ||
             msc_address_in(&address, p->there);
    if (*moves) {
        return true;
    }
    if (p->selector->nat_policy != MSC_NAT_LEAVE_BEHIND) {
        g_autofree char *text = msc_flow_describe(flow);

        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "%s cannot survive on the other host; try again", text);
        return false;
    }
    key = msc_flow_key(flow);
    g_hash_table_add(p->behind, msc_ct_source_hash(key));
    return true;
}

static bool belongs(const MscCtSource *p, const MscFlow *flow)
{
    return !msc_flow_is_scratch(flow) && msc_flow_belongs(flow, p->selector);
}

/* Asks the kernel for @keys (of GBytes); the same places in *@found. */
static bool find(MscCtSource *p, const GPtrArray *keys, GPtrArray **found,
                 GError **errp)
{
    g_autoptr(GPtrArray) tuples = msc_flows_new();
    g_autofree int *results = g_new0(int, keys->len + 1);

    for (guint i = 0; i < keys->len; i++) {
        g_ptr_array_add(tuples, msc_flow_of_key(keys->pdata[i]));
    }
    return msc_ct_run(p->ct, MSC_CT_FIND, tuples, results, found, errp);
}

/* The masters of @flows from @from on that are not in @have. */
static GPtrArray *masters_wanted(const GPtrArray *flows, guint from,
                                 GHashTable *have)
{
    GPtrArray *wanted =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);

    for (guint i = from; i < flows->len; i++) {
        GBytes *master;

        if (!msc_flow_is_child(flows->pdata[i])) {
            continue;
        }
        master = msc_flow_master_key(flows->pdata[i]);
        if (g_hash_table_add(have, g_bytes_ref(master))) {
            g_ptr_array_add(wanted, g_bytes_ref(master));
        }
        g_bytes_unref(master);
    }
    return wanted;
}

/* A batch is whole by itself: children bring their masters; up to a bound,
 * beyond which they become flows of their own. */
static bool add_masters(MscCtSource *p, GPtrArray *flows, GError **errp)
{
    guint limit = flows->len + MAX(flows->len, MSC_BATCH_FLOWS);
    g_autoptr(GHashTable) have = keys_new();
    bool children = false;
    guint from = 0;

    for (guint i = 0; i < flows->len && !children; i++) {
        children = msc_flow_is_child(flows->pdata[i]);
    }
    for (guint i = 0; i < flows->len && children; i++) {
        g_hash_table_add(have, msc_flow_key(flows->pdata[i]));
    }
    if (!children) {
        return true;
    }
    while (from < flows->len && flows->len < limit) {
        g_autoptr(GPtrArray) wanted = masters_wanted(flows, from, have);
        g_autoptr(GPtrArray) found = NULL;

        from = flows->len;
        if (!wanted->len) {
            break;
        }
        if (!find(p, wanted, &found, errp)) {
            return false;
        }
        for (guint i = 0; i < found->len && flows->len < limit; i++) {
            if (found->pdata[i] && belongs(p, found->pdata[i])) {
                g_ptr_array_add(flows, g_steal_pointer(&found->pdata[i]));
            }
        }
    }
    return true;
}

/* Takes what cannot move out of @flows. */
static bool leave_behind(MscCtSource *p, GPtrArray *flows, GError **errp)
{
    for (guint i = flows->len; i; i--) {
        bool moves;

        if (!msc_ct_source_can_move(p, flows->pdata[i - 1], &moves, errp)) {
            return false;
        }
        if (!moves) {
            g_ptr_array_remove_index_fast(flows, i - 1);
        }
    }
    return true;
}

/* All that can change without an event, other than the time-out. */
static gpointer fingerprint(const MscFlow *flow)
{
    g_autoptr(GPtrArray) one = msc_flows_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) bytes = NULL;
    MscFlow *copy = nfct_clone(flow);

    nfct_set_attr_u32(copy, ATTR_TIMEOUT, 0);
    g_ptr_array_add(one, copy);
    msc_flows_encode(one, out);
    bytes = g_byte_array_free_to_bytes(g_steal_pointer(&out));
    return msc_ct_source_hash(bytes);
}

void msc_ct_source_note_sent(MscCtSource *p, const MscFlow *flow)
{
    bool silent = !msc_watch_tells(flow);
    bool helped = nfct_attr_is_set(flow, ATTR_HELPER_NAME) > 0;
    g_autoptr(GBytes) key = NULL;

    g_hash_table_add(p->sent, GSIZE_TO_POINTER(msc_flow_hash(flow)));
    if (!p->known && !silent && !helped) {
        return; /* as nearly always */
    }
    key = msc_flow_key(flow);
    if (p->known) {
        msc_known_settle(p->known, key);
    }
    if (silent) {
        g_hash_table_replace(p->silent, g_bytes_ref(key), fingerprint(flow));
    }
    if (helped) {
        g_hash_table_add(p->helped, g_bytes_ref(key));
    }
}

static void note_gone(MscCtSource *p, GBytes *key)
{
    g_hash_table_remove(p->sent, msc_ct_source_hash(key));
    g_hash_table_remove(p->silent, key);
    g_hash_table_remove(p->helped, key);
}

/* Takes @flows into @batch, and remembers what the other host will have. */
static bool fill(MscCtSource *p, MscBatch *batch, GPtrArray *flows,
                 GError **errp)
{
    if (!leave_behind(p, flows, errp) || !add_masters(p, flows, errp) ||
        !leave_behind(p, flows, errp)) {
        return false;
    }
    g_ptr_array_extend_and_steal(batch->payload->flows, g_ptr_array_ref(flows));
    msc_payload_tidy(batch->payload, p->selector);
    for (guint i = 0; i < batch->payload->flows->len; i++) {
        msc_ct_source_note_sent(p, batch->payload->flows->pdata[i]);
    }
    return true;
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

/* Up to @max of the flows that changed, as they are now. */
static bool changes(MscCtSource *p, MscBatch *batch, guint max, GError **errp)
{
    g_autoptr(GPtrArray) keys =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GPtrArray) flows = msc_flows_new();
    g_autoptr(GPtrArray) found = NULL;
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, p->touched);
    while (keys->len < max && g_hash_table_iter_next(&iter, &key, NULL)) {
        g_ptr_array_add(keys, g_bytes_ref(key));
    }
    if (!find(p, keys, &found, errp)) {
        return false;
    }
    for (guint i = 0; i < keys->len; i++) {
        bool ended = g_hash_table_lookup(p->touched, keys->pdata[i]);
        bool there = found->pdata[i] && belongs(p, found->pdata[i]);
        bool moves = there;

        if (there &&
            !msc_ct_source_can_move(p, found->pdata[i], &moves, errp)) {
            return false;
        }
        /* One that ended and began again is another one. */
        if ((ended || !moves) && is_sent(p, keys->pdata[i])) {
            g_ptr_array_add(batch->gone, msc_flow_of_key(keys->pdata[i]));
            note_gone(p, keys->pdata[i]);
        }
        if (moves) {
            g_ptr_array_add(flows, g_steal_pointer(&found->pdata[i]));
        } else if (!there) {
            g_hash_table_remove(p->behind, msc_ct_source_hash(keys->pdata[i]));
        }
        g_hash_table_remove(p->touched, keys->pdata[i]);
    }
    return fill(p, batch, flows, errp);
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

        if (!fill(p, batch, some, errp)) {
            return NULL;
        }
    } else if ((p->live || !p->scan) &&
               !changes(p, batch, MSC_BATCH_FLOWS, errp)) {
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

static GPtrArray *keys_of(GHashTable *table)
{
    GPtrArray *keys =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_ptr_array_add(keys, g_bytes_ref(key));
    }
    return keys;
}

/* Flows that tell nothing of themselves: has one changed? */
static bool look_at_silent(MscCtSource *p, GError **errp)
{
    g_autoptr(GPtrArray) keys = keys_of(p->silent);
    g_autoptr(GPtrArray) found = NULL;

    if (!find(p, keys, &found, errp)) {
        return false;
    }
    for (guint i = 0; i < keys->len; i++) {
        if (!found->pdata[i] ||
            fingerprint(found->pdata[i]) !=
                g_hash_table_lookup(p->silent, keys->pdata[i])) {
            msc_ct_source_touch(p, keys->pdata[i]);
        }
    }
    return true;
}

/* Expectations, with their masters: these have to be in the same batch. */
static bool add_expects(MscCtSource *p, MscBatch *batch, GError **errp)
{
    g_autoptr(GPtrArray) keys = keys_of(p->helped);
    g_autoptr(GPtrArray) flows = msc_flows_new();
    g_autoptr(GPtrArray) masters = msc_flows_new();
    g_autoptr(GPtrArray) found = NULL;
    g_autoptr(GHashTable) wanted = keys_new();
    GPtrArray *expects;

    if (!find(p, keys, &found, errp)) {
        return false;
    }
    for (guint i = 0; i < found->len; i++) {
        if (found->pdata[i] && belongs(p, found->pdata[i])) {
            g_ptr_array_add(flows, g_steal_pointer(&found->pdata[i]));
        }
    }
    expects = msc_collect_expects(p->ct, flows, errp);
    if (!expects) {
        return false;
    }
    for (guint i = 0; i < expects->len; i++) {
        g_hash_table_add(wanted, msc_expect_master_key(expects->pdata[i]));
    }
    g_ptr_array_extend_and_steal(batch->payload->expects, expects);
    for (guint i = 0; i < batch->payload->flows->len; i++) {
        g_autoptr(GBytes) key = msc_flow_key(batch->payload->flows->pdata[i]);

        g_hash_table_remove(wanted, key);
    }
    for (guint i = 0; i < flows->len; i++) {
        g_autoptr(GBytes) key = msc_flow_key(flows->pdata[i]);

        if (g_hash_table_contains(wanted, key)) {
            g_ptr_array_add(masters, g_steal_pointer(&flows->pdata[i]));
        }
    }
    return fill(p, batch, masters, errp);
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
    if (!look_at_silent(p, errp) || !changes(p, batch, G_MAXUINT, errp) ||
        !add_expects(p, batch, errp)) {
        return NULL;
    }
    stats->entries = g_hash_table_size(p->sent);
    stats->left_behind = g_hash_table_size(p->behind);
    return msc_batch_encode(batch);
}
