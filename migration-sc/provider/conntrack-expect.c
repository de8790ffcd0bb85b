/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-expect.h"

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>

/* What libnetfilter_conntrack holds (__NFCT_EXPECTFN_MAX); it aborts on
 * more. */
#define FUNCTION_MAX 24

static void expect_destroy(gpointer expect)
{
    if (expect) {
        nfexp_destroy(expect);
    }
}

GPtrArray *msc_expects_new(void)
{
    return g_ptr_array_new_with_free_func(expect_destroy);
}

/* A tuple inside an expectation: only its original attributes may be read. */
static const MscFlow *part(const MscExpect *expect, enum nf_expect_attr attr)
{
    return nfexp_attr_is_set(expect, attr) ? nfexp_get_attr(expect, attr)
                                           : NULL;
}

uint8_t msc_expect_family(const MscExpect *expect)
{
    return nfct_get_attr_u8(part(expect, ATTR_EXP_EXPECTED), ATTR_ORIG_L3PROTO);
}

uint16_t msc_expect_zone(const MscExpect *expect)
{
    return nfexp_get_attr_u16(expect, ATTR_EXP_ZONE);
}

MscFlow *msc_expect_tuple(const MscExpect *expect, enum nf_expect_attr attr)
{
    static const enum nf_conntrack_attr numbers[] = { ATTR_ORIG_L3PROTO,
                                                      ATTR_ORIG_L4PROTO };
    static const enum nf_conntrack_attr words[] = { ATTR_ORIG_PORT_SRC,
                                                    ATTR_ORIG_PORT_DST };
    static const enum nf_conntrack_attr addresses[] = { ATTR_ORIG_IPV4_SRC,
                                                        ATTR_ORIG_IPV4_DST,
                                                        ATTR_ORIG_IPV6_SRC,
                                                        ATTR_ORIG_IPV6_DST };
    const MscFlow *from = part(expect, attr);
    MscFlow *to;

    if (!from) {
        return NULL;
    }
    to = nfct_new();
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        nfct_set_attr_u8(to, numbers[i], nfct_get_attr_u8(from, numbers[i]));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        const void *value = nfct_get_attr(from, addresses[i]);

        if (value) {
            nfct_set_attr(to, addresses[i], value);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (nfct_attr_is_set(from, words[i])) {
            nfct_set_attr_u16(to, words[i], nfct_get_attr_u16(from, words[i]));
        }
    }
    return to;
}

static void tuple_address(const MscFlow *tuple, bool dst, MscAddress *a)
{
    memset(a, 0, sizeof(*a));
    a->family = nfct_get_attr_u8(tuple, ATTR_ORIG_L3PROTO);
    if (a->family == AF_INET) {
        a->v4.s_addr = nfct_get_attr_u32(tuple, dst ? ATTR_ORIG_IPV4_DST
                                                    : ATTR_ORIG_IPV4_SRC);
    } else {
        const void *v6 =
            nfct_get_attr(tuple, dst ? ATTR_ORIG_IPV6_DST : ATTR_ORIG_IPV6_SRC);

        if (v6) {
            memcpy(&a->v6, v6, sizeof(a->v6));
        }
    }
}

static bool is_guests(const MscAddress *a, const MscSelector *s)
{
    return msc_address_in(a, s->addresses) ||
           msc_address_in(a, s->nat_addresses);
}

/* Does the mask ask for one source, not for any? */
static bool source_is_fixed(const MscExpect *expect)
{
    MscAddress mask;
    size_t len;

    tuple_address(part(expect, ATTR_EXP_MASK), false, &mask);
    len = mask.family == AF_INET ? 4 : 16;
    for (size_t i = 0; i < len; i++) {
        if (mask.bytes[i] != UINT8_MAX) {
            return false;
        }
    }
    return true;
}

/* The address that the expected flow will be translated to: the guest's, or
 * one that its master already talks to. */
static bool nat_is_fine(const MscExpect *expect, const MscSelector *s)
{
    static const MscAddress none = { .family = AF_UNSPEC };
    const MscFlow *nat = part(expect, ATTR_EXP_NAT_TUPLE);
    const MscFlow *master = part(expect, ATTR_EXP_MASTER);
    MscAddress address, end[2];
    MscAddress unset = none;

    if (!nat) {
        return true;
    }
    tuple_address(nat, false, &address);
    tuple_address(master, false, &end[0]);
    tuple_address(master, true, &end[1]);
    unset.family = address.family;
    return is_guests(&address, s) || msc_address_equal(&address, &unset) ||
           msc_address_equal(&address, &end[0]) ||
           msc_address_equal(&address, &end[1]);
}

bool msc_expect_belongs(const MscExpect *expect, const MscSelector *s)
{
    const MscFlow *tuple = part(expect, ATTR_EXP_EXPECTED);
    MscAddress src, dst;

    if (s->has_zone && msc_expect_zone(expect) != s->zone) {
        return false;
    }
    if (!s->addresses->len) {
        return true;
    }
    tuple_address(tuple, false, &src);
    tuple_address(tuple, true, &dst);
    /* The destination is never masked. */
    return (is_guests(&dst, s) ||
            (is_guests(&src, s) && source_is_fixed(expect))) &&
           nat_is_fine(expect, s);
}

GBytes *msc_expect_master_key(const MscExpect *expect)
{
    return msc_flow_key_in(part(expect, ATTR_EXP_MASTER),
                           msc_expect_zone(expect));
}

char *msc_expect_describe(const MscExpect *expect)
{
    MscFlow *tuple = msc_expect_tuple(expect, ATTR_EXP_EXPECTED);
    g_autofree char *text = NULL;

    msc_flow_mirror_reply(tuple);
    text = msc_flow_describe(tuple);
    nfct_destroy(tuple);
    return g_strconcat("expected ", text, NULL);
}

MscExpect *msc_expect_to_create(const MscExpect *expect, uint64_t transit_us)
{
    uint64_t gone = transit_us / G_USEC_PER_SEC;
    uint32_t timeout = nfexp_get_attr_u32(expect, ATTR_EXP_TIMEOUT);
    MscExpect *copy;

    if (timeout <= gone) {
        return NULL;
    }
    copy = nfexp_clone(expect);
    nfexp_set_attr_u32(copy, ATTR_EXP_TIMEOUT, timeout - (uint32_t)gone);
    return copy;
}

/*
 * The kernel shows the helper of the master; what is asked for is the helper
 * that the expected flow gets.  Those differ: FTP's data has none, and what
 * H.323 hands on (H.245, Q.931) nobody shows.  Only SIP's signalling has the
 * same one.  But a class other than 0 cannot be asked for without naming a
 * helper, and to SIP's the media are no harm.
 */
static void keep_helper_if_wanted(MscExpect *expect)
{
    const char *name = nfexp_attr_is_set(expect, ATTR_EXP_HELPER_NAME) > 0
                           ? nfexp_get_attr(expect, ATTR_EXP_HELPER_NAME)
                           : NULL;

    if (name && strcmp(name, "sip") &&
        !nfexp_get_attr_u32(expect, ATTR_EXP_CLASS)) {
        nfexp_attr_unset(expect, ATTR_EXP_HELPER_NAME);
    }
}

MscExpect *msc_expect_parse(const struct nlmsghdr *nlh, uint16_t zone)
{
    const struct nlattr *attr;
    MscExpect *expect;

    mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
    {
        if (mnl_attr_get_type(attr) == CTA_EXPECT_FN &&
            mnl_attr_get_payload_len(attr) > FUNCTION_MAX) {
            return NULL;
        }
    }
    expect = nfexp_new();
    if (nfexp_nlmsg_parse(nlh, expect) < 0 ||
        !part(expect, ATTR_EXP_EXPECTED) || !part(expect, ATTR_EXP_MASK) ||
        !part(expect, ATTR_EXP_MASTER) ||
        !nfexp_attr_is_set(expect, ATTR_EXP_TIMEOUT)) {
        nfexp_destroy(expect);
        return NULL;
    }
    nfexp_set_attr_u16(expect, ATTR_EXP_ZONE, zone);
    keep_helper_if_wanted(expect);
    return expect;
}

/* The library leaves out the translated source, the class and the function
 * that sets up the flow when it comes. */
static void put_nat(struct nlmsghdr *nlh, const MscExpect *expect)
{
    const MscFlow *nat = part(expect, ATTR_EXP_NAT_TUPLE);
    struct nlattr *nest = mnl_attr_nest_start(nlh, CTA_EXPECT_NAT);
    struct nlattr *tuple, *in;
    MscAddress src, dst;

    tuple_address(nat, false, &src);
    tuple_address(nat, true, &dst);
    mnl_attr_put_u32(nlh, CTA_EXPECT_NAT_DIR,
                     htonl(nfexp_get_attr_u32(expect, ATTR_EXP_NAT_DIR)));
    tuple = mnl_attr_nest_start(nlh, CTA_EXPECT_NAT_TUPLE);
    in = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
    if (src.family == AF_INET) {
        mnl_attr_put(nlh, CTA_IP_V4_SRC, 4, src.bytes);
        mnl_attr_put(nlh, CTA_IP_V4_DST, 4, dst.bytes);
    } else {
        mnl_attr_put(nlh, CTA_IP_V6_SRC, 16, src.bytes);
        mnl_attr_put(nlh, CTA_IP_V6_DST, 16, dst.bytes);
    }
    mnl_attr_nest_end(nlh, in);
    in = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
    mnl_attr_put_u8(nlh, CTA_PROTO_NUM,
                    nfct_get_attr_u8(part(expect, ATTR_EXP_EXPECTED),
                                     ATTR_ORIG_L4PROTO));
    mnl_attr_put_u16(nlh, CTA_PROTO_SRC_PORT,
                     nfct_get_attr_u16(nat, ATTR_ORIG_PORT_SRC));
    mnl_attr_put_u16(nlh, CTA_PROTO_DST_PORT, 0);
    mnl_attr_nest_end(nlh, in);
    mnl_attr_nest_end(nlh, tuple);
    mnl_attr_nest_end(nlh, nest);
}

bool msc_put_expect(struct nlmsghdr *nlh, const MscExpect *expect)
{
    if (nfexp_nlmsg_build(nlh, expect) < 0) {
        return false;
    }
    if (nfexp_attr_is_set(expect, ATTR_EXP_CLASS)) {
        mnl_attr_put_u32(nlh, CTA_EXPECT_CLASS,
                         htonl(nfexp_get_attr_u32(expect, ATTR_EXP_CLASS)));
    }
    if (part(expect, ATTR_EXP_NAT_TUPLE)) {
        put_nat(nlh, expect);
    }
    if (nfexp_attr_is_set(expect, ATTR_EXP_FN)) {
        mnl_attr_put_strz(nlh, CTA_EXPECT_FN,
                          nfexp_get_attr(expect, ATTR_EXP_FN));
    }
    return true;
}

bool msc_put_expect_tuple(struct nlmsghdr *nlh, const MscExpect *expect)
{
    MscExpect *name = nfexp_new();
    bool ok;

    nfexp_set_attr(name, ATTR_EXP_EXPECTED, part(expect, ATTR_EXP_EXPECTED));
    nfexp_set_attr_u16(name, ATTR_EXP_ZONE, msc_expect_zone(expect));
    ok = nfexp_nlmsg_build(nlh, name) >= 0;
    nfexp_destroy(name);
    return ok;
}
