/*
 * A helper's ERROR: always an error, and either exactly the one that was sent
 * or the one that says what is wrong with it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "error.h"
#include "fuzz.h"
#include "helper-messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autoptr(GError) err = NULL;

    fuzz_must(!msc_error_decode(data, size, &err));
    fuzz_must(err && err->domain == MSC_ERROR);
    fuzz_must(g_utf8_validate(err->message, -1, NULL));
    msc_error_encode(err, again);
    if (again->len == size && !memcmp(again->data, data, size)) {
        return 0;
    }
    fuzz_must(err->code == MSC_ERROR_MALFORMED);
    return 0;
}
