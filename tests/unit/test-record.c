/*
 * The record layer: what goes in comes out, and nothing else does.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>
#include <string.h>

#include "channel-keys.h"
#include "error.h"
#include "format.h"

typedef struct {
    MscSealer *sealer;
    MscOpener *opener;
} Pair;

static MscChannelKeys keys_for(const MscSuite *suite, uint64_t rekey_bytes)
{
    MscChannelKeys keys = { .suite = suite->id, .kind = MSC_CHANNEL_MAIN,
                            .rekey_bytes = rekey_bytes };

    memset(keys.send, 7, sizeof(keys.send));
    memset(keys.recv, 7, sizeof(keys.recv));
    return keys;
}

static Pair pair_new(const MscChannelKeys *keys)
{
    Pair p = { msc_sealer_new(keys, NULL), msc_opener_new(keys, NULL) };

    g_assert_nonnull(p.sealer);
    g_assert_nonnull(p.opener);
    return p;
}

static void pair_free(Pair *p)
{
    msc_sealer_free(p->sealer);
    msc_opener_free(p->opener);
}

static GByteArray *seal(MscSealer *s, const void *data, size_t len)
{
    struct iovec iov = { (void *)data, len };
    GByteArray *out = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    const uint8_t *p;
    size_t n;

    g_assert_cmpint(msc_sealer_seal(s, &iov, 1, &err), ==, len);
    g_assert_no_error(err);
    p = msc_sealer_pending(s, &n);
    g_byte_array_append(out, p, n);
    msc_sealer_consume(s, n);
    return out;
}

static bool feed(MscOpener *o, const GByteArray *bytes, GError **errp)
{
    size_t at = 0;

    while (at < bytes->len && msc_opener_state(o) == MSC_OPENER_MORE) {
        size_t space;
        uint8_t *p = msc_opener_space(o, &space);
        size_t n = MIN(space, bytes->len - at);

        memcpy(p, bytes->data + at, n);
        at += n;
        if (!msc_opener_fed(o, n, errp)) {
            return false;
        }
    }
    return true;
}

static void assert_opens(MscOpener *o, const GByteArray *record,
                         const void *data, size_t len)
{
    g_autofree uint8_t *out = g_malloc(len);
    struct iovec iov = { out, len };
    g_autoptr(GError) err = NULL;

    g_assert_true(feed(o, record, &err));
    g_assert_no_error(err);
    g_assert_cmpint(msc_opener_state(o), ==, MSC_OPENER_DATA);
    g_assert_cmpint(msc_opener_read(o, &iov, 1), ==, len);
    g_assert_cmpmem(out, len, data, len);
}

static void assert_refused(MscOpener *o, const GByteArray *record)
{
    g_autoptr(GError) err = NULL;

    g_assert_false(feed(o, record, &err));
    g_assert_nonnull(err);
    g_assert_cmpint(msc_opener_state(o), ==, MSC_OPENER_MORE);
    g_assert_false(msc_opener_check(o, NULL));
}

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
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
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
    assert_refused(p.opener, a);            /* replayed */
    assert_refused(p.opener, b);            /* and it stays refused */
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
    assert_refused(a.opener, record);       /* reflected */
    assert_opens(b.opener, record, "a", 1);
    pair_free(&a);
    pair_free(&b);
}

static void test_truncation(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
    Pair p = pair_new(&keys);
    g_autoptr(GByteArray) a = seal(p.sealer, "a", 1);
    g_autoptr(GByteArray) end = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    Pair cut = pair_new(&keys);
    const uint8_t *bytes;
    size_t len;

    assert_opens(cut.opener, a, "a", 1);
    g_assert_false(msc_opener_eof(cut.opener, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_AUTH);
    pair_free(&cut);

    g_assert_true(msc_sealer_end(p.sealer, NULL));
    bytes = msc_sealer_pending(p.sealer, &len);
    g_byte_array_append(end, bytes, len);
    msc_sealer_consume(p.sealer, len);
    assert_opens(p.opener, a, "a", 1);
    g_assert_true(feed(p.opener, end, NULL));
    g_assert_cmpint(msc_opener_state(p.opener), ==, MSC_OPENER_END);
    g_assert_true(msc_opener_eof(p.opener, NULL));
    {
        struct iovec iov = { "x", 1 };

        g_assert_cmpint(msc_sealer_seal(p.sealer, &iov, 1, NULL), ==, -1);
    }
    pair_free(&p);
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
    there_and_back[0] = (Pair) { a.sealer, b.opener };
    there_and_back[1] = (Pair) { b.sealer, a.opener };
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

typedef struct {
    uint8_t *memory;
    gint stop;
} Hammer;

static void *hammer_thread(void *opaque)
{
    Hammer *h = opaque;

    for (uint8_t v = 0; !g_atomic_int_get(&h->stop); v++) {
        memset(h->memory, v, 64 * 1024);
    }
    return NULL;
}

static void test_changing_memory(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), 0);
    Pair p = pair_new(&keys);
    Hammer h = { g_malloc0(64 * 1024), 0 };
    GThread *thread = g_thread_new("hammer", hammer_thread, &h);
    uint8_t sink[4096];

    for (int i = 0; i < 2000; i++) {
        g_autoptr(GByteArray) record = seal(p.sealer, h.memory, 64 * 1024);
        struct iovec iov = { sink, sizeof(sink) };
        g_autoptr(GError) err = NULL;

        g_assert_true(feed(p.opener, record, &err));
        g_assert_no_error(err);
        while (msc_opener_read(p.opener, &iov, 1)) {
            /* whatever it was when it was copied */
        }
    }
    g_atomic_int_set(&h.stop, 1);
    g_thread_join(thread);
    g_free(h.memory);
    pair_free(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/record/round-trip-in-every-suite", test_round_trip);
    g_test_add_func("/record/changed-byte-is-refused", test_changed_byte);
    g_test_add_func("/record/dropped-or-replayed-is-refused", test_order);
    g_test_add_func("/record/other-channel-is-refused", test_other_key);
    g_test_add_func("/record/other-direction-is-refused",
                    test_other_direction);
    g_test_add_func("/record/both-directions-at-once", test_threads);
    g_test_add_func("/record/truncation-is-an-error", test_truncation);
    g_test_add_func("/record/rekey-with-return-path-busy", test_rekey);
    g_test_add_func("/record/memory-that-changes-under-the-seal",
                    test_changing_memory);
    return g_test_run();
}
