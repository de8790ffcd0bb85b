/*
 * What a payload holds as a whole: whose it is, masters and their children,
 * expectations.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <string.h>

#include "conntrack-codec.h"
#include "conntrack-needs.h"
#include "conntrack.h"
#include "error.h"

#define GUEST "10.0.0.1"
#define PEER "192.0.2.9"

static MscSelector *guest_selector(void)
{
    MscSelector *s = msc_selector_new();
    MscAddress a;

    g_assert_true(msc_address_parse(GUEST, &a, NULL));
    g_array_append_val(s->addresses, a);
    g_assert_true(msc_address_parse("203.0.113.1", &a, NULL));
    g_array_append_val(s->nat_addresses, a);
    return s;
}

static void set_tuple(MscFlow *flow, uint8_t l4, const char *src,
                      uint16_t sport, const char *dst, uint16_t dport)
{
    nfct_set_attr_u8(flow, ATTR_ORIG_L3PROTO, AF_INET);
    nfct_set_attr_u8(flow, ATTR_ORIG_L4PROTO, l4);
    nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_SRC, inet_addr(src));
    nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_DST, inet_addr(dst));
    nfct_set_attr_u16(flow, ATTR_ORIG_PORT_SRC, htons(sport));
    nfct_set_attr_u16(flow, ATTR_ORIG_PORT_DST, htons(dport));
}

static MscFlow *udp_flow(const char *src, uint16_t sport, uint16_t dport)
{
    MscFlow *flow = nfct_new();

    set_tuple(flow, IPPROTO_UDP, src, sport, PEER, dport);
    msc_flow_mirror_reply(flow);
    nfct_set_attr_u32(flow, ATTR_STATUS, 10);
    nfct_set_attr_u32(flow, ATTR_TIMEOUT, 60);
    return flow;
}

/* One that the flow from @sport of @src announced. */
static MscFlow *child_of(const char *src, uint16_t sport, uint16_t own_port)
{
    MscFlow *flow = udp_flow(GUEST, own_port, 21);

    nfct_set_attr_u32(flow, ATTR_STATUS, 10 | IPS_EXPECTED);
    nfct_set_attr_u8(flow, ATTR_MASTER_L3PROTO, AF_INET);
    nfct_set_attr_u8(flow, ATTR_MASTER_L4PROTO, IPPROTO_UDP);
    nfct_set_attr_u32(flow, ATTR_MASTER_IPV4_SRC, inet_addr(src));
    nfct_set_attr_u32(flow, ATTR_MASTER_IPV4_DST, inet_addr(PEER));
    nfct_set_attr_u16(flow, ATTR_MASTER_PORT_SRC, htons(sport));
    nfct_set_attr_u16(flow, ATTR_MASTER_PORT_DST, htons(21));
    return flow;
}

typedef struct {
    const char *src, *dst;
    const char *mask; /* of the source */
    uint16_t master_port;
    const char *nat; /* or NULL */
} Expected;

static MscExpect *expect_new(const Expected *row)
{
    MscExpect *expect = nfexp_new();
    MscFlow *tuple = nfct_new();

    set_tuple(tuple, IPPROTO_TCP, row->src, 0, row->dst, 4000);
    nfexp_set_attr(expect, ATTR_EXP_EXPECTED, tuple);
    set_tuple(tuple, IPPROTO_TCP, row->mask, 0, "255.255.255.255", 65535);
    nfexp_set_attr(expect, ATTR_EXP_MASK, tuple);
    set_tuple(tuple, IPPROTO_UDP, GUEST, row->master_port, PEER, 21);
    nfexp_set_attr(expect, ATTR_EXP_MASTER, tuple);
    if (row->nat) {
        set_tuple(tuple, IPPROTO_TCP, row->nat, 4001, "0.0.0.0", 0);
        nfexp_set_attr(expect, ATTR_EXP_NAT_TUPLE, tuple);
        nfexp_set_attr_u32(expect, ATTR_EXP_NAT_DIR, 1);
    }
    nfct_destroy(tuple);
    nfexp_set_attr_u16(expect, ATTR_EXP_ZONE, 0);
    nfexp_set_attr_u32(expect, ATTR_EXP_FLAGS, 0);
    nfexp_set_attr_u32(expect, ATTR_EXP_TIMEOUT, 100);
    nfexp_set_attr_u32(expect, ATTR_EXP_CLASS, 0);
    nfexp_set_attr(expect, ATTR_EXP_HELPER_NAME, "ftp");
    nfexp_set_attr(expect, ATTR_EXP_FN, "nat-follow-master");
    return expect;
}

static bool validates(const MscPayload *payload, const char *complaint)
{
    g_autoptr(MscSelector) s = guest_selector();
    g_autoptr(GBytes) bytes = msc_payload_encode(payload);
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;
    bool ok = msc_conntrack_provider.validate(s, bytes, &stats, &err);

    if (ok) {
        g_assert_cmpuint(stats.entries, ==, payload->flows->len);
    } else {
        g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
        if (complaint) {
            g_assert_nonnull(strstr(err->message, complaint));
        }
    }
    return ok;
}

static void add_flow(MscPayload *payload, MscFlow *flow)
{
    g_ptr_array_add(payload->flows, flow);
}

static void test_masters_come_first(void)
{
    g_autoptr(MscSelector) s = guest_selector();
    g_autoptr(MscPayload) payload = msc_payload_new();
    uint16_t last = 0;

    /* 1 announced 2, which announced 3, which announced 4. */
    add_flow(payload, child_of(GUEST, 3, 4));
    add_flow(payload, child_of(GUEST, 1, 2));
    add_flow(payload, child_of(GUEST, 2, 3));
    add_flow(payload, udp_flow(GUEST, 1, 21));
    g_assert_false(validates(payload, "master does not come before"));
    msc_payload_tidy(payload, s);
    g_assert_cmpuint(payload->flows->len, ==, 4);
    for (guint i = 0; i < payload->flows->len; i++) {
        uint16_t port = ntohs(
            nfct_get_attr_u16(payload->flows->pdata[i], ATTR_ORIG_PORT_SRC));

        g_assert_cmpuint(port, >, last);
        g_assert_true(msc_flow_is_child(payload->flows->pdata[i]) ==
                      (port > 1));
        last = port;
    }
    g_assert_true(validates(payload, NULL));
}

static void test_child_of_a_master_that_is_gone(void)
{
    g_autoptr(MscSelector) s = guest_selector();
    g_autoptr(MscPayload) payload = msc_payload_new();
    MscFlow *flow = child_of(GUEST, 1, 2);

    add_flow(payload, flow);
    g_assert_false(validates(payload, "master does not come before"));
    msc_payload_tidy(payload, s);
    flow = payload->flows->pdata[0];
    g_assert_false(msc_flow_is_child(flow));
    g_assert_cmpuint(nfct_get_attr_u32(flow, ATTR_STATUS) & IPS_EXPECTED, ==,
                     0);
    g_assert_true(validates(payload, NULL));
}

/* What only a hostile host sends: two flows that announced each other. */
static void test_circle_of_masters(void)
{
    g_autoptr(MscSelector) s = guest_selector();
    g_autoptr(MscPayload) payload = msc_payload_new();

    add_flow(payload, child_of(GUEST, 2, 1));
    add_flow(payload, child_of(GUEST, 1, 2));
    g_assert_false(validates(payload, "master does not come before"));
    msc_payload_tidy(payload, s);
    g_assert_cmpuint(payload->flows->len, ==, 2);
    g_assert_true(validates(payload, NULL));
}

/* P4: a master is an entry like any other. */
static void test_master_of_somebody_else(void)
{
    g_autoptr(MscPayload) outside = msc_payload_new();
    g_autoptr(MscPayload) inside = msc_payload_new();

    add_flow(outside, child_of("10.0.0.7", 1, 2));
    g_assert_false(validates(outside, "master does not come before"));
    add_flow(inside, udp_flow("10.0.0.7", 1, 21));
    add_flow(inside, child_of("10.0.0.7", 1, 2));
    g_assert_false(validates(inside, "not the guest's"));
}

static void test_flow_twice(void)
{
    g_autoptr(MscPayload) payload = msc_payload_new();

    add_flow(payload, udp_flow(GUEST, 1, 21));
    g_assert_true(validates(payload, NULL));
    add_flow(payload, udp_flow(GUEST, 1, 21));
    g_assert_false(validates(payload, "twice"));
}

static void test_expectations(void)
{
    static const struct {
        Expected expected;
        const char *complaint; /* NULL: fine */
    } rows[] = {
        { { PEER, GUEST, "255.255.255.255", 1, NULL }, NULL },
        { { GUEST, PEER, "255.255.255.255", 1, NULL }, NULL },
        { { "0.0.0.0", GUEST, "0.0.0.0", 1, NULL }, NULL },
        { { PEER, "203.0.113.1", "255.255.255.255", 1, GUEST }, NULL },
        { { PEER, GUEST, "255.255.255.255", 1, PEER }, NULL },
        /* holes for others, opened in the guest's name */
        { { PEER, "10.0.0.7", "255.255.255.255", 1, NULL }, "not the guest" },
        { { "0.0.0.0", "10.0.0.7", "0.0.0.0", 1, NULL }, "not the guest" },
        { { GUEST, "10.0.0.7", "0.0.0.0", 1, NULL }, "not the guest" },
        { { PEER, "203.0.113.1", "255.255.255.255", 1, "10.0.0.7" },
          "not the guest" },
        { { PEER, GUEST, "255.255.255.255", 2, NULL }, "master" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(MscSelector) s = guest_selector();
        g_autoptr(MscPayload) payload = msc_payload_new();
        g_autoptr(GBytes) bytes = NULL, again = NULL;
        g_autoptr(MscPayload) back = NULL;

        add_flow(payload, udp_flow(GUEST, 1, 21));
        g_ptr_array_add(payload->expects, expect_new(&rows[i].expected));
        bytes = msc_payload_encode(payload);
        back = msc_payload_decode(bytes, NULL);
        g_assert_nonnull(back);
        again = msc_payload_encode(back);
        g_assert_true(g_bytes_equal(bytes, again));
        g_assert_true(validates(payload, rows[i].complaint) ==
                      !rows[i].complaint);
        /* The source does not send what the destination would refuse. */
        msc_payload_tidy(payload, s);
        g_assert_cmpuint(payload->expects->len, ==, !rows[i].complaint);
    }
}

static void test_malformed_expectations(void)
{
    static const Expected row = { PEER, GUEST, "255.255.255.255", 1, GUEST };
    g_autoptr(MscPayload) payload = msc_payload_new();
    g_autoptr(GBytes) bytes = NULL;
    const uint8_t *data;
    gsize len;

    g_ptr_array_add(payload->expects, expect_new(&row));
    bytes = msc_payload_encode(payload);
    data = g_bytes_get_data(bytes, &len);
    for (gsize i = 0; i < len; i++) {
        g_autoptr(GBytes) part = g_bytes_new(data, i);
        g_autoptr(GError) err = NULL;

        g_assert_null(msc_payload_decode(part, &err));
        g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
    }
    /* A tag turned into each of its neighbours: nothing but an error. */
    for (gsize i = 8 + 2; i < len; i++) {
        g_autofree uint8_t *copy = g_memdup2(data, len);
        g_autoptr(GBytes) changed = NULL;
        g_autoptr(GError) err = NULL;
        g_autoptr(MscPayload) back = NULL;

        copy[i] ^= 0xff;
        changed = g_bytes_new(copy, len);
        back = msc_payload_decode(changed, &err);
        g_assert_true(!back == !!err);
    }
}

static void test_needs(void)
{
    g_autoptr(GPtrArray) flows = msc_flows_new();
    g_autoptr(MscNeeds) needs = msc_needs_new();
    g_autoptr(MscNeeds) back = NULL;
    g_autoptr(GByteArray) out = g_byte_array_new();
    MscFlow *flow = udp_flow(GUEST, 1, 69);
    MscReader r;

    nfct_set_attr(flow, ATTR_HELPER_NAME, "tftp");
    nfct_set_attr_u16(flow, ATTR_ZONE, 3);
    g_ptr_array_add(flows, flow);
    flow = udp_flow(GUEST, 2, 5060);
    nfct_set_attr(flow, ATTR_HELPER_NAME, "sip");
    nfct_set_attr_u32(flow, ATTR_REPL_IPV4_DST, inet_addr("203.0.113.1"));
    g_ptr_array_add(flows, flow);
    g_assert_true(msc_needs_of(flows, 0, needs, NULL));
    g_assert_cmpuint(needs->features, ==, MSC_NEED_ZONES | MSC_NEED_NAT_IPV4);
    msc_needs_encode(needs, out);
    msc_reader_init(&r, out->data, out->len);
    back = msc_needs_decode(&r, NULL);
    g_assert_nonnull(back);
    g_assert_cmpuint(msc_reader_left(&r), ==, 0);
    g_assert_cmpuint(back->helpers->len, ==, 2);
    g_assert_cmpstr(g_array_index(back->helpers, MscHelper, 0).name, ==, "sip");
    g_assert_cmpstr(g_array_index(back->helpers, MscHelper, 1).name, ==,
                    "tftp");
    /* Unknown features are not passed over: the flows need them. */
    out->data[0] |= 0x80;
    msc_reader_init(&r, out->data, out->len);
    g_assert_null(msc_needs_decode(&r, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/conntrack-payload/masters-come-first",
                    test_masters_come_first);
    g_test_add_func("/conntrack-payload/child-of-a-master-that-is-gone",
                    test_child_of_a_master_that_is_gone);
    g_test_add_func("/conntrack-payload/circle-of-masters",
                    test_circle_of_masters);
    g_test_add_func("/conntrack-payload/master-of-somebody-else",
                    test_master_of_somebody_else);
    g_test_add_func("/conntrack-payload/flow-twice-is-refused",
                    test_flow_twice);
    g_test_add_func("/conntrack-payload/expectations", test_expectations);
    g_test_add_func("/conntrack-payload/malformed-expectations",
                    test_malformed_expectations);
    g_test_add_func("/conntrack-payload/needs", test_needs);
    return g_test_run();
}
