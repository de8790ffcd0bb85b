/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-collect.h"

#include "conntrack-probe.h"

/* Each address costs two walks over the host's whole table; one walk that
 * shows everything costs as much as about this many that show little. */
#define ADDRESSES_MAX 8
/* From here on one look at all expectations of the host, of which there are
 * few thousands at most, saves a question for each flow that has none. */
#define MASTERS_MAX 16

typedef struct {
    const MscSelector *selector;
    GPtrArray *flows;
    GHashTable *seen;
} Collection;

static bool take(MscFlow *flow, void *opaque)
{
    Collection *c = opaque;

    /* The guest's zone may hold another guest's probe. */
    if (msc_flow_is_scratch(flow) || !msc_flow_belongs(flow, c->selector)) {
        nfct_destroy(flow);
        return true;
    }
    /* A table that is resized during the dump shows entries twice, and so do
     * queries that overlap. */
    if (g_hash_table_add(c->seen, msc_flow_key(flow))) {
        g_ptr_array_add(c->flows, flow);
    } else {
        nfct_destroy(flow);
    }
    return true;
}

static bool query_address(MscCt *ct, MscCtQuery query, const MscAddress *a,
                          Collection *c, GError **errp)
{
    query.family = a->family;
    query.originator = a;
    if (!msc_ct_query(ct, &query, take, c, errp)) {
        return false;
    }
    query.originator = NULL;
    query.responder = a;
    return msc_ct_query(ct, &query, take, c, errp);
}

/* By address where the kernel can; else the family's whole table, once. */
static bool query_addresses(MscCt *ct, MscCtQuery query, guint filters,
                            Collection *c, GError **errp)
{
    const GArray *list = c->selector->addresses;
    bool whole[2] = { false, false };

    for (guint i = 0; i < list->len; i++) {
        const MscAddress *a = &g_array_index(list, MscAddress, i);
        bool v4 = a->family == AF_INET;

        if (!(filters & (v4 ? MSC_FILTER_IPV4 : MSC_FILTER_IPV6))) {
            whole[v4] = true;
        } else if (!query_address(ct, query, a, c, errp)) {
            return false;
        }
    }
    for (int v4 = 0; v4 <= 1; v4++) {
        query.family = v4 ? AF_INET : AF_INET6;
        if (whole[v4] && !msc_ct_query(ct, &query, take, c, errp)) {
            return false;
        }
    }
    return true;
}

GPtrArray *msc_collect_flows(MscCt *ct, const MscSelector *s, GError **errp)
{
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                              (GDestroyNotify)g_bytes_unref, NULL);
    g_autoptr(GPtrArray) flows = msc_flows_new();
    Collection c = { s, flows, seen };
    const MscCtQuery query = {
        .has_zone = s->has_zone,
        .zone = s->zone,
        .has_mark = s->has_mark,
        .mark = s->mark,
        .mark_mask = s->mark_mask,
    };
    guint filters = msc_ct_filters();
    bool narrow = (s->has_zone && filters & MSC_FILTER_ZONE) ||
                  (s->has_mark && filters & MSC_FILTER_MARK);
    bool ok;

    if (!narrow && s->addresses->len && s->addresses->len <= ADDRESSES_MAX) {
        ok = query_addresses(ct, query, filters, &c, errp);
    } else {
        ok = msc_ct_query(ct, &query, take, &c, errp);
    }
    return ok ? g_steal_pointer(&flows) : NULL;
}

GPtrArray *msc_collect_expects(MscCt *ct, const GPtrArray *flows, GError **errp)
{
    g_autoptr(GPtrArray) expects = msc_expects_new();
    g_autoptr(GPtrArray) helped = g_ptr_array_new();
    g_autoptr(GHashTable) expecting = NULL;

    for (guint i = 0; i < flows->len; i++) {
        if (nfct_attr_is_set(flows->pdata[i], ATTR_HELPER_NAME) > 0) {
            g_ptr_array_add(helped, flows->pdata[i]);
        }
    }
    /* The guest decides how many these are, and it is waiting. */
    if (helped->len > MASTERS_MAX) {
        expecting = msc_ct_expecting(ct, errp);
        if (!expecting) {
            return NULL;
        }
    }
    for (guint i = 0; i < helped->len; i++) {
        g_autoptr(GBytes) key = msc_flow_key_in(helped->pdata[i], 0);

        if ((!expecting || g_hash_table_contains(expecting, key)) &&
            !msc_ct_expects_of(ct, helped->pdata[i], expects, errp)) {
            return NULL;
        }
    }
    return g_steal_pointer(&expects);
}
