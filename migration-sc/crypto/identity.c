/*
 * This host's own key.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "identity.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "keyfile.h"
#include "secret.h"

struct MscIdentity {
    char *name;
    uint8_t public_key[MSC_IDENTITY_KEY_LEN];
    uint8_t *secret_key;        /* locked: seed, then public key */
};

G_STATIC_ASSERT(crypto_sign_PUBLICKEYBYTES == MSC_IDENTITY_KEY_LEN);
G_STATIC_ASSERT(crypto_sign_BYTES == MSC_SIGNATURE_LEN);

static MscIdentity *identity_from_seed(const char *name, const uint8_t *seed,
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
    uint8_t seed[crypto_sign_SEEDBYTES];
    MscIdentity *id;

    if (sodium_init() < 0) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                            "libsodium did not initialize");
        return NULL;
    }
    randombytes_buf(seed, sizeof(seed));
    id = identity_from_seed(name, seed, errp);
    msc_wipe(seed, sizeof(seed));
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

bool msc_identity_create(const char *config_dir, const char *name,
                         GError **errp)
{
    g_autofree char *key_path = g_build_filename(config_dir, "identity.key",
                                                 NULL);
    g_autofree char *pub_path = g_build_filename(config_dir, "identity.pub",
                                                 NULL);
    g_autofree char *pub_base64 = NULL;
    g_autofree char *pub_text = NULL;
    char seed_base64[sodium_base64_ENCODED_LEN(
        crypto_sign_SEEDBYTES, sodium_base64_VARIANT_ORIGINAL)];
    char key_text[512];
    MscIdentity *id;
    bool ok;

    if (!msc_name_is_safe(name)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.80s' cannot be a host's name: use letters, digits, "
                    "'.', '_' and '-'", name);
        return false;
    }
    if (g_file_test(key_path, G_FILE_TEST_EXISTS)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%s' exists; a new key would cut this host off from all "
                    "that trust it, so remove the file yourself if you want "
                    "that", key_path);
        return false;
    }
    id = msc_identity_generate(name, errp);
    if (!id) {
        return false;
    }
    /* The seed is the first half of libsodium's secret key. */
    sodium_bin2base64(seed_base64, sizeof(seed_base64), id->secret_key,
                      crypto_sign_SEEDBYTES, sodium_base64_VARIANT_ORIGINAL);
    g_snprintf(key_text, sizeof(key_text), "[identity]\nname=%s\nseed=%s\n",
               name, seed_base64);
    pub_base64 = g_base64_encode(id->public_key, sizeof(id->public_key));
    pub_text = g_strdup_printf("[peer]\nkey=%s\n", pub_base64);
    ok = msc_file_replace(key_path, key_text, 0600, errp) &&
         msc_file_replace(pub_path, pub_text, 0644, errp);
    msc_wipe(key_text, sizeof(key_text));
    msc_wipe(seed_base64, sizeof(seed_base64));
    msc_identity_free(id);
    return ok;
}

static MscIdentity *identity_parse(const char *path, const char *data,
                                   size_t len, GError **errp)
{
    static const char *const keys[] = { "name", "seed", NULL };
    static const MscKeyFileGroup groups[] = { { "identity", keys }, { 0 } };
    g_autoptr(GKeyFile) file = msc_keyfile_parse(path, data, len, groups,
                                                 errp);
    g_autofree char *name = NULL;
    g_autofree char *text = NULL;
    uint8_t seed[crypto_sign_SEEDBYTES];
    MscIdentity *id = NULL;
    size_t got;

    if (!file) {
        return NULL;
    }
    name = g_key_file_get_string(file, "identity", "name", NULL);
    text = g_key_file_get_string(file, "identity", "seed", NULL);
    if (!name || !msc_name_is_safe(name) || !text ||
        sodium_base642bin(seed, sizeof(seed), text, strlen(text), NULL, &got,
                          NULL, sodium_base64_VARIANT_ORIGINAL) ||
        got != sizeof(seed)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: name= or seed= is missing or wrong", path);
    } else {
        id = identity_from_seed(name, seed, errp);
    }
    if (text) {
        msc_wipe(text, strlen(text));
    }
    msc_wipe(seed, sizeof(seed));
    return id;
}

MscIdentity *msc_identity_load(const char *config_dir, GError **errp)
{
    g_autofree char *path = g_build_filename(config_dir, "identity.key",
                                             NULL);
    g_autofree char *data = NULL;
    g_autoptr(GError) err = NULL;
    MscIdentity *id;
    struct stat st;
    gsize len;

    if (sodium_init() < 0) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                            "libsodium did not initialize");
        return NULL;
    }
    if (stat(path, &st)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "this host has no key, '%s': %s; make one with "
                    "'migration-sc keygen'", path, g_strerror(errno));
        return NULL;
    }
    if (st.st_mode & 077) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "others can read this host's key: chmod 600 '%s'", path);
        return NULL;
    }
    if (!g_file_get_contents(path, &data, &len, &err)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "%s", err->message);
        return NULL;
    }
    id = identity_parse(path, data, len, errp);
    msc_wipe(data, len);
    return id;
}
