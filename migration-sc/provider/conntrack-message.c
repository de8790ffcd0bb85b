/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-message.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include <sys/socket.h>

#define LABELS_MAX 16 /* bytes; NF_CT_LABELS_MAX_SIZE in the kernel */
#define HELPER_MAX 16 /* with its NUL; NF_CT_HELPER_NAME_LEN */
#define NONE (-1)     /* of no use to anybody here */

/* Of what: the same attributes tell of all three. */
typedef enum {
    ORIG,
    REPL,
    MASTER,
    SIDES,
} Side;

typedef enum {
    PASSED_OVER,
    NEST,
    HANDED_ON, /* a nest of which the library has no setters: it looks itself */
    CHECKED,   /* in one of these: of this length, that is all */
    RAW,       /* as it is: addresses, ports, in network order */
    NUMBER,    /* big-endian */
    FLAGS,     /* struct nf_ct_tcp_flags; the mask says nothing in a dump */
    NAME,      /* ended by NUL */
    LABELS,    /* bit 0 is the lowest bit of the first byte */
} Kind;

struct Nest;

typedef struct {
    Kind kind;
    uint8_t len;     /* bytes, of RAW, NUMBER and FLAGS */
    int attr[SIDES]; /* enum nf_conntrack_attr, or NONE */
    const struct Nest *nest;
    Side side; /* of the nest */
} Item;

/* What stands at one level, by type. */
typedef struct Nest {
    size_t count;
    const Item *items;
} Nest;

/* clang-format off */
#define EACH(orig, repl, master) { ATTR_##orig, ATTR_##repl, ATTR_##master }
#define BOTH(orig, repl) { ATTR_##orig, ATTR_##repl, NONE }
#define ONE(attr) { ATTR_##attr, NONE, NONE }
#define UNSIDED { NONE, NONE, NONE }
#define NEST_OF(items) { G_N_ELEMENTS(items), items }

static const Item ip[] = {
    [CTA_IP_V4_SRC] = { RAW, 4, EACH(ORIG_IPV4_SRC, REPL_IPV4_SRC,
                                     MASTER_IPV4_SRC) },
    [CTA_IP_V4_DST] = { RAW, 4, EACH(ORIG_IPV4_DST, REPL_IPV4_DST,
                                     MASTER_IPV4_DST) },
    [CTA_IP_V6_SRC] = { RAW, 16, EACH(ORIG_IPV6_SRC, REPL_IPV6_SRC,
                                      MASTER_IPV6_SRC) },
    [CTA_IP_V6_DST] = { RAW, 16, EACH(ORIG_IPV6_DST, REPL_IPV6_DST,
                                      MASTER_IPV6_DST) },
};
static const Nest ip_nest = NEST_OF(ip);

/* The identifier of the reply: conntrack-flow.h. */
static const Item proto[] = {
    [CTA_PROTO_NUM] = { RAW, 1, EACH(ORIG_L4PROTO, REPL_L4PROTO,
                                     MASTER_L4PROTO) },
    [CTA_PROTO_SRC_PORT] = { RAW, 2, EACH(ORIG_PORT_SRC, REPL_PORT_SRC,
                                          MASTER_PORT_SRC) },
    [CTA_PROTO_DST_PORT] = { RAW, 2, EACH(ORIG_PORT_DST, REPL_PORT_DST,
                                          MASTER_PORT_DST) },
    [CTA_PROTO_ICMP_ID] = { RAW, 2, BOTH(ICMP_ID, REPL_PORT_SRC) },
    [CTA_PROTO_ICMP_TYPE] = { RAW, 1, ONE(ICMP_TYPE) },
    [CTA_PROTO_ICMP_CODE] = { RAW, 1, ONE(ICMP_CODE) },
    [CTA_PROTO_ICMPV6_ID] = { RAW, 2, BOTH(ICMP_ID, REPL_PORT_SRC) },
    [CTA_PROTO_ICMPV6_TYPE] = { RAW, 1, ONE(ICMP_TYPE) },
    [CTA_PROTO_ICMPV6_CODE] = { RAW, 1, ONE(ICMP_CODE) },
};
static const Nest proto_nest = NEST_OF(proto);

/* A tuple's side is that of what it holds. */
#define TUPLE(name, side)                                           \
    static const Item name[] = {                                    \
        [CTA_TUPLE_IP] = { NEST, 0, UNSIDED, &ip_nest, side },      \
        [CTA_TUPLE_PROTO] = { NEST, 0, UNSIDED, &proto_nest, side },\
        [CTA_TUPLE_ZONE] = { NUMBER, 2, BOTH(ORIG_ZONE, REPL_ZONE) },\
    };                                                              \
    static const Nest name##_nest = NEST_OF(name)
TUPLE(orig_tuple, ORIG);
TUPLE(repl_tuple, REPL);
TUPLE(master_tuple, MASTER);

static const Item tcp[] = {
    [CTA_PROTOINFO_TCP_STATE] = { RAW, 1, ONE(TCP_STATE) },
    [CTA_PROTOINFO_TCP_WSCALE_ORIGINAL] = { RAW, 1, ONE(TCP_WSCALE_ORIG) },
    [CTA_PROTOINFO_TCP_WSCALE_REPLY] = { RAW, 1, ONE(TCP_WSCALE_REPL) },
    [CTA_PROTOINFO_TCP_FLAGS_ORIGINAL] = { FLAGS, 2, ONE(TCP_FLAGS_ORIG) },
    [CTA_PROTOINFO_TCP_FLAGS_REPLY] = { FLAGS, 2, ONE(TCP_FLAGS_REPL) },
};
static const Nest tcp_nest = NEST_OF(tcp);

static const Item sctp[] = {
    [CTA_PROTOINFO_SCTP_STATE] = { RAW, 1, ONE(SCTP_STATE) },
    [CTA_PROTOINFO_SCTP_VTAG_ORIGINAL] = { NUMBER, 4, ONE(SCTP_VTAG_ORIG) },
    [CTA_PROTOINFO_SCTP_VTAG_REPLY] = { NUMBER, 4, ONE(SCTP_VTAG_REPL) },
};
static const Nest sctp_nest = NEST_OF(sctp);

static const Item protoinfo[] = {
    [CTA_PROTOINFO_TCP] = { NEST, 0, UNSIDED, &tcp_nest },
    [CTA_PROTOINFO_SCTP] = { NEST, 0, UNSIDED, &sctp_nest },
};
static const Nest protoinfo_nest = NEST_OF(protoinfo);

static const Item help[] = {
    [CTA_HELP_NAME] = { NAME, 0, ONE(HELPER_NAME) },
};
static const Nest help_nest = NEST_OF(help);

static const Item counters[] = {
    [CTA_COUNTERS_PACKETS] = { CHECKED, 8 },
    [CTA_COUNTERS_BYTES] = { CHECKED, 8 },
    [CTA_COUNTERS32_PACKETS] = { CHECKED, 4 },
    [CTA_COUNTERS32_BYTES] = { CHECKED, 4 },
};
static const Nest counters_nest = NEST_OF(counters);

static const Item adjust[] = {
    [CTA_SEQADJ_CORRECTION_POS] = { NUMBER, 4,
                                    BOTH(ORIG_NAT_SEQ_CORRECTION_POS,
                                         REPL_NAT_SEQ_CORRECTION_POS) },
    [CTA_SEQADJ_OFFSET_BEFORE] = { NUMBER, 4,
                                   BOTH(ORIG_NAT_SEQ_OFFSET_BEFORE,
                                        REPL_NAT_SEQ_OFFSET_BEFORE) },
    [CTA_SEQADJ_OFFSET_AFTER] = { NUMBER, 4,
                                  BOTH(ORIG_NAT_SEQ_OFFSET_AFTER,
                                       REPL_NAT_SEQ_OFFSET_AFTER) },
};
static const Nest adjust_nest = NEST_OF(adjust);

static const Item timestamp[] = {
    [CTA_TIMESTAMP_START] = { CHECKED, 8 },
    [CTA_TIMESTAMP_STOP] = { CHECKED, 8 },
};
static const Nest timestamp_nest = NEST_OF(timestamp);

static const Item top[] = {
    [CTA_TUPLE_ORIG] = { NEST, 0, UNSIDED, &orig_tuple_nest, ORIG },
    [CTA_TUPLE_REPLY] = { NEST, 0, UNSIDED, &repl_tuple_nest, REPL },
    [CTA_STATUS] = { NUMBER, 4, ONE(STATUS) },
    [CTA_PROTOINFO] = { NEST, 0, UNSIDED, &protoinfo_nest },
    [CTA_HELP] = { NEST, 0, UNSIDED, &help_nest },
    [CTA_TIMEOUT] = { NUMBER, 4, ONE(TIMEOUT) },
    [CTA_MARK] = { NUMBER, 4, ONE(MARK) },
    [CTA_COUNTERS_ORIG] = { HANDED_ON, 0, UNSIDED, &counters_nest },
    [CTA_COUNTERS_REPLY] = { HANDED_ON, 0, UNSIDED, &counters_nest },
    [CTA_ID] = { NUMBER, 4, ONE(ID) },
    [CTA_TUPLE_MASTER] = { NEST, 0, UNSIDED, &master_tuple_nest, MASTER },
    [CTA_SEQ_ADJ_ORIG] = { NEST, 0, UNSIDED, &adjust_nest, ORIG },
    [CTA_SEQ_ADJ_REPLY] = { NEST, 0, UNSIDED, &adjust_nest, REPL },
    [CTA_ZONE] = { NUMBER, 2, ONE(ZONE) },
    [CTA_TIMESTAMP] = { HANDED_ON, 0, UNSIDED, &timestamp_nest },
    [CTA_LABELS] = { LABELS, 0, ONE(CONNLABELS) },
};
static const Nest top_nest = NEST_OF(top);
/* clang-format on */

static void take_number(MscFlow *flow, enum nf_conntrack_attr attr,
                        const uint8_t *value, uint8_t len)
{
    uint16_t v16;
    uint32_t v32;

    if (len == 2) {
        memcpy(&v16, value, sizeof(v16));
        nfct_set_attr_u16(flow, attr, GUINT16_FROM_BE(v16));
    } else {
        memcpy(&v32, value, sizeof(v32));
        nfct_set_attr_u32(flow, attr, GUINT32_FROM_BE(v32));
    }
}

static bool take_name(MscFlow *flow, enum nf_conntrack_attr attr,
                      const uint8_t *value, size_t len)
{
    if (len < 2 || len > HELPER_MAX ||
        memchr(value, '\0', len) != value + len - 1) {
        return false;
    }
    nfct_set_attr(flow, attr, value);
    return true;
}

static bool take_labels(MscFlow *flow, enum nf_conntrack_attr attr,
                        const uint8_t *value, size_t len)
{
    struct nfct_bitmask *b;

    if (!len || len > LABELS_MAX) {
        return false;
    }
    b = nfct_bitmask_new((unsigned)len * 8 - 1);
    for (unsigned bit = 0; bit < len * 8; bit++) {
        if (value[bit / 8] & (1u << (bit % 8))) {
            nfct_bitmask_set_bit(b, bit);
        }
    }
    nfct_set_attr(flow, attr, b); /* takes it */
    return true;
}

/* What has one value. */
static bool take_value(MscFlow *flow, const Item *item, Side side,
                       const uint8_t *value, size_t len)
{
    enum nf_conntrack_attr attr = (enum nf_conntrack_attr)item->attr[side];

    if (item->len && item->len != len) {
        return false;
    }
    if (item->kind == CHECKED || item->attr[side] == NONE) {
        return true;
    }
    switch (item->kind) {
    case NUMBER:
        take_number(flow, attr, value, item->len);
        return true;
    case NAME:
        return take_name(flow, attr, value, len);
    case LABELS:
        return take_labels(flow, attr, value, len);
    case FLAGS:
        nfct_set_attr_u8(flow, attr, value[0]);
        return true;
    default:
        nfct_set_attr(flow, attr, value); /* an integer, and aligned */
        return true;
    }
}

static bool take_nest(MscFlow *flow, const Nest *nest, Side side,
                      const uint8_t *at, size_t left);

/* The attribute at @at, of @len bytes with its head. */
static bool take_item(MscFlow *flow, const Item *item, Side side,
                      const uint8_t *at, size_t len)
{
    const uint8_t *value = at + NLA_HDRLEN;

    switch (item->kind) {
    case PASSED_OVER:
        return true;
    case NEST:
        return take_nest(flow, item->nest, item->side, value, len - NLA_HDRLEN);
    case HANDED_ON:
        return take_nest(flow, item->nest, side, value, len - NLA_HDRLEN) &&
               nfct_payload_parse(at, len, AF_UNSPEC, flow) == 0;
    default:
        return take_value(flow, item, side, value, len - NLA_HDRLEN);
    }
}

/* As deep as the tables above.  False: malformed. */
static bool take_nest(MscFlow *flow, const Nest *nest, Side side,
                      const uint8_t *at, size_t left)
{
    uint32_t seen = 0;

    while (left) {
        struct nlattr head;
        unsigned type;
        size_t step;

        if (left < sizeof(head)) {
            return false;
        }
        memcpy(&head, at, sizeof(head));
        if (head.nla_len < NLA_HDRLEN || head.nla_len > left) {
            return false;
        }
        type = head.nla_type & NLA_TYPE_MASK;
        if (type < nest->count) {
            if (seen & 1u << type ||
                !take_item(flow, &nest->items[type], side, at, head.nla_len)) {
                return false;
            }
            seen |= 1u << type;
        }
        step = MIN((size_t)NLA_ALIGN(head.nla_len), left);
        at += step;
        left -= step;
    }
    return true;
}

static bool is_set(const MscFlow *flow, enum nf_conntrack_attr attr)
{
    return nfct_attr_is_set(flow, attr) > 0;
}

/* It has what everything that looks at flows takes for granted. */
static bool is_whole(const MscFlow *flow, uint8_t family)
{
    bool v4 = family == AF_INET;
    bool child = is_set(flow, ATTR_MASTER_L4PROTO);

    return is_set(flow, ATTR_ORIG_L4PROTO) &&
           is_set(flow, v4 ? ATTR_ORIG_IPV4_SRC : ATTR_ORIG_IPV6_SRC) &&
           is_set(flow, v4 ? ATTR_ORIG_IPV4_DST : ATTR_ORIG_IPV6_DST) &&
           (!child ||
            (is_set(flow, v4 ? ATTR_MASTER_IPV4_SRC : ATTR_MASTER_IPV6_SRC) &&
             is_set(flow, v4 ? ATTR_MASTER_IPV4_DST : ATTR_MASTER_IPV6_DST)));
}

MscFlow *msc_flow_parse(const struct nlmsghdr *nlh)
{
    const size_t head = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
    const uint8_t *bytes = (const uint8_t *)nlh;
    struct nfgenmsg nfg;
    MscFlow *flow;

    if (nlh->nlmsg_len < head) {
        return NULL;
    }
    memcpy(&nfg, bytes + NLMSG_HDRLEN, sizeof(nfg));
    if (nfg.nfgen_family != AF_INET && nfg.nfgen_family != AF_INET6) {
        return NULL;
    }
    flow = nfct_new();
    if (!take_nest(flow, &top_nest, ORIG, bytes + head,
                   nlh->nlmsg_len - head) ||
        !is_whole(flow, nfg.nfgen_family)) {
        nfct_destroy(flow);
        return NULL;
    }
    nfct_set_attr_u8(flow, ATTR_ORIG_L3PROTO, nfg.nfgen_family);
    nfct_set_attr_u8(flow, ATTR_REPL_L3PROTO, nfg.nfgen_family);
    if (is_set(flow, ATTR_MASTER_L4PROTO)) {
        nfct_set_attr_u8(flow, ATTR_MASTER_L3PROTO, nfg.nfgen_family);
    }
    return flow;
}
