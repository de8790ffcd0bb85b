/*
 * Whose packets moved rules touch.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_SCOPE_H
#define MSC_PROVIDER_NFT_SCOPE_H

#include "nft-payload.h"

/*
 * Adds to @reasons (of char *) each rule and policy that could drop, change,
 * copy or report a packet that is not the guest's.  A packet is the guest's
 * if a rule has found one of its interfaces, or one of @selector's addresses,
 * in it.
 */
void msc_nft_scope_check(const MscNftPayload *payload,
                         const MscSelector *selector, GPtrArray *reasons);

#endif
