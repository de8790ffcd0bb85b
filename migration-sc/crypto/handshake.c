/*
 * The handshake's state machine and what its two forms share.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <sodium.h>
#include <string.h>

#include "error.h"
#include "handshake-private.h"
#include "secret.h"

G_STATIC_ASSERT(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == MSC_SECRET_LEN);

static MscHandshake *handshake_new(HandshakeState state, GError **errp)
{
    MscHandshake *hs = g_new0(MscHandshake, 1);

    hs->state = state;
    hs->secret = msc_secret_new(sizeof(*hs->secret), errp);
    if (!hs->secret) {
        msc_handshake_free(hs);
        return NULL;
    }
    return hs;
}

MscHandshake *msc_handshake_new(const MscHandshakeConfig *config, GError **errp)
{
    bool source = config->role == MSC_ROLE_SOURCE;
    MscHandshake *hs = handshake_new(source ? HS_START : HS_WAIT_HELLO, errp);

    if (!hs) {
        return NULL;
    }
    hs->config = *config;
    hs->suites = g_strdupv((char **)config->suites);
    hs->config.suites = (const char *const *)hs->suites;
    if (config->admission) {
        g_bytes_ref(config->admission);
    }
    memcpy(hs->migration_id, config->migration_id, sizeof(hs->migration_id));
    hs->kind = MSC_CHANNEL_MAIN;
    return hs;
}

MscHandshake *msc_handshake_new_further(MscRole role, const MscSession *session,
                                        MscChannelKind kind, uint32_t number,
                                        uint32_t epoch, GError **errp)
{
    bool source = role == MSC_ROLE_SOURCE;
    MscHandshake *hs = handshake_new(source ? HS_START : HS_WAIT_FURTHER, errp);

    if (!hs) {
        return NULL;
    }
    hs->config.role = role;
    hs->kind = source ? (uint32_t)kind : 0;
    hs->number = number;
    hs->epoch = epoch;
    hs->suite = session->suite;
    memcpy(hs->migration_id, session->migration_id, sizeof(hs->migration_id));
    memcpy(hs->secret->channel_secret, session->channel_secret,
           sizeof(session->channel_secret));
    hs->sent = g_byte_array_new();
    return hs;
}

void msc_handshake_free(MscHandshake *hs)
{
    if (!hs) {
        return;
    }
    msc_secret_free(hs->secret);
    g_strfreev(hs->suites);
    g_clear_pointer(&hs->config.admission, g_bytes_unref);
    g_free(hs->peer);
    g_clear_pointer(&hs->answer, g_bytes_unref);
    msc_session_free(hs->session);
    g_clear_pointer(&hs->sent, g_byte_array_unref);
    g_free(hs);
}

void msc_session_free(MscSession *session)
{
    msc_secret_free(session);
}

void hs_transcript_add(MscHandshake *hs, const void *data, size_t len)
{
    uint8_t be[4] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16),
                      (uint8_t)(len >> 8), (uint8_t)len };
    crypto_generichash_state state;

    crypto_generichash_init(&state, NULL, 0, HS_TRANSCRIPT_LEN);
    crypto_generichash_update(&state, hs->transcript, HS_TRANSCRIPT_LEN);
    crypto_generichash_update(&state, be, sizeof(be));
    crypto_generichash_update(&state, data, len);
    crypto_generichash_final(&state, hs->transcript, HS_TRANSCRIPT_LEN);
}

void hs_begin(GByteArray *out, HandshakeType type)
{
    g_byte_array_set_size(out, 0);
    msc_put_u8(out, (uint8_t)type);
    msc_put_u8(out, 0);
}

static void counter_nonce(
    uint64_t counter,
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES])
{
    memset(nonce, 0, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    for (size_t i = 0; i < sizeof(counter); i++) {
        nonce[i] = (uint8_t)(counter >> (8 * i));
    }
}

void hs_seal(MscHandshake *hs, HandshakeType type, const GByteArray *plain,
             GByteArray *out)
{
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    uint8_t ad[2] = { (uint8_t)type, 0 };
    guint at = out->len;

    g_assert(hs->have_keys);
    counter_nonce(hs->own_counter++, nonce);
    g_byte_array_set_size(out, at + plain->len +
                                   crypto_aead_xchacha20poly1305_ietf_ABYTES);
    crypto_aead_xchacha20poly1305_ietf_encrypt(out->data + at, NULL,
                                               plain->data, plain->len, ad,
                                               sizeof(ad), NULL, nonce,
                                               hs->secret->own_key);
}

GByteArray *hs_open(MscHandshake *hs, HandshakeType type, MscReader *r,
                    GError **errp)
{
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    uint8_t ad[2] = { (uint8_t)type, 0 };
    size_t len = msc_reader_left(r);
    GByteArray *plain = g_byte_array_new();
    const uint8_t *sealed = r->pos;

    counter_nonce(hs->peer_counter, nonce);
    if (hs->have_keys && len >= crypto_aead_xchacha20poly1305_ietf_ABYTES) {
        g_byte_array_set_size(
            plain, (guint)len - crypto_aead_xchacha20poly1305_ietf_ABYTES);
        if (crypto_aead_xchacha20poly1305_ietf_decrypt(
                plain->data, NULL, NULL, sealed, len, ad, sizeof(ad), nonce,
                hs->secret->peer_key) == 0) {
            hs->peer_counter++;
            r->pos = r->end;
            return plain;
        }
    }
    g_byte_array_unref(plain);
    g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH,
                        "handshake: a message does not open; it was changed "
                        "on the way, or somebody stands between the hosts");
    return NULL;
}

/* The peer said no. */
static void take_refusal(MscHandshake *hs, HandshakeType type, MscReader *r,
                         GError **errp)
{
    const char *whose =
        type == HS_REFUSE ? "the other end (not verified)" : "the other host";
    g_autoptr(GByteArray) plain = NULL;
    g_autofree char *reason = NULL;
    MscReader sealed;

    if (type == HS_REFUSE_SEALED) {
        plain = hs_open(hs, type, r, errp);
        if (!plain) {
            return;
        }
        msc_reader_init(&sealed, plain->data, plain->len);
        r = &sealed;
    }
    if (!msc_reader_string(r, &reason, MSC_REASON_MAX) || msc_reader_left(r)) {
        msc_reader_error(r, errp, "handshake", "malformed refusal");
        return;
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED, "%s refused: %s", whose,
                reason);
}

/* Tells the peer why, as far as it may know. */
static void give_refusal(MscHandshake *hs, const GError *err, GByteArray *out)
{
    g_autoptr(GByteArray) plain = g_byte_array_new();
    g_autofree char *reason = g_strndup(err->message, MSC_REASON_MAX);
    const char *end;

    /* Cut at a character's start. */
    if (!g_utf8_validate(reason, -1, &end)) {
        reason[end - reason] = '\0';
    }
    /*
     * Who is trusted here is nobody's business but ours: until the peer was
     * accepted, nothing that the trust store says goes out, be it that a key
     * is unknown or that one of its files is broken.
     */
    if (!hs->peer && (hs->have_keys || err->code == MSC_ERROR_AUTH)) {
        g_free(reason);
        reason = g_strdup("this host does not accept yours; its log says "
                          "why");
    }
    msc_put_string(plain, reason);
    if (hs->have_keys) {
        hs_begin(out, HS_REFUSE_SEALED);
        hs_seal(hs, HS_REFUSE_SEALED, plain, out);
    } else {
        hs_begin(out, HS_REFUSE);
        msc_put_bytes(out, plain->data, plain->len);
    }
}

static MscStep dispatch(MscHandshake *hs, const uint8_t *in, size_t len,
                        GByteArray *out, bool *refused, GError **errp)
{
    static const struct {
        HandshakeState state;
        HandshakeType type;
    } expected[] = {
        { HS_WAIT_HELLO, HS_HELLO },     { HS_WAIT_ACCEPT, HS_ACCEPT },
        { HS_WAIT_AUTH, HS_AUTH },       { HS_WAIT_ADMIT, HS_ADMIT },
        { HS_WAIT_FURTHER, HS_FURTHER }, { HS_WAIT_FURTHER_OK, HS_FURTHER_OK },
    };
    uint8_t type, zero;
    bool fits = false;
    MscReader r;

    if (!in && hs->state == HS_START) {
        return hs->sent ? hs_further_start(hs, out)
                        : hs_full_start(hs, out, errp);
    }
    msc_reader_init(&r, in, len);
    if (len > MSC_HANDSHAKE_MAX || !msc_reader_u8(&r, &type) ||
        !msc_reader_u8(&r, &zero) || zero) {
        msc_reader_error(&r, errp, "handshake", "not a handshake message");
        return MSC_STEP_FAILED;
    }
    if (type == HS_REFUSE || type == HS_REFUSE_SEALED) {
        *refused = true;
        take_refusal(hs, type, &r, errp);
        return MSC_STEP_FAILED;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(expected); i++) {
        fits |= expected[i].state == hs->state && expected[i].type == type;
    }
    if (!fits) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "handshake: message of type %u out of order", type);
        return MSC_STEP_FAILED;
    }
    switch (type) {
    case HS_HELLO:
        return hs_full_hello(hs, &r, out, errp);
    case HS_ACCEPT:
        return hs_full_accept(hs, &r, out, errp);
    case HS_AUTH:
        return hs_full_auth(hs, &r, out, errp);
    case HS_ADMIT:
        return hs_full_admit(hs, &r, errp);
    case HS_FURTHER:
        return hs_further_request(hs, in, len, out, errp);
    default:
        return hs_further_reply(hs, in, len, errp);
    }
}

MscStep msc_handshake_step(MscHandshake *hs, const uint8_t *in, size_t len,
                           GByteArray *out, GError **errp)
{
    g_autoptr(GError) err = NULL;
    bool refused = false;
    MscStep step;

    g_byte_array_set_size(out, 0);
    step = dispatch(hs, in, len, out, &refused, &err);
    if (step == MSC_STEP_FAILED) {
        hs->state = HS_DEAD;
        g_byte_array_set_size(out, 0);
        if (!refused) {
            give_refusal(hs, err, out);
        }
        g_propagate_error(errp, g_steal_pointer(&err));
    }
    return step;
}

bool msc_handshake_speaks_first(const MscHandshake *hs)
{
    return hs->state == HS_START;
}

const char *msc_handshake_peer(const MscHandshake *hs)
{
    return hs->peer;
}

GBytes *msc_handshake_answer(const MscHandshake *hs)
{
    return hs->answer;
}

MscSession *msc_handshake_take_session(MscHandshake *hs)
{
    return g_steal_pointer(&hs->session);
}

const MscChannelKeys *msc_handshake_channel_keys(const MscHandshake *hs)
{
    return &hs->secret->keys;
}

uint32_t msc_handshake_epoch(const MscHandshake *hs)
{
    return hs->epoch;
}

bool msc_handshake_is_further(const uint8_t *msg, size_t len, bool *further)
{
    if (!len || (msg[0] != HS_HELLO && msg[0] != HS_FURTHER)) {
        return false;
    }
    *further = msg[0] == HS_FURTHER;
    return true;
}
