/*
 * Handoffs that are cut off: helpers that crash, QEMUs that go, words that
 * are lost, and how such a migration ends all the same.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handoff-lab.h"

static MscVerdict verdict(Move *m, int side, const char *id)
{
    g_autoptr(GError) err = NULL;
    MscVerdict v;

    g_assert_true(msc_verdict(m->sock[side],
                              side ? MSC_ROLE_DESTINATION : MSC_ROLE_SOURCE,
                              PAIR_VM, id, 5000, &v, &err));
    return v;
}

/* Gives the guest up on @host; the code for the other one. */
static char *give_up(Pair *pair, int host)
{
    g_autofree char *out =
        pair_cli_output(pair, host, "resolve " PAIR_VM " --there");
    const char *code = strstr(out, "--code ");

    g_assert_nonnull(code);
    return g_strchomp(g_strdup(code + strlen("--code ")));
}

/*
 * RELEASE is lost and both helpers crash: paused on both, until told.  The
 * host that takes the guest needs the word of the one that gives it up.
 */
static void test_lost_release(void)
{
    for (int there = 0; there < 2; there++) {
        Pair *pair = pair_new();
        Move *m = move_new(pair, 0);
        g_autoptr(GBytes) ready = NULL;
        g_autoptr(GBytes) release = NULL;
        g_autofree char *id = NULL;
        g_autofree char *code = NULL;
        g_autofree char *again = NULL;

        g_assert_true(move_handshake(m));
        id = g_strdup(m->channel[0]->migration_id);
        move_collect(m);
        g_assert_true(move_stage(m, m->chunks));
        ready = move_validate(m);
        g_assert_cmpint(msc_client_release(m->client[0], PROOF(ready), &release,
                                           NULL),
                        ==, MSC_RELEASE_SENT);
        pair_stop_daemon(pair, 0);
        pair_stop_daemon(pair, 1);
        pair_start_daemon(pair, 0);
        pair_start_daemon(pair, 1);
        g_assert_cmpint(verdict(m, 0, id), ==, MSC_VERDICT_PENDING);
        g_assert_cmpint(verdict(m, 1, id), ==, MSC_VERDICT_PENDING);
        g_assert_false(msc_client_thaw(m->client[0], "test", NULL));
        g_assert_cmpint(pair_cli(pair, there, "resolve " PAIR_VM " --here"), ==,
                        1);
        g_assert_cmpint(verdict(m, there, id), ==, MSC_VERDICT_PENDING);
        code = give_up(pair, !there);
        again = give_up(pair, !there);
        g_assert_cmpstr(code, ==, again);
        again[0] = again[0] == '0' ? '1' : '0';
        g_assert_cmpint(pair_cli(pair, there,
                                 "resolve " PAIR_VM " --here --code %s", again),
                        ==, 1);
        g_assert_cmpint(pair_cli(pair, there,
                                 "resolve " PAIR_VM " --here --code %s0", code),
                        ==, 1);
        g_assert_cmpint(verdict(m, there, id), ==, MSC_VERDICT_PENDING);
        g_assert_cmpint(pair_cli(pair, there,
                                 "resolve " PAIR_VM " --here --code %s", code),
                        ==, 0);
        g_assert_cmpint(verdict(m, 0, id), ==,
                        there ? MSC_VERDICT_DISCARD : MSC_VERDICT_RUN);
        g_assert_cmpint(verdict(m, 1, id), ==,
                        there ? MSC_VERDICT_RUN : MSC_VERDICT_DISCARD);
        g_assert_cmpint(pair_count_flows(pair, 0), ==, there ? 0 : PAIR_FLOWS);
        g_assert_cmpint(pair_count_flows(pair, 1), ==, there ? PAIR_FLOWS : 0);
        move_free(m);
        pair_free(pair);
    }
}

static void assert_says(Pair *pair, int host, int status, const char *arguments,
                        const char *words)
{
    g_autofree char *o = pair_options(pair, host);
    g_autofree char *command =
        g_strdup_printf("ip netns exec %s %s resolve " PAIR_VM " %s %s",
                        pair->netns[host], g_getenv("MIGRATION_SC"), arguments,
                        o);
    g_autofree char *out = NULL, *err = NULL;
    int got;

    g_assert_true(g_spawn_command_line_sync(command, &out, &err, &got, NULL));
    g_assert_cmpint(WEXITSTATUS(got), ==, status);
    if (!strstr(status ? err : out, words)) {
        g_error("'%s' does not say '%s': %s%s", arguments, words, out, err);
    }
}

/* Whoever was told may be told again, also a helper that died in it; but not
 * the opposite. */
static void test_resolve_is_repeated(void)
{
    for (int there = 0; there < 2; there++) {
        Pair *pair = pair_new();
        Move *m = move_new(pair, 0);
        g_autoptr(GBytes) ready = NULL;
        g_autoptr(GBytes) release = NULL;
        g_autofree char *code = NULL;
        g_autofree char *here = NULL;

        assert_says(pair, there, 1, "--here", "knows no migration");
        assert_says(pair, there, 1, "--there", "knows no migration");
        g_assert_true(move_handshake(m));
        assert_says(pair, 0, 1, "--here", "nothing to decide");
        move_collect(m);
        g_assert_true(move_stage(m, m->chunks));
        ready = move_validate(m);
        g_assert_cmpint(msc_client_release(m->client[0], PROOF(ready), &release,
                                           NULL),
                        ==, MSC_RELEASE_SENT);
        code = give_up(pair, !there);
        here = g_strconcat("--here --code ", code, NULL);
        assert_says(pair, there, 0, here, "this host's:");
        for (int again = 0; again < 2; again++) {
            assert_says(pair, there, 0, here, "this host's already:");
            assert_says(pair, there, 0, "--here",
                        there ? "from 'host0' is committed: resolved"
                              : "to 'host1' is thawed: resolved");
            assert_says(pair, there, 1, "--there", "cannot give it up");
            assert_says(pair, !there, 0, "--there", "given up here already:");
            assert_says(pair, !there, 0, "--there", code);
            assert_says(pair, !there, 1, "--here --force", "take it back");
            pair_stop_daemon(pair, 0);
            pair_start_daemon(pair, 0);
            pair_stop_daemon(pair, 1);
            pair_start_daemon(pair, 1);
        }
        g_assert_cmpint(pair_count_flows(pair, 0), ==, there ? 0 : PAIR_FLOWS);
        g_assert_cmpint(pair_count_flows(pair, 1), ==, there ? PAIR_FLOWS : 0);
        move_free(m);
        pair_free(pair);
    }
}

/* Nothing was cut: each host knows whose the guest is, by the last of its
 * migrations and not by an older one. */
static void test_resolve_of_what_ended_well(void)
{
    Pair *pair = pair_new();

    pair_migrate(pair, 0);
    assert_says(pair, 0, 1, "--here", "is finished");
    assert_says(pair, 1, 0, "--here", "is committed");
    pair_migrate(pair, 1);
    assert_says(pair, 0, 0, "--here", "is committed");
    assert_says(pair, 0, 1, "--there", "is committed");
    assert_says(pair, 1, 1, "--here", "is finished");
    assert_says(pair, 1, 0, "--there", "--code");
    pair_free(pair);
}

/* The other host is lost for good: the operator takes the guest by force. */
static void test_lost_host(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);
    g_autoptr(GBytes) ready = NULL;
    g_autoptr(GBytes) release = NULL;
    g_autofree char *id = NULL;

    g_assert_true(move_handshake(m));
    id = g_strdup(m->channel[0]->migration_id);
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_cmpint(msc_client_release(m->client[0], PROOF(ready), &release,
                                       NULL),
                    ==, MSC_RELEASE_SENT);
    pair_stop_daemon(pair, 1);
    g_assert_cmpint(pair_cli(pair, 0, "resolve " PAIR_VM " --here"), ==, 1);
    g_assert_cmpint(verdict(m, 0, id), ==, MSC_VERDICT_PENDING);
    g_assert_cmpint(pair_cli(pair, 0, "resolve " PAIR_VM " --here --force"), ==,
                    0);
    g_assert_cmpint(verdict(m, 0, id), ==, MSC_VERDICT_RUN);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
    move_free(m);
    pair_free(pair);
}

/* The helpers are restarted between READY and DONE; nothing is lost. */
static void test_restart_in_switchover(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);
    g_autoptr(GBytes) ready = NULL;

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    pair_stop_daemon(pair, 1);
    pair_start_daemon(pair, 1);
    move_finish(m, ready);
    move_free(m);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, 0);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS);
    pair_free(pair);
}

/* Either helper dies before RELEASE: the source keeps the guest. */
static void test_crash_before_release(void)
{
    for (int host = 0; host < 2; host++) {
        Pair *pair = pair_new();
        Move *m = move_new(pair, 0);
        g_autoptr(GBytes) ready = NULL;
        g_autoptr(GBytes) release = NULL;
        g_autofree char *id = NULL;

        g_assert_true(move_handshake(m));
        id = g_strdup(m->channel[0]->migration_id);
        move_collect(m);
        g_assert_true(move_stage(m, m->chunks));
        pair_stop_daemon(pair, host);
        pair_start_daemon(pair, host);
        ready = move_validate(m);
        g_assert_true((ready != NULL) == (host == 0));
        if (ready) {
            /* The destination is ready, but the source has forgotten. */
            g_assert_cmpint(msc_client_release(m->client[0], PROOF(ready),
                                               &release, NULL),
                            ==, MSC_RELEASE_REFUSED);
        }
        g_assert_cmpint(verdict(m, 0, id), ==, MSC_VERDICT_RUN);
        if (ready) {
            g_assert_cmpint(verdict(m, 1, id), ==, MSC_VERDICT_PENDING);
            g_assert_cmpint(pair_cli(pair, 1, "resolve " PAIR_VM " --there"),
                            ==, 0);
        }
        g_assert_cmpint(verdict(m, 1, id), ==, MSC_VERDICT_DISCARD);
        move_free(m);
        g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
        g_assert_cmpint(pair_count_flows(pair, 1), ==, 0);
        pair_free(pair);
    }
}

/* QEMU of the destination dies before READY: nothing half-installed stays. */
static void test_qemu_gone(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    g_clear_pointer(&m->client[1], msc_client_unref);
    g_assert_true(msc_client_thaw(m->client[0], "test", &m->err[0]));
    move_free(m);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, 0);
    pair_migrate(pair, 0);
    pair_free(pair);
}

/* Is @text in what "status" says? */
static bool status_says(Pair *pair, int host, const char *text)
{
    g_autofree char *o = pair_options(pair, host);

    return pair_run("ip netns exec %s %s status %s | grep -q -- '%s'",
                    pair->netns[host], g_getenv("MIGRATION_SC"), o, text) == 0;
}

/* READY, but the source goes on: a new migration from it settles the old
 * one; one from elsewhere does not. */
static void test_new_migration_settles_ready(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);
    g_autoptr(GBytes) ready = NULL;

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_nonnull(ready);
    g_assert_true(msc_client_thaw(m->client[0], "test", &m->err[0]));
    move_free(m);
    g_assert_true(status_says(pair, 1, "no RELEASE came"));
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS);

    /* Under another name the same host is another. */
    g_assert_cmpint(pair_cli(pair, 1, "peer remove host0"), ==, 0);
    g_assert_cmpint(pair_cli(pair, 1, "peer add stranger %s/0/etc/identity.pub",
                             pair->dir),
                    ==, 0);
    m = move_new(pair, 0);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[0]->message, "has not ended"));
    move_free(m);
    g_assert_true(status_says(pair, 0, "has not ended"));
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS);

    g_assert_cmpint(pair_cli(pair, 1, "peer remove stranger"), ==, 0);
    g_assert_cmpint(pair_cli(pair, 1, "peer add host0 %s/0/etc/identity.pub",
                             pair->dir),
                    ==, 0);
    pair_migrate(pair, 0);
    g_assert_true(status_says(pair, 1, "began another migration"));
    pair_free(pair);
}

/* DONE is lost: the source is settled when the guest comes back. */
static void test_return_settles_released(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);
    g_autoptr(GBytes) ready = NULL;
    g_autoptr(GBytes) release = NULL;
    g_autoptr(GBytes) done = NULL;
    g_autoptr(GError) err = NULL;
    MscClient *again;

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_cmpint(msc_client_release(m->client[0], PROOF(ready), &release,
                                       NULL),
                    ==, MSC_RELEASE_SENT);
    g_assert_true(msc_client_commit(m->client[1], PROOF(release), &done, NULL));
    again = msc_client_open(m->sock[0], MSC_ROLE_SOURCE, PAIR_VM, 0, &err);
    g_assert_null(again); /* what was given away cannot be sent */
    g_assert_nonnull(strstr(err->message, "has not ended"));
    move_free(m);
    g_assert_true(status_says(pair, 0, "no receipt came"));
    pair_migrate(pair, 1);
    pair_free(pair);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (geteuid() != 0) {
        g_print("1..0 # SKIP needs root for network namespaces\n");
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/handoff-cut/lost-release", test_lost_release);
    g_test_add_func("/handoff-cut/resolve-is-repeated",
                    test_resolve_is_repeated);
    g_test_add_func("/handoff-cut/resolve-of-what-ended-well",
                    test_resolve_of_what_ended_well);
    g_test_add_func("/handoff-cut/lost-host", test_lost_host);
    g_test_add_func("/handoff-cut/restart-in-switchover",
                    test_restart_in_switchover);
    g_test_add_func("/handoff-cut/crash-before-release",
                    test_crash_before_release);
    g_test_add_func("/handoff-cut/qemu-gone", test_qemu_gone);
    g_test_add_func("/handoff-cut/new-migration-settles-ready",
                    test_new_migration_settles_ready);
    g_test_add_func("/handoff-cut/return-settles-released",
                    test_return_settles_released);
    return g_test_run();
}
