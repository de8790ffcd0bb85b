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
 * All flows of the guest, each once.  The kernel filters where it is known to
 * (conntrack-probe.h); each entry is looked at again here all the same.
 */
GPtrArray *msc_collect_flows(MscCt *ct, const MscSelector *selector,
                             GError **errp);
/* The expectations of @flows; may include some that are not the guest's. */
GPtrArray *msc_collect_expects(MscCt *ct, const GPtrArray *flows,
                               GError **errp);

#endif
