/*
 * Sets ahead, the destination: what is here, by what was staged and by what
 * the kernel says.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <linux/netfilter/nf_tables.h>

#include "error.h"
#include "nft-ahead-private.h"
#include "nft-stage.h"

MscNftSet *msc_nft_ahead_set(const MscNftDestination *d, const MscNftTable *t,
                             const MscNftSet *set)
{
    const MscNftTable *ours =
        msc_nft_payload_find(d->tables, t->family, t->name);

    return ours ? msc_nft_table_set(ours,
                                    msc_nft_text(set->attrs, NFTA_SET_NAME))
                : NULL;
}

static GBytes *key_of(const GPtrArray *element)
{
    g_autoptr(GPtrArray) key = msc_nft_element_key(element);
    GByteArray *out = g_byte_array_new();

    msc_nft_attrs_write(key, out);
    return g_byte_array_free_to_bytes(out);
}

static GHashTable *elements_new(void)
{
    return g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                                 (GDestroyNotify)g_bytes_unref,
                                 (GDestroyNotify)g_ptr_array_unref);
}

static size_t size_of(const GPtrArray *elements)
{
    g_autoptr(GByteArray) out = g_byte_array_new();

    for (guint i = 0; i < elements->len; i++) {
        msc_put_u32(out, 0);
        msc_nft_attrs_write(elements->pdata[i], out);
    }
    return out->len;
}

static void note_gone(MscNftDestination *d, const MscNftSet *ours,
                      const MscNftSet *set)
{
    GHashTable *elements = g_hash_table_lookup(d->elements, ours);

    if (!set->elements->len) {
        GHashTableIter iter;
        gpointer value;

        g_hash_table_iter_init(&iter, elements);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            g_autoptr(GPtrArray) one = g_ptr_array_new();

            g_ptr_array_add(one, value);
            d->bytes -= size_of(one);
        }
        g_hash_table_remove_all(elements);
        return;
    }
    for (guint i = 0; i < set->elements->len; i++) {
        g_autoptr(GBytes) key = key_of(set->elements->pdata[i]);
        g_autoptr(GPtrArray) one = g_ptr_array_new();
        GPtrArray *was = g_hash_table_lookup(elements, key);

        if (was) {
            g_ptr_array_add(one, was);
            d->bytes -= size_of(one);
            g_hash_table_remove(elements, key);
        }
    }
}

static void note_comes(MscNftDestination *d, const MscNftSet *ours,
                       const MscNftSet *set)
{
    GHashTable *elements = g_hash_table_lookup(d->elements, ours);

    for (guint i = 0; i < set->elements->len; i++) {
        GPtrArray *element = set->elements->pdata[i];

        g_hash_table_replace(elements, key_of(element),
                             g_ptr_array_ref(element));
    }
    d->bytes += size_of(set->elements);
}

void msc_nft_ahead_note(MscNftDestination *d, const MscNftPayload *p,
                        bool comes)
{
    for (guint i = 0; i < p->tables->len; i++) {
        const MscNftTable *t = p->tables->pdata[i];

        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *set = t->sets->pdata[k];
            const MscNftSet *ours = msc_nft_ahead_set(d, t, set);

            if (comes) {
                note_comes(d, ours, set);
            } else {
                note_gone(d, ours, set);
            }
        }
    }
}

void msc_nft_ahead_note_sets(MscNftDestination *d, const MscNftPayload *p)
{
    d->tables = msc_nft_payload_new();
    d->tables->local = true;
    for (guint i = 0; i < p->tables->len; i++) {
        const MscNftTable *t = p->tables->pdata[i];
        MscNftTable *ours = msc_nft_table_new(t->family, t->name);

        g_ptr_array_unref(ours->attrs);
        ours->attrs = g_ptr_array_ref(t->attrs);
        g_ptr_array_add(d->tables->tables, ours);
        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *set = t->sets->pdata[k];
            MscNftSet *our = msc_nft_set_new(g_ptr_array_ref(set->attrs));

            g_ptr_array_add(ours->sets, our);
            g_hash_table_insert(d->elements, our, elements_new());
        }
    }
}

/* ---- read back ---- */

bool msc_nft_ahead_is_another(const MscNftTable *t, GError **errp)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                "nftables: table %s was made anew by another while it came "
                "here",
                t->name);
    return false;
}

static bool holds_elements(const MscNftDestination *d, const MscNftSet *is,
                           const MscNftSet *ours)
{
    GHashTable *wanted = g_hash_table_lookup(d->elements, ours);
    bool times_out = msc_nft_u32(ours->attrs, NFTA_SET_FLAGS) & NFT_SET_TIMEOUT;

    if (is->elements->len > g_hash_table_size(wanted) ||
        (!times_out && is->elements->len < g_hash_table_size(wanted))) {
        return false;
    }
    for (guint i = 0; i < is->elements->len; i++) {
        g_autoptr(GBytes) key = key_of(is->elements->pdata[i]);
        const GPtrArray *want = g_hash_table_lookup(wanted, key);

        if (!want || !msc_nft_attrs_hold(is->elements->pdata[i], want)) {
            return false;
        }
    }
    return true;
}

/* An older kernel ignores what it does not know. */
bool msc_nft_ahead_read_back(MscNftDestination *d, GError **errp)
{
    g_autoptr(MscNftPayload) is =
        msc_nft_dump(d->nft, d->selector->nft_tables, MSC_NFT_KNOWN, errp);

    for (guint i = 0; is && i < d->tables->tables->len; i++) {
        const MscNftTable *ours = d->tables->tables->pdata[i];
        const MscNftTable *t =
            msc_nft_payload_find(is, ours->family, ours->name);

        if (!t || t->handle != ours->handle) {
            return msc_nft_ahead_is_another(ours, errp);
        }
        for (guint k = 0; k < ours->sets->len; k++) {
            const MscNftSet *our = ours->sets->pdata[k];
            const char *name = msc_nft_text(our->attrs, NFTA_SET_NAME);
            const MscNftSet *set = msc_nft_table_set(t, name);

            if (!set || !msc_nft_attrs_hold(set->attrs, our->attrs) ||
                !holds_elements(d, set, our)) {
                g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                            "nftables: this kernel made something else of "
                            "table %s, set %s; is it older than the source's?",
                            t->name, name);
                return false;
            }
        }
    }
    return is;
}

bool msc_nft_ahead_read_back_end(MscNftDestination *d,
                                 const MscNftPayload *wanted, GError **errp)
{
    MscNftSkip skip = { .sets = d->tables };
    g_autoptr(MscNftPayload) is =
        msc_nft_dump_but(d->nft, d->selector->nft_tables, MSC_NFT_KNOWN, &skip,
                         errp);

    for (guint i = 0; is && i < d->tables->tables->len; i++) {
        const MscNftTable *ours = d->tables->tables->pdata[i];
        const MscNftTable *t =
            msc_nft_payload_find(is, ours->family, ours->name);
        const MscNftTable *want =
            msc_nft_payload_find(wanted, ours->family, ours->name);

        if (!t || t->handle != ours->handle) {
            return msc_nft_ahead_is_another(ours, errp);
        }
        for (guint k = 0; k < ours->sets->len; k++) {
            const MscNftSet *our = ours->sets->pdata[k];
            const char *name = msc_nft_text(our->attrs, NFTA_SET_NAME);

            g_ptr_array_set_size(msc_nft_table_set(want, name)->elements, 0);
        }
    }
    return is && msc_nft_verify(is, wanted, errp);
}
