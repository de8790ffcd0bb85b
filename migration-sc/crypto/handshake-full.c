/*
 * The full handshake: HELLO, ACCEPT, AUTH, ADMIT.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <sodium.h>
#include <string.h>

#include "error.h"
#include "handshake-private.h"
#include "secret.h"

static MscStep fail(GError **errp, MscErrorCode code, const char *why)
{
    g_set_error(errp, MSC_ERROR, code, "handshake: %s", why);
    return MSC_STEP_FAILED;
}

static MscStep malformed(MscReader *r, GError **errp, const char *why)
{
    msc_reader_error(r, errp, "handshake", why);
    return MSC_STEP_FAILED;
}

MscStep hs_full_start(MscHandshake *hs, GByteArray *out, GError **errp)
{
    uint8_t nonce[HS_NONCE_LEN];

    hs_begin(out, HS_HELLO);
    msc_put_u32(out, MSC_TRANSPORT_MAGIC);
    msc_put_u16(out, MSC_TRANSPORT_VERSION);
    msc_put_u16(out, MSC_TRANSPORT_OLDEST);
    msc_put_bytes(out, hs->migration_id, sizeof(hs->migration_id));
    randombytes_buf(nonce, sizeof(nonce));
    msc_put_bytes(out, nonce, sizeof(nonce));
    if (!hs_put_offers(hs, out, errp)) {
        return MSC_STEP_FAILED;
    }
    hs_transcript_add(hs, out->data, out->len);
    hs->state = HS_WAIT_ACCEPT;
    return MSC_STEP_CONTINUE;
}

/* The keys that seal the rest of the handshake. */
static void handshake_keys(MscHandshake *hs, const uint8_t *shared)
{
    HandshakeSecrets *s = hs->secret;
    bool source = hs->config.role == MSC_ROLE_SOURCE;

    msc_kdf(s->prk, sizeof(s->prk), shared, "handshake", hs->transcript,
            sizeof(hs->transcript));
    msc_kdf(source ? s->own_key : s->peer_key, MSC_SECRET_LEN, s->prk,
            "source handshake", NULL, 0);
    msc_kdf(source ? s->peer_key : s->own_key, MSC_SECRET_LEN, s->prk,
            "destination handshake", NULL, 0);
    hs->have_keys = true;
}

/* Label by role, then a digest of the transcript and what is said now. */
static GByteArray *signed_text(MscHandshake *hs, MscRole signer,
                               const void *body, size_t len)
{
    static const char source[] = "migration-sc v1 source signature";
    static const char destination[] = "migration-sc v1 destination signature";
    GByteArray *text = g_byte_array_new();
    uint8_t digest[HS_TRANSCRIPT_LEN];
    crypto_generichash_state state;

    crypto_generichash_init(&state, NULL, 0, sizeof(digest));
    crypto_generichash_update(&state, hs->transcript, sizeof(hs->transcript));
    crypto_generichash_update(&state, body, len);
    crypto_generichash_final(&state, digest, sizeof(digest));
    if (signer == MSC_ROLE_SOURCE) {
        msc_put_bytes(text, source, sizeof(source));
    } else {
        msc_put_bytes(text, destination, sizeof(destination));
    }
    msc_put_bytes(text, digest, sizeof(digest));
    return text;
}

static void put_signature(MscHandshake *hs, GByteArray *body)
{
    g_autoptr(GByteArray) text =
        signed_text(hs, hs->config.role, body->data, body->len);
    uint8_t sig[MSC_SIGNATURE_LEN];

    msc_identity_sign(hs->config.identity, text->data, text->len, sig);
    msc_put_bytes(body, sig, sizeof(sig));
}

/* @body without its signature was signed by @key, whose holder is welcome. */
static bool check_peer(MscHandshake *hs, const GByteArray *body,
                       const uint8_t *key, GError **errp)
{
    size_t len = body->len - MSC_SIGNATURE_LEN;
    MscRole signer = hs->config.role == MSC_ROLE_SOURCE ? MSC_ROLE_DESTINATION
                                                        : MSC_ROLE_SOURCE;
    g_autoptr(GByteArray) text = signed_text(hs, signer, body->data, len);

    if (!msc_identity_verify(key, text->data, text->len, body->data + len)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH,
                            "handshake: the other host's signature is wrong");
        return false;
    }
    memcpy(hs->peer_identity, key, sizeof(hs->peer_identity));
    hs->peer = hs->config.accept_peer(key, hs->config.opaque, errp);
    return hs->peer != NULL;
}

MscStep hs_full_hello(MscHandshake *hs, MscReader *r, GByteArray *out,
                      GError **errp)
{
    uint8_t shared[MSC_KEM_SHARED_LEN], ciphertext[MSC_KEM_CIPHERTEXT_MAX];
    uint8_t nonce[HS_NONCE_LEN];
    g_autoptr(GByteArray) body = NULL;
    uint16_t version, oldest;
    HandshakeChoice choice = { 0 };
    uint32_t magic;

    if (!msc_reader_u32(r, &magic) || magic != MSC_TRANSPORT_MAGIC) {
        return malformed(r, errp, "not the migration-sc transport");
    }
    if (!msc_reader_u16(r, &version) || !msc_reader_u16(r, &oldest) ||
        oldest > MSC_TRANSPORT_VERSION || version < MSC_TRANSPORT_OLDEST ||
        oldest > version) {
        return malformed(r, errp, "no common version of the transport");
    }
    if (!msc_reader_copy(r, hs->migration_id, sizeof(hs->migration_id)) ||
        !msc_reader_copy(r, nonce, sizeof(nonce))) {
        return malformed(r, errp, "malformed HELLO");
    }
    if (!hs_read_offers(hs, r, &choice, errp)) {
        return MSC_STEP_FAILED;
    }
    hs->suite = choice.suite->id;
    hs->kem = choice.kem->id;
    hs_transcript_add(hs, r->start, (size_t)(r->end - r->start));
    if (!choice.kem->encapsulate(ciphertext, shared, choice.kem_public)) {
        return fail(errp, MSC_ERROR_AUTH, "the other host's key is unusable");
    }

    hs_begin(out, HS_ACCEPT);
    msc_put_u16(out, MSC_TRANSPORT_VERSION);
    msc_put_u8(out, (uint8_t)hs->suite);
    msc_put_u8(out, (uint8_t)hs->kem);
    msc_put_bytes(out, ciphertext, choice.kem->ciphertext_len);
    randombytes_buf(nonce, sizeof(nonce));
    msc_put_bytes(out, nonce, sizeof(nonce));
    hs_transcript_add(hs, out->data, out->len);
    handshake_keys(hs, shared);
    msc_wipe(shared, sizeof(shared));

    body = g_byte_array_new();
    msc_put_bytes(body, msc_identity_public(hs->config.identity),
                  MSC_IDENTITY_KEY_LEN);
    put_signature(hs, body);
    hs_seal(hs, HS_ACCEPT, body, out);
    hs_transcript_add(hs, out->data, out->len);
    hs->state = HS_WAIT_AUTH;
    return MSC_STEP_CONTINUE;
}

static bool chose_wrongly(const MscHandshake *hs, unsigned suite, unsigned kem,
                          GError **errp)
{
    g_autofree char *suites = hs_own_suites(hs);
    g_autofree char *kems = hs_own_kems(hs);
    const char *name = msc_suite_name(suite);

    g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                "handshake: the other host chose what was not offered: suite "
                "%u (%s) of %s, key agreement %u (%s) of %s",
                suite, name ? name : "unknown", suites, kem,
                *msc_kem_name(kem) ? msc_kem_name(kem) : "unknown", kems);
    return false;
}

/* Checks the choice against what was offered, and derives the keys. */
static bool accept_head(MscHandshake *hs, MscReader *r, GError **errp)
{
    const MscKem *const *kems = msc_kems();
    uint8_t shared[MSC_KEM_SHARED_LEN], suite, kem;
    const uint8_t *ciphertext, *nonce;
    const MscSuite *chosen;
    uint16_t version;
    size_t i;
    bool ok;

    if (!msc_reader_u16(r, &version) || version != MSC_TRANSPORT_VERSION) {
        return msc_reader_error(r, errp, "handshake",
                                "no common version of the transport");
    }
    if (!msc_reader_u8(r, &suite) || !msc_reader_u8(r, &kem)) {
        return msc_reader_error(r, errp, "handshake", "malformed ACCEPT");
    }
    chosen = msc_suite_by_id(suite);
    for (i = 0; kems[i] && (uint8_t)kems[i]->id != kem; i++) {
        /* searching */
    }
    if (!chosen || hs_suite_rank(hs, chosen) < 0 || !kems[i] ||
        !hs_kem_allowed(hs, kems[i])) {
        return chose_wrongly(hs, suite, kem, errp);
    }
    if (!msc_reader_view(r, &ciphertext, kems[i]->ciphertext_len) ||
        !msc_reader_view(r, &nonce, HS_NONCE_LEN)) {
        return msc_reader_error(r, errp, "handshake", "malformed ACCEPT");
    }
    hs->suite = suite;
    hs->kem = kem;
    hs_transcript_add(hs, r->start, (size_t)(r->pos - r->start));
    ok = kems[i]->decapsulate(shared, ciphertext, hs->secret->kem_secret[i],
                              hs->kem_public[i]);
    if (ok) {
        handshake_keys(hs, shared);
    } else {
        fail(errp, MSC_ERROR_AUTH, "the other host's key is unusable");
    }
    msc_wipe(shared, sizeof(shared));
    msc_wipe(hs->secret->kem_secret, sizeof(hs->secret->kem_secret));
    return ok;
}

/* Everything that outlives the handshake. */
static bool derive_session(MscHandshake *hs, const uint8_t *vm, GError **errp)
{
    bool source = hs->config.role == MSC_ROLE_SOURCE;
    MscChannelKeys *keys = &hs->secret->keys;
    MscSession *session = msc_secret_new(sizeof(*session), errp);
    uint8_t master[MSC_SECRET_LEN];

    if (!session) {
        return false;
    }
    msc_kdf(master, sizeof(master), hs->secret->prk, "session", hs->transcript,
            sizeof(hs->transcript));
    keys->suite = hs->suite;
    keys->kind = MSC_CHANNEL_MAIN;
    msc_kdf(source ? keys->send : keys->recv, MSC_SUITE_KEY_MAX, master,
            "source traffic", NULL, 0);
    msc_kdf(source ? keys->recv : keys->send, MSC_SUITE_KEY_MAX, master,
            "destination traffic", NULL, 0);
    session->suite = hs->suite;
    session->kem = hs->kem;
    memcpy(session->migration_id, hs->migration_id, MSC_MIGRATION_ID_LEN);
    memcpy(session->vm, vm, MSC_UUID_LEN);
    memcpy(session->peer, hs->peer_identity, sizeof(session->peer));
    msc_kdf(session->channel_secret, MSC_SESSION_SECRET_LEN, master, "channels",
            NULL, 0);
    msc_kdf(session->context_key, MSC_SUITE_KEY_MAX, master, "context", NULL,
            0);
    msc_wipe(master, sizeof(master));
    hs->session = session;
    return true;
}

MscStep hs_full_accept(MscHandshake *hs, MscReader *r, GByteArray *out,
                       GError **errp)
{
    g_autoptr(GByteArray) plain = NULL;
    g_autoptr(GByteArray) body = NULL;
    gsize len;
    const void *admission = g_bytes_get_data(hs->config.admission, &len);

    if (!accept_head(hs, r, errp) ||
        !(plain = hs_open(hs, HS_ACCEPT, r, errp))) {
        return MSC_STEP_FAILED;
    }
    if (plain->len != MSC_IDENTITY_KEY_LEN + MSC_SIGNATURE_LEN) {
        return malformed(r, errp, "malformed identity in ACCEPT");
    }
    if (!check_peer(hs, plain, plain->data, errp)) {
        return MSC_STEP_FAILED;
    }
    hs_transcript_add(hs, r->start, (size_t)(r->end - r->start));

    body = g_byte_array_new();
    msc_put_bytes(body, hs->config.vm, MSC_UUID_LEN);
    msc_put_bytes(body, msc_identity_public(hs->config.identity),
                  MSC_IDENTITY_KEY_LEN);
    msc_put_u32(body, (uint32_t)len);
    msc_put_bytes(body, admission, len);
    put_signature(hs, body);
    hs_begin(out, HS_AUTH);
    hs_seal(hs, HS_AUTH, body, out);
    hs_transcript_add(hs, out->data, out->len);
    if (!derive_session(hs, hs->config.vm, errp)) {
        return MSC_STEP_FAILED;
    }
    hs->state = HS_WAIT_ADMIT;
    return MSC_STEP_CONTINUE;
}

MscStep hs_full_auth(MscHandshake *hs, MscReader *r, GByteArray *out,
                     GError **errp)
{
    g_autoptr(GByteArray) plain = hs_open(hs, HS_AUTH, r, errp);
    g_autoptr(GByteArray) answer = NULL;
    g_autoptr(GBytes) admission = NULL;
    const uint8_t *vm, *key, *request;
    MscReader body;
    uint32_t len;

    if (!plain) {
        return MSC_STEP_FAILED;
    }
    msc_reader_init(&body, plain->data, plain->len);
    if (!msc_reader_view(&body, &vm, MSC_UUID_LEN) ||
        !msc_reader_view(&body, &key, MSC_IDENTITY_KEY_LEN) ||
        !msc_reader_u32(&body, &len) ||
        !msc_reader_view(&body, &request, len) ||
        msc_reader_left(&body) != MSC_SIGNATURE_LEN) {
        return malformed(&body, errp, "malformed AUTH");
    }
    if (!check_peer(hs, plain, key, errp)) {
        return MSC_STEP_FAILED;
    }
    if (memcmp(vm, hs->config.vm, MSC_UUID_LEN)) {
        return fail(errp, MSC_ERROR_REFUSED,
                    "the guests differ: the UUID on "
                    "the source is not the one this QEMU waits for");
    }
    hs_transcript_add(hs, r->start, (size_t)(r->end - r->start));
    admission = g_bytes_new(request, len);
    hs->answer = hs->config.admit(admission, hs->peer, hs->migration_id,
                                  hs->config.opaque, errp);
    if (!hs->answer) {
        return MSC_STEP_FAILED;
    }
    if (g_bytes_get_size(hs->answer) > MSC_ADMISSION_MAX) {
        return fail(errp, MSC_ERROR_INTERNAL, "admission answer too long");
    }
    if (!derive_session(hs, vm, errp)) {
        return MSC_STEP_FAILED;
    }
    answer = g_byte_array_new();
    msc_put_bytes(answer, g_bytes_get_data(hs->answer, NULL),
                  g_bytes_get_size(hs->answer));
    hs_begin(out, HS_ADMIT);
    hs_seal(hs, HS_ADMIT, answer, out);
    hs->state = HS_FINISHED;
    return MSC_STEP_DONE;
}

MscStep hs_full_admit(MscHandshake *hs, MscReader *r, GError **errp)
{
    GByteArray *plain = hs_open(hs, HS_ADMIT, r, errp);

    if (!plain) {
        return MSC_STEP_FAILED;
    }
    hs->answer = g_byte_array_free_to_bytes(plain);
    hs->state = HS_FINISHED;
    return MSC_STEP_DONE;
}
