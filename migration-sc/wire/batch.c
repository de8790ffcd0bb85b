/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "batch.h"

#include "format.h"

GBytes *msc_batch_message_encode(const MscBatchMessage *m)
{
    GByteArray *out = g_byte_array_new();

    msc_put_u32(out, MSC_BATCH_MAGIC);
    msc_put_u16(out, MSC_BATCH_VERSION);
    msc_put_u16(out, m->flags);
    msc_put_u64(out, m->boot_us);
    msc_sections_encode(m->sections, out);
    return g_byte_array_free_to_bytes(out);
}

bool msc_batch_message_decode(const void *data, size_t len, MscBatchMessage *m,
                              GError **errp)
{
    static const char what[] = "batch of the security context";
    uint16_t version;
    MscBatchMessage decoded;
    uint32_t magic;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u32(&r, &magic) || magic != MSC_BATCH_MAGIC ||
        !msc_reader_u16(&r, &version) || version != MSC_BATCH_VERSION) {
        return msc_reader_error(&r, errp, what, "unknown version");
    }
    if (!msc_reader_u16(&r, &decoded.flags) ||
        decoded.flags > MSC_BATCH_BASED) {
        return msc_reader_error(&r, errp, what, "unknown flags");
    }
    if (!msc_reader_u64(&r, &decoded.boot_us)) {
        return msc_reader_error(&r, errp, what, "cut short");
    }
    decoded.sections = msc_sections_decode(&r, what, errp);
    if (!decoded.sections) {
        return false;
    }
    *m = decoded;
    return true;
}
