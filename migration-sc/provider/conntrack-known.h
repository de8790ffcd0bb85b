/*
 * What the other host has of the guest's flows already: its base.
 *
 * A table of what each flow was when it was told of: a hash of it and when its
 * time is over, 24 bytes each, so that a million fit into 48 MiB.  Hashes are
 * keyed anew for each table (SipHash-2-4): a guest chooses its tuples, and must
 * not be able to make two flows look like one.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_KNOWN_H
#define MSC_PROVIDER_CONNTRACK_KNOWN_H

#include "conntrack-batch.h"
#include "provider.h"

typedef struct MscKnown MscKnown;

MscKnown *msc_known_new(void);
void msc_known_free(MscKnown *known);

/* The other host has what @batch brings, not what it withdraws; its time-outs
 * held @age_us ago. */
void msc_known_add(MscKnown *known, const MscBatch *batch, uint64_t age_us);

/* The next batch of @base: 1; 0: there are no more; -1: it cannot be read. */
int msc_known_read(const MscBase *base, MscBatch **batch, uint64_t *age_us,
                   GError **errp);

typedef enum {
    MSC_KNOWN_NOT,   /* it has no such flow */
    MSC_KNOWN_OTHER, /* it has another version of it, or none any more */
    MSC_KNOWN_SAME,  /* it has it, and that will do */
} MscKnownAs;

/* Of a flow out of the kernel; SAME also remembers that it was seen. */
MscKnownAs msc_known_look(MscKnown *known, const MscFlow *flow);
/* The other host has it, and it was neither looked at with SAME nor said to
 * be settled. */
bool msc_known_is_left(const MscKnown *known, GBytes *key);
/* The other host was told how it is now, or will be. */
void msc_known_settle(MscKnown *known, GBytes *key);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscKnown, msc_known_free)

#endif
