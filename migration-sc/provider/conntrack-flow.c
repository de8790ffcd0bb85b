/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-flow.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <string.h>

typedef enum {
    ORIG_SRC,
    ORIG_DST,
    REPL_SRC,
    REPL_DST,
} End;

static const enum nf_conntrack_attr v4_attr[] = {
    ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV4_DST, ATTR_REPL_IPV4_SRC,
    ATTR_REPL_IPV4_DST
};
static const enum nf_conntrack_attr v6_attr[] = {
    ATTR_ORIG_IPV6_SRC, ATTR_ORIG_IPV6_DST, ATTR_REPL_IPV6_SRC,
    ATTR_REPL_IPV6_DST
};
static const enum nf_conntrack_attr port_attr[] = {
    ATTR_ORIG_PORT_SRC, ATTR_ORIG_PORT_DST, ATTR_REPL_PORT_SRC,
    ATTR_REPL_PORT_DST
};

/* Lists may hold NULL where nothing was found. */
static void flow_destroy(gpointer flow)
{
    if (flow) {
        nfct_destroy(flow);
    }
}

GPtrArray *msc_flows_new(void)
{
    return g_ptr_array_new_with_free_func(flow_destroy);
}

static uint8_t family(const MscFlow *flow)
{
    return nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO);
}

static void flow_address(const MscFlow *flow, End end, MscAddress *a)
{
    memset(a, 0, sizeof(*a));
    a->family = family(flow);
    if (a->family == AF_INET) {
        a->v4.s_addr = nfct_get_attr_u32(flow, v4_attr[end]);
    } else {
        const void *v6 = nfct_get_attr(flow, v6_attr[end]);

        if (v6) {
            memcpy(&a->v6, v6, sizeof(a->v6));
        }
    }
}

/* In network byte order; for ICMP the identifier stands in for a port. */
static uint16_t flow_port(const MscFlow *flow, End end)
{
    uint8_t l4 = nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO);

    if (l4 == IPPROTO_ICMP || l4 == IPPROTO_ICMPV6) {
        /* One identifier for both directions: libnetfilter_conntrack keeps
         * only the original's. */
        return nfct_get_attr_u16(flow, ATTR_ICMP_ID);
    }
    return nfct_attr_is_set(flow, port_attr[end])
               ? nfct_get_attr_u16(flow, port_attr[end]) : 0;
}

static bool address_equal(const MscAddress *a, const MscAddress *b)
{
    return a->family == b->family &&
           !memcmp(a->bytes, b->bytes, a->family == AF_INET ? 4 : 16);
}

bool msc_address_in(const MscAddress *address, const GArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        if (address_equal(address, &g_array_index(list, MscAddress, i))) {
            return true;
        }
    }
    return false;
}

bool msc_flow_belongs(const MscFlow *flow, const MscSelector *s)
{
    MscAddress originator, responder;
    uint16_t zone = nfct_attr_is_set(flow, ATTR_ZONE)
                        ? nfct_get_attr_u16(flow, ATTR_ZONE) : 0;

    if (s->has_zone && zone != s->zone) {
        return false;
    }
    if (s->has_mark &&
        (nfct_get_attr_u32(flow, ATTR_MARK) & s->mark_mask) != s->mark) {
        return false;
    }
    if (!s->addresses->len) {
        return true;
    }
    flow_address(flow, ORIG_SRC, &originator);
    flow_address(flow, REPL_SRC, &responder);
    return msc_address_in(&originator, s->addresses) ||
           msc_address_in(&responder, s->addresses);
}

static bool ends_equal(const MscFlow *flow, End a, End b)
{
    MscAddress x, y;

    flow_address(flow, a, &x);
    flow_address(flow, b, &y);
    return address_equal(&x, &y) && flow_port(flow, a) == flow_port(flow, b);
}

static bool is_snat(const MscFlow *flow)
{
    return !ends_equal(flow, ORIG_SRC, REPL_DST);
}

static bool is_dnat(const MscFlow *flow)
{
    return !ends_equal(flow, ORIG_DST, REPL_SRC);
}

bool msc_flow_reply_is_mirror(const MscFlow *flow)
{
    return !is_snat(flow) && !is_dnat(flow);
}

bool msc_flow_is_nated(const MscFlow *flow)
{
    return !msc_flow_reply_is_mirror(flow);
}

bool msc_flow_nat_address(const MscFlow *flow, const MscSelector *s,
                          MscAddress *address)
{
    MscAddress originator;
    bool guest_began;

    flow_address(flow, ORIG_SRC, &originator);
    /* Without addresses the zone or mark says that it is the guest's, but
     * not which end; SNAT is then taken for the guest's own. */
    guest_began = s->addresses->len
                      ? msc_address_in(&originator, s->addresses)
                      : is_snat(flow);
    if (guest_began && is_snat(flow)) {
        flow_address(flow, REPL_DST, address);
        return true;
    }
    if (!guest_began && is_dnat(flow)) {
        flow_address(flow, ORIG_DST, address);
        return true;
    }
    return false;
}

void msc_flow_mirror_reply(MscFlow *flow)
{
    /* Ports, identifiers, and the answering ICMP type as well. */
    nfct_setobjopt(flow, NFCT_SOPT_SETUP_REPLY);
    /* The library knows the ports of some protocols only. */
    for (int i = 0; i < 2; i++) {
        if (nfct_attr_is_set(flow, port_attr[i])) {
            nfct_set_attr_u16(flow, port_attr[REPL_DST - i],
                              nfct_get_attr_u16(flow, port_attr[i]));
        }
    }
}

static void describe_end(GString *out, const MscFlow *flow, End end)
{
    MscAddress a;

    flow_address(flow, end, &a);
    {
        g_autofree char *text = msc_address_format(&a);

        g_string_append_printf(out, a.family == AF_INET6 ? "[%s]:%u" : "%s:%u",
                               text, ntohs(flow_port(flow, end)));
    }
}

char *msc_flow_describe(const MscFlow *flow)
{
    static const struct {
        uint8_t number;
        const char *name;
    } protocols[] = {
        { IPPROTO_TCP, "tcp" },         { IPPROTO_UDP, "udp" },
        { IPPROTO_ICMP, "icmp" },       { IPPROTO_ICMPV6, "icmpv6" },
        { IPPROTO_SCTP, "sctp" },       { IPPROTO_UDPLITE, "udplite" },
    };
    uint8_t l4 = nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO);
    GString *out = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(protocols); i++) {
        if (protocols[i].number == l4) {
            g_string_append(out, protocols[i].name);
        }
    }
    if (!out->len) {
        g_string_append_printf(out, "protocol %u", l4);
    }
    g_string_append_c(out, ' ');
    describe_end(out, flow, ORIG_SRC);
    g_string_append(out, " -> ");
    describe_end(out, flow, ORIG_DST);
    if (msc_flow_is_nated(flow)) {
        g_string_append(out, " (answers ");
        describe_end(out, flow, REPL_SRC);
        g_string_append(out, " -> ");
        describe_end(out, flow, REPL_DST);
        g_string_append_c(out, ')');
    }
    return g_string_free(out, FALSE);
}

GBytes *msc_flow_key(const MscFlow *flow)
{
    uint8_t key[2 + 2 * 16 + 2 * 2 + 2 + 2] = { 0 };
    MscAddress src, dst;
    uint16_t words[4];

    flow_address(flow, ORIG_SRC, &src);
    flow_address(flow, ORIG_DST, &dst);
    key[0] = src.family;
    key[1] = nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO);
    memcpy(key + 2, src.bytes, 16);
    memcpy(key + 18, dst.bytes, 16);
    words[0] = flow_port(flow, ORIG_SRC);
    words[1] = flow_port(flow, ORIG_DST);
    words[2] = nfct_attr_is_set(flow, ATTR_ZONE)
                   ? nfct_get_attr_u16(flow, ATTR_ZONE) : 0;
    words[3] = (uint16_t)(nfct_get_attr_u8(flow, ATTR_ICMP_TYPE) << 8 |
                          nfct_get_attr_u8(flow, ATTR_ICMP_CODE));
    memcpy(key + 34, words, sizeof(words));
    return g_bytes_new(key, sizeof(key));
}

static void copy_address(MscFlow *to, End to_end, const MscFlow *from,
                         End from_end)
{
    if (family(from) == AF_INET) {
        nfct_set_attr_u32(to, v4_attr[to_end],
                          nfct_get_attr_u32(from, v4_attr[from_end]));
    } else {
        nfct_set_attr(to, v6_attr[to_end],
                      nfct_get_attr(from, v6_attr[from_end]));
    }
}

static void copy_port(MscFlow *to, End to_end, const MscFlow *from,
                      End from_end)
{
    if (nfct_attr_is_set(from, port_attr[from_end])) {
        nfct_set_attr_u16(to, port_attr[to_end],
                          nfct_get_attr_u16(from, port_attr[from_end]));
    }
}

MscFlow *msc_flow_to_find(const MscFlow *flow, bool reply)
{
    MscFlow *copy = nfct_new();

    /* ICMP has no ports to translate: one tuple stands for both. */
    if (reply && !nfct_attr_is_set(flow, ATTR_ICMP_TYPE)) {
        /* The kernel finds an entry by either tuple, whichever it is called
         * in the request. */
        nfct_set_attr_u8(copy, ATTR_ORIG_L3PROTO, family(flow));
        nfct_set_attr_u8(copy, ATTR_ORIG_L4PROTO,
                         nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO));
        copy_address(copy, ORIG_SRC, flow, REPL_SRC);
        copy_address(copy, ORIG_DST, flow, REPL_DST);
        copy_port(copy, ORIG_SRC, flow, REPL_SRC);
        copy_port(copy, ORIG_DST, flow, REPL_DST);
    } else {
        nfct_copy(copy, flow, NFCT_CP_ORIG);
    }
    if (nfct_attr_is_set(flow, ATTR_ZONE)) {
        nfct_set_attr_u16(copy, ATTR_ZONE, nfct_get_attr_u16(flow, ATTR_ZONE));
    }
    return copy;
}

/* Turns a finished reply tuple back into the request that makes it. */
static void undo_nat(MscFlow *copy, const MscFlow *flow)
{
    bool v4 = family(flow) == AF_INET;

    if (is_snat(flow)) {
        if (v4) {
            nfct_set_attr_u32(copy, ATTR_SNAT_IPV4,
                              nfct_get_attr_u32(flow, ATTR_REPL_IPV4_DST));
        } else {
            nfct_set_attr(copy, ATTR_SNAT_IPV6,
                          nfct_get_attr(flow, ATTR_REPL_IPV6_DST));
        }
        if (nfct_attr_is_set(flow, ATTR_REPL_PORT_DST)) {
            nfct_set_attr_u16(copy, ATTR_SNAT_PORT,
                              nfct_get_attr_u16(flow, ATTR_REPL_PORT_DST));
        }
    }
    if (is_dnat(flow)) {
        if (v4) {
            nfct_set_attr_u32(copy, ATTR_DNAT_IPV4,
                              nfct_get_attr_u32(flow, ATTR_REPL_IPV4_SRC));
        } else {
            nfct_set_attr(copy, ATTR_DNAT_IPV6,
                          nfct_get_attr(flow, ATTR_REPL_IPV6_SRC));
        }
        if (nfct_attr_is_set(flow, ATTR_REPL_PORT_SRC)) {
            nfct_set_attr_u16(copy, ATTR_DNAT_PORT,
                              nfct_get_attr_u16(flow, ATTR_REPL_PORT_SRC));
        }
    }
    msc_flow_mirror_reply(copy);
}

static void make_tcp_lenient(MscFlow *copy)
{
    static const enum nf_conntrack_attr flags[] = { ATTR_TCP_FLAGS_ORIG,
                                                    ATTR_TCP_FLAGS_REPL };
    static const enum nf_conntrack_attr masks[] = { ATTR_TCP_MASK_ORIG,
                                                    ATTR_TCP_MASK_REPL };

    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        nfct_set_attr_u8(copy, flags[i],
                         nfct_get_attr_u8(copy, flags[i]) |
                             IP_CT_TCP_FLAG_BE_LIBERAL);
        nfct_set_attr_u8(copy, masks[i], UINT8_MAX);
    }
}

MscFlow *msc_flow_to_create(const MscFlow *flow, uint64_t transit_us,
                            bool lenient)
{
    /* What ctnetlink lets a creator say (ctnetlink_change_status()): the
     * kernel sets the NAT and EXPECTED bits by itself. */
    const uint32_t settable = IPS_SEEN_REPLY | IPS_ASSURED;
    uint64_t gone = transit_us / G_USEC_PER_SEC;
    uint32_t timeout = nfct_get_attr_u32(flow, ATTR_TIMEOUT);
    MscFlow *copy;

    if (timeout <= gone) {
        return NULL;
    }
    copy = nfct_clone(flow);
    nfct_set_attr_u32(copy, ATTR_TIMEOUT, timeout - (uint32_t)gone);
    nfct_set_attr_u32(copy, ATTR_STATUS,
                      (nfct_get_attr_u32(flow, ATTR_STATUS) & settable) |
                          IPS_CONFIRMED);
    if (msc_flow_is_nated(flow)) {
        undo_nat(copy, flow);
    }
    if (nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO) == IPPROTO_TCP) {
        if (lenient) {
            make_tcp_lenient(copy);
        } else {
            nfct_set_attr_u8(copy, ATTR_TCP_MASK_ORIG, UINT8_MAX);
            nfct_set_attr_u8(copy, ATTR_TCP_MASK_REPL, UINT8_MAX);
        }
    }
    return copy;
}
