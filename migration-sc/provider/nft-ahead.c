/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-ahead.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-registers.h"

#define WHAT "nft batch"
/* Where a payload has its flags, of which 2 is none. */
#define KIND 2
/* nft's number of the type "mark". */
#define TYPE_MARK 19

MscNftAhead *msc_nft_ahead_new(void)
{
    MscNftAhead *a = g_new0(MscNftAhead, 1);

    a->gone = msc_nft_payload_new();
    a->comes = msc_nft_payload_new();
    return a;
}

void msc_nft_ahead_free(MscNftAhead *a)
{
    if (a) {
        msc_nft_payload_free(a->gone);
        msc_nft_payload_free(a->comes);
        g_free(a);
    }
}

GBytes *msc_nft_ahead_encode(const MscNftAhead *a)
{
    g_autoptr(GBytes) gone = msc_nft_payload_encode(a->gone);
    g_autoptr(GBytes) comes = msc_nft_payload_encode(a->comes);
    GByteArray *out = g_byte_array_new();

    msc_put_u8(out, KIND);
    msc_put_u8(out, a->flags);
    msc_put_bytes(out, a->nonce, sizeof(a->nonce));
    msc_put_bytes(out, a->before, sizeof(a->before));
    msc_put_u32(out, a->age_ms);
    msc_put_u32(out, (uint32_t)g_bytes_get_size(gone));
    msc_put_bytes(out, g_bytes_get_data(gone, NULL), g_bytes_get_size(gone));
    msc_put_bytes(out, g_bytes_get_data(comes, NULL), g_bytes_get_size(comes));
    return g_byte_array_free_to_bytes(out);
}

static bool are_flags(uint8_t flags)
{
    return flags == MSC_NFT_ENDS ||
           !(flags & ~(MSC_NFT_BEGINS | MSC_NFT_COMPLETE));
}

/* Of what goes, and of what comes before the end: sets and their elements. */
static bool is_bare(const MscNftPayload *p)
{
    for (guint i = 0; i < p->tables->len; i++) {
        const MscNftTable *t = p->tables->pdata[i];

        if (t->chains->len || t->objects->len || t->rules->len) {
            return false;
        }
    }
    return !p->roles->len && !p->local;
}

static bool get_payload(MscReader *r, size_t len, MscNftPayload **out,
                        GError **errp)
{
    g_autoptr(GBytes) bytes = NULL;
    const uint8_t *p;

    if (!msc_reader_view(r, &p, len)) {
        return msc_reader_error(r, errp, WHAT, "cut off");
    }
    bytes = g_bytes_new_static(p, len);
    *out = msc_nft_payload_decode(bytes, errp);
    return *out;
}

MscNftAhead *msc_nft_ahead_decode(GBytes *bytes, GError **errp)
{
    g_autoptr(MscNftAhead) a = g_new0(MscNftAhead, 1);
    const uint8_t *nonce, *before;
    uint8_t kind;
    uint32_t len;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    if (!msc_reader_u8(&r, &kind) || kind != KIND ||
        !msc_reader_u8(&r, &a->flags) || !are_flags(a->flags) ||
        !msc_reader_view(&r, &nonce, sizeof(a->nonce)) ||
        !msc_reader_view(&r, &before, sizeof(a->before)) ||
        !msc_reader_u32(&r, &a->age_ms) || !msc_reader_u32(&r, &len)) {
        msc_reader_error(&r, errp, WHAT, "bad beginning");
        return NULL;
    }
    memcpy(a->nonce, nonce, sizeof(a->nonce));
    memcpy(a->before, before, sizeof(a->before));
    if (!get_payload(&r, len, &a->gone, errp) ||
        !get_payload(&r, msc_reader_left(&r), &a->comes, errp)) {
        return NULL;
    }
    if (!is_bare(a->gone) ||
        (!(a->flags & MSC_NFT_ENDS) && !is_bare(a->comes)) ||
        ((a->flags & MSC_NFT_BEGINS) && a->gone->tables->len)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "%s: more in it than sets and their elements", WHAT);
        return NULL;
    }
    return g_steal_pointer(&a);
}

void msc_nft_ahead_digest(GBytes *bytes, uint8_t digest[MSC_NFT_DIGEST_LEN])
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize len = MSC_NFT_DIGEST_LEN;

    g_checksum_update(sum, g_bytes_get_data(bytes, NULL),
                      (gssize)g_bytes_get_size(bytes));
    g_checksum_get_digest(sum, digest, &len);
    g_checksum_free(sum);
}

bool msc_nft_ahead_is(GBytes *bytes)
{
    gsize len;
    const uint8_t *data = g_bytes_get_data(bytes, &len);

    return len && data[0] == KIND;
}

MscNftPayload *msc_nft_ahead_rest(GBytes *bytes, GError **errp)
{
    g_autoptr(MscNftAhead) a = msc_nft_ahead_decode(bytes, errp);

    return a ? g_steal_pointer(&a->comes) : NULL;
}

/* ---- what goes ahead ---- */

static bool names_interfaces(const MscNftSet *set, bool values)
{
    MscNftField fields[MSC_NFT_SLOTS];
    guint n;

    if (!msc_nft_set_fields(set, values, fields, &n)) {
        return true;
    }
    for (guint i = 0; i < n; i++) {
        if (fields[i].kind != MSC_NFT_REG_OTHER) {
            return true;
        }
    }
    return false;
}

bool msc_nft_set_is_static(const MscNftSet *set)
{
    const uint32_t fine = NFT_SET_CONSTANT | NFT_SET_INTERVAL | NFT_SET_MAP |
                          NFT_SET_TIMEOUT | NFT_SET_CONCAT;

    return !(msc_nft_u32(set->attrs, NFTA_SET_FLAGS) & ~fine) &&
           !msc_nft_find(set->attrs, NFTA_SET_EXPR) &&
           !msc_nft_find(set->attrs, NFTA_SET_EXPRESSIONS) &&
           !msc_nft_find(set->attrs, NFTA_SET_OBJ_TYPE) &&
           msc_nft_u32(set->attrs, NFTA_SET_DATA_TYPE) !=
               (uint32_t)NFT_DATA_VERDICT &&
           !names_interfaces(set, false) && !names_interfaces(set, true);
}

bool msc_nft_element_is_static(const GPtrArray *element)
{
    const GPtrArray *data = msc_nft_nested(element, NFTA_SET_ELEM_DATA);

    return !msc_nft_find(element, NFTA_SET_ELEM_EXPR) &&
           !msc_nft_find(element, NFTA_SET_ELEM_EXPRESSIONS) &&
           !msc_nft_find(element, NFTA_SET_ELEM_OBJREF) &&
           !(data && msc_nft_find(data, NFTA_DATA_VERDICT));
}

/* Packets add to what a rule names, whatever flags it has. */
static bool rule_adds_to(const GPtrArray *rule, const char *set)
{
    const GPtrArray *exprs = msc_nft_nested(rule, NFTA_RULE_EXPRESSIONS);

    for (guint i = 0; exprs && i < exprs->len; i++) {
        const MscNftAttr *expr = exprs->pdata[i];
        const GPtrArray *data = msc_nft_nested(expr->nest, NFTA_EXPR_DATA);

        if (data &&
            !strcmp(msc_nft_text(expr->nest, NFTA_EXPR_NAME), "dynset") &&
            !strcmp(msc_nft_text(data, NFTA_DYNSET_SET_NAME), set)) {
            return true;
        }
    }
    return false;
}

bool msc_nft_set_goes_ahead(const MscNftTable *t, const MscNftSet *set)
{
    const char *name = msc_nft_text(set->attrs, NFTA_SET_NAME);

    if (!msc_nft_set_is_static(set)) {
        return false;
    }
    for (guint i = 0; i < set->elements->len; i++) {
        if (!msc_nft_element_is_static(set->elements->pdata[i])) {
            return false;
        }
    }
    for (guint i = 0; i < t->rules->len; i++) {
        if (rule_adds_to(t->rules->pdata[i], name)) {
            return false;
        }
    }
    return true;
}

bool msc_nft_attrs_same(const GPtrArray *a, const GPtrArray *b)
{
    return msc_nft_attrs_hold(a, b) && msc_nft_attrs_hold(b, a);
}

/* ---- the marker ---- */

static GPtrArray *parse(GByteArray *attrs, const MscNftSchema *schema)
{
    GPtrArray *tree =
        msc_nft_attrs_parse(attrs->data, attrs->len, schema, false, NULL);

    g_assert(tree);
    g_byte_array_set_size(attrs, 0);
    return tree;
}

MscNftSet *msc_nft_marker_new(const uint8_t nonce[MSC_NFT_NONCE_LEN])
{
    const uint32_t type = GUINT32_TO_BE(TYPE_MARK), len = GUINT32_TO_BE(4);
    const uint32_t zero = 0;
    g_autoptr(GString) name = g_string_new("migration-sc-");
    g_autoptr(GByteArray) attrs = g_byte_array_new();
    MscNftSet *set;
    guint key;

    for (guint i = 0; i < MSC_NFT_NONCE_LEN; i++) {
        g_string_append_printf(name, "%02x", nonce[i]);
    }
    msc_nft_put_text(attrs, NFTA_SET_NAME, name->str);
    msc_nft_put(attrs, NFTA_SET_KEY_TYPE, &type, sizeof(type));
    msc_nft_put(attrs, NFTA_SET_KEY_LEN, &len, sizeof(len));
    set = msc_nft_set_new(parse(attrs, &msc_nft_set_schema));
    key = msc_nft_nest_begin(attrs, NFTA_SET_ELEM_KEY);
    msc_nft_put(attrs, NFTA_DATA_VALUE, &zero, sizeof(zero));
    msc_nft_nest_end(attrs, key);
    g_ptr_array_add(set->elements, parse(attrs, &msc_nft_element_schema));
    return set;
}
