/*
 * The guest's tables, all of them: what moves.  docs/nft.md has the bytes.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_PAYLOAD_H
#define MSC_PROVIDER_NFT_PAYLOAD_H

#include "nft-tree.h"
#include "selector.h"

#define MSC_NFT_VERSION 1
#define MSC_NFT_OLDEST 1
/* A whole payload, bytes: some 400,000 elements. */
#define MSC_NFT_PAYLOAD_MAX (16u * 1024 * 1024)
#define MSC_NFT_TABLES_MAX 64
/* Of one table. */
#define MSC_NFT_CHAINS_MAX 4096
#define MSC_NFT_SETS_MAX 4096
#define MSC_NFT_RULES_MAX 65536
/* For how many elements all sets together say they shall have room: the
 * kernel sets memory aside. */
#define MSC_NFT_ROOM_MAX (4u * 1024 * 1024)
/* An interface's name or role, bytes without NUL. */
#define MSC_NFT_DEVICE_MAX 15

typedef struct {
    GPtrArray *attrs;    /* of MscNftAttr*, NFTA_SET_* */
    GPtrArray *elements; /* of GPtrArray* of NFTA_SET_ELEM_*, sorted */
} MscNftSet;

typedef struct {
    uint8_t family; /* NFPROTO_* */
    char *name;
    uint64_t handle;       /* this kernel's own, of this very table */
    GPtrArray *attrs;      /* NFTA_TABLE_* */
    GPtrArray *chains;     /* of GPtrArray* of NFTA_CHAIN_* */
    GPtrArray *objects;    /* of GPtrArray* of NFTA_OBJ_* */
    GPtrArray *sets;       /* of MscNftSet* */
    GPtrArray *rules;      /* of GPtrArray* of NFTA_RULE_*, in order */
    GHashTable *set_index; /* by name; made when it is asked for */
    GHashTable *chain_index;
} MscNftTable;

typedef struct {
    /* Devices have this host's names and numbers; only for undoing.  Else a
     * role stands for a name, and for a number its place in roles, from 1. */
    bool local;
    GPtrArray *roles;  /* of char*, ascending */
    GPtrArray *tables; /* of MscNftTable*, in the kernel's order */
} MscNftPayload;

MscNftPayload *msc_nft_payload_new(void);
void msc_nft_payload_free(MscNftPayload *payload);
MscNftTable *msc_nft_table_new(uint8_t family, const char *name);
void msc_nft_table_free(MscNftTable *table);
MscNftSet *msc_nft_set_new(GPtrArray *attrs);
void msc_nft_set_free(MscNftSet *set);

GBytes *msc_nft_payload_encode(const MscNftPayload *payload);
MscNftPayload *msc_nft_payload_decode(GBytes *bytes, GError **errp);

MscNftTable *msc_nft_payload_find(const MscNftPayload *payload, uint8_t family,
                                  const char *name);
/* By name, or NULL.  Nothing is renamed after the first of these. */
MscNftSet *msc_nft_table_set(const MscNftTable *table, const char *name);
GPtrArray *msc_nft_table_chain(const MscNftTable *table, const char *name);
/* Canonical order, in which intervals can be put into the kernel again. */
void msc_nft_set_sort(MscNftSet *set);
/* Below 0, 0, or above: where @a stands in it. */
int msc_nft_element_order(const GPtrArray *a, const GPtrArray *b);
/* Those of an element's attributes that tell it from all others of its set;
 * they stay the element's. */
GPtrArray *msc_nft_element_key(const GPtrArray *element);
/* Of a sorted set: one element is there twice. */
bool msc_nft_set_has_doubles(const MscNftSet *set);
/* Is all that @wanted says also so in @is, and nothing more there?  State is
 * not compared; neither are elements that come and go with packets. */
bool msc_nft_table_holds(const MscNftTable *is, const MscNftTable *wanted,
                         const char **what);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscNftPayload, msc_nft_payload_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscNftTable, msc_nft_table_free)

#endif
