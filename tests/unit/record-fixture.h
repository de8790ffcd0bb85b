/*
 * A sealer and the opener at its other end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RECORD_FIXTURE_H
#define RECORD_FIXTURE_H

#include <string.h>

#include "channel-keys.h"
#include "error.h"
#include "format.h"

typedef struct {
    MscSealer *sealer;
    MscOpener *opener;
} Pair;

static inline MscChannelKeys keys_for(const MscSuite *suite,
                                      uint64_t rekey_bytes)
{
    MscChannelKeys keys = { .suite = suite->id,
                            .kind = MSC_CHANNEL_MAIN,
                            .rekey_bytes = rekey_bytes };

    memset(keys.send, 7, sizeof(keys.send));
    memset(keys.recv, 7, sizeof(keys.recv));
    return keys;
}

static inline Pair pair_new(const MscChannelKeys *keys)
{
    Pair p = { msc_sealer_new(keys, NULL), msc_opener_new(keys, NULL) };

    g_assert_nonnull(p.sealer);
    g_assert_nonnull(p.opener);
    return p;
}

static inline void pair_free(Pair *p)
{
    msc_sealer_free(p->sealer);
    msc_opener_free(p->opener);
}

static inline GByteArray *seal(MscSealer *s, const void *data, size_t len)
{
    struct iovec iov = { (void *)data, len };
    GByteArray *out = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    const uint8_t *p;
    size_t n;

    g_assert_cmpint(msc_sealer_seal(s, &iov, 1, &err), ==, len);
    g_assert_no_error(err);
    p = msc_sealer_pending(s, &n);
    g_byte_array_append(out, p, n);
    msc_sealer_consume(s, n);
    return out;
}

static inline bool feed(MscOpener *o, const GByteArray *bytes, GError **errp)
{
    size_t at = 0;

    while (at < bytes->len && msc_opener_state(o) == MSC_OPENER_MORE) {
        size_t space;
        uint8_t *p = msc_opener_space(o, &space);
        size_t n = MIN(space, bytes->len - at);

        memcpy(p, bytes->data + at, n);
        at += n;
        if (!msc_opener_fed(o, n, errp)) {
            return false;
        }
    }
    return true;
}

static inline void assert_opens(MscOpener *o, const GByteArray *record,
                                const void *data, size_t len)
{
    g_autofree uint8_t *out = g_malloc(len);
    struct iovec iov = { out, len };
    g_autoptr(GError) err = NULL;

    g_assert_true(feed(o, record, &err));
    g_assert_no_error(err);
    g_assert_cmpint(msc_opener_state(o), ==, MSC_OPENER_DATA);
    g_assert_cmpint(msc_opener_read(o, &iov, 1), ==, len);
    g_assert_cmpmem(out, len, data, len);
}

static inline void assert_refused(MscOpener *o, const GByteArray *record)
{
    g_autoptr(GError) err = NULL;

    g_assert_false(feed(o, record, &err));
    g_assert_nonnull(err);
    g_assert_cmpint(msc_opener_state(o), ==, MSC_OPENER_MORE);
    g_assert_false(msc_opener_check(o, NULL));
}

static inline GByteArray *seal_end(MscSealer *s)
{
    GByteArray *out = g_byte_array_new();
    const uint8_t *p;
    size_t n;

    g_assert_true(msc_sealer_end(s, NULL));
    p = msc_sealer_pending(s, &n);
    g_byte_array_append(out, p, (guint)n);
    msc_sealer_consume(s, n);
    return out;
}

#endif
