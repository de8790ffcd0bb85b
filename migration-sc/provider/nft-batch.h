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
/* What message @seq is about, for an error message; to be freed. */
char *msc_nft_batch_text(const MscNftBatch *batch, uint32_t seq);
/* Appends a message without attributes to @out; it begins at the result. */
guint msc_nft_message_begin(GByteArray *out, uint16_t type, uint16_t flags,
                            uint32_t seq, uint8_t family, uint16_t id);
void msc_nft_message_end(GByteArray *out, guint begin);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscNftBatch, msc_nft_batch_free)

#endif
