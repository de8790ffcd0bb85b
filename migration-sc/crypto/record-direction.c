/*
 * One direction of a channel: its key, its nonces, what went under them.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <string.h>

#include "error.h"
#include "kdf.h"
#include "record-private.h"
#include "secret.h"

static uint64_t limit(uint64_t wanted, uint64_t most)
{
    return wanted ? MIN(wanted, most) : most;
}

MscDirection *msc_direction_new(const MscChannelKeys *keys, const uint8_t *key,
                                GError **errp)
{
    const MscSuite *suite = msc_suite_by_id(keys->suite);
    MscDirection *d;

    if (!suite) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                    "suite %u is not to be had with this libsodium and CPU",
                    keys->suite);
        return NULL;
    }
    d = msc_secret_new(sizeof(*d), errp);
    if (d) {
        d->suite = suite;
        d->rekey_bytes = limit(keys->rekey_bytes, MSC_REKEY_BYTES);
        d->rekey_records = limit(keys->rekey_records, MSC_REKEY_RECORDS);
        memcpy(d->key, key, sizeof(d->key));
    }
    return d;
}

void msc_direction_nonce(const MscDirection *d,
                         uint8_t nonce[MSC_SUITE_NONCE_MAX])
{
    /* The record before the limit changes the key: a nonce never repeats. */
    g_assert(d->counter < d->rekey_records);
    memset(nonce, 0, MSC_SUITE_NONCE_MAX);
    for (size_t i = 0; i < sizeof(d->counter); i++) {
        nonce[i] = (uint8_t)(d->counter >> (8 * i));
    }
}

/* Relaxed: each number by itself is true, and no lock is needed. */
static void add(uint64_t *number, uint64_t by)
{
    __atomic_store_n(number, *number + by, __ATOMIC_RELAXED);
}

void msc_direction_count(MscDirection *d, size_t payload, size_t wire,
                         bool rekey)
{
    d->counter++;
    d->key_bytes += payload;
    add(&d->stats.records, 1);
    add(&d->stats.payload_bytes, payload);
    add(&d->stats.wire_bytes, wire);
    if (rekey) {
        uint8_t next[MSC_SUITE_KEY_MAX];

        msc_kdf(next, sizeof(next), d->key, "rekey", NULL, 0);
        memcpy(d->key, next, sizeof(next));
        msc_wipe(next, sizeof(next));
        d->counter = 0;
        d->key_bytes = 0;
        add(&d->stats.rekeys, 1);
    }
}

void msc_direction_stats(const MscDirection *d, MscRecordStats *stats)
{
    stats->records = __atomic_load_n(&d->stats.records, __ATOMIC_RELAXED);
    stats->payload_bytes =
        __atomic_load_n(&d->stats.payload_bytes, __ATOMIC_RELAXED);
    stats->wire_bytes = __atomic_load_n(&d->stats.wire_bytes, __ATOMIC_RELAXED);
    stats->rekeys = __atomic_load_n(&d->stats.rekeys, __ATOMIC_RELAXED);
}

size_t msc_cursor_piece(MscCursor *c, size_t max, uint8_t **p)
{
    size_t len = 0;

    while (c->left && c->offset == c->iov->iov_len) {
        c->iov++;
        c->left--;
        c->offset = 0;
    }
    if (!c->left) {
        return 0;
    }
    *p = (uint8_t *)c->iov->iov_base + c->offset;
    /* Pages of a guest are often neighbours. */
    for (size_t i = 0; i < c->left && len < max; i++) {
        const struct iovec *v = &c->iov[i];

        if (i && v->iov_len && (uint8_t *)v->iov_base != *p + len) {
            break;
        }
        len += v->iov_len - (i ? 0 : c->offset);
    }
    return MIN(len, max);
}

void msc_cursor_advance(MscCursor *c, size_t len)
{
    while (len) {
        size_t part = MIN(len, c->iov->iov_len - c->offset);

        c->offset += part;
        len -= part;
        if (c->offset == c->iov->iov_len) {
            c->iov++;
            c->left--;
            c->offset = 0;
        }
    }
}
