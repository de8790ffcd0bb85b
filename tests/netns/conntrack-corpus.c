/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "conntrack-corpus.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_sctp.h>
#include <linux/netfilter/nf_conntrack_tcp.h>

static void corpus_tcp(void)
{
    for (uint8_t state = TCP_CONNTRACK_SYN_SENT;
         state <= TCP_CONNTRACK_SYN_SENT2; state++) {
        for (int v6 = 0; v6 <= 1; v6++) {
            MscFlow *flow =
                lab_flow(IPPROTO_TCP, v6 ? GUEST6 : GUEST,
                         (uint16_t)(1000 + state), v6 ? PEER6 : PEER, 80);

            lab_tcp(
                flow, state,
                state == TCP_CONNTRACK_TIME_WAIT
                    ? IP_CT_TCP_FLAG_CLOSE_INIT | IP_CT_TCP_FLAG_WINDOW_SCALE
                    : IP_CT_TCP_FLAG_WINDOW_SCALE | IP_CT_TCP_FLAG_SACK_PERM,
                (uint8_t)(state + 2));
            if (state == TCP_CONNTRACK_SYN_SENT) {
                nfct_set_attr_u32(flow, ATTR_STATUS, IPS_CONFIRMED);
            }
            lab_create(flow);
        }
    }
}

void corpus_plain(void)
{
    static const uint8_t with_ports[] = { IPPROTO_UDP, IPPROTO_UDPLITE,
                                          IPPROTO_GRE };
    MscFlow *flow;

    for (size_t i = 0; i < G_N_ELEMENTS(with_ports); i++) {
        lab_create(lab_flow(with_ports[i], GUEST, 1000, PEER, 53));
        lab_create(lab_flow(with_ports[i], PEER6, 1001, GUEST6, 53));
    }
    lab_create(lab_flow(IPPROTO_ICMP, GUEST, 7, PEER, 0));
    lab_create(lab_flow(IPPROTO_ICMPV6, PEER6, 7, GUEST6, 0));
    /* Without ports: what the kernel tracks by addresses. */
    lab_create(lab_flow(IPPROTO_ESP, GUEST, 0, PEER, 0));
    flow = lab_flow(IPPROTO_UDP, GUEST, 1003, PEER, 53);
    nfct_set_attr_u32(flow, ATTR_STATUS, IPS_CONFIRMED); /* unreplied */
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, GUEST, 1004, PEER, 53);
    nfct_set_attr_u32(flow, ATTR_STATUS, IPS_CONFIRMED | IPS_FIXED_TIMEOUT);
    lab_create(flow);
}

static void corpus_sctp(void)
{
    for (uint8_t state = SCTP_CONNTRACK_CLOSED;
         state <= SCTP_CONNTRACK_HEARTBEAT_SENT; state++) {
        MscFlow *flow = lab_flow(IPPROTO_SCTP, GUEST, (uint16_t)(1000 + state),
                                 PEER, 38412);

        nfct_set_attr_u8(flow, ATTR_SCTP_STATE, state);
        nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_ORIG, 0xdeadbee0 + state);
        /* Before COOKIE ECHO the other end's is unknown. */
        nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_REPL,
                          state < SCTP_CONNTRACK_COOKIE_ECHOED ? 0 : state);
        lab_create(flow);
    }
}

static void corpus_nat(void)
{
    static const uint8_t with_ports[] = { IPPROTO_TCP, IPPROTO_UDP,
                                          IPPROTO_SCTP, IPPROTO_UDPLITE };
    MscFlow *flow;

    for (size_t i = 0; i < G_N_ELEMENTS(with_ports); i++) {
        for (int both = 0; both <= 1; both++) {
            flow = lab_flow(with_ports[i], GUEST, (uint16_t)(1000 + both), PEER,
                            80);
            if (with_ports[i] == IPPROTO_SCTP) {
                nfct_set_attr_u8(flow, ATTR_SCTP_STATE,
                                 SCTP_CONNTRACK_ESTABLISHED);
                nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_ORIG, 1);
                nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_REPL, 2);
            }
            lab_snat(flow, NAT, (uint16_t)(40000 + both));
            if (both) {
                lab_dnat(flow, "192.0.2.77", 8080);
            }
            lab_create(flow);
        }
    }
    /* From outside to the guest. */
    flow = lab_flow(IPPROTO_TCP, PEER, 5000, NAT, 2222);
    lab_dnat(flow, GUEST, 22);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, PEER6, 5000, NAT6, 53);
    lab_dnat(flow, GUEST6, 5353);
    lab_create(flow);
    flow = lab_flow(IPPROTO_TCP, GUEST6, 5000, PEER6, 443);
    lab_snat(flow, NAT6, 5000);
    lab_create(flow);
    /* Only the port; only the address of the far end. */
    flow = lab_flow(IPPROTO_UDP, GUEST, 5001, PEER, 53);
    lab_snat(flow, GUEST, 5002);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, GUEST, 5003, PEER, 53);
    lab_dnat(flow, "192.0.2.78", 53);
    lab_create(flow);
    flow = lab_flow(IPPROTO_ESP, GUEST, 0, PEER, 0);
    lab_snat(flow, NAT, 0);
    lab_create(flow);
}

static void corpus_nat_ping(void)
{
    MscFlow *flow = lab_flow(IPPROTO_ICMP, GUEST, 7, PEER, 0);

    lab_snat(flow, NAT, 7);
    lab_create(flow);
    flow = lab_flow(IPPROTO_ICMP, GUEST, 8, PEER, 0);
    lab_snat(flow, NAT, 4711);
    lab_create(flow);
    flow = lab_flow(IPPROTO_ICMPV6, GUEST6, 9, PEER6, 0);
    lab_snat(flow, NAT6, 4712);
    lab_create(flow);
    flow = lab_flow(IPPROTO_ICMP, PEER, 10, NAT, 0);
    lab_set_u16(flow, ATTR_REPL_PORT_SRC, 10);
    lab_dnat(flow, GUEST, 0);
    lab_create(flow);
}

static void corpus_marks_and_zones(void)
{
    MscFlow *flow;

    for (uint16_t zone = 0; zone < 3; zone++) {
        /* The same tuple lives in several zones. */
        flow = lab_flow(IPPROTO_TCP, GUEST, 1000, PEER, 80);
        if (zone) {
            nfct_set_attr_u16(flow, ATTR_ZONE, zone);
        }
        nfct_set_attr_u32(flow, ATTR_MARK, 0x80000000u + zone);
        lab_create(flow);
    }
    flow = lab_flow(IPPROTO_TCP, GUEST, 1001, PEER, 80);
    nfct_set_attr_u16(flow, ATTR_ORIG_ZONE, 9);
    lab_snat(flow, NAT, 3333);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, PEER6, 1002, GUEST6, 80);
    nfct_set_attr_u16(flow, ATTR_REPL_ZONE, 10);
    lab_create(flow);
}

static void corpus_seqadj(void)
{
    static const enum nf_conntrack_attr attrs[] = {
        ATTR_ORIG_NAT_SEQ_CORRECTION_POS, ATTR_ORIG_NAT_SEQ_OFFSET_BEFORE,
        ATTR_ORIG_NAT_SEQ_OFFSET_AFTER,   ATTR_REPL_NAT_SEQ_CORRECTION_POS,
        ATTR_REPL_NAT_SEQ_OFFSET_BEFORE,  ATTR_REPL_NAT_SEQ_OFFSET_AFTER
    };
    static const uint32_t values[2][6] = {
        { 123456, (uint32_t)-3, 17, 654321, 2, (uint32_t)-9 },
        /* One direction, and nothing before it. */
        { 1000, 0, 5, 0, 0, 0 },
    };

    for (uint16_t i = 0; i < 2; i++) {
        MscFlow *flow =
            lab_flow(IPPROTO_TCP, GUEST, (uint16_t)(1000 + i), PEER, 21);

        for (size_t k = 0; k < G_N_ELEMENTS(attrs); k++) {
            nfct_set_attr_u32(flow, attrs[k], values[i][k]);
        }
        lab_snat(flow, NAT, (uint16_t)(2000 + i));
        lab_create(flow);
    }
}

/* FTP control, a data connection that it announced, and, never seen but
 * possible, one that the data connection announced. */
void corpus_helpers(void)
{
    MscFlow *control = lab_flow(IPPROTO_TCP, GUEST, 50000, PEER, 21);
    MscFlow *data = lab_flow(IPPROTO_TCP, GUEST, 50001, PEER, 30000);
    MscFlow *more = lab_flow(IPPROTO_UDP, GUEST, 50002, PEER, 30001);
    MscFlow *tftp = lab_flow(IPPROTO_UDP, GUEST6, 50003, PEER6, 69);

    nfct_set_attr(control, ATTR_HELPER_NAME, "ftp");
    nfct_set_attr(tftp, ATTR_HELPER_NAME, "tftp");
    lab_child(data, control);
    lab_child(more, data);
    lab_create(control);
    lab_create(data);
    lab_create(more);
    lab_create(tftp);
}

void corpus_labels(void)
{
    for (uint16_t i = 0; i < 3; i++) {
        MscFlow *flow =
            lab_flow(IPPROTO_UDP, GUEST, (uint16_t)(1000 + i), PEER, 53);
        struct nfct_bitmask *labels = nfct_bitmask_new(127);

        nfct_bitmask_set_bit(labels, i * 63u);
        nfct_bitmask_set_bit(labels, 40);
        nfct_set_attr(flow, ATTR_CONNLABELS, labels);
        lab_create(flow);
    }
}

/* SIP's announcement of media, from the peer to the guest's port: a class
 * that allows several. */
MscExpect *corpus_announced(const MscFlow *master, uint16_t port)
{
    MscExpect *expect = nfexp_new();
    MscFlow *tuple = nfct_new();
    const struct {
        enum nf_expect_attr attr;
        const char *src, *dst;
        uint16_t dport;
    } parts[] = {
        { ATTR_EXP_EXPECTED, PEER, GUEST, port },
        { ATTR_EXP_MASK, "255.255.255.255", "255.255.255.255", 65535 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        nfct_set_attr_u8(tuple, ATTR_ORIG_L3PROTO, AF_INET);
        nfct_set_attr_u8(tuple, ATTR_ORIG_L4PROTO, IPPROTO_TCP);
        nfct_set_attr_u32(tuple, ATTR_ORIG_IPV4_SRC, inet_addr(parts[i].src));
        nfct_set_attr_u32(tuple, ATTR_ORIG_IPV4_DST, inet_addr(parts[i].dst));
        nfct_set_attr_u16(tuple, ATTR_ORIG_PORT_SRC, 0);
        nfct_set_attr_u16(tuple, ATTR_ORIG_PORT_DST, htons(parts[i].dport));
        nfexp_set_attr(expect, parts[i].attr, tuple);
    }
    nfct_destroy(tuple);
    nfexp_set_attr(expect, ATTR_EXP_MASTER, master);
    nfexp_set_attr_u16(expect, ATTR_EXP_ZONE, msc_flow_zone(master, false));
    nfexp_set_attr_u32(expect, ATTR_EXP_TIMEOUT, 100);
    nfexp_set_attr_u32(expect, ATTR_EXP_FLAGS, 0);
    nfexp_set_attr_u32(expect, ATTR_EXP_CLASS, 1);
    nfexp_set_attr(expect, ATTR_EXP_HELPER_NAME, "sip");
    return expect;
}

MscFlow *corpus_signalling(const char *src, uint16_t sport)
{
    MscFlow *flow = lab_flow(IPPROTO_TCP, src, sport, PEER, 5060);

    nfct_set_attr(flow, ATTR_HELPER_NAME, "sip");
    return flow;
}

/* A connection that has announced two, in @zone. */
MscPayload *corpus_call_payload(uint16_t sport, uint16_t zone)
{
    MscPayload *payload = msc_payload_new();
    MscFlow *control = corpus_signalling(GUEST, sport);

    if (zone) {
        nfct_set_attr_u16(control, ATTR_ZONE, zone);
    }
    g_ptr_array_add(payload->flows, control);
    g_ptr_array_add(payload->expects, corpus_announced(control, 4001));
    g_ptr_array_add(payload->expects, corpus_announced(control, 4002));
    nfexp_set_attr_u32(payload->expects->pdata[1], ATTR_EXP_TIMEOUT, 250);
    nfexp_set_attr_u32(payload->expects->pdata[1], ATTR_EXP_FLAGS,
                       NF_CT_EXPECT_PERMANENT);
    return payload;
}

const CorpusKind corpus[] = { { "tcp-in-every-state", corpus_tcp },
                              { "protocols", corpus_plain },
                              { "sctp-in-every-state", corpus_sctp },
                              { "nat", corpus_nat },
                              { "nat-of-ping", corpus_nat_ping },
                              { "marks-and-zones", corpus_marks_and_zones },
                              { "sequence-adjustment", corpus_seqadj },
                              { "helpers-and-masters", corpus_helpers },
                              { 0 } };
