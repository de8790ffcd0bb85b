/*
 * What the source says: the whole of the guest's tables at the end, and before
 * RAM what fits of them.
 *
 *   summary: u8 1 if the elements of named sets are left out, else 0; payload
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_COLLECT_H
#define MSC_PROVIDER_NFT_COLLECT_H

#include "nft-payload.h"
#include "provider.h"

GBytes *msc_nft_collect(const MscSelector *selector, GBytes *answer,
                        MscProviderStats *stats, GError **errp);
GBytes *msc_nft_summarize(const MscSelector *selector, size_t max,
                          GError **errp);
MscNftPayload *msc_nft_summary_decode(GBytes *summary, bool *shortened,
                                      GError **errp);
guint64 msc_nft_count(const MscNftPayload *payload);
/* One error of many reasons. */
bool msc_nft_refused(const GPtrArray *reasons, GError **errp);

#endif
