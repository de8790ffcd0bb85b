/*
 * A transaction for nf_tables: netlink messages, and for each what it is
 * about, so that an error can be told.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_BATCH_H
#define MSC_PROVIDER_NFT_BATCH_H

#include "nft-payload.h"

typedef struct {
    GByteArray *bytes; /* complete messages, BEGIN first, no END */
    GArray *about;     /* one for each message: its sequence number */
} MscNftBatch;

MscNftBatch *msc_nft_batch_new(void);
void msc_nft_batch_free(MscNftBatch *batch);

/* The batch refers to @table until it is freed. */
void msc_nft_batch_delete(MscNftBatch *batch, const MscNftTable *table);
/* @dormant: its chains are not hooked in, so that a trial of it does not
 * touch a packet. */
void msc_nft_batch_add(MscNftBatch *batch, const MscNftTable *table,
                       bool dormant);

/*
 * Ahead (nft-ahead.h).  The table and its sets, @marker among them; then, as
 * often as need be, a guard and what changes; at last all the rest.
 */
void msc_nft_batch_begin(MscNftBatch *batch, const MscNftTable *table,
                         const MscNftSet *marker);
/* If @table has no @marker, the transaction fails. */
void msc_nft_batch_guard(MscNftBatch *batch, const MscNftTable *table,
                         const MscNftSet *marker);
/* The elements of @set go; if it has none, all that are there. */
void msc_nft_batch_remove_elements(MscNftBatch *batch, const MscNftTable *table,
                                   const MscNftSet *set);
void msc_nft_batch_add_elements(MscNftBatch *batch, const MscNftTable *table,
                                const MscNftSet *set);
/* @marker goes, and what is in @table but not in @there is made; elements of
 * all its sets. */
void msc_nft_batch_complete(MscNftBatch *batch, const MscNftTable *table,
                            const MscNftTable *there, const MscNftSet *marker);

/* What message @seq is about, for an error message; to be freed. */
char *msc_nft_batch_text(const MscNftBatch *batch, uint32_t seq);
/* Appends a message without attributes to @out; it begins at the result. */
guint msc_nft_message_begin(GByteArray *out, uint16_t type, uint16_t flags,
                            uint32_t seq, uint8_t family, uint16_t id);
void msc_nft_message_end(GByteArray *out, guint begin);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscNftBatch, msc_nft_batch_free)

#endif
