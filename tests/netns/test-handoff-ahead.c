/*
 * Pre-copy of the context through both daemons: batches while the guest runs,
 * and every way in which that can end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handoff-lab.h"

#define FIRST 20000

static void add_flows(Pair *pair, int host, guint from, guint count)
{
    for (guint i = from; i < from + count; i++) {
        PAIR_MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.10 "
                  "-d 192.0.2.5 --sport %u --dport 80 --state ESTABLISHED "
                  "-t 4000 -u SEEN_REPLY,ASSURED >/dev/null 2>&1",
                  pair->netns[host], i);
    }
}

static void end_flows(Pair *pair, int host, guint from, guint count)
{
    for (guint i = from; i < from + count; i++) {
        PAIR_MUST("ip netns exec %s conntrack -D -p tcp -s 10.20.0.10 "
                  "--sport %u >/dev/null 2>&1",
                  pair->netns[host], i);
    }
}

/* @offers: the source's QEMU, the destination's. */
static Move *move_offering(Pair *pair, int from, const bool offers[2])
{
    Move *m = move_new(pair, from);

    for (int i = 0; i < 2; i++) {
        g_assert_no_error(m->err[i]);
        if (offers[i]) {
            g_assert_true(msc_client_offer_precopy(m->client[i], &m->err[i]));
        }
    }
    g_assert_true(move_handshake(m));
    return m;
}

static Move *move_ahead(Pair *pair, int from)
{
    const bool both[] = { true, true };

    return move_offering(pair, from, both);
}

/* Batches until only changes follow, staged as they come; the state. */
static MscPrecopyStatus send_ahead(Move *m, uint64_t *flows)
{
    MscPrecopyStatus status;
    int n;

    do {
        g_autoptr(GBytes) chunk = NULL;

        n = msc_client_batch(m->client[0], &chunk, &status, &m->err[0]);
        g_assert_no_error(m->err[0]);
        if (n) {
            msc_client_stage_batch(m->client[1], PROOF(chunk), flows,
                                   &m->err[1]);
            g_assert_no_error(m->err[1]);
        }
    } while (n || status.state == MSC_PRECOPY_BULK);
    return status;
}

static gsize bytes_of(const GPtrArray *chunks)
{
    gsize sum = 0;

    for (guint i = 0; i < chunks->len; i++) {
        sum += g_bytes_get_size(chunks->pdata[i]);
    }
    return sum;
}

static void complete(Move *m, guint flows)
{
    g_autoptr(GBytes) ready = NULL;

    move_collect_of(m, flows);
    move_stage(m, m->chunks);
    g_assert_no_error(m->err[1]);
    ready = move_validate(m);
    g_assert_no_error(m->err[1]);
    move_finish(m, ready);
    move_free(m);
}

static void test_there_and_back(void)
{
    Pair *pair = pair_new();

    for (int i = 0; i < 4; i++) {
        Move *m = move_ahead(pair, i % 2);
        uint64_t flows = 0;
        MscPrecopyStatus status = send_ahead(m, &flows);

        g_assert_cmpint(status.state, ==, MSC_PRECOPY_LIVE);
        g_assert_cmpuint(status.sent, ==, PAIR_FLOWS);
        g_assert_cmpuint(flows, ==, PAIR_FLOWS);
        /* They are there before the guest is. */
        g_assert_cmpint(pair_count_flows(pair, 1 - i % 2), ==, PAIR_FLOWS);
        complete(m, PAIR_FLOWS);
        g_assert_cmpint(pair_count_flows(pair, i % 2), ==, 0);
        g_assert_cmpint(pair_count_flows(pair, 1 - i % 2), ==, PAIR_FLOWS);
    }
    pair_free(pair);
}

/* What comes at the end does not grow with what was sent ahead. */
static void test_only_changes_are_left(void)
{
    Pair *pair = pair_new();
    gsize size[2];

    for (int i = 0; i < 2; i++) {
        Move *m = move_ahead(pair, 0);
        uint64_t flows;

        send_ahead(m, &flows);
        move_collect_of(m, PAIR_FLOWS + (guint)i * 50);
        size[i] = bytes_of(m->chunks);
        move_free(m);
        add_flows(pair, 0, FIRST, i ? 0 : 50);
    }
    g_assert_cmpuint(size[0], ==, size[1]);
    pair_free(pair);
}

static void test_changes_in_between(void)
{
    Pair *pair = pair_new();
    Move *m = move_ahead(pair, 0);
    uint64_t flows;

    add_flows(pair, 0, FIRST, 10);
    send_ahead(m, &flows);
    g_assert_cmpuint(flows, ==, PAIR_FLOWS + 10);
    for (int h = 0; h < 2; h++) {
        g_autofree char *status = pair_cli_output(pair, h, "status");

        g_assert_nonnull(strstr(status, "sent ahead: 18 of 18 flows, "
                                        "backlog 0"));
    }
    end_flows(pair, 0, FIRST, 3);
    send_ahead(m, &flows);
    g_assert_cmpuint(flows, ==, PAIR_FLOWS + 7);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS + 7);
    end_flows(pair, 0, FIRST + 3, 3);
    add_flows(pair, 0, FIRST + 20, 2);
    complete(m, PAIR_FLOWS + 6);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS + 6);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, 0);
    pair_free(pair);
}

/* A QEMU that cannot, on either side: everything comes at the freeze. */
static void test_one_side_cannot(void)
{
    static const bool rows[][2] = { { false, false },
                                    { true, false },
                                    { false, true } };
    Pair *pair = pair_new();

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Move *m = move_offering(pair, (int)i % 2, rows[i]);
        uint64_t flows;

        g_assert_cmpint(send_ahead(m, &flows).state, ==, MSC_PRECOPY_OFF);
        complete(m, PAIR_FLOWS);
        g_assert_cmpint(pair_count_flows(pair, 1 - (int)i % 2), ==, PAIR_FLOWS);
    }
    pair_free(pair);
}

/* Both can, but the source's QEMU does not ask for a single batch. */
static void test_no_batch_is_asked_for(void)
{
    Pair *pair = pair_new();

    complete(move_ahead(pair, 0), PAIR_FLOWS);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS);
    pair_free(pair);
}

static void must_fail(bool ok, GError **err)
{
    g_assert_false(ok);
    g_assert_nonnull(*err);
    g_clear_error(err);
}

/* Sockets on the source that hear what changes in the kernel. */
static int listeners(Pair *pair)
{
    return pair_run("ip netns exec %s awk '$2 == 12 && $4 !~ /^0*$/ "
                    "{ n++ } END { exit n }' /proc/net/netlink",
                    pair->netns[0]);
}

static void no_listener_soon(Pair *pair)
{
    for (int i = 0; listeners(pair); i++) {
        g_assert_cmpint(i, <, 100);
        g_usleep(50 * 1000);
    }
}

/* It begins with the admission, before it is known what comes of that; and
 * what was read goes with it. */
static void test_listening_ends_with_its_migration(void)
{
    static const bool alone[] = { true, false };
    Pair *pair = pair_new();
    Move *m = move_ahead(pair, 0);

    g_assert_cmpint(listeners(pair), ==, 1);
    g_assert_true(msc_client_thaw(m->client[0], "told to", NULL));
    g_assert_cmpint(listeners(pair), ==, 0);
    move_free(m);

    m = move_ahead(pair, 0);
    g_assert_cmpint(listeners(pair), ==, 1);
    move_free(m); /* both QEMUs go */
    no_listener_soon(pair);

    m = move_offering(pair, 0, alone);
    g_assert_cmpint(listeners(pair), ==, 0);
    move_free(m);

    complete(move_ahead(pair, 0), PAIR_FLOWS);
    no_listener_soon(pair);
    pair_free(pair);
}

/* Refused: there was no migration. */
static void test_listening_ends_with_a_refusal(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);

    g_assert_cmpint(pair_cli(pair, 1, "peer remove host0"), ==, 0);
    g_assert_true(msc_client_offer_precopy(m->client[0], &m->err[0]));
    must_fail(move_handshake(m), &m->err[0]);
    g_assert_cmpint(listeners(pair), ==, 0);
    move_free(m);
    pair_free(pair);
}

/* Waits until @log, of conntrack -E, has @text. */
static char *told_of(const char *log, const char *text)
{
    for (int i = 0;; i++) {
        char *all = NULL;

        g_assert_true(g_file_get_contents(log, &all, NULL, NULL));
        if (strstr(all, text)) {
            return all;
        }
        g_free(all);
        g_assert_cmpint(i, <, 200);
        g_usleep(50 * 1000);
    }
}

static void add_marker(Pair *pair, const char *port)
{
    pair_run("ip netns exec %s conntrack -I -p udp -s 10.77.0.1 -d 10.77.0.2 "
             "--sport 1 --dport %s -t 60 >/dev/null 2>&1",
             pair->netns[0], port);
}

/* What the kernel can was tried when the daemon started. */
static void test_source_tries_nothing_in_a_migration(void)
{
    Pair *pair = pair_new();
    g_autofree char *log = g_strdup_printf("%s/events", pair->dir);
    g_autofree char *during = NULL, *after = NULL;
    Move *m;

    /* It ends with its namespace's last process at the latest. */
    PAIR_MUST("timeout 60 ip netns exec %s stdbuf -oL conntrack -E -e NEW "
              ">'%s' 2>/dev/null & echo $! >'%s.pid'",
              pair->netns[0], log, log);
    for (int i = 0; !listeners(pair); i++) {
        g_assert_cmpint(i, <, 100);
        g_usleep(50 * 1000);
    }
    m = move_ahead(pair, 0);
    g_assert_true(msc_client_thaw(m->client[0], "told to", NULL));
    move_free(m);
    add_marker(pair, "1001");
    during = told_of(log, "dport=1001");
    g_assert_null(strstr(during, "src=0."));
    /* The twin: it would have been heard of. */
    g_free(pair_cli_output(pair, 0, "doctor"));
    add_marker(pair, "1002");
    after = told_of(log, "dport=1002");
    g_assert_nonnull(strstr(after, "src=0."));
    pair_run("kill $(cat '%s.pid')", log);
    pair_free(pair);
}

typedef enum {
    QEMU_GOES,
    QEMU_ABORTS,
    HELPER_CRASHES,
    BATCH_IS_CHANGED,
    BATCH_IS_LEFT_OUT,
    END_IS_LEFT_OUT,
    SOURCE_GOES_ON, /* its QEMU dies; the destination's hangs up */
    ENDINGS,
} Ending;

static void end_badly(Pair *pair, Move *m, Ending ending)
{
    g_autoptr(GBytes) chunk = NULL;
    MscPrecopyStatus status;
    g_autofree uint8_t *bad = NULL;
    const uint8_t *good;
    gsize len;

    switch (ending) {
    case QEMU_GOES:
    case SOURCE_GOES_ON:
    case ENDINGS:
        break;
    case QEMU_ABORTS:
        g_assert_true(msc_client_abort(m->client[1], "told to", NULL));
        break;
    case HELPER_CRASHES:
        pair_stop_daemon(pair, 1);
        pair_start_daemon(pair, 1);
        break;
    case BATCH_IS_CHANGED:
    case BATCH_IS_LEFT_OUT:
        add_flows(pair, 0, FIRST, 2);
        g_assert_cmpint(
            msc_client_batch(m->client[0], &chunk, &status, &m->err[0]), ==, 1);
        good = g_bytes_get_data(chunk, &len);
        bad = g_memdup2(good, len);
        bad[len - 1] ^= 1;
        if (ending == BATCH_IS_CHANGED) {
            must_fail(msc_client_stage(m->client[1], bad, len, &m->err[1]),
                      &m->err[1]);
        }
        move_collect_of(m, PAIR_FLOWS + 2);
        must_fail(move_stage(m, m->chunks), &m->err[1]);
        break;
    case END_IS_LEFT_OUT:
        move_collect(m);
        g_ptr_array_set_size(m->chunks, (gint)m->chunks->len - 1);
        g_assert_true(move_stage(m, m->chunks));
        must_fail(move_validate(m), &m->err[1]);
        break;
    }
}

/* Whatever ends it: nothing of it stays, and the source has what it had. */
static void test_every_bad_end_leaves_nothing(void)
{
    for (Ending ending = 0; ending < ENDINGS; ending++) {
        Pair *pair = pair_new();
        Move *m = move_ahead(pair, 0);
        uint64_t flows;
        int left = -1;

        /* Somebody else's, and an old one of the guest's in the way. */
        PAIR_MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.77 "
                  "-d 192.0.2.5 --sport 7 --dport 80 --state ESTABLISHED "
                  "-t 4000 -u SEEN_REPLY,ASSURED >/dev/null 2>&1",
                  pair->netns[1]);
        PAIR_MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.10 "
                  "-d 192.0.2.5 --sport 1000 --dport 80 --state CLOSE "
                  "-t 4000 -u SEEN_REPLY,ASSURED >/dev/null 2>&1",
                  pair->netns[1]);
        send_ahead(m, &flows);
        g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS + 1);
        end_badly(pair, m, ending);
        move_free(m);
        for (int i = 0; i < 100 && left != 2; i++) {
            g_usleep(20 * 1000);
            left = pair_count_flows(pair, 1);
        }
        g_assert_cmpint(left, ==, 2);
        PAIR_MUST("ip netns exec %s conntrack -L -p tcp --sport 1000 "
                  "2>/dev/null | grep -q CLOSE",
                  pair->netns[1]);
        g_assert_cmpint(
            pair_run("ls %s/1/var/journal | grep -q staged", pair->dir), !=, 0);
        g_assert_cmpint(pair_count_flows(pair, 0), >=, PAIR_FLOWS);
        pair_free(pair);
    }
}

/* The destination's guest began to run, its helper crashed: kept. */
static void test_crash_after_commit_keeps_all(void)
{
    Pair *pair = pair_new();
    Move *m = move_ahead(pair, 0);
    uint64_t flows;

    send_ahead(m, &flows);
    complete(m, PAIR_FLOWS);
    pair_stop_daemon(pair, 1);
    pair_start_daemon(pair, 1);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS);
    /* And away again. */
    m = move_ahead(pair, 1);
    send_ahead(m, &flows);
    complete(m, PAIR_FLOWS);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
    pair_free(pair);
}

/* READY was said, and the source takes it back. */
static void test_undone_after_ready(void)
{
    Pair *pair = pair_new();
    Move *m = move_ahead(pair, 0);
    g_autoptr(GBytes) ready = NULL;
    uint64_t flows;

    send_ahead(m, &flows);
    end_flows(pair, 0, 1000, 1);
    move_collect_of(m, PAIR_FLOWS - 1);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_nonnull(ready);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS - 1);
    move_free(m);
    /* The same host's next migration says that it has the guest. */
    m = move_ahead(pair, 0);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, 0);
    send_ahead(m, &flows);
    complete(m, PAIR_FLOWS - 1);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS - 1);
    pair_free(pair);
}

static void test_requests_out_of_order(void)
{
    Pair *pair = pair_new();
    Move *m = move_ahead(pair, 0);
    g_autoptr(GBytes) chunk = NULL;
    MscPrecopyStatus status;

    /* After the admission nobody can change his mind. */
    must_fail(msc_client_offer_precopy(m->client[0], &m->err[0]), &m->err[0]);
    /* A destination has no batches, and the frozen guest no more of them. */
    must_fail(msc_client_batch(m->client[1], &chunk, &status, &m->err[1]) >= 0,
              &m->err[1]);
    move_collect(m);
    must_fail(msc_client_batch(m->client[0], &chunk, &status, &m->err[0]) >= 0,
              &m->err[0]);
    move_free(m);
    pair_free(pair);
}

#define ADD(name, function) g_test_add_func("/handoff-ahead/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("there-and-back", test_there_and_back);
    ADD("only-changes-are-left", test_only_changes_are_left);
    ADD("changes-in-between", test_changes_in_between);
    ADD("one-side-cannot", test_one_side_cannot);
    ADD("no-batch-is-asked-for", test_no_batch_is_asked_for);
    ADD("listening-ends-with-its-migration",
        test_listening_ends_with_its_migration);
    ADD("listening-ends-with-a-refusal", test_listening_ends_with_a_refusal);
    ADD("source-tries-nothing-in-a-migration",
        test_source_tries_nothing_in_a_migration);
    ADD("every-bad-end-leaves-nothing", test_every_bad_end_leaves_nothing);
    ADD("crash-after-commit-keeps-all", test_crash_after_commit_keeps_all);
    ADD("undone-after-ready", test_undone_after_ready);
    ADD("requests-out-of-order", test_requests_out_of_order);
    return g_test_run();
}
