/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-request.h"

#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>

/* What ctnetlink lets a creator say (IPS_UNCHANGEABLE_MASK in the kernel's
 * header): it sets the NAT, EXPECTED and SEQ_ADJUST bits by itself. */
#define SETTABLE_STATUS \
    (IPS_SEEN_REPLY | IPS_ASSURED | IPS_FIXED_TIMEOUT | IPS_HELPER)

static void set_tcp_flags(MscFlow *copy, bool lenient)
{
    static const enum nf_conntrack_attr flags[] = { ATTR_TCP_FLAGS_ORIG,
                                                    ATTR_TCP_FLAGS_REPL };
    static const enum nf_conntrack_attr masks[] = { ATTR_TCP_MASK_ORIG,
                                                    ATTR_TCP_MASK_REPL };

    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        uint8_t value = nfct_get_attr_u8(copy, flags[i]);

        nfct_set_attr_u8(copy, flags[i],
                         lenient ? value | IP_CT_TCP_FLAG_BE_LIBERAL : value);
        nfct_set_attr_u8(copy, masks[i], UINT8_MAX);
    }
}

MscFlow *msc_flow_to_create(const MscFlow *flow, uint64_t transit_us,
                            bool lenient)
{
    uint64_t gone = transit_us / G_USEC_PER_SEC;
    uint32_t timeout = nfct_get_attr_u32(flow, ATTR_TIMEOUT);
    MscFlow *copy;

    if (timeout <= gone) {
        return NULL;
    }
    copy = nfct_clone(flow);
    nfct_set_attr_u32(copy, ATTR_TIMEOUT, timeout - (uint32_t)gone);
    nfct_set_attr_u32(copy, ATTR_STATUS,
                      (nfct_get_attr_u32(flow, ATTR_STATUS) & SETTABLE_STATUS) |
                          IPS_CONFIRMED);
    if (nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO) == IPPROTO_TCP) {
        set_tcp_flags(copy, lenient);
    }
    return copy;
}

static bool has_ports(uint8_t l4)
{
    return l4 == IPPROTO_TCP || l4 == IPPROTO_UDP || l4 == IPPROTO_UDPLITE ||
           l4 == IPPROTO_SCTP || l4 == IPPROTO_DCCP || l4 == IPPROTO_GRE;
}

/* A range of one address, and of one port or ICMP identifier: exactly the
 * translation that the flow has.  The library's own NAT attributes know the
 * ports of TCP and UDP only. */
static void put_nat(struct nlmsghdr *nlh, const MscFlow *flow, bool snat)
{
    uint8_t l4 = nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO);
    bool icmp = msc_flow_is_icmp(flow);
    struct nlattr *nest =
        mnl_attr_nest_start(nlh, snat ? CTA_NAT_SRC : CTA_NAT_DST);

    if (nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO) == AF_INET) {
        mnl_attr_put_u32(nlh, CTA_NAT_V4_MINIP,
                         nfct_get_attr_u32(flow, snat ? ATTR_REPL_IPV4_DST
                                                      : ATTR_REPL_IPV4_SRC));
    } else {
        mnl_attr_put(nlh, CTA_NAT_V6_MINIP, sizeof(struct in6_addr),
                     nfct_get_attr(flow, snat ? ATTR_REPL_IPV6_DST
                                              : ATTR_REPL_IPV6_SRC));
    }
    if (has_ports(l4) || (icmp && snat)) {
        uint16_t port =
            icmp ? msc_flow_icmp_id(flow, true)
                 : nfct_get_attr_u16(flow, snat ? ATTR_REPL_PORT_DST
                                                : ATTR_REPL_PORT_SRC);
        struct nlattr *proto = mnl_attr_nest_start(nlh, CTA_NAT_PROTO);

        mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MIN, port);
        mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MAX, port);
        mnl_attr_nest_end(nlh, proto);
    }
    mnl_attr_nest_end(nlh, nest);
}

bool msc_put_flow(struct nlmsghdr *nlh, const MscFlow *flow)
{
    bool snat = msc_flow_is_snat(flow), dnat = msc_flow_is_dnat(flow);
    MscFlow *plain;
    bool ok;

    if (!snat && !dnat) {
        return nfct_nlmsg_build(nlh, flow) >= 0;
    }
    /* A finished reply tuple would be taken as it is, without translation:
     * send the plain one, and what shall become of it. */
    plain = nfct_clone(flow);
    msc_flow_mirror_reply(plain);
    ok = nfct_nlmsg_build(nlh, plain) >= 0;
    nfct_destroy(plain);
    if (snat) {
        put_nat(nlh, flow, true);
    }
    if (dnat) {
        put_nat(nlh, flow, false);
    }
    return ok;
}

static bool put_tuple_as(struct nlmsghdr *nlh, uint16_t type,
                         const MscFlow *flow, bool reply)
{
    /* The library builds whole flows only; take the one tuple from that. */
    char buf[MSC_REQUEST_MAX] __attribute__((aligned(NLMSG_ALIGNTO))) = { 0 };
    struct nlmsghdr *whole = mnl_nlmsg_put_header(buf);
    const struct nlattr *attr;
    bool found = false;

    mnl_nlmsg_put_extra_header(whole, sizeof(struct nfgenmsg));
    if (nfct_nlmsg_build(whole, flow) < 0) {
        return false;
    }
    mnl_attr_for_each(attr, whole, sizeof(struct nfgenmsg))
    {
        const struct nlattr *part;
        struct nlattr *nest;

        if (mnl_attr_get_type(attr) !=
            (reply ? CTA_TUPLE_REPLY : CTA_TUPLE_ORIG)) {
            continue;
        }
        found = true;
        nest = mnl_attr_nest_start(nlh, type);
        mnl_attr_for_each_nested(part, attr)
        {
            /* Its zone goes outside: this tuple, that zone. */
            if (mnl_attr_get_type(part) != CTA_TUPLE_ZONE) {
                mnl_attr_put(nlh, part->nla_type,
                             mnl_attr_get_payload_len(part),
                             mnl_attr_get_payload(part));
            }
        }
        mnl_attr_nest_end(nlh, nest);
    }
    return found;
}

bool msc_put_tuple(struct nlmsghdr *nlh, const MscFlow *flow, bool reply)
{
    uint16_t zone = msc_flow_zone(flow, reply);

    if (!put_tuple_as(nlh, reply ? CTA_TUPLE_REPLY : CTA_TUPLE_ORIG, flow,
                      reply)) {
        return false;
    }
    if (zone) {
        mnl_attr_put_u16(nlh, CTA_ZONE, htons(zone));
    }
    return true;
}

bool msc_put_master(struct nlmsghdr *nlh, const MscFlow *flow)
{
    uint16_t zone = msc_flow_zone(flow, false);

    if (!put_tuple_as(nlh, CTA_EXPECT_MASTER, flow, false)) {
        return false;
    }
    if (zone) {
        mnl_attr_put_u16(nlh, CTA_EXPECT_ZONE, htons(zone));
    }
    return true;
}

bool msc_put_entry(struct nlmsghdr *nlh, const MscFlow *flow)
{
    if (!msc_put_tuple(nlh, flow, false)) {
        return false;
    }
    if (nfct_attr_is_set(flow, ATTR_ID)) {
        mnl_attr_put_u32(nlh, CTA_ID, htonl(nfct_get_attr_u32(flow, ATTR_ID)));
    }
    return true;
}

bool msc_put_strict(struct nlmsghdr *nlh, const MscFlow *flow)
{
    struct nf_ct_tcp_flags strict = { .flags = 0,
                                      .mask = IP_CT_TCP_FLAG_BE_LIBERAL };
    struct nlattr *info, *tcp;

    if (!msc_put_tuple(nlh, flow, false)) {
        return false;
    }
    info = mnl_attr_nest_start(nlh, CTA_PROTOINFO);
    tcp = mnl_attr_nest_start(nlh, CTA_PROTOINFO_TCP);
    mnl_attr_put(nlh, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, sizeof(strict),
                 &strict);
    mnl_attr_put(nlh, CTA_PROTOINFO_TCP_FLAGS_REPLY, sizeof(strict), &strict);
    mnl_attr_nest_end(nlh, tcp);
    mnl_attr_nest_end(nlh, info);
    return true;
}
