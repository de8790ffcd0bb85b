/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-schema.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#define NAME_BYTES (NFT_NAME_MAXLEN - 1)
#define UDATA_BYTES 256 /* NFT_USERDATA_MAXLEN */
#define VALUE_BYTES 64  /* NFT_DATA_VALUE_MAXLEN, kernel's own */
/* Newer than Debian 12's header; an enum's names cannot be asked for. */
#define NEWER_SET_TYPE 19     /* NFTA_SET_TYPE */
#define NEWER_SET_COUNT 20    /* NFTA_SET_COUNT */
#define NEWER_BITWISE_SREG2 8 /* NFTA_BITWISE_SREG2 */

#define REQ MSC_NFT_REQUIRED
#define STATE MSC_NFT_STATE
#define LOCAL MSC_NFT_LOCAL

#define SPEC(t, kind, f, max, nest)                \
    {                                              \
        NFTA_##t, MSC_NFT_##kind, f, max, nest, #t \
    }
#define U8(t, f) SPEC(t, U8, f, 0, NULL)
#define U16(t, f) SPEC(t, U16, f, 0, NULL)
#define U32(t, f) SPEC(t, U32, f, 0, NULL)
#define U64(t, f) SPEC(t, U64, f, 0, NULL)
#define NAME(t, f) SPEC(t, NAME, f, NAME_BYTES, NULL)
#define TEXT(t, f, max) SPEC(t, TEXT, f, max, NULL)
#define BYTES(t, f, max) SPEC(t, BYTES, f, max, NULL)
#define UDATA(t, f) SPEC(t, UDATA, f, UDATA_BYTES, NULL)
#define NEST(t, f, to) SPEC(t, NEST, f, 0, &to##_schema)
#define DEVICE(t, f) SPEC(t, DEVICE, f, 15, NULL)
#define PAD(t) SPEC(t, BYTES, LOCAL, UINT16_MAX, NULL)

#define SCHEMA(id, text)                                                \
    static const MscNftSchema id##_schema = { text, id##_specs,         \
                                              G_N_ELEMENTS(id##_specs), \
                                              false }
#define LIST(id, text) \
    static const MscNftSchema id##_schema = { text, id##_specs, 1, true }

/* Values */

static const MscNftSpec verdict_specs[] = {
    SPEC(VERDICT_CODE, VERDICT, REQ, 0, NULL),
    NAME(VERDICT_CHAIN, 0),
};
SCHEMA(verdict, "verdict");

static const MscNftSpec data_specs[] = {
    BYTES(DATA_VALUE, 0, VALUE_BYTES),
    NEST(DATA_VERDICT, 0, verdict),
};
SCHEMA(data, "value");

static const MscNftSpec expr_specs[] = {
    NAME(EXPR_NAME, REQ),
    SPEC(EXPR_DATA, EXPR_DATA, 0, 0, NULL),
};
SCHEMA(expr, "expression");

static const MscNftSpec exprs_specs[] = { NEST(LIST_ELEM, 0, expr) };
LIST(exprs, "expressions");

/* Expressions */

static const MscNftSpec immediate_specs[] = {
    U32(IMMEDIATE_DREG, REQ),
    NEST(IMMEDIATE_DATA, REQ, data),
};
SCHEMA(immediate, "immediate");

static const MscNftSpec bitwise_specs[] = {
    U32(BITWISE_SREG, REQ),
    U32(BITWISE_DREG, REQ),
    U32(BITWISE_LEN, REQ),
    NEST(BITWISE_MASK, 0, data),
    NEST(BITWISE_XOR, 0, data),
    U32(BITWISE_OP, 0),
    NEST(BITWISE_DATA, 0, data),
    { NEWER_BITWISE_SREG2, MSC_NFT_U32, 0, 0, NULL, "BITWISE_SREG2" },
};
SCHEMA(bitwise, "bitwise");

static const MscNftSpec byteorder_specs[] = {
    U32(BYTEORDER_SREG, REQ), U32(BYTEORDER_DREG, REQ), U32(BYTEORDER_OP, REQ),
    U32(BYTEORDER_LEN, REQ),  U32(BYTEORDER_SIZE, REQ),
};
SCHEMA(byteorder, "byteorder");

static const MscNftSpec cmp_specs[] = {
    U32(CMP_SREG, REQ),
    U32(CMP_OP, REQ),
    NEST(CMP_DATA, REQ, data),
};
SCHEMA(cmp, "cmp");

static const MscNftSpec range_specs[] = {
    U32(RANGE_SREG, REQ),
    U32(RANGE_OP, REQ),
    NEST(RANGE_FROM_DATA, REQ, data),
    NEST(RANGE_TO_DATA, REQ, data),
};
SCHEMA(range, "range");

static const MscNftSpec lookup_specs[] = {
    NAME(LOOKUP_SET, REQ),
    U32(LOOKUP_SREG, REQ),
    U32(LOOKUP_DREG, 0),
    U32(LOOKUP_FLAGS, 0),
};
SCHEMA(lookup, "lookup");

static const MscNftSpec dynset_specs[] = {
    NAME(DYNSET_SET_NAME, REQ),
    U32(DYNSET_OP, REQ),
    U32(DYNSET_SREG_KEY, REQ),
    U32(DYNSET_SREG_DATA, 0),
    U64(DYNSET_TIMEOUT, 0),
    NEST(DYNSET_EXPR, 0, expr),
    PAD(DYNSET_PAD),
    U32(DYNSET_FLAGS, 0),
    NEST(DYNSET_EXPRESSIONS, 0, exprs),
};
SCHEMA(dynset, "dynset");

static const MscNftSpec payload_specs[] = {
    U32(PAYLOAD_DREG, 0),        U32(PAYLOAD_BASE, REQ),
    U32(PAYLOAD_OFFSET, REQ),    U32(PAYLOAD_LEN, REQ),
    U32(PAYLOAD_SREG, 0),        U32(PAYLOAD_CSUM_TYPE, 0),
    U32(PAYLOAD_CSUM_OFFSET, 0), U32(PAYLOAD_CSUM_FLAGS, 0),
};
SCHEMA(payload, "payload");

static const MscNftSpec exthdr_specs[] = {
    U32(EXTHDR_DREG, 0), U8(EXTHDR_TYPE, 0),   U32(EXTHDR_OFFSET, 0),
    U32(EXTHDR_LEN, 0),  U32(EXTHDR_FLAGS, 0), U32(EXTHDR_OP, 0),
    U32(EXTHDR_SREG, 0),
};
SCHEMA(exthdr, "exthdr");

static const MscNftSpec meta_specs[] = {
    U32(META_DREG, 0),
    U32(META_KEY, REQ),
    U32(META_SREG, 0),
};
SCHEMA(meta, "meta");

static const MscNftSpec rt_specs[] = { U32(RT_DREG, REQ), U32(RT_KEY, REQ) };
SCHEMA(rt, "rt");

static const MscNftSpec socket_specs[] = {
    U32(SOCKET_KEY, REQ),
    U32(SOCKET_DREG, REQ),
    U32(SOCKET_LEVEL, 0),
};
SCHEMA(socket, "socket");

static const MscNftSpec hash_specs[] = {
    U32(HASH_SREG, 0),      U32(HASH_DREG, REQ), U32(HASH_LEN, 0),
    U32(HASH_MODULUS, REQ), U32(HASH_SEED, 0),   U32(HASH_OFFSET, 0),
    U32(HASH_TYPE, 0),
};
SCHEMA(hash, "hash");

static const MscNftSpec numgen_specs[] = {
    U32(NG_DREG, REQ),
    U32(NG_MODULUS, REQ),
    U32(NG_TYPE, REQ),
    U32(NG_OFFSET, 0),
};
SCHEMA(numgen, "numgen");

static const MscNftSpec ct_specs[] = {
    U32(CT_DREG, 0),
    U32(CT_KEY, REQ),
    U8(CT_DIRECTION, 0),
    U32(CT_SREG, 0),
};
SCHEMA(ct, "ct");

static const MscNftSpec objref_specs[] = {
    U32(OBJREF_IMM_TYPE, 0),
    NAME(OBJREF_IMM_NAME, 0),
    U32(OBJREF_SET_SREG, 0),
    NAME(OBJREF_SET_NAME, 0),
};
SCHEMA(objref, "objref");

static const MscNftSpec limit_specs[] = {
    U64(LIMIT_RATE, REQ), U64(LIMIT_UNIT, REQ), U32(LIMIT_BURST, 0),
    U32(LIMIT_TYPE, 0),   U32(LIMIT_FLAGS, 0),  PAD(LIMIT_PAD),
};
SCHEMA(limit, "limit");

static const MscNftSpec connlimit_specs[] = {
    U32(CONNLIMIT_COUNT, REQ),
    U32(CONNLIMIT_FLAGS, 0),
};
SCHEMA(connlimit, "connlimit");

static const MscNftSpec counter_specs[] = {
    U64(COUNTER_BYTES, STATE),
    U64(COUNTER_PACKETS, STATE),
    PAD(COUNTER_PAD),
};
SCHEMA(counter, "counter");

static const MscNftSpec last_specs[] = {
    U32(LAST_SET, STATE),
    U64(LAST_MSECS, STATE),
    PAD(LAST_PAD),
};
SCHEMA(last, "last");

static const MscNftSpec quota_specs[] = {
    U64(QUOTA_BYTES, REQ),
    U32(QUOTA_FLAGS, 0),
    PAD(QUOTA_PAD),
    U64(QUOTA_CONSUMED, STATE),
};
SCHEMA(quota, "quota");

static const MscNftSpec log_specs[] = {
    U16(LOG_GROUP, 0),      TEXT(LOG_PREFIX, 0, 127), U32(LOG_SNAPLEN, 0),
    U16(LOG_QTHRESHOLD, 0), U32(LOG_LEVEL, 0),        U32(LOG_FLAGS, 0),
};
SCHEMA(log, "log");

static const MscNftSpec queue_specs[] = {
    U16(QUEUE_NUM, 0),
    U16(QUEUE_TOTAL, 0),
    U16(QUEUE_FLAGS, 0),
    U32(QUEUE_SREG_QNUM, 0),
};
SCHEMA(queue, "queue");

static const MscNftSpec reject_specs[] = {
    U32(REJECT_TYPE, REQ),
    U8(REJECT_ICMP_CODE, 0),
};
SCHEMA(reject, "reject");

static const MscNftSpec nat_specs[] = {
    U32(NAT_TYPE, REQ),        U32(NAT_FAMILY, REQ),
    U32(NAT_REG_ADDR_MIN, 0),  U32(NAT_REG_ADDR_MAX, 0),
    U32(NAT_REG_PROTO_MIN, 0), U32(NAT_REG_PROTO_MAX, 0),
    U32(NAT_FLAGS, 0),
};
SCHEMA(nat, "nat");

static const MscNftSpec tproxy_specs[] = {
    U32(TPROXY_FAMILY, REQ),
    U32(TPROXY_REG_ADDR, 0),
    U32(TPROXY_REG_PORT, 0),
};
SCHEMA(tproxy, "tproxy");

static const MscNftSpec masq_specs[] = {
    U32(MASQ_FLAGS, 0),
    U32(MASQ_REG_PROTO_MIN, 0),
    U32(MASQ_REG_PROTO_MAX, 0),
};
SCHEMA(masq, "masq");

static const MscNftSpec redir_specs[] = {
    U32(REDIR_REG_PROTO_MIN, 0),
    U32(REDIR_REG_PROTO_MAX, 0),
    U32(REDIR_FLAGS, 0),
};
SCHEMA(redir, "redir");

static const MscNftSpec dup_specs[] = {
    U32(DUP_SREG_ADDR, 0),
    U32(DUP_SREG_DEV, 0),
};
SCHEMA(dup, "dup");

static const MscNftSpec fwd_specs[] = {
    U32(FWD_SREG_DEV, 0),
    U32(FWD_SREG_ADDR, 0),
    U32(FWD_NFPROTO, 0),
};
SCHEMA(fwd, "fwd");

static const MscNftSpec fib_specs[] = {
    U32(FIB_DREG, REQ),
    U32(FIB_RESULT, REQ),
    U32(FIB_FLAGS, REQ),
};
SCHEMA(fib, "fib");

static const MscNftSpec osf_specs[] = {
    U32(OSF_DREG, REQ),
    U8(OSF_TTL, 0),
    U32(OSF_FLAGS, 0),
};
SCHEMA(osf, "osf");

static const MscNftSpec synproxy_specs[] = {
    U16(SYNPROXY_MSS, 0),
    U8(SYNPROXY_WSCALE, 0),
    U32(SYNPROXY_FLAGS, 0),
};
SCHEMA(synproxy, "synproxy");

static const MscNftSpec xfrm_specs[] = {
    U32(XFRM_DREG, REQ),
    U32(XFRM_KEY, REQ),
    U8(XFRM_DIR, REQ),
    U32(XFRM_SPNUM, 0),
};
SCHEMA(xfrm, "xfrm");

static const MscNftSchema notrack_schema = { "notrack", NULL, 0, false };

const MscNftSchema *msc_nft_expr_schema(const char *name)
{
    static const MscNftSchema *const all[] = {
        &immediate_schema, &bitwise_schema, &byteorder_schema,
        &cmp_schema,       &range_schema,   &lookup_schema,
        &dynset_schema,    &payload_schema, &exthdr_schema,
        &meta_schema,      &rt_schema,      &socket_schema,
        &hash_schema,      &numgen_schema,  &ct_schema,
        &objref_schema,    &limit_schema,   &connlimit_schema,
        &counter_schema,   &last_schema,    &quota_schema,
        &log_schema,       &queue_schema,   &reject_schema,
        &nat_schema,       &tproxy_schema,  &masq_schema,
        &redir_schema,     &dup_schema,     &fwd_schema,
        &fib_schema,       &osf_schema,     &synproxy_schema,
        &xfrm_schema,      &notrack_schema,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (!strcmp(all[i]->name, name)) {
            return all[i];
        }
    }
    return NULL;
}

/* Stateful objects */

static const MscNftSpec ct_helper_specs[] = {
    NAME(CT_HELPER_NAME, REQ),
    U16(CT_HELPER_L3PROTO, 0),
    U8(CT_HELPER_L4PROTO, REQ),
};
SCHEMA(ct_helper, "ct helper");

/* CTA_TIMEOUT_TCP_* and so on: seconds, one for each state. */
#define SECONDS(n)                                \
    {                                             \
        n, MSC_NFT_U32, 0, 0, NULL, "TIMEOUT_" #n \
    }
static const MscNftSpec seconds_specs[] = {
    SECONDS(1),  SECONDS(2),  SECONDS(3),  SECONDS(4),  SECONDS(5),
    SECONDS(6),  SECONDS(7),  SECONDS(8),  SECONDS(9),  SECONDS(10),
    SECONDS(11), SECONDS(12), SECONDS(13), SECONDS(14),
};
SCHEMA(seconds, "timeouts");

static const MscNftSpec ct_timeout_specs[] = {
    U16(CT_TIMEOUT_L3PROTO, 0),
    U8(CT_TIMEOUT_L4PROTO, REQ),
    NEST(CT_TIMEOUT_DATA, REQ, seconds),
};
SCHEMA(ct_timeout, "ct timeout");

static const MscNftSpec ct_expect_specs[] = {
    U16(CT_EXPECT_L3PROTO, 0), U8(CT_EXPECT_L4PROTO, REQ),
    U16(CT_EXPECT_DPORT, REQ), U32(CT_EXPECT_TIMEOUT, REQ),
    U8(CT_EXPECT_SIZE, REQ),
};
SCHEMA(ct_expect, "ct expectation");

static const MscNftSpec secmark_specs[] = { TEXT(SECMARK_CTX, REQ, 255) };
SCHEMA(secmark, "secmark");

const MscNftSchema *msc_nft_object_data_schema(uint32_t type)
{
    switch (type) {
    case NFT_OBJECT_COUNTER:
        return &counter_schema;
    case NFT_OBJECT_QUOTA:
        return &quota_schema;
    case NFT_OBJECT_CT_HELPER:
        return &ct_helper_schema;
    case NFT_OBJECT_LIMIT:
        return &limit_schema;
    case NFT_OBJECT_CONNLIMIT:
        return &connlimit_schema;
    case NFT_OBJECT_CT_TIMEOUT:
        return &ct_timeout_schema;
    case NFT_OBJECT_SECMARK:
        return &secmark_schema;
    case NFT_OBJECT_CT_EXPECT:
        return &ct_expect_schema;
    case NFT_OBJECT_SYNPROXY:
        return &synproxy_schema;
    default: /* tunnels, and what is newer */
        return NULL;
    }
}

/* Tables and what is in them.  Which table it is stands in none of these: so
 * nothing can name another. */

static const MscNftSpec table_specs[] = {
    NAME(TABLE_NAME, LOCAL),  U32(TABLE_FLAGS, 0), U32(TABLE_USE, LOCAL),
    U64(TABLE_HANDLE, LOCAL), PAD(TABLE_PAD),      UDATA(TABLE_USERDATA, 0),
};
const MscNftSchema msc_nft_table_schema = { "table", table_specs,
                                            G_N_ELEMENTS(table_specs), false };

static const MscNftSpec devices_specs[] = { DEVICE(DEVICE_NAME, 0) };
LIST(devices, "devices");

static const MscNftSpec hook_specs[] = {
    U32(HOOK_HOOKNUM, REQ),
    U32(HOOK_PRIORITY, REQ),
    DEVICE(HOOK_DEV, 0),
    NEST(HOOK_DEVS, 0, devices),
};
SCHEMA(hook, "hook");

static const MscNftSpec chain_specs[] = {
    NAME(CHAIN_TABLE, LOCAL), U64(CHAIN_HANDLE, LOCAL),
    NAME(CHAIN_NAME, REQ),    NEST(CHAIN_HOOK, 0, hook),
    U32(CHAIN_POLICY, 0),     U32(CHAIN_USE, LOCAL),
    NAME(CHAIN_TYPE, 0),      NEST(CHAIN_COUNTERS, 0, counter),
    PAD(CHAIN_PAD),           U32(CHAIN_FLAGS, 0),
    U32(CHAIN_ID, LOCAL),     UDATA(CHAIN_USERDATA, 0),
};
const MscNftSchema msc_nft_chain_schema = { "chain", chain_specs,
                                            G_N_ELEMENTS(chain_specs), false };

static const MscNftSpec object_specs[] = {
    NAME(OBJ_TABLE, LOCAL), NAME(OBJ_NAME, REQ),
    U32(OBJ_TYPE, REQ),     SPEC(OBJ_DATA, OBJ_DATA, REQ, 0, NULL),
    U32(OBJ_USE, LOCAL),    U64(OBJ_HANDLE, LOCAL),
    PAD(OBJ_PAD),           UDATA(OBJ_USERDATA, 0),
};
const MscNftSchema msc_nft_object_schema = { "stateful object", object_specs,
                                             G_N_ELEMENTS(object_specs),
                                             false };

static const MscNftSpec field_specs[] = { U32(SET_FIELD_LEN, REQ) };
SCHEMA(field, "field");

static const MscNftSpec fields_specs[] = { NEST(LIST_ELEM, 0, field) };
LIST(fields, "fields");

static const MscNftSpec desc_specs[] = {
    U32(SET_DESC_SIZE, 0),
    NEST(SET_DESC_CONCAT, 0, fields),
};
SCHEMA(desc, "set description");

static const MscNftSpec set_specs[] = {
    NAME(SET_TABLE, LOCAL),
    NAME(SET_NAME, REQ),
    U32(SET_FLAGS, 0),
    U32(SET_KEY_TYPE, 0),
    U32(SET_KEY_LEN, REQ),
    U32(SET_DATA_TYPE, 0),
    U32(SET_DATA_LEN, 0),
    U32(SET_POLICY, 0),
    NEST(SET_DESC, 0, desc),
    U32(SET_ID, LOCAL),
    U64(SET_TIMEOUT, 0),
    U32(SET_GC_INTERVAL, 0),
    UDATA(SET_USERDATA, MSC_NFT_COMMENT),
    PAD(SET_PAD),
    U32(SET_OBJ_TYPE, 0),
    U64(SET_HANDLE, LOCAL),
    NEST(SET_EXPR, 0, expr),
    NEST(SET_EXPRESSIONS, 0, exprs),
    { NEWER_SET_TYPE, MSC_NFT_BYTES, LOCAL, UINT16_MAX, NULL, "SET_TYPE" },
    { NEWER_SET_COUNT, MSC_NFT_U32, LOCAL, 0, NULL, "SET_COUNT" },
};
const MscNftSchema msc_nft_set_schema = { "set", set_specs,
                                          G_N_ELEMENTS(set_specs), false };

static const MscNftSpec element_specs[] = {
    NEST(SET_ELEM_KEY, 0, data),
    NEST(SET_ELEM_DATA, 0, data),
    U32(SET_ELEM_FLAGS, 0),
    U64(SET_ELEM_TIMEOUT, 0),
    U64(SET_ELEM_EXPIRATION, STATE),
    UDATA(SET_ELEM_USERDATA, 0),
    NEST(SET_ELEM_EXPR, 0, expr),
    PAD(SET_ELEM_PAD),
    NAME(SET_ELEM_OBJREF, 0),
    NEST(SET_ELEM_KEY_END, 0, data),
    NEST(SET_ELEM_EXPRESSIONS, 0, exprs),
};
const MscNftSchema msc_nft_element_schema = { "set element", element_specs,
                                              G_N_ELEMENTS(element_specs),
                                              false };

static const MscNftSpec elements_specs[] = {
    SPEC(LIST_ELEM, NEST, 0, 0, &msc_nft_element_schema),
};
const MscNftSchema msc_nft_elements_schema = { "set elements", elements_specs,
                                               1, true };

static const MscNftSpec rule_specs[] = {
    NAME(RULE_TABLE, LOCAL),
    NAME(RULE_CHAIN, REQ),
    U64(RULE_HANDLE, LOCAL),
    NEST(RULE_EXPRESSIONS, 0, exprs),
    U64(RULE_POSITION, LOCAL),
    UDATA(RULE_USERDATA, 0),
    PAD(RULE_PAD),
};
const MscNftSchema msc_nft_rule_schema = { "rule", rule_specs,
                                           G_N_ELEMENTS(rule_specs), false };

const MscNftSpec *msc_nft_spec_find(const MscNftSchema *schema, uint16_t type)
{
    for (uint16_t i = 0; i < schema->n; i++) {
        if (schema->specs[i].type == type) {
            return &schema->specs[i];
        }
    }
    return NULL;
}
