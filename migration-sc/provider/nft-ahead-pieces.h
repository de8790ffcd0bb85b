/*
 * What goes ahead, in batches of a bounded size; and what changed of it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_AHEAD_PIECES_H
#define MSC_PROVIDER_NFT_AHEAD_PIECES_H

#include "nft-ahead.h"

/* Of what was read: all its tables, and of the sets those that go ahead, as
 * far as they and their names fit one batch.  Elements are shared. */
MscNftPayload *msc_nft_choose_ahead(const MscNftPayload *is, size_t max);

/* Are the tables in @is the very ones of @sent, with its sets as they were
 * but for their elements?  It may have more. */
bool msc_nft_is_same_shape(const MscNftPayload *sent, const MscNftPayload *is);
/* What became of the elements of @sent, @ms milliseconds later, in @is, which
 * has its shape: sets that changed.  Elements are shared. */
void msc_nft_compare_ahead(const MscNftPayload *sent, const MscNftPayload *is,
                           uint64_t ms, MscNftPayload *gone,
                           MscNftPayload *comes);

/* @sent has the elements of @is from now on. */
void msc_nft_renew_ahead(MscNftPayload *sent, const MscNftPayload *is);

typedef struct MscNftPieces MscNftPieces;

/* Takes both.  @begins: the first piece has all tables and sets of @comes. */
MscNftPieces *msc_nft_pieces_new(MscNftPayload *gone, MscNftPayload *comes,
                                 bool begins);
void msc_nft_pieces_free(MscNftPieces *pieces);
/* The next, of at most @max bytes; the last one is MSC_NFT_COMPLETE. */
MscNftAhead *msc_nft_pieces_next(MscNftPieces *pieces, size_t max);

#endif
