/*
 * The destination's half of pre-copy, and what is left on the source after
 * it; provider.h (MscPrecopy) has the contracts.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_PRESTAGE_H
#define MSC_PROVIDER_CONNTRACK_PRESTAGE_H

#include "selector.h"

gpointer msc_ct_destination_begin(const MscSelector *selector);
bool msc_ct_destination_validate(gpointer memory, GBytes *bytes, GError **errp);
bool msc_ct_destination_stage(gpointer memory, GBytes *bytes,
                              uint64_t transit_us,
                              bool (*replacing)(GBytes *replaced, void *opaque,
                                                GError **errp),
                              void *opaque, uint64_t *entries, GError **errp);
GBytes *msc_ct_destination_rebase(gpointer memory, GBytes *bytes,
                                  uint64_t age_us, GError **errp);
bool msc_ct_destination_complete(gpointer memory, GError **errp);
void msc_ct_destination_end(gpointer memory);
bool msc_ct_unstage(const MscSelector *s, GBytes *bytes, uint64_t since_us,
                    GError **errp);
bool msc_ct_restore(const MscSelector *s, GBytes *replaced, GError **errp);
bool msc_ct_retire_all(const MscSelector *s, GBytes *answer, GError **errp);

#endif
