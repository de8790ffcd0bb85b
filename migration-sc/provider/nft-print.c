/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-print.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "nft-names.h"

typedef struct {
    MscPrintLine *line;
    void *opaque;
} Out;

static void G_GNUC_PRINTF(2, 3) say(const Out *out, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    out->line(text, out->opaque);
}

/* Numbers, names and bytes of a tree, in the kernel's order. */
static void describe(const GPtrArray *attrs, GString *out)
{
    for (guint i = 0; i < attrs->len; i++) {
        const MscNftAttr *attr = attrs->pdata[i];

        g_string_append_printf(out, "%s%u=", i ? " " : "", attr->spec->type);
        switch ((MscNftKind)attr->spec->kind) {
        case MSC_NFT_NEST:
        case MSC_NFT_EXPR_DATA:
        case MSC_NFT_OBJ_DATA:
            g_string_append_c(out, '(');
            describe(attr->nest, out);
            g_string_append_c(out, ')');
            break;
        case MSC_NFT_NAME:
        case MSC_NFT_TEXT:
        case MSC_NFT_DEVICE:
            g_string_append_printf(out, "\"%s\"", (const char *)attr->data);
            break;
        case MSC_NFT_VERDICT:
            g_string_append_printf(out, "%d", (int32_t)msc_nft_u32(
                attrs, attr->spec->type));
            break;
        case MSC_NFT_BYTES:
        case MSC_NFT_UDATA:
            g_string_append(out, "0x");
            for (uint16_t k = 0; k < attr->len; k++) {
                g_string_append_printf(out, "%02x", attr->data[k]);
            }
            break;
        default:
            g_string_append_printf(out, "%" G_GUINT64_FORMAT,
                                   msc_nft_u64(attrs, attr->spec->type));
        }
    }
}

static char *text_of(const GPtrArray *attrs)
{
    GString *out = g_string_new(NULL);

    describe(attrs, out);
    return g_string_free(out, FALSE);
}

static void print_list(const Out *out, const char *kind,
                       const GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        g_autofree char *text = text_of(list->pdata[i]);

        say(out, "%s: %s", kind, text);
    }
}

static void print_rule(const Out *out, const MscNftTable *t,
                       const GPtrArray *rule)
{
    const GPtrArray *exprs = msc_nft_nested(rule, NFTA_RULE_EXPRESSIONS);
    GString *text = g_string_new(NULL);

    for (guint i = 0; exprs && i < exprs->len; i++) {
        const MscNftAttr *expr = exprs->pdata[i];
        const GPtrArray *data = msc_nft_nested(expr->nest, NFTA_EXPR_DATA);

        g_string_append_printf(text, " [%s",
                               msc_nft_text(expr->nest, NFTA_EXPR_NAME));
        if (data && data->len) {
            g_string_append_c(text, ' ');
            describe(data, text);
        }
        g_string_append_c(text, ']');
    }
    say(out, "rule %u of chain %s:%s", msc_nft_rule_number(t, rule),
        msc_nft_text(rule, NFTA_RULE_CHAIN), text->str);
    g_string_free(text, TRUE);
}

static void print_table(const Out *out, const MscNftTable *t)
{
    g_autofree char *name = msc_nft_table_text(t->family, t->name);

    say(out, "%s: %u chains, %u rules, %u sets, %u stateful objects", name,
        t->chains->len, t->rules->len, t->sets->len, t->objects->len);
    print_list(out, "chain", t->chains);
    print_list(out, "object", t->objects);
    for (guint i = 0; i < t->sets->len; i++) {
        const MscNftSet *set = t->sets->pdata[i];
        g_autofree char *text = text_of(set->attrs);

        say(out, "set: %s", text);
        print_list(out, "element", set->elements);
    }
    for (guint i = 0; i < t->rules->len; i++) {
        print_rule(out, t, t->rules->pdata[i]);
    }
}

bool msc_nft_print(GBytes *bytes, MscPrintLine *line, void *opaque,
                   GError **errp)
{
    g_autoptr(MscNftPayload) payload = msc_nft_payload_decode(bytes, errp);
    Out out = { line, opaque };

    if (!payload) {
        return false;
    }
    for (guint i = 0; i < payload->roles->len; i++) {
        say(&out, "interface %u: %s", i + 1,
            (const char *)payload->roles->pdata[i]);
    }
    for (guint i = 0; i < payload->tables->len; i++) {
        print_table(&out, payload->tables->pdata[i]);
    }
    return true;
}
