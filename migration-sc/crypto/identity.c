/*
 * This host's own key.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <sodium.h>

#include "identity-private.h"
#include "secret.h"

G_STATIC_ASSERT(crypto_sign_PUBLICKEYBYTES == MSC_IDENTITY_KEY_LEN);
G_STATIC_ASSERT(crypto_sign_BYTES == MSC_SIGNATURE_LEN);

MscIdentity *msc_identity_from_seed(const char *name, const uint8_t *seed,
                                    GError **errp)
{
    MscIdentity *id = g_new0(MscIdentity, 1);

    id->name = g_strdup(name);
    id->secret_key = msc_secret_new(crypto_sign_SECRETKEYBYTES, errp);
    if (!id->secret_key) {
        msc_identity_free(id);
        return NULL;
    }
    crypto_sign_seed_keypair(id->public_key, id->secret_key, seed);
    return id;
}

MscIdentity *msc_identity_generate(const char *name, GError **errp)
{
    uint8_t *seed = msc_secret_new(crypto_sign_SEEDBYTES, errp);
    MscIdentity *id;

    if (!seed) {
        return NULL;
    }
    randombytes_buf(seed, crypto_sign_SEEDBYTES);
    id = msc_identity_from_seed(name, seed, errp);
    msc_secret_free(seed);
    return id;
}

void msc_identity_free(MscIdentity *id)
{
    if (id) {
        msc_secret_free(id->secret_key);
        g_free(id->name);
        g_free(id);
    }
}

const char *msc_identity_name(const MscIdentity *id)
{
    return id->name;
}

const uint8_t *msc_identity_public(const MscIdentity *id)
{
    return id->public_key;
}

void msc_identity_sign(const MscIdentity *id, const void *msg, size_t len,
                       uint8_t sig[MSC_SIGNATURE_LEN])
{
    crypto_sign_detached(sig, NULL, msg, len, id->secret_key);
}

bool msc_identity_verify(const uint8_t key[MSC_IDENTITY_KEY_LEN],
                         const void *msg, size_t len,
                         const uint8_t sig[MSC_SIGNATURE_LEN])
{
    return crypto_sign_verify_detached(sig, msg, len, key) == 0;
}
