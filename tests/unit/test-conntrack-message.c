/*
 * Flows out of messages that the kernel would send, and would not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>

#include "conntrack-message.h"

#define MESSAGE_MAX 1024

typedef union {
    struct nlmsghdr nlh;
    char bytes[MESSAGE_MAX];
} Message;

static void begin(Message *m, uint8_t family)
{
    struct nfgenmsg *nfg;

    memset(m, 0, sizeof(*m));
    mnl_nlmsg_put_header(m->bytes);
    m->nlh.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
    nfg = mnl_nlmsg_put_extra_header(&m->nlh, sizeof(*nfg));
    nfg->nfgen_family = family;
}

static void put_tuple(Message *m, uint16_t type, uint8_t l4)
{
    struct nlattr *tuple = mnl_attr_nest_start(&m->nlh, type);
    struct nlattr *part = mnl_attr_nest_start(&m->nlh, CTA_TUPLE_IP);

    mnl_attr_put_u32(&m->nlh, CTA_IP_V4_SRC, htonl(0x0a140010));
    mnl_attr_put_u32(&m->nlh, CTA_IP_V4_DST, htonl(0xc0000205));
    mnl_attr_nest_end(&m->nlh, part);
    part = mnl_attr_nest_start(&m->nlh, CTA_TUPLE_PROTO);
    mnl_attr_put_u8(&m->nlh, CTA_PROTO_NUM, l4);
    mnl_attr_put_u16(&m->nlh, CTA_PROTO_SRC_PORT, htons(1000));
    mnl_attr_put_u16(&m->nlh, CTA_PROTO_DST_PORT, htons(80));
    mnl_attr_nest_end(&m->nlh, part);
    mnl_attr_nest_end(&m->nlh, tuple);
}

static void plain(Message *m)
{
    begin(m, AF_INET);
    put_tuple(m, CTA_TUPLE_ORIG, IPPROTO_UDP);
    put_tuple(m, CTA_TUPLE_REPLY, IPPROTO_UDP);
    mnl_attr_put_u32(&m->nlh, CTA_STATUS, htonl(14));
    mnl_attr_put_u32(&m->nlh, CTA_TIMEOUT, htonl(30));
}

static void with_help(Message *m, const void *name, size_t len)
{
    struct nlattr *help;

    plain(m);
    help = mnl_attr_nest_start(&m->nlh, CTA_HELP);
    mnl_attr_put(&m->nlh, CTA_HELP_NAME, len, name);
    mnl_attr_nest_end(&m->nlh, help);
}

static void with_time(Message *m, size_t len)
{
    static const uint64_t when;
    struct nlattr *nest;

    plain(m);
    nest = mnl_attr_nest_start(&m->nlh, CTA_TIMESTAMP);
    mnl_attr_put(&m->nlh, CTA_TIMESTAMP_STOP, len, &when);
    mnl_attr_nest_end(&m->nlh, nest);
}

static void other_family(Message *m)
{
    plain(m);
    ((struct nfgenmsg *)mnl_nlmsg_get_payload(&m->nlh))->nfgen_family =
        AF_INET6;
}

static void no_family(Message *m)
{
    plain(m);
    ((struct nfgenmsg *)mnl_nlmsg_get_payload(&m->nlh))->nfgen_family = 0;
}

static void no_tuple(Message *m)
{
    begin(m, AF_INET);
    put_tuple(m, CTA_TUPLE_REPLY, IPPROTO_UDP);
    mnl_attr_put_u32(&m->nlh, CTA_STATUS, htonl(14));
}

static void no_master(Message *m)
{
    struct nlattr *tuple, *part;

    plain(m);
    tuple = mnl_attr_nest_start(&m->nlh, CTA_TUPLE_MASTER);
    part = mnl_attr_nest_start(&m->nlh, CTA_TUPLE_PROTO);
    mnl_attr_put_u8(&m->nlh, CTA_PROTO_NUM, IPPROTO_TCP);
    mnl_attr_nest_end(&m->nlh, part);
    mnl_attr_nest_end(&m->nlh, tuple);
}

static void nothing(Message *m)
{
    begin(m, AF_INET);
}

static void short_head(Message *m)
{
    plain(m);
    m->nlh.nlmsg_len = NLMSG_HDRLEN + 2;
}

static void cut_short(Message *m)
{
    plain(m);
    m->nlh.nlmsg_len -= 4;
}

static void half_a_head(Message *m)
{
    plain(m);
    m->nlh.nlmsg_len += 2;
}

static void no_length(Message *m)
{
    plain(m);
    m->nlh.nlmsg_len += NLA_HDRLEN; /* zeros */
}

static void short_number(Message *m)
{
    plain(m);
    mnl_attr_put_u16(&m->nlh, CTA_MARK, 1);
}

static void long_number(Message *m)
{
    plain(m);
    mnl_attr_put_u64(&m->nlh, CTA_MARK, 1);
}

static void twice(Message *m)
{
    plain(m);
    mnl_attr_put_u32(&m->nlh, CTA_TIMEOUT, htonl(31));
}

static void tuple_twice(Message *m)
{
    plain(m);
    put_tuple(m, CTA_TUPLE_ORIG, IPPROTO_TCP);
}

static void name_without_end(Message *m)
{
    with_help(m, "ftp", 3);
}

static void name_with_two_ends(Message *m)
{
    with_help(m, "ft\0p", 5);
}

static void long_name(Message *m)
{
    with_help(m, "a-name-of-sixteen", 18);
}

static void no_name(Message *m)
{
    with_help(m, "", 1);
}

static void short_time(Message *m)
{
    with_time(m, 4);
}

static void long_labels(Message *m)
{
    static const char labels[20];

    plain(m);
    mnl_attr_put(&m->nlh, CTA_LABELS, sizeof(labels), labels);
}

static const struct {
    const char *name;
    void (*make)(Message *m);
} malformed[] = {
    { "nothing", nothing },
    { "no-original-tuple", no_tuple },
    { "half-a-master", no_master },
    { "other-family", other_family },
    { "no-family", no_family },
    { "short-head", short_head },
    { "cut-short", cut_short },
    { "half-a-head", half_a_head },
    { "no-length", no_length },
    { "short-number", short_number },
    { "long-number", long_number },
    { "twice", twice },
    { "tuple-twice", tuple_twice },
    { "name-without-end", name_without_end },
    { "name-with-two-ends", name_with_two_ends },
    { "long-name", long_name },
    { "no-name", no_name },
    { "short-time", short_time },
    { "long-labels", long_labels },
};

static void test_malformed(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(malformed); i++) {
        Message m;

        g_test_message("%s", malformed[i].name);
        malformed[i].make(&m);
        g_assert_null(msc_flow_parse(&m.nlh));
    }
}

/* The negative twin of each kind above. */
static void test_well_formed(void)
{
    static const uint8_t labels[16] = { [5] = 1 };
    Message m;
    MscFlow *flow;

    with_help(&m, "ftp", 4);
    flow = msc_flow_parse(&m.nlh);
    g_assert_nonnull(flow);
    g_assert_cmpstr(nfct_get_attr(flow, ATTR_HELPER_NAME), ==, "ftp");
    g_assert_cmpuint(nfct_get_attr_u32(flow, ATTR_STATUS), ==, 14);
    g_assert_cmpuint(nfct_get_attr_u32(flow, ATTR_TIMEOUT), ==, 30);
    g_assert_cmpuint(nfct_get_attr_u16(flow, ATTR_REPL_PORT_DST), ==,
                     htons(80));
    g_assert_cmpuint(nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO), ==, AF_INET);
    nfct_destroy(flow);

    with_time(&m, 8);
    mnl_attr_put(&m.nlh, CTA_LABELS, sizeof(labels), labels);
    mnl_attr_put_u32(&m.nlh, CTA_MARK, htonl(7));
    flow = msc_flow_parse(&m.nlh);
    g_assert_nonnull(flow);
    g_assert_true(
        nfct_bitmask_test_bit(nfct_get_attr(flow, ATTR_CONNLABELS), 40));
    g_assert_false(
        nfct_bitmask_test_bit(nfct_get_attr(flow, ATTR_CONNLABELS), 41));
    g_assert_cmpuint(nfct_get_attr_u32(flow, ATTR_MARK), ==, 7);
    nfct_destroy(flow);
}

/* A newer kernel says more; what it says may have any length. */
static void test_newer(void)
{
    Message m;
    MscFlow *flow;

    plain(&m);
    mnl_attr_put(&m.nlh, 1000, 3, "new");
    mnl_attr_put(&m.nlh, 1000, 0, "");
    flow = msc_flow_parse(&m.nlh);
    g_assert_nonnull(flow);
    nfct_destroy(flow);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/conntrack-message/malformed", test_malformed);
    g_test_add_func("/conntrack-message/well-formed", test_well_formed);
    g_test_add_func("/conntrack-message/newer", test_newer);
    return g_test_run();
}
