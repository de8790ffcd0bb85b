/*
 * Inside of MscSealer and MscOpener.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_RECORD_PRIVATE_H
#define MSC_CRYPTO_RECORD_PRIVATE_H

#include "channel-keys.h"
#include "format.h"

typedef enum {
    MSC_RECORD_DATA = 1,
    MSC_RECORD_END = 2,
} MscRecordType;

#define MSC_RECORD_REKEY 1 /* flag: the key moves on after this record */

/*
 * From this payload on, a record is sealed straight from the caller's memory
 * and opened straight into it, where that is one piece.  The copy saved is
 * then worth more than the record that a piece of its own costs.
 */
#define MSC_RECORD_DIRECT_MIN (64 * 1024)

/* One direction's key and how much went under it; in locked memory. */
typedef struct {
    const MscSuite *suite;
    uint64_t counter;       /* records under this key: the nonce */
    uint64_t key_bytes;     /* payload bytes under this key */
    uint64_t rekey_bytes;   /* the sender's own limit */
    uint64_t rekey_records; /* counter stays below */
    MscRecordStats stats;   /* written by one thread, read by any */
    uint8_t key[MSC_SUITE_KEY_MAX];
} MscDirection;

MscDirection *msc_direction_new(const MscChannelKeys *keys, const uint8_t *key,
                                GError **errp);
/* The next record's nonce: the little-endian counter, then zeros. */
void msc_direction_nonce(const MscDirection *d,
                         uint8_t nonce[MSC_SUITE_NONCE_MAX]);
/* A record of @payload bytes, @wire on the network, went under this nonce. */
void msc_direction_count(MscDirection *d, size_t payload, size_t wire,
                         bool rekey);
void msc_direction_stats(const MscDirection *d, MscRecordStats *stats);

/* A place in a vector of buffers. */
typedef struct {
    const struct iovec *iov;
    size_t left;   /* buffers, the current one included */
    size_t offset; /* in the current one */
} MscCursor;

/* Length of the memory in one piece at @c, at most @max; *@p its start. */
size_t msc_cursor_piece(MscCursor *c, size_t max, uint8_t **p);
void msc_cursor_advance(MscCursor *c, size_t len);

struct MscSealer {
    MscDirection *d;
    uint8_t *buf;      /* what one call sealed */
    size_t begin, end; /* what of it is pending */
    bool ended;
    GError *error; /* sticky */
};

struct MscOpener {
    MscDirection *d;
    uint8_t *buf;          /* a record, and the next one's header */
    size_t len;            /* network bytes in buf */
    size_t record;         /* length of the record, 0: not known yet */
    uint8_t type, flags;   /* if it is known */
    size_t data, data_end; /* opened payload not yet read */
    MscOpenerState state;
    GError *error;
};

#endif
