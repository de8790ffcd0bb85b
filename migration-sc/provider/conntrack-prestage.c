/*
 * Pre-copy on the destination: batches go into the kernel as they come.
 *
 * Most flows of a batch are new here, so they are created without looking
 * first, and only those in whose way something stands are looked at: an
 * earlier version of the same flow, or what this host had before, which is
 * told to the journal and comes back if the migration fails.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-prestage.h"

#include <errno.h>
#include <string.h>

#include "conntrack-admission.h"
#include "conntrack-batch.h"
#include "conntrack-collect.h"
#include "conntrack-install.h"
#include "conntrack-watch.h"
#include "error.h"
#include "fault.h"

typedef struct {
    const MscSelector *selector;
    MscCt *ct;
    GHashTable *staged; /* set of msc_flow_key_hash() */
    /* Of the base, what could not be staged here; a set of keys.  It counts as
     * staged, but has to be withdrawn or sent again before the end. */
    GHashTable *missing;
    bool rebased; /* what is staged next is of the base */
    /* Validated last, which is staged next. */
    GBytes *bytes;
    MscBatch *batch;
} Destination;

typedef bool Replacing(GBytes *replaced, void *opaque, GError **errp);

gpointer msc_ct_destination_begin(const MscSelector *selector)
{
    Destination *d = g_new0(Destination, 1);

    d->selector = selector;
    d->staged = g_hash_table_new(NULL, NULL);
    d->missing = g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                                       (GDestroyNotify)g_bytes_unref, NULL);
    return d;
}

void msc_ct_destination_end(gpointer memory)
{
    Destination *d = memory;

    if (d) {
        msc_ct_close(d->ct);
        g_clear_pointer(&d->bytes, g_bytes_unref);
        msc_batch_free(d->batch);
        g_hash_table_unref(d->staged);
        g_hash_table_unref(d->missing);
        g_free(d);
    }
}

static gpointer hash_of(const MscFlow *flow)
{
    return GSIZE_TO_POINTER(msc_flow_hash(flow));
}

static bool is_staged(const Destination *d, const MscFlow *flow)
{
    return g_hash_table_contains(d->staged, hash_of(flow));
}

static bool check(const Destination *d, const MscBatch *batch, GError **errp)
{
    /* A tuple does not say whose it is, where the guest is behind NAT: so
     * only what came by this way can go by it. */
    for (guint i = 0; i < batch->gone->len; i++) {
        if (!is_staged(d, batch->gone->pdata[i])) {
            g_autofree char *text = msc_flow_describe(batch->gone->pdata[i]);

            g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                        "the context withdraws a flow that it never brought: "
                        "%s",
                        text);
            return false;
        }
    }
    return msc_payload_check(batch->payload, d->selector, errp);
}

/* Nothing is remembered after it. */
static MscBatch *take_decoded(Destination *d, GBytes *bytes, GError **errp)
{
    g_autoptr(GBytes) last = g_steal_pointer(&d->bytes);
    g_autoptr(MscBatch) batch = g_steal_pointer(&d->batch);

    return last == bytes ? g_steal_pointer(&batch)
                         : msc_batch_decode(bytes, errp);
}

bool msc_ct_destination_validate(gpointer memory, GBytes *bytes, GError **errp)
{
    Destination *d = memory;
    g_autoptr(MscBatch) batch = take_decoded(d, bytes, errp);

    if (!batch || !check(d, batch, errp)) {
        return false;
    }
    d->bytes = g_bytes_ref(bytes);
    d->batch = g_steal_pointer(&batch);
    return true;
}

static void note_missing(Destination *d, const MscFlow *flow)
{
    g_hash_table_add(d->staged, hash_of(flow));
    g_hash_table_add(d->missing, msc_flow_key(flow));
}

static void note_found(Destination *d, const MscFlow *flow)
{
    if (g_hash_table_size(d->missing)) {
        g_autoptr(GBytes) key = msc_flow_key(flow);

        g_hash_table_remove(d->missing, key);
    }
}

GBytes *msc_ct_destination_rebase(gpointer memory, GBytes *bytes,
                                  uint64_t age_us, GError **errp)
{
    g_autoptr(MscBatch) batch = msc_batch_decode(bytes, errp);
    uint64_t age = age_us / G_USEC_PER_SEC;
    Destination *d = memory;

    if (!batch) {
        return NULL;
    }
    d->rebased = true;
    for (guint i = batch->payload->flows->len; i; i--) {
        MscFlow *flow = batch->payload->flows->pdata[i - 1];
        uint32_t timeout = nfct_get_attr_u32(flow, ATTR_TIMEOUT);

        if (msc_payload_foreign(flow, d->selector)) {
            note_missing(d, flow);
        } else if (timeout <= age) {
            /* The source sends it if it lives on; else it may say so. */
            g_hash_table_add(d->staged, hash_of(flow));
        } else {
            nfct_set_attr_u32(flow, ATTR_TIMEOUT, timeout - (uint32_t)age);
            continue;
        }
        g_ptr_array_remove_index(batch->payload->flows, i - 1);
    }
    /* These come with the last batch only. */
    g_ptr_array_set_size(batch->payload->expects, 0);
    msc_payload_tidy(batch->payload, d->selector);
    return msc_batch_encode(batch);
}

bool msc_ct_destination_complete(gpointer memory, GError **errp)
{
    const Destination *d = memory;
    g_autofree char *text = NULL;
    GHashTableIter iter;
    MscFlow *flow;
    gpointer key;

    g_hash_table_iter_init(&iter, d->missing);
    if (!g_hash_table_iter_next(&iter, &key, NULL)) {
        return true;
    }
    flow = msc_flow_of_key(key);
    text = msc_flow_describe(flow);
    nfct_destroy(flow);
    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                "%u flows that the guest had when it was last here cannot be "
                "staged: they are not the guest's by this host's "
                "registration, or in use by others; one is %s",
                g_hash_table_size(d->missing), text);
    return false;
}

/* Tells of what this host had before; a master takes its expectations with
 * it. */
static bool tell_replaced(Destination *d, const MscPayload *stale,
                          Replacing *replacing, void *opaque, GError **errp)
{
    g_autoptr(MscPayload) old = msc_payload_new();
    g_autoptr(GBytes) bytes = NULL;
    GPtrArray *theirs;

    for (guint i = 0; i < stale->flows->len; i++) {
        if (!is_staged(d, stale->flows->pdata[i])) {
            g_ptr_array_add(old->flows, nfct_clone(stale->flows->pdata[i]));
        }
    }
    if (!old->flows->len && !stale->expects->len) {
        return true;
    }
    theirs = msc_collect_expects(d->ct, old->flows, errp);
    if (!theirs) {
        return false;
    }
    g_ptr_array_extend_and_steal(old->expects, theirs);
    for (guint i = 0; i < stale->expects->len; i++) {
        g_ptr_array_add(old->expects, nfexp_clone(stale->expects->pdata[i]));
    }
    bytes = msc_payload_encode(old);
    return replacing(bytes, opaque, errp);
}

/* Of @all, those that are staged here still: what a withdrawal may remove. */
static bool withdraw(Destination *d, const GPtrArray *gone, GError **errp)
{
    g_autofree int *results = g_new0(int, gone->len + 1);
    g_autoptr(GPtrArray) found = NULL;
    g_autoptr(GPtrArray) ours = g_ptr_array_new();

    if (!msc_ct_run(d->ct, MSC_CT_FIND, gone, results, &found, errp)) {
        return false;
    }
    for (guint i = 0; i < found->len; i++) {
        if (found->pdata[i] &&
            msc_flow_is_guests(found->pdata[i], d->selector)) {
            g_ptr_array_add(ours, found->pdata[i]);
        }
    }
    if (!msc_install_remove(d->ct, ours, errp)) {
        return false;
    }
    for (guint i = 0; i < gone->len; i++) {
        g_hash_table_remove(d->staged, hash_of(gone->pdata[i]));
        note_found(d, gone->pdata[i]);
    }
    return true;
}

/* Takes out of @exist what of the base is somebody else's now. */
static bool leave_clashes_out(Destination *d, GPtrArray *exist, GError **errp)
{
    for (guint i = exist->len; i; i--) {
        g_autoptr(GPtrArray) clashes = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GPtrArray) stale = msc_flows_new();
        g_autoptr(GPtrArray) one = g_ptr_array_new();

        g_ptr_array_add(one, exist->pdata[i - 1]);
        if (!msc_conntrack_find_clashes(d->selector, one, stale, clashes,
                                        errp)) {
            return false;
        }
        if (clashes->len) {
            note_missing(d, exist->pdata[i - 1]);
            g_ptr_array_remove_index(exist, i - 1);
        }
    }
    return true;
}

/* Makes room for @exist (flows to be created) and @expects, and creates the
 * flows. */
static bool replace(Destination *d, GPtrArray *exist, GPtrArray *expects,
                    Replacing *replacing, void *opaque, GError **errp)
{
    static const int nothing[] = { 0 };
    MscPayload wanted = { exist, expects };
    g_autoptr(MscPayload) stale = NULL;

    if (!exist->len && !expects->len) {
        return true;
    }
    stale = msc_install_find_stale(d->ct, d->selector, &wanted, errp);
    return stale && tell_replaced(d, stale, replacing, opaque, errp) &&
           msc_install_remove_all(d->ct, stale, errp) &&
           msc_install_flows(d->ct, exist, nothing, NULL, errp);
}

static bool install(Destination *d, const MscBatch *batch, uint64_t transit_us,
                    Replacing *replacing, void *opaque, GError **errp)
{
    static const int nothing[] = { 0 };
    static const int no_master[] = { ENOENT, 0 };
    g_autoptr(GPtrArray) flows =
        msc_install_copies(batch->payload->flows, transit_us, true);
    g_autoptr(GPtrArray) exist = g_ptr_array_new();
    bool based = d->rebased;

    d->rebased = false;
    for (guint i = 0; i < batch->payload->flows->len; i++) {
        note_found(d, batch->payload->flows->pdata[i]);
    }
    if (!msc_install_count_packets(batch->payload, errp) ||
        !withdraw(d, batch->gone, errp) ||
        !msc_install_flows(d->ct, flows, nothing, exist, errp) ||
        (based && !leave_clashes_out(d, exist, errp)) ||
        !replace(d, exist, batch->payload->expects, replacing, opaque, errp)) {
        return false;
    }
    /* Those whose time is over as well: they may be withdrawn yet. */
    for (guint i = 0; i < batch->payload->flows->len; i++) {
        g_hash_table_add(d->staged, hash_of(batch->payload->flows->pdata[i]));
    }
    return msc_install_expects(d->ct, batch->payload->expects, transit_us,
                               no_master, errp);
}

bool msc_ct_destination_stage(gpointer memory, GBytes *bytes,
                              uint64_t transit_us, Replacing *replacing,
                              void *opaque, uint64_t *entries, GError **errp)
{
    Destination *d = memory;
    g_autoptr(MscBatch) batch = take_decoded(d, bytes, errp);

    if (!batch || (!d->ct && !(d->ct = msc_ct_open(errp))) ||
        !install(d, batch, transit_us, replacing, opaque, errp)) {
        return false;
    }
    *entries = g_hash_table_size(d->staged);
    return true;
}

/* An entry that waits to be replaced is there with a batch's tuple, too. */
static void keep_older(GPtrArray *flows, uint64_t since_us)
{
    for (guint i = flows->len; i; i--) {
        if (msc_watch_began_before(flows->pdata[i - 1], since_us)) {
            g_ptr_array_remove_index_fast(flows, i - 1);
        }
    }
}

bool msc_ct_unstage(const MscSelector *s, GBytes *bytes, uint64_t since_us,
                    GError **errp)
{
    g_autoptr(MscBatch) batch = msc_batch_decode(bytes, errp);
    g_autoptr(GPtrArray) there = msc_flows_new();
    g_autoptr(GPtrArray) others = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(MscCt) ct = batch ? msc_ct_open(errp) : NULL;

    /* What stands in the way may be why staging failed: it is not ours. */
    if (!ct || !msc_conntrack_find_clashes(s, batch->payload->flows, there,
                                           others, errp)) {
        return false;
    }
    keep_older(there, since_us);
    return msc_install_remove(ct, there, errp);
}

bool msc_ct_restore(const MscSelector *s, GBytes *replaced, GError **errp)
{
    static const int fine[] = { EEXIST, 0 };
    static const int fine_expect[] = { EEXIST, EBUSY, ENOENT, 0 };
    g_autoptr(MscPayload) old = msc_payload_decode(replaced, errp);
    g_autoptr(MscCt) ct = old ? msc_ct_open(errp) : NULL;

    (void)s;
    return ct && msc_install_create(ct, old, 0, false, fine, fine_expect, errp);
}

/* Takes what stays on this host by policy out of @flows. */
static void keep_behind(const MscSelector *s, const GArray *there,
                        GPtrArray *flows)
{
    for (guint i = flows->len; there && i; i--) {
        MscAddress address;

        if (msc_flow_nat_address(flows->pdata[i - 1], s, &address) &&
            !msc_address_in(&address, there)) {
            g_ptr_array_remove_index_fast(flows, i - 1);
        }
    }
}

bool msc_ct_retire_all(const MscSelector *s, GBytes *answer, GError **errp)
{
    g_autoptr(GArray) there =
        answer ? msc_conntrack_answer_decode(answer, errp) : NULL;
    g_autoptr(MscScan) scan = answer && !there ? NULL : msc_scan_new(s, errp);
    g_autoptr(MscCt) ct = scan ? msc_ct_open(errp) : NULL;
    g_autoptr(GPtrArray) flows = msc_flows_new();
    bool done = false;

    if (!ct) {
        return false;
    }
    while (!done) {
        if (!msc_scan_next(scan, flows, &done, errp)) {
            return false;
        }
        keep_behind(s, there, flows);
        if (!msc_install_remove(ct, flows, errp)) {
            return false;
        }
        g_ptr_array_set_size(flows, 0);
    }
    return true;
}
