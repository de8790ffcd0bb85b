/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "context.h"

#include <string.h>

#include "error.h"
#include "format.h"

MscContext *msc_context_new(void)
{
    MscContext *context = g_new0(MscContext, 1);

    context->sections = msc_sections_new();
    return context;
}

void msc_context_free(MscContext *context)
{
    if (context) {
        g_clear_pointer(&context->sections, g_ptr_array_unref);
        g_free(context);
    }
}

GBytes *msc_context_encode(MscContext *context)
{
    GByteArray *out = g_byte_array_new();

    msc_put_u32(out, MSC_CONTEXT_MAGIC);
    msc_put_u16(out, MSC_CONTEXT_VERSION);
    msc_put_u16(out, MSC_CONTEXT_OLDEST);
    msc_put_bytes(out, context->vm, sizeof(context->vm));
    msc_put_u64(out, context->wall_us);
    msc_put_u64(out, context->boot_us);
    msc_sections_encode(context->sections, out);
    return g_byte_array_free_to_bytes(out);
}

MscContext *msc_context_decode(const void *data, size_t len, GError **errp)
{
    g_autoptr(MscContext) context = g_new0(MscContext, 1);
    static const char what[] = "security context";
    uint16_t version, oldest;
    uint32_t magic;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u32(&r, &magic) || magic != MSC_CONTEXT_MAGIC) {
        msc_reader_error(&r, errp, what, "not a security context");
        return NULL;
    }
    if (!msc_reader_u16(&r, &version) || !msc_reader_u16(&r, &oldest) ||
        oldest > version) {
        msc_reader_error(&r, errp, what, "bad version");
        return NULL;
    }
    if (oldest > MSC_CONTEXT_VERSION || version < MSC_CONTEXT_OLDEST) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "security context of version %u, readable from version "
                    "%u on: this host reads %u to %u; update the older host",
                    version, oldest, MSC_CONTEXT_OLDEST, MSC_CONTEXT_VERSION);
        return NULL;
    }
    if (!msc_reader_copy(&r, context->vm, sizeof(context->vm)) ||
        !msc_reader_u64(&r, &context->wall_us) ||
        !msc_reader_u64(&r, &context->boot_us)) {
        msc_reader_error(&r, errp, what, "header cut short");
        return NULL;
    }
    context->sections = msc_sections_decode(&r, what, errp);
    return context->sections ? g_steal_pointer(&context) : NULL;
}

void msc_uuid_format(const uint8_t uuid[MSC_CONTEXT_UUID_LEN],
                     char text[MSC_CONTEXT_UUID_LEN * 2 + 5])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < MSC_CONTEXT_UUID_LEN; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *text++ = '-';
        }
        *text++ = digits[uuid[i] >> 4];
        *text++ = digits[uuid[i] & 15];
    }
    *text = '\0';
}

bool msc_uuid_parse(const char *text, uint8_t uuid[MSC_CONTEXT_UUID_LEN],
                    GError **errp)
{
    if (!g_uuid_string_is_valid(text)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "'%.64s' is not a UUID", text);
        return false;
    }
    for (int i = 0; i < MSC_CONTEXT_UUID_LEN; text += 2) {
        if (*text == '-') {
            text++;
        }
        uuid[i++] = (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 |
                              g_ascii_xdigit_value(text[1]));
    }
    return true;
}
