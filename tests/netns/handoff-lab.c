/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "handoff-lab.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int pair_run(const char *format, ...)
{
    g_autofree char *command = NULL;
    va_list args;
    int status;

    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

char *pair_options(Pair *pair, int host)
{
    return g_strdup_printf("--config-dir %s/%d/etc --runtime-dir %s/%d/run "
                           "--state-dir %s/%d/var",
                           pair->dir, host, pair->dir, host, pair->dir, host);
}

int pair_cli(Pair *pair, int host, const char *format, ...)
{
    g_autofree char *o = pair_options(pair, host);
    g_autofree char *command = NULL;
    va_list args;

    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    return pair_run("ip netns exec %s %s %s %s >/dev/null 2>&1",
                    pair->netns[host], g_getenv("MIGRATION_SC"), command, o);
}

/* What a command that succeeds prints. */
char *pair_cli_output(Pair *pair, int host, const char *format, ...)
{
    g_autofree char *o = pair_options(pair, host);
    g_autofree char *arguments = NULL;
    g_autofree char *command = NULL;
    g_autoptr(GError) err = NULL;
    char *out = NULL;
    va_list args;
    int status;

    va_start(args, format);
    arguments = g_strdup_vprintf(format, args);
    va_end(args);
    command = g_strdup_printf("ip netns exec %s %s %s %s", pair->netns[host],
                              g_getenv("MIGRATION_SC"), arguments, o);
    g_assert_true(
        g_spawn_command_line_sync(command, &out, NULL, &status, &err));
    g_assert_cmpint(status, ==, 0);
    return out;
}

/* A test that aborts must not leave daemons behind. */
static void die_with_parent(gpointer opaque)
{
    (void)opaque;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void pair_start_daemon(Pair *pair, int host)
{
    g_autofree char *o = pair_options(pair, host);
    g_autofree char *command =
        g_strdup_printf("ip netns exec %s %s %s", pair->netns[host],
                        g_getenv("MIGRATION_SCD"), o);
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) err = NULL;

    g_shell_parse_argv(command, NULL, &argv, NULL);
    g_spawn_async(NULL, argv, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                      G_SPAWN_STDERR_TO_DEV_NULL | G_SPAWN_STDOUT_TO_DEV_NULL,
                  die_with_parent, NULL, &pair->daemon[host], &err);
    g_assert_no_error(err);
    for (int i = 0; pair_cli(pair, host, "status"); i++) {
        g_assert_cmpint(i, <, 100);
        g_usleep(50 * 1000);
    }
}

void pair_stop_daemon(Pair *pair, int host)
{
    kill(pair->daemon[host], SIGKILL);
    waitpid(pair->daemon[host], NULL, 0);
    pair->daemon[host] = 0;
}

Pair *pair_new_of(const char *guest)
{
    Pair *pair = g_new0(Pair, 1);

    pair->dir = g_dir_make_tmp("msc-handoff-XXXXXX", NULL);
    for (int h = 0; h < 2; h++) {
        pair->netns[h] = g_strdup_printf("msc-%d-%d", getpid(), h);
        PAIR_MUST("ip netns add %s", pair->netns[h]);
        /* A stateful rule makes the kernel track, and count, connections. */
        PAIR_MUST(
            "ip netns exec %s nft 'add table inet t; add chain inet t f "
            "{ type filter hook forward priority 0; }; add rule inet t f "
            "ct state established accept; add table ip n; add chain ip n p "
            "{ type nat hook postrouting priority 100; }'",
            pair->netns[h]);
        g_assert_cmpint(pair_cli(pair, h, "keygen --name host%d", h), ==, 0);
        g_assert_cmpint(pair_cli(pair, h, "vm add " PAIR_VM " --name guest %s",
                                 guest),
                        ==, 0);
    }
    for (int h = 0; h < 2; h++) {
        g_assert_cmpint(pair_cli(pair, h,
                                 "peer add host%d %s/%d/etc/identity.pub",
                                 1 - h, pair->dir, 1 - h),
                        ==, 0);
    }
    pair_start_daemon(pair, 0);
    pair_start_daemon(pair, 1);
    return pair;
}

Pair *pair_new(void)
{
    Pair *pair = pair_new_of("--address 10.20.0.10 "
                             "--nat-address 203.0.113.10");

    for (int i = 0; i < PAIR_FLOWS; i++) {
        PAIR_MUST(
            "ip netns exec %s conntrack -I -p tcp -s 10.20.0.10 -d 192.0.2.5 "
            "--sport %d --dport 80 --state ESTABLISHED -t 4000 "
            "-u SEEN_REPLY,ASSURED %s >/dev/null 2>&1",
            pair->netns[0], 1000 + i, i % 2 ? "-n 203.0.113.10" : "");
    }
    return pair;
}

void pair_free(Pair *pair)
{
    for (int h = 0; h < 2; h++) {
        if (pair->daemon[h]) {
            pair_stop_daemon(pair, h);
        }
        pair_run("ip netns del %s", pair->netns[h]);
        g_free(pair->netns[h]);
    }
    pair_run("rm -rf '%s'", pair->dir);
    g_free(pair->dir);
    g_free(pair);
}

int pair_count_flows(Pair *pair, int host)
{
    g_autofree char *command =
        g_strdup_printf("ip netns exec %s conntrack -L 2>/dev/null | wc -l",
                        pair->netns[host]);
    FILE *f = popen(command, "r");
    int n = -1;

    g_assert_nonnull(f);
    g_assert_cmpint(fscanf(f, "%d", &n), ==, 1);
    pclose(f);
    return n;
}

void *move_handshake_thread(void *opaque)
{
    Move *m = opaque;

    m->channel[1] =
        msc_client_handshake(m->client[1], m->fd[1], (MscChannelKind)0, 0, NULL,
                             0, &m->err[1]);
    shutdown(m->fd[1], m->channel[1] ? -1 : SHUT_RDWR);
    return NULL;
}

Move *move_new_of(Pair *pair, const char *vm, int from)
{
    Move *m = g_new0(Move, 1);

    m->chunks = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, m->fd), ==, 0);
    for (int i = 0; i < 2; i++) {
        int host = i ? 1 - from : from;

        m->sock[i] = g_strdup_printf("%s/%d/run/helper.sock", pair->dir, host);
        m->client[i] =
            msc_client_open(m->sock[i],
                            i ? MSC_ROLE_DESTINATION : MSC_ROLE_SOURCE, vm, 0,
                            &m->err[i]);
    }
    return m;
}

Move *move_new(Pair *pair, int from)
{
    return move_new_of(pair, PAIR_VM, from);
}

bool move_handshake(Move *m)
{
    GThread *thread;

    g_assert_no_error(m->err[0]);
    g_assert_no_error(m->err[1]);
    thread = g_thread_new("destination", move_handshake_thread, m);
    m->channel[0] =
        msc_client_handshake(m->client[0], m->fd[0], MSC_CHANNEL_MAIN, 0,
                             m->expected_peer, 0, &m->err[0]);
    if (!m->channel[0]) {
        shutdown(m->fd[0], SHUT_RDWR);
    }
    g_thread_join(thread);
    for (int i = 0; i < 2; i++) {
        g_test_message("handshake of host %d: %s", i,
                       m->err[i] ? m->err[i]->message : "done");
    }
    return m->channel[0] && m->channel[1];
}

void move_collect_of(Move *m, guint flows)
{
    MscContextStats stats;
    GBytes *chunk;
    int n;

    g_assert_true(msc_client_freeze(m->client[0], &stats, &m->err[0]));
    g_assert_cmpuint(stats.flows, ==, flows);
    while ((n = msc_client_collect(m->client[0], &chunk, &m->err[0])) == 1) {
        g_ptr_array_add(m->chunks, chunk);
    }
    g_assert_no_error(m->err[0]);
    g_assert_cmpint(n, ==, 0);
}

void move_collect(Move *m)
{
    move_collect_of(m, PAIR_FLOWS);
}

bool move_stage(Move *m, GPtrArray *chunks)
{
    for (guint i = 0; i < chunks->len; i++) {
        gsize len;
        const void *data = g_bytes_get_data(chunks->pdata[i], &len);

        if (!msc_client_stage(m->client[1], data, len, &m->err[1])) {
            return false;
        }
    }
    return true;
}

GBytes *move_validate(Move *m)
{
    MscContextStats stats;
    GBytes *ready = NULL;

    if (!msc_client_validate(m->client[1], &stats, &m->err[1]) ||
        !msc_client_ready(m->client[1], &ready, &m->err[1])) {
        return NULL;
    }
    return ready;
}

void move_finish(Move *m, GBytes *ready)
{
    g_autoptr(GBytes) release = NULL;
    g_autoptr(GBytes) done = NULL;

    g_assert_cmpint(msc_client_release(m->client[0], PROOF(ready), &release,
                                       &m->err[0]),
                    ==, MSC_RELEASE_SENT);
    g_assert_true(
        msc_client_commit(m->client[1], PROOF(release), &done, &m->err[1]));
    g_assert_true(msc_client_finish(m->client[0], PROOF(done), &m->err[0]));
}

void move_free(Move *m)
{
    for (int i = 0; i < 2; i++) {
        msc_client_unref(m->client[i]);
        msc_channel_free(m->channel[i]);
        close(m->fd[i]);
        g_free(m->sock[i]);
        g_clear_error(&m->err[i]);
    }
    g_ptr_array_unref(m->chunks);
    g_free(m);
}

void pair_migrate_of(Pair *pair, int from, guint flows)
{
    Move *m = move_new(pair, from);
    g_autoptr(GBytes) ready = NULL;

    g_assert_true(move_handshake(m));
    move_collect_of(m, flows);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_no_error(m->err[1]);
    move_finish(m, ready);
    move_free(m);
}

void pair_migrate(Pair *pair, int from)
{
    pair_migrate_of(pair, from, PAIR_FLOWS);
    g_assert_cmpint(pair_count_flows(pair, from), ==, 0);
    g_assert_cmpint(pair_count_flows(pair, 1 - from), ==, PAIR_FLOWS);
}

void pair_load_rules(Pair *pair, int host, guint count)
{
    g_autofree char *path = g_build_filename(pair->dir, "rules", NULL);
    g_autoptr(GString) text =
        g_string_new("table inet guest { }\ndelete table inet guest\n"
                     "table inet guest {\n set blocked { type ipv4_addr\n"
                     "  elements = { ");

    for (guint i = 0; i < count; i++) {
        g_string_append_printf(text, "%s11.0.%u.%u", i ? ", " : "", i >> 8,
                               i & 255);
    }
    g_string_append(text, " }\n }\n chain f {\n"
                          "  type filter hook forward priority 0\n"
                          "  ip saddr 10.20.0.10 ip daddr @blocked drop\n"
                          " }\n}\n");
    g_assert_true(g_file_set_contents(path, text->str, -1, NULL));
    PAIR_MUST("ip netns exec %s nft -f %s", pair->netns[host], path);
}

char *pair_rules(Pair *pair, int host)
{
    g_autofree char *command =
        g_strdup_printf("ip netns exec %s nft list ruleset", pair->netns[host]);
    g_autoptr(GError) err = NULL;
    char *out = NULL;
    int status;

    g_assert_true(
        g_spawn_command_line_sync(command, &out, NULL, &status, &err));
    g_assert_cmpint(status, ==, 0);
    return out;
}
