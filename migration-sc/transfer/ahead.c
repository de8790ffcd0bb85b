/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "ahead.h"

#include <string.h>

#include "base.h"
#include "fault.h"

uint16_t msc_ahead_version(const MscTransfer *t, const MscProvider *p)
{
    if (!t->carries_batches || !p->precopy) {
        return p->version;
    }
    return p->precopy->based ? p->precopy->based : p->precopy->version;
}

bool msc_ahead_told(const MscProvider *p, uint16_t version)
{
    return p->precopy && (version == p->precopy->version ||
                          (p->precopy->based && version == p->precopy->based));
}

static void part_free(gpointer opaque)
{
    MscAheadPart *part = opaque;

    if (part->memory) {
        part->end(part->memory);
    }
    g_free(part->reading.opaque);
    msc_base_void(part);
    g_free(part);
}

MscAheadPart *msc_ahead_add(MscTransfer *t, const MscProvider *p,
                            uint16_t version)
{
    MscAheadPart *part = g_new0(MscAheadPart, 1);

    part->provider = p;
    part->end = t->entry->role == MSC_ROLE_SOURCE ? p->precopy->source_end
                                                  : p->precopy->destination_end;
    part->keeps = version == p->precopy->based;
    part->changes_max = MSC_AHEAD_CHANGES_MAX;
    g_ptr_array_set_free_func(t->ahead, part_free);
    g_ptr_array_add(t->ahead, part);
    return part;
}

MscAheadPart *msc_ahead_find(const MscTransfer *t, const char *name)
{
    for (guint i = 0; i < t->ahead->len; i++) {
        MscAheadPart *part = t->ahead->pdata[i];

        if (!strcmp(part->provider->name, name)) {
            return part;
        }
    }
    return NULL;
}

bool msc_ahead_section(const MscProvider *p, const MscSection *s)
{
    return p->precopy && s->version == p->precopy->version;
}

bool msc_transfer_offer_precopy(MscTransfer *t, const GByteArray *in,
                                GByteArray *out, GError **errp)
{
    (void)in;
    (void)out;
    (void)errp;
    if (!MSC_FAULT_PASSES(PRECOPY, errp)) {
        return false;
    }
    t->carries_batches = !t->transport_only;
    return true;
}
