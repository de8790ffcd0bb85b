/*
 * nf_tables over netlink: reading tables, and changing them in one
 * transaction.  Not libnftables: its JSON does not give back what it was
 * given (docs/nft.md has the list).
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_NETLINK_H
#define MSC_PROVIDER_NFT_NETLINK_H

#include "nft-batch.h"
#include "selector.h"

typedef struct MscNft MscNft;

MscNft *msc_nft_open(GError **errp);
void msc_nft_close(MscNft *nft);

/* One object of an answer; @attrs are @len bytes of struct nlattr. */
struct nfgenmsg;
typedef bool MscNftTake(const struct nfgenmsg *nfg, const void *attrs,
                        size_t len, void *opaque, GError **errp);
/* Asks with message @type (NFT_MSG_GET*) and gives @take each answer.  False
 * without an error: the ruleset changed meanwhile. */
bool msc_nft_ask(MscNft *nft, uint16_t type, uint16_t flags, uint8_t family,
                 const GByteArray *attrs, MscNftTake *take, void *opaque,
                 GError **errp);

typedef enum {
    MSC_NFT_WHOLE,   /* what this program does not know is refused */
    MSC_NFT_KNOWN,   /* it is left out, for comparing */
    MSC_NFT_SETS,    /* sets without their elements, no more */
    MSC_NFT_HANDLES, /* which tables there are, no more */
} MscNftExtent;

/* Sets whose elements need not be read. */
typedef struct {
    /* Of these tables, or NULL.  It is reset. */
    struct MscNftWatch *watch;
    const MscNftPayload *sets; /* NULL: none */
    /* Unless the generation is another, or the watch knows of a change; 0:
     * never mind. */
    uint32_t as_of;
    /* Out.  The generation may be later than as_of although they were skipped:
     * after transactions of others, while the rest was read. */
    bool skipped;
    uint32_t generation;
} MscNftSkip;

/* Those of @tables (of MscNftTableName*) that exist, as they are at one
 * moment; a local payload. */
MscNftPayload *msc_nft_dump(MscNft *nft, const GPtrArray *tables,
                            MscNftExtent extent, GError **errp);
MscNftPayload *msc_nft_dump_but(MscNft *nft, const GPtrArray *tables,
                                MscNftExtent extent, MscNftSkip *skip,
                                GError **errp);
/* The number of the last transaction on this host, of whatever table, as the
 * kernel has it: for comparing. */
bool msc_nft_generation(MscNft *nft, uint32_t *generation, GError **errp);

/*
 * Runs @batch in one transaction, all or nothing.  With @commit false the
 * kernel checks everything and changes nothing.  What it refuses is added to
 * @reasons (of char *), one by one.  False: it could not be asked.
 */
bool msc_nft_run(MscNft *nft, const MscNftBatch *batch, bool commit,
                 GPtrArray *reasons, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscNft, msc_nft_close)

#endif
