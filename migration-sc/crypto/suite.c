/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "suite.h"

#include <sodium.h>
#include <string.h>

/* Every suite of libsodium has the same two functions under other names. */
#define SUITE_FUNCTIONS(name, prefix)                                        \
    static void name##_seal(uint8_t *out, const uint8_t *in, size_t len,     \
                            const uint8_t *ad, size_t ad_len,                \
                            const uint8_t *nonce, const uint8_t *key)        \
    {                                                                        \
        prefix##_encrypt(out, NULL, in, len, ad, ad_len, NULL, nonce, key);  \
    }                                                                        \
    static bool name##_open(uint8_t *out, const uint8_t *in, size_t len,     \
                            const uint8_t *ad, size_t ad_len,                \
                            const uint8_t *nonce, const uint8_t *key)        \
    {                                                                        \
        return prefix##_decrypt(out, NULL, NULL, in, len, ad, ad_len, nonce, \
                                key) == 0;                                   \
    }

#define SUITE(number, text, fn, PREFIX)                               \
    {                                                                 \
        .id = (number), .name = (text), .key_len = PREFIX##_KEYBYTES, \
        .nonce_len = PREFIX##_NPUBBYTES, .tag_len = PREFIX##_ABYTES,  \
        .encrypts = true, .seal = fn##_seal, .open = fn##_open        \
    }

#ifdef crypto_aead_aegis128l_KEYBYTES
SUITE_FUNCTIONS(aegis_128l, crypto_aead_aegis128l)
SUITE_FUNCTIONS(aegis_256, crypto_aead_aegis256)

/*
 * Integrity only: AEGIS-128L with the whole record as associated data and an
 * empty message.  Its forgery bound is that of the AEAD itself, with a tag of
 * 256 bits, and it is the primitive of the best suite, so that nothing new has
 * to be trusted.  Keyed BLAKE2b (about 1 GB/s) and Poly1305 (2 to 3) are slower
 * than AEGIS encrypts, which would leave no reason to do without encryption.
 */
static void integrity_seal(uint8_t *out, const uint8_t *in, size_t len,
                           const uint8_t *ad, size_t ad_len,
                           const uint8_t *nonce, const uint8_t *key)
{
    g_assert(out == in && ad + ad_len == in);
    crypto_aead_aegis128l_encrypt(out + len, NULL, NULL, 0, ad, ad_len + len,
                                  NULL, nonce, key);
}

static bool integrity_open(uint8_t *out, const uint8_t *in, size_t len,
                           const uint8_t *ad, size_t ad_len,
                           const uint8_t *nonce, const uint8_t *key)
{
    size_t payload = len - crypto_aead_aegis128l_ABYTES;

    g_assert(ad + ad_len == in);
    if (crypto_aead_aegis128l_decrypt(NULL, NULL, NULL, in + payload,
                                      crypto_aead_aegis128l_ABYTES, ad,
                                      ad_len + payload, nonce, key)) {
        return false;
    }
    if (out != in) {
        memcpy(out, in, payload);
    }
    return true;
}
#endif
SUITE_FUNCTIONS(aes_256_gcm, crypto_aead_aes256gcm)
SUITE_FUNCTIONS(xchacha20, crypto_aead_xchacha20poly1305_ietf)

/* Best first. */
static const MscSuite known[] = {
#ifdef crypto_aead_aegis128l_KEYBYTES
    SUITE(MSC_SUITE_AEGIS_128L, "aegis-128l", aegis_128l,
          crypto_aead_aegis128l),
    SUITE(MSC_SUITE_AEGIS_256, "aegis-256", aegis_256, crypto_aead_aegis256),
#endif
    SUITE(MSC_SUITE_AES_256_GCM, "aes-256-gcm", aes_256_gcm,
          crypto_aead_aes256gcm),
    SUITE(MSC_SUITE_XCHACHA20_POLY1305, "xchacha20-poly1305", xchacha20,
          crypto_aead_xchacha20poly1305_ietf),
#ifdef crypto_aead_aegis128l_KEYBYTES
    { .id = MSC_SUITE_INTEGRITY_ONLY,
      .name = "integrity-only",
      .key_len = crypto_aead_aegis128l_KEYBYTES,
      .nonce_len = crypto_aead_aegis128l_NPUBBYTES,
      .tag_len = crypto_aead_aegis128l_ABYTES,
      .seal = integrity_seal,
      .open = integrity_open },
#endif
};

/* libsodium's AES-GCM has no software fallback; AEGIS has one, but it is so
 * slow that xchacha20-poly1305 must win. */
static bool cpu_can(MscSuiteId id)
{
    switch (id) {
    case MSC_SUITE_XCHACHA20_POLY1305:
        return true;
    case MSC_SUITE_AES_256_GCM:
        return crypto_aead_aes256gcm_is_available();
    default:
#ifdef crypto_aead_aegis128l_KEYBYTES
        return sodium_runtime_has_aesni() || sodium_runtime_has_armcrypto();
#else
        return false;
#endif
    }
}

const MscSuite *const *msc_suites(void)
{
    static const MscSuite *available[G_N_ELEMENTS(known) + 1];
    static gsize once;

    if (g_once_init_enter(&once)) {
        size_t n = 0;
        int rc = sodium_init();

        g_assert(rc >= 0);
        for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
            g_assert(known[i].key_len <= MSC_SUITE_KEY_MAX &&
                     known[i].nonce_len <= MSC_SUITE_NONCE_MAX &&
                     known[i].tag_len <= MSC_SUITE_TAG_MAX);
            if (cpu_can(known[i].id)) {
                available[n++] = &known[i];
            }
        }
        g_once_init_leave(&once, 1);
    }
    return available;
}

const char *msc_suite_name(unsigned id)
{
    static const char *const names[] = {
        [MSC_SUITE_AEGIS_128L] = "aegis-128l",
        [MSC_SUITE_AEGIS_256] = "aegis-256",
        [MSC_SUITE_AES_256_GCM] = "aes-256-gcm",
        [MSC_SUITE_XCHACHA20_POLY1305] = "xchacha20-poly1305",
        [MSC_SUITE_INTEGRITY_ONLY] = "integrity-only",
    };

    return id < G_N_ELEMENTS(names) ? names[id] : NULL;
}

const MscSuite *msc_suite_by_id(unsigned id)
{
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        if ((unsigned)(*s)->id == id) {
            return *s;
        }
    }
    return NULL;
}

const MscSuite *msc_suite_by_name(const char *name)
{
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        if (!strcmp((*s)->name, name)) {
            return *s;
        }
    }
    return NULL;
}
