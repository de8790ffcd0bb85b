/*
 * Sets of the guest's tables that move before it stops: what goes ahead, and
 * the form of a batch.  docs/nft.md, "Ahead".
 *
 *   u8 2, u8 flags, 8 nonce, 32 SHA-256 of the batch before (zeros in the
 *   first), u32 age (ms): how long ago it was read; u32 length of a payload:
 *   elements that go; a payload: what comes
 *
 * At the destination these tables are there from the first batch on, with
 * such sets and nothing else: no packet meets them.  The last batch brings
 * the rest of them in one transaction.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_AHEAD_H
#define MSC_PROVIDER_NFT_AHEAD_H

#include "nft-payload.h"

#define MSC_NFT_AHEAD_VERSION 2
#define MSC_NFT_NONCE_LEN 8
#define MSC_NFT_DIGEST_LEN 32
/* Sets with fewer elements than that wait for the end. */
#define MSC_NFT_AHEAD_MIN 64

typedef enum {
    MSC_NFT_BEGINS = 1,   /* brings all tables, and all sets that go ahead */
    MSC_NFT_COMPLETE = 2, /* with it, the sets are what they were at once */
    MSC_NFT_ENDS = 4,     /* all else comes: the last */
} MscNftAheadFlags;

typedef struct {
    uint8_t flags;
    uint8_t nonce[MSC_NFT_NONCE_LEN]; /* of all batches of one beginning */
    uint8_t before[MSC_NFT_DIGEST_LEN];
    uint32_t age_ms;
    /* Of sets that went ahead, elements; a set without any: all of them. */
    MscNftPayload *gone;
    MscNftPayload *comes;
} MscNftAhead;

MscNftAhead *msc_nft_ahead_new(void);
void msc_nft_ahead_free(MscNftAhead *ahead);
GBytes *msc_nft_ahead_encode(const MscNftAhead *ahead);
MscNftAhead *msc_nft_ahead_decode(GBytes *bytes, GError **errp);
/* What the next batch has as the digest of this one. */
void msc_nft_ahead_digest(GBytes *bytes, uint8_t digest[MSC_NFT_DIGEST_LEN]);

/* Is it a batch, rather than a payload?  Nothing else of it is looked at. */
bool msc_nft_ahead_is(GBytes *bytes);
/* What comes with a batch. */
MscNftPayload *msc_nft_ahead_rest(GBytes *bytes, GError **errp);

/*
 * Can elements of @set be sent ahead of the rest?  It has a name, it changes
 * by nothing but transactions and time, and what is in it means the same by
 * itself and on any host: no state, objects, verdicts or interfaces.
 */
bool msc_nft_set_is_static(const MscNftSet *set);
bool msc_nft_element_is_static(const GPtrArray *element);
/* The same, and no rule of @table adds to it. */
bool msc_nft_set_goes_ahead(const MscNftTable *table, const MscNftSet *set);
/* Is one described as the other? */
bool msc_nft_attrs_same(const GPtrArray *a, const GPtrArray *b);

/* A set with one element whose name is the nonce: it stands in the tables at
 * the destination until the end, as a sign of who made them. */
MscNftSet *msc_nft_marker_new(const uint8_t nonce[MSC_NFT_NONCE_LEN]);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscNftAhead, msc_nft_ahead_free)

#endif
