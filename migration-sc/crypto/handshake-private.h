/*
 * Inside of MscHandshake.  docs/transport.md, "Handshake".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_HANDSHAKE_PRIVATE_H
#define MSC_CRYPTO_HANDSHAKE_PRIVATE_H

#include "bytes.h"
#include "format.h"
#include "handshake.h"
#include "kdf.h"
#include "kem.h"

#define HS_NONCE_LEN 32
#define HS_MAC_LEN 32
#define HS_TRANSCRIPT_LEN 64 /* BLAKE2b-512 */

/* First byte of each message; the second is zero. */
typedef enum {
    HS_HELLO = 1,
    HS_ACCEPT = 2,
    HS_AUTH = 3,
    HS_ADMIT = 4,
    HS_REFUSE = 5, /* in clear: no keys yet */
    HS_REFUSE_SEALED = 6,
    HS_FURTHER = 16,
    HS_FURTHER_OK = 17,
} HandshakeType;

typedef enum {
    HS_START,
    HS_WAIT_HELLO,
    HS_WAIT_ACCEPT,
    HS_WAIT_AUTH,
    HS_WAIT_ADMIT,
    HS_WAIT_FURTHER,
    HS_WAIT_FURTHER_OK,
    HS_FINISHED,
    HS_DEAD,
} HandshakeState;

/* Everything secret, in locked memory. */
typedef struct {
    uint8_t kem_secret[2][MSC_KEM_SECRET_MAX]; /* by index in msc_kems() */
    uint8_t prk[MSC_SECRET_LEN];
    uint8_t own_key[MSC_SECRET_LEN]; /* seals what we send */
    uint8_t peer_key[MSC_SECRET_LEN];
    uint8_t channel_secret[MSC_SESSION_SECRET_LEN]; /* further channels */
    MscChannelKeys keys;
} HandshakeSecrets;

struct MscHandshake {
    MscHandshakeConfig config;
    char **suites; /* copy of the policy */
    HandshakeState state;
    HandshakeSecrets *secret;
    bool have_keys; /* own_key and peer_key are set */
    uint64_t own_counter, peer_counter;
    uint8_t transcript[HS_TRANSCRIPT_LEN];
    uint8_t kem_public[2][MSC_KEM_PUBLIC_MAX];
    uint8_t migration_id[MSC_MIGRATION_ID_LEN];
    uint32_t suite, kem;
    char *peer;
    uint8_t peer_identity[MSC_IDENTITY_KEY_LEN];
    GBytes *answer;
    MscSession *session;
    /* further channels */
    uint32_t kind, number, epoch;
    GByteArray *sent; /* FURTHER as it went out */
};

/* transcript = BLAKE2b-512(transcript, u32 length, data) */
void hs_transcript_add(MscHandshake *hs, const void *data, size_t len);
/* Appends the sealed @plain to @out, under the type of the message. */
void hs_seal(MscHandshake *hs, HandshakeType type, const GByteArray *plain,
             GByteArray *out);
/* Opens all that is left in @r. */
GByteArray *hs_open(MscHandshake *hs, HandshakeType type, MscReader *r,
                    GError **errp);
void hs_begin(GByteArray *out, HandshakeType type);

/* handshake-offer.c: what HELLO offers. */
typedef struct {
    const MscSuite *suite; /* what this host takes of it */
    int rank;
    const MscKem *kem;
    const uint8_t *kem_public;
} HandshakeChoice;

/* Place of @suite in this host's policy, or -1. */
int hs_suite_rank(const MscHandshake *hs, const MscSuite *suite);
bool hs_kem_allowed(const MscHandshake *hs, const MscKem *kem);
bool hs_put_offers(MscHandshake *hs, GByteArray *out, GError **errp);
/* Reads to the end; errors name what either side has. */
bool hs_read_offers(const MscHandshake *hs, MscReader *r,
                    HandshakeChoice *choice, GError **errp);
/* For errors: "a, b". */
char *hs_own_suites(const MscHandshake *hs);
char *hs_own_kems(const MscHandshake *hs);

MscStep hs_full_start(MscHandshake *hs, GByteArray *out, GError **errp);
MscStep hs_full_hello(MscHandshake *hs, MscReader *r, GByteArray *out,
                      GError **errp);
MscStep hs_full_accept(MscHandshake *hs, MscReader *r, GByteArray *out,
                       GError **errp);
MscStep hs_full_auth(MscHandshake *hs, MscReader *r, GByteArray *out,
                     GError **errp);
MscStep hs_full_admit(MscHandshake *hs, MscReader *r, GError **errp);

MscStep hs_further_start(MscHandshake *hs, GByteArray *out);
MscStep hs_further_request(MscHandshake *hs, const uint8_t *in, size_t len,
                           GByteArray *out, GError **errp);
MscStep hs_further_reply(MscHandshake *hs, const uint8_t *in, size_t len,
                         GError **errp);

#endif
