/*
 * The AEAD suites of the transport and of sealed contexts.
 *
 * Source: RFC 5116 for the interface; draft-irtf-cfrg-aegis-aead, SP 800-38D,
 * draft-irtf-cfrg-xchacha for the ciphers, all of them libsodium's.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_SUITE_H
#define MSC_CRYPTO_SUITE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Wire numbers (docs/transport.md); never reused. */
typedef enum {
    MSC_SUITE_AEGIS_128L = 1,
    MSC_SUITE_AEGIS_256 = 2,
    MSC_SUITE_AES_256_GCM = 3,
    MSC_SUITE_XCHACHA20_POLY1305 = 4,
    MSC_SUITE_INTEGRITY_ONLY = 5, /* data in clear, but nobody changes them */
} MscSuiteId;

#define MSC_SUITE_KEY_MAX 32
#define MSC_SUITE_NONCE_MAX 32
#define MSC_SUITE_TAG_MAX 32

typedef struct {
    MscSuiteId id;
    const char *name; /* "aegis-128l" */
    size_t key_len, nonce_len, tag_len;
    /* Then sealing also loads each byte of @in exactly once, so that @in may
     * change meanwhile (tests/unit/check-reads-once). */
    bool encrypts;
    /* @out has room for @len + tag_len; @out may equal @in.  With a suite
     * that does not encrypt, @out must equal @in and follow @ad directly. */
    void (*seal)(uint8_t *out, const uint8_t *in, size_t len, const uint8_t *ad,
                 size_t ad_len, const uint8_t *nonce, const uint8_t *key);
    /* @len counts the tag; false if it does not open. @out may equal @in.
     * With a suite that does not encrypt, @in must follow @ad directly. */
    bool (*open)(uint8_t *out, const uint8_t *in, size_t len, const uint8_t *ad,
                 size_t ad_len, const uint8_t *nonce, const uint8_t *key);
} MscSuite;

/* Both return NULL if unknown or not offered by this libsodium and CPU. */
const MscSuite *msc_suite_by_id(unsigned id);
const MscSuite *msc_suite_by_name(const char *name);
/* Available suites, best first, NULL-terminated. */
const MscSuite *const *msc_suites(void);
/* Name of a wire number, available here or not; NULL if there is none. */
const char *msc_suite_name(unsigned id);

/*
 * What a host offers and accepts, best first: those of @preference (NULL: all,
 * in our order) that are available and not below the floor @minimum, which is
 * "integrity-only", "encrypted" (NULL means this) or "encrypted-256" (keys of
 * 256 bits).  An unknown name, a name below the floor, and an empty result are
 * errors that start with @what.
 */
char **msc_suite_policy(const char *what, char **preference,
                        const char *minimum, GError **errp);

#endif
