/*
 * May these tables come here?
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_ADMIT_H
#define MSC_PROVIDER_NFT_ADMIT_H

#include "nft-netlink.h"

/*
 * Whose they are, what they reach, which interfaces they need; @payload then
 * has this host's interfaces.  Adds to @reasons (of char *).
 */
void msc_nft_admit(MscNftPayload *payload, const MscSelector *selector,
                   GPtrArray *reasons);
/* What stands here in their place and may not go.  @shortened: elements of
 * named sets were left out and are not compared. */
void msc_nft_admit_existing(const MscNftPayload *payload,
                            MscNftPayload *existing,
                            const MscSelector *selector, bool shortened,
                            GPtrArray *reasons);

#endif
