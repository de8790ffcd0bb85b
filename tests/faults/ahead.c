/*
 * The fault points of pre-copy, with a test in QEMU's place: batches go ahead
 * while the guest runs, and a helper crashes or fails at one of them.  Then
 * the source has all flows and rules, the destination none, and the next
 * migration works.  (test-faults has the other points, with QEMU.)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handoff-lab.h"

typedef struct {
    int host; /* whose helper; 0 is the source's */
    const char *point;
    const char *how;
    bool rules; /* the second batch is of its nft set, not a change of flows */
} Row;

#define ADDRESSES 500

static const Row rows[] = {
    { 0, "BATCH", "crash" },
    { 0, "BATCH@3", "crash" },
    { 0, "BATCH", "error" },
    { 1, "BATCH_RECORDED", "crash" },
    { 1, "BATCH_RECORDED", "error" },
    { 1, "BATCH_RECORDED@2", "crash" },
    { 1, "BATCH_STAGED", "crash" },
    { 1, "BATCH_STAGED", "error" },
    { 1, "BATCH_STAGED@2", "crash" },
    { 0, "BATCH@2", "crash", true },
    { 1, "BATCH_RECORDED@2", "crash", true },
    { 1, "BATCH_RECORDED@2", "error", true },
    { 1, "BATCH_STAGED@2", "crash", true },
    { 1, "BATCH_STAGED@2", "error", true },
    { 1, "BATCH_STAGED@3", "crash", true },
};

/* Batches until only changes follow; false as soon as a helper fails. */
static bool send_ahead(Move *m)
{
    MscPrecopyStatus status;
    uint64_t flows;
    int n;

    do {
        g_autoptr(GBytes) chunk = NULL;

        n = msc_client_batch(m->client[0], &chunk, &status, &m->err[0]);
        if (n < 0 || (n && !msc_client_stage_batch(m->client[1], PROOF(chunk),
                                                   &flows, &m->err[1]))) {
            return false;
        }
        g_assert_cmpint(status.state, !=, MSC_PRECOPY_OFF);
    } while (n || status.state == MSC_PRECOPY_BULK);
    return true;
}

static void add_flow(Pair *pair, guint port)
{
    PAIR_MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.10 "
              "-d 192.0.2.5 --sport %u --dport 80 --state ESTABLISHED "
              "-t 4000 -u SEEN_REPLY,ASSURED >/dev/null 2>&1",
              pair->netns[0], port);
}

static Pair *guest_of(const Row *row)
{
    Pair *pair;

    if (!row->rules) {
        return pair_new();
    }
    pair = pair_new_of(PAIR_WITH_RULES);
    for (guint i = 0; i < PAIR_FLOWS; i++) {
        add_flow(pair, 1000 + i);
    }
    pair_load_rules(pair, 0, ADDRESSES);
    return pair;
}

/* Both QEMUs give up, and the helper is there again. */
static void give_up(Pair *pair, Move *m, const Row *row)
{
    bool crashed = !strcmp(row->how, "crash");
    int status;

    if (crashed) {
        /* It came to its point: nothing else sends it this signal. */
        g_assert_cmpint(waitpid(pair->daemon[row->host], &status, 0), ==,
                        pair->daemon[row->host]);
        g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        pair->daemon[row->host] = 0;
        pair_start_daemon(pair, row->host);
    } else {
        g_assert_nonnull(m->err[row->host]);
        g_assert_nonnull(strstr(m->err[row->host]->message, "fault point"));
    }
    move_free(m);
}

static void test_row(gconstpointer opaque)
{
    const Row *row = opaque;
    Pair *pair = guest_of(row);
    g_autofree char *here = pair_rules(pair, 0), *before = pair_rules(pair, 1);
    g_autofree char *still = NULL, *after = NULL;
    g_autofree char *fault = g_strdup_printf("%s:%s", row->point, row->how);
    Move *m;
    int there;

    pair_stop_daemon(pair, row->host);
    g_setenv("MSC_FAULT", fault, true);
    pair_start_daemon(pair, row->host);
    g_unsetenv("MSC_FAULT");
    m = move_new(pair, 0);
    for (int i = 0; i < 2; i++) {
        g_assert_no_error(m->err[i]);
        g_assert_true(msc_client_offer_precopy(m->client[i], &m->err[i]));
    }
    g_assert_true(move_handshake(m));
    /* A second round, with a change. */
    if (send_ahead(m)) {
        add_flow(pair, 20000);
        g_assert_false(send_ahead(m));
    }
    g_assert_cmpint(pair_count_flows(pair, 0), >=, PAIR_FLOWS);
    give_up(pair, m, row);
    /* A QEMU that hangs up is noticed, not waited for. */
    for (int i = 0; (there = pair_count_flows(pair, 1)) && i < 100; i++) {
        g_usleep(50 * 1000);
    }
    g_assert_cmpint(there, ==, 0);
    still = pair_rules(pair, 0);
    after = pair_rules(pair, 1);
    g_assert_cmpstr(still, ==, here);
    g_assert_cmpstr(after, ==, before);
    pair_migrate_of(pair, 0, (guint)pair_count_flows(pair, 0));
    g_assert_cmpint(pair_count_flows(pair, 0), ==, 0);
    pair_free(pair);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path =
            g_strdup_printf("/ahead/%s-%s%s", rows[i].point, rows[i].how,
                            rows[i].rules ? "-with-rules" : "");

        g_test_add_data_func(path, &rows[i], test_row);
    }
    return g_test_run();
}
