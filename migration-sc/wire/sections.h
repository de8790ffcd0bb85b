/*
 * A list of named blobs, one for each provider: the common shape of the
 * admission request, its answer and the context.
 *
 *   u16 count, then for each section, in ascending order of names:
 *   string name, u16 version, u16 oldest version that can read it,
 *   u32 length, the bytes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_SECTIONS_H
#define MSC_WIRE_SECTIONS_H

#include "bytes.h"

typedef struct {
    char *name;
    uint16_t version;
    uint16_t oldest;
    GBytes *data;
} MscSection;

/* Of MscSection*, freed with the array. */
GPtrArray *msc_sections_new(void);
void msc_sections_add(GPtrArray *sections, const char *name, uint16_t version,
                      uint16_t oldest, GBytes *data);
const MscSection *msc_sections_find(const GPtrArray *sections,
                                    const char *name);
/* Sorts @sections by name first. */
void msc_sections_encode(GPtrArray *sections, GByteArray *out);
/* All that is left of @r; nothing may follow them. */
GPtrArray *msc_sections_decode(MscReader *r, const char *what, GError **errp);

#endif
