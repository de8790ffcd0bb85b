/*
 * Two hosts that keep a base of a guest with many flows, and migrations that
 * send ahead.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_BASE_LAB_H
#define TESTS_NETNS_BASE_LAB_H

#include "base-file.h"
#include "handoff-lab.h"

/* More than fit a batch; their source ports begin here. */
#define PAIR_MANY 600
#define PAIR_FIRST 20000
#define PAIR_ALL (PAIR_FLOWS + PAIR_MANY)

/* More flows of the guest, with source ports from PAIR_FIRST on. */
void pair_load_flows(Pair *pair, int host, guint count, guint mark);
void pair_add_many(Pair *pair, int host);
/* Other flows with the same tuples, and no others. */
void pair_replace_many(Pair *pair, int host, guint mark);
/* With PAIR_MANY more flows, which were on host 0 and are on host 1; bytes
 * that it took to send them. */
gsize pair_new_with_base(Pair **pair);
/* A whole migration, after which the table is the same; bytes. */
gsize pair_migrate_ahead(Pair *pair, int from);

/* conntrack(8) with these arguments; it must succeed. */
void G_GNUC_PRINTF(3, 4)
    pair_conntrack(Pair *pair, int host, const char *format, ...);
/* Everything but the time-outs, sorted. */
char *pair_table(Pair *pair, int host);
/* Without a page of text if they are not. */
void assert_same_table(const char *before, const char *after);
/* What was staged is undone once the helper sees that QEMU has gone. */
void pair_wait_for_flows(Pair *pair, int host, int flows);

/* The file that a host keeps. */
char *pair_base_path(Pair *pair, int host);
/* The same batches under @head in that file's place, but for the first
 * @skip. */
void base_rewrite(const char *path, const MscBaseHead *head, int skip);
/* Of the file; to be cleared. */
void base_read_head(const char *path, MscBaseHead *head);
/* What a migration under way writes beside it, and what it replaced, go. */
void pair_assert_nothing_unfinished(Pair *pair);

/* Both QEMUs carry batches; after the handshake. */
Move *move_ahead(Pair *pair, int from);
/* One batch from host to host; its bytes.  0 as well if the destination
 * refuses it (m->err[1]).  @state: the source's. */
gsize move_send_one(Move *m, MscPrecopyState *state);
/* Batches until there is nothing to say; bytes. */
gsize move_send_ahead(Move *m);
/* The rest of it, with @flows flows; bytes.  Frees @m. */
gsize move_complete(Move *m, guint flows);

#endif
