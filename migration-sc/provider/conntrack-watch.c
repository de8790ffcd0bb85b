/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-watch.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conntrack-message.h"
#include "error.h"

#define SYSCTL "/proc/sys/net/netfilter/nf_conntrack_"
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define READ_MAX (64 * 1024)
/* Events in one call; a table that changes faster cannot be followed. */
#define EVENTS_MAX 200000

struct MscWatch {
    struct mnl_socket *nl;
};

static bool kernel_error(GError **errp, const char *what)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL, "conntrack events: %s: %s",
                what, g_strerror(errno));
    return false;
}

/* Of a flow that tells, at the earliest: CLOCK_REALTIME, as the kernel's time
 * stamps, in ns; atomic in effect, for it is set at the start only. */
static guint64 told_since = G_MAXUINT64;

static bool is_on(const char *name)
{
    g_autofree char *path = g_strconcat(SYSCTL, name, NULL);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) && *text == '1';
}

static bool switch_on(const char *name, GError **errp)
{
    g_autofree char *path = g_strconcat(SYSCTL, name, NULL);
    int fd;

    if (is_on(name)) {
        return true;
    }
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "1", 1) == 1) {
        close(fd);
        return true;
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                "cannot set net.netfilter.nf_conntrack_%s=1: %s", name,
                g_strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    return false;
}

static guint64 now_ns(void)
{
    return (guint64)g_get_real_time() * 1000;
}

/* "BOOT-ID NANOSECONDS": since when, in this boot; else from now on. */
static bool remember(const char *memo, GError **errp)
{
    g_autofree char *boot = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) words = NULL;
    guint64 since;

    if (!memo) {
        told_since = now_ns();
        return true;
    }
    if (!g_file_get_contents(BOOT_ID, &boot, NULL, errp)) {
        return false;
    }
    g_strchomp(boot);
    if (g_file_get_contents(memo, &text, NULL, NULL)) {
        words = g_strsplit(g_strchomp(text), " ", 2);
        if (!g_strcmp0(words[0], boot) && words[1] &&
            g_ascii_string_to_unsigned(words[1], 10, 0, G_MAXUINT64, &since,
                                       NULL)) {
            told_since = since;
            return true;
        }
    }
    since = now_ns();
    g_free(text);
    text = g_strdup_printf("%s %" G_GUINT64_FORMAT "\n", boot, since);
    if (!g_file_set_contents(memo, text, -1, errp)) {
        return false;
    }
    told_since = since;
    return true;
}

bool msc_watch_prepare(const char *memo, GError **errp)
{
    bool was_on = is_on("events");

    told_since = G_MAXUINT64;
    /* What was remembered is of no use if it was off in between. */
    if (memo && !was_on) {
        unlink(memo);
    }
    return switch_on("events", errp) && switch_on("timestamp", errp) &&
           remember(memo, errp);
}

void msc_watch_check(void)
{
    if (!is_on("events")) {
        told_since = G_MAXUINT64;
    }
}

/* Without a time stamp it began before they were switched on. */
bool msc_watch_tells(const MscFlow *flow)
{
    return nfct_attr_is_set(flow, ATTR_TIMESTAMP_START) > 0 &&
           nfct_get_attr_u64(flow, ATTR_TIMESTAMP_START) >= told_since;
}

bool msc_watch_began_before(const MscFlow *flow, uint64_t us)
{
    return nfct_attr_is_set(flow, ATTR_TIMESTAMP_START) > 0
               ? nfct_get_attr_u64(flow, ATTR_TIMESTAMP_START) / 1000 < us
               : is_on("timestamp");
}

MscWatch *msc_watch_new(int buffer, GError **errp)
{
    static const unsigned groups[] = { NFNLGRP_CONNTRACK_NEW,
                                       NFNLGRP_CONNTRACK_UPDATE,
                                       NFNLGRP_CONNTRACK_DESTROY };
    MscWatch *watch = g_new0(MscWatch, 1);
    bool ok;

    watch->nl =
        mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
    /* The buffer first: what it cannot hold is lost from the first moment. */
    ok = watch->nl &&
         setsockopt(mnl_socket_get_fd(watch->nl), SOL_SOCKET, SO_RCVBUFFORCE,
                    &buffer, sizeof(buffer)) == 0 &&
         mnl_socket_bind(watch->nl, 0, MNL_SOCKET_AUTOPID) == 0;
    for (size_t i = 0; ok && i < G_N_ELEMENTS(groups); i++) {
        ok = setsockopt(mnl_socket_get_fd(watch->nl), SOL_NETLINK,
                        NETLINK_ADD_MEMBERSHIP, &groups[i],
                        sizeof(groups[i])) == 0;
    }
    if (!ok) {
        kernel_error(errp, "cannot listen");
        msc_watch_free(watch);
        return NULL;
    }
    return watch;
}

void msc_watch_free(MscWatch *watch)
{
    if (watch) {
        if (watch->nl) {
            mnl_socket_close(watch->nl);
        }
        g_free(watch);
    }
}

/* False: it is not known of what it tells. */
static bool take_event(const struct nlmsghdr *nlh, MscWatchSee *see,
                       void *opaque)
{
    MscFlow *flow;

    if (NFNL_SUBSYS_ID(nlh->nlmsg_type) != NFNL_SUBSYS_CTNETLINK) {
        return true;
    }
    flow = msc_flow_parse(nlh);
    if (!flow) {
        return false;
    }
    see(flow, NFNL_MSG_TYPE(nlh->nlmsg_type) == IPCTNL_MSG_CT_DELETE, opaque);
    nfct_destroy(flow);
    return true;
}

bool msc_watch_read(MscWatch *watch, MscWatchSee *see, void *opaque, bool *lost,
                    GError **errp)
{
    g_autofree char *buf = g_malloc(READ_MAX);

    *lost = false;
    for (guint i = 0; i < EVENTS_MAX; i++) {
        ssize_t n = mnl_socket_recvfrom(watch->nl, buf, READ_MAX);
        const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
        int len = (int)n;

        if (n < 0 && errno == ENOBUFS) {
            *lost = true;
            continue; /* the next read goes on behind the gap */
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN || kernel_error(errp, "cannot read");
        }
        for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
            *lost = !take_event(nlh, see, opaque) || *lost;
        }
    }
    *lost = true;
    return true;
}
