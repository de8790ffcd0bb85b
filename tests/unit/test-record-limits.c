/*
 * What a key may be used for: each nonce once, and not for too much.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>

#include "record-fixture.h"
#include "record-private.h"

/* Stands between the record layer and a suite, and keeps what it was given. */
static struct {
    const MscSuite *suite;
    GHashTable *seen; /* key and nonce */
    unsigned calls;
    uint8_t last[MSC_SUITE_KEY_MAX];
    unsigned keys;
} spy;

static void spy_seal(uint8_t *out, const uint8_t *in, size_t len,
                     const uint8_t *ad, size_t ad_len, const uint8_t *nonce,
                     const uint8_t *key)
{
    g_autoptr(GByteArray) used = g_byte_array_new();
    char *hex = g_malloc(2 * (MSC_SUITE_KEY_MAX + MSC_SUITE_NONCE_MAX) + 1);

    g_byte_array_append(used, key, (guint)spy.suite->key_len);
    g_byte_array_append(used, nonce, (guint)spy.suite->nonce_len);
    sodium_bin2hex(hex, 2 * used->len + 1, used->data, used->len);
    g_assert_true(g_hash_table_add(spy.seen, hex));
    spy.keys += memcmp(spy.last, key, spy.suite->key_len) != 0;
    memcpy(spy.last, key, spy.suite->key_len);
    spy.calls++;
    spy.suite->seal(out, in, len, ad, ad_len, nonce, key);
}

/* Across many rekeys, by bytes and by records, in every suite. */
static void test_nonces(void)
{
    g_autofree uint8_t *big = g_malloc0(MSC_RECORD_MAX_PAYLOAD);

    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        MscChannelKeys keys = keys_for(*s, 300000);
        MscSuite suite = **s;
        MscRecordStats stats;
        Pair p;

        keys.rekey_records = 7;
        p = pair_new(&keys);
        suite.seal = spy_seal;
        memset(&spy, 0, sizeof(spy));
        spy.suite = *s;
        spy.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        p.sealer->d->suite = &suite;
        for (int i = 0; i < 500; i++) {
            size_t len = i % 50 ? 1 : MSC_RECORD_MAX_PAYLOAD;
            g_autoptr(GByteArray) record = seal(p.sealer, big, len);

            assert_opens(p.opener, record, big, len);
        }
        msc_sealer_get_stats(p.sealer, &stats);
        g_assert_cmpuint(spy.calls, ==, 500);
        g_assert_cmpuint(stats.records, ==, 500);
        g_assert_cmpuint(stats.rekeys, >, 70);
        g_assert_cmpuint(spy.keys, >=, stats.rekeys);
        g_hash_table_unref(spy.seen);
        pair_free(&p);
    }
}

/* A sender that goes on under one key for too long. */
static void test_too_many(void)
{
    for (int late = 0; late < 2; late++) {
        MscChannelKeys keys = keys_for(*msc_suites(), 0);
        MscSealer *sealer;
        MscOpener *opener;
        int opened = 0;

        keys.rekey_records = 4;
        opener = msc_opener_new(&keys, NULL);
        keys.rekey_records = late ? 5 : 4;
        sealer = msc_sealer_new(&keys, NULL);
        for (int i = 0; i < 12; i++) {
            g_autoptr(GByteArray) record = seal(sealer, "x", 1);
            g_autoptr(GError) err = NULL;
            struct iovec iov = { (char[1]){ 0 }, 1 };

            if (!feed(opener, record, &err)) {
                g_assert_nonnull(strstr(err->message, "changed the key"));
                break;
            }
            msc_opener_read(opener, &iov, 1);
            opened++;
        }
        g_assert_cmpint(opened, ==, late ? 3 : 12);
        msc_sealer_free(sealer);
        msc_opener_free(opener);
    }
}

/* The true limits, from just below. */
static void test_true_limits(void)
{
    for (int bytes = 0; bytes < 2; bytes++) {
        MscChannelKeys keys = keys_for(*msc_suites(), 0);
        Pair p = pair_new(&keys);
        MscDirection *ends[] = { p.sealer->d, p.opener->d };
        MscRecordStats stats;

        for (int i = 0; i < 2; i++) {
            if (bytes) {
                ends[i]->key_bytes = MSC_REKEY_BYTES - 2;
            } else {
                ends[i]->counter = MSC_REKEY_RECORDS - 2;
            }
        }
        for (int i = 0; i < 3; i++) {
            g_autoptr(GByteArray) record = seal(p.sealer, "x", 1);

            g_assert_cmpuint(record->data[5], ==, i == 1);
            assert_opens(p.opener, record, "x", 1);
            msc_opener_get_stats(p.opener, &stats);
            g_assert_cmpuint(stats.rekeys, ==, i >= 1);
        }
        pair_free(&p);
    }
}

/* No property lifts the limits. */
static void test_limits_are_upper_bounds(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), UINT64_MAX);
    Pair p;

    keys.rekey_records = UINT64_MAX;
    p = pair_new(&keys);
    g_assert_cmpuint(p.sealer->d->rekey_bytes, ==, MSC_REKEY_BYTES);
    g_assert_cmpuint(p.sealer->d->rekey_records, ==, MSC_REKEY_RECORDS);
    pair_free(&p);
}

/* Should a bug ever come that far, the process ends rather than the secrecy. */
static void test_used_up(void)
{
    if (g_test_subprocess()) {
        MscChannelKeys keys = keys_for(*msc_suites(), 0);
        Pair p = pair_new(&keys);

        p.sealer->d->counter = MSC_REKEY_RECORDS;
        g_byte_array_unref(seal(p.sealer, "x", 1));
        pair_free(&p);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*counter < d->rekey_records*");
}

static void *watch_thread(void *opaque)
{
    Pair *p = opaque;
    MscRecordStats stats, last = { 0 };

    do {
        msc_sealer_get_stats(p->sealer, &stats);
        g_assert_cmpuint(stats.records, >=, last.records);
        g_assert_cmpuint(stats.wire_bytes, >=, last.wire_bytes);
        last = stats;
    } while (stats.records < 5000);
    return NULL;
}

static void test_stats(void)
{
    MscChannelKeys keys = keys_for(*msc_suites(), 100);
    Pair p = pair_new(&keys);
    GThread *thread = g_thread_new("watch", watch_thread, &p);
    MscRecordStats sealed, opened;

    for (int i = 0; i < 5000; i++) {
        g_autoptr(GByteArray) record = seal(p.sealer, "0123456789", 10);

        assert_opens(p.opener, record, "0123456789", 10);
    }
    g_thread_join(thread);
    msc_sealer_get_stats(p.sealer, &sealed);
    msc_opener_get_stats(p.opener, &opened);
    g_assert_cmpuint(sealed.records, ==, 5000);
    g_assert_cmpuint(sealed.payload_bytes, ==, 50000);
    g_assert_cmpuint(sealed.rekeys, ==, 500);
    g_assert_cmpuint(sealed.wire_bytes, ==,
                     5000 *
                         (10 + MSC_RECORD_HEADER + (*msc_suites())->tag_len));
    g_assert_cmpmem(&sealed, sizeof(sealed), &opened, sizeof(opened));
    pair_free(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/record-limits/no-nonce-twice", test_nonces);
    g_test_add_func("/record-limits/one-record-too-many-is-refused",
                    test_too_many);
    g_test_add_func("/record-limits/rekey-at-the-true-limits",
                    test_true_limits);
    g_test_add_func("/record-limits/cannot-be-lifted",
                    test_limits_are_upper_bounds);
    g_test_add_func("/record-limits/used-up-key-ends-the-process",
                    test_used_up);
    g_test_add_func("/record-limits/stats-from-another-thread", test_stats);
    return g_test_run();
}
