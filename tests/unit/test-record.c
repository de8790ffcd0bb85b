/*
 * The record layer: what goes in comes out, and nothing else does.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>

#include "record-fixture.h"

static void test_round_trip(void)
{
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        MscChannelKeys keys = keys_for(*s, 0);
        Pair p = pair_new(&keys);
        g_autofree uint8_t *big = g_malloc(MSC_RECORD_MAX_PAYLOAD);

        randombytes_buf(big, MSC_RECORD_MAX_PAYLOAD);
        for (size_t len = 1; len <= MSC_RECORD_MAX_PAYLOAD; len *= 8) {
            g_autoptr(GByteArray) record = seal(p.sealer, big, len);

            assert_opens(p.opener, record, big, len);
        }
        pair_free(&p);
    }
}

static void test_changed_byte(void)
{
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        MscChannelKeys keys = keys_for(*s, 0);
        Pair first = pair_new(&keys);
        g_autoptr(GByteArray) record = seal(first.sealer, "guest", 5);

        pair_free(&first);
        for (guint i = 0; i < record->len; i++) {
            Pair p = pair_new(&keys);
            g_autoptr(GError) err = NULL;

            record->data[i] ^= 1;
            /* A longer length makes it wait for more: never data. */
            feed(p.opener, record, &err);
            g_assert_cmpint(msc_opener_state(p.opener), !=, MSC_OPENER_DATA);
            g_assert_false(msc_opener_eof(p.opener, NULL));
            record->data[i] ^= 1;
            pair_free(&p);
        }
        /* The control: unchanged it opens. */
        first = pair_new(&keys);
        assert_opens(first.opener, record, "guest", 5);
        pair_free(&first);
    }
}

static void test_order(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
    Pair p = pair_new(&keys);
    g_autoptr(GByteArray) a = seal(p.sealer, "a", 1);
    g_autoptr(GByteArray) b = seal(p.sealer, "b", 1);
    Pair dropped = pair_new(&keys);

    assert_refused(dropped.opener, b);
    pair_free(&dropped);
    assert_opens(p.opener, a, "a", 1);
    assert_refused(p.opener, a); /* replayed */
    assert_refused(p.opener, b); /* and it stays refused */
    pair_free(&p);
}

static void test_other_key(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
    Pair p = pair_new(&keys);
    g_autoptr(GByteArray) a = seal(p.sealer, "a", 1);
    Pair other;

    keys.recv[0] ^= 1;
    other = pair_new(&keys);
    assert_refused(other.opener, a);
    pair_free(&other);
    pair_free(&p);
}

static void test_other_direction(void)
{
    MscChannelKeys here = keys_for(*msc_suites(), 0), there = here;
    Pair a, b;
    g_autoptr(GByteArray) record = NULL;

    memset(here.recv, 8, sizeof(here.recv));
    memset(there.send, 8, sizeof(there.send));
    a = pair_new(&here);
    b = pair_new(&there);
    record = seal(a.sealer, "a", 1);
    assert_refused(a.opener, record); /* reflected */
    assert_opens(b.opener, record, "a", 1);
    pair_free(&a);
    pair_free(&b);
}

/* Three records and the end, in any order but the true one. */
static void test_reorder(void)
{
    static const int orders[][4] = {
        { 1, 0, 2, 3 }, { 0, 2, 1, 3 }, { 2, 1, 0, 3 }, { 0, 1, 3, 2 },
        { 0, 0, 1, 2 }, { 0, 2, 3, 3 }, { 3, 0, 1, 2 }, { 0, 1, 2, 3 },
    };
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
    Pair p = pair_new(&keys);
    GByteArray *records[4] = {
        seal(p.sealer, "a", 1),
        seal(p.sealer, "b", 1),
        seal(p.sealer, "c", 1),
        seal_end(p.sealer),
    };

    pair_free(&p);
    for (size_t i = 0; i < G_N_ELEMENTS(orders); i++) {
        bool true_order = i == G_N_ELEMENTS(orders) - 1, ok = true;
        struct iovec iov = { (char[1]){ 0 }, 1 };

        p = pair_new(&keys);
        for (int k = 0; ok && k < 4; k++) {
            ok = feed(p.opener, records[orders[i][k]], NULL);
            msc_opener_read(p.opener, &iov, 1);
            ok = ok && (msc_opener_state(p.opener) != MSC_OPENER_END || k == 3);
        }
        ok = ok && msc_opener_eof(p.opener, NULL);
        g_assert_true(ok == true_order);
        pair_free(&p);
    }
    for (int i = 0; i < 4; i++) {
        g_byte_array_unref(records[i]);
    }
}

/* Wherever the network stops. */
static void test_truncation(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
    Pair p = pair_new(&keys);
    g_autoptr(GByteArray) stream = seal(p.sealer, "guest", 5);
    g_autoptr(GByteArray) end = seal_end(p.sealer);
    guint whole;
    struct iovec iov = { "x", 1 };

    g_assert_cmpint(msc_sealer_seal(p.sealer, &iov, 1, NULL), ==, -1);
    pair_free(&p);
    g_byte_array_append(stream, end->data, end->len);
    whole = stream->len;
    for (guint len = 0; len <= whole; len++) {
        g_autoptr(GError) err = NULL;
        char got[5];

        p = pair_new(&keys);
        iov = (struct iovec){ got, sizeof(got) };
        g_byte_array_set_size(stream, len);
        for (guint at = 0; at < len;) {
            size_t space;
            uint8_t *to = msc_opener_space(p.opener, &space);

            space = MIN(space, len - at);
            memcpy(to, stream->data + at, space);
            at += (guint)space;
            g_assert_true(msc_opener_fed(p.opener, space, NULL));
            msc_opener_read(p.opener, &iov, 1);
        }
        g_assert_true(msc_opener_eof(p.opener, &err) == (len == whole));
        g_assert_true(len == whole ||
                      g_error_matches(err, MSC_ERROR, MSC_ERROR_AUTH));
        pair_free(&p);
    }
}

/* Records of any size in one pass of the network cost one read each. */
static void test_reads(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
    Pair p = pair_new(&keys);
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autofree uint8_t *big = g_malloc0(MSC_RECORD_MAX_PAYLOAD);
    const guint records = 20;
    guint reads = 0, at = 0;

    for (guint i = 0; i < records; i++) {
        g_autoptr(GByteArray) r = seal(p.sealer, big, i % 2 ? 1 : 1 << i);

        g_byte_array_append(stream, r->data, r->len);
    }
    while (at < stream->len) {
        struct iovec iov = { big, MSC_RECORD_MAX_PAYLOAD };
        size_t space, taken;
        uint8_t *to = msc_opener_space(p.opener, &space);

        space = MIN(space, stream->len - at);
        memcpy(to, stream->data + at, space);
        at += (guint)space;
        reads++;
        g_assert_true(
            msc_opener_fed_into(p.opener, space, &iov, 1, &taken, NULL));
        if (!taken) {
            msc_opener_read(p.opener, &iov, 1);
        }
    }
    /* The first header is read by itself. */
    g_assert_cmpuint(reads, ==, records + 1);
    pair_free(&p);
}

/* A multifd packet: a header and 128 pages, neighbours, in one go. */
static void test_multifd_packet(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
    Pair p = pair_new(&keys);
    g_autofree uint8_t *pages = g_malloc0(128 * 4096);
    g_autofree uint8_t *got = g_malloc0(128 * 4096);
    uint8_t header[1100] = { 1 };
    struct iovec iov[129] = { { header, sizeof(header) } };
    struct iovec in[] = { { got, sizeof(header) }, { got, 128 * 4096 } };
    MscRecordStats stats;
    const uint8_t *sealed;
    size_t n, at = 0;

    for (size_t i = 0; i < 128; i++) {
        iov[i + 1] = (struct iovec){ pages + 4096 * i, 4096 };
    }
    g_assert_cmpint(msc_sealer_seal(p.sealer, iov, 129, NULL), ==,
                    sizeof(header) + 128 * 4096);
    msc_sealer_get_stats(p.sealer, &stats);
    g_assert_cmpuint(stats.records, ==, 2);
    sealed = msc_sealer_pending(p.sealer, &n);
    for (int turn = 0; turn < 2; turn++) {
        size_t taken = 0;

        while (!taken) {
            size_t space;
            uint8_t *to = msc_opener_space(p.opener, &space);

            space = MIN(space, n - at);
            memcpy(to, sealed + at, space);
            at += space;
            g_assert_true(msc_opener_fed_into(p.opener, space, &in[turn], 1,
                                              &taken, NULL));
            /* The pages are opened where they belong, the header is not. */
            g_assert_true(!taken || turn);
            if (!taken) {
                taken = msc_opener_read(p.opener, &in[turn], 1);
            }
        }
        g_assert_cmpuint(taken, ==, in[turn].iov_len);
    }
    g_assert_cmpuint(at, ==, n);
    pair_free(&p);
}

typedef struct {
    struct iovec iov[64];
    size_t niov, bytes;
} Vector;

/* Pieces of @memory of any length, some of them neighbours. */
static void vector_random(Vector *v, uint8_t *memory, size_t len)
{
    size_t at = 0;

    v->niov = v->bytes = 0;
    while (v->niov < G_N_ELEMENTS(v->iov) && at < len) {
        size_t part = randombytes_uniform(3) ? randombytes_uniform(5000)
                                             : randombytes_uniform(200000);

        part = MIN(part, len - at);
        v->iov[v->niov++] = (struct iovec){ memory + at, part };
        v->bytes += part;
        at += part + (randombytes_uniform(2) ? 0 : 13);
    }
}

static void vector_copy(const Vector *v, uint8_t *to)
{
    for (size_t i = 0; i < v->niov; i++) {
        memcpy(to, v->iov[i].iov_base, v->iov[i].iov_len);
        to += v->iov[i].iov_len;
    }
}

/* Whatever pieces it is taken from, and whatever pieces it goes to. */
static void test_vectors(void)
{
    const size_t len = 1 << 20;
    g_autofree uint8_t *from = g_malloc(len);
    g_autofree uint8_t *to = g_malloc(len);
    g_autofree uint8_t *want = g_malloc(len);
    g_autofree uint8_t *got = g_malloc(len);

    randombytes_buf(from, len);
    for (int i = 0; i < 200; i++) {
        const MscSuite *const *suites = msc_suites();
        MscChannelKeys keys;
        size_t n, at = 0, received = 0;
        const uint8_t *sealed;
        Vector in, out;
        ssize_t taken;
        Pair p;

        while (suites[1] && randombytes_uniform(2)) {
            suites++;
        }
        keys = keys_for(*suites, 100000);
        p = pair_new(&keys);
        vector_random(&in, from, len);
        vector_copy(&in, want);
        taken = msc_sealer_seal(p.sealer, in.iov, in.niov, NULL);
        g_assert_cmpint(taken, ==, MIN(in.bytes, MSC_SEAL_MAX));
        sealed = msc_sealer_pending(p.sealer, &n);
        while (at < n || msc_opener_state(p.opener) == MSC_OPENER_DATA) {
            size_t space, part = 0;

            vector_random(&out, to, len);
            if (msc_opener_state(p.opener) == MSC_OPENER_MORE) {
                uint8_t *where = msc_opener_space(p.opener, &space);

                space = MIN(space, n - at);
                memcpy(where, sealed + at, space);
                at += space;
                g_assert_true(msc_opener_fed_into(p.opener, space, out.iov,
                                                  out.niov, &part, NULL));
            }
            if (!part) {
                part = msc_opener_read(p.opener, out.iov, out.niov);
            }
            g_assert_cmpuint(part, <=, out.bytes);
            vector_copy(&out, got);
            g_assert_cmpmem(got, part, want + received, part);
            received += part;
        }
        g_assert_cmpuint(received, ==, taken);
        pair_free(&p);
    }
}

/* Every record far past any limit of QEMU's own TLS, with a low limit here;
 * MSC_RECORD_GIB asks for the real thing. */
static void test_rekey(void)
{
    const char *gib = g_getenv("MSC_RECORD_GIB");
    uint64_t total = gib ? g_ascii_strtoull(gib, NULL, 10) << 30 : 256u << 20;
    MscChannelKeys keys = keys_for(*msc_suites(), gib ? 0 : 1 << 20);
    Pair p = pair_new(&keys), back = pair_new(&keys);
    g_autofree uint8_t *big = g_malloc0(MSC_RECORD_MAX_PAYLOAD);
    MscRecordStats stats;

    for (uint64_t done = 0; done < total; done += MSC_RECORD_MAX_PAYLOAD) {
        g_autoptr(GByteArray) record = NULL;
        g_autoptr(GByteArray) ack = seal(back.sealer, "ack", 3);

        memcpy(big, &done, sizeof(done));
        record = seal(p.sealer, big, MSC_RECORD_MAX_PAYLOAD);
        assert_opens(p.opener, record, big, MSC_RECORD_MAX_PAYLOAD);
        assert_opens(back.opener, ack, "ack", 3);
    }
    msc_sealer_get_stats(p.sealer, &stats);
    g_assert_cmpuint(stats.payload_bytes, ==, total);
    g_assert_cmpuint(stats.rekeys, ==,
                     total / (gib ? MSC_REKEY_BYTES : 1u << 20));
    pair_free(&p);
    pair_free(&back);
}

/* Carries one direction: from one end's sealer to the other end's opener. */
static void *traffic_thread(void *opaque)
{
    Pair *p = opaque;
    uint32_t value;

    for (value = 0; value < 20000; value++) {
        g_autoptr(GByteArray) record = seal(p->sealer, &value, sizeof(value));

        assert_opens(p->opener, record, &value, sizeof(value));
    }
    return NULL;
}

static void test_threads(void)
{
    MscChannelKeys here = keys_for(*msc_suites(), 64), there = here;
    Pair a, b, there_and_back[2];
    MscRecordStats stats;
    GThread *thread;

    memset(here.recv, 8, sizeof(here.recv));
    memset(there.send, 8, sizeof(there.send));
    a = pair_new(&here);
    b = pair_new(&there);
    there_and_back[0] = (Pair){ a.sealer, b.opener };
    there_and_back[1] = (Pair){ b.sealer, a.opener };
    /* So each end seals in one thread while it opens in another, and rekeys
     * in both: what QEMU's TLS cannot do (QEMU issue 1937). */
    thread = g_thread_new("there", traffic_thread, &there_and_back[0]);
    traffic_thread(&there_and_back[1]);
    g_thread_join(thread);
    msc_sealer_get_stats(a.sealer, &stats);
    g_assert_cmpuint(stats.rekeys, ==, 20000 / (64 / sizeof(uint32_t)));
    pair_free(&a);
    pair_free(&b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/record/round-trip-in-every-suite", test_round_trip);
    g_test_add_func("/record/changed-byte-is-refused", test_changed_byte);
    g_test_add_func("/record/dropped-or-replayed-is-refused", test_order);
    g_test_add_func("/record/other-channel-is-refused", test_other_key);
    g_test_add_func("/record/other-direction-is-refused", test_other_direction);
    g_test_add_func("/record/both-directions-at-once", test_threads);
    g_test_add_func("/record/truncation-is-an-error", test_truncation);
    g_test_add_func("/record/reordered-is-refused", test_reorder);
    g_test_add_func("/record/one-read-a-record", test_reads);
    g_test_add_func("/record/multifd-packet-in-one-go", test_multifd_packet);
    g_test_add_func("/record/any-vector-of-buffers", test_vectors);
    g_test_add_func("/record/rekey-with-return-path-busy", test_rekey);
    return g_test_run();
}
