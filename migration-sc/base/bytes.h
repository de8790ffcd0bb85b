/*
 * Strict reader and writer of byte strings; every integer is big-endian.
 *
 * A reader never moves past its end.  Each getter returns false when the value
 * is not there; the caller says what was malformed with msc_reader_error().
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_BASE_BYTES_H
#define MSC_BASE_BYTES_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *start;
    const uint8_t *pos;
    const uint8_t *end;
} MscReader;

void msc_reader_init(MscReader *r, const void *data, size_t len);
size_t msc_reader_left(const MscReader *r);
bool msc_reader_u8(MscReader *r, uint8_t *v);
bool msc_reader_u16(MscReader *r, uint16_t *v);
bool msc_reader_u32(MscReader *r, uint32_t *v);
bool msc_reader_u64(MscReader *r, uint64_t *v);
/* Copies @len bytes to @out. */
bool msc_reader_copy(MscReader *r, void *out, size_t len);
/* Points *@out at the next @len bytes, which stay owned by the input. */
bool msc_reader_view(MscReader *r, const uint8_t **out, size_t len);
/* A sub-reader over the next @len bytes; @r skips them. */
bool msc_reader_sub(MscReader *r, MscReader *sub, size_t len);
/* A string: u16 length, then UTF-8 without NUL, at most @max bytes. */
bool msc_reader_string(MscReader *r, char **out, size_t max);
/* Sets MSC_ERROR_MALFORMED: "<what>: <why> at byte <pos>".  Returns false. */
bool msc_reader_error(const MscReader *r, GError **errp, const char *what,
                      const char *why);
/* True at the end; otherwise an error "trailing bytes". */
bool msc_reader_end(const MscReader *r, GError **errp, const char *what);

void msc_put_u8(GByteArray *out, uint8_t v);
void msc_put_u16(GByteArray *out, uint16_t v);
void msc_put_u32(GByteArray *out, uint32_t v);
void msc_put_u64(GByteArray *out, uint64_t v);
void msc_put_bytes(GByteArray *out, const void *data, size_t len);
void msc_put_string(GByteArray *out, const char *s);

#endif
