/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-names.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"

char *msc_nft_table_text(uint8_t family, const char *name)
{
    return g_strdup_printf("table %s %s", msc_nft_family_name(family), name);
}

MscNftTable *msc_nft_payload_find(const MscNftPayload *p, uint8_t family,
                                  const char *name)
{
    for (guint i = 0; i < p->tables->len; i++) {
        MscNftTable *t = p->tables->pdata[i];

        if (t->family == family && !strcmp(t->name, name)) {
            return t;
        }
    }
    return NULL;
}

MscNftSet *msc_nft_table_set(const MscNftTable *t, const char *name)
{
    if (g_hash_table_size(t->set_index) != t->sets->len) {
        g_hash_table_remove_all(t->set_index);
        for (guint i = 0; i < t->sets->len; i++) {
            MscNftSet *set = t->sets->pdata[i];

            g_hash_table_insert(t->set_index,
                                (char *)msc_nft_text(set->attrs, NFTA_SET_NAME),
                                set);
        }
    }
    return g_hash_table_lookup(t->set_index, name);
}

GPtrArray *msc_nft_table_chain(const MscNftTable *t, const char *name)
{
    if (g_hash_table_size(t->chain_index) != t->chains->len) {
        g_hash_table_remove_all(t->chain_index);
        for (guint i = 0; i < t->chains->len; i++) {
            GPtrArray *chain = t->chains->pdata[i];

            g_hash_table_insert(t->chain_index,
                                (char *)msc_nft_text(chain, NFTA_CHAIN_NAME),
                                chain);
        }
    }
    return g_hash_table_lookup(t->chain_index, name);
}

guint msc_nft_rule_number(const MscNftTable *t, const GPtrArray *rule)
{
    const char *chain = msc_nft_text(rule, NFTA_RULE_CHAIN);
    guint n = 0;

    for (guint i = 0; i < t->rules->len; i++) {
        n += !strcmp(msc_nft_text(t->rules->pdata[i], NFTA_RULE_CHAIN), chain);
        if (t->rules->pdata[i] == rule) {
            break;
        }
    }
    return n;
}

/* Adds a name that must be new; takes it. */
static bool add_name(GHashTable *names, char *name, const char *kind,
                     const MscNftTable *t, GError **errp)
{
    if (g_hash_table_contains(names, name)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "nft payload: table %s has %s '%s' twice", t->name, kind,
                    name);
        g_free(name);
        return false;
    }
    return g_hash_table_add(names, name);
}

bool msc_nft_table_names_are_good(const MscNftTable *t, GError **errp)
{
    g_autoptr(GHashTable) chains =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) sets =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) objects =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < t->chains->len; i++) {
        const char *name = msc_nft_text(t->chains->pdata[i], NFTA_CHAIN_NAME);

        if (!add_name(chains, g_strdup(name), "chain", t, errp)) {
            return false;
        }
    }
    for (guint i = 0; i < t->objects->len; i++) {
        const GPtrArray *o = t->objects->pdata[i];
        char *name = g_strdup_printf("%u %s", msc_nft_u32(o, NFTA_OBJ_TYPE),
                                     msc_nft_text(o, NFTA_OBJ_NAME));

        if (!add_name(objects, name, "object", t, errp)) {
            return false;
        }
    }
    for (guint i = 0; i < t->sets->len; i++) {
        const MscNftSet *set = t->sets->pdata[i];
        const char *name = msc_nft_text(set->attrs, NFTA_SET_NAME);

        if (!add_name(sets, g_strdup(name), "set", t, errp)) {
            return false;
        }
    }
    for (guint i = 0; i < t->rules->len; i++) {
        const char *chain = msc_nft_text(t->rules->pdata[i], NFTA_RULE_CHAIN);

        if (!g_hash_table_contains(chains, chain)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                        "nft payload: a rule of chain '%s', which table %s "
                        "does not have",
                        chain, t->name);
            return false;
        }
    }
    return true;
}

/* ---- order ---- */

static int compare_values(const GPtrArray *a, const GPtrArray *b, uint16_t type)
{
    const GPtrArray *x = msc_nft_nested(a, type);
    const GPtrArray *y = msc_nft_nested(b, type);
    const MscNftAttr *p = x ? msc_nft_find(x, NFTA_DATA_VALUE) : NULL;
    const MscNftAttr *q = y ? msc_nft_find(y, NFTA_DATA_VALUE) : NULL;
    int order;

    if (!p || !q) {
        return (p ? 1 : 0) - (q ? 1 : 0);
    }
    order = memcmp(p->data, q->data, MIN(p->len, q->len));
    return order ? order : (int)p->len - (int)q->len;
}

/* An interval that begins where one ends comes after that end. */
static gint by_key(gconstpointer a, gconstpointer b)
{
    const GPtrArray *const *x = a, *const *y = b;
    int order = compare_values(*x, *y, NFTA_SET_ELEM_KEY);
    uint32_t p, q;

    if (!order) {
        p = msc_nft_u32(*x, NFTA_SET_ELEM_FLAGS);
        q = msc_nft_u32(*y, NFTA_SET_ELEM_FLAGS);
        order = (int)(q & NFT_SET_ELEM_INTERVAL_END) -
                (int)(p & NFT_SET_ELEM_INTERVAL_END);
    }
    return order ? order : compare_values(*x, *y, NFTA_SET_ELEM_KEY_END);
}

GPtrArray *msc_nft_element_key(const GPtrArray *element)
{
    static const uint16_t types[] = { NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_FLAGS,
                                      NFTA_SET_ELEM_KEY_END };
    GPtrArray *key = g_ptr_array_sized_new(G_N_ELEMENTS(types));

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        MscNftAttr *attr = msc_nft_find(element, types[i]);

        if (attr) {
            g_ptr_array_add(key, attr);
        }
    }
    return key;
}

int msc_nft_element_order(const GPtrArray *a, const GPtrArray *b)
{
    return by_key(&a, &b);
}

void msc_nft_set_sort(MscNftSet *set)
{
    g_ptr_array_sort(set->elements, by_key);
}

bool msc_nft_set_has_doubles(const MscNftSet *set)
{
    for (guint i = 1; i < set->elements->len; i++) {
        if (!by_key(&set->elements->pdata[i - 1], &set->elements->pdata[i])) {
            return true;
        }
    }
    return false;
}

/* ---- comparing ---- */

static bool lists_hold(const GPtrArray *is, const GPtrArray *wanted)
{
    if (is->len != wanted->len) {
        return false;
    }
    for (guint i = 0; i < is->len; i++) {
        if (!msc_nft_attrs_hold(is->pdata[i], wanted->pdata[i])) {
            return false;
        }
    }
    return true;
}

static bool sets_hold(const MscNftTable *is, const MscNftTable *wanted)
{
    /* Packets fill the one, time empties the other. */
    const uint32_t moving = NFT_SET_EVAL | NFT_SET_TIMEOUT;

    if (is->sets->len != wanted->sets->len) {
        return false;
    }
    for (guint i = 0; i < wanted->sets->len; i++) {
        const MscNftSet *set = wanted->sets->pdata[i];
        const MscNftSet *there =
            msc_nft_table_set(is, msc_nft_text(set->attrs, NFTA_SET_NAME));

        if (!there || !msc_nft_attrs_hold(there->attrs, set->attrs) ||
            (!(msc_nft_u32(set->attrs, NFTA_SET_FLAGS) & moving) &&
             !lists_hold(there->elements, set->elements))) {
            return false;
        }
    }
    return true;
}

bool msc_nft_table_holds(const MscNftTable *is, const MscNftTable *wanted,
                         const char **what)
{
    *what = !msc_nft_attrs_hold(is->attrs, wanted->attrs) ? "flags or comment"
            : !lists_hold(is->chains, wanted->chains)     ? "chains"
            : !lists_hold(is->objects, wanted->objects)   ? "stateful objects"
            : !sets_hold(is, wanted)                      ? "sets"
            : !lists_hold(is->rules, wanted->rules)       ? "rules"
                                                          : NULL;
    return !*what;
}
