/*
 * The handshake: both ends agree, or neither goes on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>
#include <string.h>

#include "error.h"
#include "handshake.h"
#include "seal.h"

typedef struct {
    MscIdentity *identity[2];       /* source, destination */
    MscHandshake *hs[2];
    const MscIdentity *trusted[2];  /* whom each accepts */
    bool refuse_admission;
    int admitted;
    bool drop_suite;                /* out of the offer, on the way */
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

static void setup(Fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->message = -1;
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
        };

        memset(config.vm, 1, sizeof(config.vm));
        memset(config.migration_id, 2, sizeof(config.migration_id));
        f->hs[i] = msc_handshake_new(&config, NULL);
        g_assert_nonnull(f->hs[i]);
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
        if (f->drop_suite && !n) {
            /* The best suite stands behind the count, which follows type,
             * magic, versions, migration id and nonce. */
            const guint count = 2 + 4 + 2 + 2 + MSC_MIGRATION_ID_LEN + 32;

            g_assert_cmpuint(reply->data[count], >, 1);
            reply->data[count]--;
            g_byte_array_remove_index(reply, count + 1);
        }
        n++;
        g_byte_array_set_size(message, 0);
        g_byte_array_append(message, reply->data, reply->len);
        if (f->done[1 - i] || f->err[1 - i]) {
            break;
        }
    }
}

static void teardown(Fixture *f)
{
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
    Fixture f;

    setup(&f);
    f.drop_suite = true;
    start(&f, NULL, NULL);
    converse(&f);
    g_assert_error(f.err[0], MSC_ERROR, MSC_ERROR_AUTH);
    g_assert_false(f.done[0] || f.done[1]);
    g_assert_cmpint(f.admitted, ==, 0);
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
    static const char *const other[] = { "no-such-suite", NULL };
    Fixture f;

    setup(&f);
    start(&f, NULL, slow);
    converse(&f);
    g_assert_true(f.done[0] && f.done[1]);
    g_assert_cmpuint(msc_handshake_channel_keys(f.hs[0])->suite, ==,
                     MSC_SUITE_XCHACHA20_POLY1305);
    teardown(&f);

    setup(&f);
    start(&f, NULL, other);
    converse(&f);
    g_assert_false(f.done[0] || f.done[1]);
    g_assert_error(f.err[1], MSC_ERROR, MSC_ERROR_REFUSED);
    teardown(&f);
}

static MscSession *session_new(uint8_t fill)
{
    MscSession *s = sodium_malloc(sizeof(*s));

    memset(s, fill, sizeof(*s));
    s->suite = (uint32_t)(*msc_suites())->id;
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
static void seal_context(const MscSession *session, GBytes *chunks[2])
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
    g_test_add_func("/handshake/refused-admission-tells-why", test_admission);
    g_test_add_func("/handshake/suites-follow-policy", test_suites);
    g_test_add_func("/handshake/further-channel", test_further);
    g_test_add_func("/seal/context-of-another-migration-is-refused",
                    test_context);
    return g_test_run();
}
