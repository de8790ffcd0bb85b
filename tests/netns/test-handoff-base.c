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

#include "base-file.h"
#include "handoff-lab.h"

/* More than fit a batch. */
#define MANY 600
#define FIRST 20000
#define ALL (PAIR_FLOWS + MANY)

/* Many at once: conntrack's own file format. */
static void add_many(Pair *pair, int host)
{
    g_autofree char *path = g_strdup_printf("%s/flows", pair->dir);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) err = NULL;

    for (guint i = 0; i < MANY; i++) {
        g_string_append_printf(text,
                               "-A -p tcp -s 10.20.0.10 -d 192.0.2.5 --sport "
                               "%u --dport 80 --state ESTABLISHED -t 4000 "
                               "-u SEEN_REPLY,ASSURED\n",
                               FIRST + i);
    }
    g_file_set_contents(path, text->str, -1, &err);
    g_assert_no_error(err);
    PAIR_MUST("ip netns exec %s conntrack -R %s >/dev/null 2>&1",
              pair->netns[host], path);
    g_assert_cmpint(pair_count_flows(pair, host), ==, ALL);
}

static void G_GNUC_PRINTF(3, 4)
    conntrack(Pair *pair, int host, const char *format, ...)
{
    g_autofree char *arguments = NULL;
    va_list args;

    va_start(args, format);
    arguments = g_strdup_vprintf(format, args);
    va_end(args);
    PAIR_MUST("ip netns exec %s conntrack %s >/dev/null 2>&1",
              pair->netns[host], arguments);
}

/* One of @host's flows in hundred ends, changes or begins. */
static void change_some(Pair *pair, int host, guint from)
{
    for (guint i = from; i < from + 3; i++) {
        conntrack(pair, host, "-D -p tcp -s 10.20.0.10 --sport %u", i);
    }
    for (guint i = from + 3; i < from + 6; i++) {
        conntrack(pair, host,
                  "-U -p tcp -s 10.20.0.10 --sport %u --state CLOSE_WAIT "
                  "-t 900",
                  i);
    }
    conntrack(pair, host, "-U -p tcp -s 10.20.0.10 --sport %u -m 7", from + 6);
    for (guint i = from + 7; i < from + 10; i++) {
        conntrack(pair, host,
                  "-I -p udp -s 10.20.0.10 -d 192.0.2.5 --sport %u --dport 53 "
                  "-t 900 -u SEEN_REPLY",
                  i);
    }
}

/* Everything but the time-outs, sorted. */
static char *table(Pair *pair, int host)
{
    g_autofree char *command = g_strdup_printf(
        "ip netns exec %s conntrack -L 2>/dev/null | "
        "sed -E 's/^(([a-z]+) +[0-9]+) +[0-9]+/\\1/; s/ use=[0-9]+//; "
        "s/(packets|bytes)=[0-9]+ //g; s/ delta-time=.*//' | sort",
        pair->netns[host]);
    FILE *f = popen(command, "r");
    g_autoptr(GString) out = g_string_new(NULL);
    char line[512];

    g_assert_nonnull(f);
    while (fgets(line, sizeof(line), f)) {
        g_string_append(out, line);
    }
    pclose(f);
    return g_strdup(out->str);
}

static Move *move_ahead(Pair *pair, int from)
{
    Move *m = move_new(pair, from);

    for (int i = 0; i < 2; i++) {
        g_assert_no_error(m->err[i]);
        g_assert_true(msc_client_offer_precopy(m->client[i], &m->err[i]));
    }
    g_assert_true(move_handshake(m));
    return m;
}

/* One batch from host to host; its bytes.  @state: the source's. */
static gsize send_one(Move *m, MscPrecopyState *state)
{
    g_autoptr(GBytes) chunk = NULL;
    MscPrecopyStatus status;
    uint64_t flows;
    int n = msc_client_batch(m->client[0], &chunk, &status, &m->err[0]);

    g_assert_no_error(m->err[0]);
    *state = status.state;
    if (!n) {
        return 0;
    }
    if (!msc_client_stage_batch(m->client[1], PROOF(chunk), &flows,
                                &m->err[1])) {
        return 0;
    }
    return g_bytes_get_size(chunk);
}

static gsize send_ahead(Move *m)
{
    MscPrecopyState state;
    gsize sum = 0, sent;

    do {
        sent = send_one(m, &state);
        g_assert_no_error(m->err[1]);
        sum += sent;
    } while (sent || state == MSC_PRECOPY_BULK);
    return sum;
}

static gsize bytes_of(const GPtrArray *chunks)
{
    gsize sum = 0;

    for (guint i = 0; i < chunks->len; i++) {
        sum += g_bytes_get_size(chunks->pdata[i]);
    }
    return sum;
}

/* The rest of it, with @flows flows; bytes. */
static gsize complete(Move *m, guint flows)
{
    g_autoptr(GBytes) ready = NULL;
    gsize sum;

    move_collect_of(m, flows);
    sum = bytes_of(m->chunks);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_no_error(m->err[1]);
    move_finish(m, ready);
    move_free(m);
    return sum;
}

/* Without a page of text if they are not. */
static void assert_same(const char *before, const char *after)
{
    g_auto(GStrv) a = g_strsplit(before, "\n", -1);
    g_auto(GStrv) b = g_strsplit(after, "\n", -1);

    for (guint i = 0; a[i] || b[i]; i++) {
        g_assert_cmpstr(a[i], ==, b[i]);
    }
}

/* A whole migration, after which the table is the same; bytes. */
static gsize migrate(Pair *pair, int from)
{
    g_autofree char *before = table(pair, from);
    g_autofree char *after = NULL;
    int flows = pair_count_flows(pair, from);
    Move *m = move_ahead(pair, from);
    gsize sum = send_ahead(m);

    sum += complete(m, (guint)flows);
    after = table(pair, 1 - from);
    assert_same(before, after);
    g_assert_cmpint(pair_count_flows(pair, from), ==, 0);
    return sum;
}

/* With MANY flows, and from host 0 to host 1 once; bytes. */
static gsize pair_with_base(Pair **pair)
{
    *pair = pair_new();
    add_many(*pair, 0);
    return migrate(*pair, 0);
}

static char *base_path(Pair *pair, int host)
{
    return g_strdup_printf("%s/%d/var/base/" PAIR_VM ".conntrack", pair->dir,
                           host);
}

/* What was replaced goes after the last answer. */
static void assert_nothing_unfinished(Pair *pair)
{
    for (int h = 0; h < 2; h++) {
        int gone = 0;

        for (int i = 0; i < 250 && !gone; i++) {
            g_usleep(20 * 1000);
            gone =
                pair_run("ls %s/%d/var/base | grep -q new", pair->dir, h) != 0;
        }
        g_assert_true(gone);
    }
}

static void test_way_back_sends_the_difference(void)
{
    Pair *pair;
    gsize whole = pair_with_base(&pair);

    g_assert_cmpuint(migrate(pair, 1), <, whole / 50);
    g_assert_cmpuint(migrate(pair, 0), <, whole / 50);
    for (guint i = 0; i < 4; i++) {
        int from = 1 - (int)i % 2;

        change_some(pair, from, FIRST + i * 20);
        g_assert_cmpuint(migrate(pair, from), <, whole / 20);
    }
    assert_nothing_unfinished(pair);
    pair_free(pair);
}

/* The guest was restarted there: nothing is as it was. */
static void test_all_flows_ended(void)
{
    Pair *pair;

    pair_with_base(&pair);
    conntrack(pair, 1, "-F");
    migrate(pair, 1);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, 0);
    pair_free(pair);
}

/* Their time is over on the host where they are; the base does not bring them
 * back. */
static void test_time_goes_on(void)
{
    Pair *pair = pair_new();

    add_many(pair, 0);
    for (guint i = 0; i < 3; i++) {
        conntrack(pair, 0,
                  "-I -p udp -s 10.20.0.10 -d 192.0.2.5 --sport %u --dport 53 "
                  "-t %u -u SEEN_REPLY",
                  100 + i, i ? 300 : 4);
    }
    migrate(pair, 0);
    /* It has traffic. */
    conntrack(pair, 1, "-U -p udp -s 10.20.0.10 --sport 102 -t 500");
    g_usleep(5 * G_USEC_PER_SEC);
    migrate(pair, 1);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, ALL + 2);
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
    g_autoptr(GError) err = NULL;
    g_autofree char *next = g_strconcat(path, ".rewritten", NULL);
    g_autoptr(MscBaseReader) reader =
        msc_base_reader_new(fopen(path, "re"), &err);
    g_autoptr(MscBaseWriter) writer = NULL;
    GBytes *data = NULL;
    MscBaseHead head;
    uint64_t when;
    int skip = wrong == WITH_OTHER_FLOWS;

    g_assert_no_error(err);
    head = *msc_base_reader_head(reader);
    head.boot[0] ^= wrong == OF_ANOTHER_BOOT;
    head.id[0] ^= wrong == OF_ANOTHER_MIGRATION;
    head.peer = wrong == OF_ANOTHER_HOST ? (char *)"host7" : head.peer;
    writer = msc_base_writer_new(next, &head, &err);
    g_assert_no_error(err);
    while (msc_base_reader_next(reader, &data, &when, &err) == 1) {
        if (!skip--) {
            msc_base_writer_add(writer, g_bytes_get_data(data, NULL),
                                g_bytes_get_size(data), when, &err);
        }
        skip = MAX(skip, 0);
        g_bytes_unref(data);
    }
    g_assert_no_error(err);
    msc_base_writer_finish(writer, path, head.ended_us, head.wall_us,
                           head.whole, &err);
    g_assert_no_error(err);
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
        gsize whole = pair_with_base(&pair);
        g_autofree char *path = base_path(pair, (int)wrong % 2);
        gsize back;

        change_some(pair, 1, FIRST);
        spoil(path, wrong);
        back = migrate(pair, 1);
        g_assert_cmpuint(back, >, whole / 10 * 9);
        /* And there is one again. */
        g_assert_cmpuint(migrate(pair, 0), <, whole / 50);
        pair_free(pair);
    }
}

/* A base that is the same on both hosts, written again: the twin of the
 * above. */
static void test_the_same_base_written_again_counts(void)
{
    Pair *pair;
    gsize whole = pair_with_base(&pair);
    g_autofree char *path = base_path(pair, 0);

    rewrite(path, WRONGS);
    g_assert_cmpuint(migrate(pair, 1), <, whole / 50);
    pair_free(pair);
}

/* One host's QEMU does not carry batches. */
static void test_not_both_send_ahead(void)
{
    Pair *pair;

    pair_with_base(&pair);
    change_some(pair, 1, FIRST);
    pair_migrate_of(pair, 1, ALL);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, ALL);
    /* What both have is still the base that it was. */
    change_some(pair, 0, FIRST + 20);
    g_assert_cmpuint(migrate(pair, 0), <, 10000);
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
    gsize whole = pair_with_base(&pair);

    conntrack(pair, 0,
              "-I " STALE "--sport 20001 --state CLOSE -t 4000 "
              "-u SEEN_REPLY,ASSURED");
    conntrack(pair, 0,
              "-I " STALE "--sport 20002 --state CLOSE -t 4000 "
              "-u SEEN_REPLY,ASSURED");
    conntrack(pair, 1, "-D " STALE "--sport 20002");
    conntrack(pair, 0,
              "-I -p tcp -s 10.20.0.77 -d 192.0.2.5 --sport 7 "
              "--dport 80 --state CLOSE -t 4000 "
              "-u SEEN_REPLY,ASSURED");
    {
        Move *m = move_ahead(pair, 1);
        gsize sum = send_ahead(m);

        g_assert_cmpuint(sum + complete(m, ALL - 1), <, whole / 20);
    }
    g_assert_cmpint(pair_count_flows(pair, 0), ==, ALL);
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

    pair_with_base(&pair);
    conntrack(pair, 1, "-D " STALE "--sport 1001");
    conntrack(pair, 0, FOREIGN);
    m = move_ahead(pair, 1);
    send_ahead(m);
    complete(m, ALL - 1);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, ALL);
    PAIR_MUST("ip netns exec %s conntrack -L -p tcp -s 10.20.0.77 2>/dev/null "
              "| grep -q ESTABLISHED",
              pair->netns[0]);
    pair_free(pair);
}

static void wait_for_flows(Pair *pair, int host, int flows)
{
    int left = -1;

    for (int i = 0; i < 200 && left != flows; i++) {
        left = pair_count_flows(pair, host);
        g_usleep(20 * 1000);
    }
    g_assert_cmpint(left, ==, flows);
}

/* The twin: the guest still has it, and cannot move. */
static void test_tuple_of_a_flow_is_anothers(void)
{
    Pair *pair;
    Move *m;
    g_autoptr(GBytes) ready = NULL;

    pair_with_base(&pair);
    m = move_ahead(pair, 1);
    /* The admission saw the table before; so it comes late. */
    conntrack(pair, 0, FOREIGN);
    send_ahead(m);
    move_collect_of(m, ALL);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_null(ready);
    g_assert_nonnull(strstr(m->err[1]->message, "10.20.0.10:1001"));
    move_free(m);
    wait_for_flows(pair, 0, 1);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, ALL);
    pair_free(pair);
}

/* The registration changed: of the base, what is not the guest's any more. */
static void test_base_outside_the_selector(void)
{
    Pair *pair;
    Move *m;
    g_autoptr(GBytes) ready = NULL;

    pair_with_base(&pair);
    g_assert_cmpint(pair_cli(pair, 0, "vm remove " PAIR_VM), ==, 0);
    g_assert_cmpint(pair_cli(pair, 0,
                             "vm add " PAIR_VM " --name guest "
                             "--address 10.20.0.99 "
                             "--address 10.20.0.10 "
                             "--nat-address 203.0.113.10"),
                    ==, 0);
    migrate(pair, 1);
    migrate(pair, 0);
    g_assert_cmpint(pair_cli(pair, 0, "vm remove " PAIR_VM), ==, 0);
    g_assert_cmpint(pair_cli(pair, 0,
                             "vm add " PAIR_VM " --name guest "
                             "--address 10.20.0.99 "
                             "--nat-address 203.0.113.10"),
                    ==, 0);
    /* Without its NATed flows, which the admission would show. */
    conntrack(pair, 1, "-D -p tcp -s 10.20.0.10 -q 203.0.113.10");
    m = move_ahead(pair, 1);
    for (;;) {
        MscPrecopyState state;

        if (!send_one(m, &state) && state != MSC_PRECOPY_BULK) {
            break;
        }
        if (m->err[1]) {
            break;
        }
    }
    if (!m->err[1]) {
        move_collect_of(m, ALL - PAIR_FLOWS / 2);
        move_stage(m, m->chunks);
        ready = m->err[1] ? NULL : move_validate(m);
        g_assert_null(ready);
    }
    g_assert_nonnull(strstr(m->err[1]->message, "registration"));
    move_free(m);
    wait_for_flows(pair, 0, 0);
    pair_free(pair);
}

/* Whichever helper crashes while the base is staged: nothing stays, and the
 * next attempt begins with the same base. */
static void test_crash_while_the_base_is_staged(void)
{
    for (int crash = 0; crash < 2; crash++) {
        Pair *pair;
        gsize whole = pair_with_base(&pair);
        MscPrecopyState state;
        Move *m;

        conntrack(pair, 0,
                  "-I " STALE "--sport 20001 --state CLOSE -t 4000 "
                  "-u SEEN_REPLY,ASSURED");
        m = move_ahead(pair, 1);
        g_assert_cmpuint(send_one(m, &state), >, 0);
        g_assert_cmpint(state, ==, MSC_PRECOPY_BULK);
        g_assert_cmpint(pair_count_flows(pair, 0), >, 100);
        pair_stop_daemon(pair, crash ? 0 : 1);
        pair_start_daemon(pair, crash ? 0 : 1);
        move_free(m);
        wait_for_flows(pair, 0, 1);
        PAIR_MUST("ip netns exec %s conntrack -L -p tcp --sport 20001 "
                  "2>/dev/null | grep -q CLOSE",
                  pair->netns[0]);
        assert_nothing_unfinished(pair);
        g_assert_cmpuint(migrate(pair, 1), <, whole / 50);
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
        gsize whole = pair_with_base(&pair);
        Move *m;

        change_some(pair, 1, FIRST);
        before = table(pair, 1);
        m = move_ahead(pair, 1);
        for (guint i = 0; i < batches; i++) {
            send_one(m, &state);
            g_assert_no_error(m->err[1]);
        }
        complete(m, ALL);
        after = table(pair, 0);
        assert_same(before, after);
        g_assert_cmpuint(migrate(pair, 0), <, whole / 20);
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
    g_autofree char *path = base_path(pair, 1);

    g_assert_cmpint(pair_cli(pair, 0, "diff " PAIR_VM2), ==, 1);
    assert_says(pair, 0, none);
    add_many(pair, 0);
    migrate(pair, 0);
    assert_says(pair, 1, same);
    change_some(pair, 1, FIRST);
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

    pair_with_base(&pair);
    path = base_path(pair, 0);
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
