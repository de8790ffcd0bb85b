/*
 * Which attributes make up a flow that is whole, for each protocol.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_SHAPE_H
#define MSC_PROVIDER_CONNTRACK_SHAPE_H

#include "conntrack-flow.h"

/* TCP, UDP and their kind; GRE, whose keys stand in for ports. */
bool msc_l4_has_ports(uint8_t l4);

/*
 * What is wrong with a flow out of a decoder, or NULL.  Absent reply
 * attributes are fine: it mirrors the original.
 */
const char *msc_flow_malformed(const MscFlow *flow);
/* The same of a mere original tuple and its zone. */
const char *msc_tuple_malformed(const MscFlow *flow);

#endif
