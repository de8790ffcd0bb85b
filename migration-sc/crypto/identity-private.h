/*
 * Inside of MscIdentity.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_IDENTITY_PRIVATE_H
#define MSC_CRYPTO_IDENTITY_PRIVATE_H

#include "identity.h"

struct MscIdentity {
    char *name;
    uint8_t public_key[MSC_IDENTITY_KEY_LEN];
    uint8_t *secret_key; /* locked: seed, then public key */
};

/* @seed: 32 bytes, RFC 8032. */
MscIdentity *msc_identity_from_seed(const char *name, const uint8_t *seed,
                                    GError **errp);

#endif
