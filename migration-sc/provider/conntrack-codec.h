/*
 * The conntrack payload.  docs/conntrack.md, "Payload".
 *
 * A list of flows, then a list of expectations; each is u32 count, then for
 * each item: u16 length, attributes in ascending order of tags, each u8 tag
 * and its value, whose length the tag implies (or a u8 length first, for
 * names and labels).
 *
 * A list of flows has this shape wherever it stands: payload, journal of
 * replaced entries, NAT flows in the admission summary.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_CODEC_H
#define MSC_PROVIDER_CONNTRACK_CODEC_H

#include "bytes.h"
#include "conntrack-payload.h"

#define MSC_CONNTRACK_VERSION 1
#define MSC_CONNTRACK_OLDEST 1
/* Of the section in the context that ends a pre-copy, and of its batches. */
#define MSC_CONNTRACK_BATCH_VERSION 2
/* Of the sections of an admission alone: batches, and bases to begin with. */
#define MSC_CONNTRACK_BASED_VERSION 3
/* More than a host can hold in memory. */
#define MSC_CONNTRACK_FLOWS_MAX (16u * 1024 * 1024)
/* The kernel's table of expectations is far smaller. */
#define MSC_CONNTRACK_EXPECTS_MAX (1024u * 1024)
/* A helper's name (NF_CT_HELPER_NAME_LEN less the NUL in the kernel) and an
 * expectation's function, bytes. */
#define MSC_CONNTRACK_HELPER_MAX 15
#define MSC_CONNTRACK_FUNCTION_MAX 23

void msc_flows_encode(const GPtrArray *flows, GByteArray *out);
/* Reads one list; the caller checks that the input ends there. */
GPtrArray *msc_flows_decode(MscReader *r, GError **errp);

/* A list of flows to be withdrawn: of each its original tuple (tags 1 to 11)
 * and zone (tag 24), and nothing else. */
void msc_tuples_encode(const GPtrArray *flows, GByteArray *out);
GPtrArray *msc_tuples_decode(MscReader *r, GError **errp);

/* The second list; conntrack-expect-codec.c. */
void msc_expects_encode(const GPtrArray *expects, GByteArray *out);
GPtrArray *msc_expects_decode(MscReader *r, GError **errp);

/* A whole payload: both lists and nothing else. */
GBytes *msc_payload_encode(const MscPayload *payload);
MscPayload *msc_payload_decode(GBytes *bytes, GError **errp);

/* A name: u8 length, 1 to @max printable ASCII characters; @out has @max + 1
 * bytes. */
void msc_put_name(GByteArray *out, const char *name, size_t max);
bool msc_reader_name(MscReader *r, char *out, size_t max);

#endif
