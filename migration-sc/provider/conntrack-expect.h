/*
 * One expectation: a flow that another one (its master) announced and that
 * has not begun.  As libnetfilter_conntrack holds it.
 *
 * The kernel keeps an expectation in its master's zone and does not say which
 * one that is; ours always have ATTR_EXP_ZONE.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_EXPECT_H
#define MSC_PROVIDER_CONNTRACK_EXPECT_H

#include <linux/netlink.h>

#include "conntrack-flow.h"

typedef struct nf_expect MscExpect;

/* Of MscExpect*, destroyed with it. */
GPtrArray *msc_expects_new(void);

uint8_t msc_expect_family(const MscExpect *expect);
uint16_t msc_expect_zone(const MscExpect *expect);
/* One of the tuples (ATTR_EXP_EXPECTED, _MASK, _MASTER, _NAT_TUPLE) in the
 * original tuple of a flow, or NULL. */
MscFlow *msc_expect_tuple(const MscExpect *expect, enum nf_expect_attr attr);

/*
 * Is the guest one end of the expected flow?  Its master says nothing about
 * that: an expectation is a hole in the firewall for whatever it names.
 */
bool msc_expect_belongs(const MscExpect *expect, const MscSelector *s);
/* The same key as msc_flow_key() of the master. */
GBytes *msc_expect_master_key(const MscExpect *expect);
/* "expected tcp 10.0.0.1:0 -> 10.0.0.2:40000". */
char *msc_expect_describe(const MscExpect *expect);

/* A copy to be created; NULL as msc_flow_to_create(). */
MscExpect *msc_expect_to_create(const MscExpect *expect, uint64_t transit_us);

/* From a message of the kernel; NULL if it is of a kind that we do not
 * know. */
MscExpect *msc_expect_parse(const struct nlmsghdr *nlh, uint16_t zone);
/* As in conntrack-request.h: all of it, or what names it. */
bool msc_put_expect(struct nlmsghdr *nlh, const MscExpect *expect);
bool msc_put_expect_tuple(struct nlmsghdr *nlh, const MscExpect *expect);

#endif
