/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-print.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
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

/* "key" of META_KEY. */
static void put_name(const MscNftSpec *spec, GString *out)
{
    const char *name = strchr(spec->name, '_');
    g_autofree char *lower = g_ascii_strdown(name ? name + 1 : spec->name, -1);

    g_string_append_printf(out, "%s=", lower);
}

static const char *verdict_name(int32_t code)
{
    switch (code) {
    case NF_DROP:
        return "drop";
    case NF_ACCEPT:
        return "accept";
    case NFT_BREAK:
        return "break";
    case NFT_JUMP:
        return "jump";
    case NFT_GOTO:
        return "goto";
    case NFT_RETURN:
        return "return";
    default:
        return "continue";
    }
}

/* A role takes the place of an interface's name, padded with zeros. */
static bool is_name(const MscNftAttr *attr)
{
    const char *text = (const char *)attr->data;
    size_t len = strlen(text);

    for (size_t i = len; i < attr->len; i++) {
        if (text[i]) {
            return false;
        }
    }
    return attr->len == IFNAMSIZ && msc_device_is_safe(text, len);
}

static void put_bytes(const MscNftAttr *attr, GString *out)
{
    if (is_name(attr)) {
        g_string_append_printf(out, "\"%s\"", (const char *)attr->data);
        return;
    }
    g_string_append(out, "0x");
    for (uint16_t i = 0; i < attr->len; i++) {
        g_string_append_printf(out, "%02x", attr->data[i]);
    }
}

/* Of the numbers, priorities alone can be below 0. */
static void put_number(const GPtrArray *attrs, const MscNftSpec *spec,
                       GString *out)
{
    if (!strcmp(spec->name, "HOOK_PRIORITY")) {
        g_string_append_printf(out, "%d",
                               (int32_t)msc_nft_u32(attrs, spec->type));
    } else {
        g_string_append_printf(out, "%" G_GUINT64_FORMAT,
                               msc_nft_u64(attrs, spec->type));
    }
}

/* A tree in the kernel's own words: the names of its attributes. */
static void describe(const GPtrArray *attrs, GString *out)
{
    for (guint i = 0; i < attrs->len; i++) {
        const MscNftAttr *attr = attrs->pdata[i];

        g_string_append(out, i ? " " : "");
        put_name(attr->spec, out);
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
            g_string_append(out,
                            verdict_name(
                                (int32_t)msc_nft_u32(attrs, attr->spec->type)));
            break;
        case MSC_NFT_BYTES:
        case MSC_NFT_UDATA:
            put_bytes(attr, out);
            break;
        default:
            put_number(attrs, attr->spec, out);
        }
    }
}

static char *text_of(const GPtrArray *attrs)
{
    GString *out = g_string_new(NULL);

    describe(attrs, out);
    return g_string_free(out, FALSE);
}

static void print_list(const Out *out, const char *kind, const GPtrArray *list)
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
