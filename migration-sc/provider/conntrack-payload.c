/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-payload.h"

#include "error.h"

MscPayload *msc_payload_of(GPtrArray *flows, GPtrArray *expects)
{
    MscPayload *payload = g_new(MscPayload, 1);

    payload->flows = flows;
    payload->expects = expects;
    return payload;
}

MscPayload *msc_payload_new(void)
{
    return msc_payload_of(msc_flows_new(), msc_expects_new());
}

void msc_payload_free(MscPayload *payload)
{
    if (payload) {
        g_ptr_array_unref(payload->flows);
        g_ptr_array_unref(payload->expects);
        g_free(payload);
    }
}

static GHashTable *keys_new(void)
{
    return g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                                 (GDestroyNotify)g_bytes_unref, NULL);
}

static bool has_master(GHashTable *keys, const MscFlow *flow)
{
    g_autoptr(GBytes) key = msc_flow_master_key(flow);

    return g_hash_table_contains(keys, key);
}

/* Moves the flows of @from that can stand next to @out; the others stay. */
static void take_ready(GPtrArray *from, GPtrArray *out, GHashTable *placed)
{
    guint left = 0;

    for (guint i = 0; i < from->len; i++) {
        MscFlow *flow = from->pdata[i];

        if (msc_flow_is_child(flow) && !has_master(placed, flow)) {
            from->pdata[left++] = flow;
            continue;
        }
        g_hash_table_add(placed, msc_flow_key(flow));
        g_ptr_array_add(out, flow);
    }
    g_ptr_array_set_size(from, (gint)left);
}

static void masters_first(MscPayload *payload)
{
    g_autoptr(GHashTable) placed = keys_new();
    GPtrArray *from = payload->flows;
    GPtrArray *out = msc_flows_new();

    g_ptr_array_set_free_func(from, NULL);
    while (from->len) {
        guint before = from->len;

        take_ready(from, out, placed);
        if (from->len == before) {
            /* The master of none of them is here.  (Children of children
             * wait for the next round; a circle is broken here as well.) */
            g_autoptr(GHashTable) waiting = keys_new();
            bool any = false;

            for (guint i = 0; i < from->len; i++) {
                g_hash_table_add(waiting, msc_flow_key(from->pdata[i]));
            }
            for (guint i = 0; i < from->len; i++) {
                if (!has_master(waiting, from->pdata[i])) {
                    msc_flow_orphan(from->pdata[i]);
                    any = true;
                }
            }
            if (!any) {
                msc_flow_orphan(from->pdata[0]);
            }
        }
    }
    g_ptr_array_unref(from);
    payload->flows = out;
}

static bool has_children(const MscPayload *payload)
{
    for (guint i = 0; i < payload->flows->len; i++) {
        if (msc_flow_is_child(payload->flows->pdata[i])) {
            return true;
        }
    }
    return false;
}

void msc_payload_tidy(MscPayload *payload, const MscSelector *s)
{
    g_autoptr(GHashTable) keys = NULL;

    if (!payload->expects->len && !has_children(payload)) {
        return; /* as nearly always */
    }
    keys = keys_new();
    masters_first(payload);
    for (guint i = 0; i < payload->flows->len; i++) {
        g_hash_table_add(keys, msc_flow_key(payload->flows->pdata[i]));
    }
    for (guint i = payload->expects->len; i; i--) {
        const MscExpect *expect = payload->expects->pdata[i - 1];
        g_autoptr(GBytes) master = msc_expect_master_key(expect);

        if (!g_hash_table_contains(keys, master) ||
            !msc_expect_belongs(expect, s)) {
            g_ptr_array_remove_index(payload->expects, i - 1);
        }
    }
}

static bool refuse_flow(const MscFlow *flow, const char *why, GError **errp)
{
    g_autofree char *text = msc_flow_describe(flow);

    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED, "the context holds %s: %s",
                why, text);
    return false;
}

const char *msc_payload_foreign(const MscFlow *flow, const MscSelector *s)
{
    MscAddress address;

    if (!msc_flow_belongs(flow, s)) {
        return "a flow that is not the guest's by this host's registration";
    }
    if (msc_flow_nat_address(flow, s, &address) &&
        !msc_address_in(&address, s->addresses) &&
        !msc_address_in(&address, s->nat_addresses)) {
        return "a flow translated to an address that is not the guest's on "
               "this host";
    }
    return NULL;
}

static bool check_flow(const MscFlow *flow, GHashTable *before,
                       const MscSelector *s, GError **errp)
{
    g_autoptr(GBytes) key = msc_flow_key(flow);
    const char *foreign = msc_payload_foreign(flow, s);

    if (foreign) {
        return refuse_flow(flow, foreign, errp);
    }
    if (msc_flow_is_child(flow) && !has_master(before, flow)) {
        return refuse_flow(flow, "a flow whose master does not come before it",
                           errp);
    }
    if (!g_hash_table_add(before, g_steal_pointer(&key))) {
        return refuse_flow(flow, "a flow twice", errp);
    }
    return true;
}

static bool check_expect(const MscExpect *expect, GHashTable *flows,
                         const MscSelector *s, GError **errp)
{
    g_autoptr(GBytes) master = msc_expect_master_key(expect);
    const char *why = NULL;

    if (!g_hash_table_contains(flows, master)) {
        why = "without its master";
    } else if (!msc_expect_belongs(expect, s)) {
        why = "that is not the guest's";
    }
    if (why) {
        g_autofree char *text = msc_expect_describe(expect);

        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "the context holds an expectation %s: %s", why, text);
        return false;
    }
    return true;
}

bool msc_payload_check(const MscPayload *payload, const MscSelector *s,
                       GError **errp)
{
    g_autoptr(GHashTable) keys = keys_new();

    for (guint i = 0; i < payload->flows->len; i++) {
        if (!check_flow(payload->flows->pdata[i], keys, s, errp)) {
            return false;
        }
    }
    for (guint i = 0; i < payload->expects->len; i++) {
        if (!check_expect(payload->expects->pdata[i], keys, s, errp)) {
            return false;
        }
    }
    return true;
}
