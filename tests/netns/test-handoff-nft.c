/*
 * A guest with flows and a long list in its nft table, through both daemons:
 * both are sent ahead, neither in the other's way.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handoff-lab.h"

#define ADDRESSES 5000

static void add_flows(Pair *pair, int host, guint from, guint count)
{
    for (guint i = from; i < from + count; i++) {
        PAIR_MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.10 "
                  "-d 192.0.2.5 --sport %u --dport 80 --state ESTABLISHED "
                  "-t 4000 -u SEEN_REPLY,ASSURED >/dev/null 2>&1",
                  pair->netns[host], i);
    }
}

static Pair *pair_with_list(void)
{
    Pair *pair = pair_new_of(PAIR_WITH_RULES);

    add_flows(pair, 0, 1000, PAIR_FLOWS);
    pair_load_rules(pair, 0, ADDRESSES);
    return pair;
}

static Move *begin(Pair *pair, int from)
{
    Move *m = move_new(pair, from);

    for (int i = 0; i < 2; i++) {
        g_assert_no_error(m->err[i]);
        g_assert_true(msc_client_offer_precopy(m->client[i], &m->err[i]));
    }
    g_assert_true(move_handshake(m));
    return m;
}

static void send_ahead(Move *m)
{
    MscPrecopyStatus status;
    uint64_t flows = PAIR_FLOWS; /* if there is nothing to send */
    int n;

    do {
        g_autoptr(GBytes) chunk = NULL;

        n = msc_client_batch(m->client[0], &chunk, &status, &m->err[0]);
        g_assert_no_error(m->err[0]);
        if (n) {
            msc_client_stage_batch(m->client[1], PROOF(chunk), &flows,
                                   &m->err[1]);
            g_assert_no_error(m->err[1]);
        }
    } while (n || status.state == MSC_PRECOPY_BULK);
    g_assert_cmpint(status.state, ==, MSC_PRECOPY_LIVE);
    /* Addresses are not counted as flows. */
    g_assert_cmpuint(status.sent, ==, flows);
}

static gsize complete(Move *m, guint flows)
{
    g_autoptr(GBytes) ready = NULL;
    gsize size = 0;

    move_collect_of(m, flows);
    for (guint i = 0; i < m->chunks->len; i++) {
        size += g_bytes_get_size(m->chunks->pdata[i]);
    }
    move_stage(m, m->chunks);
    g_assert_no_error(m->err[1]);
    ready = move_validate(m);
    g_assert_no_error(m->err[1]);
    move_finish(m, ready);
    move_free(m);
    return size;
}

static void test_there_and_back(void)
{
    Pair *pair = pair_with_list();
    g_autofree char *here = pair_rules(pair, 0);
    g_autofree char *empty = pair_rules(pair, 1);

    for (int i = 0; i < 4; i++) {
        Move *m = begin(pair, i % 2);
        g_autofree char *during = NULL, *there = NULL, *left = NULL;

        send_ahead(m);
        during = pair_rules(pair, 1 - i % 2);
        g_assert_nonnull(strstr(during, "11.0.1.1"));
        g_assert_null(strstr(during, "@blocked"));
        /* The list is not in it. */
        g_assert_cmpuint(complete(m, PAIR_FLOWS), <, ADDRESSES);
        there = pair_rules(pair, 1 - i % 2);
        left = pair_rules(pair, i % 2);
        g_assert_cmpstr(there, ==, here);
        g_assert_cmpstr(left, ==, empty);
        g_assert_cmpint(pair_count_flows(pair, 1 - i % 2), ==, PAIR_FLOWS);
        g_assert_cmpint(pair_count_flows(pair, i % 2), ==, 0);
    }
    pair_free(pair);
}

/* The twin of all that: without batches the list is in the context. */
static void test_without_batches_all_is_collected(void)
{
    Pair *pair = pair_with_list();
    g_autofree char *here = pair_rules(pair, 0);
    g_autofree char *there = NULL;

    g_assert_cmpuint(complete(begin(pair, 0), PAIR_FLOWS), >, ADDRESSES);
    there = pair_rules(pair, 1);
    g_assert_cmpstr(there, ==, here);
    pair_free(pair);
}

/* The one begins anew, the other is as it was. */
static void test_a_table_made_anew_leaves_the_flows(void)
{
    Pair *pair = pair_with_list();
    Move *m = begin(pair, 0);
    g_autofree char *here = NULL, *there = NULL;

    send_ahead(m);
    pair_load_rules(pair, 0, ADDRESSES / 2);
    here = pair_rules(pair, 0);
    do {
        send_ahead(m);
        g_free(there);
        there = pair_rules(pair, 1);
    } while (strstr(there, "11.0.19.1"));
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS);
    add_flows(pair, 0, 2000, 2);
    complete(m, PAIR_FLOWS + 2);
    g_clear_pointer(&there, g_free);
    there = pair_rules(pair, 1);
    g_assert_cmpstr(there, ==, here);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS + 2);
    pair_free(pair);
}

/* When it is too late for that, all of the table comes in the context. */
static void test_a_table_made_anew_at_the_stop(void)
{
    Pair *pair = pair_with_list();
    Move *m = begin(pair, 0);
    g_autofree char *here = NULL, *there = NULL;

    send_ahead(m);
    pair_load_rules(pair, 0, ADDRESSES / 2);
    here = pair_rules(pair, 0);
    g_assert_cmpuint(complete(m, PAIR_FLOWS), >, ADDRESSES / 2);
    there = pair_rules(pair, 1);
    g_assert_cmpstr(there, ==, here);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS);
    pair_free(pair);
}

typedef enum { QEMU_GOES, HELPER_CRASHES, CONTEXT_IS_LEFT, READY_IS_LEFT } End;

/* Whatever ends it before the source lets go: nothing of it stays. */
static void test_bad_end(gconstpointer opaque)
{
    End end = (End)GPOINTER_TO_INT(opaque);
    Pair *pair = pair_with_list();
    g_autofree char *here = pair_rules(pair, 0), *before = pair_rules(pair, 1);
    g_autofree char *still = NULL;
    Move *m = begin(pair, 0);

    send_ahead(m);
    if (end >= CONTEXT_IS_LEFT) {
        move_collect(m);
        move_stage(m, m->chunks);
        g_assert_no_error(m->err[1]);
    }
    if (end == READY_IS_LEFT) {
        g_bytes_unref(move_validate(m));
        g_assert_no_error(m->err[1]);
    }
    if (end == HELPER_CRASHES) {
        pair_stop_daemon(pair, 1);
        pair_start_daemon(pair, 1);
    }
    move_free(m);
    if (end == READY_IS_LEFT) {
        /* Only the operator ends that. */
        g_assert_cmpint(pair_cli(pair, 1, "resolve " PAIR_VM " --there"), ==,
                        0);
    }
    for (int i = 0;; i++) {
        g_autofree char *now = pair_rules(pair, 1);

        if (!strcmp(now, before)) {
            break;
        }
        g_assert_cmpint(i, <, 600);
        g_usleep(50 * 1000);
    }
    g_assert_cmpint(pair_count_flows(pair, 1), ==, 0);
    still = pair_rules(pair, 0);
    g_assert_cmpstr(still, ==, here);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
    if (end != READY_IS_LEFT) {
        m = begin(pair, 0);
        send_ahead(m);
        complete(m, PAIR_FLOWS);
    }
    pair_free(pair);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
#define ADD(name, test) g_test_add_func("/handoff-nft/" name, test)
#define ADD_END(name, end)                                        \
    g_test_add_data_func("/handoff-nft/nothing-stays-when-" name, \
                         GINT_TO_POINTER(end), test_bad_end)
    ADD("there-and-back", test_there_and_back);
    ADD("without-batches-all-is-collected",
        test_without_batches_all_is_collected);
    ADD("a-table-made-anew-leaves-the-flows",
        test_a_table_made_anew_leaves_the_flows);
    ADD("a-table-made-anew-at-the-stop", test_a_table_made_anew_at_the_stop);
    ADD_END("qemu-goes", QEMU_GOES);
    ADD_END("the-helper-crashes", HELPER_CRASHES);
    ADD_END("the-context-is-left", CONTEXT_IS_LEFT);
    ADD_END("ready-is-left", READY_IS_LEFT);
    return g_test_run();
}
