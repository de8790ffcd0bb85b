/*
 * The handshake: both ends agree, or neither goes on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>
#include <string.h>

#include "error.h"
#include "handshake.h"
#include "kem.h"
#include "seal.h"

typedef struct {
    MscIdentity *identity[2];       /* source, destination */
    MscHandshake *hs[2];
    const MscIdentity *trusted[2];  /* whom each accepts */
    bool refuse_admission;
    int admitted;
    bool drop_suite, drop_kem;      /* out of the offer, on the way */
    bool post_quantum[2];           /* policy */
    GByteArray *wire;               /* what an observer sees */
    /* A man in the middle: flips a bit of byte @at in message @message. */
    int message, at;
    size_t last_len;
    bool done[2];
    GError *err[2];
} Fixture;

static char *accept_peer(const uint8_t key[MSC_IDENTITY_KEY_LEN],
                         void *opaque, GError **errp)
{
    const MscIdentity *const *trusted = opaque;

    if (!*trusted) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                            "peer 'alice' is broken");
        return NULL;
    }
    if (memcmp(key, msc_identity_public(*trusted), MSC_IDENTITY_KEY_LEN)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH, "unknown host");
        return NULL;
    }
    return g_strdup(msc_identity_name(*trusted));
}

/* The trusted identity's place tells the fixture. */
static GBytes *admit(GBytes *request, const char *peer,
                     const uint8_t id[MSC_MIGRATION_ID_LEN], void *opaque,
                     GError **errp)
{
    const MscIdentity **mine = opaque;
    Fixture *f = (Fixture *)((char *)(mine - 1) -
                             offsetof(Fixture, trusted));

    (void)id;
    g_assert_cmpstr(peer, ==, "source");
    g_assert_cmpmem(g_bytes_get_data(request, NULL),
                    g_bytes_get_size(request), "please", 6);
    f->admitted++;
    if (f->refuse_admission) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED, "no room");
        return NULL;
    }
    return g_bytes_new_static("welcome", 7);
}

static const uint8_t vm[MSC_UUID_LEN] = "guest's own UUID";
static const uint8_t migration_id[MSC_MIGRATION_ID_LEN] = "a migration's id";

static void setup(Fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->message = -1;
    f->wire = g_byte_array_new();
    f->identity[0] = msc_identity_generate("source", NULL);
    f->identity[1] = msc_identity_generate("destination", NULL);
    f->trusted[0] = f->identity[1];
    f->trusted[1] = f->identity[0];
}

static void start(Fixture *f, const char *const *suites0,
                  const char *const *suites1)
{
    g_autoptr(GBytes) admission = g_bytes_new_static("please", 6);

    for (int i = 0; i < 2; i++) {
        MscHandshakeConfig config = {
            .role = i ? MSC_ROLE_DESTINATION : MSC_ROLE_SOURCE,
            .identity = f->identity[i],
            .accept_peer = accept_peer,
            .admission = i ? NULL : admission,
            .admit = admit,
            .opaque = &f->trusted[i],
            .suites = i ? suites1 : suites0,
            .post_quantum_only = f->post_quantum[i],
        };

        memcpy(config.vm, vm, sizeof(config.vm));
        memcpy(config.migration_id, migration_id, sizeof(migration_id));
        f->hs[i] = msc_handshake_new(&config, NULL);
        g_assert_nonnull(f->hs[i]);
    }
}

/* The suites stand behind type, magic, versions, migration id and nonce, the
 * key agreements behind them; the best come first. */
static void meddle_with_hello(const Fixture *f, GByteArray *hello)
{
    const guint suites = 2 + 4 + 2 + 2 + MSC_MIGRATION_ID_LEN + 32;
    const guint kems = suites + 1 + hello->data[suites];

    if (f->drop_kem) {
        const guint len = (guint)(hello->data[kems + 2] << 8 |
                                  hello->data[kems + 3]);

        g_assert_cmpuint(hello->data[kems], >, 1);
        hello->data[kems]--;
        g_byte_array_remove_range(hello, kems + 1, 3 + len);
    }
    if (f->drop_suite) {
        g_assert_cmpuint(hello->data[suites], >, 1);
        hello->data[suites]--;
        g_byte_array_remove_index(hello, suites + 1);
    }
}

/* Carries messages until both are done or one has failed. */
static void converse(Fixture *f)
{
    g_autoptr(GByteArray) message = g_byte_array_new();
    g_autoptr(GByteArray) reply = g_byte_array_new();
    bool first = true;

    for (int turn = 0, n = 0; turn < 10; turn++) {
        int i = turn % 2;
        MscStep step;

        step = msc_handshake_step(f->hs[i], first ? NULL : message->data,
                                  first ? 0 : message->len, reply, &f->err[i]);
        first = false;
        f->done[i] = step == MSC_STEP_DONE;
        g_assert_true((step == MSC_STEP_FAILED) == (f->err[i] != NULL));
        if (!reply->len) {
            break;
        }
        if (n == f->message) {
            f->last_len = reply->len;
            if (f->at >= 0 && f->at < (int)reply->len) {
                reply->data[f->at] ^= 4;
            }
        }
        if (!n) {
            meddle_with_hello(f, reply);
        }
        n++;
        g_byte_array_set_size(message, 0);
        g_byte_array_append(message, reply->data, reply->len);
        g_byte_array_append(f->wire, reply->data, reply->len);
        if (f->done[1 - i] || f->err[1 - i]) {
            break;
        }
    }
}

static void teardown(Fixture *f)
{
    g_byte_array_unref(f->wire);
    for (int i = 0; i < 2; i++) {
        msc_handshake_free(f->hs[i]);
        msc_identity_free(f->identity[i]);
        g_clear_error(&f->err[i]);
    }
}

static void assert_channels_fit(MscHandshake *source,
                                MscHandshake *destination)
{
    const MscChannelKeys *a = msc_handshake_channel_keys(source);
    const MscChannelKeys *b = msc_handshake_channel_keys(destination);

    g_assert_cmpmem(a->send, sizeof(a->send), b->recv, sizeof(b->recv));
    g_assert_cmpmem(a->recv, sizeof(a->recv), b->send, sizeof(b->send));
    g_assert_true(memcmp(a->send, a->recv, sizeof(a->send)));
    g_assert_cmpuint(a->suite, ==, b->suite);
    g_assert_cmpuint(a->kind, ==, b->kind);
    g_assert_cmpuint(a->number, ==, b->number);
}

static void test_agree(void)
{
    Fixture f;
    GBytes *answer;

    setup(&f);
    start(&f, NULL, NULL);
    converse(&f);
    g_assert_no_error(f.err[0]);
    g_assert_no_error(f.err[1]);
    g_assert_true(f.done[0] && f.done[1]);
    g_assert_cmpstr(msc_handshake_peer(f.hs[0]), ==, "destination");
    g_assert_cmpstr(msc_handshake_peer(f.hs[1]), ==, "source");
    answer = msc_handshake_answer(f.hs[0]);
    g_assert_cmpmem(g_bytes_get_data(answer, NULL), g_bytes_get_size(answer),
                    "welcome", 7);
    assert_channels_fit(f.hs[0], f.hs[1]);
    teardown(&f);
}

static void test_tamper(void)
{
    for (int message = 0; message < 4; message++) {
        size_t len = 1;

        for (size_t at = 0; at < len; at++) {
            Fixture f;

            setup(&f);
            f.message = message;
            f.at = (int)at;
            start(&f, NULL, NULL);
            converse(&f);
            g_assert_false(f.done[0]);
            g_assert_true(f.err[0] || f.err[1]);
            /* The last message is the only one that the destination cannot
             * know was changed; the source then never sends RAM. */
            g_assert_true(message == 3 || !f.done[1]);
            g_assert_true(message == 3 || !f.admitted);
            len = f.last_len;
            teardown(&f);
        }
        g_assert_cmpuint(len, >, 16);
    }
}

static void test_unknown_peer(void)
{
    for (int who = 0; who < 2; who++) {
        g_autoptr(MscIdentity) other = msc_identity_generate("other", NULL);
        Fixture f;

        setup(&f);
        f.trusted[who] = other;
        start(&f, NULL, NULL);
        converse(&f);
        g_assert_error(f.err[who], MSC_ERROR, MSC_ERROR_AUTH);
        g_assert_error(f.err[1 - who], MSC_ERROR, MSC_ERROR_REFUSED);
        g_assert_false(f.done[0] || f.done[1]);
        g_assert_cmpint(f.admitted, ==, 0);
        teardown(&f);
    }
}

/* Not even that a file of it is broken, and whose. */
static void test_trust_store_stays_private(void)
{
    for (int who = 0; who < 2; who++) {
        Fixture f;

        setup(&f);
        f.trusted[who] = NULL;
        start(&f, NULL, NULL);
        converse(&f);
        g_assert_error(f.err[who], MSC_ERROR, MSC_ERROR_CONFIG);
        g_assert_nonnull(strstr(f.err[who]->message, "alice"));
        g_assert_error(f.err[1 - who], MSC_ERROR, MSC_ERROR_REFUSED);
        g_assert_null(strstr(f.err[1 - who]->message, "alice"));
        g_assert_false(f.done[0] || f.done[1]);
        teardown(&f);
    }
}

static void test_downgrade(void)
{
    for (int kem = 0; kem < 2; kem++) {
        Fixture f;

        setup(&f);
        f.drop_suite = !kem;
        f.drop_kem = kem;
        if (kem && !msc_kem_have_post_quantum()) {
            teardown(&f);
            continue;           /* there is but one */
        }
        start(&f, NULL, NULL);
        converse(&f);
        g_assert_error(f.err[0], MSC_ERROR, MSC_ERROR_AUTH);
        g_assert_false(f.done[0] || f.done[1]);
        g_assert_cmpint(f.admitted, ==, 0);
        teardown(&f);
    }
}

/* Whoever lacks it, and on whichever side policy asks for it. */
static void test_post_quantum_policy(void)
{
    for (int who = 0; who < 2; who++) {
        Fixture f;

        setup(&f);
        f.post_quantum[who] = true;
        start(&f, NULL, NULL);
        converse(&f);
        if (msc_kem_have_post_quantum()) {
            g_autoptr(MscSession) session = NULL;

            g_assert_true(f.done[0] && f.done[1]);
            session = msc_handshake_take_session(f.hs[0]);
            g_assert_cmpstr(msc_kem_name(session->kem), ==, "x-wing");
        } else {
            g_assert_false(f.done[0] || f.done[1]);
            g_assert_nonnull(strstr(f.err[who]->message, "post-quantum"));
        }
        teardown(&f);
    }
    if (msc_kem_have_post_quantum()) {
        Fixture f;

        /* A source without it, to a destination that asks for it. */
        setup(&f);
        f.drop_kem = true;
        f.post_quantum[1] = true;
        start(&f, NULL, NULL);
        converse(&f);
        g_assert_error(f.err[1], MSC_ERROR, MSC_ERROR_REFUSED);
        for (int i = 0; i < 2; i++) {
            g_assert_nonnull(strstr(f.err[i]->message, "offers x25519;"));
            g_assert_nonnull(strstr(f.err[i]->message, "allows x-wing;"));
        }
        teardown(&f);
    }
}

static bool wire_holds(const Fixture *f, const void *what, size_t len)
{
    return memmem(f->wire->data, f->wire->len, what, len) != NULL;
}

/* A passive observer learns neither who migrates nor which guest. */
static void test_hidden_identities(void)
{
    static const char *const texts[] = {
        "please", "welcome", "67756573-7427-7320-6f77-6e2055554944",
    };
    Fixture f;

    setup(&f);
    start(&f, NULL, NULL);
    converse(&f);
    g_assert_true(f.done[0] && f.done[1]);
    g_assert_false(wire_holds(&f, vm, sizeof(vm)));
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_assert_false(wire_holds(&f, texts[i], strlen(texts[i])));
    }
    for (int i = 0; i < 2; i++) {
        const uint8_t *key = msc_identity_public(f.identity[i]);
        const char *name = msc_identity_name(f.identity[i]);
        g_autofree char *text = g_base64_encode(key, MSC_IDENTITY_KEY_LEN);

        g_assert_false(wire_holds(&f, key, MSC_IDENTITY_KEY_LEN));
        g_assert_false(wire_holds(&f, text, strlen(text) - 1));
        g_assert_false(wire_holds(&f, name, strlen(name)));
    }
    /* The control: what is in clear is found. */
    g_assert_true(wire_holds(&f, migration_id, sizeof(migration_id)));
    teardown(&f);
}

static void test_admission(void)
{
    Fixture f;

    setup(&f);
    f.refuse_admission = true;
    start(&f, NULL, NULL);
    converse(&f);
    g_assert_error(f.err[0], MSC_ERROR, MSC_ERROR_REFUSED);
    g_assert_nonnull(strstr(f.err[0]->message, "no room"));
    g_assert_false(f.done[0] || f.done[1]);
    teardown(&f);
}

static void test_suites(void)
{
    static const char *const slow[] = { "xchacha20-poly1305", NULL };
    Fixture f;

    setup(&f);
    start(&f, NULL, slow);
    converse(&f);
    g_assert_true(f.done[0] && f.done[1]);
    g_assert_cmpuint(msc_handshake_channel_keys(f.hs[0])->suite, ==,
                     MSC_SUITE_XCHACHA20_POLY1305);
    teardown(&f);
}

static void test_no_common_suite(void)
{
    const MscSuite *best = *msc_suites();
    const char *const one[] = { best->name, NULL };
    const char *const other[] = { msc_suites()[1]->name, NULL };
    g_autofree char *offers = g_strdup_printf("offers %s;", one[0]);
    g_autofree char *allows = g_strdup_printf("allows %s;", other[0]);
    Fixture f;

    setup(&f);
    start(&f, one, other);
    converse(&f);
    g_assert_false(f.done[0] || f.done[1]);
    for (int i = 0; i < 2; i++) {
        g_assert_error(f.err[i], MSC_ERROR, MSC_ERROR_REFUSED);
        g_assert_nonnull(strstr(f.err[i]->message, offers));
        g_assert_nonnull(strstr(f.err[i]->message, allows));
    }
    teardown(&f);
}

/* In clear only if both hosts' policies name it. */
static void test_integrity_only(void)
{
    static const char *const clear[] = { "integrity-only", NULL };

    for (int row = 0; row < 4; row++) {
        Fixture f;

        setup(&f);
        start(&f, row & 1 ? clear : NULL, row & 2 ? clear : NULL);
        converse(&f);
        g_assert_true((f.done[0] && f.done[1]) == (row == 0 || row == 3));
        if (f.done[0]) {
            const MscSuite *suite = msc_suite_by_id(
                msc_handshake_channel_keys(f.hs[0])->suite);

            g_assert_true(suite->encrypts == (row == 0));
        } else {
            g_assert_error(f.err[1], MSC_ERROR, MSC_ERROR_REFUSED);
        }
        teardown(&f);
    }
}

/* That a suite is missing because it was not compiled would be noticed by no
 * other test here. */
static void test_all_offered(void)
{
    bool new_sodium = sodium_library_version_major() > 26 ||
                      (sodium_library_version_major() == 26 &&
                       sodium_library_version_minor() >= 4);

    g_test_message("libsodium %s", sodium_version_string());
    g_assert_nonnull(msc_suite_by_id(MSC_SUITE_XCHACHA20_POLY1305));
    g_assert_true(!msc_suite_by_id(MSC_SUITE_AES_256_GCM) ==
                  !crypto_aead_aes256gcm_is_available());
    if (new_sodium) {           /* 1.0.22 */
        g_assert_nonnull(msc_suite_by_id(MSC_SUITE_AEGIS_128L));
        g_assert_nonnull(msc_suite_by_id(MSC_SUITE_AEGIS_256));
        g_assert_nonnull(msc_suite_by_id(MSC_SUITE_INTEGRITY_ONLY));
        g_assert_true(msc_kem_have_post_quantum());
    }
}

static MscSession *session_new(uint8_t fill)
{
    MscSession *s = sodium_malloc(sizeof(*s));

    memset(s, fill, sizeof(*s));
    s->suite = (uint32_t)(*msc_suites())->id;
    s->context_sealed = false;
    return s;
}

static void further(const MscSession *a, const MscSession *b, bool works)
{
    g_autoptr(MscHandshake) source = msc_handshake_new_further(
        MSC_ROLE_SOURCE, a, MSC_CHANNEL_MULTIFD, 3, 9, NULL);
    g_autoptr(MscHandshake) destination = msc_handshake_new_further(
        MSC_ROLE_DESTINATION, b, MSC_CHANNEL_MAIN, 0, 0, NULL);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GByteArray) reply = g_byte_array_new();
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(msc_handshake_step(source, NULL, 0, out, &err), ==,
                    MSC_STEP_CONTINUE);
    if (!works) {
        g_assert_cmpint(msc_handshake_step(destination, out->data, out->len,
                                           reply, &err), ==, MSC_STEP_FAILED);
        g_assert_error(err, MSC_ERROR, MSC_ERROR_AUTH);
        return;
    }
    g_assert_cmpint(msc_handshake_step(destination, out->data, out->len,
                                       reply, &err), ==, MSC_STEP_DONE);
    g_assert_cmpuint(msc_handshake_epoch(destination), ==, 9);
    g_assert_cmpint(msc_handshake_step(source, reply->data, reply->len, out,
                                       &err), ==, MSC_STEP_DONE);
    assert_channels_fit(source, destination);
    g_assert_cmpuint(msc_handshake_channel_keys(destination)->number, ==, 3);
}

static void test_further(void)
{
    g_autoptr(MscSession) a = session_new(1);
    g_autoptr(MscSession) same = session_new(1);
    g_autoptr(MscSession) other = session_new(1);

    other->channel_secret[5] ^= 1;
    further(a, same, true);
    further(a, other, false);
    memcpy(other, a, sizeof(*a));
    other->migration_id[0] ^= 1;
    further(a, other, false);
}

/* Seals "hello" and END; returns both chunks. */
static void seal_context(MscSession *session, GBytes *chunks[2])
{
    MscContextSealer *s = msc_context_sealer_new(session, NULL);

    chunks[0] = msc_context_seal(s, "hello", 5, NULL);
    chunks[1] = msc_context_seal_end(s, NULL);
    msc_context_sealer_free(s);
}

static bool open_chunk(MscContextOpener *o, GBytes *chunk, GByteArray *plain,
                       bool *ended)
{
    gsize len;
    const void *data = g_bytes_get_data(chunk, &len);

    return msc_context_open(o, data, len, plain, ended, NULL);
}

static void test_context(void)
{
    g_autoptr(MscSession) a = session_new(1);
    g_autoptr(MscSession) later = session_new(1);
    g_autoptr(GByteArray) plain = g_byte_array_new();
    MscContextOpener *o = msc_context_opener_new(a, NULL);
    GBytes *chunks[2];
    bool ended;

    seal_context(a, chunks);
    g_assert_true(open_chunk(o, chunks[0], plain, &ended));
    g_assert_false(ended);
    g_assert_true(open_chunk(o, chunks[1], plain, &ended));
    g_assert_true(ended);
    g_assert_cmpmem(plain->data, plain->len, "hello", 5);
    msc_context_opener_free(o);

    /* END without what it covers. */
    o = msc_context_opener_new(a, NULL);
    g_assert_false(open_chunk(o, chunks[1], plain, &ended));
    msc_context_opener_free(o);
    /* The same bytes in a later migration, and for another guest. */
    later->migration_id[0] ^= 1;
    o = msc_context_opener_new(later, NULL);
    g_assert_false(open_chunk(o, chunks[0], plain, &ended));
    msc_context_opener_free(o);
    later->migration_id[0] ^= 1;
    later->vm[0] ^= 1;
    o = msc_context_opener_new(later, NULL);
    g_assert_false(open_chunk(o, chunks[0], plain, &ended));
    msc_context_opener_free(o);
    g_bytes_unref(chunks[0]);
    g_bytes_unref(chunks[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/handshake/both-agree", test_agree);
    g_test_add_func("/handshake/no-changed-byte-gets-through", test_tamper);
    g_test_add_func("/handshake/unknown-peer-is-refused", test_unknown_peer);
    g_test_add_func("/handshake/trust-store-stays-private",
                    test_trust_store_stays_private);
    if (msc_suites()[1]) {
        g_test_add_func("/handshake/offer-taken-away-is-noticed",
                        test_downgrade);
    }
    g_test_add_func("/handshake/post-quantum-follows-policy",
                    test_post_quantum_policy);
    g_test_add_func("/handshake/identities-are-hidden",
                    test_hidden_identities);
    if (msc_suites()[1]) {
        g_test_add_func("/handshake/no-common-suite-names-both-sides",
                        test_no_common_suite);
    }
    if (msc_suite_by_id(MSC_SUITE_INTEGRITY_ONLY)) {
        g_test_add_func("/handshake/integrity-only-needs-both-policies",
                        test_integrity_only);
    }
    g_test_add_func("/handshake/all-that-libsodium-has-is-offered",
                    test_all_offered);
    g_test_add_func("/handshake/refused-admission-tells-why", test_admission);
    g_test_add_func("/handshake/suites-follow-policy", test_suites);
    g_test_add_func("/handshake/further-channel", test_further);
    g_test_add_func("/seal/context-of-another-migration-is-refused",
                    test_context);
    return g_test_run();
}
