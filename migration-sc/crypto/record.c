/*
 * The record layer.  docs/transport.md, "Records".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <sodium.h>
#include <string.h>

#include "bytes.h"
#include "channel-keys.h"
#include "error.h"
#include "format.h"
#include "kdf.h"
#include "secret.h"

#define RECORD_MAX (MSC_RECORD_HEADER + MSC_RECORD_MAX_PAYLOAD + \
                    MSC_SUITE_TAG_MAX)

typedef enum {
    RECORD_DATA = 1,
    RECORD_END = 2,
} RecordType;

#define FLAG_REKEY 1    /* the key moves on after this record */

/* One direction's key and how much went under it; in locked memory. */
typedef struct {
    const MscSuite *suite;
    uint64_t counter;           /* records under this key: the nonce */
    uint64_t key_bytes;         /* payload bytes under this key */
    uint64_t rekey_bytes;
    MscRecordStats stats;
    uint8_t key[MSC_SUITE_KEY_MAX];
} Direction;

struct MscSealer {
    Direction *d;
    uint8_t *buf;               /* one record */
    size_t begin, end;          /* what of it is pending */
    bool ended;
    GError *error;              /* sticky */
};

struct MscOpener {
    Direction *d;
    uint8_t *buf;
    size_t len;                 /* network bytes in buf */
    size_t need;                /* of the current record: header, then all */
    size_t data, data_end;      /* opened payload not yet read */
    MscOpenerState state;
    GError *error;
};

static Direction *direction_new(const MscChannelKeys *keys,
                                const uint8_t *key, GError **errp)
{
    const MscSuite *suite = msc_suite_by_id(keys->suite);
    Direction *d;

    if (!suite) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                    "suite %u is not to be had with this libsodium and CPU",
                    keys->suite);
        return NULL;
    }
    d = msc_secret_new(sizeof(*d), errp);
    if (d) {
        d->suite = suite;
        d->rekey_bytes = keys->rekey_bytes ? keys->rekey_bytes
                                           : MSC_REKEY_BYTES;
        memcpy(d->key, key, sizeof(d->key));
    }
    return d;
}

/* Little-endian counter, then zeros. */
static void direction_nonce(Direction *d, uint8_t nonce[MSC_SUITE_NONCE_MAX])
{
    /* A rekey comes after MSC_REKEY_RECORDS; a nonce never repeats. */
    g_assert(d->counter < MSC_REKEY_RECORDS);
    memset(nonce, 0, MSC_SUITE_NONCE_MAX);
    for (size_t i = 0; i < sizeof(d->counter); i++) {
        nonce[i] = (uint8_t)(d->counter >> (8 * i));
    }
}

static void direction_count(Direction *d, size_t payload, bool rekey)
{
    d->counter++;
    d->key_bytes += payload;
    d->stats.records++;
    d->stats.payload_bytes += payload;
    if (rekey) {
        uint8_t next[MSC_SUITE_KEY_MAX];

        msc_kdf(next, sizeof(next), d->key, "rekey", NULL, 0);
        memcpy(d->key, next, sizeof(next));
        msc_wipe(next, sizeof(next));
        d->counter = 0;
        d->key_bytes = 0;
        d->stats.rekeys++;
    }
}

static void header_encode(uint8_t *h, size_t len, RecordType type,
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

MscSealer *msc_sealer_new(const MscChannelKeys *keys, GError **errp)
{
    Direction *d = direction_new(keys, keys->send, errp);
    MscSealer *s;

    if (!d) {
        return NULL;
    }
    s = g_new0(MscSealer, 1);
    s->d = d;
    s->buf = g_malloc(RECORD_MAX);
    return s;
}

void msc_sealer_free(MscSealer *s)
{
    if (s) {
        msc_secret_free(s->d);
        msc_wipe(s->buf, RECORD_MAX);
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
    return true;
}

/* The payload stands in the buffer, behind the header. */
static void seal_record(MscSealer *s, RecordType type, size_t len)
{
    Direction *d = s->d;
    bool rekey = d->key_bytes + len >= d->rekey_bytes ||
                 d->counter + 1 >= MSC_REKEY_RECORDS;
    uint8_t *payload = s->buf + MSC_RECORD_HEADER;
    uint8_t nonce[MSC_SUITE_NONCE_MAX];

    header_encode(s->buf, len, type, rekey ? FLAG_REKEY : 0);
    direction_nonce(d, nonce);
    d->suite->seal(payload, payload, len, s->buf, MSC_RECORD_HEADER, nonce,
                   d->key);
    direction_count(d, len, rekey);
    s->begin = 0;
    s->end = MSC_RECORD_HEADER + len + d->suite->tag_len;
}

ssize_t msc_sealer_seal(MscSealer *s, const struct iovec *iov, size_t niov,
                        GError **errp)
{
    uint8_t *payload = s->buf + MSC_RECORD_HEADER;
    size_t len = 0;

    if (!sealer_usable(s, errp)) {
        return -1;
    }
    for (size_t i = 0; i < niov && len < MSC_RECORD_MAX_PAYLOAD; i++) {
        size_t part = MIN(iov[i].iov_len, MSC_RECORD_MAX_PAYLOAD - len);

        if (part) {
            memcpy(payload + len, iov[i].iov_base, part);
            len += part;
        }
    }
    if (len) {
        seal_record(s, RECORD_DATA, len);
    }
    return (ssize_t)len;
}

bool msc_sealer_end(MscSealer *s, GError **errp)
{
    if (s->ended && !s->error) {
        return true;
    }
    if (!sealer_usable(s, errp)) {
        return false;
    }
    seal_record(s, RECORD_END, 0);
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
    *stats = s->d->stats;
}

MscOpener *msc_opener_new(const MscChannelKeys *keys, GError **errp)
{
    Direction *d = direction_new(keys, keys->recv, errp);
    MscOpener *o;

    if (!d) {
        return NULL;
    }
    o = g_new0(MscOpener, 1);
    o->d = d;
    o->buf = g_malloc(RECORD_MAX);
    o->need = MSC_RECORD_HEADER;
    return o;
}

void msc_opener_free(MscOpener *o)
{
    if (o) {
        msc_secret_free(o->d);
        msc_wipe(o->buf, RECORD_MAX);
        g_free(o->buf);
        g_clear_error(&o->error);
        g_free(o);
    }
}

static bool G_GNUC_PRINTF(2, 3) opener_fail(MscOpener *o, const char *format,
                                            ...)
{
    g_autofree char *why = NULL;
    va_list args;

    va_start(args, format);
    why = g_strdup_vprintf(format, args);
    va_end(args);
    o->error = g_error_new(MSC_ERROR, MSC_ERROR_AUTH,
                           "migration stream, record %" G_GUINT64_FORMAT
                           ": %s", o->d->stats.records, why);
    return false;
}

/*
 * Only the current record is ever asked for: bytes of the next would have to
 * be moved, and what follows the last record is not ours to read.
 */
uint8_t *msc_opener_space(MscOpener *o, size_t *len)
{
    g_assert(o->state == MSC_OPENER_MORE);
    *len = o->need - o->len;
    return o->buf + o->len;
}

static bool header_decode(MscOpener *o, size_t *payload, uint8_t *type,
                          uint8_t *flags)
{
    uint32_t len = 0;
    uint16_t zero = 0;
    MscReader r;

    msc_reader_init(&r, o->buf, MSC_RECORD_HEADER);
    msc_reader_u32(&r, &len);
    msc_reader_u8(&r, type);
    msc_reader_u8(&r, flags);
    msc_reader_u16(&r, &zero);
    if (*type != RECORD_DATA && *type != RECORD_END) {
        return opener_fail(o, "unknown type %u: not a record, or changed on "
                           "the way", *type);
    }
    if (len > MSC_RECORD_MAX_PAYLOAD || (*type == RECORD_DATA) != (len > 0)) {
        return opener_fail(o, "bad length %u", len);
    }
    if ((*flags & ~FLAG_REKEY) || zero) {
        return opener_fail(o, "unknown flags");
    }
    *payload = len;
    return true;
}

static bool open_record(MscOpener *o)
{
    Direction *d = o->d;
    uint8_t *payload = o->buf + MSC_RECORD_HEADER;
    uint8_t nonce[MSC_SUITE_NONCE_MAX];
    uint8_t type = 0, flags = 0;
    size_t len = 0;
    bool rekey;

    if (!header_decode(o, &len, &type, &flags)) {
        return false;
    }
    if (o->len == MSC_RECORD_HEADER) {
        o->need = MSC_RECORD_HEADER + len + d->suite->tag_len;
        return true;
    }
    rekey = flags & FLAG_REKEY;
    if (d->counter + 1 >= MSC_REKEY_RECORDS && !rekey) {
        return opener_fail(o, "the sender should have changed the key");
    }
    direction_nonce(d, nonce);
    if (!d->suite->open(payload, payload, len + d->suite->tag_len, o->buf,
                        MSC_RECORD_HEADER, nonce, d->key)) {
        return opener_fail(o, "does not open: it was changed, dropped, "
                           "replayed, or belongs to another channel");
    }
    direction_count(d, len, rekey);
    o->len = 0;
    o->need = MSC_RECORD_HEADER;
    o->data = MSC_RECORD_HEADER;
    o->data_end = MSC_RECORD_HEADER + len;
    o->state = type == RECORD_END ? MSC_OPENER_END : MSC_OPENER_DATA;
    return true;
}

bool msc_opener_fed(MscOpener *o, size_t len, GError **errp)
{
    g_assert(o->state == MSC_OPENER_MORE && len <= o->need - o->len);
    o->len += len;
    if (!o->error && o->len == o->need) {
        open_record(o);
    }
    return msc_opener_check(o, errp);
}

MscOpenerState msc_opener_state(const MscOpener *o)
{
    return o->state;
}

size_t msc_opener_read(MscOpener *o, const struct iovec *iov, size_t niov)
{
    size_t done = 0;

    if (o->state != MSC_OPENER_DATA) {
        return 0;
    }
    for (size_t i = 0; i < niov && o->data < o->data_end; i++) {
        size_t part = MIN(iov[i].iov_len, o->data_end - o->data);

        if (part) {
            memcpy(iov[i].iov_base, o->buf + o->data, part);
            o->data += part;
            done += part;
        }
    }
    if (o->data == o->data_end) {
        o->state = MSC_OPENER_MORE;
    }
    return done;
}

bool msc_opener_check(const MscOpener *o, GError **errp)
{
    if (o->error) {
        g_propagate_error(errp, g_error_copy(o->error));
        return false;
    }
    return true;
}

bool msc_opener_eof(MscOpener *o, GError **errp)
{
    if (!o->error && o->state != MSC_OPENER_END) {
        opener_fail(o, "the stream was cut off: it stops without its end");
    }
    return msc_opener_check(o, errp);
}

void msc_opener_get_stats(const MscOpener *o, MscRecordStats *stats)
{
    *stats = o->d->stats;
}
