/*
 * What the provider takes out of the kernel's messages is what
 * libnetfilter_conntrack takes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conntrack-corpus.h"
#include "conntrack-message.h"

#define ANSWER_MAX (64 * 1024)

/* Of no use to the provider. */
static bool is_passed_over(int attr)
{
    static const int list[] = {
        ATTR_USE,
        ATTR_SECMARK,
        ATTR_SECCTX,
        ATTR_TCP_MASK_ORIG,
        ATTR_TCP_MASK_REPL,
        ATTR_DCCP_STATE,
        ATTR_DCCP_ROLE,
        ATTR_DCCP_HANDSHAKE_SEQ,
        ATTR_HELPER_INFO,
        ATTR_CONNLABELS_MASK,
        ATTR_SYNPROXY_ISN,
        ATTR_SYNPROXY_ITS,
        ATTR_SYNPROXY_TSOFF,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(list); i++) {
        if (list[i] == attr) {
            return true;
        }
    }
    return false;
}

static GBytes *encoded(MscFlow *flow)
{
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    GByteArray *out = g_byte_array_new();

    g_ptr_array_add(one, flow);
    msc_flows_encode(one, out);
    return g_byte_array_free_to_bytes(out);
}

static void assert_as_the_library(const struct nlmsghdr *nlh)
{
    static const enum nf_conntrack_attr numbers[] = {
        ATTR_TIMESTAMP_START, ATTR_ORIG_COUNTER_PACKETS,
        ATTR_REPL_COUNTER_PACKETS
    };
    MscFlow *ours = msc_flow_parse(nlh);
    MscFlow *theirs = nfct_new();
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GBytes) same = NULL;

    g_assert_nonnull(ours);
    g_assert_cmpint(nfct_nlmsg_parse(nlh, theirs), ==, 0);
    if (msc_flow_is_icmp(ours)) {
        /* Which the library has no attribute for. */
        nfct_set_attr_u16(theirs, ATTR_REPL_PORT_SRC,
                          nfct_get_attr_u16(ours, ATTR_REPL_PORT_SRC));
    }
    for (int attr = 0; attr < ATTR_MAX; attr++) {
        if (!is_passed_over(attr)) {
            g_assert_cmpint(
                nfct_attr_is_set(ours, (enum nf_conntrack_attr)attr), ==,
                nfct_attr_is_set(theirs, (enum nf_conntrack_attr)attr));
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_assert_cmpuint(nfct_get_attr_u64(ours, numbers[i]), ==,
                         nfct_get_attr_u64(theirs, numbers[i]));
    }
    g_assert_cmpuint(nfct_get_attr_u32(ours, ATTR_ID), ==,
                     nfct_get_attr_u32(theirs, ATTR_ID));
    bytes = encoded(ours);
    same = encoded(theirs);
    g_assert_true(g_bytes_equal(bytes, same));
    nfct_destroy(ours);
    nfct_destroy(theirs);
}

/* Every message of a dump; how many there were. */
static guint compare_table(void)
{
    char request[256] __attribute__((aligned(4))) = { 0 };
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(request);
    g_autofree char *buf = g_malloc(ANSWER_MAX);
    struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);
    guint seen = 0;
    bool done = false;

    nlh->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
    nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    mnl_nlmsg_put_extra_header(nlh, sizeof(struct nfgenmsg));
    g_assert_nonnull(nl);
    g_assert_cmpint(mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID), ==, 0);
    g_assert_cmpint(mnl_socket_sendto(nl, nlh, nlh->nlmsg_len), >, 0);
    while (!done) {
        int len = (int)mnl_socket_recvfrom(nl, buf, ANSWER_MAX);

        g_assert_cmpint(len, >, 0);
        for (nlh = (struct nlmsghdr *)buf; mnl_nlmsg_ok(nlh, len);
             nlh = mnl_nlmsg_next(nlh, &len)) {
            done = nlh->nlmsg_type == NLMSG_DONE;
            if (!done) {
                assert_as_the_library(nlh);
                seen++;
            }
        }
    }
    mnl_socket_close(nl);
    return seen;
}

static void test_kind(gconstpointer opaque)
{
    const CorpusKind *kind = opaque;
    int host = lab_host_new();

    lab_track();
    lab_sysctl("netfilter/nf_conntrack_acct", "1");
    lab_sysctl("netfilter/nf_conntrack_timestamp", "1");
    kind->fill();
    g_assert_cmpuint(compare_table(), ==, lab_count());
    g_assert_cmpuint(lab_count(), >, 0);
    lab_host_free(host);
}

static void test_labels(void)
{
    int host = lab_host_new();

    lab_track();
    lab_run("nft add rule inet lab f ct label set 1");
    corpus_labels();
    g_assert_cmpuint(compare_table(), ==, 3);
    lab_host_free(host);
}

/* One datagram each way, over the loopback. */
static void exchange(sa_family_t family)
{
    struct sockaddr_storage at[2] = { { .ss_family = family },
                                      { .ss_family = family } };
    int fd[2];

    for (int i = 0; i <= 1; i++) {
        socklen_t len = sizeof(at[i]);

        if (family == AF_INET) {
            struct sockaddr_in *in = (struct sockaddr_in *)&at[i];

            in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        } else {
            struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&at[i];

            in6->sin6_addr = in6addr_loopback;
        }
        fd[i] = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(fd[i], >=, 0);
        g_assert_cmpint(bind(fd[i], (struct sockaddr *)&at[i], len), ==, 0);
        getsockname(fd[i], (struct sockaddr *)&at[i], &len);
    }
    for (int i = 0; i <= 1; i++) {
        g_assert_cmpint(sendto(fd[i], "x", 1, 0, (struct sockaddr *)&at[!i],
                               sizeof(at[!i])),
                        ==, 1);
    }
    close(fd[0]);
    close(fd[1]);
}

/* Packets counted, and the state that they made. */
static void test_counters(void)
{
    int host = lab_host_new();

    lab_track();
    lab_run("nft 'add chain inet lab o "
            "{ type filter hook output priority 0; }; "
            "add rule inet lab o ct state new accept'");
    lab_sysctl("netfilter/nf_conntrack_acct", "1");
    lab_sysctl("netfilter/nf_conntrack_timestamp", "1");
    exchange(AF_INET);
    exchange(AF_INET6);
    g_assert_cmpuint(compare_table(), ==, 2);
    lab_host_free(host);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (const CorpusKind *kind = corpus; kind->name; kind++) {
        g_autofree char *path =
            g_strconcat("/conntrack-dump/as-the-library/", kind->name, NULL);

        g_test_add_data_func(path, kind, test_kind);
    }
    g_test_add_func("/conntrack-dump/as-the-library/labels", test_labels);
    g_test_add_func("/conntrack-dump/as-the-library/counters", test_counters);
    return g_test_run();
}
