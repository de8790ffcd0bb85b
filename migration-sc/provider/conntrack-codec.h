/*
 * The conntrack payload.  docs/conntrack.md, "Payload".
 *
 *   u32 count, then for each flow: u16 length, attributes in ascending order
 *   of tags, each u8 tag and its value, whose length the tag implies (or a u8
 *   length first, for names and labels)
 *
 * A list of flows has this shape wherever it stands: payload, journal of
 * replaced entries, NAT flows in the admission summary.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_CODEC_H
#define MSC_PROVIDER_CONNTRACK_CODEC_H

#include "bytes.h"
#include "conntrack-flow.h"

#define MSC_CONNTRACK_VERSION 1
#define MSC_CONNTRACK_OLDEST 1
/* More than a host can hold in memory. */
#define MSC_CONNTRACK_FLOWS_MAX (16u * 1024 * 1024)

void msc_flow_encode(const MscFlow *flow, GByteArray *out);
void msc_flows_encode(const GPtrArray *flows, GByteArray *out);
/* Reads one list; the caller checks that the input ends there. */
GPtrArray *msc_flows_decode(MscReader *r, GError **errp);
/* A whole payload: one list and nothing else. */
GPtrArray *msc_payload_decode(GBytes *payload, GError **errp);

#endif
