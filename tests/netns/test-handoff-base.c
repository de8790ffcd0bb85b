/*
 * A guest that comes back: only what changed is sent, if both hosts have kept
 * the same base, and all of it otherwise.
 *
 *   host 0 --all--> host 1: some flows end, change, begin --the rest--> host 0
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base-lab.h"

/* One of @host's flows in hundred ends, changes or begins. */
static void change_some(Pair *pair, int host, guint from)
{
    for (guint i = from; i < from + 3; i++) {
        pair_conntrack(pair, host, "-D -p tcp -s 10.20.0.10 --sport %u", i);
    }
    for (guint i = from + 3; i < from + 6; i++) {
        pair_conntrack(pair, host,
                       "-U -p tcp -s 10.20.0.10 --sport %u --state CLOSE_WAIT "
                       "-t 900",
                       i);
    }
    pair_conntrack(pair, host, "-U -p tcp -s 10.20.0.10 --sport %u -m 7",
                   from + 6);
    for (guint i = from + 7; i < from + 10; i++) {
        pair_conntrack(
            pair, host,
            "-I -p udp -s 10.20.0.10 -d 192.0.2.5 --sport %u --dport 53 "
            "-t 900 -u SEEN_REPLY",
            i);
    }
}

static void test_way_back_sends_the_difference(void)
{
    Pair *pair;
    gsize whole = pair_new_with_base(&pair);

    g_assert_cmpuint(pair_migrate_ahead(pair, 1), <, whole / 50);
    g_assert_cmpuint(pair_migrate_ahead(pair, 0), <, whole / 50);
    for (guint i = 0; i < 4; i++) {
        int from = 1 - (int)i % 2;

        change_some(pair, from, PAIR_FIRST + i * 20);
        g_assert_cmpuint(pair_migrate_ahead(pair, from), <, whole / 20);
    }
    pair_assert_nothing_unfinished(pair);
    pair_free(pair);
}

/* The guest was restarted there: nothing is as it was. */
static void test_all_flows_ended(void)
{
    Pair *pair;

    pair_new_with_base(&pair);
    pair_conntrack(pair, 1, "-F");
    pair_migrate_ahead(pair, 1);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, 0);
    pair_free(pair);
}

/* Their time is over on the host where they are; the base does not bring them
 * back. */
static void test_time_goes_on(void)
{
    Pair *pair = pair_new();

    pair_add_many(pair, 0);
    for (guint i = 0; i < 3; i++) {
        pair_conntrack(
            pair, 0,
            "-I -p udp -s 10.20.0.10 -d 192.0.2.5 --sport %u --dport 53 "
            "-t %u -u SEEN_REPLY",
            100 + i, i ? 300 : 4);
    }
    pair_migrate_ahead(pair, 0);
    /* It has traffic. */
    pair_conntrack(pair, 1, "-U -p udp -s 10.20.0.10 --sport 102 -t 500");
    g_usleep(5 * G_USEC_PER_SEC);
    pair_migrate_ahead(pair, 1);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_ALL + 2);
    PAIR_MUST("ip netns exec %s conntrack -L -p udp --sport 101 2>/dev/null | "
              "grep -qE '^udp +17 2[0-9][0-9] '",
              pair->netns[0]);
    PAIR_MUST("ip netns exec %s conntrack -L -p udp --sport 102 2>/dev/null | "
              "grep -qE '^udp +17 4[0-9][0-9] '",
              pair->netns[0]);
    pair_free(pair);
}

typedef enum {
    IS_REMOVED,
    IS_DAMAGED,
    IS_CUT_SHORT,
    OF_ANOTHER_BOOT,
    OF_ANOTHER_HOST,
    OF_ANOTHER_MIGRATION,
    WITH_OTHER_FLOWS,
    WRONGS,
} Wrong;

/* The same file with something else in it, but well formed. */
static void rewrite(const char *path, Wrong wrong)
{
    g_auto(MscBaseHead) head = { 0 };

    base_read_head(path, &head);
    head.boot[0] ^= wrong == OF_ANOTHER_BOOT;
    head.id[0] ^= wrong == OF_ANOTHER_MIGRATION;
    if (wrong == OF_ANOTHER_HOST) {
        g_free(head.peer);
        head.peer = g_strdup("host7");
    }
    base_rewrite(path, &head, wrong == WITH_OTHER_FLOWS);
}

static void spoil(const char *path, Wrong wrong)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) err = NULL;
    gsize len;

    switch (wrong) {
    case IS_REMOVED:
        g_assert_cmpint(g_unlink(path), ==, 0);
        break;
    case IS_DAMAGED:
    case IS_CUT_SHORT:
        g_file_get_contents(path, &data, &len, &err);
        data[len / 2] ^= 1;
        g_file_set_contents(path, data,
                            (gssize)(wrong == IS_DAMAGED ? len : len / 2),
                            &err);
        g_assert_no_error(err);
        break;
    default:
        rewrite(path, wrong);
        break;
    }
}

/* Whatever is wrong with either host's base, the guest moves, and all of it. */
static void test_without_the_same_base_all_is_sent(void)
{
    for (Wrong wrong = 0; wrong < WRONGS; wrong++) {
        Pair *pair;
        gsize whole = pair_new_with_base(&pair);
        g_autofree char *path = pair_base_path(pair, (int)wrong % 2);
        gsize back;

        change_some(pair, 1, PAIR_FIRST);
        spoil(path, wrong);
        back = pair_migrate_ahead(pair, 1);
        g_assert_cmpuint(back, >, whole / 10 * 9);
        /* And there is one again. */
        g_assert_cmpuint(pair_migrate_ahead(pair, 0), <, whole / 50);
        pair_free(pair);
    }
}

/* A base that is the same on both hosts, written again: the twin of the
 * above. */
static void test_the_same_base_written_again_counts(void)
{
    Pair *pair;
    gsize whole = pair_new_with_base(&pair);
    g_autofree char *path = pair_base_path(pair, 0);

    rewrite(path, WRONGS);
    g_assert_cmpuint(pair_migrate_ahead(pair, 1), <, whole / 50);
    pair_free(pair);
}

/* One host's QEMU does not carry batches. */
static void test_not_both_send_ahead(void)
{
    Pair *pair;

    pair_new_with_base(&pair);
    change_some(pair, 1, PAIR_FIRST);
    pair_migrate_of(pair, 1, PAIR_ALL);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_ALL);
    /* What both have is still the base that it was. */
    change_some(pair, 0, PAIR_FIRST + 20);
    g_assert_cmpuint(pair_migrate_ahead(pair, 0), <, 10000);
    pair_free(pair);
}

#define STALE "-p tcp -s 10.20.0.10 -d 192.0.2.5 --dport 80 "
/* With the translation of the guest's flow from port 1001. */
#define FOREIGN                                                     \
    "-I -p tcp -s 10.20.0.77 -d 192.0.2.5 --sport 1001 --dport 80 " \
    "--state ESTABLISHED -t 4000 -u SEEN_REPLY,ASSURED -n 203.0.113.10"

/* What this host has kept, wrongly, gives way to what is so. */
static void test_stale_entries_are_overwritten(void)
{
    Pair *pair;
    gsize whole = pair_new_with_base(&pair);

    pair_conntrack(pair, 0,
                   "-I " STALE "--sport 20001 --state CLOSE -t 4000 "
                   "-u SEEN_REPLY,ASSURED");
    pair_conntrack(pair, 0,
                   "-I " STALE "--sport 20002 --state CLOSE -t 4000 "
                   "-u SEEN_REPLY,ASSURED");
    pair_conntrack(pair, 1, "-D " STALE "--sport 20002");
    pair_conntrack(pair, 0,
                   "-I -p tcp -s 10.20.0.77 -d 192.0.2.5 --sport 7 "
                   "--dport 80 --state CLOSE -t 4000 "
                   "-u SEEN_REPLY,ASSURED");
    {
        Move *m = move_ahead(pair, 1);
        gsize sum = move_send_ahead(m);

        g_assert_cmpuint(sum + move_complete(m, PAIR_ALL - 1), <, whole / 20);
    }
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_ALL);
    PAIR_MUST("ip netns exec %s conntrack -L -p tcp --sport 20001 2>/dev/null "
              "| grep -q ESTABLISHED",
              pair->netns[0]);
    PAIR_MUST("ip netns exec %s conntrack -L -p tcp -s 10.20.0.77 2>/dev/null "
              "| grep -q CLOSE",
              pair->netns[0]);
    pair_free(pair);
}

/* Somebody else took a tuple over: that flow of the base has ended. */
static void test_tuple_of_an_ended_flow_is_anothers(void)
{
    Pair *pair;
    Move *m;

    pair_new_with_base(&pair);
    pair_conntrack(pair, 1, "-D " STALE "--sport 1001");
    pair_conntrack(pair, 0, FOREIGN);
    m = move_ahead(pair, 1);
    move_send_ahead(m);
    move_complete(m, PAIR_ALL - 1);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_ALL);
    PAIR_MUST("ip netns exec %s conntrack -L -p tcp -s 10.20.0.77 2>/dev/null "
              "| grep -q ESTABLISHED",
              pair->netns[0]);
    pair_free(pair);
}

/* The twin: the guest still has it, and cannot move. */
static void test_tuple_of_a_flow_is_anothers(void)
{
    Pair *pair;
    Move *m;
    g_autoptr(GBytes) ready = NULL;

    pair_new_with_base(&pair);
    m = move_ahead(pair, 1);
    /* The admission saw the table before; so it comes late. */
    pair_conntrack(pair, 0, FOREIGN);
    move_send_ahead(m);
    move_collect_of(m, PAIR_ALL);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_null(ready);
    g_assert_nonnull(strstr(m->err[1]->message, "10.20.0.10:1001"));
    move_free(m);
    pair_wait_for_flows(pair, 0, 1);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_ALL);
    pair_free(pair);
}

/* The registration changed: of the base, what is not the guest's any more. */
static void test_base_outside_the_selector(void)
{
    Pair *pair;
    Move *m;
    g_autoptr(GBytes) ready = NULL;

    pair_new_with_base(&pair);
    g_assert_cmpint(pair_cli(pair, 0, "vm remove " PAIR_VM), ==, 0);
    g_assert_cmpint(pair_cli(pair, 0,
                             "vm add " PAIR_VM " --name guest "
                             "--address 10.20.0.99 "
                             "--address 10.20.0.10 "
                             "--nat-address 203.0.113.10"),
                    ==, 0);
    pair_migrate_ahead(pair, 1);
    pair_migrate_ahead(pair, 0);
    g_assert_cmpint(pair_cli(pair, 0, "vm remove " PAIR_VM), ==, 0);
    g_assert_cmpint(pair_cli(pair, 0,
                             "vm add " PAIR_VM " --name guest "
                             "--address 10.20.0.99 "
                             "--nat-address 203.0.113.10"),
                    ==, 0);
    /* Without its NATed flows, which the admission would show. */
    pair_conntrack(pair, 1, "-D -p tcp -s 10.20.0.10 -q 203.0.113.10");
    m = move_ahead(pair, 1);
    for (;;) {
        MscPrecopyState state;

        if (!move_send_one(m, &state) && state != MSC_PRECOPY_BULK) {
            break;
        }
        if (m->err[1]) {
            break;
        }
    }
    if (!m->err[1]) {
        move_collect_of(m, PAIR_ALL - PAIR_FLOWS / 2);
        move_stage(m, m->chunks);
        ready = m->err[1] ? NULL : move_validate(m);
        g_assert_null(ready);
    }
    g_assert_nonnull(strstr(m->err[1]->message, "registration"));
    move_free(m);
    pair_wait_for_flows(pair, 0, 0);
    pair_free(pair);
}

/* Whichever helper crashes while the base is staged: nothing stays, and the
 * next attempt begins with the same base. */
static void test_crash_while_the_base_is_staged(void)
{
    for (int crash = 0; crash < 2; crash++) {
        Pair *pair;
        gsize whole = pair_new_with_base(&pair);
        MscPrecopyState state;
        Move *m;

        pair_conntrack(pair, 0,
                       "-I " STALE "--sport 20001 --state CLOSE -t 4000 "
                       "-u SEEN_REPLY,ASSURED");
        m = move_ahead(pair, 1);
        g_assert_cmpuint(move_send_one(m, &state), >, 0);
        g_assert_cmpint(state, ==, MSC_PRECOPY_BULK);
        g_assert_cmpint(pair_count_flows(pair, 0), >, 100);
        pair_stop_daemon(pair, crash ? 0 : 1);
        pair_start_daemon(pair, crash ? 0 : 1);
        move_free(m);
        pair_wait_for_flows(pair, 0, 1);
        PAIR_MUST("ip netns exec %s conntrack -L -p tcp --sport 20001 "
                  "2>/dev/null | grep -q CLOSE",
                  pair->netns[0]);
        pair_assert_nothing_unfinished(pair);
        g_assert_cmpuint(pair_migrate_ahead(pair, 1), <, whole / 50);
        pair_free(pair);
    }
}

/* The guest stops when only a part of the base was staged. */
static void test_guest_stops_early(void)
{
    for (guint batches = 0; batches < 4; batches++) {
        Pair *pair;
        g_autofree char *before = NULL, *after = NULL;
        MscPrecopyState state;
        gsize whole = pair_new_with_base(&pair);
        Move *m;

        change_some(pair, 1, PAIR_FIRST);
        before = pair_table(pair, 1);
        m = move_ahead(pair, 1);
        for (guint i = 0; i < batches; i++) {
            move_send_one(m, &state);
            g_assert_no_error(m->err[1]);
        }
        move_complete(m, PAIR_ALL);
        after = pair_table(pair, 0);
        assert_same_table(before, after);
        g_assert_cmpuint(pair_migrate_ahead(pair, 0), <, whole / 20);
        pair_free(pair);
    }
}

static void assert_says(Pair *pair, int host, const char *const *words)
{
    g_autofree char *text = pair_cli_output(pair, host, "diff " PAIR_VM);

    for (; *words; words++) {
        if (!strstr(text, *words)) {
            g_error("no '%s' in: %s", *words, text);
        }
    }
}

static void test_diff_tells(void)
{
    static const char *const none[] = { "no base", "no migration", NULL };
    static const char *const same[] = { "host0", "608 as there, 0 changed",
                                        "0 new, 0 gone", "bytes: 0", NULL };
    static const char *const some[] = {
        "host0", "601 as there, 4 changed, 3 new, 3 gone", NULL
    };
    static const char *const damaged[] = { "no base", "damaged", NULL };
    Pair *pair = pair_new();
    g_autofree char *json = NULL;
    g_autofree char *path = pair_base_path(pair, 1);

    g_assert_cmpint(pair_cli(pair, 0, "diff " PAIR_VM2), ==, 1);
    assert_says(pair, 0, none);
    pair_add_many(pair, 0);
    pair_migrate_ahead(pair, 0);
    assert_says(pair, 1, same);
    change_some(pair, 1, PAIR_FIRST);
    assert_says(pair, 1, some);
    json = pair_cli_output(pair, 1, "diff --json " PAIR_VM);
    g_assert_nonnull(strstr(json, "\"gone\" : 3"));
    spoil(path, IS_DAMAGED);
    assert_says(pair, 1, damaged);
    pair_free(pair);
}

static void test_removed_with_the_guest(void)
{
    Pair *pair;
    g_autofree char *path = NULL;

    pair_new_with_base(&pair);
    path = pair_base_path(pair, 0);
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    PAIR_MUST("test $(stat -c %%a %s) = 600", path);
    g_assert_cmpint(pair_cli(pair, 0, "vm remove " PAIR_VM), ==, 0);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    pair_free(pair);
}

#define ADD(name, function) g_test_add_func("/handoff-base/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("way-back-sends-the-difference", test_way_back_sends_the_difference);
    ADD("all-flows-ended", test_all_flows_ended);
    ADD("time-goes-on", test_time_goes_on);
    ADD("without-the-same-base-all-is-sent",
        test_without_the_same_base_all_is_sent);
    ADD("the-same-base-written-again-counts",
        test_the_same_base_written_again_counts);
    ADD("not-both-send-ahead", test_not_both_send_ahead);
    ADD("stale-entries-are-overwritten", test_stale_entries_are_overwritten);
    ADD("tuple-of-an-ended-flow-is-anothers",
        test_tuple_of_an_ended_flow_is_anothers);
    ADD("tuple-of-a-flow-is-anothers", test_tuple_of_a_flow_is_anothers);
    ADD("base-outside-the-selector", test_base_outside_the_selector);
    ADD("crash-while-the-base-is-staged", test_crash_while_the_base_is_staged);
    ADD("guest-stops-early", test_guest_stops_early);
    ADD("diff-tells", test_diff_tells);
    ADD("removed-with-the-guest", test_removed_with_the_guest);
    return g_test_run();
}
