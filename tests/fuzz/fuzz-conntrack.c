/*
 * Whatever a payload holds, it is refused or it is canonical: encoding what
 * was decoded gives a payload that decodes to the same bytes again.
 *
 *   clang -fsanitize=fuzzer,address,undefined ... fuzz-conntrack.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <string.h>

#include "conntrack-codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) payload = g_bytes_new(data, size);
    g_autoptr(GError) err = NULL;
    g_autoptr(GPtrArray) flows = msc_payload_decode(payload, &err);
    g_autoptr(GPtrArray) again = NULL;
    g_autoptr(GByteArray) first = g_byte_array_new();
    g_autoptr(GByteArray) second = g_byte_array_new();
    g_autoptr(GBytes) encoded = NULL;

    if (!flows != !!err) {
        abort();                /* refused without a reason */
    }
    if (!flows) {
        return 0;
    }
    msc_flows_encode(flows, first);
    encoded = g_bytes_new(first->data, first->len);
    again = msc_payload_decode(encoded, NULL);
    if (!again) {
        abort();                /* our own encoding is refused */
    }
    msc_flows_encode(again, second);
    if (first->len != second->len ||
        memcmp(first->data, second->data, first->len)) {
        abort();
    }
    return 0;
}
