/*
 * The source's half of pre-copy; docs/conntrack.md, "Pre-copy".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_PRECOPY_H
#define MSC_PROVIDER_CONNTRACK_PRECOPY_H

#include "provider.h"

/* The kernel's room for events; tests make it small. */
extern int msc_conntrack_event_buffer;

gpointer msc_ct_source_begin(const MscSelector *selector, GError **errp);
GBytes *msc_ct_source_summarize(gpointer memory, size_t max, GError **errp);
bool msc_ct_source_admitted(gpointer memory, GBytes *answer, GError **errp);
void msc_ct_source_base(gpointer memory, const MscBase *base);
GBytes *msc_ct_source_next(gpointer memory, size_t max,
                           MscPrecopyProgress *progress, GError **errp);
GBytes *msc_ct_source_final(gpointer memory, MscProviderStats *stats,
                            bool *lost, GError **errp);
void msc_ct_source_end(gpointer memory);
bool msc_ct_compare(const MscSelector *selector, const MscBase *base,
                    MscBaseDiff *diff, GError **errp);

#endif
