/*
 * What two hosts settle on follows both policies, and nobody between them has
 * a say.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "handshake-fixture.h"

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
            const MscSuite *suite =
                msc_suite_by_id(msc_handshake_channel_keys(f.hs[0])->suite);

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
    g_assert_true(msc_kem_have_post_quantum() == new_sodium);
    for (int id = MSC_SUITE_AEGIS_128L; id <= MSC_SUITE_INTEGRITY_ONLY; id++) {
        if (id != MSC_SUITE_AES_256_GCM && id != MSC_SUITE_XCHACHA20_POLY1305) {
            g_assert_true((msc_suite_by_id((unsigned)id) != NULL) ==
                          (sodium_library_version_major() >= 26 &&
                           sodium_runtime_has_aesni())); /* 1.0.19 */
        }
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
            continue; /* there is but one */
        }
        start(&f, NULL, NULL);
        converse(&f);
        g_assert_error(f.err[0], MSC_ERROR, MSC_ERROR_AUTH);
        g_assert_false(f.done[0] || f.done[1]);
        g_assert_cmpint(f.admitted, ==, 0);
        teardown(&f);
    }
}

/* Steps a fresh destination with @hello. */
static MscStep hear(const GByteArray *hello, GError **errp)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    MscStep step;
    Fixture f;

    setup(&f);
    start(&f, NULL, NULL);
    step = msc_handshake_step(f.hs[1], hello->data, hello->len, out, errp);
    teardown(&f);
    return step;
}

static void assert_malformed(const GByteArray *hello)
{
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(hear(hello, &err), ==, MSC_STEP_FAILED);
    g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
}

static void test_malformed_hello(void)
{
    enum { SUITES = 58 }; /* docs/transport.md, "HELLO" */
    g_autoptr(GByteArray) hello = g_byte_array_new();
    static const struct {
        int at; /* from SUITES if negative: ~offset */
        uint8_t value;
    } rows[] = {
        { 0, 0 },  { 0, 2 },  { 0, 18 },   { 1, 1 },   { 2, 0 },
        { 7, 0 },  { 9, 2 }, /* oldest: newer than we speak */
        { ~0, 0 }, { ~0, 9 }, { ~0, 255 }, { ~1, 64 }, { ~1, 255 },
    };
    guint len, kems;
    Fixture f;

    setup(&f);
    start(&f, NULL, NULL);
    msc_handshake_step(f.hs[0], NULL, 0, hello, NULL);
    teardown(&f);
    g_assert_cmpint(hear(hello, NULL), ==, MSC_STEP_CONTINUE);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        int at = rows[i].at < 0 ? SUITES + ~rows[i].at : rows[i].at;
        uint8_t good = hello->data[at];

        hello->data[at] = rows[i].value;
        assert_malformed(hello);
        hello->data[at] = good;
    }
    kems = SUITES + 1 + hello->data[SUITES];
    if (hello->data[SUITES] > 1) {
        uint8_t good = hello->data[SUITES + 2];

        hello->data[SUITES + 2] = hello->data[SUITES + 1]; /* twice */
        assert_malformed(hello);
        hello->data[SUITES + 2] = good;
    }
    hello->data[kems + 3] ^= 1; /* a length */
    assert_malformed(hello);
    hello->data[kems + 3] ^= 1;
    /* Unknown offers are passed over, as long as one is known. */
    if (hello->data[SUITES] > 1) {
        uint8_t good = hello->data[SUITES + 1];

        hello->data[SUITES + 1] = 63;
        g_assert_cmpint(hear(hello, NULL), ==, MSC_STEP_CONTINUE);
        hello->data[SUITES + 1] = good;
    }
    /* Cut anywhere, or a byte too long. */
    for (len = hello->len; len--;) {
        g_autoptr(GByteArray) cut = g_byte_array_new();

        if (len < kems || len % 97 == 0) {
            g_byte_array_append(cut, hello->data, len);
            assert_malformed(cut);
        }
    }
    g_byte_array_append(hello, (const uint8_t *)"", 1);
    assert_malformed(hello);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/policy/all-that-libsodium-has-is-offered",
                    test_all_offered);
    g_test_add_func("/policy/malformed-offers-are-refused",
                    test_malformed_hello);
    g_test_add_func("/policy/suites-follow-it", test_suites);
    g_test_add_func("/policy/post-quantum-follows-it",
                    test_post_quantum_policy);
    if (msc_suites()[1]) {
        g_test_add_func("/policy/offer-taken-away-is-noticed", test_downgrade);
        g_test_add_func("/policy/no-common-suite-names-both-sides",
                        test_no_common_suite);
    }
    if (msc_suite_by_id(MSC_SUITE_INTEGRITY_ONLY)) {
        g_test_add_func("/policy/integrity-only-needs-both",
                        test_integrity_only);
    }
    return g_test_run();
}
