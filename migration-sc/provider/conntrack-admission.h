/*
 * What conntrack asks and answers before RAM moves.
 *
 *   summary: u32 flows, what they need (conntrack-needs.h), then a list of
 *            all NATed flows (conntrack-codec.h)
 *   answer:  u16 count, then for each address that the destination brings
 *            for the guest: u8 family (4 or 6), 4 or 16 bytes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_ADMISSION_H
#define MSC_PROVIDER_CONNTRACK_ADMISSION_H

#include "conntrack-collect.h"
#include "conntrack-flow.h"

/* Flows looked at before RAM; tests make it small. */
extern uint32_t msc_conntrack_looked_at_max;

GBytes *msc_conntrack_summarize(const MscSelector *selector, size_t max,
                                GError **errp);
/* The same of @scan, which keeps what is read for it (msc_scan_ahead());
 * *@count: flows that were seen. */
GBytes *msc_conntrack_summarize_scan(MscScan *scan, size_t max, uint32_t *count,
                                     GError **errp);
bool msc_conntrack_check(const MscSelector *selector, GBytes *summary,
                         bool leave_behind, GPtrArray *reasons, GBytes **answer,
                         GError **errp);
/* GArray of MscAddress from an answer. */
GArray *msc_conntrack_answer_decode(GBytes *answer, GError **errp);

/*
 * Entries of this host that stand in the way of @flows, in @stale if they
 * belong to the guest; the others as text in @clashes (of char *).
 */
bool msc_conntrack_find_clashes(const MscSelector *selector,
                                const GPtrArray *flows, GPtrArray *stale,
                                GPtrArray *clashes, GError **errp);

#endif
