/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "kem.h"

#include <glib.h>
#include <sodium.h>
#include <string.h>

#include "handshake.h"
#include "secret.h"

/* shared = BLAKE2b-256(key = DH result, label, ciphertext, public key): the
 * hash binds both keys, as in DHKEM (RFC 9180, section 4.1). */
static bool x25519_shared(uint8_t *shared, const uint8_t *scalar,
                          const uint8_t *point, const uint8_t *ciphertext,
                          const uint8_t *public_key)
{
    static const char label[] = "migration-sc v1 x25519 kem";
    uint8_t dh[crypto_scalarmult_BYTES];
    crypto_generichash_state state;
    /* Fails for points of low order: an all-zero result. */
    bool ok = crypto_scalarmult(dh, scalar, point) == 0;

    if (ok) {
        crypto_generichash_init(&state, dh, sizeof(dh), MSC_KEM_SHARED_LEN);
        crypto_generichash_update(&state, (const unsigned char *)label,
                                  sizeof(label));
        crypto_generichash_update(&state, ciphertext, crypto_scalarmult_BYTES);
        crypto_generichash_update(&state, public_key, crypto_scalarmult_BYTES);
        crypto_generichash_final(&state, shared, MSC_KEM_SHARED_LEN);
        msc_wipe(&state, sizeof(state));
    }
    msc_wipe(dh, sizeof(dh));
    return ok;
}

static bool x25519_keypair(uint8_t *public_key, uint8_t *secret)
{
    randombytes_buf(secret, crypto_scalarmult_SCALARBYTES);
    return crypto_scalarmult_base(public_key, secret) == 0;
}

static bool x25519_encapsulate(uint8_t *ciphertext, uint8_t *shared,
                               const uint8_t *public_key)
{
    uint8_t scalar[crypto_scalarmult_SCALARBYTES];
    bool ok = x25519_keypair(ciphertext, scalar) &&
              x25519_shared(shared, scalar, public_key, ciphertext, public_key);

    msc_wipe(scalar, sizeof(scalar));
    return ok;
}

static bool x25519_decapsulate(uint8_t *shared, const uint8_t *ciphertext,
                               const uint8_t *secret, const uint8_t *public_key)
{
    return x25519_shared(shared, secret, ciphertext, ciphertext, public_key);
}

static const MscKem x25519 = {
    .id = MSC_KEM_X25519,
    .name = "x25519",
    .public_len = crypto_scalarmult_BYTES,
    .secret_len = crypto_scalarmult_SCALARBYTES,
    .ciphertext_len = crypto_scalarmult_BYTES,
    .keypair = x25519_keypair,
    .encapsulate = x25519_encapsulate,
    .decapsulate = x25519_decapsulate,
};

#ifdef crypto_kem_xwing_PUBLICKEYBYTES
static bool xwing_keypair(uint8_t *public_key, uint8_t *secret)
{
    return crypto_kem_xwing_keypair(public_key, secret) == 0;
}

static bool xwing_encapsulate(uint8_t *ciphertext, uint8_t *shared,
                              const uint8_t *public_key)
{
    return crypto_kem_xwing_enc(ciphertext, shared, public_key) == 0;
}

static bool xwing_decapsulate(uint8_t *shared, const uint8_t *ciphertext,
                              const uint8_t *secret, const uint8_t *public_key)
{
    (void)public_key;
    return crypto_kem_xwing_dec(shared, ciphertext, secret) == 0;
}

static const MscKem xwing = {
    .id = MSC_KEM_XWING,
    .name = "x-wing",
    .post_quantum = true,
    .public_len = crypto_kem_xwing_PUBLICKEYBYTES,
    .secret_len = crypto_kem_xwing_SECRETKEYBYTES,
    .ciphertext_len = crypto_kem_xwing_CIPHERTEXTBYTES,
    .keypair = xwing_keypair,
    .encapsulate = xwing_encapsulate,
    .decapsulate = xwing_decapsulate,
};
G_STATIC_ASSERT(crypto_kem_xwing_PUBLICKEYBYTES <= MSC_KEM_PUBLIC_MAX);
G_STATIC_ASSERT(crypto_kem_xwing_CIPHERTEXTBYTES <= MSC_KEM_CIPHERTEXT_MAX);
G_STATIC_ASSERT(crypto_kem_xwing_SECRETKEYBYTES <= MSC_KEM_SECRET_MAX);
G_STATIC_ASSERT(crypto_kem_xwing_SHAREDSECRETBYTES == MSC_KEM_SHARED_LEN);
#endif

const MscKem *const *msc_kems(void)
{
    static const MscKem *const kems[] = {
#ifdef crypto_kem_xwing_PUBLICKEYBYTES
        &xwing,
#endif
        &x25519, NULL
    };

    return kems;
}

const MscKem *msc_kem_by_id(unsigned id)
{
    for (const MscKem *const *k = msc_kems(); *k; k++) {
        if ((unsigned)(*k)->id == id) {
            return *k;
        }
    }
    return NULL;
}

bool msc_kem_have_post_quantum(void)
{
    return msc_kem_by_id(MSC_KEM_XWING) != NULL;
}

const char *msc_kem_name(unsigned id)
{
    switch (id) {
    case MSC_KEM_X25519:
        return x25519.name;
    case MSC_KEM_XWING:
        return "x-wing";
    default:
        return "";
    }
}
