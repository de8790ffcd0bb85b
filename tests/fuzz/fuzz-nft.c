/*
 * Whatever another host sends, it is refused, or it is canonical and makes
 * messages for the kernel whose every length is right and whose every table
 * is the guest's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fuzz-nft.h"
#include "nft-admit.h"
#include "nft-collect.h"
#include "nft-print.h"

static void drop_line(const char *line, void *opaque)
{
    (void)opaque;
    fuzz_must(g_utf8_validate(line, -1, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscNftPayload) payload = msc_nft_payload_decode(bytes, &err);
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(MscSelector) selector = fuzz_registration();
    g_autoptr(MscNftBatch) batch = NULL;
    g_autoptr(GBytes) again = NULL;

    fuzz_must(!payload == !!err);
    if (!payload) {
        return 0;
    }
    again = msc_nft_payload_encode(payload);
    fuzz_same(g_bytes_get_data(again, NULL), g_bytes_get_size(again), data,
              size);
    fuzz_must(msc_nft_print(bytes, drop_line, NULL, NULL));
    msc_nft_admit(payload, selector, reasons);
    for (guint i = 0; i < payload->tables->len; i++) {
        const MscNftTable *t = payload->tables->pdata[i];

        if (t->family == 1 && !strcmp(t->name, "g")) {
            batch = msc_nft_batch_new();
            msc_nft_batch_add(batch, t, false);
            fuzz_batch(batch);
        }
    }
    return 0;
}
