/*
 * What flows need of a destination, beyond room: told before RAM moves, and
 * tried there with scratch entries (conntrack-probe.h).
 *
 * On the wire: u8 features, u8 number of helpers, then for each helper,
 * ascending and none twice: u8 family (2 or 10), u8 protocol, a name
 * (conntrack-codec.h).
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_NEEDS_H
#define MSC_PROVIDER_CONNTRACK_NEEDS_H

#include "conntrack-codec.h"

/* Features. */
#define MSC_NEED_ZONES 1
#define MSC_NEED_MARKS 2
#define MSC_NEED_LABELS 4
#define MSC_NEED_NAT_IPV4 8
#define MSC_NEED_NAT_IPV6 16
#define MSC_NEED_COUNTERS 32 /* TCP: to know when leniency can end */
#define MSC_NEEDS_ALL 63
/* The kernel has a dozen helpers, for two families and protocols. */
#define MSC_HELPERS_MAX 64

typedef struct {
    uint8_t family, l4;
    char name[MSC_CONNTRACK_HELPER_MAX + 1];
} MscHelper;

typedef struct {
    uint8_t features;
    GArray *helpers; /* of MscHelper, ascending */
} MscNeeds;

MscNeeds *msc_needs_new(void);
void msc_needs_free(MscNeeds *needs);

/* Adds what @flows need, from place @from on.  False if there are more helpers
 * than the format holds. */
bool msc_needs_of(const GPtrArray *flows, guint from, MscNeeds *needs,
                  GError **errp);
void msc_needs_encode(const MscNeeds *needs, GByteArray *out);
MscNeeds *msc_needs_decode(MscReader *r, GError **errp);

/* Appends to @reasons (of char *) what this host lacks of @needs, with the
 * fix.  False if the kernel could not be asked. */
bool msc_needs_check(const MscNeeds *needs, GPtrArray *reasons, GError **errp);

/* Switches the counting of packets on; it stays on. */
bool msc_counters_enable(GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscNeeds, msc_needs_free)

#endif
