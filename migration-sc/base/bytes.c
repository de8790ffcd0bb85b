/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "bytes.h"

#include <string.h>

#include "error.h"

void msc_reader_init(MscReader *r, const void *data, size_t len)
{
    static const uint8_t nothing;

    r->start = r->pos = data ? data : &nothing;
    r->end = r->start + (data ? len : 0);
}

size_t msc_reader_left(const MscReader *r)
{
    return (size_t)(r->end - r->pos);
}

bool msc_reader_view(MscReader *r, const uint8_t **out, size_t len)
{
    if (msc_reader_left(r) < len) {
        return false;
    }
    *out = r->pos;
    r->pos += len;
    return true;
}

bool msc_reader_copy(MscReader *r, void *out, size_t len)
{
    const uint8_t *p;

    if (!msc_reader_view(r, &p, len)) {
        return false;
    }
    memcpy(out, p, len);
    return true;
}

bool msc_reader_sub(MscReader *r, MscReader *sub, size_t len)
{
    const uint8_t *p;

    if (!msc_reader_view(r, &p, len)) {
        return false;
    }
    msc_reader_init(sub, p, len);
    return true;
}

static bool reader_uint(MscReader *r, uint64_t *v, size_t len)
{
    const uint8_t *p;

    if (!msc_reader_view(r, &p, len)) {
        return false;
    }
    for (*v = 0; len; len--) {
        *v = *v << 8 | *p++;
    }
    return true;
}

bool msc_reader_u8(MscReader *r, uint8_t *v)
{
    return msc_reader_copy(r, v, 1);
}

bool msc_reader_u16(MscReader *r, uint16_t *v)
{
    uint64_t wide;

    if (!reader_uint(r, &wide, sizeof(*v))) {
        return false;
    }
    *v = (uint16_t)wide;
    return true;
}

bool msc_reader_u32(MscReader *r, uint32_t *v)
{
    uint64_t wide;

    if (!reader_uint(r, &wide, sizeof(*v))) {
        return false;
    }
    *v = (uint32_t)wide;
    return true;
}

bool msc_reader_u64(MscReader *r, uint64_t *v)
{
    return reader_uint(r, v, sizeof(*v));
}

bool msc_reader_string(MscReader *r, char **out, size_t max)
{
    MscReader probe = *r;
    const uint8_t *p;
    uint16_t len;

    if (!msc_reader_u16(&probe, &len) || len > max ||
        !msc_reader_view(&probe, &p, len) || memchr(p, 0, len) ||
        !g_utf8_validate((const char *)p, len, NULL)) {
        return false;
    }
    *out = g_strndup((const char *)p, len);
    *r = probe;
    return true;
}

bool msc_reader_error(const MscReader *r, GError **errp, const char *what,
                      const char *why)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED, "%s: %s at byte %zu",
                what, why, (size_t)(r->pos - r->start));
    return false;
}

bool msc_reader_end(const MscReader *r, GError **errp, const char *what)
{
    if (msc_reader_left(r)) {
        return msc_reader_error(r, errp, what, "trailing bytes");
    }
    return true;
}

static void put_uint(GByteArray *out, uint64_t v, size_t len)
{
    uint8_t be[sizeof(v)];

    for (size_t i = len; i; i--, v >>= 8) {
        be[i - 1] = (uint8_t)v;
    }
    g_byte_array_append(out, be, (guint)len);
}

void msc_put_u8(GByteArray *out, uint8_t v)
{
    put_uint(out, v, sizeof(v));
}

void msc_put_u16(GByteArray *out, uint16_t v)
{
    put_uint(out, v, sizeof(v));
}

void msc_put_u32(GByteArray *out, uint32_t v)
{
    put_uint(out, v, sizeof(v));
}

void msc_put_u64(GByteArray *out, uint64_t v)
{
    put_uint(out, v, sizeof(v));
}

void msc_put_bytes(GByteArray *out, const void *data, size_t len)
{
    g_assert(len <= G_MAXUINT - out->len);
    if (len) {
        g_byte_array_append(out, data, (guint)len);
    }
}

void msc_put_string(GByteArray *out, const char *s)
{
    size_t len = strlen(s);

    g_assert(len <= UINT16_MAX);
    msc_put_u16(out, (uint16_t)len);
    msc_put_bytes(out, s, len);
}
