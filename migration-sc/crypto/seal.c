/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "seal.h"

#include <sodium.h>
#include <string.h>

#include "bytes.h"
#include "error.h"
#include "format.h"
#include "secret.h"

#define CHUNK_MAGIC 0x4d534343u /* "MSCC" */
#define DIGEST_LEN 32

/* Both directions of the work share all but the function they call. */
struct MscContextSealer {
    const MscSuite *suite;
    uint32_t sequence;
    uint64_t total;
    bool ended;
    uint8_t bound[MSC_MIGRATION_ID_LEN + MSC_UUID_LEN];
    crypto_generichash_state *digest;
    uint8_t *key;
};

struct MscContextOpener {
    MscContextSealer s;
};

static bool context_init(MscContextSealer *s, const MscSession *session,
                         GError **errp)
{
    s->suite = msc_suite_by_id(session->suite);
    g_assert(s->suite);
    /* Policy may send guest memory in clear, but a context holds keys. */
    if (!s->suite->encrypts) {
        s->suite = msc_suite_by_id(MSC_SUITE_XCHACHA20_POLY1305);
    }
    memcpy(s->bound, session->migration_id, MSC_MIGRATION_ID_LEN);
    memcpy(s->bound + MSC_MIGRATION_ID_LEN, session->vm, MSC_UUID_LEN);
    s->key = msc_secret_new(MSC_SUITE_KEY_MAX, errp);
    if (!s->key) {
        return false;
    }
    memcpy(s->key, session->context_key, MSC_SUITE_KEY_MAX);
    /* libsodium wants it aligned to 64 bytes, which g_new does not promise. */
    s->digest = g_aligned_alloc0(1, crypto_generichash_statebytes(), 64);
    crypto_generichash_init(s->digest, NULL, 0, DIGEST_LEN);
    return true;
}

static void context_clear(MscContextSealer *s)
{
    msc_secret_free(s->key);
    g_clear_pointer(&s->digest, g_aligned_free);
}

static void chunk_nonce(const MscContextSealer *s,
                        uint8_t nonce[MSC_SUITE_NONCE_MAX])
{
    memset(nonce, 0, MSC_SUITE_NONCE_MAX);
    for (size_t i = 0; i < sizeof(s->sequence); i++) {
        nonce[i] = (uint8_t)(s->sequence >> (8 * i));
    }
}

/* Header, then what the chunk is bound to. */
static void chunk_ad(const MscContextSealer *s, MscChunkKind type, size_t len,
                     GByteArray *ad)
{
    msc_put_u32(ad, CHUNK_MAGIC);
    msc_put_u32(ad, s->sequence);
    msc_put_u8(ad, (uint8_t)type);
    msc_put_u8(ad, 0);
    msc_put_u16(ad, 0);
    msc_put_u32(ad, (uint32_t)len);
    g_assert(ad->len == MSC_CHUNK_HEADER);
    msc_put_bytes(ad, s->bound, sizeof(s->bound));
}

static GBytes *chunk_seal(MscContextSealer *s, MscChunkKind type,
                          const void *plain, size_t len, GError **errp)
{
    g_autoptr(GByteArray) ad = g_byte_array_new();
    uint8_t nonce[MSC_SUITE_NONCE_MAX];
    GByteArray *out;

    if (s->ended || s->sequence == UINT32_MAX || len > MSC_CHUNK_PLAIN_MAX) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "the context cannot take another chunk");
        return NULL;
    }
    chunk_ad(s, type, len, ad);
    chunk_nonce(s, nonce);
    out = g_byte_array_new();
    g_byte_array_set_size(out,
                          (guint)(MSC_CHUNK_HEADER + len + s->suite->tag_len));
    memcpy(out->data, ad->data, MSC_CHUNK_HEADER);
    s->suite->seal(out->data + MSC_CHUNK_HEADER, plain, len, ad->data, ad->len,
                   nonce, s->key);
    s->sequence++;
    return g_byte_array_free_to_bytes(out);
}

MscContextSealer *msc_context_sealer_new(MscSession *session, GError **errp)
{
    MscContextSealer *s;

    if (session->context_sealed) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "this session's context was sealed already");
        return NULL;
    }
    s = g_new0(MscContextSealer, 1);
    if (!context_init(s, session, errp)) {
        msc_context_sealer_free(s);
        return NULL;
    }
    session->context_sealed = true;
    return s;
}

static GBytes *seal_covered(MscContextSealer *s, MscChunkKind kind,
                            const void *plain, size_t len, GError **errp)
{
    GBytes *chunk = chunk_seal(s, kind, plain, len, errp);

    if (chunk) {
        crypto_generichash_update(s->digest, plain, len);
        s->total += len;
    }
    return chunk;
}

GBytes *msc_context_seal(MscContextSealer *s, const void *plain, size_t len,
                         GError **errp)
{
    return seal_covered(s, MSC_CHUNK_DATA, plain, len, errp);
}

GBytes *msc_context_seal_batch(MscContextSealer *s, const void *plain,
                               size_t len, GError **errp)
{
    return seal_covered(s, MSC_CHUNK_BATCH, plain, len, errp);
}

/* What END carries: chunks before it, bytes in them, their digest. */
static void end_plain(MscContextSealer *s, GByteArray *plain)
{
    uint8_t digest[DIGEST_LEN];

    crypto_generichash_final(s->digest, digest, sizeof(digest));
    msc_put_u32(plain, s->sequence);
    msc_put_u64(plain, s->total);
    msc_put_bytes(plain, digest, sizeof(digest));
}

GBytes *msc_context_seal_end(MscContextSealer *s, GError **errp)
{
    g_autoptr(GByteArray) plain = g_byte_array_new();
    GBytes *chunk;

    /* The digest can be taken only once. */
    if (!s->ended) {
        end_plain(s, plain);
    }
    chunk = chunk_seal(s, MSC_CHUNK_END, plain->data, plain->len, errp);
    s->ended = true;
    return chunk;
}

void msc_context_sealer_free(MscContextSealer *s)
{
    if (s) {
        context_clear(s);
        g_free(s);
    }
}

MscContextOpener *msc_context_opener_new(const MscSession *session,
                                         GError **errp)
{
    MscContextOpener *o = g_new0(MscContextOpener, 1);

    if (!context_init(&o->s, session, errp)) {
        msc_context_opener_free(o);
        return NULL;
    }
    return o;
}

static bool chunk_error(MscContextSealer *s, GError **errp, const char *why)
{
    s->ended = true;
    g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                "security context, chunk %u: %s", s->sequence, why);
    return false;
}

bool msc_context_open(MscContextOpener *o, const void *chunk, size_t len,
                      GByteArray *plain, MscChunkKind *kind, GError **errp)
{
    MscContextSealer *s = &o->s;
    g_autoptr(GByteArray) ad = g_byte_array_new();
    g_autoptr(GByteArray) want = g_byte_array_new();
    g_autofree uint8_t *opened = NULL;
    uint8_t nonce[MSC_SUITE_NONCE_MAX];
    const uint8_t *bytes = chunk;
    MscChunkKind type;
    size_t payload;

    if (s->ended) {
        return chunk_error(s, errp, "nothing may follow the END");
    }
    if (len < MSC_CHUNK_HEADER + s->suite->tag_len || len > MSC_CHUNK_MAX) {
        return chunk_error(s, errp, "bad length");
    }
    payload = len - MSC_CHUNK_HEADER - s->suite->tag_len;
    type = bytes[8] == MSC_CHUNK_END     ? MSC_CHUNK_END
           : bytes[8] == MSC_CHUNK_BATCH ? MSC_CHUNK_BATCH
                                         : MSC_CHUNK_DATA;
    chunk_ad(s, type, payload, ad);
    /* Every field of the header is known beforehand. */
    if (memcmp(ad->data, bytes, MSC_CHUNK_HEADER)) {
        return chunk_error(s, errp, "not the chunk that must come now");
    }
    chunk_nonce(s, nonce);
    opened = g_malloc(payload + 1);
    if (!s->suite->open(opened, bytes + MSC_CHUNK_HEADER,
                        len - MSC_CHUNK_HEADER, ad->data, ad->len, nonce,
                        s->key)) {
        return chunk_error(s, errp,
                           "does not open: it was changed, or "
                           "belongs to another migration or guest");
    }
    if (type == MSC_CHUNK_END) {
        end_plain(s, want);
        if (payload != want->len ||
            sodium_memcmp(opened, want->data, want->len)) {
            return chunk_error(s, errp, "END does not match what came before");
        }
        s->ended = true;
    } else {
        crypto_generichash_update(s->digest, opened, payload);
        s->total += payload;
        msc_put_bytes(plain, opened, payload);
    }
    /* A context may hold IPsec keys. */
    msc_wipe(opened, payload);
    s->sequence++;
    *kind = type;
    return true;
}

void msc_context_opener_free(MscContextOpener *o)
{
    if (o) {
        context_clear(&o->s);
        g_free(o);
    }
}
