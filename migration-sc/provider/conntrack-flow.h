/*
 * One flow, as libnetfilter_conntrack holds it, and what we ask of it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_FLOW_H
#define MSC_PROVIDER_CONNTRACK_FLOW_H

#include <libnetfilter_conntrack/libnetfilter_conntrack.h>

#include "selector.h"

typedef struct nf_conntrack MscFlow;

/* GPtrArray of MscFlow*, destroyed with it. */
GPtrArray *msc_flows_new(void);

/* Is the guest of @s the originator or the responder, in its zone, with its
 * mark? */
bool msc_flow_belongs(const MscFlow *flow, const MscSelector *s);

bool msc_flow_is_nated(const MscFlow *flow);
/* The address that NAT lends to the guest and that must be on its host;
 * false if there is none (no NAT, or NAT of the far end only). */
bool msc_flow_nat_address(const MscFlow *flow, const MscSelector *s,
                          MscAddress *address);
bool msc_address_in(const MscAddress *address, const GArray *list);

/* Is the reply tuple just the original one turned round? */
bool msc_flow_reply_is_mirror(const MscFlow *flow);
/* Fills the reply tuple from the original one. */
void msc_flow_mirror_reply(MscFlow *flow);

/* "tcp 10.0.0.1:22 -> 10.0.0.2:40000", with NAT if any. */
char *msc_flow_describe(const MscFlow *flow);
/* A key for hash tables: original tuple and zone. */
GBytes *msc_flow_key(const MscFlow *flow);

/*
 * A copy to be created in the kernel: NAT is asked for by range, not by a
 * finished reply tuple, or the kernel would not translate; TCP is lenient
 * until traffic was seen (@lenient).  NULL if less than a second is left of
 * its time after @transit_us.
 */
MscFlow *msc_flow_to_create(const MscFlow *flow, uint64_t transit_us,
                            bool lenient);
/* A copy with nothing but tuple (@reply: the reply one) and zone. */
MscFlow *msc_flow_to_find(const MscFlow *flow, bool reply);

#endif
