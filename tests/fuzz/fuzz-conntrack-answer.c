/*
 * Which NAT addresses come with a guest, as the destination answers: refused
 * with a reason, or a list with exactly those addresses.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sys/socket.h>

#include "bytes.h"
#include "conntrack-admission.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) in = g_bytes_new(data, size);
    g_autoptr(GError) err = NULL;
    g_autoptr(GArray) list = msc_conntrack_answer_decode(in, &err);
    g_autoptr(GByteArray) again = g_byte_array_new();

    fuzz_must(!list == !!err);
    if (!list) {
        return 0;
    }
    msc_put_u16(again, (uint16_t)list->len);
    for (guint i = 0; i < list->len; i++) {
        const MscAddress *a = &g_array_index(list, MscAddress, i);
        bool v4 = a->family == AF_INET;

        fuzz_must(v4 || a->family == AF_INET6);
        msc_put_u8(again, v4 ? 4 : 6);
        msc_put_bytes(again, a->bytes, v4 ? 4 : 16);
        fuzz_must(msc_address_in(a, list));
    }
    fuzz_same(again->data, again->len, data, size);
    return 0;
}
