/*
 * A batch of pre-copy is refused with a reason, or is exactly what its value
 * encodes to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "batch.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) again = NULL;
    MscBatchMessage batch;
    bool ok = msc_batch_message_decode(data, size, &batch, &err);

    fuzz_must(ok == !err);
    if (ok) {
        again = msc_batch_message_encode(&batch);
        fuzz_same(g_bytes_get_data(again, NULL), g_bytes_get_size(again), data,
                  size);
        g_ptr_array_unref(batch.sections);
    }
    return 0;
}
