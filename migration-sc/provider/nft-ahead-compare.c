/*
 * Which sets go ahead, and what changed of them since.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <linux/netfilter/nf_tables.h>

#include "nft-ahead-pieces.h"

/* Between two dumps, what a time-out may be off by. */
#define SLACK_MS 2000

static MscNftTable *add_table(MscNftPayload *to, const MscNftTable *like)
{
    MscNftTable *t = msc_nft_table_new(like->family, like->name);

    t->handle = like->handle;
    g_ptr_array_unref(t->attrs);
    t->attrs = g_ptr_array_ref(like->attrs);
    g_ptr_array_add(to->tables, t);
    return t;
}

static MscNftSet *add_set(MscNftPayload *to, const MscNftTable *t,
                          const MscNftSet *like)
{
    MscNftTable *into = msc_nft_payload_find(to, t->family, t->name);
    MscNftSet *set = msc_nft_set_new(g_ptr_array_ref(like->attrs));

    g_ptr_array_add((into ? into : add_table(to, t))->sets, set);
    return set;
}

static void share_elements(MscNftSet *to, const MscNftSet *from)
{
    g_ptr_array_unref(to->elements);
    to->elements = g_ptr_array_ref(from->elements);
}

MscNftPayload *msc_nft_choose_ahead(const MscNftPayload *is, size_t max)
{
    MscNftPayload *chosen = msc_nft_payload_new();
    g_autoptr(GByteArray) size = g_byte_array_new();

    for (guint i = 0; i < is->tables->len; i++) {
        const MscNftTable *t = is->tables->pdata[i];

        add_table(chosen, t);
        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *set = t->sets->pdata[k];

            if (set->elements->len < MSC_NFT_AHEAD_MIN ||
                !msc_nft_set_goes_ahead(t, set)) {
                continue;
            }
            msc_nft_attrs_write(set->attrs, size);
            /* The rest is for tables, and for an element. */
            if (size->len > max / 2) {
                return chosen;
            }
            share_elements(add_set(chosen, t, set), set);
        }
    }
    return chosen;
}

bool msc_nft_is_same_shape(const MscNftPayload *sent, const MscNftPayload *is)
{
    if (sent->tables->len != is->tables->len) {
        return false;
    }
    for (guint i = 0; i < sent->tables->len; i++) {
        const MscNftTable *t = sent->tables->pdata[i];
        const MscNftTable *now = msc_nft_payload_find(is, t->family, t->name);

        if (!now || now->handle != t->handle ||
            !msc_nft_attrs_same(now->attrs, t->attrs)) {
            return false;
        }
        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *a = t->sets->pdata[k];
            const MscNftSet *b =
                msc_nft_table_set(now, msc_nft_text(a->attrs, NFTA_SET_NAME));

            if (!b || !msc_nft_attrs_same(a->attrs, b->attrs) ||
                !msc_nft_set_goes_ahead(now, b)) {
                return false;
            }
        }
    }
    return true;
}

static bool expires(const GPtrArray *element)
{
    return msc_nft_find(element, NFTA_SET_ELEM_EXPIRATION);
}

/* Is it the same element, @ms later? */
static bool is_same_element(const GPtrArray *was, const GPtrArray *is,
                            uint64_t ms)
{
    uint64_t before = msc_nft_u64(was, NFTA_SET_ELEM_EXPIRATION);
    uint64_t now = msc_nft_u64(is, NFTA_SET_ELEM_EXPIRATION) + ms;

    return msc_nft_attrs_same(was, is) && expires(was) == expires(is) &&
           (!expires(is) ||
            (before <= now + SLACK_MS && now <= before + SLACK_MS));
}

static bool is_over(const GPtrArray *was, uint64_t ms)
{
    return expires(was) &&
           msc_nft_u64(was, NFTA_SET_ELEM_EXPIRATION) <= ms + SLACK_MS;
}

/* Both are sorted. */
static void compare(const MscNftSet *was, const MscNftSet *is, uint64_t ms,
                    GPtrArray *gone, GPtrArray *comes)
{
    guint i = 0, k = 0;

    while (i < was->elements->len || k < is->elements->len) {
        GPtrArray *a = i < was->elements->len ? was->elements->pdata[i] : NULL;
        GPtrArray *b = k < is->elements->len ? is->elements->pdata[k] : NULL;
        int order = !a ? 1 : !b ? -1 : msc_nft_element_order(a, b);
        bool same = !order && is_same_element(a, b, ms);

        /* What is over is over there, too. */
        if (!same && order <= 0 && !(order && is_over(a, ms))) {
            g_ptr_array_add(gone, g_ptr_array_ref(a));
        }
        if (!same && order >= 0) {
            g_ptr_array_add(comes, g_ptr_array_ref(b));
        }
        i += order <= 0;
        k += order >= 0;
    }
}

static void compare_set(const MscNftTable *t, const MscNftSet *was,
                        const MscNftSet *is, uint64_t ms, MscNftPayload *gone,
                        MscNftPayload *comes)
{
    bool times_out = msc_nft_u32(was->attrs, NFTA_SET_FLAGS) & NFT_SET_TIMEOUT;
    g_autoptr(GPtrArray) less =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    g_autoptr(GPtrArray) more =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);

    compare(was, is, ms, less, more);
    if (!less->len && !more->len) {
        return;
    }
    if (times_out) {
        /* One that should go may have gone there by itself, which would fail
         * the transaction: so all go, and come again. */
        add_set(gone, t, was);
        if (is->elements->len) {
            share_elements(add_set(comes, t, was), is);
        }
        return;
    }
    if (less->len) {
        MscNftSet *set = add_set(gone, t, was);

        g_ptr_array_unref(set->elements);
        set->elements = g_steal_pointer(&less);
    }
    if (more->len) {
        MscNftSet *set = add_set(comes, t, was);

        g_ptr_array_unref(set->elements);
        set->elements = g_steal_pointer(&more);
    }
}

void msc_nft_compare_ahead(const MscNftPayload *sent, const MscNftPayload *is,
                           uint64_t ms, MscNftPayload *gone,
                           MscNftPayload *comes)
{
    for (guint i = 0; i < sent->tables->len; i++) {
        const MscNftTable *t = sent->tables->pdata[i];
        const MscNftTable *now = msc_nft_payload_find(is, t->family, t->name);

        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *was = t->sets->pdata[k];

            compare_set(t, was,
                        msc_nft_table_set(now, msc_nft_text(was->attrs,
                                                            NFTA_SET_NAME)),
                        ms, gone, comes);
        }
    }
}

void msc_nft_renew_ahead(MscNftPayload *sent, const MscNftPayload *is)
{
    for (guint i = 0; i < sent->tables->len; i++) {
        const MscNftTable *t = sent->tables->pdata[i];
        const MscNftTable *now = msc_nft_payload_find(is, t->family, t->name);

        for (guint k = 0; k < t->sets->len; k++) {
            MscNftSet *set = t->sets->pdata[k];

            share_elements(set,
                           msc_nft_table_set(now, msc_nft_text(set->attrs,
                                                               NFTA_SET_NAME)));
        }
    }
}
