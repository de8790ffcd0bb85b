/*
 * Sets ahead: the destination's verbs (provider.h, MscPrecopy).
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_AHEAD_STAGE_H
#define MSC_PROVIDER_NFT_AHEAD_STAGE_H

#include "nft-payload.h"
#include "provider.h"

gpointer msc_nft_destination_begin(const MscSelector *selector);
bool msc_nft_destination_validate(gpointer memory, GBytes *batch,
                                  GError **errp);
bool msc_nft_destination_stage(gpointer memory, GBytes *batch,
                               uint64_t transit_us,
                               bool (*replacing)(GBytes *replaced, void *opaque,
                                                 GError **errp),
                               void *opaque, uint64_t *entries, GError **errp);
void msc_nft_destination_end(gpointer memory);

/*
 * Undo.  Until the first batch is told to be there, its marker says which
 * tables are ours; after that, what was told as "replaced" does: their
 * numbers, u8 1, string boot id, a payload of tables without anything.
 */
bool msc_nft_unstage(const MscSelector *selector, GBytes *batch,
                     uint64_t since_us, GError **errp);
bool msc_nft_restore(const MscSelector *selector, GBytes *replaced,
                     GError **errp);
/* Such a record, of what is there now. */
GBytes *msc_nft_ours_encode(const MscNftPayload *tables, GError **errp);

#endif
