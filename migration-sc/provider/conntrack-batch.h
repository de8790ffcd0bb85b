/*
 * What pre-copy sends of a guest's flows at a time.  docs/conntrack.md,
 * "Batches".
 *
 *   a list of tuples (conntrack-codec.h): flows that are withdrawn; then a
 *   payload: flows that are there, or are there anew, and expectations
 *
 * A batch is whole by itself: masters stand before their children in it.
 * What it withdraws goes before what it brings: a flow in both is a new one.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_BATCH_H
#define MSC_PROVIDER_CONNTRACK_BATCH_H

#include "conntrack-codec.h"

/* Flows in a batch; as many again may be their masters.  Of the largest there
 * are (IPv6, NAT, labels, a helper, a master: under 250 bytes) it fits a
 * chunk. */
#define MSC_BATCH_FLOWS 512

typedef struct {
    GPtrArray *gone; /* of MscFlow, tuples only */
    MscPayload *payload;
} MscBatch;

MscBatch *msc_batch_new(void);
void msc_batch_free(MscBatch *batch);
GBytes *msc_batch_encode(const MscBatch *batch);
MscBatch *msc_batch_decode(GBytes *bytes, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscBatch, msc_batch_free)

#endif
