/*
 * The handshake: both ends agree, or neither goes on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "handshake-fixture.h"
#include "record-fixture.h"
#include "seal.h"

static void assert_channels_fit(MscHandshake *source, MscHandshake *destination)
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

        /* Of an ML-KEM key or ciphertext, some bytes stand for all. */
        for (size_t at = 0; at < len;
             at += at >= 128 && at + 192 < len ? 31 : 1) {
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

static bool wire_holds(const Fixture *f, const void *what, size_t len)
{
    return memmem(f->wire->data, f->wire->len, what, len) != NULL;
}

/* A passive observer learns neither who migrates nor which guest. */
static void test_hidden_identities(void)
{
    static const char *const texts[] = {
        "please",
        "welcome",
        "67756573-7427-7320-6f77-6e2055554944",
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
    g_autoptr(MscHandshake) source =
        msc_handshake_new_further(MSC_ROLE_SOURCE, a, MSC_CHANNEL_MULTIFD, 3, 9,
                                  NULL);
    g_autoptr(MscHandshake) destination =
        msc_handshake_new_further(MSC_ROLE_DESTINATION, b, MSC_CHANNEL_MAIN, 0,
                                  0, NULL);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GByteArray) reply = g_byte_array_new();
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(msc_handshake_step(source, NULL, 0, out, &err), ==,
                    MSC_STEP_CONTINUE);
    if (!works) {
        g_assert_cmpint(msc_handshake_step(destination, out->data, out->len,
                                           reply, &err),
                        ==, MSC_STEP_FAILED);
        g_assert_error(err, MSC_ERROR, MSC_ERROR_AUTH);
        return;
    }
    g_assert_cmpint(msc_handshake_step(destination, out->data, out->len, reply,
                                       &err),
                    ==, MSC_STEP_DONE);
    g_assert_cmpuint(msc_handshake_epoch(destination), ==, 9);
    g_assert_cmpint(msc_handshake_step(source, reply->data, reply->len, out,
                                       &err),
                    ==, MSC_STEP_DONE);
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

/* Both ends of a further channel. */
static void further_keys(const MscSession *session, MscChannelKind kind,
                         uint32_t number, uint32_t epoch,
                         MscChannelKeys keys[2])
{
    g_autoptr(MscHandshake) source =
        msc_handshake_new_further(MSC_ROLE_SOURCE, session, kind, number, epoch,
                                  NULL);
    g_autoptr(MscHandshake) destination =
        msc_handshake_new_further(MSC_ROLE_DESTINATION, session,
                                  MSC_CHANNEL_MAIN, 0, 0, NULL);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GByteArray) reply = g_byte_array_new();

    msc_handshake_step(source, NULL, 0, out, NULL);
    msc_handshake_step(destination, out->data, out->len, reply, NULL);
    g_assert_cmpint(msc_handshake_step(source, reply->data, reply->len, out,
                                       NULL),
                    ==, MSC_STEP_DONE);
    keys[0] = *msc_handshake_channel_keys(source);
    keys[1] = *msc_handshake_channel_keys(destination);
}

/* A record of one channel and direction opens there and nowhere else. */
static void test_splices(void)
{
    enum { CHANNELS = 6 };
    MscChannelKeys keys[CHANNELS][2];
    g_autoptr(MscSession) session = NULL;
    Fixture f;

    setup(&f);
    start(&f, NULL, NULL);
    converse(&f);
    session = msc_handshake_take_session(f.hs[0]);
    keys[0][0] = *msc_handshake_channel_keys(f.hs[0]);
    keys[0][1] = *msc_handshake_channel_keys(f.hs[1]);
    further_keys(session, MSC_CHANNEL_MULTIFD, 0, 1, keys[1]);
    further_keys(session, MSC_CHANNEL_MULTIFD, 1, 1, keys[2]);
    further_keys(session, MSC_CHANNEL_POSTCOPY_PREEMPT, 0, 1, keys[3]);
    further_keys(session, MSC_CHANNEL_MULTIFD, 0, 2, keys[4]);
    /* The same request twice: the nonces keep them apart. */
    further_keys(session, MSC_CHANNEL_MULTIFD, 0, 1, keys[5]);
    for (int from = 0; from < 2 * CHANNELS; from++) {
        for (int to = 0; to < 2 * CHANNELS; to++) {
            Pair p = {
                msc_sealer_new(&keys[from / 2][from % 2], NULL),
                msc_opener_new(&keys[to / 2][to % 2], NULL),
            };
            g_autoptr(GByteArray) record = seal(p.sealer, "x", 1);

            g_assert_true(feed(p.opener, record, NULL) ==
                          (from / 2 == to / 2 && from % 2 != to % 2));
            pair_free(&p);
        }
    }
    teardown(&f);
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

    MscChunkKind kind;
    bool ok = msc_context_open(o, data, len, plain, &kind, NULL);

    *ended = ok && kind == MSC_CHUNK_END;
    return ok;
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
    g_test_add_func("/handshake/identities-are-hidden", test_hidden_identities);
    g_test_add_func("/handshake/refused-admission-tells-why", test_admission);
    g_test_add_func("/handshake/further-channel", test_further);
    g_test_add_func("/handshake/channels-cannot-be-mixed", test_splices);
    g_test_add_func("/seal/context-of-another-migration-is-refused",
                    test_context);
    return g_test_run();
}
