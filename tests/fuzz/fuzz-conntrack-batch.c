/*
 * What a batch of conntrack's holds is refused with a reason, or canonical
 * once it was encoded again; and what is withdrawn can be asked for by key.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "conntrack-batch.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscBatch) batch = msc_batch_decode(bytes, &err);
    g_autoptr(MscBatch) again = NULL;
    g_autoptr(GBytes) first = NULL;
    g_autoptr(GBytes) second = NULL;

    fuzz_must(!batch == !!err);
    if (!batch) {
        return 0;
    }
    first = msc_batch_encode(batch);
    again = msc_batch_decode(first, NULL);
    fuzz_must(again);
    second = msc_batch_encode(again);
    fuzz_must(g_bytes_equal(first, second));
    for (guint i = 0; i < batch->gone->len; i++) {
        g_autoptr(GBytes) key = msc_flow_key(batch->gone->pdata[i]);
        MscFlow *flow = msc_flow_of_key(key);
        g_autoptr(GBytes) same = msc_flow_key(flow);

        fuzz_must(g_bytes_equal(key, same));
        nfct_destroy(flow);
    }
    return 0;
}
