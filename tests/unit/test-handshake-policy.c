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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/policy/all-that-libsodium-has-is-offered",
                    test_all_offered);
    g_test_add_func("/policy/suites-follow-it", test_suites);
    g_test_add_func("/policy/post-quantum-follows-it",
                    test_post_quantum_policy);
    if (msc_suites()[1]) {
        g_test_add_func("/policy/offer-taken-away-is-noticed",
                        test_downgrade);
        g_test_add_func("/policy/no-common-suite-names-both-sides",
                        test_no_common_suite);
    }
    if (msc_suite_by_id(MSC_SUITE_INTEGRITY_ONLY)) {
        g_test_add_func("/policy/integrity-only-needs-both",
                        test_integrity_only);
    }
    return g_test_run();
}
