/*
 * Key derivation: BLAKE2b keyed with the secret, over a label and a context.
 * A keyed BLAKE2b is a PRF (RFC 7693); labels keep the uses apart.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_KDF_H
#define MSC_CRYPTO_KDF_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#define MSC_SECRET_LEN 32

/* out[0..len) = BLAKE2b(key = secret, "migration-sc v1 " label, 0, context) */
void msc_kdf(uint8_t *out, size_t len, const uint8_t secret[MSC_SECRET_LEN],
             const char *label, const void *context, size_t context_len);

#endif
