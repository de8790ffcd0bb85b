/*
 * What the two readers of trees share: each attribute is looked at in the
 * same way, from wherever it comes.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_TREE_PRIVATE_H
#define MSC_PROVIDER_NFT_TREE_PRIVATE_H

#include "nft-tree.h"

/* An expression can hold expressions; nft makes three levels of it. */
#define MSC_NFT_DEPTH_MAX 16
/* Of a nest, bytes.  Netlink has 16 bits for a length, and pads: 5 bytes here
 * may become 8 there.  A length that wrapped would let what follows be read
 * as attributes of the level above. */
#define MSC_NFT_NEST_MAX 32768

/* Characters, held with a NUL that is not counted. */
bool msc_nft_is_text(const MscNftSpec *spec);
bool msc_nft_is_nest(const MscNftSpec *spec);
bool msc_nft_value_is_good(const MscNftSpec *spec, const uint8_t *data,
                           size_t len);
MscNftAttr *msc_nft_value_new(const MscNftSpec *spec, const uint8_t *data,
                              size_t len);
/* What is inside attribute @spec, after the attributes @before it. */
const MscNftSchema *msc_nft_nest_schema(const MscNftSpec *spec,
                                        const GPtrArray *before, GError **errp);
bool msc_nft_has_required(const GPtrArray *attrs, const MscNftSchema *schema,
                          GError **errp);
/* Sets the error; false. */
bool msc_nft_malformed(const MscNftSchema *schema, uint16_t type,
                       const char *why, GError **errp);

#endif
