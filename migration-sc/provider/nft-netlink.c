/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "error.h"

/* The kernel's answers are at most 32 KiB. */
#define ANSWER_MAX (64 * 1024)
#define TIMEOUT_S 5
#define SOCKET_BUFFER (1024 * 1024)

struct MscNft {
    struct mnl_socket *nl;
    uint32_t seq;
};

static bool kernel_error(GError **errp, const char *what)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL, "nftables: %s: %s", what,
                g_strerror(errno));
    return false;
}

MscNft *msc_nft_open(GError **errp)
{
    struct timeval timeout = { .tv_sec = TIMEOUT_S };
    int size = SOCKET_BUFFER, one = 1;
    g_autoptr(MscNft) n = g_new0(MscNft, 1);
    int fd;

    n->nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    fd = n->nl ? mnl_socket_get_fd(n->nl) : -1;
    if (!n->nl || mnl_socket_bind(n->nl, 0, MNL_SOCKET_AUTOPID) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout))) {
        kernel_error(errp, "cannot open a netlink socket");
        return NULL;
    }
    /* Errors come without the whole of what they are about. */
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
    /* Best effort: for many errors at once. */
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    n->seq = 1;
    return g_steal_pointer(&n);
}

void msc_nft_close(MscNft *n)
{
    if (n) {
        if (n->nl) {
            mnl_socket_close(n->nl);
        }
        g_free(n);
    }
}

/* ---- transactions ---- */

static void take_answer(const struct nlmsghdr *nlh, const MscNftBatch *batch,
                        bool *answered, GPtrArray *reasons)
{
    const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
    g_autofree char *what = NULL;
    const char *hint = "";

    if (nlh->nlmsg_type != NLMSG_ERROR ||
        mnl_nlmsg_get_payload_len(nlh) < sizeof(*e)) {
        return;
    }
    *answered = true;
    if (!e->error) {
        return;
    }
    if (e->error == -ENOENT || e->error == -EOPNOTSUPP) {
        hint = " (a kernel module or feature that it needs is missing: "
               "CONFIG_NFT_*, or a newer kernel)";
    } else if (e->error == -EPERM) {
        hint = " (needs CAP_NET_ADMIN)";
    }
    what = msc_nft_batch_text(batch, nlh->nlmsg_seq);
    g_ptr_array_add(reasons, g_strdup_printf("%s: %s%s", what,
                                             g_strerror(-e->error), hint));
}

/* The kernel has done all of it when the send returns. */
static bool take_answers(MscNft *n, const MscNftBatch *batch,
                         GPtrArray *reasons, GError **errp)
{
    g_autofree char *buf = g_malloc(ANSWER_MAX);
    bool answered = false;

    for (;;) {
        ssize_t len =
            recv(mnl_socket_get_fd(n->nl), buf, ANSWER_MAX, MSG_DONTWAIT);
        int left = (int)len;

        if (len < 0 && errno == EINTR) {
            continue;
        }
        if (len < 0 && errno == ENOBUFS) {
            answered = true;
            g_ptr_array_add(reasons, g_strdup("and more"));
            continue;
        }
        if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            break;
        }
        if (len <= 0) {
            return kernel_error(errp, "no answer");
        }
        for (const struct nlmsghdr *nlh = (void *)buf; mnl_nlmsg_ok(nlh, left);
             nlh = mnl_nlmsg_next(nlh, &left)) {
            take_answer(nlh, batch, &answered, reasons);
        }
    }
    if (!answered) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                            "nftables: the kernel did not answer");
        return false;
    }
    return true;
}

bool msc_nft_run(MscNft *n, const MscNftBatch *batch, bool commit,
                 GPtrArray *reasons, GError **errp)
{
    struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
    g_autoptr(GByteArray) end = g_byte_array_new();
    struct iovec iov[2] = { { batch->bytes->data, batch->bytes->len } };
    struct msghdr msg = { .msg_name = &kernel,
                          .msg_namelen = sizeof(kernel),
                          .msg_iov = iov,
                          .msg_iovlen = 1 };
    int size = (int)(2 * batch->bytes->len + ANSWER_MAX);
    int fd = mnl_socket_get_fd(n->nl);

    if (commit) {
        msc_nft_message_end(end,
                            msc_nft_message_begin(end, NFNL_MSG_BATCH_END, 0, 0,
                                                  0, NFNL_SUBSYS_NFTABLES));
        iov[1] = (struct iovec){ end->data, end->len };
        msg.msg_iovlen = 2;
    }
    /* A transaction is one datagram, however large.  Without its END it is a
     * trial: the kernel checks it and undoes it. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) ||
        sendmsg(fd, &msg, 0) < 0) {
        return kernel_error(errp, "cannot send a transaction");
    }
    return take_answers(n, batch, reasons, errp);
}

/* ---- reading ---- */

bool msc_nft_ask(MscNft *n, uint16_t type, uint16_t flags, uint8_t family,
                 const GByteArray *attrs, MscNftTake *take, void *opaque,
                 GError **errp)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree char *buf = g_malloc(ANSWER_MAX);
    uint32_t seq = ++n->seq;
    bool same = true;
    guint at;

    at = msc_nft_message_begin(out, NFNL_SUBSYS_NFTABLES << 8 | type, flags,
                               seq, family, 0);
    if (attrs) {
        msc_put_bytes(out, attrs->data, attrs->len);
    }
    msc_nft_message_end(out, at);
    if (mnl_socket_sendto(n->nl, out->data, out->len) < 0) {
        return kernel_error(errp, "cannot ask");
    }
    for (;;) {
        ssize_t len = mnl_socket_recvfrom(n->nl, buf, ANSWER_MAX);
        int left = (int)len;

        if (len < 0 && errno == EINTR) {
            continue;
        }
        if (len <= 0) {
            return kernel_error(errp, "no answer");
        }
        for (const struct nlmsghdr *nlh = (void *)buf; mnl_nlmsg_ok(nlh, left);
             nlh = mnl_nlmsg_next(nlh, &left)) {
            const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
            size_t size = mnl_nlmsg_get_payload_len(nlh);

            if (nlh->nlmsg_seq != seq) {
                continue;
            }
            same = same && !(nlh->nlmsg_flags & NLM_F_DUMP_INTR);
            if (nlh->nlmsg_type == NLMSG_DONE) {
                return same;
            }
            if (nlh->nlmsg_type == NLMSG_ERROR) {
                errno = size < sizeof(int) ? EPROTO
                                           : -*(const int *)(const void *)nfg;
                return errno ? kernel_error(errp, "cannot read") : same;
            }
            if (size < sizeof(*nfg)) {
                errno = EPROTO;
                return kernel_error(errp, "cannot read");
            }
            if (!take(nfg, nfg + 1, size - sizeof(*nfg), opaque, errp)) {
                return false;
            }
            if (!(flags & NLM_F_DUMP)) {
                return same;
            }
        }
    }
}
