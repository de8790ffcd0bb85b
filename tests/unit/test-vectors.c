/*
 * The library makes the vectors in tests/vectors again, byte by byte.
 *
 * Randomness is fixed, so a vector says what the protocol does and not only
 * that both ends agree.  MSC_WRITE_VECTORS=1 writes the files instead; what
 * this libsodium lacks is neither written nor compared.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <json-glib/json-glib.h>
#include <sodium.h>

#include "handshake-private.h"
#include "record-fixture.h"
#include "seal.h"

static uint32_t seed;

static const char *fixed_name(void)
{
    return "fixed";
}

static uint32_t fixed_random(void)
{
    return seed = seed * 1664525u + 1013904223u;
}

static void fixed_buf(void *const buf, const size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)buf)[i] = (uint8_t)(fixed_random() >> 24);
    }
}

static randombytes_implementation fixed = {
    .implementation_name = fixed_name,
    .random = fixed_random,
    .buf = fixed_buf,
};

static void put_hex(JsonBuilder *b, const char *name, const void *data,
                    size_t len)
{
    g_autofree char *hex = g_malloc(2 * len + 1);

    sodium_bin2hex(hex, 2 * len + 1, data, len);
    if (name) {
        json_builder_set_member_name(b, name);
    }
    json_builder_add_string_value(b, hex);
}

static void put_text(JsonBuilder *b, const char *name, const char *text)
{
    json_builder_set_member_name(b, name);
    json_builder_add_string_value(b, text);
}

static void put_int(JsonBuilder *b, const char *name, gint64 value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, value);
}

/* Ends the object in @b and holds it against the file. */
static void check_vector(JsonBuilder *b, const char *kind, const char *name)
{
    g_autofree char *file = g_strdup_printf("%s-%s.json", kind, name);
    g_autofree char *path = g_build_filename(VECTORS, file, NULL);
    g_autoptr(JsonNode) made = NULL;
    g_autofree char *text = NULL;
    g_autofree char *want = NULL;
    g_autofree char *line = NULL;
    g_autoptr(GError) err = NULL;

    json_builder_end_object(b);
    made = json_builder_get_root(b);
    text = json_to_string(made, TRUE);
    line = g_strconcat(text, "\n", NULL);
    if (g_getenv("MSC_WRITE_VECTORS")) {
        g_assert_true(g_file_set_contents(path, line, -1, NULL));
        return;
    }
    g_file_get_contents(path, &want, NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(line, ==, want);
}

static MscIdentity *identity(const char *name, uint8_t fill, JsonBuilder *b)
{
    g_autofree char *member = g_strconcat(name, "_seed", NULL);
    g_autofree char *text = NULL;
    g_autofree char *base64 = NULL;
    uint8_t bytes[crypto_sign_SEEDBYTES];
    MscIdentity *id;

    memset(bytes, fill, sizeof(bytes));
    base64 = g_base64_encode(bytes, sizeof(bytes));
    text = g_strdup_printf("[identity]\nname=%s\nseed=%s\n", name, base64);
    put_hex(b, member, bytes, sizeof(bytes));
    id = msc_identity_parse(name, text, strlen(text), NULL);
    g_assert_nonnull(id);
    return id;
}

static char *accept_peer(const uint8_t key[MSC_IDENTITY_KEY_LEN], void *opaque,
                         GError **errp)
{
    (void)key;
    (void)opaque;
    (void)errp;
    return g_strdup("peer");
}

static GBytes *admit(GBytes *request, const char *peer,
                     const uint8_t id[MSC_MIGRATION_ID_LEN], void *opaque,
                     GError **errp)
{
    (void)request;
    (void)peer;
    (void)id;
    (void)opaque;
    (void)errp;
    return g_bytes_new_static("the answer", 10);
}

static void say(MscHandshake *hs, const char *name, const GByteArray *in,
                GByteArray *out, MscStep want, JsonBuilder *b)
{
    g_autoptr(GError) err = NULL;
    MscStep step = msc_handshake_step(hs, in ? in->data : NULL,
                                      in ? in->len : 0, out, &err);

    g_assert_no_error(err);
    g_assert_cmpint(step, ==, want);
    if (name) {
        put_hex(b, name, out->data, out->len);
    }
}

static void put_kem(MscHandshake *hs, const MscKem *kem, const uint8_t *secret,
                    size_t index, const GByteArray *accept, JsonBuilder *b)
{
    uint8_t shared[MSC_KEM_SHARED_LEN];

    put_text(b, "kem", kem->name);
    put_hex(b, "kem_secret", secret, kem->secret_len);
    g_assert_true(kem->decapsulate(shared, accept->data + 6, secret,
                                   hs->kem_public[index]));
    put_hex(b, "shared", shared, sizeof(shared));
}

static void put_keys(MscHandshake *hs, const MscSession *session,
                     JsonBuilder *b)
{
    const HandshakeSecrets *s = hs->secret;

    put_hex(b, "prk", s->prk, sizeof(s->prk));
    put_hex(b, "source_handshake_key", s->own_key, sizeof(s->own_key));
    put_hex(b, "destination_handshake_key", s->peer_key, sizeof(s->peer_key));
    put_hex(b, "t4", hs->transcript, sizeof(hs->transcript));
    put_hex(b, "source_traffic", s->keys.send, sizeof(s->keys.send));
    put_hex(b, "destination_traffic", s->keys.recv, sizeof(s->keys.recv));
    put_hex(b, "channels", session->channel_secret,
            sizeof(session->channel_secret));
    put_hex(b, "context", session->context_key, sizeof(session->context_key));
}

static void put_further(const MscSession *session, JsonBuilder *b)
{
    g_autoptr(MscHandshake) source =
        msc_handshake_new_further(MSC_ROLE_SOURCE, session, MSC_CHANNEL_MULTIFD,
                                  3, 9, NULL);
    g_autoptr(MscHandshake) destination =
        msc_handshake_new_further(MSC_ROLE_DESTINATION, session,
                                  MSC_CHANNEL_MAIN, 0, 0, NULL);
    g_autoptr(GByteArray) request = g_byte_array_new();
    g_autoptr(GByteArray) reply = g_byte_array_new();
    g_autoptr(GByteArray) nothing = g_byte_array_new();
    const MscChannelKeys *keys;

    json_builder_set_member_name(b, "further_channel");
    json_builder_begin_object(b);
    put_int(b, "kind", MSC_CHANNEL_MULTIFD);
    put_int(b, "number", 3);
    put_int(b, "epoch", 9);
    say(source, "further", NULL, request, MSC_STEP_CONTINUE, b);
    say(destination, "further_ok", request, reply, MSC_STEP_DONE, b);
    say(source, NULL, reply, nothing, MSC_STEP_DONE, b);
    keys = msc_handshake_channel_keys(source);
    put_hex(b, "source_traffic", keys->send, sizeof(keys->send));
    put_hex(b, "destination_traffic", keys->recv, sizeof(keys->recv));
    json_builder_end_object(b);
}

static void test_handshake(void)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(GBytes) admission = g_bytes_new_static("the request", 11);
    g_autoptr(MscSession) session = NULL;
    g_autoptr(GByteArray) hello = g_byte_array_new();
    g_autoptr(GByteArray) accept = g_byte_array_new();
    g_autoptr(GByteArray) auth = g_byte_array_new();
    g_autoptr(GByteArray) answer = g_byte_array_new();
    g_autoptr(GByteArray) nothing = g_byte_array_new();
    /* The one policy that all libsodiums and CPUs can follow. */
    const char *const suites[] = { "xchacha20-poly1305", NULL };
    uint8_t secret[2][MSC_KEM_SECRET_MAX];
    const MscKem *kem = *msc_kems(); /* the best comes first */
    MscHandshake *hs[2];
    MscIdentity *id[2];

    seed = 1;
    json_builder_begin_object(b);
    id[0] = identity("source", 0x51, b);
    id[1] = identity("destination", 0xd2, b);
    for (int i = 0; i < 2; i++) {
        MscHandshakeConfig config = {
            .role = i ? MSC_ROLE_DESTINATION : MSC_ROLE_SOURCE,
            .identity = id[i],
            .accept_peer = accept_peer,
            .admission = i ? NULL : admission,
            .admit = admit,
            .suites = suites,
        };

        memset(config.vm, 0x33, sizeof(config.vm));
        memset(config.migration_id, 0x44, sizeof(config.migration_id));
        if (!i) {
            put_hex(b, "vm", config.vm, sizeof(config.vm));
            put_hex(b, "migration_id", config.migration_id,
                    sizeof(config.migration_id));
        }
        hs[i] = msc_handshake_new(&config, NULL);
    }
    put_text(b, "suite", suites[0]);
    put_hex(b, "admission_request", "the request", 11);
    put_hex(b, "admission_answer", "the answer", 10);
    say(hs[0], "hello", NULL, hello, MSC_STEP_CONTINUE, b);
    memcpy(secret, hs[0]->secret->kem_secret, sizeof(secret));
    say(hs[1], "accept", hello, accept, MSC_STEP_CONTINUE, b);
    put_kem(hs[0], kem, secret[0], 0, accept, b);
    say(hs[0], "auth", accept, auth, MSC_STEP_CONTINUE, b);
    say(hs[1], "admit", auth, answer, MSC_STEP_DONE, b);
    say(hs[0], NULL, answer, nothing, MSC_STEP_DONE, b);
    session = msc_handshake_take_session(hs[0]);
    put_keys(hs[0], session, b);
    put_further(session, b);
    for (int i = 0; i < 2; i++) {
        msc_handshake_free(hs[i]);
        msc_identity_free(id[i]);
    }
    check_vector(b, "handshake", kem->name);
}

static void put_record(Pair *p, const char *payload, JsonBuilder *b)
{
    g_autoptr(GByteArray) record =
        *payload ? seal(p->sealer, payload, strlen(payload))
                 : seal_end(p->sealer);

    json_builder_begin_object(b);
    put_hex(b, "payload", payload, strlen(payload));
    put_hex(b, "record", record->data, record->len);
    json_builder_end_object(b);
}

static void test_records(void)
{
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        MscChannelKeys keys = keys_for(*s, 0);
        Pair p;

        for (size_t i = 0; i < sizeof(keys.send); i++) {
            keys.send[i] = (uint8_t)(i + 1);
        }
        keys.rekey_records = 2;
        p = pair_new(&keys);
        json_builder_begin_object(b);
        put_text(b, "suite", (*s)->name);
        put_hex(b, "key", keys.send, sizeof(keys.send));
        json_builder_set_member_name(b, "records");
        json_builder_begin_array(b);
        put_record(&p, "a", b);
        put_record(&p, "the last one under its key", b);
        put_record(&p,
                   "more than one block of AEGIS-128L, and a bit of the "
                   "next, under the second key",
                   b);
        put_record(&p, "thirty-two bytes, not one more..", b);
        put_record(&p, "", b);
        json_builder_end_array(b);
        pair_free(&p);
        check_vector(b, "records", (*s)->name);
    }
}

static void put_chunk(GBytes *chunk, JsonBuilder *b)
{
    gsize len;
    const void *data = g_bytes_get_data(chunk, &len);

    put_hex(b, NULL, data, len);
    g_bytes_unref(chunk);
}

static void test_contexts(void)
{
    for (const MscSuite *const *suite = msc_suites(); *suite; suite++) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        MscSession session = { .suite = (*suite)->id };
        MscContextSealer *s;

        memset(session.migration_id, 0x44, sizeof(session.migration_id));
        memset(session.vm, 0x33, sizeof(session.vm));
        memset(session.context_key, 0x66, sizeof(session.context_key));
        json_builder_begin_object(b);
        put_text(b, "session_suite", (*suite)->name);
        put_hex(b, "migration_id", session.migration_id,
                sizeof(session.migration_id));
        put_hex(b, "vm", session.vm, sizeof(session.vm));
        put_hex(b, "context", session.context_key, sizeof(session.context_key));
        put_hex(b, "plain", "first part, second part", 23);
        json_builder_set_member_name(b, "chunks");
        json_builder_begin_array(b);
        s = msc_context_sealer_new(&session, NULL);
        put_chunk(msc_context_seal(s, "first part", 10, NULL), b);
        put_chunk(msc_context_seal(s, ", second part", 13, NULL), b);
        put_chunk(msc_context_seal_end(s, NULL), b);
        msc_context_sealer_free(s);
        json_builder_end_array(b);
        check_vector(b, "context", (*suite)->name);
    }
}

int main(int argc, char **argv)
{
    randombytes_set_implementation(&fixed);
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/vectors/handshake", test_handshake);
    g_test_add_func("/vectors/records", test_records);
    g_test_add_func("/vectors/contexts", test_contexts);
    return g_test_run();
}
