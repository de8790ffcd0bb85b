/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "admission.h"

#include "format.h"

GBytes *msc_admission_request_encode(const MscAdmissionRequest *request)
{
    GByteArray *out = g_byte_array_new();

    msc_put_u16(out, MSC_ADMISSION_VERSION);
    msc_put_u8(out, request->flags);
    msc_put_u8(out, 0);
    msc_put_u64(out, request->boot_us);
    msc_put_bytes(out, request->release, sizeof(request->release));
    msc_sections_encode(request->sections, out);
    return g_byte_array_free_to_bytes(out);
}

bool msc_admission_request_decode(GBytes *bytes, MscAdmissionRequest *request,
                                  GError **errp)
{
    static const char what[] = "admission request";
    const uint8_t known = MSC_ADMISSION_CONTEXT | MSC_ADMISSION_LEAVE_BEHIND;
    MscAdmissionRequest decoded = { 0 };
    uint16_t version;
    uint8_t zero;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    if (!msc_reader_u16(&r, &version) || version != MSC_ADMISSION_VERSION) {
        return msc_reader_error(&r, errp, what, "unknown version");
    }
    if (!msc_reader_u8(&r, &decoded.flags) || (decoded.flags & ~known) ||
        !msc_reader_u8(&r, &zero) || zero) {
        return msc_reader_error(&r, errp, what, "unknown flags");
    }
    if (!msc_reader_u64(&r, &decoded.boot_us) ||
        !msc_reader_copy(&r, decoded.release, sizeof(decoded.release))) {
        return msc_reader_error(&r, errp, what, "cut short");
    }
    decoded.sections = msc_sections_decode(&r, what, errp);
    if (!decoded.sections) {
        return false;
    }
    *request = decoded;
    return true;
}

GBytes *msc_admission_answer_encode(const MscAdmissionAnswer *answer)
{
    GByteArray *out = g_byte_array_new();

    msc_put_u16(out, MSC_ADMISSION_VERSION);
    msc_put_u16(out, 0);
    msc_put_bytes(out, answer->ready, sizeof(answer->ready));
    msc_put_bytes(out, answer->done, sizeof(answer->done));
    msc_put_bytes(out, answer->abandon, sizeof(answer->abandon));
    msc_sections_encode(answer->sections, out);
    return g_byte_array_free_to_bytes(out);
}

bool msc_admission_answer_decode(GBytes *bytes, MscAdmissionAnswer *answer,
                                 GError **errp)
{
    static const char what[] = "admission answer";
    MscAdmissionAnswer decoded = { 0 };
    uint16_t version, zero;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    if (!msc_reader_u16(&r, &version) || version != MSC_ADMISSION_VERSION ||
        !msc_reader_u16(&r, &zero) || zero) {
        return msc_reader_error(&r, errp, what, "unknown version");
    }
    if (!msc_reader_copy(&r, decoded.ready, sizeof(decoded.ready)) ||
        !msc_reader_copy(&r, decoded.done, sizeof(decoded.done)) ||
        !msc_reader_copy(&r, decoded.abandon, sizeof(decoded.abandon))) {
        return msc_reader_error(&r, errp, what, "cut short");
    }
    decoded.sections = msc_sections_decode(&r, what, errp);
    if (!decoded.sections) {
        return false;
    }
    *answer = decoded;
    return true;
}
