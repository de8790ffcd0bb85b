/*
 * Sets ahead: what the destination knows of them.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_AHEAD_PRIVATE_H
#define MSC_PROVIDER_NFT_AHEAD_PRIVATE_H

#include "nft-ahead.h"
#include "nft-netlink.h"

typedef struct {
    const MscSelector *selector;
    MscNft *nft;
    /* Tables as they are here, with sets that went ahead, without elements;
     * NULL before the first batch. */
    MscNftPayload *tables;
    /* MscNftSet of these -> table of elements (GPtrArray) by their keys. */
    GHashTable *elements;
    size_t bytes; /* of all these elements */
    MscNftSet *marker;
    uint8_t nonce[MSC_NFT_NONCE_LEN];
    uint8_t before[MSC_NFT_DIGEST_LEN];
    bool complete; /* as of the last batch */
    /* Validated last, which is staged next. */
    GBytes *last;
    MscNftAhead *next;
} MscNftDestination;

/* nft-ahead-check.c: may @a, of @size bytes, be staged next?  What comes with
 * it becomes what this host will have. */
bool msc_nft_ahead_check(const MscNftDestination *d, MscNftAhead *a,
                         size_t size, GError **errp);

/* nft-ahead-known.c */
/* The set of @t that went ahead under the name of @set, or NULL. */
MscNftSet *msc_nft_ahead_set(const MscNftDestination *d, const MscNftTable *t,
                             const MscNftSet *set);
/* The tables and sets of the first batch, which keeps its elements. */
void msc_nft_ahead_note_sets(MscNftDestination *d, const MscNftPayload *p);
/* Elements of @p are here now, or not any more. */
void msc_nft_ahead_note(MscNftDestination *d, const MscNftPayload *p,
                        bool comes);
/* Does the kernel have all that is known? */
bool msc_nft_ahead_read_back(MscNftDestination *d, GError **errp);
/* The same at the end: all of @wanted, but for the elements of sets that went
 * ahead, which it loses. */
bool msc_nft_ahead_read_back_end(MscNftDestination *d,
                                 const MscNftPayload *wanted, GError **errp);
bool msc_nft_ahead_is_another(const MscNftTable *table, GError **errp);

#endif
