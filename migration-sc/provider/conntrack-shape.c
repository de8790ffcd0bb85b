/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-shape.h"

#include <netinet/in.h>
#include <sys/socket.h>

typedef struct {
    uint8_t l4;
    bool v4, ports, icmp;
} Shape;

/* How many of the attributes from @first to @last are there? */
static int count_set(const MscFlow *flow, int first, int last)
{
    int n = 0;

    for (int attr = first; attr <= last; attr++) {
        n += nfct_attr_is_set(flow, (enum nf_conntrack_attr)attr) > 0;
    }
    return n;
}

/* Two addresses of the family and none of the other; the attributes of both
 * families stand in the order v4 source, v4 destination, v6 ditto. */
static bool addresses_fit(const MscFlow *flow, int v4_first, int v6_first,
                          bool is_v4)
{
    return count_set(flow, v4_first, v4_first + 1) == (is_v4 ? 2 : 0) &&
           count_set(flow, v6_first, v6_first + 1) == (is_v4 ? 0 : 2);
}

static bool is_set(const MscFlow *flow, enum nf_conntrack_attr attr)
{
    return nfct_attr_is_set(flow, attr) > 0;
}

bool msc_l4_has_ports(uint8_t l4)
{
    return l4 == IPPROTO_TCP || l4 == IPPROTO_UDP || l4 == IPPROTO_SCTP ||
           l4 == IPPROTO_UDPLITE || l4 == IPPROTO_DCCP ||
           l4 == IPPROTO_GRE; /* its keys */
}

static const char *check_original(const MscFlow *flow, const Shape *shape)
{
    int ports =
        is_set(flow, ATTR_ORIG_PORT_SRC) + is_set(flow, ATTR_ORIG_PORT_DST);
    int icmp = is_set(flow, ATTR_ICMP_TYPE) + is_set(flow, ATTR_ICMP_CODE) +
               is_set(flow, ATTR_ICMP_ID);

    if (!addresses_fit(flow, ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV6_SRC,
                       shape->v4)) {
        return "addresses do not fit the protocol";
    }
    if (shape->ports && ports != 2) {
        return "no ports";
    }
    if (!shape->ports && ports) {
        return "ports where the protocol has none";
    }
    if (!shape->icmp && icmp) {
        return "ICMP attributes where there is no ICMP";
    }
    if (shape->icmp && icmp != 3) {
        return "no ICMP type, code and identifier";
    }
    return NULL;
}

static const char *check_reply(const MscFlow *flow, const Shape *shape)
{
    int src = is_set(flow, ATTR_REPL_PORT_SRC);
    int dst = is_set(flow, ATTR_REPL_PORT_DST);

    if (!count_set(flow, ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV4_DST) &&
        !count_set(flow, ATTR_REPL_IPV6_SRC, ATTR_REPL_IPV6_DST) && !src &&
        !dst) {
        return NULL;
    }
    if (!addresses_fit(flow, ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV6_SRC,
                       shape->v4) ||
        src != (shape->ports || shape->icmp) || dst != shape->ports) {
        return "half a reply tuple";
    }
    return NULL;
}

static const char *check_master(const MscFlow *flow, const Shape *shape)
{
    if (!count_set(flow, ATTR_MASTER_IPV4_SRC, ATTR_MASTER_L4PROTO)) {
        return NULL;
    }
    if (!addresses_fit(flow, ATTR_MASTER_IPV4_SRC, ATTR_MASTER_IPV6_SRC,
                       shape->v4) ||
        nfct_get_attr_u8(flow, ATTR_MASTER_L3PROTO) !=
            nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO) ||
        !msc_l4_has_ports(nfct_get_attr_u8(flow, ATTR_MASTER_L4PROTO)) ||
        count_set(flow, ATTR_MASTER_PORT_SRC, ATTR_MASTER_PORT_DST) != 2) {
        return "the master's tuple is not whole";
    }
    return NULL;
}

static const char *check_state(const MscFlow *flow, const Shape *shape)
{
    static const enum nf_conntrack_attr tcp[] = {
        ATTR_TCP_STATE, ATTR_TCP_FLAGS_ORIG, ATTR_TCP_FLAGS_REPL,
        ATTR_TCP_WSCALE_ORIG, ATTR_TCP_WSCALE_REPL
    };
    static const enum nf_conntrack_attr sctp[] = { ATTR_SCTP_STATE,
                                                   ATTR_SCTP_VTAG_ORIG,
                                                   ATTR_SCTP_VTAG_REPL };
    size_t n_tcp = 0, n_sctp = 0;
    int adjust;

    for (size_t i = 0; i < G_N_ELEMENTS(tcp); i++) {
        n_tcp += is_set(flow, tcp[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(sctp); i++) {
        n_sctp += is_set(flow, sctp[i]);
    }
    if (n_tcp != (shape->l4 == IPPROTO_TCP ? G_N_ELEMENTS(tcp) : 0)) {
        return "TCP state where there is no TCP, or not all of it";
    }
    if (n_sctp && (shape->l4 != IPPROTO_SCTP || n_sctp != G_N_ELEMENTS(sctp))) {
        return "SCTP state where there is no SCTP, or not all of it";
    }
    adjust = count_set(flow, ATTR_ORIG_NAT_SEQ_CORRECTION_POS,
                       ATTR_ORIG_NAT_SEQ_OFFSET_AFTER);
    if (adjust % 3) {
        return "half a sequence adjustment";
    }
    adjust = count_set(flow, ATTR_REPL_NAT_SEQ_CORRECTION_POS,
                       ATTR_REPL_NAT_SEQ_OFFSET_AFTER);
    if (adjust % 3) {
        return "half a sequence adjustment";
    }
    return NULL;
}

/* The protocol of the original tuple; what is wrong with it, or NULL. */
static const char *find_shape(const MscFlow *flow, Shape *shape)
{
    uint8_t l3 = nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO);

    shape->l4 = nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO);
    if (!is_set(flow, ATTR_ORIG_L4PROTO) || (l3 != AF_INET && l3 != AF_INET6)) {
        return "no protocol";
    }
    shape->v4 = l3 == AF_INET;
    /* A kernel built without a protocol tracks it by addresses alone. */
    shape->ports = msc_l4_has_ports(shape->l4) &&
                   (shape->l4 == IPPROTO_TCP || shape->l4 == IPPROTO_UDP ||
                    is_set(flow, ATTR_ORIG_PORT_SRC));
    shape->icmp = msc_flow_is_icmp(flow);
    if (shape->icmp && shape->v4 != (shape->l4 == IPPROTO_ICMP)) {
        return "ICMP of the other family";
    }
    return check_original(flow, shape);
}

const char *msc_tuple_malformed(const MscFlow *flow)
{
    Shape shape = { 0 };

    return find_shape(flow, &shape);
}

const char *msc_flow_malformed(const MscFlow *flow)
{
    Shape shape = { 0 };
    const char *wrong = find_shape(flow, &shape);

    wrong = wrong ? wrong : check_reply(flow, &shape);
    wrong = wrong ? wrong : check_state(flow, &shape);
    wrong = wrong ? wrong : check_master(flow, &shape);
    if (wrong) {
        return wrong;
    }
    if (!is_set(flow, ATTR_TIMEOUT) || !is_set(flow, ATTR_STATUS)) {
        return "no timeout or status";
    }
    if (is_set(flow, ATTR_ZONE) + is_set(flow, ATTR_ORIG_ZONE) +
            is_set(flow, ATTR_REPL_ZONE) >
        1) {
        return "more than one zone";
    }
    return NULL;
}
