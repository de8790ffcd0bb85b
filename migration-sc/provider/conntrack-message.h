/*
 * A flow out of a message of the kernel.
 *
 * Taken from the message directly: the library checks and copies each
 * attribute several times over, which took a quarter of the time of a scan,
 * and ends the process where one has a length that it does not expect.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_MESSAGE_H
#define MSC_PROVIDER_CONNTRACK_MESSAGE_H

#include <linux/netlink.h>

#include "conntrack-flow.h"

/*
 * @nlh: of NFNL_SUBSYS_CTNETLINK, and all of its nlmsg_len bytes are there,
 * aligned as netlink aligns.
 * What the provider has no use for (byte counters, security contexts, ...) is
 * passed over, and so is what is newer than this.  NULL if it cannot be a
 * flow: an attribute that is known has another length or is there twice, no
 * whole original tuple, half a master's.
 */
MscFlow *msc_flow_parse(const struct nlmsghdr *nlh);

#endif
