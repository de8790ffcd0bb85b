/*
 * A plain context (a snapshot file, or what the chunks carried) is refused
 * with a reason, or is exactly what its value encodes to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "context.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscContext) context = msc_context_decode(data, size, &err);
    g_autoptr(GBytes) again = NULL;

    fuzz_must(!context == !!err);
    if (!context) {
        return 0;
    }
    again = msc_context_encode(context);
    /* The versions, bytes 4 to 7, are the writer's own; a later one that says
     * it can be read is read. */
    fuzz_must(size >= 8);
    fuzz_same(g_bytes_get_data(again, NULL), 4, data, 4);
    fuzz_same((const uint8_t *)g_bytes_get_data(again, NULL) + 8,
              g_bytes_get_size(again) - 8, data + 8, size - 8);
    return 0;
}
