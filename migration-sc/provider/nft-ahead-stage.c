/*
 * Sets ahead, the destination: batches go into the kernel as they come.
 *
 * Each transaction first touches the marker, so that it fails if somebody
 * has put another table in the place of ours.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-ahead-stage.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "nft-ahead-private.h"
#include "nft-stage.h"

gpointer msc_nft_destination_begin(const MscSelector *selector)
{
    MscNftDestination *d = g_new0(MscNftDestination, 1);

    d->selector = selector;
    d->elements = g_hash_table_new_full(NULL, NULL, NULL,
                                        (GDestroyNotify)g_hash_table_unref);
    return d;
}

static void forget_next(MscNftDestination *d)
{
    g_clear_pointer(&d->last, g_bytes_unref);
    g_clear_pointer(&d->next, msc_nft_ahead_free);
}

void msc_nft_destination_end(gpointer memory)
{
    MscNftDestination *d = memory;

    if (d) {
        forget_next(d);
        g_hash_table_unref(d->elements);
        msc_nft_payload_free(d->tables);
        g_clear_pointer(&d->marker, msc_nft_set_free);
        msc_nft_close(d->nft);
        g_free(d);
    }
}

bool msc_nft_destination_validate(gpointer memory, GBytes *bytes, GError **errp)
{
    MscNftDestination *d = memory;
    g_autoptr(MscNftAhead) a = msc_nft_ahead_decode(bytes, errp);

    forget_next(d);
    if (!a || !msc_nft_ahead_check(d, a, g_bytes_get_size(bytes), errp)) {
        return false;
    }
    d->last = g_bytes_ref(bytes);
    d->next = g_steal_pointer(&a);
    return true;
}

/* ---- stage ---- */

static void put_changes(MscNftBatch *batch, const MscNftPayload *p, bool comes)
{
    for (guint i = 0; i < p->tables->len; i++) {
        const MscNftTable *t = p->tables->pdata[i];

        for (guint k = 0; k < t->sets->len; k++) {
            if (comes) {
                msc_nft_batch_add_elements(batch, t, t->sets->pdata[k]);
            } else {
                msc_nft_batch_remove_elements(batch, t, t->sets->pdata[k]);
            }
        }
    }
}

static void put_all(const MscNftDestination *d, MscNftBatch *batch,
                    const MscNftAhead *a)
{
    for (guint i = 0; d->tables && i < d->tables->tables->len; i++) {
        msc_nft_batch_guard(batch, d->tables->tables->pdata[i], d->marker);
    }
    put_changes(batch, a->gone, false);
    if (!(a->flags & (MSC_NFT_BEGINS | MSC_NFT_ENDS))) {
        put_changes(batch, a->comes, true);
        return;
    }
    for (guint i = 0; i < a->comes->tables->len; i++) {
        const MscNftTable *t = a->comes->tables->pdata[i];

        if (a->flags & MSC_NFT_BEGINS) {
            msc_nft_batch_begin(batch, t, d->marker);
        } else {
            msc_nft_batch_complete(
                batch, t, msc_nft_payload_find(d->tables, t->family, t->name),
                d->marker);
        }
    }
}

/* Tells the journal what the tables are that we made. */
static bool tell_ours(MscNftDestination *d,
                      bool (*replacing)(GBytes *replaced, void *opaque,
                                        GError **errp),
                      void *opaque, GError **errp)
{
    g_autoptr(MscNftPayload) is =
        msc_nft_dump(d->nft, d->selector->nft_tables, MSC_NFT_SETS, errp);
    g_autoptr(MscNftPayload) made = msc_nft_payload_new();
    g_autoptr(GBytes) bytes = NULL;

    for (guint i = 0; is && i < d->tables->tables->len; i++) {
        MscNftTable *ours = d->tables->tables->pdata[i];
        const MscNftTable *t =
            msc_nft_payload_find(is, ours->family, ours->name);
        MscNftTable *copy;

        if (!t || !msc_nft_table_set(t, msc_nft_text(d->marker->attrs,
                                                     NFTA_SET_NAME))) {
            return msc_nft_ahead_is_another(ours, errp);
        }
        ours->handle = t->handle;
        copy = msc_nft_table_new(t->family, t->name);
        copy->handle = t->handle;
        g_ptr_array_add(made->tables, copy);
    }
    bytes = is ? msc_nft_ours_encode(made, errp) : NULL;
    return bytes && replacing(bytes, opaque, errp);
}

bool msc_nft_destination_stage(gpointer memory, GBytes *bytes,
                               uint64_t transit_us,
                               bool (*replacing)(GBytes *replaced, void *opaque,
                                                 GError **errp),
                               void *opaque, uint64_t *entries, GError **errp)
{
    MscNftDestination *d = memory;
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();
    g_autoptr(MscNftAhead) a = NULL;

    /* Flows only. */
    *entries = 0;
    if ((d->last != bytes &&
         !msc_nft_destination_validate(memory, bytes, errp)) ||
        (!d->nft && !(d->nft = msc_nft_open(errp)))) {
        return false;
    }
    a = g_steal_pointer(&d->next);
    forget_next(d);
    if (a->flags & MSC_NFT_BEGINS) {
        memcpy(d->nonce, a->nonce, sizeof(d->nonce));
        g_clear_pointer(&d->marker, msc_nft_set_free);
        d->marker = msc_nft_marker_new(d->nonce);
    }
    msc_nft_shorten(a->comes, a->age_ms + transit_us / 1000);
    put_all(d, batch, a);
    if (!msc_nft_commit(d->nft, batch, errp)) {
        return false;
    }
    msc_nft_ahead_digest(bytes, d->before);
    if (a->flags & MSC_NFT_ENDS) {
        return msc_nft_ahead_read_back_end(d, a->comes, errp);
    }
    if (a->flags & MSC_NFT_BEGINS) {
        msc_nft_ahead_note_sets(d, a->comes);
        if (!tell_ours(d, replacing, opaque, errp)) {
            return false;
        }
    }
    msc_nft_ahead_note(d, a->gone, false);
    msc_nft_ahead_note(d, a->comes, true);
    d->complete = a->flags & MSC_NFT_COMPLETE;
    return !d->complete || msc_nft_ahead_read_back(d, errp);
}
