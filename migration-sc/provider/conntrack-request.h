/*
 * Flows on their way to the kernel: what a request about one says.
 *
 * Each function appends attributes to a message whose header is there; false
 * if the library refuses the flow.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_REQUEST_H
#define MSC_PROVIDER_CONNTRACK_REQUEST_H

#include <linux/netlink.h>

#include "conntrack-flow.h"

/* Bytes that any of these, and a header, fit in. */
#define MSC_REQUEST_MAX 1024

/*
 * A copy to be created: what the kernel lets nobody say is taken out, TCP is
 * lenient until traffic was seen (@lenient).  NULL if less than a second is
 * left of its time after @transit_us.
 */
MscFlow *msc_flow_to_create(const MscFlow *flow, uint64_t transit_us,
                            bool lenient);
/* All of it. */
bool msc_put_flow(struct nlmsghdr *nlh, const MscFlow *flow);
/* Only what names it: one of the tuples, with its zone. */
bool msc_put_tuple(struct nlmsghdr *nlh, const MscFlow *flow, bool reply);
/* As above, and this very entry, if it came from the kernel. */
bool msc_put_entry(struct nlmsghdr *nlh, const MscFlow *flow);
/* The flow as the master of expectations that are asked for. */
bool msc_put_master(struct nlmsghdr *nlh, const MscFlow *flow);
/* From now on TCP is looked at strictly. */
bool msc_put_strict(struct nlmsghdr *nlh, const MscFlow *flow);

#endif
