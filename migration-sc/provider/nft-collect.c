/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-collect.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-interfaces.h"
#include "nft-netlink.h"

/* A refusal must be readable. */
#define REASONS_SHOWN 16

bool msc_nft_refused(const GPtrArray *reasons, GError **errp)
{
    g_autoptr(GPtrArray) shown = g_ptr_array_new();
    g_autofree char *text = NULL;

    if (!reasons->len) {
        return false;
    }
    for (guint i = 0; i < reasons->len && i < REASONS_SHOWN; i++) {
        g_ptr_array_add(shown, reasons->pdata[i]);
    }
    if (reasons->len > REASONS_SHOWN) {
        g_ptr_array_add(shown, (char *)"and more like these");
    }
    g_ptr_array_add(shown, NULL);
    text = g_strjoinv("; ", (char **)shown->pdata);
    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED, "%s", text);
    return true;
}

guint64 msc_nft_count(const MscNftPayload *p)
{
    guint64 n = 0;

    for (guint i = 0; i < p->tables->len; i++) {
        const MscNftTable *t = p->tables->pdata[i];

        n += t->rules->len + t->objects->len;
        for (guint k = 0; k < t->sets->len; k++) {
            n += ((const MscNftSet *)t->sets->pdata[k])->elements->len;
        }
    }
    return n;
}

/* As it travels. */
static MscNftPayload *read_tables(const MscSelector *s, GError **errp)
{
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(MscNft) nft = msc_nft_open(errp);
    g_autoptr(MscNftPayload) payload =
        nft ? msc_nft_dump(nft, s->nft_tables, MSC_NFT_WHOLE, errp) : NULL;

    if (!payload) {
        return NULL;
    }
    msc_nft_to_roles(payload, s, reasons);
    return msc_nft_refused(reasons, errp) ? NULL : g_steal_pointer(&payload);
}

static GBytes *nothing(void)
{
    return g_bytes_new(NULL, 0);
}

GBytes *msc_nft_collect(const MscSelector *s, GBytes *answer,
                        MscProviderStats *stats, GError **errp)
{
    g_autoptr(MscNftPayload) payload = NULL;
    g_autoptr(GBytes) bytes = NULL;

    (void)answer;
    memset(stats, 0, sizeof(*stats));
    if (!s->nft_tables->len) {
        return nothing();
    }
    payload = read_tables(s, errp);
    if (!payload) {
        return NULL;
    }
    stats->rules = msc_nft_count(payload);
    bytes = msc_nft_payload_encode(payload);
    if (g_bytes_get_size(bytes) > MSC_NFT_PAYLOAD_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "the guest's nft tables take %zu bytes, at most %u",
                    g_bytes_get_size(bytes), MSC_NFT_PAYLOAD_MAX);
        return NULL;
    }
    return g_steal_pointer(&bytes);
}

static bool all_exist(const MscSelector *s, const MscNftPayload *payload,
                      GError **errp)
{
    for (guint i = 0; i < s->nft_tables->len; i++) {
        const MscNftTableName *table = s->nft_tables->pdata[i];
        g_autofree char *text = msc_nft_table_name_format(table);

        if (!msc_nft_payload_find(payload, table->family, table->name)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                        "table '%s', which is registered as the guest's, "
                        "does not exist: make it, or register the guest "
                        "without it",
                        text);
            return false;
        }
    }
    return true;
}

/* Those of rules' own stay: they are as short as the rule that was written. */
static void drop_named_elements(MscNftPayload *payload)
{
    for (guint i = 0; i < payload->tables->len; i++) {
        const MscNftTable *t = payload->tables->pdata[i];

        for (guint k = 0; k < t->sets->len; k++) {
            MscNftSet *set = t->sets->pdata[k];

            if (!(msc_nft_u32(set->attrs, NFTA_SET_FLAGS) &
                  NFT_SET_ANONYMOUS)) {
                g_ptr_array_set_size(set->elements, 0);
            }
        }
    }
}

static GBytes *summary_encode(const MscNftPayload *payload, bool shortened)
{
    g_autoptr(GBytes) bytes = msc_nft_payload_encode(payload);
    GByteArray *out = g_byte_array_new();

    msc_put_u8(out, shortened);
    msc_put_bytes(out, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    return g_byte_array_free_to_bytes(out);
}

GBytes *msc_nft_summarize(const MscSelector *s, size_t max, GError **errp)
{
    g_autoptr(MscNftPayload) payload = NULL;
    g_autoptr(GBytes) bytes = NULL;

    if (!s->nft_tables->len) {
        return nothing();
    }
    payload = read_tables(s, errp);
    if (!payload || !all_exist(s, payload, errp)) {
        return NULL;
    }
    bytes = summary_encode(payload, false);
    if (g_bytes_get_size(bytes) > max) {
        g_bytes_unref(bytes);
        drop_named_elements(payload);
        bytes = summary_encode(payload, true);
    }
    if (g_bytes_get_size(bytes) > max) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "the guest's nft rules do not fit the admission request "
                    "(%zu of %zu bytes): put what is long into named sets",
                    g_bytes_get_size(bytes), max);
        return NULL;
    }
    return g_steal_pointer(&bytes);
}

MscNftPayload *msc_nft_summary_decode(GBytes *summary, bool *shortened,
                                      GError **errp)
{
    const uint8_t *data = g_bytes_get_data(summary, NULL);
    gsize len = g_bytes_get_size(summary);
    g_autoptr(GBytes) rest = NULL;

    if (!len || data[0] > 1) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "nft's admission request: bad flags");
        return NULL;
    }
    *shortened = data[0];
    rest = g_bytes_new_from_bytes(summary, 1, len - 1);
    return msc_nft_payload_decode(rest, errp);
}
