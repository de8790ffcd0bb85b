/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "check-message.h"

#include <string.h>

#include "bytes.h"
#include "error.h"

#define CHECK_MAGIC 0x4d534343u /* "MSCC" */
#define CHECK_VERSION 1
#define WILLING 1

GBytes *msc_check_question_encode(const uint8_t vm[MSC_CONTEXT_UUID_LEN],
                                  GBytes *admission)
{
    GByteArray *out = g_byte_array_new();

    msc_put_u32(out, CHECK_MAGIC);
    msc_put_u8(out, CHECK_VERSION);
    for (int i = 0; i < 3; i++) {
        msc_put_u8(out, 0);
    }
    msc_put_bytes(out, vm, MSC_CONTEXT_UUID_LEN);
    msc_put_bytes(out, g_bytes_get_data(admission, NULL),
                  g_bytes_get_size(admission));
    return g_byte_array_free_to_bytes(out);
}

bool msc_check_is_question(GBytes *request)
{
    uint32_t magic;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(request, NULL),
                    g_bytes_get_size(request));
    return msc_reader_u32(&r, &magic) && magic == CHECK_MAGIC;
}

GBytes *msc_check_question_decode(GBytes *request,
                                  uint8_t vm[MSC_CONTEXT_UUID_LEN],
                                  GError **errp)
{
    static const uint8_t zero[3];
    const uint8_t *got, *admission;
    uint8_t version;
    uint32_t magic;
    size_t len;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(request, NULL),
                    g_bytes_get_size(request));
    if (!msc_reader_u32(&r, &magic) || magic != CHECK_MAGIC ||
        !msc_reader_u8(&r, &version) || version != CHECK_VERSION ||
        !msc_reader_view(&r, &got, sizeof(zero)) ||
        memcmp(got, zero, sizeof(zero)) ||
        !msc_reader_copy(&r, vm, MSC_CONTEXT_UUID_LEN)) {
        msc_reader_error(&r, errp, "check", "malformed question");
        return NULL;
    }
    len = msc_reader_left(&r);
    msc_reader_view(&r, &admission, len);
    return g_bytes_new(admission, len);
}

GBytes *msc_check_answer_encode(void)
{
    static const uint8_t willing = WILLING;

    return g_bytes_new_static(&willing, sizeof(willing));
}

bool msc_check_answer_decode(GBytes *answer, const char *from, GError **errp)
{
    if (g_bytes_get_size(answer) != 1 ||
        *(const uint8_t *)g_bytes_get_data(answer, NULL) != WILLING) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "check: malformed answer of '%s'", from);
        return false;
    }
    return true;
}
