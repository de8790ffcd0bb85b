/*
 * Network namespaces for tests of the conntrack provider: each stands for one
 * host's kernel.  They live as long as the test's process.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_CONNTRACK_LAB_H
#define TESTS_NETNS_CONNTRACK_LAB_H

#include "conntrack-codec.h"
#include "conntrack-netlink.h"
#include "conntrack.h"

#define GUEST "10.20.0.10"
#define GUEST6 "fd20::10"
#define NAT "203.0.113.10"
#define NAT6 "2001:db8::10"
#define PEER "192.0.2.5"
#define PEER6 "2001:db8:1::5"

/* A new namespace; the calling thread is in it. */
int lab_host_new(void);
void lab_host_free(int host);
void lab_enter(int host);

/* Runs a command in the current namespace; it must succeed. */
void G_GNUC_PRINTF(1, 2) lab_run(const char *format, ...);
/* Its output, less what follows the last newline. */
char *G_GNUC_PRINTF(1, 2) lab_output(const char *format, ...);
/* Makes the kernel track, and translate, both families. */
void lab_track(void);
void lab_sysctl(const char *name, const char *value);

/* The guest's addresses and NAT addresses. */
MscSelector *lab_guest(void);
void lab_add_address(GArray *list, const char *address);

/* A flow as if the kernel had dumped it.  @src and @dst of one family. */
MscFlow *lab_flow(uint8_t l4, const char *src, uint16_t sport, const char *dst,
                  uint16_t dport);
void lab_set_u16(MscFlow *flow, enum nf_conntrack_attr attr, uint16_t port);
/* The reply tuple's end: what the originator or responder is translated to. */
void lab_snat(MscFlow *flow, const char *address, uint16_t port);
void lab_dnat(MscFlow *flow, const char *address, uint16_t port);
void lab_tcp(MscFlow *flow, uint8_t state, uint8_t flags, uint8_t wscale);
void lab_child(MscFlow *flow, const MscFlow *master);

/* Creates it in the kernel, strictly; takes it. */
void lab_create(MscFlow *flow);
/* All entries of the current namespace, in the order of their keys. */
GPtrArray *lab_table(void);
guint lab_count(void);
/* Is exactly one table the other, in all that can be moved?  @transit_s: what
 * the second's time-outs have lost.  @late_s: what the first's have, since
 * the second was made of them. */
void lab_assert_same(const GPtrArray *before, const GPtrArray *after,
                     bool lenient, guint transit_s, guint late_s);

/* The provider's verbs, which must succeed. */
GBytes *lab_collect(const MscSelector *s, guint flows);
void lab_restore(const MscSelector *s, GBytes *payload, uint64_t transit_us);

#endif
