/*
 * What nf_tables says about its objects, and which of it may move.
 *
 * The kernel describes tables, chains, rules, sets, elements and stateful
 * objects as trees of netlink attributes, and takes the same trees to make
 * them.  A schema lists the attributes of one level that this program knows;
 * anything else is refused, from the kernel as from another host.
 * Source: linux/netfilter/nf_tables.h and net/netfilter/nft_*.c.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_SCHEMA_H
#define MSC_PROVIDER_NFT_SCHEMA_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    MSC_NFT_U8, /* numbers are big-endian, but for a few */
    MSC_NFT_U16,
    MSC_NFT_U32,
    MSC_NFT_U64,
    MSC_NFT_VERDICT, /* u32: one of the verdicts that rules use */
    MSC_NFT_NAME,    /* an identifier as nft's own parser has it */
    MSC_NFT_TEXT,    /* what nft may print inside quotes */
    MSC_NFT_DEVICE,  /* of a network interface, or its role */
    MSC_NFT_BYTES,
    MSC_NFT_UDATA, /* comments and types: TLVs of nft's own */
    MSC_NFT_NEST,
    MSC_NFT_EXPR_DATA, /* a nest; its name, before it, tells which */
    MSC_NFT_OBJ_DATA,  /* a nest; its type, before it, tells which */
} MscNftKind;

typedef struct MscNftSchema MscNftSchema;

typedef struct {
    uint16_t type; /* NFTA_* */
    uint8_t kind;
    uint8_t flags;
    uint16_t max; /* NAME, TEXT, DEVICE, BYTES, UDATA: bytes */
    const MscNftSchema *nest;
    const char *name; /* "META_KEY" of NFTA_META_KEY */
} MscNftSpec;

#define MSC_NFT_REQUIRED 1 /* always there */
#define MSC_NFT_STATE 2    /* changes by itself, with packets or time */
#define MSC_NFT_LOCAL 4    /* of this kernel only: does not move */
#define MSC_NFT_COMMENT 8  /* UDATA whose comment has number 7, not 0 */

struct MscNftSchema {
    const char *name;        /* in messages */
    const MscNftSpec *specs; /* ascending by type */
    uint16_t n;
    bool list; /* any number of specs[0] */
};

extern const MscNftSchema msc_nft_table_schema;
extern const MscNftSchema msc_nft_chain_schema;
extern const MscNftSchema msc_nft_object_schema;
extern const MscNftSchema msc_nft_set_schema;
extern const MscNftSchema msc_nft_element_schema;
extern const MscNftSchema msc_nft_rule_schema;
/* Of an answer to GETSETELEM: a list of elements. */
extern const MscNftSchema msc_nft_elements_schema;

/* NULL if it is not one that can move. */
const MscNftSchema *msc_nft_expr_schema(const char *name);
const MscNftSchema *msc_nft_object_data_schema(uint32_t type);
const MscNftSpec *msc_nft_spec_find(const MscNftSchema *schema, uint16_t type);

#endif
