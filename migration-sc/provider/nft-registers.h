/*
 * What the expressions of a rule leave in nf_tables' registers, as far as it
 * matters: interfaces by name or number, and text.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_REGISTERS_H
#define MSC_PROVIDER_NFT_REGISTERS_H

#include "nft-payload.h"

#define MSC_NFT_SLOTS 16 /* of 4 bytes */

typedef enum {
    MSC_NFT_REG_OTHER,
    MSC_NFT_REG_NAME, /* first 4 of 16 bytes */
    MSC_NFT_REG_INDEX,
    MSC_NFT_REG_TEXT, /* first 4 of 16 bytes */
    MSC_NFT_REG_CONSTANT,
} MscNftRegKind;

typedef struct {
    MscNftRegKind kind;
    MscNftAttr *constant; /* its value */
} MscNftReg;

typedef struct {
    MscNftReg slot[MSC_NFT_SLOTS];
} MscNftRegs;

/* The slot of a register, or -1: the verdict's, or none. */
int msc_nft_slot(uint32_t reg);
/* How many slots that many bytes take: any number, for @bytes may be what the
 * other host says, up to 4 GiB. */
guint msc_nft_slots_of(guint bytes);
/* What expression @name with @data writes. */
void msc_nft_regs_write(MscNftRegs *regs, const MscNftTable *table,
                        const char *name, const GPtrArray *data);
/* How much it reads from attribute @type on, bytes; 0: no register. */
guint msc_nft_read_length(const MscNftTable *table, const char *name,
                          const GPtrArray *data, uint16_t type);

/* A field of the keys or values of a set. */
typedef struct {
    uint8_t kind;    /* MscNftRegKind */
    uint8_t at, len; /* bytes */
} MscNftField;

/* The fields of keys, or of values: false if it cannot be told where those
 * are that matter. */
bool msc_nft_set_fields(const MscNftSet *set, bool values,
                        MscNftField fields[MSC_NFT_SLOTS], guint *n);

#endif
