/*
 * A batch of sets that go ahead of the rest: it is refused, or it is canonical
 * and makes messages for the kernel whose every length is right and whose
 * every table is the guest's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fuzz-nft.h"
#include "nft-ahead-stage.h"
#include "nft-ahead.h"

static void remove_and_add(MscNftBatch *batch, const MscNftTable *t)
{
    for (guint i = 0; i < t->sets->len; i++) {
        msc_nft_batch_remove_elements(batch, t, t->sets->pdata[i]);
        msc_nft_batch_add_elements(batch, t, t->sets->pdata[i]);
    }
}

static void make_messages(const MscNftAhead *a)
{
    MscNftTable *there = msc_nft_payload_find(a->gone, 1, "g");
    MscNftTable *t = msc_nft_payload_find(a->comes, 1, "g");
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();
    MscNftSet *marker = msc_nft_marker_new(a->nonce);

    if (there) {
        remove_and_add(batch, there);
    }
    if (t) {
        msc_nft_batch_begin(batch, t, marker);
        msc_nft_batch_guard(batch, t, marker);
        remove_and_add(batch, t);
        msc_nft_batch_complete(batch, t, there, marker);
    }
    fuzz_batch(batch);
    msc_nft_set_free(marker);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GError) err = NULL, refused = NULL;
    g_autoptr(MscNftAhead) a = msc_nft_ahead_decode(bytes, &err);
    g_autoptr(MscSelector) selector = fuzz_registration();
    g_autoptr(GBytes) again = NULL;
    gpointer destination;
    bool ok;

    fuzz_must(!a == !!err);
    if (!a) {
        return 0;
    }
    fuzz_must(msc_nft_ahead_is(bytes));
    again = msc_nft_ahead_encode(a);
    fuzz_same(g_bytes_get_data(again, NULL), g_bytes_get_size(again), data,
              size);
    make_messages(a);
    destination = msc_nft_destination_begin(selector);
    ok = msc_nft_destination_validate(destination, bytes, &refused);
    fuzz_must(ok == !refused);
    /* Nothing but a first batch can be the first. */
    fuzz_must(!ok || (a->flags & MSC_NFT_BEGINS));
    msc_nft_destination_end(destination);
    return 0;
}
