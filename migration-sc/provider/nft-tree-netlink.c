/*
 * Trees from and to netlink.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <string.h>

#include "error.h"
#include "nft-tree-private.h"

static bool is_sorted(const GPtrArray *attrs)
{
    for (guint i = 1; i < attrs->len; i++) {
        const MscNftAttr *a = attrs->pdata[i - 1], *b = attrs->pdata[i];

        if (a->spec->type > b->spec->type) {
            return false;
        }
    }
    return true;
}

static gint by_type(gconstpointer a, gconstpointer b)
{
    const MscNftAttr *const *x = a, *const *y = b;

    return (gint)(*x)->spec->type - (gint)(*y)->spec->type;
}

static GPtrArray *parse_level(const uint8_t *p, size_t len,
                              const MscNftSchema *schema, bool lenient,
                              unsigned depth, GError **errp);

static void drop(GPtrArray *attrs, uint16_t type)
{
    for (guint i = 0; i < attrs->len; i++) {
        if (((MscNftAttr *)attrs->pdata[i])->spec->type == type) {
            g_ptr_array_remove_index(attrs, i);
            return;
        }
    }
}

/* What the kernel shows but does not take. */
static void tidy(GPtrArray *attrs, const MscNftSchema *schema)
{
    MscNftAttr *flags;

    if (!strcmp(schema->name, "quota")) {
        /* That it is used up; what was consumed says the same. */
        flags = msc_nft_find(attrs, NFTA_QUOTA_FLAGS);
        if (flags) {
            msc_nft_set_u32(flags, msc_nft_u32(attrs, NFTA_QUOTA_FLAGS) &
                                       (uint32_t)~NFT_QUOTA_F_DEPLETED);
        }
    } else if (!strcmp(schema->name, "exthdr") &&
               !msc_nft_find(attrs, NFTA_EXTHDR_DREG)) {
        drop(attrs, NFTA_EXTHDR_FLAGS);
        if (!msc_nft_find(attrs, NFTA_EXTHDR_SREG)) {
            drop(attrs, NFTA_EXTHDR_OFFSET);
            drop(attrs, NFTA_EXTHDR_LEN);
        }
    } else if (!strcmp(schema->name, "dynset") &&
               !msc_nft_u64(attrs, NFTA_DYNSET_TIMEOUT)) {
        drop(attrs, NFTA_DYNSET_TIMEOUT); /* shown even if it has none */
    } else if (!strcmp(schema->name, "osf") &&
               !msc_nft_u32(attrs, NFTA_OSF_FLAGS)) {
        drop(attrs, NFTA_OSF_FLAGS);
    }
}

/* NULL without an error: nothing to keep. */
static MscNftAttr *parse_attr(const struct nlattr *nla,
                              const MscNftSchema *schema, GPtrArray *before,
                              bool lenient, unsigned depth, GError **errp)
{
    uint16_t type = nla->nla_type & NLA_TYPE_MASK;
    const MscNftSpec *spec = msc_nft_spec_find(schema, type);
    const uint8_t *p = (const uint8_t *)nla + NLA_HDRLEN;
    size_t len = nla->nla_len - NLA_HDRLEN;
    const MscNftSchema *nest;
    MscNftAttr *attr;
    GPtrArray *inner;

    if (!spec) {
        if (!lenient) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                        "nft %s: this kernel has an attribute %u there, "
                        "which this program cannot move",
                        schema->name, type);
        }
        return NULL;
    }
    if (spec->flags & MSC_NFT_LOCAL) {
        return NULL;
    }
    if (!msc_nft_is_nest(spec)) {
        if (msc_nft_is_text(spec)) {
            len = strnlen((const char *)p, len);
        }
        if (!msc_nft_value_is_good(spec, p, len)) {
            if (msc_nft_is_text(spec)) {
                g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                            "nft %s: a name or text that cannot be moved: it "
                            "has characters that nft has no way to write",
                            schema->name);
            } else {
                msc_nft_malformed(schema, type, "bad value", errp);
            }
            return NULL;
        }
        return msc_nft_value_new(spec, p, len);
    }
    if (depth == MSC_NFT_DEPTH_MAX || len > MSC_NFT_NEST_MAX) {
        msc_nft_malformed(schema, type, "too much in it", errp);
        return NULL;
    }
    nest = msc_nft_nest_schema(spec, before, errp);
    inner = nest ? parse_level(p, len, nest, lenient, depth + 1, errp) : NULL;
    if (!inner) {
        return NULL;
    }
    attr = g_new0(MscNftAttr, 1);
    attr->spec = spec;
    attr->nest = inner;
    return attr;
}

static GPtrArray *parse_level(const uint8_t *p, size_t len,
                              const MscNftSchema *schema, bool lenient,
                              unsigned depth, GError **errp)
{
    g_autoptr(GPtrArray) attrs = msc_nft_attrs_new();

    while (len >= NLA_HDRLEN) {
        const struct nlattr *nla = (const void *)p;
        g_autoptr(GError) err = NULL;
        MscNftAttr *attr;
        size_t step;

        if (nla->nla_len < NLA_HDRLEN || nla->nla_len > len) {
            break;
        }
        attr = parse_attr(nla, schema, attrs, lenient, depth, &err);
        if (err) {
            g_propagate_error(errp, g_steal_pointer(&err));
            return NULL;
        }
        if (attr) {
            g_ptr_array_add(attrs, attr);
        }
        step = NLA_ALIGN(nla->nla_len);
        len -= MIN(step, len);
        p += step;
    }
    if (len) {
        msc_nft_malformed(schema, 0, "netlink message cut off", errp);
        return NULL;
    }
    if (!is_sorted(attrs)) {
        g_ptr_array_sort(attrs, by_type);
    }
    tidy(attrs, schema);
    return msc_nft_has_required(attrs, schema, errp) ? g_steal_pointer(&attrs)
                                                     : NULL;
}

GPtrArray *msc_nft_attrs_parse(const void *data, size_t len,
                               const MscNftSchema *schema, bool lenient,
                               GError **errp)
{
    return parse_level(data, len, schema, lenient, 0, errp);
}

void msc_nft_put(GByteArray *out, uint16_t type, const void *data, size_t len)
{
    static const uint8_t zero[NLA_ALIGNTO];
    struct nlattr nla = { (uint16_t)(NLA_HDRLEN + len), type };

    msc_put_bytes(out, &nla, sizeof(nla));
    msc_put_bytes(out, data, len);
    msc_put_bytes(out, zero, NLA_ALIGN(len) - len);
}

void msc_nft_put_text(GByteArray *out, uint16_t type, const char *text)
{
    msc_nft_put(out, type, text, strlen(text) + 1);
}

guint msc_nft_nest_begin(GByteArray *out, uint16_t type)
{
    guint begin = out->len;

    msc_nft_put(out, type | NLA_F_NESTED, NULL, 0);
    return begin;
}

void msc_nft_nest_end(GByteArray *out, guint begin)
{
    uint16_t len = (uint16_t)(out->len - begin);

    g_assert(out->len - begin <= UINT16_MAX);
    memcpy(out->data + begin, &len, sizeof(len));
}

void msc_nft_attrs_put(const GPtrArray *attrs, GByteArray *out)
{
    for (guint i = 0; i < attrs->len; i++) {
        const MscNftAttr *attr = attrs->pdata[i];

        if (attr->nest) {
            guint begin = msc_nft_nest_begin(out, attr->spec->type);

            msc_nft_attrs_put(attr->nest, out);
            msc_nft_nest_end(out, begin);
        } else {
            msc_nft_put(out, attr->spec->type, attr->data,
                        attr->len + (msc_nft_is_text(attr->spec) ? 1u : 0u));
        }
    }
}
