/*
 * The record layer of the migration-sc transport.
 *
 * One channel has a sealer (bytes to the network) and an opener (bytes from
 * the network).  They share nothing, so that one thread may seal while another
 * opens without a lock; each by itself is used by one thread at a time.
 *
 * Neither does I/O: the caller moves the bytes, blocking or not as it likes.
 * The format is specified in docs/transport.md, "Records".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MIGRATION_SC_RECORD_H
#define MIGRATION_SC_RECORD_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

G_BEGIN_DECLS

/* Most payload bytes in one record. */
#define MSC_RECORD_MAX_PAYLOAD (512 * 1024)
/* Most that one call of msc_sealer_seal() takes: a packet of QEMU's multifd,
 * 512 KiB of pages and its header, goes out in one write. */
#define MSC_SEAL_MAX (MSC_RECORD_MAX_PAYLOAD + 64 * 1024)

typedef struct MscSealer MscSealer;
typedef struct MscOpener MscOpener;

/*
 * What one direction of a channel has done so far.  msc_sealer_get_stats() and
 * msc_opener_get_stats() may be called from any thread while the sealer or
 * opener lives; each number is true, though not all of the same moment.
 */
typedef struct {
    uint64_t payload_bytes;
    uint64_t records;
    uint64_t rekeys;
    uint64_t wire_bytes; /* headers and tags included */
} MscRecordStats;

/**
 * msc_sealer_seal: take payload from @iov and seal it, as one or more records.
 *
 * Takes at most MSC_SEAL_MAX bytes.  @iov may be guest memory that
 * changes meanwhile: short pieces are copied into the sealer's own buffer
 * before they are sealed; long ones (64 KiB, buffers that are neighbours count
 * as one) become records of their own, sealed without that copy: the ciphers
 * load each byte once.  Without encryption everything is copied.
 * Must not be called while msc_sealer_pending() still returns bytes.
 *
 * Returns: payload bytes taken (> 0 unless @iov is empty), or -1 with @errp
 * set, after which the sealer refuses all further work.
 */
ssize_t msc_sealer_seal(MscSealer *sealer, const struct iovec *iov, size_t niov,
                        GError **errp);

/**
 * msc_sealer_end: seal the end-of-stream record.  Nothing can be sealed after.
 * Same rule on pending bytes as msc_sealer_seal().  A second call is harmless
 * and seals nothing.
 */
bool msc_sealer_end(MscSealer *sealer, GError **errp);

/**
 * msc_sealer_pending: the sealed bytes that still have to go to the network.
 * Returns: a pointer into the sealer's buffer, *@len == 0 if there are none.
 */
const uint8_t *msc_sealer_pending(const MscSealer *sealer, size_t *len);

/* msc_sealer_consume: the network took the first @len pending bytes. */
void msc_sealer_consume(MscSealer *sealer, size_t len);

void msc_sealer_get_stats(const MscSealer *sealer, MscRecordStats *stats);

typedef enum {
    MSC_OPENER_MORE, /* needs more bytes from the network */
    MSC_OPENER_DATA, /* payload is ready for msc_opener_read() */
    MSC_OPENER_END,  /* the peer ended the stream; nothing follows */
} MscOpenerState;

/**
 * msc_opener_space: where to put bytes read from the network.
 * Valid in state MORE only.  *@len is how many bytes fit, always > 0.
 */
uint8_t *msc_opener_space(MscOpener *opener, size_t *len);

/**
 * msc_opener_fed: @len bytes were put at msc_opener_space().
 *
 * Returns: false with @errp set if a record is malformed or does not open
 * (changed, dropped, replayed, of another channel or direction).  The opener
 * then refuses all further work; no byte of that record was handed out.
 */
bool msc_opener_fed(MscOpener *opener, size_t len, GError **errp);

/**
 * msc_opener_fed_into: as msc_opener_fed(), but a long record (64 KiB) whose
 * payload fits into the first piece of @iov (buffers that are neighbours count
 * as one) is opened straight into it, which saves a copy.
 *
 * *@taken is the number of bytes put there, or 0: then go on as after
 * msc_opener_fed().  If it returns false, the contents of @iov are undefined.
 */
bool msc_opener_fed_into(MscOpener *opener, size_t len, const struct iovec *iov,
                         size_t niov, size_t *taken, GError **errp);

MscOpenerState msc_opener_state(const MscOpener *opener);

/**
 * msc_opener_read: move opened payload to @iov.
 * Returns: bytes moved; 0 in any state but DATA, or if @iov has no room.  When
 * the last payload byte is gone and the next header, which is there already, is
 * malformed, the next call of msc_opener_fed() or msc_opener_check() says so.
 */
size_t msc_opener_read(MscOpener *opener, const struct iovec *iov, size_t niov);

/* msc_opener_check: false with @errp set if the opener has failed. */
bool msc_opener_check(const MscOpener *opener, GError **errp);

/**
 * msc_opener_eof: the network says end of file.
 * Returns: true after an end-of-stream record; false with @errp set otherwise:
 * a stream that just stops was truncated.
 */
bool msc_opener_eof(MscOpener *opener, GError **errp);

void msc_opener_get_stats(const MscOpener *opener, MscRecordStats *stats);

/* Both wipe their keys. NULL is allowed. */
void msc_sealer_free(MscSealer *sealer);
void msc_opener_free(MscOpener *opener);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscSealer, msc_sealer_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscOpener, msc_opener_free)

G_END_DECLS

#endif
