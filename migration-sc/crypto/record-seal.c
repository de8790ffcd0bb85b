/*
 * The record layer, towards the network.  docs/transport.md, "Records".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <string.h>

#include "error.h"
#include "record-private.h"
#include "secret.h"

/* At worst, long pieces with short ones before, between and behind them. */
#define RECORDS_MAX (2 * (MSC_SEAL_MAX / MSC_RECORD_DIRECT_MIN) + 1)
#define BUF_SIZE \
    (MSC_SEAL_MAX + RECORDS_MAX * (MSC_RECORD_HEADER + MSC_SUITE_TAG_MAX))

MscSealer *msc_sealer_new(const MscChannelKeys *keys, GError **errp)
{
    MscDirection *d = msc_direction_new(keys, keys->send, errp);
    MscSealer *s;

    if (!d) {
        return NULL;
    }
    s = g_new0(MscSealer, 1);
    s->d = d;
    s->buf = g_malloc(BUF_SIZE);
    return s;
}

void msc_sealer_free(MscSealer *s)
{
    if (s) {
        msc_secret_free(s->d);
        msc_wipe(s->buf, BUF_SIZE);
        g_free(s->buf);
        g_clear_error(&s->error);
        g_free(s);
    }
}

static bool sealer_usable(MscSealer *s, GError **errp)
{
    if (!s->error && s->begin != s->end) {
        s->error = g_error_new_literal(MSC_ERROR, MSC_ERROR_STATE,
                                       "sealed bytes are still pending");
    } else if (!s->error && s->ended) {
        s->error = g_error_new_literal(MSC_ERROR, MSC_ERROR_STATE,
                                       "the stream was ended already");
    }
    if (s->error) {
        g_propagate_error(errp, g_error_copy(s->error));
        return false;
    }
    s->begin = s->end = 0;
    return true;
}

static void header_encode(uint8_t *h, size_t len, MscRecordType type,
                          uint8_t flags)
{
    h[0] = (uint8_t)(len >> 24);
    h[1] = (uint8_t)(len >> 16);
    h[2] = (uint8_t)(len >> 8);
    h[3] = (uint8_t)len;
    h[4] = (uint8_t)type;
    h[5] = flags;
    h[6] = h[7] = 0;
}

/* Appends a record of the @len bytes at @from to the buffer. */
static void seal_record(MscSealer *s, MscRecordType type, const uint8_t *from,
                        size_t len)
{
    MscDirection *d = s->d;
    bool rekey = d->key_bytes + len >= d->rekey_bytes ||
                 d->counter + 1 >= d->rekey_records;
    uint8_t *header = s->buf + s->end;
    size_t wire = MSC_RECORD_HEADER + len + d->suite->tag_len;
    uint8_t nonce[MSC_SUITE_NONCE_MAX];

    g_assert(wire <= BUF_SIZE - s->end);
    header_encode(header, len, type, rekey ? MSC_RECORD_REKEY : 0);
    msc_direction_nonce(d, nonce);
    d->suite->seal(header + MSC_RECORD_HEADER, from, len, header,
                   MSC_RECORD_HEADER, nonce, d->key);
    msc_direction_count(d, len, wire, rekey);
    s->end += wire;
}

/* Without encryption, the tag and the network would each read the caller's
 * memory, and see two things. */
static bool is_direct(const MscSealer *s, size_t len)
{
    return len >= MSC_RECORD_DIRECT_MIN && s->d->suite->encrypts;
}

/* Copies short pieces to where their record will be, up to a long one. */
static size_t gather(const MscSealer *s, MscCursor *c, uint8_t *to, size_t max)
{
    size_t len = 0, piece;
    uint8_t *p;

    while (len < max && (piece = msc_cursor_piece(c, max - len, &p)) &&
           !is_direct(s, piece)) {
        memcpy(to + len, p, piece);
        len += piece;
        msc_cursor_advance(c, piece);
    }
    return len;
}

ssize_t msc_sealer_seal(MscSealer *s, const struct iovec *iov, size_t niov,
                        GError **errp)
{
    MscCursor c = { iov, niov, 0 };
    size_t taken = 0, len;

    if (!sealer_usable(s, errp)) {
        return -1;
    }
    for (; taken < MSC_SEAL_MAX; taken += len) {
        size_t room = MIN(MSC_SEAL_MAX - taken, MSC_RECORD_MAX_PAYLOAD);
        uint8_t *copy = s->buf + s->end + MSC_RECORD_HEADER, *p = copy;

        len = gather(s, &c, copy, room);
        if (!len) {
            len = msc_cursor_piece(&c, room, &p);
            msc_cursor_advance(&c, len);
        }
        if (!len) {
            break;
        }
        seal_record(s, MSC_RECORD_DATA, p, len);
    }
    return (ssize_t)taken;
}

bool msc_sealer_end(MscSealer *s, GError **errp)
{
    if (s->ended && !s->error) {
        return true;
    }
    if (!sealer_usable(s, errp)) {
        return false;
    }
    seal_record(s, MSC_RECORD_END, s->buf + MSC_RECORD_HEADER, 0);
    s->ended = true;
    return true;
}

const uint8_t *msc_sealer_pending(const MscSealer *s, size_t *len)
{
    *len = s->end - s->begin;
    return s->buf + s->begin;
}

void msc_sealer_consume(MscSealer *s, size_t len)
{
    g_assert(len <= s->end - s->begin);
    s->begin += len;
}

void msc_sealer_get_stats(const MscSealer *s, MscRecordStats *stats)
{
    msc_direction_stats(s->d, stats);
}
