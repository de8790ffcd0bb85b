/*
 * What the other host says in the admission, request (first byte even) or
 * answer, is refused with a reason, or is exactly what its value encodes to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "admission.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GPtrArray) sections = NULL;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GBytes) again = NULL;
    g_autoptr(GError) err = NULL;
    bool ok;

    if (!size) {
        return 0;
    }
    bytes = g_bytes_new(data + 1, size - 1);
    if (data[0] & 1) {
        MscAdmissionAnswer answer = { 0 };

        ok = msc_admission_answer_decode(bytes, &answer, &err);
        sections = answer.sections;
        again = ok ? msc_admission_answer_encode(&answer) : NULL;
    } else {
        MscAdmissionRequest request = { 0 };

        ok = msc_admission_request_decode(bytes, &request, &err);
        sections = request.sections;
        again = ok ? msc_admission_request_encode(&request) : NULL;
    }
    fuzz_must(ok == !err && ok == !!sections);
    if (ok) {
        fuzz_same(g_bytes_get_data(again, NULL), g_bytes_get_size(again),
                  data + 1, size - 1);
    }
    return 0;
}
