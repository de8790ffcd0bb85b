/*
 * What QEMU asks of its host's helper, migration-scd.
 *
 * A client is one side of one migration: one connection to the helper, opened
 * for one guest in one role.  The order of calls, source on the left:
 *
 *   msc_client_open(SOURCE)            msc_client_open(DESTINATION)
 *   msc_client_handshake(MAIN)  <--->  msc_client_handshake()
 *       further channels, each   <-->      likewise
 *   ... RAM ...
 *   msc_client_batch(), all the time  -->  msc_client_stage() for each
 *   the guest is stopped
 *   msc_client_freeze()
 *   msc_client_collect() until 0  -->  msc_client_stage() for each chunk
 *                                      msc_client_validate()
 *                                      ... QEMU has loaded everything ...
 *                                      msc_client_ready()
 *   msc_client_release()         <--       READY
 *       RELEASE                  -->   msc_client_commit()
 *                                      the guest runs
 *   msc_client_finish()          <--       DONE
 *
 * msc_client_release() is the point of no return: before it the source may
 * msc_client_thaw() and run its guest again; after it, it must not, until
 * msc_client_verdict() says so.
 *
 * Every call blocks, at most for the time-out given to msc_client_open():
 * call from a thread that may wait, never from the main loop.  Calls on one
 * client are serialized by an internal lock, except msc_client_handshake(),
 * which may run in several threads at once, and msc_client_cancel().
 *
 * Errors are GErrors whose message is one sentence for the user.
 * The protocol is specified in docs/helper-protocol.md.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MIGRATION_SC_HELPER_CLIENT_H
#define MIGRATION_SC_HELPER_CLIENT_H

#include <migration-sc/record.h>

G_BEGIN_DECLS

typedef enum {
    MSC_ROLE_SOURCE = 1,
    MSC_ROLE_DESTINATION = 2,
} MscRole;

typedef enum {
    MSC_CHANNEL_MAIN = 1,
    MSC_CHANNEL_MULTIFD = 2,
    MSC_CHANNEL_POSTCOPY_PREEMPT = 3,
    MSC_CHANNEL_RECOVERED = 4, /* the main one of a postcopy, after a break */
} MscChannelKind;

/* Length of the text form of a UUID without the terminating NUL. */
#define MSC_UUID_STR_LEN 36

typedef struct MscClient MscClient;

/**
 * msc_client_open: connect to the helper at @socket_path and open a session.
 *
 * @role: which side of the migration this is
 * @vm_uuid: the guest, text form; the helper checks that the calling process
 *           may act for it
 * @timeout_ms: bound of every later call, 0 for the helper's default
 *
 * The peer decides with the handshake: nothing is sent to the other host yet.
 */
MscClient *msc_client_open(const char *socket_path, MscRole role,
                           const char *vm_uuid, unsigned timeout_ms,
                           GError **errp);

/**
 * msc_client_open_transport: likewise, for a stream whose other end is no
 * patched QEMU: channels are protected, but no security context moves.
 *
 * Both hosts' policies must name it (context=optional), and both ends must
 * have opened their session so.  Of the calls below only
 * msc_client_handshake() and, to end it with a reason for the record ("" if
 * all went well), msc_client_thaw() on the source and msc_client_abort() on
 * the destination are for it.
 */
MscClient *msc_client_open_transport(const char *socket_path, MscRole role,
                                     const char *vm_uuid, unsigned timeout_ms,
                                     GError **errp);

/* Cancel from any thread: calls that block return with an error, now and
 * later.  The helper takes it like a lost connection. */
void msc_client_cancel(MscClient *client);

MscClient *msc_client_ref(MscClient *client);
void msc_client_unref(MscClient *client);

/**
 * msc_client_offer_precopy: before the handshake: this QEMU can carry the
 * context while the guest runs.  If both ends' QEMUs and helpers can, only
 * what changed is left for the time when it is stopped; if not, or if this is
 * not called, nothing changes.  An error of code "state" or "malformed" means
 * that the helper is too old for it.
 */
bool msc_client_offer_precopy(MscClient *client, GError **errp);

/* What a finished handshake gives to QEMU.  All strings are owned by it. */
typedef struct {
    MscChannelKind kind;
    uint32_t number;
    char *suite; /* e.g. "aes-256-gcm" */
    char *kem;   /* e.g. "x25519", "" for a further channel */
    char *peer;  /* verified name of the other host */
    char migration_id[MSC_UUID_STR_LEN + 1];
    uint64_t handshake_us;
    MscSealer *sealer; /* take (and set to NULL) or leave */
    MscOpener *opener;
} MscChannel;

void msc_channel_free(MscChannel *channel);

/**
 * msc_channel_pair: two ends of one channel, under fresh random keys that
 * nobody else ever had, without helper and handshake.  For tests of what is
 * built on channels.
 */
bool msc_channel_pair(uint64_t rekey_bytes, MscChannel *ends[2], GError **errp);

/**
 * msc_client_handshake: let the helpers protect the connected socket @fd.
 *
 * The helper gets a duplicate of @fd, and closes it when it is done; it reads
 * not a byte further than the handshake.  @fd stays the caller's and may be
 * blocking or not; its flags come back as they were.
 *
 * @kind, @number: which channel this is; on the destination both are 0 and
 *                 the result says which channel arrived
 * @expected_peer: name of the only acceptable peer, or NULL for the policy's
 * @rekey_bytes: rekey after so many bytes, 0 for the default (tests use less)
 *
 * The first channel, kind MAIN, carries the two-host admission: on return
 * both helpers know the guest and are willing.
 */
MscChannel *msc_client_handshake(MscClient *client, int fd, MscChannelKind kind,
                                 uint32_t number, const char *expected_peer,
                                 uint64_t rekey_bytes, GError **errp);

/* What freeze or validate counted. */
typedef struct {
    uint64_t flows;       /* entries in the context */
    uint64_t left_behind; /* entries left on the source, by policy */
    uint64_t bytes;       /* of the sealed context */
    uint64_t elapsed_us;  /* in the helper */
} MscContextStats;

typedef enum {
    MSC_PRECOPY_OFF = 0,  /* not both ends can: all comes at freeze */
    MSC_PRECOPY_BULK = 1, /* what there is is being sent */
    MSC_PRECOPY_LIVE = 2, /* it was sent; changes follow */
} MscPrecopyState;

typedef struct {
    MscPrecopyState state;
    uint64_t sent;    /* entries that are there, or on the way */
    uint64_t total;   /* entries there are, as far as is known */
    uint64_t backlog; /* changes seen and not sent */
} MscPrecopyStatus;

/**
 * Source, while the guest runs, again and again: the next batch, opaque to
 * QEMU.  Takes a few milliseconds; no batch holds more than MSC_CHUNK_MAX.
 * The guest should not stop before the state is LIVE and the destination has
 * staged every batch; if it does, the freeze takes longer, no more.
 * Returns: 1 with *@chunk set; 0 if there is nothing to send now; -1 with
 * @errp set.
 */
int msc_client_batch(MscClient *client, GBytes **chunk,
                     MscPrecopyStatus *status, GError **errp);

/* Source: the guest is stopped; take the final snapshot of its context. */
bool msc_client_freeze(MscClient *client, MscContextStats *stats,
                       GError **errp);

/**
 * Source: next sealed chunk of the frozen context, opaque to QEMU.
 * Returns: 1 with *@chunk set; 0 when all chunks, END included, were given;
 * -1 with @errp set.  What fitted came with freeze, and is given at once.
 */
int msc_client_collect(MscClient *client, GBytes **chunk, GError **errp);

/* Largest chunk that collect gives and stage takes, in bytes. */
#define MSC_CHUNK_MAX (256 * 1024)

/* Destination: hand over one chunk, in order.  A batch is installed at once;
 * the rest with msc_client_validate(). */
bool msc_client_stage(MscClient *client, const void *chunk, size_t len,
                      GError **errp);
/* The same; *@flows: entries that are installed by now. */
bool msc_client_stage_batch(MscClient *client, const void *chunk, size_t len,
                            uint64_t *flows, GError **errp);

/* Largest READY, RELEASE or DONE message in bytes: fits QEMU's return path. */
#define MSC_PROOF_MAX 256

/**
 * Destination: all chunks are here: check the whole context, its END and
 * digest, and install it so that commit cannot fail.  Any failure leaves the
 * host as it was.  QEMU may be loading the guest's devices meanwhile.
 */
bool msc_client_validate(MscClient *client, MscContextStats *stats,
                         GError **errp);

/**
 * Destination: QEMU has loaded everything as well; the guest can run here.
 * From here on the source may let go, and msc_client_abort() fails.
 * *@ready: to be carried to the source.
 */
bool msc_client_ready(MscClient *client, GBytes **ready, GError **errp);

typedef enum {
    MSC_RELEASE_SENT,    /* journalled; *release must be sent */
    MSC_RELEASE_REFUSED, /* READY was no good; the source still owns */
    MSC_RELEASE_UNKNOWN, /* the helper did not answer: ask for a verdict */
} MscReleaseResult;

/* Source: check READY, journal the release, get RELEASE to be sent. */
MscReleaseResult msc_client_release(MscClient *client, const void *ready,
                                    size_t len, GBytes **release,
                                    GError **errp);

/* Destination: check RELEASE; the guest may run when this returns true.
 * *@done: to be carried to the source. */
bool msc_client_commit(MscClient *client, const void *release, size_t len,
                       GBytes **done, GError **errp);

/* Source: check DONE; the old host's entries of the guest are removed. */
bool msc_client_finish(MscClient *client, const void *done, size_t len,
                       GError **errp);

/* Source, before RELEASE: undo freeze.  Acknowledged: when it returns true
 * the guest may run.  After RELEASE it fails. */
bool msc_client_thaw(MscClient *client, const char *reason, GError **errp);

/* Destination: undo everything staged.  Fails after RELEASE arrived, and
 * after READY was given out (only a verdict ends that). */
bool msc_client_abort(MscClient *client, const char *reason, GError **errp);

typedef enum {
    MSC_VERDICT_RUN,     /* this side owns the guest: run it */
    MSC_VERDICT_DISCARD, /* the other side owns the guest */
    MSC_VERDICT_PENDING, /* nobody knows yet: stay paused, ask again */
} MscVerdict;

/**
 * msc_verdict: who owns the guest of a migration whose end was cut off.
 *
 * Opens a connection of its own, so that it works after the helper was
 * restarted.  @migration_id as in MscChannel.  Blocks at most @timeout_ms.
 * Asking on the source before RELEASE was journalled withdraws the migration:
 * the answer is RUN and RELEASE will never be given.
 * An error (no helper, time-out) is to be treated like PENDING.
 */
bool msc_verdict(const char *socket_path, MscRole role, const char *vm_uuid,
                 const char *migration_id, unsigned timeout_ms,
                 MscVerdict *verdict, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscClient, msc_client_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscChannel, msc_channel_free)

G_END_DECLS

#endif
