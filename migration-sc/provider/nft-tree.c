/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-tree.h"

#include <netinet/in.h> /* before the kernel's own */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-tree-private.h"
#include "selector.h"

static void attr_free(MscNftAttr *attr)
{
    if (attr->nest) {
        g_ptr_array_unref(attr->nest);
    }
    if (attr->data != (uint8_t *)(attr + 1)) {
        g_free(attr->data);
    }
    g_free(attr);
}

GPtrArray *msc_nft_attrs_new(void)
{
    return g_ptr_array_new_full(2, (GDestroyNotify)attr_free);
}

bool msc_nft_is_text(const MscNftSpec *spec)
{
    return spec->kind == MSC_NFT_NAME || spec->kind == MSC_NFT_TEXT ||
           spec->kind == MSC_NFT_DEVICE;
}

bool msc_nft_is_nest(const MscNftSpec *spec)
{
    return spec->kind == MSC_NFT_NEST || spec->kind == MSC_NFT_EXPR_DATA ||
           spec->kind == MSC_NFT_OBJ_DATA;
}

bool msc_nft_malformed(const MscNftSchema *schema, uint16_t type,
                       const char *why, GError **errp)
{
    const MscNftSpec *spec = msc_nft_spec_find(schema, type);

    g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                "nft %s: attribute %u%s%s%s: %s", schema->name, type,
                spec ? " (" : "", spec ? spec->name : "", spec ? ")" : "", why);
    return false;
}

/* nft has no way to write a quote inside quotes. */
static bool text_is_safe(const char *text, size_t len)
{
    for (const char *p = text; p < text + len; p++) {
        if ((uint8_t)*p < ' ' || *p == '"' || *p == 127) {
            return false;
        }
    }
    return g_utf8_validate(text, (gssize)len, NULL);
}

/* nft's TLVs, of u8 type, u8 length; its comments it prints inside quotes. */
static bool udata_is_safe(const uint8_t *data, size_t len, uint8_t comment)
{
    while (len >= 2 && len - 2 >= data[1]) {
        if (data[0] == comment &&
            (!data[1] || data[1 + data[1]] ||
             !text_is_safe((const char *)data + 2, data[1] - 1u))) {
            return false;
        }
        len -= 2u + data[1];
        data += 2u + data[1];
    }
    return !len;
}

static bool verdict_is_known(const uint8_t *data)
{
    int32_t code;

    memcpy(&code, data, sizeof(code));
    code = (int32_t)GUINT32_FROM_BE((uint32_t)code);
    return code == NF_ACCEPT || code == NF_DROP ||
           (code <= NFT_CONTINUE && code >= NFT_RETURN);
}

bool msc_nft_value_is_good(const MscNftSpec *spec, const uint8_t *data,
                           size_t len)
{
    const char *text = (const char *)data;

    switch ((MscNftKind)spec->kind) {
    case MSC_NFT_U8:
        return len == 1;
    case MSC_NFT_U16:
        return len == 2;
    case MSC_NFT_U32:
        return len == 4;
    case MSC_NFT_U64:
        return len == 8;
    case MSC_NFT_VERDICT:
        return len == 4 && verdict_is_known(data);
    case MSC_NFT_NAME:
        return len <= spec->max && msc_nft_name_is_safe(text, len);
    case MSC_NFT_TEXT:
        return len <= spec->max && text_is_safe(text, len);
    case MSC_NFT_DEVICE:
        return msc_device_is_safe(text, len);
    case MSC_NFT_BYTES:
        return len && len <= spec->max;
    case MSC_NFT_UDATA:
        return len && len <= spec->max &&
               udata_is_safe(data, len, spec->flags & MSC_NFT_COMMENT ? 7 : 0);
    default:
        return false;
    }
}

MscNftAttr *msc_nft_value_new(const MscNftSpec *spec, const uint8_t *data,
                              size_t len)
{
    /* A set has many elements of several values each: one piece of memory. */
    MscNftAttr *attr = g_malloc(sizeof(*attr) + len + 1);

    attr->spec = spec;
    attr->nest = NULL;
    attr->len = (uint16_t)len;
    attr->data = (uint8_t *)(attr + 1);
    memcpy(attr->data, data, len);
    attr->data[len] = '\0';
    return attr;
}

const MscNftSchema *msc_nft_nest_schema(const MscNftSpec *spec,
                                        const GPtrArray *before, GError **errp)
{
    const MscNftSchema *nest = spec->nest;
    const char *name;

    if (spec->kind == MSC_NFT_EXPR_DATA) {
        name = msc_nft_text(before, NFTA_EXPR_NAME);
        nest = name ? msc_nft_expr_schema(name) : NULL;
        if (!nest) {
            g_set_error(
                errp, MSC_ERROR, MSC_ERROR_REFUSED,
                "nft: an expression '%s' cannot be moved%s", name ? name : "",
                name && (!strcmp(name, "match") || !strcmp(name, "target"))
                    ? " (the rule was made by iptables-nft: write it "
                      "with nft)"
                    : "");
        }
    } else if (spec->kind == MSC_NFT_OBJ_DATA) {
        nest = msc_nft_object_data_schema(msc_nft_u32(before, NFTA_OBJ_TYPE));
        if (!nest) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                        "nft: a stateful object of type %u cannot be moved",
                        msc_nft_u32(before, NFTA_OBJ_TYPE));
        }
    }
    return nest;
}

bool msc_nft_has_required(const GPtrArray *attrs, const MscNftSchema *schema,
                          GError **errp)
{
    for (uint16_t i = 0; i < schema->n; i++) {
        const MscNftSpec *spec = &schema->specs[i];

        if ((spec->flags & MSC_NFT_REQUIRED) &&
            !msc_nft_find(attrs, spec->type)) {
            return msc_nft_malformed(schema, spec->type, "missing", errp);
        }
    }
    return true;
}

/* ---- wire ---- */

static GPtrArray *read_level(MscReader *r, const MscNftSchema *schema,
                             unsigned depth, GError **errp)
{
    g_autoptr(GPtrArray) attrs = msc_nft_attrs_new();
    uint16_t last = 0;

    while (msc_reader_left(r)) {
        const MscNftSchema *nest;
        const MscNftSpec *spec;
        MscNftAttr *attr;
        const uint8_t *p;
        uint16_t type, len;

        if (!msc_reader_u16(r, &type) || !msc_reader_u16(r, &len) ||
            !msc_reader_view(r, &p, len)) {
            msc_nft_malformed(schema, last, "cut off after it", errp);
            return NULL;
        }
        spec = msc_nft_spec_find(schema, type);
        if (!spec || (spec->flags & MSC_NFT_LOCAL)) {
            msc_nft_malformed(schema, type, "not known", errp);
            return NULL;
        }
        if (type < last || (type == last && !schema->list)) {
            msc_nft_malformed(schema, type, "out of order", errp);
            return NULL;
        }
        last = type;
        if (!msc_nft_is_nest(spec)) {
            if (!msc_nft_value_is_good(spec, p, len)) {
                msc_nft_malformed(schema, type, "bad value", errp);
                return NULL;
            }
            g_ptr_array_add(attrs, msc_nft_value_new(spec, p, len));
            continue;
        }
        if (depth == MSC_NFT_DEPTH_MAX || len > MSC_NFT_NEST_MAX) {
            msc_nft_malformed(schema, type, "too much in it", errp);
            return NULL;
        }
        nest = msc_nft_nest_schema(spec, attrs, errp);
        if (!nest) {
            return NULL;
        }
        attr = g_new0(MscNftAttr, 1);
        attr->spec = spec;
        g_ptr_array_add(attrs, attr);
        {
            MscReader sub;

            msc_reader_init(&sub, p, len);
            attr->nest = read_level(&sub, nest, depth + 1, errp);
        }
        if (!attr->nest) {
            return NULL;
        }
    }
    return msc_nft_has_required(attrs, schema, errp) ? g_steal_pointer(&attrs)
                                                     : NULL;
}

GPtrArray *msc_nft_attrs_read(MscReader *r, const MscNftSchema *schema,
                              const char *what, GError **errp)
{
    GPtrArray *attrs = read_level(r, schema, 0, errp);

    if (!attrs) {
        g_prefix_error(errp, "%s: ", what);
    }
    return attrs;
}

void msc_nft_attrs_write(const GPtrArray *attrs, GByteArray *out)
{
    for (guint i = 0; i < attrs->len; i++) {
        const MscNftAttr *attr = attrs->pdata[i];
        guint at;

        msc_put_u16(out, attr->spec->type);
        at = out->len;
        msc_put_u16(out, attr->len);
        if (attr->nest) {
            msc_nft_attrs_write(attr->nest, out);
            g_assert(out->len - at - 2 <= UINT16_MAX);
            out->data[at] = (uint8_t)((out->len - at - 2) >> 8);
            out->data[at + 1] = (uint8_t)(out->len - at - 2);
        } else {
            msc_put_bytes(out, attr->data, attr->len);
        }
    }
}

/* ---- access ---- */

MscNftAttr *msc_nft_find(const GPtrArray *attrs, uint16_t type)
{
    for (guint i = 0; i < attrs->len; i++) {
        MscNftAttr *attr = attrs->pdata[i];

        if (attr->spec->type == type) {
            return attr;
        }
    }
    return NULL;
}

uint32_t msc_nft_u32(const GPtrArray *attrs, uint16_t type)
{
    return (uint32_t)msc_nft_u64(attrs, type);
}

uint64_t msc_nft_u64(const GPtrArray *attrs, uint16_t type)
{
    const MscNftAttr *attr = msc_nft_find(attrs, type);
    uint64_t v = 0;

    for (uint16_t i = 0; attr && !attr->nest && i < attr->len; i++) {
        v = v << 8 | attr->data[i];
    }
    return v;
}

const char *msc_nft_text(const GPtrArray *attrs, uint16_t type)
{
    const MscNftAttr *attr = msc_nft_find(attrs, type);

    return attr && !attr->nest ? (const char *)attr->data : NULL;
}

GPtrArray *msc_nft_nested(const GPtrArray *attrs, uint16_t type)
{
    const MscNftAttr *attr = msc_nft_find(attrs, type);

    return attr ? attr->nest : NULL;
}

void msc_nft_set_u32(MscNftAttr *attr, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    memcpy(attr->data, &v, sizeof(v));
}

void msc_nft_set_u64(MscNftAttr *attr, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    memcpy(attr->data, &v, sizeof(v));
}

void msc_nft_set_text(MscNftAttr *attr, const char *text)
{
    if (attr->data != (uint8_t *)(attr + 1)) {
        g_free(attr->data);
    }
    attr->data = (uint8_t *)g_strdup(text);
    attr->len = (uint16_t)strlen(text);
}

static bool list_holds(const GPtrArray *is, const GPtrArray *wanted);

static bool attr_holds(const MscNftAttr *is, const MscNftAttr *wanted)
{
    if (wanted->nest) {
        return wanted->spec->nest && wanted->spec->nest->list
                   ? list_holds(is->nest, wanted->nest)
                   : msc_nft_attrs_hold(is->nest, wanted->nest);
    }
    return (wanted->spec->flags & MSC_NFT_STATE) ||
           (is->len == wanted->len && !memcmp(is->data, wanted->data, is->len));
}

static bool list_holds(const GPtrArray *is, const GPtrArray *wanted)
{
    if (is->len != wanted->len) {
        return false;
    }
    for (guint i = 0; i < wanted->len; i++) {
        if (!attr_holds(is->pdata[i], wanted->pdata[i])) {
            return false;
        }
    }
    return true;
}

bool msc_nft_attrs_hold(const GPtrArray *is, const GPtrArray *wanted)
{
    for (guint i = 0; i < wanted->len; i++) {
        const MscNftAttr *want = wanted->pdata[i];
        const MscNftAttr *have = msc_nft_find(is, want->spec->type);

        if ((!have || !attr_holds(have, want)) &&
            !(want->spec->flags & MSC_NFT_STATE)) {
            return false;
        }
    }
    return true;
}
