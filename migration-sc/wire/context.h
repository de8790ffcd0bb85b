/*
 * The plain security context: what the sealed chunks carry and what a
 * snapshot file holds.  docs/context.md.
 *
 *   u32 magic "MSCX", u16 version, u16 oldest version that can read it,
 *   16 bytes guest UUID, u64 wall clock (us since 1970), u64 source's
 *   CLOCK_BOOTTIME (us) at collection, then sections (wire/sections.h)
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_CONTEXT_H
#define MSC_WIRE_CONTEXT_H

#include "sections.h"

#define MSC_CONTEXT_UUID_LEN 16

typedef struct {
    uint8_t vm[MSC_CONTEXT_UUID_LEN];
    uint64_t wall_us;
    uint64_t boot_us;
    GPtrArray *sections; /* of MscSection, one a provider */
} MscContext;

MscContext *msc_context_new(void);
void msc_context_free(MscContext *context);
GBytes *msc_context_encode(MscContext *context);
MscContext *msc_context_decode(const void *data, size_t len, GError **errp);

/* "01234567-89ab-cdef-0123-456789abcdef", lower case. */
void msc_uuid_format(const uint8_t uuid[MSC_CONTEXT_UUID_LEN],
                     char text[MSC_CONTEXT_UUID_LEN * 2 + 5]);
bool msc_uuid_parse(const char *text, uint8_t uuid[MSC_CONTEXT_UUID_LEN],
                    GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscContext, msc_context_free)

#endif
