/*
 * The conntrack payload's codec.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <string.h>

#include "conntrack-codec.h"
#include "conntrack.h"
#include "error.h"

static MscFlow *tcp_flow(void)
{
    MscFlow *flow = nfct_new();

    nfct_set_attr_u8(flow, ATTR_ORIG_L3PROTO, AF_INET);
    nfct_set_attr_u8(flow, ATTR_ORIG_L4PROTO, IPPROTO_TCP);
    nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_SRC, inet_addr("10.0.0.1"));
    nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_DST, inet_addr("10.0.0.2"));
    nfct_set_attr_u16(flow, ATTR_ORIG_PORT_SRC, htons(1000));
    nfct_set_attr_u16(flow, ATTR_ORIG_PORT_DST, htons(80));
    msc_flow_mirror_reply(flow);
    nfct_set_attr_u32(flow, ATTR_STATUS, 14);
    nfct_set_attr_u32(flow, ATTR_TIMEOUT, 300);
    nfct_set_attr_u8(flow, ATTR_TCP_STATE, TCP_CONNTRACK_ESTABLISHED);
    nfct_set_attr_u8(flow, ATTR_TCP_FLAGS_ORIG, 3);
    nfct_set_attr_u8(flow, ATTR_TCP_FLAGS_REPL, 3);
    nfct_set_attr_u8(flow, ATTR_TCP_WSCALE_ORIG, 7);
    nfct_set_attr_u8(flow, ATTR_TCP_WSCALE_REPL, 9);
    return flow;
}

/* Takes the flow. */
static GBytes *payload_of(MscFlow *flow)
{
    g_autoptr(MscPayload) payload = msc_payload_new();

    g_ptr_array_add(payload->flows, flow);
    return msc_payload_encode(payload);
}

static void assert_round_trip(MscFlow *flow, size_t most)
{
    g_autofree char *text = msc_flow_describe(flow);
    g_autoptr(GBytes) payload = payload_of(flow);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscPayload) back = msc_payload_decode(payload, &err);
    g_autoptr(GBytes) again = NULL;
    g_autofree char *text2 = NULL;

    g_assert_no_error(err);
    g_assert_cmpuint(back->flows->len, ==, 1);
    text2 = msc_flow_describe(back->flows->pdata[0]);
    g_assert_cmpstr(text, ==, text2);
    again = msc_payload_encode(back);
    g_assert_true(g_bytes_equal(again, payload));
    /* Less the two counts. */
    g_assert_cmpuint(g_bytes_get_size(again) - 8, <=, most);
}

static void test_round_trip(void)
{
    MscFlow *flow = tcp_flow();
    struct nfct_bitmask *labels = nfct_bitmask_new(127);

    assert_round_trip(flow, 48); /* takes it */
    flow = tcp_flow();
    nfct_set_attr_u32(flow, ATTR_REPL_IPV4_DST, inet_addr("192.0.2.1"));
    nfct_set_attr_u16(flow, ATTR_REPL_PORT_DST, htons(4242));
    nfct_set_attr_u16(flow, ATTR_ZONE, 7);
    nfct_set_attr_u32(flow, ATTR_MARK, 0xdeadbeef);
    nfct_set_attr(flow, ATTR_HELPER_NAME, "ftp");
    nfct_bitmask_set_bit(labels, 100);
    nfct_set_attr(flow, ATTR_CONNLABELS, labels);
    assert_round_trip(flow, 128);
}

/* Zero is a value where something else of the group is not zero. */
static void test_zero_is_kept(void)
{
    static const enum nf_conntrack_attr kept[] = {
        ATTR_ORIG_NAT_SEQ_CORRECTION_POS, ATTR_ORIG_NAT_SEQ_OFFSET_BEFORE,
        ATTR_ORIG_NAT_SEQ_OFFSET_AFTER, ATTR_SCTP_VTAG_ORIG, ATTR_SCTP_VTAG_REPL
    };
    MscFlow *flow = tcp_flow();
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(MscPayload) back = NULL;

    for (int a = ATTR_TCP_STATE; a < ATTR_MAX; a++) {
        if (a == ATTR_TCP_STATE ||
            (a >= ATTR_TCP_FLAGS_ORIG && a <= ATTR_TCP_MASK_REPL) ||
            a == ATTR_TCP_WSCALE_ORIG || a == ATTR_TCP_WSCALE_REPL) {
            nfct_attr_unset(flow, (enum nf_conntrack_attr)a);
        }
    }
    nfct_set_attr_u8(flow, ATTR_ORIG_L4PROTO, IPPROTO_SCTP);
    nfct_set_attr_u8(flow, ATTR_REPL_L4PROTO, IPPROTO_SCTP);
    nfct_set_attr_u8(flow, ATTR_SCTP_STATE, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        nfct_set_attr_u32(flow, kept[i], i == 2 ? 5 : 0);
    }
    payload = payload_of(flow);
    back = msc_payload_decode(payload, NULL);
    g_assert_nonnull(back);
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        g_assert_cmpint(nfct_attr_is_set(back->flows->pdata[0], kept[i]), ==,
                        1);
        g_assert_cmpuint(nfct_get_attr_u32(back->flows->pdata[0], kept[i]), ==,
                         i == 2 ? 5 : 0);
    }
}

/* Port Address Translation of ping: the identifier of the answers differs. */
static void test_icmp_identifier_is_translated(void)
{
    MscFlow *flow = nfct_new();
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(MscPayload) back = NULL;

    nfct_set_attr_u8(flow, ATTR_ORIG_L3PROTO, AF_INET);
    nfct_set_attr_u8(flow, ATTR_ORIG_L4PROTO, IPPROTO_ICMP);
    nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_SRC, inet_addr("10.0.0.1"));
    nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_DST, inet_addr("10.0.0.2"));
    nfct_set_attr_u8(flow, ATTR_ICMP_TYPE, 8);
    nfct_set_attr_u8(flow, ATTR_ICMP_CODE, 0);
    nfct_set_attr_u16(flow, ATTR_ICMP_ID, htons(77));
    msc_flow_mirror_reply(flow);
    nfct_set_attr_u32(flow, ATTR_STATUS, 2);
    nfct_set_attr_u32(flow, ATTR_TIMEOUT, 30);
    g_assert_false(msc_flow_is_nated(flow));
    nfct_set_attr_u32(flow, ATTR_REPL_IPV4_DST, inet_addr("192.0.2.1"));
    nfct_set_attr_u16(flow, ATTR_REPL_PORT_SRC, htons(9));
    payload = payload_of(flow);
    back = msc_payload_decode(payload, NULL);
    g_assert_nonnull(back);
    g_assert_cmpuint(ntohs(msc_flow_icmp_id(back->flows->pdata[0], false)), ==,
                     77);
    g_assert_cmpuint(ntohs(msc_flow_icmp_id(back->flows->pdata[0], true)), ==,
                     9);
    g_assert_true(msc_flow_is_snat(back->flows->pdata[0]));
    g_assert_false(msc_flow_is_dnat(back->flows->pdata[0]));
}

static void test_truncated(void)
{
    g_autoptr(GBytes) payload = payload_of(tcp_flow());
    gsize len;
    const uint8_t *data = g_bytes_get_data(payload, &len);

    for (gsize i = 0; i < len; i++) {
        g_autoptr(GBytes) part = g_bytes_new(data, i);
        g_autoptr(GError) err = NULL;

        g_assert_null(msc_payload_decode(part, &err));
        g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
    }
}

static void test_malformed(void)
{
    static const struct {
        const char *bytes; /* of one flow, after its length */
        size_t len;
        const char *complaint;
    } rows[] = {
        { "", 0, "no protocol" },
        { "\x01\x02\x02\x06", 4, "addresses" },
        { "\x02\x06\x01\x02", 4, "out of order" },
        { "\x01\x02\x01\x02", 4, "out of order" },
        { "\xff", 1, "unknown attribute" },
        { "\x01", 1, "malformed" },
        { "\x1d\x10"
          "aaaaaaaaaaaaaaaa",
          18, "malformed" },
        { "\x1d\x02"
          "a\0",
          4, "malformed" },
        { "\x1c\x02\x01\x00", 4, "malformed" },
        { "\x01\x02\x02\x15\x03\x0a\0\0\x01\x04\x0a\0\0\x02"
          "\x07\0\x50\x08\0\x50",
          20, "protocol has none" },
        { "\x01\x02\x02\x11\x03\x0a\0\0\x01\x04\x0a\0\0\x02"
          "\x07\0\x50\x08\0\x50\x09\x08",
          22, "no ICMP" },
        { "\x01\x02\x02\x3a\x03\x0a\0\0\x01\x04\x0a\0\0\x02"
          "\x09\x08\x0a\0\x0b\0\x01",
          21, "other family" },
        { "\x01\x02\x02\x11\x03\x0a\0\0\x01\x04\x0a\0\0\x02"
          "\x07\0\x50\x08\0\x50\x30\0\0\0\1",
          25, "half a sequence" },
        { "\x01\x02\x02\x11\x03\x0a\0\0\x01\x04\x0a\0\0\x02"
          "\x07\0\x50\x08\0\x50\x38\x02\x39\x06",
          24, "master's" },
        { "\x01\x02\x02\x11\x03\x0a\0\0\x01\x04\x0a\0\0\x02"
          "\x07\0\x50\x08\0\x50\x0c\0\x01\x18\0\x01"
          "\x19\0\0\0\0\x1a\0\0\0\x05",
          36, "more than one zone" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(GBytes) payload = NULL;
        g_autoptr(GError) err = NULL;

        msc_put_u32(out, 1);
        msc_put_u16(out, (uint16_t)rows[i].len);
        msc_put_bytes(out, rows[i].bytes, rows[i].len);
        payload = g_bytes_new(out->data, out->len);
        g_assert_null(msc_payload_decode(payload, &err));
        g_assert_nonnull(strstr(err->message, rows[i].complaint));
    }
}

/* P4: what a hostile host might slip in. */
static void test_stray_entries(void)
{
    g_autoptr(MscSelector) s = msc_selector_new();
    MscProviderStats stats;
    MscAddress a;
    static const struct {
        const char *src, *dst, *reply_src, *reply_dst;
        bool fine;
    } rows[] = {
        { "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.1", true },
        { "10.0.0.2", "10.0.0.1", "10.0.0.1", "10.0.0.2", true },
        { "10.0.0.1", "10.0.0.2", "10.0.0.2", "192.0.2.1", true },
        { "10.0.0.2", "192.0.2.1", "10.0.0.1", "10.0.0.2", true },
        /* not the guest's at all */
        { "10.0.0.3", "10.0.0.2", "10.0.0.2", "10.0.0.3", false },
        /* the guest's, behind somebody else's address */
        { "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.9", false },
        /* steals what others send to a third host */
        { "10.0.0.2", "10.0.0.9", "10.0.0.1", "10.0.0.2", false },
        /* to the guest's address, turned to another host */
        { "10.0.0.2", "10.0.0.1", "10.0.0.9", "10.0.0.2", false },
    };

    g_assert_true(msc_address_parse("10.0.0.1", &a, NULL));
    g_array_append_val(s->addresses, a);
    g_assert_true(msc_address_parse("192.0.2.1", &a, NULL));
    g_array_append_val(s->nat_addresses, a);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        MscFlow *flow = tcp_flow();
        g_autoptr(GBytes) payload = NULL;
        g_autoptr(GError) err = NULL;
        bool ok;

        nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_SRC, inet_addr(rows[i].src));
        nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_DST, inet_addr(rows[i].dst));
        nfct_set_attr_u32(flow, ATTR_REPL_IPV4_SRC,
                          inet_addr(rows[i].reply_src));
        nfct_set_attr_u32(flow, ATTR_REPL_IPV4_DST,
                          inet_addr(rows[i].reply_dst));
        payload = payload_of(flow);
        ok = msc_conntrack_provider.validate(s, payload, &stats, &err);
        g_assert_true(ok == rows[i].fine);
        g_assert_true(ok || g_error_matches(err, MSC_ERROR, MSC_ERROR_REFUSED));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/conntrack/round-trip", test_round_trip);
    g_test_add_func("/conntrack/zero-is-kept", test_zero_is_kept);
    g_test_add_func("/conntrack/icmp-identifier-is-translated",
                    test_icmp_identifier_is_translated);
    g_test_add_func("/conntrack/truncated", test_truncated);
    g_test_add_func("/conntrack/malformed", test_malformed);
    g_test_add_func("/conntrack/stray-entry-refuses-all", test_stray_entries);
    return g_test_run();
}
