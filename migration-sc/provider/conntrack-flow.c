/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-flow.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <string.h>

#include "conntrack-shape.h"

typedef enum {
    ORIG_SRC,
    ORIG_DST,
    REPL_SRC,
    REPL_DST,
} End;

static const enum nf_conntrack_attr v4_attr[] = { ATTR_ORIG_IPV4_SRC,
                                                  ATTR_ORIG_IPV4_DST,
                                                  ATTR_REPL_IPV4_SRC,
                                                  ATTR_REPL_IPV4_DST };
static const enum nf_conntrack_attr v6_attr[] = { ATTR_ORIG_IPV6_SRC,
                                                  ATTR_ORIG_IPV6_DST,
                                                  ATTR_REPL_IPV6_SRC,
                                                  ATTR_REPL_IPV6_DST };
static const enum nf_conntrack_attr port_attr[] = { ATTR_ORIG_PORT_SRC,
                                                    ATTR_ORIG_PORT_DST,
                                                    ATTR_REPL_PORT_SRC,
                                                    ATTR_REPL_PORT_DST };

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

bool msc_flow_is_icmp(const MscFlow *flow)
{
    uint8_t l4 = nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO);

    return l4 == IPPROTO_ICMP || l4 == IPPROTO_ICMPV6;
}

uint16_t msc_flow_icmp_id(const MscFlow *flow, bool reply)
{
    return reply && nfct_attr_is_set(flow, ATTR_REPL_PORT_SRC)
               ? nfct_get_attr_u16(flow, ATTR_REPL_PORT_SRC)
               : nfct_get_attr_u16(flow, ATTR_ICMP_ID);
}

/* In network byte order; for ICMP the identifier stands in for a port. */
static uint16_t flow_port(const MscFlow *flow, End end)
{
    if (msc_flow_is_icmp(flow)) {
        return msc_flow_icmp_id(flow, end == REPL_SRC || end == REPL_DST);
    }
    return nfct_get_attr_u16(flow, port_attr[end]); /* 0: it has none */
}

bool msc_address_equal(const MscAddress *a, const MscAddress *b)
{
    return a->family == b->family &&
           !memcmp(a->bytes, b->bytes, a->family == AF_INET ? 4 : 16);
}

bool msc_address_in(const MscAddress *address, const GArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        if (msc_address_equal(address, &g_array_index(list, MscAddress, i))) {
            return true;
        }
    }
    return false;
}

/* A zone may hold for one direction only (CTA_ZONE inside a tuple); the other
 * then lies in zone 0 (nf_ct_zone_id() in the kernel). */
uint16_t msc_flow_zone(const MscFlow *flow, bool reply)
{
    enum nf_conntrack_attr directional =
        reply ? ATTR_REPL_ZONE : ATTR_ORIG_ZONE;

    if (nfct_attr_is_set(flow, ATTR_ZONE)) {
        return nfct_get_attr_u16(flow, ATTR_ZONE);
    }
    return nfct_attr_is_set(flow, directional)
               ? nfct_get_attr_u16(flow, directional)
               : 0;
}

bool msc_flow_belongs(const MscFlow *flow, const MscSelector *s)
{
    MscAddress originator, responder;

    if (s->has_zone) {
        uint16_t zone = msc_flow_zone(flow, false);

        /* Whatever its direction, as in the kernel's filter. */
        zone = zone ? zone : msc_flow_zone(flow, true);
        if (zone != s->zone) {
            return false;
        }
    }
    if (s->has_mark &&
        (nfct_get_attr_u32(flow, ATTR_MARK) & s->mark_mask) != s->mark) {
        return false;
    }
    if (!s->addresses->len) {
        return true;
    }
    flow_address(flow, ORIG_SRC, &originator);
    if (msc_address_in(&originator, s->addresses)) {
        return true;
    }
    flow_address(flow, REPL_SRC, &responder);
    return msc_address_in(&responder, s->addresses);
}

bool msc_flow_is_originator(const MscFlow *flow, const MscSelector *s)
{
    MscAddress originator;

    flow_address(flow, ORIG_SRC, &originator);
    return msc_address_in(&originator, s->addresses);
}

bool msc_flow_is_guests(const MscFlow *flow, const MscSelector *s)
{
    MscSelector without = *s;

    without.has_mark = s->has_mark && !s->addresses->len;
    return msc_flow_belongs(flow, &without);
}

static bool addresses_equal(const MscFlow *flow, End a, End b)
{
    MscAddress x, y;

    if (family(flow) == AF_INET) {
        return nfct_get_attr_u32(flow, v4_attr[a]) ==
               nfct_get_attr_u32(flow, v4_attr[b]);
    }
    flow_address(flow, a, &x);
    flow_address(flow, b, &y);
    return msc_address_equal(&x, &y);
}

static bool ends_equal(const MscFlow *flow, End a, End b)
{
    return addresses_equal(flow, a, b) &&
           flow_port(flow, a) == flow_port(flow, b);
}

bool msc_flow_is_snat(const MscFlow *flow)
{
    return !ends_equal(flow, ORIG_SRC, REPL_DST);
}

bool msc_flow_is_dnat(const MscFlow *flow)
{
    /* Both directions share one identifier; a changed one counts as SNAT. */
    return msc_flow_is_icmp(flow) ? !addresses_equal(flow, ORIG_DST, REPL_SRC)
                                  : !ends_equal(flow, ORIG_DST, REPL_SRC);
}

/* Nearly every flow is none, and asked several times over. */
static bool is_plain_ipv4(const MscFlow *flow)
{
    struct nfct_attr_grp_ipv4 asked, answered;
    struct nfct_attr_grp_port from = { 0 }, to = { 0 };

    if (msc_flow_is_icmp(flow) ||
        nfct_get_attr_grp(flow, ATTR_GRP_ORIG_IPV4, &asked) < 0 ||
        nfct_get_attr_grp(flow, ATTR_GRP_REPL_IPV4, &answered) < 0) {
        return false;
    }
    nfct_get_attr_grp(flow, ATTR_GRP_ORIG_PORT, &from); /* or it has none */
    nfct_get_attr_grp(flow, ATTR_GRP_REPL_PORT, &to);
    return asked.src == answered.dst && asked.dst == answered.src &&
           from.sport == to.dport && from.dport == to.sport;
}

bool msc_flow_is_nated(const MscFlow *flow)
{
    return !is_plain_ipv4(flow) &&
           (msc_flow_is_snat(flow) || msc_flow_is_dnat(flow));
}

bool msc_flow_nat_address(const MscFlow *flow, const MscSelector *s,
                          MscAddress *address)
{
    MscAddress originator;
    bool guest_began;

    flow_address(flow, ORIG_SRC, &originator);
    /* Without addresses the zone or mark says that it is the guest's, but
     * not which end; SNAT is then taken for the guest's own. */
    guest_began = s->addresses->len ? msc_address_in(&originator, s->addresses)
                                    : msc_flow_is_snat(flow);
    if (guest_began && msc_flow_is_snat(flow)) {
        flow_address(flow, REPL_DST, address);
        return true;
    }
    if (!guest_began && msc_flow_is_dnat(flow)) {
        flow_address(flow, ORIG_DST, address);
        return true;
    }
    return false;
}

bool msc_flow_has_labels(const MscFlow *flow)
{
    const struct nfct_bitmask *b = nfct_attr_is_set(flow, ATTR_CONNLABELS) > 0
                                       ? nfct_get_attr(flow, ATTR_CONNLABELS)
                                       : NULL;

    for (unsigned bit = 0; b && bit <= nfct_bitmask_maxbit(b); bit++) {
        if (nfct_bitmask_test_bit(b, bit)) {
            return true;
        }
    }
    return false;
}

void msc_flow_mirror_reply(MscFlow *flow)
{
    bool ports = nfct_attr_is_set(flow, ATTR_ORIG_PORT_SRC) > 0 &&
                 !msc_flow_is_icmp(flow);
    bool v4 = family(flow) == AF_INET;

    /* Ports, identifiers, and the answering ICMP type as well. */
    nfct_setobjopt(flow, NFCT_SOPT_SETUP_REPLY);
    /* It calls everything set that a tuple may have, of both families. */
    for (int i = ORIG_SRC; i <= REPL_DST; i++) {
        nfct_attr_unset(flow, v4 ? v6_attr[i] : v4_attr[i]);
        if (!ports) {
            nfct_attr_unset(flow, port_attr[i]);
        }
    }
    if (msc_flow_is_icmp(flow)) {
        nfct_set_attr_u16(flow, ATTR_REPL_PORT_SRC,
                          nfct_get_attr_u16(flow, ATTR_ICMP_ID));
    } else {
        nfct_attr_unset(flow, ATTR_ICMP_TYPE);
        nfct_attr_unset(flow, ATTR_ICMP_CODE);
        nfct_attr_unset(flow, ATTR_ICMP_ID);
    }
    /* The library knows the ports of some protocols only. */
    for (int i = ORIG_SRC; ports && i <= ORIG_DST; i++) {
        nfct_set_attr_u16(flow, port_attr[REPL_DST - i],
                          nfct_get_attr_u16(flow, port_attr[i]));
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
        { IPPROTO_TCP, "tcp" },   { IPPROTO_UDP, "udp" },
        { IPPROTO_ICMP, "icmp" }, { IPPROTO_ICMPV6, "icmpv6" },
        { IPPROTO_SCTP, "sctp" }, { IPPROTO_UDPLITE, "udplite" },
        { IPPROTO_DCCP, "dccp" }, { IPPROTO_GRE, "gre" },
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

typedef struct {
    uint8_t family, l4;
    uint8_t src[16], dst[16];
    uint16_t src_port, dst_port; /* or the ICMP identifier, twice */
    uint16_t zone;
    uint8_t icmp_type, icmp_code;
} Key;

static GBytes *key_bytes(const Key *k)
{
    return g_bytes_new(k, sizeof(*k));
}

/* One byte after the other: nothing in it that nobody set. */
G_STATIC_ASSERT(sizeof(Key) == 2 + 2 * 16 + 3 * 2 + 2);

GBytes *msc_flow_key(const MscFlow *flow)
{
    return msc_flow_key_in(flow, msc_flow_zone(flow, false));
}

static void key_address(uint8_t *out, const MscFlow *flow, End end)
{
    bool v4 = family(flow) == AF_INET;
    const void *bytes = nfct_get_attr(flow, v4 ? v4_attr[end] : v6_attr[end]);

    if (bytes) {
        memcpy(out, bytes, v4 ? 4 : 16);
    }
}

static Key key_of(const MscFlow *flow, uint16_t zone)
{
    Key key = { 0 };

    key.family = family(flow);
    key.l4 = nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO);
    key_address(key.src, flow, ORIG_SRC);
    key_address(key.dst, flow, ORIG_DST);
    key.src_port = flow_port(flow, ORIG_SRC);
    key.dst_port = flow_port(flow, ORIG_DST);
    key.zone = zone;
    if (msc_flow_is_icmp(flow)) {
        key.icmp_type = nfct_get_attr_u8(flow, ATTR_ICMP_TYPE);
        key.icmp_code = nfct_get_attr_u8(flow, ATTR_ICMP_CODE);
    }
    return key;
}

GBytes *msc_flow_key_in(const MscFlow *flow, uint16_t zone)
{
    Key key = key_of(flow, zone);

    return key_bytes(&key);
}

MscFlow *msc_flow_of_key(GBytes *key)
{
    MscFlow *flow = nfct_new();
    Key k;

    g_assert(g_bytes_get_size(key) == sizeof(k));
    memcpy(&k, g_bytes_get_data(key, NULL), sizeof(k));
    nfct_set_attr_u8(flow, ATTR_ORIG_L3PROTO, k.family);
    nfct_set_attr_u8(flow, ATTR_ORIG_L4PROTO, k.l4);
    if (k.family == AF_INET) {
        uint32_t src, dst;

        memcpy(&src, k.src, sizeof(src));
        memcpy(&dst, k.dst, sizeof(dst));
        nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_SRC, src);
        nfct_set_attr_u32(flow, ATTR_ORIG_IPV4_DST, dst);
    } else {
        uint64_t src[2], dst[2]; /* aligned */

        memcpy(src, k.src, sizeof(src));
        memcpy(dst, k.dst, sizeof(dst));
        nfct_set_attr(flow, ATTR_ORIG_IPV6_SRC, src);
        nfct_set_attr(flow, ATTR_ORIG_IPV6_DST, dst);
    }
    if (msc_flow_is_icmp(flow)) {
        nfct_set_attr_u8(flow, ATTR_ICMP_TYPE, k.icmp_type);
        nfct_set_attr_u8(flow, ATTR_ICMP_CODE, k.icmp_code);
        nfct_set_attr_u16(flow, ATTR_ICMP_ID, k.src_port);
    } else if (msc_l4_has_ports(k.l4)) {
        nfct_set_attr_u16(flow, ATTR_ORIG_PORT_SRC, k.src_port);
        nfct_set_attr_u16(flow, ATTR_ORIG_PORT_DST, k.dst_port);
    }
    if (k.zone) {
        nfct_set_attr_u16(flow, ATTR_ZONE, k.zone);
    }
    return flow;
}

/* As FNV-1a, but of eight bytes at a time, whose upper half is folded into the
 * lower one, which hash tables look at.  Two keys of one hash make a set count
 * one less, no more. */
static guint64 hash_of(const uint8_t *data, gsize len)
{
    guint64 hash = G_GUINT64_CONSTANT(14695981039346656037) ^ len;

    while (len) {
        gsize step = MIN(len, sizeof(guint64));
        guint64 word = 0;

        memcpy(&word, data, step);
        hash = (hash ^ word) * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
        data += step;
        len -= step;
    }
    return hash;
}

guint64 msc_flow_key_hash(GBytes *key)
{
    gsize len;
    const uint8_t *data = g_bytes_get_data(key, &len);

    return hash_of(data, len);
}

guint64 msc_flow_hash(const MscFlow *flow)
{
    Key key = key_of(flow, msc_flow_zone(flow, false));

    return hash_of((const uint8_t *)&key, sizeof(key));
}

bool msc_flow_is_child(const MscFlow *flow)
{
    return nfct_attr_is_set(flow, ATTR_MASTER_L4PROTO);
}

GBytes *msc_flow_master_key(const MscFlow *flow)
{
    Key key = { 0 };

    key.family = nfct_get_attr_u8(flow, ATTR_MASTER_L3PROTO);
    key.l4 = nfct_get_attr_u8(flow, ATTR_MASTER_L4PROTO);
    if (key.family == AF_INET) {
        memcpy(key.src, nfct_get_attr(flow, ATTR_MASTER_IPV4_SRC), 4);
        memcpy(key.dst, nfct_get_attr(flow, ATTR_MASTER_IPV4_DST), 4);
    } else {
        memcpy(key.src, nfct_get_attr(flow, ATTR_MASTER_IPV6_SRC), 16);
        memcpy(key.dst, nfct_get_attr(flow, ATTR_MASTER_IPV6_DST), 16);
    }
    key.src_port = nfct_get_attr_u16(flow, ATTR_MASTER_PORT_SRC);
    key.dst_port = nfct_get_attr_u16(flow, ATTR_MASTER_PORT_DST);
    /* The kernel looks for the master in the child's zone. */
    key.zone = msc_flow_zone(flow, false);
    return key_bytes(&key);
}

void msc_flow_orphan(MscFlow *flow)
{
    for (int attr = ATTR_MASTER_IPV4_SRC; attr <= ATTR_MASTER_L4PROTO; attr++) {
        nfct_attr_unset(flow, (enum nf_conntrack_attr)attr);
    }
    nfct_set_attr_u32(flow, ATTR_STATUS,
                      nfct_get_attr_u32(flow, ATTR_STATUS) &
                          ~(uint32_t)IPS_EXPECTED);
}
