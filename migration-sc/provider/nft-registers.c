/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-registers.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#define NAME_BYTES 16 /* IFNAMSIZ, NF_CT_HELPER_NAME_LEN */
/* A concatenation's type is those of its fields, 6 bits each: nft's
 * include/datatype.h, which is the ABI of sets. */
#define TYPE_BITS 6
#define TYPE_STRING 5
#define TYPE_IP6ADDR 8
#define TYPE_ETHERADDR 9
#define TYPE_IFINDEX 20
#define TYPE_CT_LABEL 30
#define TYPE_IFNAME 41
#define TYPE_TIME_DATE 43
#define TYPE_CGROUPV2 46
#define DATA_VERDICT 0xffffff00u /* NFT_DATA_VERDICT */

int msc_nft_slot(uint32_t reg)
{
    if (reg >= NFT_REG_1 && reg <= NFT_REG_4) {
        return (int)(reg - NFT_REG_1) * (NFT_REG_SIZE / NFT_REG32_SIZE);
    }
    return reg >= NFT_REG32_00 && reg <= NFT_REG32_15
               ? (int)(reg - NFT_REG32_00)
               : -1;
}

guint msc_nft_slots_of(guint bytes)
{
    return bytes / NFT_REG32_SIZE + !!(bytes % NFT_REG32_SIZE);
}

static void put(MscNftRegs *regs, uint32_t reg, guint bytes, MscNftRegKind kind,
                MscNftAttr *constant)
{
    int first = msc_nft_slot(reg);
    guint left = MAX(msc_nft_slots_of(bytes), 1);

    for (int slot = first; first >= 0 && left && slot < MSC_NFT_SLOTS;
         slot++, left--) {
        regs->slot[slot].kind = slot == first ? kind : MSC_NFT_REG_OTHER;
        regs->slot[slot].constant = slot == first ? constant : NULL;
    }
}

static void put_kind(MscNftRegs *regs, uint32_t reg, MscNftRegKind kind)
{
    put(regs, reg,
        kind == MSC_NFT_REG_NAME || kind == MSC_NFT_REG_TEXT ? NAME_BYTES
                                                             : NFT_REG32_SIZE,
        kind, NULL);
}

static MscNftRegKind meta_kind(uint32_t key)
{
    switch (key) {
    case NFT_META_IIFNAME:
    case NFT_META_OIFNAME:
    case NFT_META_BRI_IIFNAME:
    case NFT_META_BRI_OIFNAME:
    case NFT_META_SDIFNAME:
        return MSC_NFT_REG_NAME;
    case NFT_META_IIF:
    case NFT_META_OIF:
    case NFT_META_SDIF:
        return MSC_NFT_REG_INDEX;
    case NFT_META_IIFKIND:
    case NFT_META_OIFKIND:
        return MSC_NFT_REG_TEXT;
    default:
        return MSC_NFT_REG_OTHER;
    }
}

static MscNftRegKind fib_kind(const GPtrArray *data)
{
    if (msc_nft_u32(data, NFTA_FIB_FLAGS) & NFTA_FIB_F_PRESENT) {
        return MSC_NFT_REG_OTHER;
    }
    switch (msc_nft_u32(data, NFTA_FIB_RESULT)) {
    case NFT_FIB_RESULT_OIF:
        return MSC_NFT_REG_INDEX;
    case NFT_FIB_RESULT_OIFNAME:
        return MSC_NFT_REG_NAME;
    default:
        return MSC_NFT_REG_OTHER;
    }
}

static void put_value(MscNftRegs *regs, const MscNftTable *t,
                      const GPtrArray *data)
{
    const char *name = msc_nft_text(data, NFTA_LOOKUP_SET);
    const MscNftSet *set = msc_nft_table_set(t, name);
    uint32_t reg = msc_nft_u32(data, NFTA_LOOKUP_DREG);
    MscNftField fields[MSC_NFT_SLOTS];
    guint n = 0;
    int first = msc_nft_slot(reg);

    if (first < 0 || !set) {
        return;
    }
    put(regs, reg, msc_nft_u32(set->attrs, NFTA_SET_DATA_LEN),
        MSC_NFT_REG_OTHER, NULL);
    if (!msc_nft_set_fields(set, true, fields, &n)) {
        return; /* refused where the set is looked at */
    }
    for (guint i = 0; i < n; i++) {
        guint slot = (guint)first + fields[i].at / NFT_REG32_SIZE;

        if (slot < MSC_NFT_SLOTS) {
            regs->slot[slot].kind = fields[i].kind;
        }
    }
}

void msc_nft_regs_write(MscNftRegs *regs, const MscNftTable *t,
                        const char *name, const GPtrArray *data)
{
    /* The rest write 4 bytes, or as many as they say. */
    static const struct {
        const char *name;
        uint16_t dreg, len;
    } others[] = {
        { "bitwise", NFTA_BITWISE_DREG, NFTA_BITWISE_LEN },
        { "byteorder", NFTA_BYTEORDER_DREG, NFTA_BYTEORDER_LEN },
        { "payload", NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_LEN },
        { "exthdr", NFTA_EXTHDR_DREG, NFTA_EXTHDR_LEN },
        { "rt", NFTA_RT_DREG, 0 },
        { "socket", NFTA_SOCKET_DREG, 0 },
        { "hash", NFTA_HASH_DREG, 0 },
        { "numgen", NFTA_NG_DREG, 0 },
        { "xfrm", NFTA_XFRM_DREG, 0 },
    };

    if (!data) {
        return;
    }
    if (!strcmp(name, "meta")) {
        put_kind(regs, msc_nft_u32(data, NFTA_META_DREG),
                 meta_kind(msc_nft_u32(data, NFTA_META_KEY)));
    } else if (!strcmp(name, "ct")) {
        put_kind(regs, msc_nft_u32(data, NFTA_CT_DREG),
                 msc_nft_u32(data, NFTA_CT_KEY) == NFT_CT_HELPER
                     ? MSC_NFT_REG_TEXT
                     : MSC_NFT_REG_OTHER);
    } else if (!strcmp(name, "fib")) {
        put_kind(regs, msc_nft_u32(data, NFTA_FIB_DREG), fib_kind(data));
    } else if (!strcmp(name, "osf")) {
        put_kind(regs, msc_nft_u32(data, NFTA_OSF_DREG), MSC_NFT_REG_TEXT);
    } else if (!strcmp(name, "lookup")) {
        put_value(regs, t, data);
    } else if (!strcmp(name, "immediate")) {
        MscNftAttr *value =
            msc_nft_find(msc_nft_nested(data, NFTA_IMMEDIATE_DATA),
                         NFTA_DATA_VALUE);

        put(regs, msc_nft_u32(data, NFTA_IMMEDIATE_DREG),
            value ? value->len : 0, MSC_NFT_REG_CONSTANT, value);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        if (!strcmp(name, others[i].name)) {
            put(regs, msc_nft_u32(data, others[i].dreg),
                msc_nft_u32(data, others[i].len), MSC_NFT_REG_OTHER, NULL);
        }
    }
}

static guint set_length(const MscNftTable *t, const char *name, uint16_t type)
{
    const MscNftSet *set = name ? msc_nft_table_set(t, name) : NULL;

    return set ? msc_nft_u32(set->attrs, type) : NFT_REG32_SIZE;
}

static guint value_length(const GPtrArray *data, uint16_t type)
{
    const GPtrArray *value = msc_nft_nested(data, type);
    const MscNftAttr *bytes =
        value ? msc_nft_find(value, NFTA_DATA_VALUE) : NULL;

    return bytes ? bytes->len : NFT_REG32_SIZE;
}

guint msc_nft_read_length(const MscNftTable *t, const char *name,
                          const GPtrArray *data, uint16_t type)
{
    static const struct {
        const char *name;
        uint16_t sreg, len; /* attributes; 4 bytes without a length */
    } all[] = {
        { "bitwise", NFTA_BITWISE_SREG, NFTA_BITWISE_LEN },
        { "bitwise", 8 /* NFTA_BITWISE_SREG2 */, NFTA_BITWISE_LEN },
        { "byteorder", NFTA_BYTEORDER_SREG, NFTA_BYTEORDER_LEN },
        { "hash", NFTA_HASH_SREG, NFTA_HASH_LEN },
        { "payload", NFTA_PAYLOAD_SREG, NFTA_PAYLOAD_LEN },
        { "exthdr", NFTA_EXTHDR_SREG, NFTA_EXTHDR_LEN },
        { "meta", NFTA_META_SREG, 0 },
        { "ct", NFTA_CT_SREG, 0 },
        { "queue", NFTA_QUEUE_SREG_QNUM, 0 },
        { "nat", NFTA_NAT_REG_ADDR_MIN, 0 },
        { "nat", NFTA_NAT_REG_ADDR_MAX, 0 },
        { "nat", NFTA_NAT_REG_PROTO_MIN, 0 },
        { "nat", NFTA_NAT_REG_PROTO_MAX, 0 },
        { "tproxy", NFTA_TPROXY_REG_ADDR, 0 },
        { "tproxy", NFTA_TPROXY_REG_PORT, 0 },
        { "masq", NFTA_MASQ_REG_PROTO_MIN, 0 },
        { "masq", NFTA_MASQ_REG_PROTO_MAX, 0 },
        { "redir", NFTA_REDIR_REG_PROTO_MIN, 0 },
        { "redir", NFTA_REDIR_REG_PROTO_MAX, 0 },
        { "dup", NFTA_DUP_SREG_ADDR, 0 },
        { "dup", NFTA_DUP_SREG_DEV, 0 },
        { "fwd", NFTA_FWD_SREG_ADDR, 0 },
        { "fwd", NFTA_FWD_SREG_DEV, 0 },
    };

    if (!strcmp(name, "cmp") && type == NFTA_CMP_SREG) {
        return value_length(data, NFTA_CMP_DATA);
    }
    if (!strcmp(name, "range") && type == NFTA_RANGE_SREG) {
        return value_length(data, NFTA_RANGE_FROM_DATA);
    }
    if (!strcmp(name, "lookup") && type == NFTA_LOOKUP_SREG) {
        return set_length(t, msc_nft_text(data, NFTA_LOOKUP_SET),
                          NFTA_SET_KEY_LEN);
    }
    if (!strcmp(name, "objref") && type == NFTA_OBJREF_SET_SREG) {
        return set_length(t, msc_nft_text(data, NFTA_OBJREF_SET_NAME),
                          NFTA_SET_KEY_LEN);
    }
    if (!strcmp(name, "dynset") &&
        (type == NFTA_DYNSET_SREG_KEY || type == NFTA_DYNSET_SREG_DATA)) {
        return set_length(t, msc_nft_text(data, NFTA_DYNSET_SET_NAME),
                          type == NFTA_DYNSET_SREG_KEY ? NFTA_SET_KEY_LEN
                                                       : NFTA_SET_DATA_LEN);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (!strcmp(name, all[i].name) && type == all[i].sreg) {
            return all[i].len ? MAX(msc_nft_u32(data, all[i].len), 1)
                              : NFT_REG32_SIZE;
        }
    }
    return 0;
}

/* ---- sets ---- */

static MscNftRegKind type_kind(uint32_t type)
{
    return type == TYPE_IFNAME    ? MSC_NFT_REG_NAME
           : type == TYPE_IFINDEX ? MSC_NFT_REG_INDEX
           : type == TYPE_STRING  ? MSC_NFT_REG_TEXT
                                  : MSC_NFT_REG_OTHER;
}

/* In a concatenation, where each field begins at a register. */
static guint type_length(uint32_t type)
{
    switch (type) {
    case TYPE_IFNAME:
    case TYPE_IP6ADDR:
    case TYPE_CT_LABEL:
    case TYPE_STRING:
        return 16;
    case TYPE_ETHERADDR:
    case TYPE_TIME_DATE:
    case TYPE_CGROUPV2:
        return 8;
    default:
        return NFT_REG32_SIZE;
    }
}

bool msc_nft_set_fields(const MscNftSet *set, bool values,
                        MscNftField fields[MSC_NFT_SLOTS], guint *n)
{
    uint32_t type = msc_nft_u32(set->attrs, values ? NFTA_SET_DATA_TYPE
                                                   : NFTA_SET_KEY_TYPE);
    uint32_t len =
        msc_nft_u32(set->attrs, values ? NFTA_SET_DATA_LEN : NFTA_SET_KEY_LEN);
    guint at = 0;
    bool matters = false;

    *n = 0;
    if (type == DATA_VERDICT || !type) {
        return true;
    }
    for (uint32_t left = type; left; left >>= TYPE_BITS) {
        ++*n;
    }
    for (guint i = 0; i < *n; i++) {
        uint32_t one =
            type >> (TYPE_BITS * (*n - 1 - i)) & ((1u << TYPE_BITS) - 1);
        guint size = *n == 1 ? MIN(len, UINT8_MAX) : type_length(one);

        fields[i].kind = (uint8_t)type_kind(one);
        fields[i].at = (uint8_t)at;
        fields[i].len = (uint8_t)size;
        matters = matters || fields[i].kind != MSC_NFT_REG_OTHER;
        if (fields[i].kind == MSC_NFT_REG_NAME && size != NAME_BYTES) {
            return false;
        }
        if (fields[i].kind == MSC_NFT_REG_INDEX && size != NFT_REG32_SIZE) {
            return false;
        }
        at += size;
    }
    return !matters || at == len;
}
