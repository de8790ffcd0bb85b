/*
 * The guest's rules in an admission request: refused, or a flag and a
 * canonical payload.  What a payload may hold is fuzz-nft.c's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fuzz.h"
#include "nft-collect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) in = g_bytes_new(data, size);
    g_autoptr(GError) err = NULL;
    bool shortened = false;
    g_autoptr(MscNftPayload) payload =
        msc_nft_summary_decode(in, &shortened, &err);
    g_autoptr(GBytes) again = NULL;

    fuzz_must(!payload == !!err);
    if (!payload) {
        return 0;
    }
    fuzz_must(data[0] == shortened);
    again = msc_nft_payload_encode(payload);
    fuzz_same(g_bytes_get_data(again, NULL), g_bytes_get_size(again), data + 1,
              size - 1);
    return 0;
}
