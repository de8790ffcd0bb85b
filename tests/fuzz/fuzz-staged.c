/*
 * A record of what was staged, from the journal: refused with a reason, or
 * read whole.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "bytes.h"
#include "fuzz.h"
#include "staged-log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    g_auto(MscStagedRecord) record = { 0 };
    bool ok = msc_staged_record_decode(data, size, &record, &err);

    fuzz_must(ok == !err);
    if (ok) {
        msc_put_u8(again, (uint8_t)record.kind);
        msc_put_u64(again, record.when_us);
        msc_put_string(again, record.provider);
        msc_put_bytes(again, g_bytes_get_data(record.data, NULL),
                      g_bytes_get_size(record.data));
        fuzz_same(again->data, again->len, data, size);
    }
    return 0;
}
