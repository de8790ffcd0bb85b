/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-batch.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>

#include "nft-names.h"

/* Of elements in one message, bytes of netlink: a length has 16 bits. */
#define ELEMENTS_MAX 32768

typedef struct {
    uint16_t type; /* NFT_MSG_* */
    const MscNftTable *table;
    const GPtrArray *attrs; /* of the object, or NULL */
} About;

guint msc_nft_message_begin(GByteArray *out, uint16_t type, uint16_t flags,
                            uint32_t seq, uint8_t family, uint16_t id)
{
    struct nlmsghdr nlh = {
        .nlmsg_type = type,
        .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
        .nlmsg_seq = seq,
    };
    struct nfgenmsg nfg = {
        .nfgen_family = family,
        .version = NFNETLINK_V0,
        .res_id = GUINT16_TO_BE(id),
    };
    guint begin = out->len;

    msc_put_bytes(out, &nlh, sizeof(nlh));
    msc_put_bytes(out, &nfg, sizeof(nfg));
    return begin;
}

void msc_nft_message_end(GByteArray *out, guint begin)
{
    uint32_t len = out->len - begin;

    memcpy(out->data + begin, &len, sizeof(len));
}

static guint begin(MscNftBatch *b, uint16_t type, uint16_t flags,
                   const MscNftTable *t, const GPtrArray *attrs)
{
    About about = { type, t, attrs };

    g_array_append_val(b->about, about);
    return msc_nft_message_begin(b->bytes, NFNL_SUBSYS_NFTABLES << 8 | type,
                                 flags, b->about->len - 1, t->family, 0);
}

MscNftBatch *msc_nft_batch_new(void)
{
    MscNftBatch *b = g_new0(MscNftBatch, 1);
    About nothing = { 0 };

    b->bytes = g_byte_array_new();
    b->about = g_array_new(FALSE, FALSE, sizeof(About));
    g_array_append_val(b->about, nothing);
    msc_nft_message_end(b->bytes,
                        msc_nft_message_begin(b->bytes, NFNL_MSG_BATCH_BEGIN, 0,
                                              0, 0, NFNL_SUBSYS_NFTABLES));
    return b;
}

void msc_nft_batch_free(MscNftBatch *b)
{
    if (b) {
        g_byte_array_unref(b->bytes);
        g_array_unref(b->about);
        g_free(b);
    }
}

void msc_nft_batch_delete(MscNftBatch *b, const MscNftTable *t)
{
    uint64_t handle = GUINT64_TO_BE(t->handle);
    guint at = begin(b, NFT_MSG_DELTABLE, NLM_F_ACK, t, NULL);

    /* This very table, not another that got its name. */
    msc_nft_put(b->bytes, NFTA_TABLE_HANDLE, &handle, sizeof(handle));
    msc_nft_message_end(b->bytes, at);
}

/* The attribute that names the table comes from here, never from what came:
 * so nothing reaches another. */
static void add_object(MscNftBatch *b, uint16_t type, uint16_t table_attr,
                       const MscNftTable *t, const GPtrArray *attrs)
{
    uint16_t flags = type == NFT_MSG_NEWRULE ? NLM_F_CREATE | NLM_F_APPEND
                                             : NLM_F_CREATE | NLM_F_EXCL;
    guint at = begin(b, type, flags, t, attrs);

    msc_nft_put_text(b->bytes, table_attr, t->name);
    msc_nft_attrs_put(attrs, b->bytes);
    if (type == NFT_MSG_NEWSET) {
        uint32_t id = GUINT32_TO_BE(b->about->len);

        msc_nft_put(b->bytes, NFTA_SET_ID, &id, sizeof(id));
    }
    msc_nft_message_end(b->bytes, at);
}

static void add_table(MscNftBatch *b, const MscNftTable *t, bool dormant)
{
    uint32_t flags = msc_nft_u32(t->attrs, NFTA_TABLE_FLAGS);
    guint at = begin(b, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK,
                     t, NULL);
    const MscNftAttr *userdata = msc_nft_find(t->attrs, NFTA_TABLE_USERDATA);

    if (dormant) {
        flags |= NFT_TABLE_F_DORMANT;
    }
    flags = GUINT32_TO_BE(flags);
    msc_nft_put_text(b->bytes, NFTA_TABLE_NAME, t->name);
    msc_nft_put(b->bytes, NFTA_TABLE_FLAGS, &flags, sizeof(flags));
    if (userdata) {
        msc_nft_put(b->bytes, NFTA_TABLE_USERDATA, userdata->data,
                    userdata->len);
    }
    msc_nft_message_end(b->bytes, at);
}

typedef enum {
    ADD,    /* they are new */
    TOUCH,  /* they are there, or the transaction fails: for a set without
             * others */
    REMOVE, /* by their keys */
} Change;

static guint begin_elements(MscNftBatch *b, const MscNftTable *t,
                            const MscNftSet *set, Change change, guint *list)
{
    uint16_t type = change == REMOVE ? NFT_MSG_DELSETELEM : NFT_MSG_NEWSETELEM;
    /* The guard is what the kernel answers. */
    uint16_t flags = change == ADD     ? NLM_F_CREATE | NLM_F_EXCL
                     : change == TOUCH ? NLM_F_ACK
                                       : 0;
    guint at = begin(b, type, flags, t, set->attrs);

    msc_nft_put_text(b->bytes, NFTA_SET_ELEM_LIST_TABLE, t->name);
    msc_nft_put_text(b->bytes, NFTA_SET_ELEM_LIST_SET,
                     msc_nft_text(set->attrs, NFTA_SET_NAME));
    *list = msc_nft_nest_begin(b->bytes, NFTA_SET_ELEM_LIST_ELEMENTS);
    return at;
}

static void change_elements(MscNftBatch *b, const MscNftTable *t,
                            const MscNftSet *set, Change change)
{
    guint at = 0, list = 0, element;

    for (guint i = 0; i < set->elements->len; i++) {
        if (!i) {
            at = begin_elements(b, t, set, change, &list);
        } else if (b->bytes->len - list > ELEMENTS_MAX) {
            msc_nft_nest_end(b->bytes, list);
            msc_nft_message_end(b->bytes, at);
            at = begin_elements(b, t, set, change, &list);
        }
        element = msc_nft_nest_begin(b->bytes, NFTA_LIST_ELEM);
        if (change == REMOVE) {
            g_autoptr(GPtrArray) key =
                msc_nft_element_key(set->elements->pdata[i]);

            msc_nft_attrs_put(key, b->bytes);
        } else {
            msc_nft_attrs_put(set->elements->pdata[i], b->bytes);
        }
        msc_nft_nest_end(b->bytes, element);
    }
    if (set->elements->len) {
        msc_nft_nest_end(b->bytes, list);
        msc_nft_message_end(b->bytes, at);
    }
}

void msc_nft_batch_add_elements(MscNftBatch *b, const MscNftTable *t,
                                const MscNftSet *set)
{
    change_elements(b, t, set, ADD);
}

void msc_nft_batch_guard(MscNftBatch *b, const MscNftTable *t,
                         const MscNftSet *marker)
{
    change_elements(b, t, marker, TOUCH);
}

void msc_nft_batch_remove_elements(MscNftBatch *b, const MscNftTable *t,
                                   const MscNftSet *set)
{
    guint at;

    if (set->elements->len) {
        change_elements(b, t, set, REMOVE);
        return;
    }
    at = begin(b, NFT_MSG_DELSETELEM, 0, t, set->attrs);
    msc_nft_put_text(b->bytes, NFTA_SET_ELEM_LIST_TABLE, t->name);
    msc_nft_put_text(b->bytes, NFTA_SET_ELEM_LIST_SET,
                     msc_nft_text(set->attrs, NFTA_SET_NAME));
    msc_nft_message_end(b->bytes, at);
}

/* ---- rules ---- */

typedef struct {
    MscNftBatch *batch;
    const MscNftTable *table;
    GHashTable *rules; /* chain -> GPtrArray of its rules, left to
                                   be added */
} Rules;

static void add_chain_rules(Rules *r, const char *chain);

/* A chain that lives inside a rule ("jump { ... }") takes rules only until
 * that rule is there. */
static void add_inner_chains(Rules *r, const GPtrArray *rule)
{
    const GPtrArray *exprs = msc_nft_nested(rule, NFTA_RULE_EXPRESSIONS);

    for (guint i = 0; exprs && i < exprs->len; i++) {
        const MscNftAttr *expr = exprs->pdata[i];
        const GPtrArray *v = msc_nft_nested(expr->nest, NFTA_EXPR_DATA);
        const char *name = msc_nft_text(expr->nest, NFTA_EXPR_NAME);
        const GPtrArray *chain;

        if (strcmp(name, "immediate") ||
            !(v = v ? msc_nft_nested(v, NFTA_IMMEDIATE_DATA) : NULL) ||
            !(v = msc_nft_nested(v, NFTA_DATA_VERDICT)) ||
            !(name = msc_nft_text(v, NFTA_VERDICT_CHAIN)) ||
            !(chain = msc_nft_table_chain(r->table, name))) {
            continue;
        }
        if (msc_nft_u32(chain, NFTA_CHAIN_FLAGS) & NFT_CHAIN_BINDING) {
            add_chain_rules(r, name);
        }
    }
}

static void add_chain_rules(Rules *r, const char *chain)
{
    g_autoptr(GPtrArray) rules = g_hash_table_lookup(r->rules, chain);

    if (!rules) {
        return;
    }
    g_ptr_array_ref(rules);
    g_hash_table_remove(r->rules, chain);
    for (guint i = 0; i < rules->len; i++) {
        add_inner_chains(r, rules->pdata[i]);
        add_object(r->batch, NFT_MSG_NEWRULE, NFTA_RULE_TABLE, r->table,
                   rules->pdata[i]);
    }
}

static void add_rules(MscNftBatch *b, const MscNftTable *t)
{
    g_autoptr(GHashTable) by_chain =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                              (GDestroyNotify)g_ptr_array_unref);
    Rules r = { b, t, by_chain };

    for (guint i = 0; i < t->rules->len; i++) {
        const char *chain = msc_nft_text(t->rules->pdata[i], NFTA_RULE_CHAIN);
        GPtrArray *rules = g_hash_table_lookup(by_chain, chain);

        if (!rules) {
            rules = g_ptr_array_new();
            g_hash_table_insert(by_chain, (char *)chain, rules);
        }
        g_ptr_array_add(rules, t->rules->pdata[i]);
    }
    for (guint i = 0; i < t->chains->len; i++) {
        add_chain_rules(&r, msc_nft_text(t->chains->pdata[i], NFTA_CHAIN_NAME));
    }
}

/* All of @t, but the sets that are @there. */
static void add_rest(MscNftBatch *b, const MscNftTable *t,
                     const MscNftTable *there)
{
    for (guint i = 0; i < t->chains->len; i++) {
        add_object(b, NFT_MSG_NEWCHAIN, NFTA_CHAIN_TABLE, t,
                   t->chains->pdata[i]);
    }
    for (guint i = 0; i < t->objects->len; i++) {
        add_object(b, NFT_MSG_NEWOBJ, NFTA_OBJ_TABLE, t, t->objects->pdata[i]);
    }
    for (guint i = 0; i < t->sets->len; i++) {
        const MscNftSet *set = t->sets->pdata[i];

        if (!there || !msc_nft_table_set(there, msc_nft_text(set->attrs,
                                                             NFTA_SET_NAME))) {
            add_object(b, NFT_MSG_NEWSET, NFTA_SET_TABLE, t, set->attrs);
        }
    }
    for (guint i = 0; i < t->sets->len; i++) {
        msc_nft_batch_add_elements(b, t, t->sets->pdata[i]);
    }
    add_rules(b, t);
}

void msc_nft_batch_add(MscNftBatch *b, const MscNftTable *t, bool dormant)
{
    add_table(b, t, dormant);
    add_rest(b, t, NULL);
}

void msc_nft_batch_begin(MscNftBatch *b, const MscNftTable *t,
                         const MscNftSet *marker)
{
    add_table(b, t, false);
    add_object(b, NFT_MSG_NEWSET, NFTA_SET_TABLE, t, marker->attrs);
    msc_nft_batch_add_elements(b, t, marker);
    add_rest(b, t, NULL);
}

void msc_nft_batch_complete(MscNftBatch *b, const MscNftTable *t,
                            const MscNftTable *there, const MscNftSet *marker)
{
    guint at = begin(b, NFT_MSG_DELSET, NLM_F_ACK, t, marker->attrs);

    msc_nft_put_text(b->bytes, NFTA_SET_TABLE, t->name);
    msc_nft_put_text(b->bytes, NFTA_SET_NAME,
                     msc_nft_text(marker->attrs, NFTA_SET_NAME));
    msc_nft_message_end(b->bytes, at);
    add_rest(b, t, there);
}

char *msc_nft_batch_text(const MscNftBatch *b, uint32_t seq)
{
    const About *a = seq && seq < b->about->len
                         ? &g_array_index(b->about, About, seq)
                         : NULL;
    g_autofree char *table = NULL;

    if (!a) {
        return g_strdup("the transaction");
    }
    table = msc_nft_table_text(a->table->family, a->table->name);
    switch (a->type) {
    case NFT_MSG_NEWCHAIN:
        return g_strdup_printf("%s, chain %s", table,
                               msc_nft_text(a->attrs, NFTA_CHAIN_NAME));
    case NFT_MSG_NEWOBJ:
        return g_strdup_printf("%s, stateful object %s", table,
                               msc_nft_text(a->attrs, NFTA_OBJ_NAME));
    case NFT_MSG_NEWSET:
    case NFT_MSG_DELSET:
    case NFT_MSG_NEWSETELEM:
    case NFT_MSG_DELSETELEM:
        return g_strdup_printf("%s, %sset %s", table,
                               a->type == NFT_MSG_NEWSET ||
                                       a->type == NFT_MSG_DELSET
                                   ? ""
                                   : "elements of ",
                               msc_nft_text(a->attrs, NFTA_SET_NAME));
    case NFT_MSG_NEWRULE:
        return g_strdup_printf("%s, chain %s, rule %u", table,
                               msc_nft_text(a->attrs, NFTA_RULE_CHAIN),
                               msc_nft_rule_number(a->table, a->attrs));
    default:
        return g_steal_pointer(&table);
    }
}
