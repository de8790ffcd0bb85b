/*
 * What this kernel can do, found out by trying.
 *
 * A probe makes scratch entries of its own, asks for them and removes them;
 * they lie in 0.0.0.0/8 and 100::/64, which no packet uses, and end by
 * themselves after half a minute.  Nothing else in the table is touched, and
 * collecting passes over them.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_PROBE_H
#define MSC_PROVIDER_CONNTRACK_PROBE_H

#include "conntrack-netlink.h"

/* Filters that a dump honours. */
typedef enum {
    MSC_FILTER_ZONE = 1,
    MSC_FILTER_MARK = 2,
    MSC_FILTER_IPV4 = 4, /* an address in either tuple */
    MSC_FILTER_IPV6 = 8,
} MscCtFilter;

/*
 * The filters that this kernel honours: it shows what matches, and nothing
 * else.  Tried at the first call, which takes six walks over the host's table,
 * and remembered; 0 if it could not be tried.
 */
guint msc_ct_filters(void);
/* The same in words, for "doctor". */
char *msc_ct_filters_describe(void);

bool msc_flow_is_scratch(const MscFlow *flow);
/* A new scratch flow, not in the kernel yet. */
MscFlow *msc_scratch_new(uint8_t family, uint8_t l4);
/*
 * Creates @scratch in the kernel, and removes it again.  What the kernel made
 * of it goes to *@made, NULL if it refused, with the reason in *@refused (an
 * errno).  False if the kernel could not be asked.
 */
bool msc_scratch_try(MscCt *ct, MscFlow *scratch, MscFlow **made, int *refused,
                     GError **errp);

#endif
