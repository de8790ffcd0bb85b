/*
 * The destination's side: looking at what came, and installing it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_STAGE_H
#define MSC_PROVIDER_NFT_STAGE_H

#include "nft-netlink.h"
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
/* @payload: of collect, or the final batch of what was sent ahead. */
bool msc_nft_retire(const MscSelector *selector, GBytes *payload,
                    GError **errp);

/* Runs @batch, in which nothing may be refused; without any message it is
 * done. */
bool msc_nft_commit(MscNft *nft, const MscNftBatch *batch, GError **errp);
/* Time-outs of elements lose @ms; those that are over go. */
void msc_nft_shorten(const MscNftPayload *payload, uint64_t ms);
/* Is all of @payload in what was read back, @is? */
bool msc_nft_verify(const MscNftPayload *is, const MscNftPayload *payload,
                    GError **errp);

#endif
