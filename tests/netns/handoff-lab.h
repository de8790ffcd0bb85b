/*
 * Two daemons, two kernels' worth of conntrack, and a test in QEMU's place:
 *
 *      test (both QEMUs) ---- socketpair: the migration stream
 *        |                        |
 *   helper.sock                helper.sock
 *   netns 0: migration-scd     netns 1: migration-scd
 *   conntrack of the guest     empty
 *
 * Environment: MIGRATION_SCD, MIGRATION_SC.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_HANDOFF_LAB_H
#define TESTS_NETNS_HANDOFF_LAB_H

#include <glib.h>
#include <migration-sc/helper-client.h>

#define PAIR_VM "11111111-2222-3333-4444-555555555555"
#define PAIR_VM2 "22222222-2222-3333-4444-555555555555"
#define PAIR_FLOWS 8

typedef struct {
    char *dir, *netns[2];
    GPid daemon[2];
} Pair;

/* With PAIR_FLOWS flows of the guest 10.20.0.10 (NAT 203.0.113.10) on host
 * 0. */
Pair *pair_new(void);
/* Without flows; @guest: the options of its registration. */
Pair *pair_new_of(const char *guest);
void pair_free(Pair *pair);
void pair_start_daemon(Pair *pair, int host);
void pair_stop_daemon(Pair *pair, int host);
int pair_count_flows(Pair *pair, int host);
/* For pair_new_of(): the guest has a table. */
#define PAIR_WITH_RULES "--address 10.20.0.10 --nft-table 'inet guest'"
/* Makes it anew, with a set of @count addresses and a chain that asks it. */
void pair_load_rules(Pair *pair, int host, guint count);
/* The whole ruleset of a host, as nft prints it. */
char *pair_rules(Pair *pair, int host);

/* Exit status of a shell command. */
int G_GNUC_PRINTF(1, 2) pair_run(const char *format, ...);
#define PAIR_MUST(...) g_assert_cmpint(pair_run(__VA_ARGS__), ==, 0)
/* Directories of the host, as options of daemon and command line. */
char *pair_options(Pair *pair, int host);
/* migration-sc, its exit status; and what one that succeeds prints. */
int G_GNUC_PRINTF(3, 4) pair_cli(Pair *pair, int host, const char *format, ...);
char *G_GNUC_PRINTF(3, 4)
    pair_cli_output(Pair *pair, int host, const char *format, ...);

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

Move *move_new(Pair *pair, int from);
Move *move_new_of(Pair *pair, const char *vm, int from);
void move_free(Move *m);
/* False with m->err of the side that fails. */
bool move_handshake(Move *m);
/* The destination's side of it; @opaque is the Move. */
void *move_handshake_thread(void *opaque);
/* Freezes, too; there must be that many flows, PAIR_FLOWS without a number. */
void move_collect(Move *m);
void move_collect_of(Move *m, guint flows);
bool move_stage(Move *m, GPtrArray *chunks);
/* READY, or NULL with m->err[1]. */
GBytes *move_validate(Move *m);
void move_finish(Move *m, GBytes *ready);
#define PROOF(bytes) g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)
/* All of it, with @flows flows. */
void pair_migrate_of(Pair *pair, int from, guint flows);
/* With PAIR_FLOWS, and a look at who has them. */
void pair_migrate(Pair *pair, int from);

#endif
