/*
 * The destination's side: looking at what came, and installing it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_STAGE_H
#define MSC_PROVIDER_NFT_STAGE_H

#include "nft-payload.h"
#include "provider.h"

bool msc_nft_check(const MscSelector *selector, GBytes *summary,
                   bool leave_behind, GPtrArray *reasons, GBytes **answer,
                   GError **errp);
bool msc_nft_validate(const MscSelector *selector, GBytes *payload,
                      MscProviderStats *stats, GError **errp);
GBytes *msc_nft_prepare(const MscSelector *s, GBytes *bytes, GError **errp);
bool msc_nft_stage(const MscSelector *selector, GBytes *payload,
                   uint64_t transit_us, GError **errp);
bool msc_nft_abort(const MscSelector *selector, GBytes *payload,
                   GBytes *replaced, GError **errp);
/* Source. */
bool msc_nft_retire(const MscSelector *selector, GBytes *payload,
                    GError **errp);

#endif
