/*
 * The interfaces that tables name: by role on the way, by the device's name
 * or number in a kernel.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_INTERFACES_H
#define MSC_PROVIDER_NFT_INTERFACES_H

#include "nft-payload.h"

/*
 * Makes a local payload one that can travel, or the other way round, by
 * @selector's interfaces.  What has no counterpart is added to @reasons (of
 * char *), each once; then @payload must not be used.
 */
void msc_nft_to_roles(MscNftPayload *payload, const MscSelector *selector,
                      GPtrArray *reasons);
void msc_nft_to_devices(MscNftPayload *payload, const MscSelector *selector,
                        GPtrArray *reasons);

#endif
