/*
 * The nft provider: the guest's own nftables tables.  docs/nft.md.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_H
#define MSC_PROVIDER_NFT_H

#include "provider.h"

extern const MscProvider msc_nft_provider;

#endif
