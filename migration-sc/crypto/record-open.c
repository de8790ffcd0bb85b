/*
 * The record layer, from the network.  docs/transport.md, "Records".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <string.h>

#include "bytes.h"
#include "error.h"
#include "record-private.h"
#include "secret.h"

#define BUF_SIZE                                                      \
    (MSC_RECORD_HEADER + MSC_RECORD_MAX_PAYLOAD + MSC_SUITE_TAG_MAX + \
     MSC_RECORD_HEADER)

MscOpener *msc_opener_new(const MscChannelKeys *keys, GError **errp)
{
    MscDirection *d = msc_direction_new(keys, keys->recv, errp);
    MscOpener *o;

    if (!d) {
        return NULL;
    }
    o = g_new0(MscOpener, 1);
    o->d = d;
    o->buf = g_malloc(BUF_SIZE);
    return o;
}

void msc_opener_free(MscOpener *o)
{
    if (o) {
        msc_secret_free(o->d);
        msc_wipe(o->buf, BUF_SIZE);
        g_free(o->buf);
        g_clear_error(&o->error);
        g_free(o);
    }
}

static bool G_GNUC_PRINTF(2, 3)
    opener_fail(MscOpener *o, const char *format, ...)
{
    g_autofree char *why = NULL;
    va_list args;

    va_start(args, format);
    why = g_strdup_vprintf(format, args);
    va_end(args);
    o->error = g_error_new(MSC_ERROR, MSC_ERROR_AUTH,
                           "migration stream, record %" G_GUINT64_FORMAT ": %s",
                           o->d->stats.records, why);
    o->len = o->record = 0;
    return false;
}

/*
 * The rest of the record and the header of the next one, so that a record
 * costs one read when the sender is ahead.  No more: its payload would have to
 * be moved.  And nothing after the end, which is not ours to read.
 */
uint8_t *msc_opener_space(MscOpener *o, size_t *len)
{
    size_t want = !o->record                  ? MSC_RECORD_HEADER
                  : o->type == MSC_RECORD_END ? o->record
                                              : o->record + MSC_RECORD_HEADER;

    g_assert(o->state == MSC_OPENER_MORE && want > o->len);
    *len = want - o->len;
    return o->buf + o->len;
}

static size_t payload_len(const MscOpener *o)
{
    return o->record - MSC_RECORD_HEADER - o->d->suite->tag_len;
}

/* The first bytes of the buffer are a header. */
static bool header_decode(MscOpener *o)
{
    uint32_t len = 0;
    uint16_t zero = 0;
    MscReader r;

    msc_reader_init(&r, o->buf, MSC_RECORD_HEADER);
    msc_reader_u32(&r, &len);
    msc_reader_u8(&r, &o->type);
    msc_reader_u8(&r, &o->flags);
    msc_reader_u16(&r, &zero);
    if (o->type != MSC_RECORD_DATA && o->type != MSC_RECORD_END) {
        return opener_fail(o,
                           "unknown type %u: not a record, or changed on "
                           "the way",
                           o->type);
    }
    if (len > MSC_RECORD_MAX_PAYLOAD ||
        (o->type == MSC_RECORD_DATA) != (len > 0)) {
        return opener_fail(o, "bad length %u", len);
    }
    if ((o->flags & ~MSC_RECORD_REKEY) || zero) {
        return opener_fail(o, "unknown flags");
    }
    if (!(o->flags & MSC_RECORD_REKEY) &&
        (o->d->counter + 1 >= o->d->rekey_records ||
         o->d->key_bytes + len >= MSC_REKEY_BYTES)) {
        return opener_fail(o, "the sender should have changed the key");
    }
    o->record = MSC_RECORD_HEADER + len + o->d->suite->tag_len;
    return true;
}

/* Goes on to the next record, of which the header may be there already. */
static void next_record(MscOpener *o)
{
    o->len -= o->record;
    memmove(o->buf, o->buf + o->record, o->len);
    o->record = 0;
    o->state = MSC_OPENER_MORE;
    if (o->len == MSC_RECORD_HEADER) {
        header_decode(o);
    }
}

/* The whole record is in the buffer; its payload goes to @to. */
static bool open_record(MscOpener *o, uint8_t *to)
{
    uint8_t *payload = o->buf + MSC_RECORD_HEADER;
    MscDirection *d = o->d;
    uint8_t nonce[MSC_SUITE_NONCE_MAX];

    msc_direction_nonce(d, nonce);
    if (!d->suite->open(to, payload, o->record - MSC_RECORD_HEADER, o->buf,
                        MSC_RECORD_HEADER, nonce, d->key)) {
        return opener_fail(o, "does not open: it was changed, dropped, "
                              "replayed, or belongs to another channel");
    }
    msc_direction_count(d, payload_len(o), o->record,
                        o->flags & MSC_RECORD_REKEY);
    return true;
}

static void take_record(MscOpener *o, const struct iovec *iov, size_t niov,
                        size_t *taken)
{
    size_t len = payload_len(o);
    MscCursor c = { iov, niov, 0 };
    uint8_t *p;

    if (o->type == MSC_RECORD_DATA && len >= MSC_RECORD_DIRECT_MIN &&
        msc_cursor_piece(&c, len, &p) == len) {
        if (open_record(o, p)) {
            *taken = len;
            next_record(o);
        }
    } else if (open_record(o, o->buf + MSC_RECORD_HEADER)) {
        o->data = MSC_RECORD_HEADER;
        o->data_end = MSC_RECORD_HEADER + len;
        o->state = o->type == MSC_RECORD_END ? MSC_OPENER_END : MSC_OPENER_DATA;
    }
}

bool msc_opener_fed_into(MscOpener *o, size_t len, const struct iovec *iov,
                         size_t niov, size_t *taken, GError **errp)
{
    *taken = 0;
    if (!o->error) {
        g_assert(o->state == MSC_OPENER_MORE && len <= BUF_SIZE - o->len);
        o->len += len;
        if (!o->record && o->len >= MSC_RECORD_HEADER) {
            header_decode(o);
        }
        if (o->record && o->len >= o->record) {
            take_record(o, iov, niov, taken);
        }
        /* The payload comes first, then the error of what follows it. */
        if (*taken) {
            return true;
        }
    }
    return msc_opener_check(o, errp);
}

bool msc_opener_fed(MscOpener *o, size_t len, GError **errp)
{
    size_t taken;

    return msc_opener_fed_into(o, len, NULL, 0, &taken, errp);
}

MscOpenerState msc_opener_state(const MscOpener *o)
{
    return o->state;
}

size_t msc_opener_read(MscOpener *o, const struct iovec *iov, size_t niov)
{
    MscCursor c = { iov, niov, 0 };
    size_t done = 0, piece;
    uint8_t *p;

    if (o->state != MSC_OPENER_DATA) {
        return 0;
    }
    while (o->data < o->data_end &&
           (piece = msc_cursor_piece(&c, o->data_end - o->data, &p))) {
        memcpy(p, o->buf + o->data, piece);
        msc_cursor_advance(&c, piece);
        o->data += piece;
        done += piece;
    }
    if (o->data == o->data_end) {
        next_record(o);
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
    msc_direction_stats(o->d, stats);
}
