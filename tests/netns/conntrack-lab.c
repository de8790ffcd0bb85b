/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "conntrack-lab.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int lab_host_new(void)
{
    int fd;

    g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
    fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    lab_run("ip link set lo up");
    return fd;
}

void lab_host_free(int host)
{
    close(host);
}

void lab_enter(int host)
{
    g_assert_cmpint(setns(host, CLONE_NEWNET), ==, 0);
}

void lab_run(const char *format, ...)
{
    g_autofree char *command = NULL;
    va_list args;
    int status;

    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    status = system(command);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        g_error("failed: %s", command);
    }
}

char *lab_output(const char *format, ...)
{
    g_autofree char *command = NULL;
    GString *out = g_string_new(NULL);
    char buf[4096];
    va_list args;
    size_t n;
    FILE *f;

    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    f = popen(command, "r");
    g_assert_nonnull(f);
    while ((n = fread(buf, 1, sizeof(buf), f))) {
        g_string_append_len(out, buf, (gssize)n);
    }
    g_assert_cmpint(pclose(f), ==, 0);
    return g_strchomp(g_string_free(out, FALSE));
}

void lab_track(void)
{
    lab_run("nft 'add table inet lab; "
            "add chain inet lab f { type filter hook forward priority 0; }; "
            "add rule inet lab f ct state established accept; "
            "add chain inet lab p "
            "{ type nat hook postrouting priority 100; }; "
            "add chain inet lab d "
            "{ type nat hook prerouting priority -100; }'");
}

void lab_sysctl(const char *name, const char *value)
{
    g_autofree char *path = g_strconcat("/proc/sys/net/", name, NULL);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, value, strlen(value)), ==,
                    (ssize_t)strlen(value));
    close(fd);
}

void lab_add_address(GArray *list, const char *address)
{
    MscAddress a;

    g_assert_true(msc_address_parse(address, &a, NULL));
    g_array_append_val(list, a);
}

MscSelector *lab_guest(void)
{
    MscSelector *s = msc_selector_new();

    lab_add_address(s->addresses, GUEST);
    lab_add_address(s->addresses, GUEST6);
    lab_add_address(s->nat_addresses, NAT);
    lab_add_address(s->nat_addresses, NAT6);
    return s;
}

static void set_address(MscFlow *flow, enum nf_conntrack_attr v4,
                        enum nf_conntrack_attr v6, const char *text)
{
    struct in6_addr a6;

    if (strchr(text, ':')) {
        g_assert_cmpint(inet_pton(AF_INET6, text, &a6), ==, 1);
        nfct_set_attr(flow, v6, &a6);
    } else {
        nfct_set_attr_u32(flow, v4, inet_addr(text));
    }
}

void lab_set_u16(MscFlow *flow, enum nf_conntrack_attr attr, uint16_t port)
{
    nfct_set_attr_u16(flow, attr, htons(port));
}

MscFlow *lab_flow(uint8_t l4, const char *src, uint16_t sport, const char *dst,
                  uint16_t dport)
{
    MscFlow *flow = nfct_new();
    bool v6 = strchr(src, ':');

    nfct_set_attr_u8(flow, ATTR_ORIG_L3PROTO, v6 ? AF_INET6 : AF_INET);
    nfct_set_attr_u8(flow, ATTR_ORIG_L4PROTO, l4);
    set_address(flow, ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV6_SRC, src);
    set_address(flow, ATTR_ORIG_IPV4_DST, ATTR_ORIG_IPV6_DST, dst);
    if (l4 == IPPROTO_ICMP || l4 == IPPROTO_ICMPV6) {
        nfct_set_attr_u8(flow, ATTR_ICMP_TYPE, l4 == IPPROTO_ICMP ? 8 : 128);
        nfct_set_attr_u8(flow, ATTR_ICMP_CODE, 0);
        lab_set_u16(flow, ATTR_ICMP_ID, sport);
    } else if (sport || dport) {
        lab_set_u16(flow, ATTR_ORIG_PORT_SRC, sport);
        lab_set_u16(flow, ATTR_ORIG_PORT_DST, dport);
    }
    msc_flow_mirror_reply(flow);
    nfct_set_attr_u32(flow, ATTR_STATUS,
                      IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED);
    nfct_set_attr_u32(flow, ATTR_TIMEOUT, 1000);
    if (l4 == IPPROTO_TCP) {
        lab_tcp(flow, TCP_CONNTRACK_ESTABLISHED,
                IP_CT_TCP_FLAG_WINDOW_SCALE | IP_CT_TCP_FLAG_SACK_PERM, 7);
    }
    return flow;
}

void lab_snat(MscFlow *flow, const char *address, uint16_t port)
{
    set_address(flow, ATTR_REPL_IPV4_DST, ATTR_REPL_IPV6_DST, address);
    if (msc_flow_is_icmp(flow)) {
        lab_set_u16(flow, ATTR_REPL_PORT_SRC, port);
    } else if (port) {
        lab_set_u16(flow, ATTR_REPL_PORT_DST, port);
    }
}

void lab_dnat(MscFlow *flow, const char *address, uint16_t port)
{
    set_address(flow, ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV6_SRC, address);
    if (port) {
        lab_set_u16(flow, ATTR_REPL_PORT_SRC, port);
    }
}

void lab_tcp(MscFlow *flow, uint8_t state, uint8_t flags, uint8_t wscale)
{
    nfct_set_attr_u8(flow, ATTR_TCP_STATE, state);
    nfct_set_attr_u8(flow, ATTR_TCP_FLAGS_ORIG, flags);
    nfct_set_attr_u8(flow, ATTR_TCP_FLAGS_REPL, flags);
    nfct_set_attr_u8(flow, ATTR_TCP_WSCALE_ORIG, wscale);
    nfct_set_attr_u8(flow, ATTR_TCP_WSCALE_REPL, (uint8_t)(wscale / 2));
}

void lab_child(MscFlow *flow, const MscFlow *master)
{
    nfct_set_attr_u8(flow, ATTR_MASTER_L3PROTO, AF_INET);
    nfct_set_attr_u8(flow, ATTR_MASTER_L4PROTO,
                     nfct_get_attr_u8(master, ATTR_ORIG_L4PROTO));
    nfct_set_attr_u32(flow, ATTR_MASTER_IPV4_SRC,
                      nfct_get_attr_u32(master, ATTR_ORIG_IPV4_SRC));
    nfct_set_attr_u32(flow, ATTR_MASTER_IPV4_DST,
                      nfct_get_attr_u32(master, ATTR_ORIG_IPV4_DST));
    nfct_set_attr_u16(flow, ATTR_MASTER_PORT_SRC,
                      nfct_get_attr_u16(master, ATTR_ORIG_PORT_SRC));
    nfct_set_attr_u16(flow, ATTR_MASTER_PORT_DST,
                      nfct_get_attr_u16(master, ATTR_ORIG_PORT_DST));
}

static MscCt *open_kernel(void)
{
    g_autoptr(GError) err = NULL;
    MscCt *ct = msc_ct_open(&err);

    g_assert_no_error(err);
    return ct;
}

void lab_create(MscFlow *flow)
{
    static const enum nf_conntrack_attr masks[] = { ATTR_TCP_MASK_ORIG,
                                                    ATTR_TCP_MASK_REPL };
    g_autoptr(MscCt) ct = open_kernel();
    g_autoptr(GPtrArray) one = msc_flows_new();
    g_autofree char *text = msc_flow_describe(flow);
    g_autoptr(GError) err = NULL;
    int result = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(masks); i++) {
        if (nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO) == IPPROTO_TCP) {
            nfct_set_attr_u8(flow, masks[i], UINT8_MAX);
        }
    }
    g_ptr_array_add(one, flow);
    msc_ct_run(ct, MSC_CT_CREATE, one, &result, NULL, &err);
    g_assert_no_error(err);
    if (result) {
        g_error("cannot create %s: %s", text, g_strerror(result));
    }
}

static bool take(MscFlow *flow, void *opaque)
{
    g_ptr_array_add(opaque, flow);
    return true;
}

static gint by_key(gconstpointer a, gconstpointer b)
{
    const MscFlow *const *x = a, *const *y = b;
    g_autoptr(GBytes) p = msc_flow_key(*x);
    g_autoptr(GBytes) q = msc_flow_key(*y);

    return g_bytes_compare(p, q);
}

GPtrArray *lab_table(void)
{
    g_autoptr(MscCt) ct = open_kernel();
    g_autoptr(GError) err = NULL;
    GPtrArray *all = msc_flows_new();
    MscCtQuery everything = { 0 };

    msc_ct_query(ct, &everything, take, all, &err);
    g_assert_no_error(err);
    g_ptr_array_sort(all, by_key);
    return all;
}

guint lab_count(void)
{
    g_autoptr(GPtrArray) all = lab_table();

    return all->len;
}

static const struct {
    enum nf_conntrack_attr attr;
    uint8_t len;
    const char *name;
} moved[] = {
#define MOVED(attr, len)        \
    {                           \
        ATTR_##attr, len, #attr \
    }
    MOVED(ORIG_L3PROTO, 1),
    MOVED(ORIG_L4PROTO, 1),
    MOVED(ORIG_IPV4_SRC, 4),
    MOVED(ORIG_IPV4_DST, 4),
    MOVED(ORIG_IPV6_SRC, 16),
    MOVED(ORIG_IPV6_DST, 16),
    MOVED(ORIG_PORT_SRC, 2),
    MOVED(ORIG_PORT_DST, 2),
    MOVED(REPL_IPV4_SRC, 4),
    MOVED(REPL_IPV4_DST, 4),
    MOVED(REPL_IPV6_SRC, 16),
    MOVED(REPL_IPV6_DST, 16),
    MOVED(REPL_PORT_SRC, 2),
    MOVED(REPL_PORT_DST, 2),
    MOVED(ICMP_TYPE, 1),
    MOVED(ICMP_CODE, 1),
    MOVED(ICMP_ID, 2),
    MOVED(MARK, 4),
    MOVED(ZONE, 2),
    MOVED(ORIG_ZONE, 2),
    MOVED(REPL_ZONE, 2),
    MOVED(TCP_STATE, 1),
    MOVED(TCP_WSCALE_ORIG, 1),
    MOVED(TCP_WSCALE_REPL, 1),
    MOVED(SCTP_STATE, 1),
    MOVED(SCTP_VTAG_ORIG, 4),
    MOVED(SCTP_VTAG_REPL, 4),
    MOVED(ORIG_NAT_SEQ_CORRECTION_POS, 4),
    MOVED(ORIG_NAT_SEQ_OFFSET_BEFORE, 4),
    MOVED(ORIG_NAT_SEQ_OFFSET_AFTER, 4),
    MOVED(REPL_NAT_SEQ_CORRECTION_POS, 4),
    MOVED(REPL_NAT_SEQ_OFFSET_BEFORE, 4),
    MOVED(REPL_NAT_SEQ_OFFSET_AFTER, 4),
    MOVED(MASTER_L3PROTO, 1),
    MOVED(MASTER_L4PROTO, 1),
    MOVED(MASTER_IPV4_SRC, 4),
    MOVED(MASTER_IPV4_DST, 4),
    MOVED(MASTER_PORT_SRC, 2),
    MOVED(MASTER_PORT_DST, 2),
#undef MOVED
};

static void assert_same_labels(const MscFlow *a, const MscFlow *b)
{
    for (unsigned bit = 0; bit < 128; bit++) {
        bool set[2];
        int i = 0;

        for (const MscFlow *f = a; f; f = f == a ? b : NULL, i++) {
            set[i] =
                nfct_attr_is_set(f, ATTR_CONNLABELS) > 0 &&
                nfct_bitmask_test_bit(nfct_get_attr(f, ATTR_CONNLABELS), bit);
        }
        g_assert_true(set[0] == set[1]);
    }
}

static void assert_same_flow(const MscFlow *a, const MscFlow *b, bool lenient,
                             guint transit_s, guint late_s)
{
    static const enum nf_conntrack_attr flags[] = { ATTR_TCP_FLAGS_ORIG,
                                                    ATTR_TCP_FLAGS_REPL };
    /* NAT to where the flow goes anyway is one binding more or less. */
    const uint32_t compared =
        ~(uint32_t)(IPS_NAT_DONE_MASK | IPS_OFFLOAD | IPS_HW_OFFLOAD);
    g_autofree char *text = msc_flow_describe(a);
    const char *helper[2];
    guint left;

    for (size_t i = 0; i < G_N_ELEMENTS(moved); i++) {
        int set = nfct_attr_is_set(a, moved[i].attr);

        if (set != nfct_attr_is_set(b, moved[i].attr) ||
            (set > 0 &&
             memcmp(nfct_get_attr(a, moved[i].attr),
                    nfct_get_attr(b, moved[i].attr), moved[i].len))) {
            g_error("%s: %s is not what it was", text, moved[i].name);
        }
    }
    assert_same_labels(a, b);
    if ((nfct_get_attr_u32(a, ATTR_STATUS) ^
         nfct_get_attr_u32(b, ATTR_STATUS)) &
        compared) {
        g_error("%s: status %#x became %#x", text,
                nfct_get_attr_u32(a, ATTR_STATUS),
                nfct_get_attr_u32(b, ATTR_STATUS));
    }
    for (size_t i = 0;
         nfct_attr_is_set(a, ATTR_TCP_STATE) > 0 && i < G_N_ELEMENTS(flags);
         i++) {
        uint8_t was = nfct_get_attr_u8(a, flags[i]);

        g_assert_cmphex(nfct_get_attr_u8(b, flags[i]), ==,
                        lenient ? was | IP_CT_TCP_FLAG_BE_LIBERAL : was);
    }
    helper[0] = nfct_get_attr(a, ATTR_HELPER_NAME);
    helper[1] = nfct_get_attr(b, ATTR_HELPER_NAME);
    g_assert_cmpstr(helper[0], ==, helper[1]);
    /* It was read some time after; never is there more of it. */
    left = nfct_get_attr_u32(b, ATTR_TIMEOUT);
    g_assert_cmpuint(left + transit_s, <=,
                     nfct_get_attr_u32(a, ATTR_TIMEOUT) + late_s);
    g_assert_cmpuint(left + transit_s + 60, >=,
                     nfct_get_attr_u32(a, ATTR_TIMEOUT));
}

void lab_assert_same(const GPtrArray *before, const GPtrArray *after,
                     bool lenient, guint transit_s, guint late_s)
{
    g_assert_cmpuint(before->len, ==, after->len);
    for (guint i = 0; i < before->len; i++) {
        assert_same_flow(before->pdata[i], after->pdata[i], lenient, transit_s,
                         late_s);
    }
}

GBytes *lab_collect(const MscSelector *s, guint flows)
{
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;
    GBytes *payload = msc_conntrack_provider.collect(s, NULL, &stats, &err);

    g_assert_no_error(err);
    g_assert_cmpuint(stats.entries, ==, flows);
    return payload;
}

void lab_restore(const MscSelector *s, GBytes *payload, uint64_t transit_us)
{
    const MscProvider *p = &msc_conntrack_provider;
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) replaced = NULL;
    MscProviderStats stats;

    p->validate(s, payload, &stats, &err);
    g_assert_no_error(err);
    replaced = p->prepare(s, payload, &err);
    g_assert_no_error(err);
    p->stage(s, payload, transit_us, &err);
    g_assert_no_error(err);
}
