/*
 * Key encapsulation: X-Wing (draft-connolly-cfrg-xwing-kem: ML-KEM-768 and
 * X25519) where libsodium has it, and X25519 alone in the shape of a KEM.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_KEM_H
#define MSC_CRYPTO_KEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Wire numbers; never reused. */
typedef enum {
    MSC_KEM_X25519 = 1,
    MSC_KEM_XWING = 2,
} MscKemId;

#define MSC_KEM_PUBLIC_MAX 1216
#define MSC_KEM_CIPHERTEXT_MAX 1120
#define MSC_KEM_SECRET_MAX 32
#define MSC_KEM_SHARED_LEN 32

typedef struct {
    MscKemId id;
    const char *name;
    bool post_quantum;
    size_t public_len, secret_len, ciphertext_len;
    bool (*keypair)(uint8_t *public_key, uint8_t *secret);
    bool (*encapsulate)(uint8_t *ciphertext, uint8_t *shared,
                        const uint8_t *public_key);
    /* Needs the public key as well, which the shared secret binds. */
    bool (*decapsulate)(uint8_t *shared, const uint8_t *ciphertext,
                        const uint8_t *secret, const uint8_t *public_key);
} MscKem;

/* Best first, NULL-terminated. */
const MscKem *const *msc_kems(void);
const MscKem *msc_kem_by_id(unsigned id);
/* Is any of them safe against a quantum computer? */
bool msc_kem_have_post_quantum(void);

#endif
