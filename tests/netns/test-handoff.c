/*
 * Two daemons, two kernels' worth of conntrack, and a test in QEMU's place:
 *
 *      test (both QEMUs) ---- socketpair: the migration stream
 *        |                        |
 *   helper.sock                helper.sock
 *   netns A: migration-scd     netns B: migration-scd
 *   conntrack of the guest     empty
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <migration-sc/helper-client.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"

#define VM "11111111-2222-3333-4444-555555555555"
#define VM2 "22222222-2222-3333-4444-555555555555"
#define FLOWS 8

typedef struct {
    char *dir, *netns[2];
    GPid daemon[2];
} Lab;

static int G_GNUC_PRINTF(1, 2) run(const char *format, ...)
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

#define MUST(...) g_assert_cmpint(run(__VA_ARGS__), ==, 0)

static char *options(Lab *lab, int host)
{
    return g_strdup_printf("--config-dir %s/%d/etc --runtime-dir %s/%d/run "
                           "--state-dir %s/%d/var",
                           lab->dir, host, lab->dir, host, lab->dir, host);
}

static int G_GNUC_PRINTF(3, 4) cli(Lab *lab, int host, const char *format, ...)
{
    g_autofree char *o = options(lab, host);
    g_autofree char *command = NULL;
    va_list args;

    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    return run("ip netns exec %s %s %s %s >/dev/null 2>&1", lab->netns[host],
               g_getenv("MIGRATION_SC"), command, o);
}

/* What a command that succeeds prints. */
static char *G_GNUC_PRINTF(3, 4)
    cli_output(Lab *lab, int host, const char *format, ...)
{
    g_autofree char *o = options(lab, host);
    g_autofree char *arguments = NULL;
    g_autofree char *command = NULL;
    g_autoptr(GError) err = NULL;
    char *out = NULL;
    va_list args;
    int status;

    va_start(args, format);
    arguments = g_strdup_vprintf(format, args);
    va_end(args);
    command = g_strdup_printf("ip netns exec %s %s %s %s", lab->netns[host],
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

static void start_daemon(Lab *lab, int host)
{
    g_autofree char *o = options(lab, host);
    g_autofree char *command =
        g_strdup_printf("ip netns exec %s %s %s", lab->netns[host],
                        g_getenv("MIGRATION_SCD"), o);
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) err = NULL;

    g_shell_parse_argv(command, NULL, &argv, NULL);
    g_spawn_async(NULL, argv, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                      G_SPAWN_STDERR_TO_DEV_NULL | G_SPAWN_STDOUT_TO_DEV_NULL,
                  die_with_parent, NULL, &lab->daemon[host], &err);
    g_assert_no_error(err);
    for (int i = 0; cli(lab, host, "status"); i++) {
        g_assert_cmpint(i, <, 100);
        g_usleep(50 * 1000);
    }
}

static void stop_daemon(Lab *lab, int host)
{
    kill(lab->daemon[host], SIGKILL);
    waitpid(lab->daemon[host], NULL, 0);
    lab->daemon[host] = 0;
}

static Lab *lab_new(void)
{
    Lab *lab = g_new0(Lab, 1);

    lab->dir = g_dir_make_tmp("msc-handoff-XXXXXX", NULL);
    for (int h = 0; h < 2; h++) {
        lab->netns[h] = g_strdup_printf("msc-%d-%d", getpid(), h);
        MUST("ip netns add %s", lab->netns[h]);
        /* A stateful rule makes the kernel track, and count, connections. */
        MUST("ip netns exec %s nft 'add table inet t; add chain inet t f "
             "{ type filter hook forward priority 0; }; add rule inet t f "
             "ct state established accept; add table ip n; add chain ip n p "
             "{ type nat hook postrouting priority 100; }'",
             lab->netns[h]);
        g_assert_cmpint(cli(lab, h, "keygen --name host%d", h), ==, 0);
        g_assert_cmpint(cli(lab, h,
                            "vm add " VM " --name guest --address "
                            "10.20.0.10 --nat-address 203.0.113.10"),
                        ==, 0);
    }
    for (int h = 0; h < 2; h++) {
        g_assert_cmpint(cli(lab, h, "peer add host%d %s/%d/etc/identity.pub",
                            1 - h, lab->dir, 1 - h),
                        ==, 0);
    }
    for (int i = 0; i < FLOWS; i++) {
        MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.10 -d 192.0.2.5 "
             "--sport %d --dport 80 --state ESTABLISHED -t 4000 "
             "-u SEEN_REPLY,ASSURED %s >/dev/null 2>&1",
             lab->netns[0], 1000 + i, i % 2 ? "-n 203.0.113.10" : "");
    }
    start_daemon(lab, 0);
    start_daemon(lab, 1);
    return lab;
}

static void lab_free(Lab *lab)
{
    for (int h = 0; h < 2; h++) {
        if (lab->daemon[h]) {
            stop_daemon(lab, h);
        }
        run("ip netns del %s", lab->netns[h]);
        g_free(lab->netns[h]);
    }
    run("rm -rf '%s'", lab->dir);
    g_free(lab->dir);
    g_free(lab);
}

static int count_flows(Lab *lab, int host)
{
    g_autofree char *command =
        g_strdup_printf("ip netns exec %s conntrack -L 2>/dev/null | wc -l",
                        lab->netns[host]);
    FILE *f = popen(command, "r");
    int n = -1;

    g_assert_nonnull(f);
    g_assert_cmpint(fscanf(f, "%d", &n), ==, 1);
    pclose(f);
    return n;
}

/* Both QEMUs of one migration. */
typedef struct {
    MscClient *client[2];
    MscChannel *channel[2];
    int fd[2];
    char *sock[2];
    GError *err[2];
    GPtrArray *chunks;
    const char *expected_peer;
} Move;

static void *handshake_thread(void *opaque)
{
    Move *m = opaque;

    m->channel[1] =
        msc_client_handshake(m->client[1], m->fd[1], (MscChannelKind)0, 0, NULL,
                             0, &m->err[1]);
    shutdown(m->fd[1], m->channel[1] ? -1 : SHUT_RDWR);
    return NULL;
}

static Move *move_new_of(Lab *lab, const char *vm, int from)
{
    Move *m = g_new0(Move, 1);

    m->chunks = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, m->fd), ==, 0);
    for (int i = 0; i < 2; i++) {
        int host = i ? 1 - from : from;

        m->sock[i] = g_strdup_printf("%s/%d/run/helper.sock", lab->dir, host);
        m->client[i] =
            msc_client_open(m->sock[i],
                            i ? MSC_ROLE_DESTINATION : MSC_ROLE_SOURCE, vm, 0,
                            &m->err[i]);
    }
    return m;
}

static Move *move_new(Lab *lab, int from)
{
    return move_new_of(lab, VM, from);
}

static bool move_handshake(Move *m)
{
    GThread *thread;

    g_assert_no_error(m->err[0]);
    g_assert_no_error(m->err[1]);
    thread = g_thread_new("destination", handshake_thread, m);
    m->channel[0] =
        msc_client_handshake(m->client[0], m->fd[0], MSC_CHANNEL_MAIN, 0,
                             m->expected_peer, 0, &m->err[0]);
    if (!m->channel[0]) {
        shutdown(m->fd[0], SHUT_RDWR);
    }
    g_thread_join(thread);
    return m->channel[0] && m->channel[1];
}

static void move_collect(Move *m)
{
    MscContextStats stats;
    GBytes *chunk;
    int n;

    g_assert_true(msc_client_freeze(m->client[0], &stats, &m->err[0]));
    g_assert_cmpuint(stats.flows, ==, FLOWS);
    while ((n = msc_client_collect(m->client[0], &chunk, &m->err[0])) == 1) {
        g_ptr_array_add(m->chunks, chunk);
    }
    g_assert_no_error(m->err[0]);
    g_assert_cmpint(n, ==, 0);
}

static bool move_stage(Move *m, GPtrArray *chunks)
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

static GBytes *move_validate(Move *m)
{
    MscContextStats stats;
    GBytes *ready = NULL;

    return msc_client_validate(m->client[1], &ready, &stats, &m->err[1]) ? ready
                                                                         : NULL;
}

#define PROOF(bytes) g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)

static void move_finish(Move *m, GBytes *ready)
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

static void move_free(Move *m)
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

static void migrate(Lab *lab, int from)
{
    Move *m = move_new(lab, from);
    g_autoptr(GBytes) ready = NULL;

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_nonnull(ready);
    move_finish(m, ready);
    move_free(m);
    g_assert_cmpint(count_flows(lab, from), ==, 0);
    g_assert_cmpint(count_flows(lab, 1 - from), ==, FLOWS);
}

static void test_there_and_back(void)
{
    Lab *lab = lab_new();

    for (int i = 0; i < 6; i++) {
        migrate(lab, i % 2);
    }
    lab_free(lab);
}

/* One more channel; false if either side refuses it. */
static bool move_further(Move *m, uint32_t number)
{
    GThread *thread;

    for (int i = 0; i < 2; i++) {
        g_clear_pointer(&m->channel[i], msc_channel_free);
        close(m->fd[i]);
    }
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, m->fd), ==, 0);
    thread = g_thread_new("destination", handshake_thread, m);
    m->channel[0] =
        msc_client_handshake(m->client[0], m->fd[0], MSC_CHANNEL_MULTIFD,
                             number, NULL, 0, &m->err[0]);
    if (!m->channel[0]) {
        shutdown(m->fd[0], SHUT_RDWR);
    }
    g_thread_join(thread);
    return m->channel[0] && m->channel[1];
}

static void test_further_channels(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);

    g_assert_true(move_handshake(m));
    for (uint32_t i = 0; i < 4; i++) {
        g_assert_true(move_further(m, i));
        g_assert_cmpint(m->channel[1]->kind, ==, MSC_CHANNEL_MULTIFD);
        g_assert_cmpuint(m->channel[1]->number, ==, i);
    }
    move_free(m);
    lab_free(lab);
}

/* Without a restart, and in a session that began before. */
static void test_trust_ends_in_a_session(void)
{
    static const struct {
        int host;            /* the source is host 0 */
        const char *command; /* a key file may follow */
        bool key_file;
        const char *why;
    } rows[] = {
        { 1, "peer revoke host0", false, "revoked" },
        { 0, "peer revoke host1", false, "revoked" },
        { 1, "peer remove host0", false, "unknown host" },
        { 1, "peer add --expires 2020-01-31T00:00:00Z host0", true,
          "expired at 2020-01-31T00:00:00Z" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Lab *lab = lab_new();
        Move *m = move_new(lab, 0);
        g_autofree char *key =
            g_strdup_printf("%s/0/etc/identity.pub", lab->dir);

        g_assert_true(move_handshake(m));
        g_assert_true(move_further(m, 0));
        g_assert_cmpint(cli(lab, rows[i].host, "%s %s", rows[i].command,
                            rows[i].key_file ? key : ""),
                        ==, 0);
        g_assert_false(move_further(m, 1));
        g_assert_nonnull(strstr(m->err[rows[i].host]->message, rows[i].why));
        move_free(m);
        /* Nor does it begin another one. */
        m = move_new(lab, 0);
        g_assert_false(move_handshake(m));
        g_assert_nonnull(strstr(m->err[rows[i].host]->message, rows[i].why));
        move_free(m);
        lab_free(lab);
    }
}

static void test_unknown_peer(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);

    g_assert_cmpint(cli(lab, 1, "peer remove host0"), ==, 0);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[1]->message, "unknown host"));
    g_assert_null(strstr(m->err[0]->message, "host1"));
    move_free(m);
    g_assert_cmpint(count_flows(lab, 0), ==, FLOWS);
    lab_free(lab);
}

static void test_unexpected_peer(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);

    m->expected_peer = "somebody-else";
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[0]->message, "somebody-else"));
    move_free(m);
    lab_free(lab);
}

static void test_unregistered_vm(void)
{
    Lab *lab = lab_new();
    Move *m;

    g_assert_cmpint(cli(lab, 1, "vm remove " VM), ==, 0);
    m = move_new(lab, 0);
    g_assert_null(m->client[1]);
    g_assert_nonnull(strstr(m->err[1]->message, "not registered"));
    move_free(m);
    lab_free(lab);
}

static void test_nat_clash(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);

    MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.77 -d 192.0.2.5 "
         "--sport 1001 --dport 80 --state ESTABLISHED -t 4000 "
         "-u SEEN_REPLY,ASSURED -n 203.0.113.10 >/dev/null 2>&1",
         lab->netns[1]);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[0]->message, "clashes with tcp "
                                                "10.20.0.77:1001"));
    move_free(m);
    g_assert_cmpint(count_flows(lab, 0), ==, FLOWS);
    lab_free(lab);
}

static void test_nat_address_stays(void)
{
    Lab *lab = lab_new();
    Move *m;

    g_assert_cmpint(cli(lab, 1, "vm remove " VM), ==, 0);
    g_assert_cmpint(cli(lab, 1,
                        "vm add " VM " --name guest --address "
                        "10.20.0.10"),
                    ==, 0);
    m = move_new(lab, 0);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[0]->message, "does not move"));
    move_free(m);

    /* No silent change of a registration. */
    g_assert_cmpint(cli(lab, 0,
                        "vm add " VM " --name guest --address "
                        "10.20.0.0/16"),
                    !=, 0);
    g_assert_cmpint(cli(lab, 0,
                        "vm add " VM " --name guest --address "
                        "10.20.0.10 --nat-address 203.0.113.10"),
                    ==, 0);
    g_assert_cmpint(cli(lab, 0, "vm remove " VM), ==, 0);
    g_assert_cmpint(cli(lab, 0,
                        "vm add " VM " --name guest --address "
                        "10.20.0.10 --nat-address 203.0.113.10 "
                        "--nat-policy leave-behind"),
                    ==, 0);
    m = move_new(lab, 0);
    g_assert_true(move_handshake(m));
    {
        MscContextStats stats;

        g_assert_true(msc_client_freeze(m->client[0], &stats, NULL));
        g_assert_cmpuint(stats.flows, ==, FLOWS / 2);
        g_assert_cmpuint(stats.left_behind, ==, FLOWS / 2);
    }
    move_free(m);
    lab_free(lab);
}

static void test_context_attacks(void)
{
    Lab *lab = lab_new();
    g_autoptr(GPtrArray) old = NULL;
    Move *m = move_new(lab, 0);
    g_autofree uint8_t *changed = NULL;
    g_autoptr(GBytes) bytes = NULL;
    gsize len;

    /* A migration that is given up; its context is kept by the attacker. */
    g_assert_true(move_handshake(m));
    move_collect(m);
    old = g_ptr_array_ref(m->chunks);
    g_assert_true(msc_client_thaw(m->client[0], "test", &m->err[0]));
    move_free(m);

    m = move_new(lab, 0);
    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_false(move_stage(m, old)); /* replayed */
    g_assert_error(m->err[1], MSC_ERROR, MSC_ERROR_AUTH);
    g_clear_error(&m->err[1]);
    g_assert_null(move_validate(m));
    move_free(m);

    m = move_new(lab, 0);
    g_assert_true(move_handshake(m));
    move_collect(m);
    bytes = g_bytes_ref(m->chunks->pdata[0]);
    changed = g_memdup2(g_bytes_get_data(bytes, &len), g_bytes_get_size(bytes));
    len = g_bytes_get_size(bytes);
    changed[len / 2] ^= 1;
    g_assert_false(msc_client_stage(m->client[1], changed, len, NULL));
    move_free(m);

    m = move_new(lab, 0);
    g_assert_true(move_handshake(m));
    move_collect(m);
    g_ptr_array_remove_index(m->chunks, m->chunks->len - 1); /* no END */
    g_assert_true(move_stage(m, m->chunks));
    g_assert_null(move_validate(m));
    g_assert_nonnull(strstr(m->err[1]->message, "END"));
    move_free(m);

    g_assert_cmpint(count_flows(lab, 0), ==, FLOWS);
    g_assert_cmpint(count_flows(lab, 1), ==, 0);
    migrate(lab, 0); /* the control */
    lab_free(lab);
}

static void test_forged_proofs(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);
    g_autoptr(GBytes) ready = NULL;
    g_autoptr(GBytes) release = NULL;
    g_autoptr(GBytes) done = NULL;
    g_autofree uint8_t *forged = NULL;
    gsize len;

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    len = g_bytes_get_size(ready);
    forged = g_memdup2(g_bytes_get_data(ready, NULL), len);
    forged[len - 1] ^= 1;
    g_assert_cmpint(msc_client_release(m->client[0], forged, len, &release,
                                       NULL),
                    ==, MSC_RELEASE_REFUSED);
    /* The destination's own READY is no RELEASE. */
    g_assert_false(msc_client_commit(m->client[1], PROOF(ready), &done, NULL));
    /* Nor does it let go any more. */
    g_assert_false(msc_client_abort(m->client[1], "test", NULL));
    g_assert_true(msc_client_thaw(m->client[0], "test", &m->err[0]));
    g_assert_cmpint(msc_client_release(m->client[0], PROOF(ready), &release,
                                       NULL),
                    ==, MSC_RELEASE_REFUSED);
    move_free(m);
    g_assert_cmpint(cli(lab, 1, "resolve " VM " --there"), ==, 0);
    g_assert_cmpint(count_flows(lab, 0), ==, FLOWS);
    g_assert_cmpint(count_flows(lab, 1), ==, 0);
    lab_free(lab);
}

static MscVerdict verdict(Move *m, int side, const char *id)
{
    g_autoptr(GError) err = NULL;
    MscVerdict v;

    g_assert_true(msc_verdict(m->sock[side],
                              side ? MSC_ROLE_DESTINATION : MSC_ROLE_SOURCE, VM,
                              id, 5000, &v, &err));
    return v;
}

/* Gives the guest up on @host; the code for the other one. */
static char *give_up(Lab *lab, int host)
{
    g_autofree char *out = cli_output(lab, host, "resolve " VM " --there");
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
        Lab *lab = lab_new();
        Move *m = move_new(lab, 0);
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
        stop_daemon(lab, 0);
        stop_daemon(lab, 1);
        start_daemon(lab, 0);
        start_daemon(lab, 1);
        g_assert_cmpint(verdict(m, 0, id), ==, MSC_VERDICT_PENDING);
        g_assert_cmpint(verdict(m, 1, id), ==, MSC_VERDICT_PENDING);
        g_assert_false(msc_client_thaw(m->client[0], "test", NULL));
        g_assert_cmpint(cli(lab, there, "resolve " VM " --here"), ==, 1);
        g_assert_cmpint(verdict(m, there, id), ==, MSC_VERDICT_PENDING);
        code = give_up(lab, !there);
        again = give_up(lab, !there);
        g_assert_cmpstr(code, ==, again);
        again[0] = again[0] == '0' ? '1' : '0';
        g_assert_cmpint(
            cli(lab, there, "resolve " VM " --here --code %s", again), ==, 1);
        g_assert_cmpint(
            cli(lab, there, "resolve " VM " --here --code %s0", code), ==, 1);
        g_assert_cmpint(verdict(m, there, id), ==, MSC_VERDICT_PENDING);
        g_assert_cmpint(
            cli(lab, there, "resolve " VM " --here --code %s", code), ==, 0);
        g_assert_cmpint(verdict(m, 0, id), ==,
                        there ? MSC_VERDICT_DISCARD : MSC_VERDICT_RUN);
        g_assert_cmpint(verdict(m, 1, id), ==,
                        there ? MSC_VERDICT_RUN : MSC_VERDICT_DISCARD);
        g_assert_cmpint(count_flows(lab, 0), ==, there ? 0 : FLOWS);
        g_assert_cmpint(count_flows(lab, 1), ==, there ? FLOWS : 0);
        move_free(m);
        lab_free(lab);
    }
}

/* The other host is lost for good: the operator takes the guest by force. */
static void test_lost_host(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);
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
    stop_daemon(lab, 1);
    g_assert_cmpint(cli(lab, 0, "resolve " VM " --here"), ==, 1);
    g_assert_cmpint(verdict(m, 0, id), ==, MSC_VERDICT_PENDING);
    g_assert_cmpint(cli(lab, 0, "resolve " VM " --here --force"), ==, 0);
    g_assert_cmpint(verdict(m, 0, id), ==, MSC_VERDICT_RUN);
    g_assert_cmpint(count_flows(lab, 0), ==, FLOWS);
    move_free(m);
    lab_free(lab);
}

/* The helpers are restarted between READY and DONE; nothing is lost. */
static void test_restart_in_switchover(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);
    g_autoptr(GBytes) ready = NULL;

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    stop_daemon(lab, 1);
    start_daemon(lab, 1);
    move_finish(m, ready);
    move_free(m);
    g_assert_cmpint(count_flows(lab, 0), ==, 0);
    g_assert_cmpint(count_flows(lab, 1), ==, FLOWS);
    lab_free(lab);
}

/* Either helper dies before RELEASE: the source keeps the guest. */
static void test_crash_before_release(void)
{
    for (int host = 0; host < 2; host++) {
        Lab *lab = lab_new();
        Move *m = move_new(lab, 0);
        g_autoptr(GBytes) ready = NULL;
        g_autoptr(GBytes) release = NULL;
        g_autofree char *id = NULL;

        g_assert_true(move_handshake(m));
        id = g_strdup(m->channel[0]->migration_id);
        move_collect(m);
        g_assert_true(move_stage(m, m->chunks));
        stop_daemon(lab, host);
        start_daemon(lab, host);
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
            g_assert_cmpint(cli(lab, 1, "resolve " VM " --there"), ==, 0);
        }
        g_assert_cmpint(verdict(m, 1, id), ==, MSC_VERDICT_DISCARD);
        move_free(m);
        g_assert_cmpint(count_flows(lab, 0), ==, FLOWS);
        g_assert_cmpint(count_flows(lab, 1), ==, 0);
        lab_free(lab);
    }
}

/* QEMU of the destination dies before READY: nothing half-installed stays. */
static void test_qemu_gone(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    g_clear_pointer(&m->client[1], msc_client_unref);
    g_assert_true(msc_client_thaw(m->client[0], "test", &m->err[0]));
    move_free(m);
    g_assert_cmpint(count_flows(lab, 0), ==, FLOWS);
    g_assert_cmpint(count_flows(lab, 1), ==, 0);
    migrate(lab, 0);
    lab_free(lab);
}

/* A stale entry of the guest on the destination is replaced. */
static void test_stale_entry(void)
{
    Lab *lab = lab_new();

    MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.10 -d 192.0.2.5 "
         "--sport 1000 --dport 80 --state CLOSE_WAIT -t 40 -u SEEN_REPLY "
         ">/dev/null 2>&1",
         lab->netns[1]);
    migrate(lab, 0);
    g_assert_cmpint(run("ip netns exec %s conntrack -L 2>/dev/null | "
                        "grep -q CLOSE_WAIT",
                        lab->netns[1]),
                    ==, 1);
    lab_free(lab);
}

/* Is @text in what "status" says? */
static bool status_says(Lab *lab, int host, const char *text)
{
    g_autofree char *o = options(lab, host);

    return run("ip netns exec %s %s status %s | grep -q -- '%s'",
               lab->netns[host], g_getenv("MIGRATION_SC"), o, text) == 0;
}

/* READY, but the source goes on: a new migration from it settles the old
 * one; one from elsewhere does not. */
static void test_new_migration_settles_ready(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);
    g_autoptr(GBytes) ready = NULL;

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_nonnull(ready);
    g_assert_true(msc_client_thaw(m->client[0], "test", &m->err[0]));
    move_free(m);
    g_assert_true(status_says(lab, 1, "no RELEASE came"));
    g_assert_cmpint(count_flows(lab, 1), ==, FLOWS);

    /* Under another name the same host is another. */
    g_assert_cmpint(cli(lab, 1, "peer remove host0"), ==, 0);
    g_assert_cmpint(cli(lab, 1, "peer add stranger %s/0/etc/identity.pub",
                        lab->dir),
                    ==, 0);
    m = move_new(lab, 0);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[0]->message, "has not ended"));
    move_free(m);
    g_assert_true(status_says(lab, 0, "has not ended"));
    g_assert_cmpint(count_flows(lab, 1), ==, FLOWS);

    g_assert_cmpint(cli(lab, 1, "peer remove stranger"), ==, 0);
    g_assert_cmpint(
        cli(lab, 1, "peer add host0 %s/0/etc/identity.pub", lab->dir), ==, 0);
    migrate(lab, 0);
    g_assert_true(status_says(lab, 1, "began another migration"));
    lab_free(lab);
}

/* DONE is lost: the source is settled when the guest comes back. */
static void test_return_settles_released(void)
{
    Lab *lab = lab_new();
    Move *m = move_new(lab, 0);
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
    again = msc_client_open(m->sock[0], MSC_ROLE_SOURCE, VM, 0, &err);
    g_assert_null(again); /* what was given away cannot be sent */
    g_assert_nonnull(strstr(err->message, "has not ended"));
    move_free(m);
    g_assert_true(status_says(lab, 0, "no receipt came"));
    migrate(lab, 1);
    lab_free(lab);
}

/* A peer that is bound to addresses is refused where none can be seen. */
static void test_address_unknown(void)
{
    Lab *lab = lab_new();
    Move *m;

    g_assert_cmpint(cli(lab, 1, "peer remove host0"), ==, 0);
    g_assert_cmpint(cli(lab, 1,
                        "peer add host0 %s/0/etc/identity.pub "
                        "--address 10.9.0.1",
                        lab->dir),
                    ==, 0);
    m = move_new(lab, 0);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[1]->message, "may not be at"));
    move_free(m);
    lab_free(lab);
}

typedef struct {
    Lab *lab;
    const char *vm;
    unsigned rounds;
    gint *running;
} Shuttle;

/* To and fro, without a look at the flows: others move at the same time. */
static void *shuttle_thread(void *opaque)
{
    Shuttle *s = opaque;

    for (unsigned i = 0; i < s->rounds; i++) {
        Move *m = move_new_of(s->lab, s->vm, i % 2);
        g_autoptr(GBytes) ready = NULL;
        MscContextStats stats;
        GBytes *chunk;

        g_assert_true(move_handshake(m));
        g_assert_true(msc_client_freeze(m->client[0], &stats, &m->err[0]));
        while (msc_client_collect(m->client[0], &chunk, &m->err[0]) == 1) {
            g_ptr_array_add(m->chunks, chunk);
        }
        g_assert_true(move_stage(m, m->chunks));
        ready = move_validate(m);
        g_assert_nonnull(ready);
        move_finish(m, ready);
        move_free(m);
    }
    g_atomic_int_add(s->running, -1);
    return NULL;
}

/* Two guests at once, and an operator who asks all the time.  For the
 * thread sanitizer more than for its result. */
static void test_two_guests_at_once(void)
{
    Lab *lab = lab_new();
    gint running = 2;
    Shuttle shuttles[2] = { { lab, VM, 12, &running },
                            { lab, VM2, 12, &running } };
    GThread *threads[2];

    for (int h = 0; h < 2; h++) {
        g_assert_cmpint(cli(lab, h,
                            "vm add " VM2 " --name other --address "
                            "10.20.0.11"),
                        ==, 0);
    }
    for (int i = 0; i < 2; i++) {
        threads[i] = g_thread_new("shuttle", shuttle_thread, &shuttles[i]);
    }
    /* Long enough for the daemons to settle, once a second. */
    for (int i = 0; g_atomic_int_get(&running) || i < 30; i++) {
        g_assert_cmpint(cli(lab, i % 2, "status"), ==, 0);
        g_usleep(50 * 1000);
    }
    for (int i = 0; i < 2; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpint(count_flows(lab, 0), ==, FLOWS);
    lab_free(lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (geteuid() != 0) {
        g_print("1..0 # SKIP needs root for network namespaces\n");
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/handoff/there-and-back", test_there_and_back);
    g_test_add_func("/handoff/further-channels", test_further_channels);
    g_test_add_func("/handoff/trust-ends-in-a-running-session",
                    test_trust_ends_in_a_session);
    g_test_add_func("/handoff/unknown-peer-is-refused", test_unknown_peer);
    g_test_add_func("/handoff/unexpected-peer-is-refused",
                    test_unexpected_peer);
    g_test_add_func("/handoff/unregistered-vm-is-refused",
                    test_unregistered_vm);
    g_test_add_func("/handoff/nat-clash-is-found-before-ram", test_nat_clash);
    g_test_add_func("/handoff/nat-address-that-stays", test_nat_address_stays);
    g_test_add_func("/handoff/context-attacks", test_context_attacks);
    g_test_add_func("/handoff/forged-proofs", test_forged_proofs);
    g_test_add_func("/handoff/lost-release", test_lost_release);
    g_test_add_func("/handoff/lost-host", test_lost_host);
    g_test_add_func("/handoff/restart-in-switchover",
                    test_restart_in_switchover);
    g_test_add_func("/handoff/crash-before-release", test_crash_before_release);
    g_test_add_func("/handoff/qemu-gone", test_qemu_gone);
    g_test_add_func("/handoff/stale-entry-is-replaced", test_stale_entry);
    g_test_add_func("/handoff/new-migration-settles-ready",
                    test_new_migration_settles_ready);
    g_test_add_func("/handoff/return-settles-released",
                    test_return_settles_released);
    g_test_add_func("/handoff/unknown-address-is-refused",
                    test_address_unknown);
    g_test_add_func("/handoff/two-guests-at-once", test_two_guests_at_once);
    return g_test_run();
}
