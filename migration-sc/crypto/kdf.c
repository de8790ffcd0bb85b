/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "kdf.h"

#include <sodium.h>
#include <string.h>

#include "secret.h"

void msc_kdf(uint8_t *out, size_t len, const uint8_t secret[MSC_SECRET_LEN],
             const char *label, const void *context, size_t context_len)
{
    static const char prefix[] = "migration-sc v1 ";
    crypto_generichash_state state;

    crypto_generichash_init(&state, secret, MSC_SECRET_LEN, len);
    crypto_generichash_update(&state, (const unsigned char *)prefix,
                              sizeof(prefix) - 1);
    /* With its NUL, which separates it from the context. */
    crypto_generichash_update(&state, (const unsigned char *)label,
                              strlen(label) + 1);
    crypto_generichash_update(&state, context, context_len);
    crypto_generichash_final(&state, out, len);
    msc_wipe(&state, sizeof(state));
}
