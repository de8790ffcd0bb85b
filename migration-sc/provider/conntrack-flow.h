/*
 * One flow, as libnetfilter_conntrack holds it, and what we ask of it.
 *
 * The library has no attribute for the ICMP identifier of the reply tuple.
 * A flow of ours keeps it in ATTR_REPL_PORT_SRC, which is the same place in
 * the tuple; absent, it is the original's.
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

/* The same for an entry that is in the way.  Where addresses say whose it is,
 * the mark is not looked at: firewall rules give it, and may not have seen
 * the guest yet. */
bool msc_flow_is_guests(const MscFlow *flow, const MscSelector *s);

/* Is one of the guest's addresses the originator? */
bool msc_flow_is_originator(const MscFlow *flow, const MscSelector *s);

bool msc_flow_is_icmp(const MscFlow *flow);
/* In network byte order. */
uint16_t msc_flow_icmp_id(const MscFlow *flow, bool reply);
/* The zone in which the kernel keeps one of the tuples. */
uint16_t msc_flow_zone(const MscFlow *flow, bool reply);

bool msc_flow_is_snat(const MscFlow *flow);
bool msc_flow_is_dnat(const MscFlow *flow);
/* Either; else the reply tuple is just the original one turned round. */
bool msc_flow_is_nated(const MscFlow *flow);
/* The address that NAT lends to the guest and that must be on its host;
 * false if there is none (no NAT, or NAT of the far end only). */
bool msc_flow_nat_address(const MscFlow *flow, const MscSelector *s,
                          MscAddress *address);
bool msc_address_equal(const MscAddress *a, const MscAddress *b);
bool msc_address_in(const MscAddress *address, const GArray *list);

/* Is any connlabel set? */
bool msc_flow_has_labels(const MscFlow *flow);

/* Fills the reply tuple from the original one. */
void msc_flow_mirror_reply(MscFlow *flow);

/* "tcp 10.0.0.1:22 -> 10.0.0.2:40000", with NAT if any. */
char *msc_flow_describe(const MscFlow *flow);
/* Keys for hash tables: original tuple and its zone; the same of the flow
 * that announced this one, which must be a child. */
GBytes *msc_flow_key(const MscFlow *flow);
GBytes *msc_flow_key_in(const MscFlow *flow, uint16_t zone);
GBytes *msc_flow_master_key(const MscFlow *flow);

/* A flow of which nothing is known but @key: to look for, or to withdraw. */
MscFlow *msc_flow_of_key(GBytes *key);
/* The key of a tuple's 64 bits, for sets that only count and remember. */
guint64 msc_flow_key_hash(GBytes *key);
/* The same of msc_flow_key(). */
guint64 msc_flow_hash(const MscFlow *flow);

/* Did another flow announce this one (an FTP data connection)? */
bool msc_flow_is_child(const MscFlow *flow);
/* From now on a flow of its own. */
void msc_flow_orphan(MscFlow *flow);

#endif
