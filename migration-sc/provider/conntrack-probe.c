/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-probe.h"

#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_sctp.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <string.h>

#include "error.h"

/* Long enough for a busy machine, short enough to be forgotten. */
#define SCRATCH_S 30

static void scratch_address(uint8_t family, MscAddress *a)
{
    memset(a, 0, sizeof(*a));
    a->family = family;
    if (family == AF_INET) {
        /* 0.0.0.0 itself is what DHCP uses. */
        a->v4.s_addr = htonl((uint32_t)g_random_int_range(1, 1 << 24));
    } else {
        a->bytes[0] = 1; /* 100::/64, RFC 6666 */
        for (int i = 8; i < 16; i++) {
            a->bytes[i] = (uint8_t)g_random_int_range(0, 256);
        }
    }
}

bool msc_flow_is_scratch(const MscFlow *flow)
{
    static const uint8_t discard[8] = { 1 };
    const void *v6;

    if (nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO) == AF_INET) {
        uint32_t src = ntohl(nfct_get_attr_u32(flow, ATTR_ORIG_IPV4_SRC));

        return src && src >> 24 == 0;
    }
    v6 = nfct_get_attr(flow, ATTR_ORIG_IPV6_SRC);
    return v6 && !memcmp(v6, discard, sizeof(discard));
}

MscFlow *msc_scratch_new(uint8_t family, uint8_t l4)
{
    MscFlow *flow = nfct_new();
    bool v4 = family == AF_INET;
    MscAddress src, dst;

    scratch_address(family, &src);
    scratch_address(family, &dst);
    nfct_set_attr_u8(flow, ATTR_ORIG_L3PROTO, family);
    nfct_set_attr_u8(flow, ATTR_ORIG_L4PROTO, l4);
    nfct_set_attr(flow, v4 ? ATTR_ORIG_IPV4_SRC : ATTR_ORIG_IPV6_SRC,
                  src.bytes);
    nfct_set_attr(flow, v4 ? ATTR_ORIG_IPV4_DST : ATTR_ORIG_IPV6_DST,
                  dst.bytes);
    nfct_set_attr_u16(flow, ATTR_ORIG_PORT_SRC,
                      (uint16_t)g_random_int_range(1, 65536));
    nfct_set_attr_u16(flow, ATTR_ORIG_PORT_DST,
                      (uint16_t)g_random_int_range(1, 65536));
    msc_flow_mirror_reply(flow);
    nfct_set_attr_u32(flow, ATTR_STATUS, IPS_CONFIRMED);
    nfct_set_attr_u32(flow, ATTR_TIMEOUT, SCRATCH_S);
    if (l4 == IPPROTO_TCP) {
        nfct_set_attr_u8(flow, ATTR_TCP_STATE, TCP_CONNTRACK_SYN_SENT);
    } else if (l4 == IPPROTO_SCTP) {
        nfct_set_attr_u8(flow, ATTR_SCTP_STATE, SCTP_CONNTRACK_CLOSED);
        nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_ORIG, 0);
        nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_REPL, 0);
    }
    return flow;
}

static bool run_one(MscCt *ct, MscCtVerb verb, MscFlow *flow, int *result,
                    MscFlow **found, GError **errp)
{
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    g_autoptr(GPtrArray) list = NULL;

    g_ptr_array_add(one, flow);
    *result = 0;
    if (!msc_ct_run(ct, verb, one, result, found ? &list : NULL, errp)) {
        return false;
    }
    if (found) {
        *found = g_steal_pointer(&list->pdata[0]);
    }
    return true;
}

bool msc_scratch_try(MscCt *ct, MscFlow *scratch, MscFlow **made, int *refused,
                     GError **errp)
{
    int gone;
    bool ok;

    *made = NULL;
    if (!run_one(ct, MSC_CT_CREATE, scratch, refused, NULL, errp)) {
        return false;
    }
    if (*refused == EAGAIN) {
        /* The kernel has just loaded a module for it. */
        if (!run_one(ct, MSC_CT_CREATE, scratch, refused, NULL, errp)) {
            return false;
        }
    }
    if (*refused) {
        return true;
    }
    ok = run_one(ct, MSC_CT_FIND, scratch, refused, made, errp);
    return run_one(ct, MSC_CT_DELETE, scratch, &gone, NULL, ok ? errp : NULL) &&
           ok;
}

/* Two entries that differ in everything that is filtered by. */
typedef struct {
    MscFlow *shown, *hidden;
    MscAddress src, dst; /* of the one to be shown */
    bool zones;
} Pair;

typedef struct {
    GBytes *shown, *hidden;
    bool saw_shown, saw_hidden;
} Sight;

static bool look(MscFlow *flow, void *opaque)
{
    Sight *sight = opaque;
    g_autoptr(GBytes) key = msc_flow_key(flow);

    nfct_destroy(flow);
    sight->saw_shown |= g_bytes_equal(key, sight->shown);
    sight->saw_hidden |= g_bytes_equal(key, sight->hidden);
    return !sight->saw_hidden; /* what follows does not matter then */
}

static bool query_honoured(const Pair *pair, const MscCtQuery *query,
                           bool *honoured, GError **errp)
{
    /* One of its own: the dump may be left half read. */
    g_autoptr(MscCt) ct = msc_ct_open(errp);
    g_autoptr(GBytes) shown = msc_flow_key(pair->shown);
    g_autoptr(GBytes) hidden = msc_flow_key(pair->hidden);
    Sight sight = { shown, hidden, false, false };
    g_autoptr(GError) err = NULL;

    if (!ct) {
        return false;
    }
    /* A kernel may also refuse a filter that it knows half of. */
    *honoured = msc_ct_query(ct, query, look, &sight, &err) &&
                sight.saw_shown && !sight.saw_hidden;
    return true;
}

static bool try_filters(const Pair *pair, uint8_t family, guint *filters,
                        GError **errp)
{
    guint bit = family == AF_INET ? MSC_FILTER_IPV4 : MSC_FILTER_IPV6;
    const MscCtQuery by_zone = {
        .has_zone = true,
        .zone = msc_flow_zone(pair->shown, false),
    };
    const MscCtQuery by_mark = {
        .has_mark = true,
        .mark = nfct_get_attr_u32(pair->shown, ATTR_MARK),
        .mark_mask = UINT32_MAX,
    };
    const MscCtQuery by_originator = { .family = family,
                                       .originator = &pair->src };
    const MscCtQuery by_responder = { .family = family,
                                      .responder = &pair->dst };
    bool zone = *filters & MSC_FILTER_ZONE;
    bool mark = *filters & MSC_FILTER_MARK;
    bool originator, responder;

    /* Each costs a walk over the table of the whole host. */
    if ((pair->zones && !zone &&
         !query_honoured(pair, &by_zone, &zone, errp)) ||
        (!mark && !query_honoured(pair, &by_mark, &mark, errp)) ||
        !query_honoured(pair, &by_originator, &originator, errp) ||
        !query_honoured(pair, &by_responder, &responder, errp)) {
        return false;
    }
    *filters |= (zone ? MSC_FILTER_ZONE : 0) | (mark ? MSC_FILTER_MARK : 0) |
                (originator && responder ? bit : 0);
    return true;
}

static MscFlow *pair_member(uint8_t family, bool zones, MscAddress *src,
                            MscAddress *dst)
{
    bool v4 = family == AF_INET;
    size_t len = v4 ? 4 : 16;
    MscFlow *flow = msc_scratch_new(family, IPPROTO_UDP);

    nfct_set_attr_u32(flow, ATTR_MARK, g_random_int() | 1);
    if (zones) {
        nfct_set_attr_u16(flow, ATTR_ZONE,
                          (uint16_t)g_random_int_range(1, 65536));
    }
    memset(src, 0, sizeof(*src));
    memset(dst, 0, sizeof(*dst));
    src->family = dst->family = family;
    memcpy(src->bytes,
           nfct_get_attr(flow, v4 ? ATTR_ORIG_IPV4_SRC : ATTR_ORIG_IPV6_SRC),
           len);
    memcpy(dst->bytes,
           nfct_get_attr(flow, v4 ? ATTR_ORIG_IPV4_DST : ATTR_ORIG_IPV6_DST),
           len);
    return flow;
}

static bool probe_family(MscCt *ct, uint8_t family, bool *zones, guint *filters,
                         GError **errp)
{
    int created[2], deleted = 0;
    MscAddress src, dst;
    Pair pair;
    bool ok;

    pair.hidden = pair_member(family, *zones, &src, &dst);
    pair.shown = pair_member(family, *zones, &pair.src, &pair.dst);
    pair.zones = *zones;
    ok = run_one(ct, MSC_CT_CREATE, pair.hidden, &created[0], NULL, errp) &&
         run_one(ct, MSC_CT_CREATE, pair.shown, &created[1], NULL, errp);
    if (ok && !created[0] && !created[1]) {
        ok = try_filters(&pair, family, filters, errp);
    } else if (ok && created[0] == EOPNOTSUPP && *zones) {
        *zones = false; /* a kernel without zones */
    } else if (ok) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                    "cannot create a conntrack entry: %s",
                    g_strerror(created[0] ? created[0] : created[1]));
        ok = false;
    }
    run_one(ct, MSC_CT_DELETE, pair.hidden, &deleted, NULL, NULL);
    run_one(ct, MSC_CT_DELETE, pair.shown, &deleted, NULL, NULL);
    nfct_destroy(pair.hidden);
    nfct_destroy(pair.shown);
    return ok;
}

static bool probe_filters(guint *filters, GError **errp)
{
    static const uint8_t families[] = { AF_INET, AF_INET6 };
    g_autoptr(MscCt) ct = msc_ct_open(errp);
    bool zones = true;

    *filters = 0;
    for (size_t i = 0; ct && i < G_N_ELEMENTS(families); i++) {
        bool before = zones;

        if (!probe_family(ct, families[i], &zones, filters, errp) ||
            (before != zones &&
             !probe_family(ct, families[i], &zones, filters, errp))) {
            return false;
        }
    }
    return ct;
}

guint msc_ct_filters(void)
{
    static GMutex lock;
    static bool known;
    static guint filters;
    g_autoptr(GError) err = NULL;
    guint result;

    g_mutex_lock(&lock);
    if (!known) {
        known = probe_filters(&filters, &err);
        if (!known) {
            g_info("conntrack: the kernel's filters are not used: %s",
                   err->message);
            filters = 0;
        }
    }
    result = filters;
    g_mutex_unlock(&lock);
    return result;
}

char *msc_ct_filters_describe(void)
{
    static const struct {
        guint bit;
        const char *name;
    } names[] = {
        { MSC_FILTER_ZONE, "zone" },
        { MSC_FILTER_MARK, "mark" },
        { MSC_FILTER_IPV4, "IPv4 address" },
        { MSC_FILTER_IPV6, "IPv6 address" },
    };
    guint filters = msc_ct_filters();
    GString *yes = g_string_new(NULL);
    GString *no = g_string_new(NULL);
    char *text;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        GString *to = filters & names[i].bit ? yes : no;

        g_string_append_printf(to, "%s%s", to->len ? ", " : "", names[i].name);
    }
    text = g_strdup_printf(
        "the kernel selects flows by %s%s%s%s", yes->len ? yes->str : "nothing",
        no->len ? "; it ignores or mistakes a filter by " : "", no->str,
        no->len ? " (every entry is checked either way)" : "");
    g_string_free(yes, TRUE);
    g_string_free(no, TRUE);
    return text;
}
