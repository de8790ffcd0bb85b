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
#include "conntrack-needs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The admission request travels beside it; its decoder is the same kind. */
static void fuzz_needs(const uint8_t *data, size_t size)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    g_autoptr(MscNeeds) needs = NULL;
    size_t used;
    MscReader r;

    msc_reader_init(&r, data, size);
    needs = msc_needs_decode(&r, &err);
    if (!needs != !!err) {
        abort();
    }
    if (needs) {
        used = size - msc_reader_left(&r);
        msc_needs_encode(needs, out);
        if (out->len != used || memcmp(out->data, data, used)) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscPayload) payload = msc_payload_decode(bytes, &err);
    g_autoptr(MscSelector) selector = msc_selector_new();
    g_autoptr(MscPayload) again = NULL;
    g_autoptr(GBytes) first = NULL;
    g_autoptr(GBytes) second = NULL;

    fuzz_needs(data, size);
    if (!payload != !!err) {
        abort(); /* refused without a reason */
    }
    if (!payload) {
        return 0;
    }
    first = msc_payload_encode(payload);
    again = msc_payload_decode(first, NULL);
    if (!again) {
        abort(); /* our own encoding is refused */
    }
    second = msc_payload_encode(again);
    if (!g_bytes_equal(first, second)) {
        abort();
    }
    /* What was tidied is whole, whatever it was before. */
    selector->has_zone = true;
    msc_payload_tidy(payload, selector);
    if (!msc_payload_check(payload, selector, &err) &&
        !strstr(err->message, "not the guest's") &&
        !strstr(err->message, "a flow twice")) {
        abort();
    }
    return 0;
}
