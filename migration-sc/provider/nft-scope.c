/*
 * Each rule is followed from the hook on.  Until it compares an interface or
 * address, it may only look; a jump leads to rules for which the same holds.
 * "accept" is harmless: what other base chains do with the packet, they do.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-scope.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "nft-names.h"
#include "nft-registers.h"

#define INET_INGRESS 5 /* NF_INET_INGRESS */

typedef struct {
    const MscSelector *selector;
    const MscNftTable *table;
    GPtrArray *reasons;
    GPtrArray *todo; /* chains that any packet may enter */
    GHashTable *seen;
} Scope;

typedef enum { LOOKS, GUARDS, ACTS } Effect;

static void enter(Scope *s, const char *chain)
{
    if (chain && msc_nft_table_chain(s->table, chain) &&
        g_hash_table_add(s->seen, (char *)chain)) {
        g_ptr_array_add(s->todo, (char *)chain);
    }
}

/* ---- addresses ---- */

/* What payload expression @data loads: a length of 4 or 16 if that is a
 * packet's source or destination address. */
static guint address_length(const GPtrArray *data)
{
    uint32_t at = msc_nft_u32(data, NFTA_PAYLOAD_OFFSET);
    uint32_t len = msc_nft_u32(data, NFTA_PAYLOAD_LEN);

    if (msc_nft_u32(data, NFTA_PAYLOAD_BASE) != NFT_PAYLOAD_NETWORK_HEADER) {
        return 0;
    }
    return (len == 4 && (at == 12 || at == 16)) ||
                   (len == 16 && (at == 8 || at == 24))
               ? len
               : 0;
}

static bool is_guests_address(const Scope *s, const MscNftAttr *value,
                              guint len)
{
    const GArray *lists[] = { s->selector->addresses,
                              s->selector->nat_addresses };

    for (size_t l = 0; l < G_N_ELEMENTS(lists); l++) {
        for (guint i = 0; i < lists[l]->len; i++) {
            const MscAddress *a = &g_array_index(lists[l], MscAddress, i);

            if ((a->family == AF_INET ? 4 : 16) == (int)len &&
                value->len == len && !memcmp(value->data, a->bytes, len)) {
                return true;
            }
        }
    }
    return false;
}

/* ---- expressions ---- */

typedef struct {
    MscNftRegs regs;
    guint8 address[MSC_NFT_SLOTS]; /* length of the one there, or 0 */
} State;

static Effect cmp_effect(const Scope *s, const State *state,
                         const GPtrArray *data)
{
    int slot = msc_nft_slot(msc_nft_u32(data, NFTA_CMP_SREG));
    const MscNftAttr *value =
        msc_nft_find(msc_nft_nested(data, NFTA_CMP_DATA), NFTA_DATA_VALUE);
    MscNftRegKind kind;

    if (slot < 0 || !value || msc_nft_u32(data, NFTA_CMP_OP) != NFT_CMP_EQ) {
        return LOOKS;
    }
    kind = state->regs.slot[slot].kind;
    return (kind == MSC_NFT_REG_NAME && value->len == 16) ||
                   (kind == MSC_NFT_REG_INDEX && value->len == 4) ||
                   (state->address[slot] &&
                    is_guests_address(s, value, state->address[slot]))
               ? GUARDS
               : LOOKS;
}

/* Only what is in the set matches, and all of it names an interface. */
static bool set_guards(const State *state, const MscNftSet *set, int first)
{
    MscNftField fields[MSC_NFT_SLOTS];
    bool named = false;
    guint n;

    if (first < 0 || !msc_nft_set_fields(set, false, fields, &n)) {
        return false;
    }
    for (guint i = 0; i < n; i++) {
        guint slot = (guint)first + fields[i].at / NFT_REG32_SIZE;

        named = named ||
                (fields[i].kind != MSC_NFT_REG_OTHER && slot < MSC_NFT_SLOTS &&
                 state->regs.slot[slot].kind == fields[i].kind);
    }
    for (guint i = 0; named && i < set->elements->len; i++) {
        if (msc_nft_u32(set->elements->pdata[i], NFTA_SET_ELEM_FLAGS) &
            NFT_SET_ELEM_CATCHALL) {
            return false;
        }
    }
    return named;
}

/* NULL, an absent verdict, is none. */
static Effect verdict_effect(Scope *s, const GPtrArray *value)
{
    const GPtrArray *verdict =
        value ? msc_nft_nested(value, NFTA_DATA_VERDICT) : NULL;
    int32_t code = verdict ? (int32_t)msc_nft_u32(verdict, NFTA_VERDICT_CODE)
                           : NFT_CONTINUE;

    if (code == NFT_JUMP || code == NFT_GOTO) {
        enter(s, msc_nft_text(verdict, NFTA_VERDICT_CHAIN));
    }
    return code == NF_DROP ? ACTS : LOOKS;
}

static Effect lookup_effect(Scope *s, const State *state, const GPtrArray *data)
{
    const MscNftSet *set =
        msc_nft_table_set(s->table, msc_nft_text(data, NFTA_LOOKUP_SET));
    Effect effect = LOOKS;

    if (!set) {
        return LOOKS; /* the kernel refuses it */
    }
    if (!(msc_nft_u32(data, NFTA_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV) &&
        set_guards(state, set,
                   msc_nft_slot(msc_nft_u32(data, NFTA_LOOKUP_SREG)))) {
        return GUARDS;
    }
    for (guint i = 0; i < set->elements->len; i++) {
        const GPtrArray *value =
            msc_nft_nested(set->elements->pdata[i], NFTA_SET_ELEM_DATA);

        effect = MAX(effect, verdict_effect(s, value));
    }
    return effect;
}

static bool object_acts(const GPtrArray *data)
{
    switch (msc_nft_u32(data, NFTA_OBJREF_IMM_TYPE)) {
    case NFT_OBJECT_COUNTER:
    case NFT_OBJECT_QUOTA:
    case NFT_OBJECT_LIMIT:
    case NFT_OBJECT_CONNLIMIT:
        return false;
    default:
        return true; /* helpers and so on; maps of any */
    }
}

static Effect effect_of(Scope *s, const State *state, const char *name,
                        const GPtrArray *data)
{
    static const char *const look[] = {
        "bitwise", "byteorder", "range",   "rt",     "socket",
        "osf",     "fib",       "hash",    "numgen", "xfrm",
        "limit",   "connlimit", "counter", "last",   "quota",
    };
    /* Loads look; with a source register they change the packet. */
    static const struct {
        const char *name;
        uint16_t sreg;
    } load[] = {
        { "meta", NFTA_META_SREG },
        { "ct", NFTA_CT_SREG },
        { "payload", NFTA_PAYLOAD_SREG },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(look); i++) {
        if (!strcmp(name, look[i])) {
            return LOOKS;
        }
    }
    for (size_t i = 0; data && i < G_N_ELEMENTS(load); i++) {
        if (!strcmp(name, load[i].name)) {
            return msc_nft_find(data, load[i].sreg) ? ACTS : LOOKS;
        }
    }
    if (!data) {
        return ACTS;
    }
    if (!strcmp(name, "cmp")) {
        return cmp_effect(s, state, data);
    }
    if (!strcmp(name, "lookup")) {
        return lookup_effect(s, state, data);
    }
    if (!strcmp(name, "immediate")) {
        return verdict_effect(s, msc_nft_nested(data, NFTA_IMMEDIATE_DATA));
    }
    if (!strcmp(name, "exthdr")) {
        /* Without a destination it resets a TCP option. */
        return msc_nft_find(data, NFTA_EXTHDR_DREG) ? LOOKS : ACTS;
    }
    return strcmp(name, "objref") || object_acts(data) ? ACTS : LOOKS;
}

static void note_load(State *state, const MscNftTable *t, const char *name,
                      const GPtrArray *data)
{
    bool payload = data && !strcmp(name, "payload");
    int slot;

    msc_nft_regs_write(&state->regs, t, name, data);
    slot = payload ? msc_nft_slot(msc_nft_u32(data, NFTA_PAYLOAD_DREG)) : -1;
    /* An address is compared right after it was loaded, or not at all. */
    if (strcmp(name, "cmp")) {
        memset(state->address, 0, sizeof(state->address));
    }
    if (slot >= 0) {
        state->address[slot] = (guint8)address_length(data);
    }
}

static bool rule_is_confined(Scope *s, const GPtrArray *rule)
{
    const GPtrArray *exprs = msc_nft_nested(rule, NFTA_RULE_EXPRESSIONS);
    State state = { 0 };

    for (guint i = 0; exprs && i < exprs->len; i++) {
        const MscNftAttr *expr = exprs->pdata[i];
        const char *name = msc_nft_text(expr->nest, NFTA_EXPR_NAME);
        const GPtrArray *data = msc_nft_nested(expr->nest, NFTA_EXPR_DATA);

        switch (effect_of(s, &state, name, data)) {
        case GUARDS:
            return true;
        case ACTS:
            return false;
        case LOOKS:
            break;
        }
        note_load(&state, s->table, name, data);
    }
    return true;
}

/* ---- chains ---- */

static void refuse(Scope *s, const char *chain, guint rule)
{
    g_autofree char *table =
        msc_nft_table_text(s->table->family, s->table->name);
    g_autofree char *where =
        rule ? g_strdup_printf("rule %u", rule) : g_strdup("its policy, drop,");

    if (s->reasons->len >= MSC_NFT_REASONS_MAX) {
        return;
    }
    g_ptr_array_add(
        s->reasons,
        g_strdup_printf(
            "%s, chain %s: %s also meets packets that are not the guest's: have "
            "it look for the guest's interface or address first, or, if it is "
            "meant for all of this host, register the guest here with "
            "--nft-scope host",
            table, chain, where));
}

/* A chain of a device meets what passes that device, which is the guest's. */
static bool is_of_device(const MscNftTable *t, const GPtrArray *hook)
{
    return t->family == NFPROTO_NETDEV ||
           (t->family == NFPROTO_INET &&
            msc_nft_u32(hook, NFTA_HOOK_HOOKNUM) == INET_INGRESS);
}

static void check_chain(Scope *s, const char *chain)
{
    guint number = 0;

    for (guint i = 0; i < s->table->rules->len; i++) {
        const GPtrArray *rule = s->table->rules->pdata[i];

        if (strcmp(msc_nft_text(rule, NFTA_RULE_CHAIN), chain)) {
            continue;
        }
        number++;
        if (!rule_is_confined(s, rule)) {
            refuse(s, chain, number);
        }
    }
}

static void check_table(Scope *s, const MscNftTable *t)
{
    s->table = t;
    s->todo = g_ptr_array_new();
    s->seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < t->chains->len; i++) {
        const GPtrArray *chain = t->chains->pdata[i];
        const GPtrArray *hook = msc_nft_nested(chain, NFTA_CHAIN_HOOK);
        const char *name = msc_nft_text(chain, NFTA_CHAIN_NAME);

        if (!hook || is_of_device(t, hook)) {
            continue;
        }
        if (msc_nft_find(chain, NFTA_CHAIN_POLICY) &&
            msc_nft_u32(chain, NFTA_CHAIN_POLICY) != NF_ACCEPT) {
            refuse(s, name, 0);
        }
        enter(s, name);
    }
    for (guint i = 0; i < s->todo->len; i++) {
        check_chain(s, s->todo->pdata[i]);
    }
    g_ptr_array_unref(s->todo);
    g_hash_table_unref(s->seen);
}

void msc_nft_scope_check(const MscNftPayload *payload,
                         const MscSelector *selector, GPtrArray *reasons)
{
    Scope s = { .selector = selector, .reasons = reasons };

    for (guint i = 0; i < payload->tables->len; i++) {
        check_table(&s, payload->tables->pdata[i]);
    }
}
