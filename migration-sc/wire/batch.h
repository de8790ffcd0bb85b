/*
 * A batch of pre-copy: the plain bytes of one sealed chunk of its own kind.
 * docs/context.md, "Batches".
 *
 *   u32 magic "MSCB", u16 version, u16 flags, u64 source's CLOCK_BOOTTIME (us)
 *   when it was read, then sections (wire/sections.h)
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_BATCH_H
#define MSC_WIRE_BATCH_H

#include "sections.h"

/* Flags, one at most: everything sent before is void; each section is no batch
 * but u32, how many more batches of the base are to be staged. */
#define MSC_BATCH_ANEW 1
#define MSC_BATCH_BASED 2

typedef struct {
    uint16_t flags;
    uint64_t boot_us;
    GPtrArray *sections; /* of MscSection, a provider's batch each */
} MscBatchMessage;

GBytes *msc_batch_message_encode(const MscBatchMessage *m);
/* Fills @m, whose sections the caller unrefs. */
bool msc_batch_message_decode(const void *data, size_t len, MscBatchMessage *m,
                              GError **errp);

#endif
