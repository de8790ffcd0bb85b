/*
 * Expectations: connections that others have announced, from kernel to kernel
 * and back again.  test-conntrack-live.c lets such connections come.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>

#include "conntrack-corpus.h"
#include "error.h"

static const MscProvider *const p = &msc_conntrack_provider;

static char *expectations(void)
{
    return lab_output("conntrack -L expect 2>/dev/null | "
                      "sed -E 's/^[0-9]+ //' | sort");
}

/* As the kernel's own tool shows them, and as the payload holds them. */
static void test_expectations_move(void)
{
    static const uint16_t zones[] = { 0, 5 };

    for (size_t i = 0; i < G_N_ELEMENTS(zones); i++) {
        int b = lab_host_new(), a = lab_host_new();
        g_autoptr(MscSelector) s = lab_guest();
        g_autoptr(MscPayload) made = corpus_call_payload(100, zones[i]);
        g_autoptr(GBytes) bytes = msc_payload_encode(made);
        g_autoptr(GBytes) moved = NULL, again = NULL;
        g_autoptr(MscPayload) back = NULL;
        g_autofree char *before = NULL, *after = NULL;

        lab_track();
        lab_restore(s, bytes, 0);
        before = expectations();
        g_assert_nonnull(strstr(before, "dport=4001"));
        g_assert_nonnull(strstr(before, "dport=4002"));
        moved = lab_collect(s, 1);
        lab_enter(b);
        lab_track();
        lab_restore(s, moved, 10 * G_USEC_PER_SEC);
        after = expectations();
        g_assert_cmpstr(before, ==, after);
        again = lab_collect(s, 1);
        back = msc_payload_decode(again, NULL);
        g_assert_cmpuint(back->expects->len, ==, 2);
        for (guint k = 0; k < 2; k++) {
            const MscExpect *e = back->expects->pdata[k];
            uint32_t left = nfexp_get_attr_u32(e, ATTR_EXP_TIMEOUT);
            bool permanent =
                nfexp_get_attr_u32(e, ATTR_EXP_FLAGS) & NF_CT_EXPECT_PERMANENT;

            /* 250 and 100 seconds, 10 of them in transit. */
            g_assert_cmpuint(left, <=, permanent ? 240 : 90);
            g_assert_cmpuint(left, >, permanent ? 180 : 30);
            g_assert_cmpuint(msc_expect_zone(e), ==, zones[i]);
            g_assert_cmpuint(nfexp_get_attr_u32(e, ATTR_EXP_CLASS), ==, 1);
        }
        lab_host_free(a);
        lab_host_free(b);
    }
}

static void test_expectations_come_back(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscPayload) stale = corpus_call_payload(100, 0);
    g_autoptr(MscPayload) newer = corpus_call_payload(100, 0);
    g_autoptr(GBytes) bytes = msc_payload_encode(stale);
    g_autoptr(GBytes) payload = NULL, replaced = NULL;
    g_autofree char *before = NULL, *during = NULL, *after = NULL;
    g_autoptr(GError) err = NULL;

    lab_track();
    lab_restore(s, bytes, 0);
    before = expectations();
    g_ptr_array_set_size(newer->expects, 1);
    payload = msc_payload_encode(newer);
    replaced = p->prepare(s, payload, &err);
    g_assert_no_error(err);
    g_assert_true(p->stage(s, payload, 0, &err));
    during = expectations();
    g_assert_nonnull(strstr(during, "dport=4001"));
    g_assert_null(strstr(during, "dport=4002"));
    g_assert_true(p->abort(s, payload, replaced, &err));
    after = expectations();
    g_assert_cmpstr(before, ==, after);
    lab_host_free(host);
}

/* Another guest's connection has announced the same: named, not replaced. */
static void test_expectation_clashes(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscSelector) other = msc_selector_new();
    g_autoptr(MscPayload) theirs = msc_payload_new();
    g_autoptr(MscPayload) ours = corpus_call_payload(100, 0);
    g_autoptr(GBytes) bytes = NULL, payload = msc_payload_encode(ours);
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) err = NULL;
    MscFlow *control = corpus_signalling("10.20.0.66", 100);

    lab_track();
    lab_add_address(other->addresses, "10.20.0.66");
    lab_add_address(other->nat_addresses, GUEST);
    g_ptr_array_add(theirs->flows, control);
    g_ptr_array_add(theirs->expects, corpus_announced(control, 4001));
    bytes = msc_payload_encode(theirs);
    lab_restore(other, bytes, 0);
    before = expectations();
    g_assert_null(p->prepare(s, payload, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    g_assert_nonnull(strstr(err->message, "expected tcp"));
    g_assert_nonnull(strstr(err->message, "10.20.0.66:100"));
    after = expectations();
    g_assert_cmpstr(before, ==, after);
    lab_host_free(host);
}

/* A guest may have more flows with helpers than one likes to ask about. */
static void test_few_of_many_masters_expect(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscPayload) made = corpus_call_payload(100, 5);
    g_autoptr(GBytes) bytes = NULL, moved = NULL;
    g_autoptr(MscPayload) back = NULL;

    lab_track();
    for (uint16_t i = 1; i < 100; i++) {
        g_ptr_array_add(made->flows, corpus_signalling(GUEST, i));
    }
    /* The same tuple in another zone has announced nothing. */
    g_ptr_array_add(made->flows, corpus_signalling(GUEST, 100));
    bytes = msc_payload_encode(made);
    lab_restore(s, bytes, 0);
    moved = lab_collect(s, 101);
    back = msc_payload_decode(moved, NULL);
    g_assert_cmpuint(back->expects->len, ==, 2);
    for (guint i = 0; i < 2; i++) {
        g_assert_cmpuint(msc_expect_zone(back->expects->pdata[i]), ==, 5);
    }
    lab_host_free(host);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/conntrack-expect/" name, function)
    ADD("move", test_expectations_move);
    ADD("come-back", test_expectations_come_back);
    ADD("clash-is-named", test_expectation_clashes);
    ADD("few-of-many-masters", test_few_of_many_masters_expect);
#undef ADD
    return g_test_run();
}
