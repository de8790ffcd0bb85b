/*
 * Sets ahead: the source's verbs (provider.h, MscPrecopy).
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_AHEAD_SOURCE_H
#define MSC_PROVIDER_NFT_AHEAD_SOURCE_H

#include "provider.h"

/* What the destination's check answers if sets may go ahead. */
GBytes *msc_nft_ahead_answer(void);

gpointer msc_nft_source_begin(const MscSelector *selector, GError **errp);
bool msc_nft_source_admitted(gpointer memory, GBytes *answer, GError **errp);
GBytes *msc_nft_source_next(gpointer memory, size_t max,
                            MscPrecopyProgress *progress, GError **errp);
GBytes *msc_nft_source_final(gpointer memory, MscProviderStats *stats,
                             bool *lost, GError **errp);
void msc_nft_source_end(gpointer memory);

#endif
