/*
 * A guest's state, out of the kernel.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_COLLECT_H
#define MSC_PROVIDER_CONNTRACK_COLLECT_H

#include "conntrack-netlink.h"
#include "conntrack-payload.h"

/*
 * Going through the guest's flows a few at a time, whatever their number: a
 * walk over the table of its host.  A table that is resized meanwhile may show
 * a flow twice.
 */
typedef struct MscScan MscScan;

/* @s outlives it. */
MscScan *msc_scan_new(const MscSelector *s, GError **errp);
void msc_scan_free(MscScan *scan);
/* Appends some to @flows, or none; *@done: there are no more. */
bool msc_scan_next(MscScan *scan, GPtrArray *flows, bool *done, GError **errp);

/*
 * Looking before taking: reads some, or none, and keeps them; *@done: there
 * are no more.  msc_scan_next() gives them before it reads on, as they are by
 * then: with what is left of their time, and of those that have little left
 * what the kernel says.  About 400 bytes each; not after msc_scan_next().
 */
bool msc_scan_ahead(MscScan *scan, bool *done, GError **errp);
/* What is kept, in the order in which it was read. */
const GPtrArray *msc_scan_kept(const MscScan *scan);

/*
 * All flows of the guest, each once.  The kernel filters where it is known to
 * (conntrack-probe.h); each entry is looked at again here all the same.
 */
GPtrArray *msc_collect_flows(const MscSelector *selector, GError **errp);
/* The expectations of @flows; may include some that are not the guest's. */
GPtrArray *msc_collect_expects(MscCt *ct, const GPtrArray *flows,
                               GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscScan, msc_scan_free)

#endif
