/*
 * Listening to what changes in the kernel's table.
 *
 * The kernel tells of a flow that began, ended, or changed its state; not of
 * time-outs that packets refresh.  It tells it in the context of whoever made
 * the change, so when a guest has stopped and its last packet was dealt with,
 * everything is in the socket.
 *
 * A flow tells of itself only if it may: since Linux 5.19 none does that began
 * when nobody listened (nf_conntrack_events=2, "auto").  msc_watch_prepare()
 * changes that for flows that begin from then on, and has the kernel stamp
 * them with their time; msc_watch_tells() knows the others.
 *
 * Every listener slows whoever changes the table: only while it is needed.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_WATCH_H
#define MSC_PROVIDER_CONNTRACK_WATCH_H

#include "conntrack-netlink.h"

/* An event takes 1,280 bytes of it; 100,000 at once fit. */
#define MSC_WATCH_BUFFER (128 * 1024 * 1024)

/*
 * Makes flows that begin from now on tell of themselves.  It stays on.  @memo:
 * a file that remembers since when they do, over restarts of the daemon but
 * not of the host; or NULL.  False: it cannot be switched on, or be remembered;
 * then no flow counts as one that tells.
 */
bool msc_watch_prepare(const char *memo, GError **errp);
/* Is it still as msc_watch_prepare() left it?  If not, no flow tells. */
void msc_watch_check(void);
/* Does @flow, as dumped, tell of itself?  No is always safe. */
bool msc_watch_tells(const MscFlow *flow);

/* Was @flow, as dumped, there before @us (CLOCK_REALTIME)?  False where the
 * kernel stamps no flow. */
bool msc_watch_began_before(const MscFlow *flow, uint64_t us);

typedef struct MscWatch MscWatch;

/* @buffer: bytes that the kernel may keep for us. */
MscWatch *msc_watch_new(int buffer, GError **errp);
void msc_watch_free(MscWatch *watch);

/* @flow is the caller's; @ended: it is no more. */
typedef void MscWatchSee(const MscFlow *flow, bool ended, void *opaque);

/* Gives everything that happened up to now to @see, and does not wait.
 * *@lost: there was more than the buffer held, or what cannot be read. */
bool msc_watch_read(MscWatch *watch, MscWatchSee *see, void *opaque, bool *lost,
                    GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscWatch, msc_watch_free)

#endif
