/*
 * What goes into a batch of pre-copy on the source: flows with their masters,
 * withdrawals, expectations; and what is remembered of it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-precopy-private.h"

#include "conntrack-probe.h"
#include "error.h"

GHashTable *msc_ct_source_keys_new(void)
{
    return g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                                 (GDestroyNotify)g_bytes_unref, NULL);
}

bool msc_ct_source_has_sent(const MscCtSource *p, GBytes *key)
{
    return g_hash_table_contains(p->sent, msc_ct_source_hash(key));
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
    g_autoptr(GHashTable) have = msc_ct_source_keys_new();
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
static gpointer hash_but_timeout(const MscFlow *flow)
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
        g_hash_table_replace(p->silent, g_bytes_ref(key),
                             hash_but_timeout(flow));
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

bool msc_ct_source_fill(MscCtSource *p, MscBatch *batch, GPtrArray *flows,
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

bool msc_ct_source_put_changes(MscCtSource *p, MscBatch *batch, guint max,
                               GError **errp)
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
        if ((ended || !moves) && msc_ct_source_has_sent(p, keys->pdata[i])) {
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
    return msc_ct_source_fill(p, batch, flows, errp);
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

bool msc_ct_source_look_at_silent(MscCtSource *p, GError **errp)
{
    g_autoptr(GPtrArray) keys = keys_of(p->silent);
    g_autoptr(GPtrArray) found = NULL;

    if (!find(p, keys, &found, errp)) {
        return false;
    }
    for (guint i = 0; i < keys->len; i++) {
        if (!found->pdata[i] ||
            hash_but_timeout(found->pdata[i]) !=
                g_hash_table_lookup(p->silent, keys->pdata[i])) {
            msc_ct_source_touch(p, keys->pdata[i]);
        }
    }
    return true;
}

bool msc_ct_source_put_expects(MscCtSource *p, MscBatch *batch, GError **errp)
{
    g_autoptr(GPtrArray) keys = keys_of(p->helped);
    g_autoptr(GPtrArray) flows = msc_flows_new();
    g_autoptr(GPtrArray) masters = msc_flows_new();
    g_autoptr(GPtrArray) found = NULL;
    g_autoptr(GHashTable) wanted = msc_ct_source_keys_new();
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
    return msc_ct_source_fill(p, batch, masters, errp);
}
