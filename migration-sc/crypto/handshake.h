/*
 * The handshake of the transport: mutual authentication, key agreement, and
 * the two-host admission inside it.  docs/transport.md, "Handshake".
 *
 * A state machine without I/O: it takes whole messages and gives whole
 * messages; who calls it moves them, with a u32 length before each.
 *
 * Full handshake (first channel; SIGMA-I, H. Krawczyk, CRYPTO 2003, with a KEM
 * in place of the Diffie-Hellman exchange):
 *
 *   source                                         destination
 *   HELLO   version, ids, suites, KEM keys  ---->
 *           <----  ACCEPT suite, KEM ciphertext, {identity, signature}
 *   AUTH    {identity, signature, admission request}  ---->
 *           <----  ADMIT {admission answer}  or  REFUSE {reason}
 *
 * {} is sealed under handshake keys.  A further channel proves knowledge of
 * the session secret in one round trip: FURTHER ----> / <---- FURTHER_OK.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_HANDSHAKE_H
#define MSC_CRYPTO_HANDSHAKE_H

#include <glib.h>
#include <migration-sc/helper-client.h>

#include "channel-keys.h"
#include "identity.h"

#define MSC_MIGRATION_ID_LEN 16
#define MSC_UUID_LEN 16
#define MSC_SESSION_SECRET_LEN 32

/* What both hosts share after the full handshake.  In locked memory. */
typedef struct {
    uint8_t migration_id[MSC_MIGRATION_ID_LEN];
    uint8_t vm[MSC_UUID_LEN];
    uint8_t peer[MSC_IDENTITY_KEY_LEN]; /* the other host's key */
    uint32_t suite;
    uint32_t kem;
    uint8_t channel_secret[MSC_SESSION_SECRET_LEN]; /* further channels */
    uint8_t context_key[MSC_SUITE_KEY_MAX];         /* seal.h, source->dest */
    bool context_sealed; /* the key was used: nonces would repeat */
} MscSession;

/* Name of a wire number, available here or not; "" if there is none. */
const char *msc_kem_name(unsigned id);

typedef struct {
    MscRole role; /* SOURCE speaks first */
    const MscIdentity *identity;
    uint8_t vm[MSC_UUID_LEN];
    uint8_t migration_id[MSC_MIGRATION_ID_LEN]; /* SOURCE: fresh random */
    /*
     * Is the holder of @key acceptable?  Returns its name (owned by the
     * caller), or NULL with the reason.  Called once the peer has proved that
     * it holds the key, and not before.
     */
    char *(*accept_peer)(const uint8_t key[MSC_IDENTITY_KEY_LEN], void *opaque,
                         GError **errp);
    /* SOURCE: the admission request, opaque here; at most MSC_ADMISSION_MAX. */
    GBytes *admission;
    /* DESTINATION: answer to the request, or NULL with the reason, which the
     * other host is told. @peer: accepted name. */
    GBytes *(*admit)(GBytes *request, const char *peer,
                     const uint8_t migration_id[MSC_MIGRATION_ID_LEN],
                     void *opaque, GError **errp);
    void *opaque;
    /* Policy, best first (msc_suite_policy()); NULL: all that encrypt. */
    const char *const *suites;
    bool post_quantum_only; /* policy: no classical key agreement */
} MscHandshakeConfig;

typedef struct MscHandshake MscHandshake;

MscHandshake *msc_handshake_new(const MscHandshakeConfig *config,
                                GError **errp);

/* A further channel. SOURCE gives kind, number and epoch; DESTINATION learns
 * them. */
MscHandshake *msc_handshake_new_further(MscRole role, const MscSession *session,
                                        MscChannelKind kind, uint32_t number,
                                        uint32_t epoch, GError **errp);

typedef enum {
    MSC_STEP_CONTINUE, /* send @out if it is not empty, wait for a message */
    MSC_STEP_DONE,     /* send @out if it is not empty; keys are ready */
    MSC_STEP_FAILED,   /* send @out if it is not empty (the reason for the
                             * peer), then give up; @errp is set */
} MscStep;

/* @in NULL: start (SOURCE only). @out is emptied first. */
MscStep msc_handshake_step(MscHandshake *hs, const uint8_t *in, size_t len,
                           GByteArray *out, GError **errp);

/* Does @hs begin, with @in NULL? */
bool msc_handshake_speaks_first(const MscHandshake *hs);

/* After DONE.  All owned by @hs, except where it says taken. */
const char *msc_handshake_peer(const MscHandshake *hs);
GBytes *msc_handshake_answer(const MscHandshake *hs);     /* SOURCE */
MscSession *msc_handshake_take_session(MscHandshake *hs); /* full only */
const MscChannelKeys *msc_handshake_channel_keys(const MscHandshake *hs);
uint32_t msc_handshake_epoch(const MscHandshake *hs); /* further */
void msc_handshake_free(MscHandshake *hs);

/* Which handshake does this first message start?  For a destination that has
 * read it and must decide. Returns false if it is neither. */
bool msc_handshake_is_further(const uint8_t *msg, size_t len, bool *further);

void msc_session_free(MscSession *session);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscHandshake, msc_handshake_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscSession, msc_session_free)

#endif
