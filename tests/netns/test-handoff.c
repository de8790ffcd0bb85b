/*
 * The handoff through two daemons: who may move which guest, what is refused
 * and what an attacker cannot do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base-lab.h"
#include "error.h"

static void test_there_and_back(void)
{
    Pair *pair = pair_new();

    for (int i = 0; i < 6; i++) {
        pair_migrate(pair, i % 2);
    }
    pair_free(pair);
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
    thread = g_thread_new("destination", move_handshake_thread, m);
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
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);

    g_assert_true(move_handshake(m));
    for (uint32_t i = 0; i < 4; i++) {
        g_assert_true(move_further(m, i));
        g_assert_cmpint(m->channel[1]->kind, ==, MSC_CHANNEL_MULTIFD);
        g_assert_cmpuint(m->channel[1]->number, ==, i);
    }
    move_free(m);
    pair_free(pair);
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
        Pair *pair = pair_new();
        Move *m = move_new(pair, 0);
        g_autofree char *key =
            g_strdup_printf("%s/0/etc/identity.pub", pair->dir);

        g_assert_true(move_handshake(m));
        g_assert_true(move_further(m, 0));
        g_assert_cmpint(pair_cli(pair, rows[i].host, "%s %s", rows[i].command,
                                 rows[i].key_file ? key : ""),
                        ==, 0);
        g_assert_false(move_further(m, 1));
        g_assert_nonnull(strstr(m->err[rows[i].host]->message, rows[i].why));
        move_free(m);
        /* Nor does it begin another one. */
        m = move_new(pair, 0);
        g_assert_false(move_handshake(m));
        g_assert_nonnull(strstr(m->err[rows[i].host]->message, rows[i].why));
        move_free(m);
        pair_free(pair);
    }
}

static void test_unknown_peer(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);

    g_assert_cmpint(pair_cli(pair, 1, "peer remove host0"), ==, 0);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[1]->message, "unknown host"));
    g_assert_null(strstr(m->err[0]->message, "host1"));
    move_free(m);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
    pair_free(pair);
}

static void test_unexpected_peer(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);

    m->expected_peer = "somebody-else";
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[0]->message, "somebody-else"));
    move_free(m);
    pair_free(pair);
}

static void test_unregistered_vm(void)
{
    Pair *pair = pair_new();
    Move *m;

    g_assert_cmpint(pair_cli(pair, 1, "vm remove " PAIR_VM), ==, 0);
    m = move_new(pair, 0);
    g_assert_null(m->client[1]);
    g_assert_nonnull(strstr(m->err[1]->message, "not registered"));
    move_free(m);
    pair_free(pair);
}

static void test_nat_clash(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);

    PAIR_MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.77 -d 192.0.2.5 "
              "--sport 1001 --dport 80 --state ESTABLISHED -t 4000 "
              "-u SEEN_REPLY,ASSURED -n 203.0.113.10 >/dev/null 2>&1",
              pair->netns[1]);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[0]->message, "clashes with tcp "
                                                "10.20.0.77:1001"));
    move_free(m);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
    pair_free(pair);
}

static void test_nat_address_stays(void)
{
    Pair *pair = pair_new();
    Move *m;

    g_assert_cmpint(pair_cli(pair, 1, "vm remove " PAIR_VM), ==, 0);
    g_assert_cmpint(pair_cli(pair, 1,
                             "vm add " PAIR_VM " --name guest --address "
                             "10.20.0.10"),
                    ==, 0);
    m = move_new(pair, 0);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[0]->message, "does not move"));
    move_free(m);

    /* No silent change of a registration. */
    g_assert_cmpint(pair_cli(pair, 0,
                             "vm add " PAIR_VM " --name guest --address "
                             "10.20.0.0/16"),
                    !=, 0);
    g_assert_cmpint(pair_cli(pair, 0,
                             "vm add " PAIR_VM " --name guest --address "
                             "10.20.0.10 --nat-address 203.0.113.10"),
                    ==, 0);
    g_assert_cmpint(pair_cli(pair, 0, "vm remove " PAIR_VM), ==, 0);
    g_assert_cmpint(pair_cli(pair, 0,
                             "vm add " PAIR_VM " --name guest --address "
                             "10.20.0.10 --nat-address 203.0.113.10 "
                             "--nat-policy leave-behind"),
                    ==, 0);
    m = move_new(pair, 0);
    g_assert_true(move_handshake(m));
    {
        MscContextStats stats;

        g_assert_true(msc_client_freeze(m->client[0], &stats, NULL));
        g_assert_cmpuint(stats.flows, ==, PAIR_FLOWS / 2);
        g_assert_cmpuint(stats.left_behind, ==, PAIR_FLOWS / 2);
    }
    move_free(m);
    pair_free(pair);
}

static void test_context_attacks(void)
{
    Pair *pair = pair_new();
    g_autoptr(GPtrArray) old = NULL;
    Move *m = move_new(pair, 0);
    g_autofree uint8_t *changed = NULL;
    g_autoptr(GBytes) bytes = NULL;
    gsize len;

    /* A migration that is given up; its context is kept by the attacker. */
    g_assert_true(move_handshake(m));
    move_collect(m);
    old = g_ptr_array_ref(m->chunks);
    g_assert_true(msc_client_thaw(m->client[0], "test", &m->err[0]));
    move_free(m);

    m = move_new(pair, 0);
    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_false(move_stage(m, old)); /* replayed */
    g_assert_error(m->err[1], MSC_ERROR, MSC_ERROR_AUTH);
    g_clear_error(&m->err[1]);
    g_assert_null(move_validate(m));
    move_free(m);

    m = move_new(pair, 0);
    g_assert_true(move_handshake(m));
    move_collect(m);
    bytes = g_bytes_ref(m->chunks->pdata[0]);
    changed = g_memdup2(g_bytes_get_data(bytes, &len), g_bytes_get_size(bytes));
    len = g_bytes_get_size(bytes);
    changed[len / 2] ^= 1;
    g_assert_false(msc_client_stage(m->client[1], changed, len, NULL));
    move_free(m);

    m = move_new(pair, 0);
    g_assert_true(move_handshake(m));
    move_collect(m);
    g_ptr_array_remove_index(m->chunks, m->chunks->len - 1); /* no END */
    g_assert_true(move_stage(m, m->chunks));
    g_assert_null(move_validate(m));
    g_assert_nonnull(strstr(m->err[1]->message, "END"));
    move_free(m);

    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, 0);
    pair_migrate(pair, 0); /* the control */
    pair_free(pair);
}

static void test_forged_proofs(void)
{
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);
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
    g_assert_cmpint(pair_cli(pair, 1, "resolve " PAIR_VM " --there"), ==, 0);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, 0);
    pair_free(pair);
}

/*
 * VALIDATE comes once and READY after it.  In between everything is installed,
 * and ABORT undoes it: QEMU may fail to load a device.
 */
static void test_validated_is_not_ready(void)
{
    Pair *pair = pair_new();
    g_autoptr(GBytes) ready = NULL;
    MscContextStats stats;
    Move *m = move_new(pair, 0);

    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    g_assert_false(msc_client_ready(m->client[1], &ready, &m->err[1]));
    g_assert_error(m->err[1], MSC_ERROR, MSC_ERROR_STATE);
    g_clear_error(&m->err[1]);
    g_assert_true(msc_client_validate(m->client[1], &stats, &m->err[1]));
    g_assert_cmpuint(stats.flows, ==, PAIR_FLOWS);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS);
    g_assert_false(msc_client_validate(m->client[1], &stats, &m->err[1]));
    g_assert_nonnull(strstr(m->err[1]->message, "twice"));
    g_clear_error(&m->err[1]);
    g_assert_true(msc_client_abort(m->client[1], "no such device", NULL));
    g_assert_cmpint(pair_count_flows(pair, 1), ==, 0);
    g_assert_false(msc_client_ready(m->client[1], &ready, NULL));
    g_assert_true(msc_client_thaw(m->client[0], "test", &m->err[0]));
    move_free(m);

    /* The control. */
    m = move_new(pair, 0);
    g_assert_true(move_handshake(m));
    move_collect(m);
    g_assert_true(move_stage(m, m->chunks));
    g_assert_true(msc_client_validate(m->client[1], &stats, &m->err[1]));
    g_assert_true(msc_client_ready(m->client[1], &ready, &m->err[1]));
    g_assert_false(msc_client_abort(m->client[1], "too late", NULL));
    move_finish(m, ready);
    move_free(m);
    pair_free(pair);
}

/* More than goes along with FREEZE's reply. */
static void test_large_context(void)
{
    const guint count = 9000;
    Pair *pair = pair_new();
    Move *m = move_new(pair, 0);
    g_autoptr(GBytes) ready = NULL;
    gsize first;

    pair_load_flows(pair, 0, count, 0);
    g_assert_true(move_handshake(m));
    move_collect_of(m, PAIR_FLOWS + count);
    first = g_bytes_get_size(m->chunks->pdata[0]);
    g_assert_cmpuint(first, >, MSC_CHUNK_MAX / 2);
    g_assert_cmpuint(m->chunks->len, >, 2);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_nonnull(ready);
    move_finish(m, ready);
    move_free(m);
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_FLOWS + (int)count);
    pair_free(pair);
}

/* A stale entry of the guest on the destination is replaced. */
static void test_stale_entry(void)
{
    Pair *pair = pair_new();

    PAIR_MUST("ip netns exec %s conntrack -I -p tcp -s 10.20.0.10 -d 192.0.2.5 "
              "--sport 1000 --dport 80 --state CLOSE_WAIT -t 40 -u SEEN_REPLY "
              ">/dev/null 2>&1",
              pair->netns[1]);
    pair_migrate(pair, 0);
    g_assert_cmpint(pair_run("ip netns exec %s conntrack -L 2>/dev/null | "
                             "grep -q CLOSE_WAIT",
                             pair->netns[1]),
                    ==, 1);
    pair_free(pair);
}

/* A peer that is bound to addresses is refused where none can be seen. */
static void test_address_unknown(void)
{
    Pair *pair = pair_new();
    Move *m;

    g_assert_cmpint(pair_cli(pair, 1, "peer remove host0"), ==, 0);
    g_assert_cmpint(pair_cli(pair, 1,
                             "peer add host0 %s/0/etc/identity.pub "
                             "--address 10.9.0.1",
                             pair->dir),
                    ==, 0);
    m = move_new(pair, 0);
    g_assert_false(move_handshake(m));
    g_assert_nonnull(strstr(m->err[1]->message, "may not be at"));
    move_free(m);
    pair_free(pair);
}

typedef struct {
    Pair *pair;
    const char *vm;
    unsigned rounds;
    gint *running;
} Shuttle;

/* To and fro, without a look at the flows: others move at the same time. */
static void *shuttle_thread(void *opaque)
{
    Shuttle *s = opaque;

    for (unsigned i = 0; i < s->rounds; i++) {
        Move *m = move_new_of(s->pair, s->vm, i % 2);
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

static void add_other_guest(Pair *pair)
{
    for (int h = 0; h < 2; h++) {
        g_assert_cmpint(pair_cli(pair, h,
                                 "vm add " PAIR_VM2 " --name other --address "
                                 "10.20.0.11"),
                        ==, 0);
    }
}

static bool is_settled(Pair *pair)
{
    return pair_run("ls %s/1/var/journal/*.context >/dev/null 2>&1", pair->dir);
}

/* Its flows are gone, so one look settles them: not before the other is. */
static void test_settling_rests(void)
{
    Pair *pair = pair_new();
    Move *other;

    add_other_guest(pair);
    pair_migrate(pair, 0);
    g_assert_false(is_settled(pair));
    other = move_new_of(pair, PAIR_VM2, 0);
    g_assert_true(move_handshake(other));
    PAIR_MUST("ip netns exec %s conntrack -F >/dev/null 2>&1", pair->netns[1]);
    g_usleep(2500 * 1000);
    g_assert_false(is_settled(pair));
    g_assert_true(msc_client_thaw(other->client[0], "test", &other->err[0]));
    move_free(other);
    for (int i = 0; i < 100 && !is_settled(pair); i++) {
        g_usleep(100 * 1000);
    }
    g_assert_true(is_settled(pair));
    pair_free(pair);
}

/* Two guests at once, and an operator who asks all the time.  For the
 * thread sanitizer more than for its result. */
static void test_two_guests_at_once(void)
{
    Pair *pair = pair_new();
    gint running = 2;
    Shuttle shuttles[2] = { { pair, PAIR_VM, 12, &running },
                            { pair, PAIR_VM2, 12, &running } };
    GThread *threads[2];

    add_other_guest(pair);
    for (int i = 0; i < 2; i++) {
        threads[i] = g_thread_new("shuttle", shuttle_thread, &shuttles[i]);
    }
    /* Long enough for the daemons to settle, once a second. */
    for (int i = 0; g_atomic_int_get(&running) || i < 30; i++) {
        g_assert_cmpint(pair_cli(pair, i % 2, "status"), ==, 0);
        g_usleep(50 * 1000);
    }
    for (int i = 0; i < 2; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_FLOWS);
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
    g_test_add_func("/handoff/validated-is-not-ready",
                    test_validated_is_not_ready);
    g_test_add_func("/handoff/large-context", test_large_context);
    g_test_add_func("/handoff/stale-entry-is-replaced", test_stale_entry);
    g_test_add_func("/handoff/unknown-address-is-refused",
                    test_address_unknown);
    g_test_add_func("/handoff/settling-rests-while-a-guest-moves",
                    test_settling_rests);
    g_test_add_func("/handoff/two-guests-at-once", test_two_guests_at_once);
    return g_test_run();
}
