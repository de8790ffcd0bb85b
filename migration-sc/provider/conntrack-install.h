/*
 * What the verbs that change the kernel's tables are made of.
 *
 * @fine, everywhere: errnos that are no failure, ended by 0.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_INSTALL_H
#define MSC_PROVIDER_CONNTRACK_INSTALL_H

#include "conntrack-netlink.h"
#include "conntrack-payload.h"

/* What stands in the way of @payload and is the guest's; NULL, with each
 * named, if something of others does. */
MscPayload *msc_install_find_stale(MscCt *ct, const MscSelector *s,
                                   const MscPayload *payload, GError **errp);

/* Flows out of the kernel, each that very entry; one that has ended is fine. */
bool msc_install_remove(MscCt *ct, const GPtrArray *flows, GError **errp);
/* The same of expectations and flows. */
bool msc_install_remove_all(MscCt *ct, const MscPayload *payload,
                            GError **errp);

/* To be created: without those whose time is over. */
GPtrArray *msc_install_copies(const GPtrArray *flows, uint64_t transit_us,
                              bool lenient);
/*
 * Creates @flows.  A child whose master is not there becomes a flow of its
 * own: the master's time was over, or it ended on this host.  @exist: takes
 * those in whose way something stands (not copies of them), or NULL.
 */
bool msc_install_flows(MscCt *ct, GPtrArray *flows, const int *fine,
                       GPtrArray *exist, GError **errp);
bool msc_install_expects(MscCt *ct, const GPtrArray *expects,
                         uint64_t transit_us, const int *fine, GError **errp);
/* All of a payload. */
bool msc_install_create(MscCt *ct, const MscPayload *payload,
                        uint64_t transit_us, bool lenient, const int *fine,
                        const int *fine_expect, GError **errp);

/* Only TCP has a leniency that counters end. */
bool msc_install_count_packets(const MscPayload *payload, GError **errp);

#endif
