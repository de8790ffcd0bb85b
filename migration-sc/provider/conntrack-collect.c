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
/* Of what was read before it is wanted, a flow with less than this left, or
 * than four times what passed since, may have been refreshed or be over. */
#define ASKED_AGAIN_BELOW_S 60
/* About what one answer of the kernel holds. */
#define GIVEN_AT_ONCE 128

/* One question to the kernel.  Those for responders come after those for
 * originators, and leave out what these have shown. */
typedef struct {
    MscCtQuery query;
    bool responders;
} Question;

struct MscScan {
    const MscSelector *selector;
    MscCt *ct;
    GArray *questions; /* of Question */
    guint next;        /* to be asked */
    bool asking;       /* the one before it */
    bool read_all;     /* the answers to all of them */
    /* Read ahead. */
    GPtrArray *kept;
    guint given;    /* of these */
    gint64 kept_us; /* since then, monotonic */
};

static void add_question(MscScan *scan, const MscCtQuery *query,
                         bool responders)
{
    const Question question = { *query, responders };

    g_array_append_val(scan->questions, question);
}

/* By address where the kernel can; else the family's whole table, once. */
static void ask_by_address(MscScan *scan, MscCtQuery query, guint filters)
{
    const GArray *list = scan->selector->addresses;
    bool whole[2] = { false, false };

    for (int responders = 0; responders <= 1; responders++) {
        for (guint i = 0; i < list->len; i++) {
            const MscAddress *a = &g_array_index(list, MscAddress, i);
            bool v4 = a->family == AF_INET;

            if (!(filters & (v4 ? MSC_FILTER_IPV4 : MSC_FILTER_IPV6))) {
                whole[v4] = true;
                continue;
            }
            query.family = a->family;
            query.originator = responders ? NULL : a;
            query.responder = responders ? a : NULL;
            add_question(scan, &query, responders);
        }
    }
    query.originator = query.responder = NULL;
    for (int v4 = 0; v4 <= 1; v4++) {
        query.family = v4 ? AF_INET : AF_INET6;
        if (whole[v4]) {
            add_question(scan, &query, false);
        }
    }
}

MscScan *msc_scan_new(const MscSelector *s, GError **errp)
{
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
    MscScan *scan = g_new0(MscScan, 1);

    scan->selector = s;
    scan->questions = g_array_new(FALSE, FALSE, sizeof(Question));
    scan->kept = msc_flows_new();
    scan->ct = msc_ct_open(errp);
    if (!scan->ct) {
        msc_scan_free(scan);
        return NULL;
    }
    if (!narrow && s->addresses->len && s->addresses->len <= ADDRESSES_MAX) {
        ask_by_address(scan, query, filters);
    } else {
        add_question(scan, &query, false);
    }
    return scan;
}

void msc_scan_free(MscScan *scan)
{
    if (scan) {
        msc_ct_close(scan->ct);
        g_array_unref(scan->questions);
        g_ptr_array_unref(scan->kept);
        g_free(scan);
    }
}

typedef struct {
    const MscSelector *selector;
    bool responders;
    GPtrArray *flows;
} Taking;

static bool take(MscFlow *flow, void *opaque)
{
    Taking *t = opaque;

    /* The guest's zone may hold another guest's probe. */
    if (msc_flow_is_scratch(flow) || !msc_flow_belongs(flow, t->selector) ||
        (t->responders && msc_flow_is_originator(flow, t->selector))) {
        nfct_destroy(flow);
    } else {
        g_ptr_array_add(t->flows, flow);
    }
    return true;
}

static bool read_some(MscScan *scan, GPtrArray *flows, GError **errp)
{
    Taking t = { .selector = scan->selector, .flows = flows };
    const Question *q;
    bool answered = false;

    if (!scan->asking) {
        q = &g_array_index(scan->questions, Question, scan->next);
        if (!msc_ct_query_begin(scan->ct, &q->query, errp)) {
            return false;
        }
        scan->next++;
        scan->asking = true;
    }
    q = &g_array_index(scan->questions, Question, scan->next - 1);
    t.responders = q->responders;
    if (!msc_ct_query_next(scan->ct, take, &t, &answered, errp)) {
        return false;
    }
    scan->asking = !answered;
    scan->read_all = answered && scan->next == scan->questions->len;
    return true;
}

bool msc_scan_ahead(MscScan *scan, bool *done, GError **errp)
{
    g_assert(!scan->given);
    if (!scan->kept->len) {
        scan->kept_us = g_get_monotonic_time();
    }
    if (!read_some(scan, scan->kept, errp)) {
        return false;
    }
    *done = scan->read_all;
    return true;
}

const GPtrArray *msc_scan_kept(const MscScan *scan)
{
    return scan->kept;
}

/* Appends what has become of @old to @flows. */
static bool ask_again(MscScan *scan, const GPtrArray *old, GPtrArray *flows,
                      GError **errp)
{
    /* One of its own: the other may be in the middle of an answer. */
    g_autoptr(MscCt) ct = msc_ct_open(errp);
    g_autofree int *results = g_new0(int, old->len);
    g_autoptr(GPtrArray) found = NULL;

    if (!ct || !msc_ct_run(ct, MSC_CT_FIND, old, results, &found, errp)) {
        return false;
    }
    for (guint i = 0; i < found->len; i++) {
        if (found->pdata[i] &&
            msc_flow_belongs(found->pdata[i], scan->selector)) {
            g_ptr_array_add(flows, g_steal_pointer(&found->pdata[i]));
        }
    }
    return true;
}

static bool give_some(MscScan *scan, GPtrArray *flows, GError **errp)
{
    guint32 age =
        (guint32)((g_get_monotonic_time() - scan->kept_us) / G_USEC_PER_SEC);
    guint to = MIN(scan->kept->len, scan->given + GIVEN_AT_ONCE);
    g_autoptr(GPtrArray) doubtful = msc_flows_new();

    for (; scan->given < to; scan->given++) {
        MscFlow *flow = g_steal_pointer(&scan->kept->pdata[scan->given]);
        guint32 left = nfct_get_attr_u32(flow, ATTR_TIMEOUT);

        if (left < MAX(ASKED_AGAIN_BELOW_S, 4 * age)) {
            g_ptr_array_add(doubtful, flow);
        } else {
            nfct_set_attr_u32(flow, ATTR_TIMEOUT, left - age);
            g_ptr_array_add(flows, flow);
        }
    }
    return !doubtful->len || ask_again(scan, doubtful, flows, errp);
}

bool msc_scan_next(MscScan *scan, GPtrArray *flows, bool *done, GError **errp)
{
    bool ok = true;

    if (scan->given < scan->kept->len) {
        ok = give_some(scan, flows, errp);
    } else if (!scan->read_all) {
        ok = read_some(scan, flows, errp);
    }
    *done = scan->read_all && scan->given == scan->kept->len;
    return ok;
}

GPtrArray *msc_collect_flows(const MscSelector *s, GError **errp)
{
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                              (GDestroyNotify)g_bytes_unref, NULL);
    g_autoptr(GPtrArray) flows = msc_flows_new();
    g_autoptr(MscScan) scan = msc_scan_new(s, errp);
    bool done = !scan;

    while (!done) {
        guint from = flows->len, to = from;

        if (!msc_scan_next(scan, flows, &done, errp)) {
            return NULL;
        }
        for (guint i = from; i < flows->len; i++) {
            MscFlow *flow = flows->pdata[i];

            flows->pdata[i] = NULL;
            if (g_hash_table_add(seen, msc_flow_key(flow))) {
                flows->pdata[to++] = flow;
            } else {
                nfct_destroy(flow);
            }
        }
        g_ptr_array_set_size(flows, (gint)to);
    }
    return scan ? g_steal_pointer(&flows) : NULL;
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
