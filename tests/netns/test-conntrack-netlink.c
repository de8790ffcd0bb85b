/*
 * What the kernel answers to a batch of requests of which only the last asks
 * for an answer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <netinet/in.h>

#include "conntrack-lab.h"

/* Two batches, and some of a third. */
#define FLOWS 150

static GPtrArray *flows_new(void)
{
    GPtrArray *flows = msc_flows_new();

    for (guint i = 0; i < FLOWS; i++) {
        g_ptr_array_add(flows, lab_flow(IPPROTO_UDP, GUEST,
                                        (uint16_t)(1024 + i), PEER, 53));
    }
    return flows;
}

/* In the middle of a batch, at the end of one, at the very end. */
static bool was_there_before(guint i)
{
    return i == 0 || i == 30 || i == 31 || i == 63 || i == FLOWS - 1;
}

static void run(MscCtVerb verb, const GPtrArray *flows, int *results,
                GPtrArray **found)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscCt) ct = msc_ct_open(&err);

    g_assert_no_error(err);
    msc_ct_run(ct, verb, flows, results, found, &err);
    g_assert_no_error(err);
}

static void test_told_of_each_failure(void)
{
    int host = lab_host_new(), results[FLOWS];
    g_autoptr(GPtrArray) flows = flows_new();

    lab_track();
    for (guint i = 0; i < FLOWS; i++) {
        if (was_there_before(i)) {
            lab_create(
                lab_flow(IPPROTO_UDP, GUEST, (uint16_t)(1024 + i), PEER, 53));
        }
        results[i] = EIO; /* of an earlier run */
    }
    run(MSC_CT_CREATE, flows, results, NULL);
    for (guint i = 0; i < FLOWS; i++) {
        g_assert_cmpint(results[i], ==, was_there_before(i) ? EEXIST : 0);
    }
    g_assert_cmpuint(lab_count(), ==, FLOWS);
    lab_host_free(host);
}

static void test_told_of_none_where_none_fails(void)
{
    int host = lab_host_new(), results[FLOWS];
    g_autoptr(GPtrArray) flows = flows_new();

    lab_track();
    run(MSC_CT_CREATE, flows, results, NULL);
    for (guint i = 0; i < FLOWS; i++) {
        g_assert_cmpint(results[i], ==, 0);
    }
    g_assert_cmpuint(lab_count(), ==, FLOWS);
    lab_host_free(host);
}

static void test_found_and_not_found_keep_their_places(void)
{
    int host = lab_host_new(), results[FLOWS];
    g_autoptr(GPtrArray) flows = flows_new();
    g_autoptr(GPtrArray) found = NULL;

    lab_track();
    for (guint i = 0; i < FLOWS; i++) {
        if (was_there_before(i)) {
            lab_create(
                lab_flow(IPPROTO_UDP, GUEST, (uint16_t)(1024 + i), PEER, 53));
        }
    }
    run(MSC_CT_FIND, flows, results, &found);
    for (guint i = 0; i < FLOWS; i++) {
        g_assert_cmpint(results[i], ==, was_there_before(i) ? 0 : ENOENT);
        g_assert_true(!found->pdata[i] == !was_there_before(i));
        if (found->pdata[i]) {
            g_autoptr(GBytes) asked = msc_flow_key(flows->pdata[i]);
            g_autoptr(GBytes) got = msc_flow_key(found->pdata[i]);

            g_assert_true(g_bytes_equal(asked, got));
        }
    }
    lab_host_free(host);
}

/* With room for few answers. */
static bool run_in_small_socket(MscCtVerb verb, GPtrArray *flows)
{
    int usual = msc_ct_answer_buffer, results[FLOWS];
    g_autoptr(GError) err = NULL;
    g_autoptr(MscCt) ct = NULL;
    bool ok;

    msc_ct_answer_buffer = 4096;
    ct = msc_ct_open(&err);
    msc_ct_answer_buffer = usual;
    g_assert_no_error(err);
    ok = msc_ct_run(ct, verb, flows, results, NULL, &err);
    g_assert_true(ok == !err);
    return ok;
}

/* Failures that have no room in the socket would look like successes. */
static void test_lost_answers_fail(void)
{
    int host = lab_host_new();
    g_autoptr(GPtrArray) flows = flows_new();

    lab_track();
    g_assert_false(run_in_small_socket(MSC_CT_DELETE, flows));
    lab_host_free(host);
}

/* The same socket holds the one answer of a batch without failures. */
static void test_small_socket_is_enough_without_failures(void)
{
    int host = lab_host_new();
    g_autoptr(GPtrArray) flows = flows_new();

    lab_track();
    g_assert_true(run_in_small_socket(MSC_CT_CREATE, flows));
    g_assert_cmpuint(lab_count(), ==, FLOWS);
    lab_host_free(host);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/conntrack-netlink/told-of-each-failure",
                    test_told_of_each_failure);
    g_test_add_func("/conntrack-netlink/told-of-none-where-none-fails",
                    test_told_of_none_where_none_fails);
    g_test_add_func("/conntrack-netlink/found-and-not-found-keep-their-places",
                    test_found_and_not_found_keep_their_places);
    g_test_add_func("/conntrack-netlink/lost-answers-fail",
                    test_lost_answers_fail);
    g_test_add_func(
        "/conntrack-netlink/small-socket-is-enough-without-failures",
        test_small_socket_is_enough_without_failures);
    return g_test_run();
}
