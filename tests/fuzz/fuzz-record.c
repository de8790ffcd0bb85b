/*
 * Whatever the network sends, the opener hands out only what was sealed.
 *
 * The first byte of the input says how much of a true stream comes first, and
 * in pieces of which size all of it arrives; the rest of the input follows.
 * What comes out is the true payload or nothing, and the stream ends well only
 * if it is the true one.
 *
 *   clang -fsanitize=fuzzer,address,undefined ... fuzz-record.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <migration-sc/helper-client.h>
#include <stdlib.h>
#include <string.h>

#include "channel-keys.h"

static const char payload[] = "guest memory";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_pending(MscSealer *s, GByteArray *out)
{
    size_t len;
    const uint8_t *p = msc_sealer_pending(s, &len);

    g_byte_array_append(out, p, (guint)len);
    msc_sealer_consume(s, len);
}

/* One record and END. */
static GByteArray *true_stream(const MscChannelKeys *keys)
{
    struct iovec iov = { (void *)payload, sizeof(payload) };
    MscSealer *s = msc_sealer_new(keys, NULL);
    GByteArray *out = g_byte_array_new();

    if (msc_sealer_seal(s, &iov, 1, NULL) != sizeof(payload)) {
        abort();
    }
    put_pending(s, out);
    if (!msc_sealer_end(s, NULL)) {
        abort();
    }
    put_pending(s, out);
    msc_sealer_free(s);
    return out;
}

static void take_payload(MscOpener *o, size_t *taken)
{
    uint8_t got[sizeof(payload) + 1];
    struct iovec iov = { got, sizeof(got) };
    size_t len;

    if (msc_opener_state(o) != MSC_OPENER_DATA) {
        return;
    }
    len = msc_opener_read(o, &iov, 1);
    *taken += len;
    if (*taken > sizeof(payload) || memcmp(got, payload, sizeof(payload))) {
        abort(); /* handed out what nobody sealed */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    MscChannelKeys keys = { .suite = MSC_SUITE_XCHACHA20_POLY1305,
                            .kind = MSC_CHANNEL_MAIN };
    MscOpener *o = msc_opener_new(&keys, NULL);
    g_autoptr(GByteArray) stream = true_stream(&keys);
    guint whole = stream->len;
    size_t taken = 0, at = 0, step;
    g_autoptr(GError) err = NULL;
    bool changed;

    if (!o) {
        abort();
    }
    step = size ? data[0] % 7 + 1 : 1;
    g_byte_array_set_size(stream, size ? data[0] % (whole + 1) : whole);
    if (size > 1) {
        g_byte_array_append(stream, data + 1, (guint)(size - 1));
    }
    {
        g_autoptr(GByteArray) same = true_stream(&keys);

        changed =
            stream->len < whole || memcmp(stream->data, same->data, whole);
    }
    while (!err && at < stream->len && msc_opener_state(o) == MSC_OPENER_MORE) {
        size_t space;
        uint8_t *p = msc_opener_space(o, &space);
        size_t n = MIN(MIN(step, space), stream->len - at);

        if (!n) {
            abort(); /* no way on, and no reason */
        }
        memcpy(p, stream->data + at, n);
        at += n;
        if (msc_opener_fed(o, n, &err) == (err != NULL)) {
            abort();
        }
        take_payload(o, &taken);
    }
    if (msc_opener_eof(o, NULL) == changed) {
        abort(); /* END is real, or the stream was cut */
    }
    msc_opener_free(o);
    return 0;
}
