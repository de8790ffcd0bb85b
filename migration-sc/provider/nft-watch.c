/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-watch.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "error.h"
#include "selector.h"

#define EVENTS_MAX (64 * 1024)
/* A small transaction's two events take 2.5 KiB of it. */
#define SOCKET_BUFFER (1024 * 1024)
/* A transaction tells of itself when it has taken effect, so that its number
 * can be read before its events: whoever made it may have to wait for a
 * processor in between. */
#define PATIENCE_US (50 * 1000)
#define PAUSE_US 100

/* In every event but NEWGEN, this attribute is the table's name. */
#define TABLE_NAME 1
#define IS_TABLE_NAME(attr) G_STATIC_ASSERT((int)(attr) == TABLE_NAME)
IS_TABLE_NAME(NFTA_TABLE_NAME);
IS_TABLE_NAME(NFTA_CHAIN_TABLE);
IS_TABLE_NAME(NFTA_RULE_TABLE);
IS_TABLE_NAME(NFTA_SET_TABLE);
IS_TABLE_NAME(NFTA_SET_ELEM_LIST_TABLE);
IS_TABLE_NAME(NFTA_OBJ_TABLE);
IS_TABLE_NAME(NFTA_FLOWTABLE_TABLE);
/* In NEWGEN it is the number. */
G_STATIC_ASSERT((int)NFTA_GEN_ID == TABLE_NAME);

struct MscNftWatch {
    const GPtrArray *tables;
    struct mnl_socket *nl;
    bool changed;
    uint32_t generation; /* events of all up to this one were read; 0: none */
};

MscNftWatch *msc_nft_watch_new(const GPtrArray *tables, GError **errp)
{
    MscNftWatch *w = g_new0(MscNftWatch, 1);
    int size = SOCKET_BUFFER;

    w->tables = tables;
    w->nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (w->nl) {
        /* Best effort: with less, events are lost sooner. */
        setsockopt(mnl_socket_get_fd(w->nl), SOL_SOCKET, SO_RCVBUFFORCE, &size,
                   sizeof(size));
    }
    if (!w->nl || mnl_socket_bind(w->nl, 1u << (NFNLGRP_NFTABLES - 1),
                                  MNL_SOCKET_AUTOPID)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                    "nftables: cannot listen to changes: %s",
                    g_strerror(errno));
        g_clear_pointer(&w, msc_nft_watch_free);
    }
    return w;
}

void msc_nft_watch_free(MscNftWatch *w)
{
    if (w) {
        if (w->nl) {
            mnl_socket_close(w->nl);
        }
        g_free(w);
    }
}

static bool is_watched(const MscNftWatch *w, uint8_t family, const char *name)
{
    for (guint i = 0; i < w->tables->len; i++) {
        const MscNftTableName *table = w->tables->pdata[i];

        if (table->family == family && !strcmp(table->name, name)) {
            return true;
        }
    }
    return false;
}

static void take_event(MscNftWatch *w, const struct nlmsghdr *nlh)
{
    const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
    const uint16_t newgen = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN;
    const struct nlattr *attr, *first = NULL;

    if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*nfg)) {
        w->changed = true;
        return;
    }
    mnl_attr_for_each(attr, nlh, sizeof(*nfg))
    {
        if (mnl_attr_get_type(attr) == TABLE_NAME) {
            first = attr;
        }
    }
    if (nlh->nlmsg_type == newgen) {
        if (first && !mnl_attr_validate(first, MNL_TYPE_U32)) {
            w->generation = mnl_attr_get_u32(first);
        }
    } else if (!first || mnl_attr_validate(first, MNL_TYPE_NUL_STRING) ||
               is_watched(w, nfg->nfgen_family, mnl_attr_get_str(first))) {
        w->changed = true;
    }
}

void msc_nft_watch_read(MscNftWatch *w)
{
    g_autofree char *buf = g_malloc(EVENTS_MAX);

    for (;;) {
        struct iovec iov = { buf, EVENTS_MAX };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t len = recvmsg(mnl_socket_get_fd(w->nl), &msg, 0);
        int left = (int)len;

        if (len < 0 && errno == EINTR) {
            continue;
        }
        if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        }
        if (len < 0 && errno == ENOBUFS) {
            w->changed = true; /* some were lost */
            continue;
        }
        if (len <= 0 || (msg.msg_flags & MSG_TRUNC)) {
            w->changed = true;
            return;
        }
        for (const struct nlmsghdr *nlh = (void *)buf; mnl_nlmsg_ok(nlh, left);
             nlh = mnl_nlmsg_next(nlh, &left)) {
            take_event(w, nlh);
        }
    }
}

bool msc_nft_watch_reset(MscNftWatch *w)
{
    bool changed;

    msc_nft_watch_read(w);
    changed = w->changed;
    w->changed = false;
    return !changed;
}

/* Numbers go round, past 0.  On a busy host more transactions have ended by
 * the time that their events are read. */
static bool has_come_to(const MscNftWatch *w, uint32_t generation)
{
    return w->generation && (int32_t)(w->generation - generation) >= 0;
}

bool msc_nft_watch_unchanged(MscNftWatch *w, uint32_t generation)
{
    gint64 end = g_get_monotonic_time() + PATIENCE_US;

    for (;;) {
        msc_nft_watch_read(w);
        if (w->changed || has_come_to(w, generation)) {
            return !w->changed;
        }
        if (g_get_monotonic_time() > end) {
            return false;
        }
        g_usleep(PAUSE_US);
    }
}

bool msc_nft_watch_same(MscNftWatch *w, uint32_t was, uint32_t is)
{
    msc_nft_watch_read(w);
    return !w->changed && (was == is || msc_nft_watch_unchanged(w, is));
}
