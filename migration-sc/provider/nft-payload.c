/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-payload.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-names.h"

#define WHAT "nft payload"
#define LOCAL 1
#define ORDER (G_BYTE_ORDER == G_LITTLE_ENDIAN ? 1 : 2)

void msc_nft_set_free(MscNftSet *set)
{
    g_ptr_array_unref(set->attrs);
    g_ptr_array_unref(set->elements);
    g_free(set);
}

static GPtrArray *objects_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
}

MscNftSet *msc_nft_set_new(GPtrArray *attrs)
{
    MscNftSet *set = g_new0(MscNftSet, 1);

    set->attrs = attrs;
    set->elements = objects_new();
    return set;
}

MscNftTable *msc_nft_table_new(uint8_t family, const char *name)
{
    MscNftTable *t = g_new0(MscNftTable, 1);

    t->family = family;
    t->name = g_strdup(name);
    t->attrs = msc_nft_attrs_new();
    t->chains = objects_new();
    t->objects = objects_new();
    t->sets = g_ptr_array_new_with_free_func((GDestroyNotify)msc_nft_set_free);
    t->rules = objects_new();
    t->set_index = g_hash_table_new(g_str_hash, g_str_equal);
    t->chain_index = g_hash_table_new(g_str_hash, g_str_equal);
    return t;
}

void msc_nft_table_free(MscNftTable *t)
{
    if (t) {
        g_hash_table_unref(t->set_index);
        g_hash_table_unref(t->chain_index);
        g_free(t->name);
        g_ptr_array_unref(t->attrs);
        g_ptr_array_unref(t->chains);
        g_ptr_array_unref(t->objects);
        g_ptr_array_unref(t->sets);
        g_ptr_array_unref(t->rules);
        g_free(t);
    }
}

MscNftPayload *msc_nft_payload_new(void)
{
    MscNftPayload *p = g_new0(MscNftPayload, 1);

    p->roles = g_ptr_array_new_with_free_func(g_free);
    p->tables =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_nft_table_free);
    return p;
}

void msc_nft_payload_free(MscNftPayload *p)
{
    if (p) {
        g_ptr_array_unref(p->roles);
        g_ptr_array_unref(p->tables);
        g_free(p);
    }
}

/* ---- encode ---- */

static void put_attrs(GByteArray *out, const GPtrArray *attrs)
{
    guint at = out->len;
    uint32_t len;

    msc_put_u32(out, 0);
    msc_nft_attrs_write(attrs, out);
    len = GUINT32_TO_BE(out->len - at - 4);
    memcpy(out->data + at, &len, sizeof(len));
}

static void put_list(GByteArray *out, const GPtrArray *list)
{
    msc_put_u32(out, list->len);
    for (guint i = 0; i < list->len; i++) {
        put_attrs(out, list->pdata[i]);
    }
}

static void put_table(GByteArray *out, const MscNftTable *t)
{
    msc_put_u8(out, t->family);
    msc_put_string(out, t->name);
    msc_put_u64(out, t->handle);
    put_attrs(out, t->attrs);
    put_list(out, t->chains);
    put_list(out, t->objects);
    msc_put_u32(out, t->sets->len);
    for (guint i = 0; i < t->sets->len; i++) {
        const MscNftSet *set = t->sets->pdata[i];

        put_attrs(out, set->attrs);
        put_list(out, set->elements);
    }
    put_list(out, t->rules);
}

GBytes *msc_nft_payload_encode(const MscNftPayload *p)
{
    GByteArray *out = g_byte_array_new();

    msc_put_u8(out, p->local ? LOCAL : 0);
    msc_put_u8(out, ORDER);
    msc_put_u16(out, (uint16_t)p->roles->len);
    for (guint i = 0; i < p->roles->len; i++) {
        msc_put_string(out, p->roles->pdata[i]);
    }
    msc_put_u16(out, (uint16_t)p->tables->len);
    for (guint i = 0; i < p->tables->len; i++) {
        put_table(out, p->tables->pdata[i]);
    }
    return g_byte_array_free_to_bytes(out);
}

/* ---- decode ---- */

static bool bad(const MscReader *r, GError **errp, const char *why)
{
    return msc_reader_error(r, errp, WHAT, why);
}

static GPtrArray *get_attrs(MscReader *r, const MscNftSchema *schema,
                            GError **errp)
{
    MscReader sub;
    uint32_t len;

    if (!msc_reader_u32(r, &len) || !msc_reader_sub(r, &sub, len)) {
        bad(r, errp, "cut off");
        return NULL;
    }
    return msc_nft_attrs_read(&sub, schema, WHAT, errp);
}

static bool get_list(MscReader *r, const MscNftSchema *schema, uint32_t max,
                     GPtrArray *out, GError **errp)
{
    uint32_t count;

    if (!msc_reader_u32(r, &count) || count > max) {
        return bad(r, errp, "bad count");
    }
    for (; count; count--) {
        GPtrArray *attrs = get_attrs(r, schema, errp);

        if (!attrs) {
            return false;
        }
        g_ptr_array_add(out, attrs);
        /* Nothing is nothing: bytes bound what is held in memory. */
        if (!attrs->len) {
            return bad(r, errp, "an empty object");
        }
    }
    return true;
}

static bool get_sets(MscReader *r, GPtrArray *out, GError **errp)
{
    uint32_t count;

    if (!msc_reader_u32(r, &count) || count > MSC_NFT_SETS_MAX) {
        return bad(r, errp, "bad count of sets");
    }
    for (; count; count--) {
        GPtrArray *attrs = get_attrs(r, &msc_nft_set_schema, errp);
        MscNftSet *set;

        if (!attrs) {
            return false;
        }
        set = msc_nft_set_new(attrs);
        g_ptr_array_add(out, set);
        if (!get_list(r, &msc_nft_element_schema, UINT32_MAX, set->elements,
                      errp)) {
            return false;
        }
    }
    return true;
}

static MscNftTable *get_table(MscReader *r, GError **errp)
{
    g_autofree char *name = NULL;
    g_autoptr(MscNftTable) t = NULL;
    uint8_t family;
    uint64_t handle;

    if (!msc_reader_u8(r, &family) || !msc_nft_family_name(family) ||
        !msc_reader_string(r, &name, NFT_NAME_MAXLEN - 1) ||
        !msc_nft_name_is_safe(name, strlen(name)) ||
        !msc_reader_u64(r, &handle)) {
        bad(r, errp, "not the name of a table");
        return NULL;
    }
    t = msc_nft_table_new(family, name);
    t->handle = handle;
    g_ptr_array_unref(t->attrs);
    t->attrs = get_attrs(r, &msc_nft_table_schema, errp);
    if (!t->attrs) {
        t->attrs = msc_nft_attrs_new();
        return NULL;
    }
    if (!get_list(r, &msc_nft_chain_schema, MSC_NFT_CHAINS_MAX, t->chains,
                  errp) ||
        !get_list(r, &msc_nft_object_schema, MSC_NFT_RULES_MAX, t->objects,
                  errp) ||
        !get_sets(r, t->sets, errp) ||
        !get_list(r, &msc_nft_rule_schema, MSC_NFT_RULES_MAX, t->rules, errp) ||
        !msc_nft_table_names_are_good(t, errp)) {
        return NULL;
    }
    return g_steal_pointer(&t);
}

static bool get_roles(MscReader *r, GPtrArray *roles, GError **errp)
{
    uint16_t count;

    if (!msc_reader_u16(r, &count)) {
        return bad(r, errp, "no count of interfaces");
    }
    for (; count; count--) {
        char *role;

        if (!msc_reader_string(r, &role, MSC_NFT_DEVICE_MAX)) {
            return bad(r, errp, "bad name of an interface");
        }
        g_ptr_array_add(roles, role);
        if (!*role || (roles->len > 1 &&
                       strcmp(roles->pdata[roles->len - 2], role) >= 0)) {
            return bad(r, errp, "interfaces out of order");
        }
    }
    return true;
}

MscNftPayload *msc_nft_payload_decode(GBytes *bytes, GError **errp)
{
    g_autoptr(MscNftPayload) p = msc_nft_payload_new();
    uint8_t flags, order;
    uint16_t count;
    MscReader r;

    if (g_bytes_get_size(bytes) > MSC_NFT_PAYLOAD_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    WHAT ": more than %u bytes", MSC_NFT_PAYLOAD_MAX);
        return NULL;
    }
    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    if (!msc_reader_u8(&r, &flags) || flags > LOCAL ||
        !msc_reader_u8(&r, &order)) {
        bad(&r, errp, "bad flags");
        return NULL;
    }
    if (order != ORDER) {
        /* Rules compare marks, interface numbers and the like as the CPU has
         * them. */
        bad(&r, errp, "from a machine of the other byte order, or bad");
        return NULL;
    }
    p->local = flags & LOCAL;
    if (!get_roles(&r, p->roles, errp)) {
        return NULL;
    }
    if (!msc_reader_u16(&r, &count) || count > MSC_NFT_TABLES_MAX) {
        bad(&r, errp, "bad count of tables");
        return NULL;
    }
    for (; count; count--) {
        MscNftTable *t = get_table(&r, errp);

        if (!t) {
            return NULL;
        }
        if (msc_nft_payload_find(p, t->family, t->name)) {
            msc_nft_table_free(t);
            bad(&r, errp, "a table twice");
            return NULL;
        }
        g_ptr_array_add(p->tables, t);
    }
    return msc_reader_end(&r, errp, WHAT) ? g_steal_pointer(&p) : NULL;
}
