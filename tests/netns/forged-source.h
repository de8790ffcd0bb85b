/*
 * A source whose helper lies: the test itself is the helper of the host where
 * the guest is, with that host's identity, journal and bases.  So it has the
 * session's keys, and seals whatever it likes.
 *
 *      test: source's helper, both QEMUs ---- socketpair
 *                                                |
 *                                           helper.sock
 *                                 the other host's migration-scd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_FORGED_SOURCE_H
#define TESTS_NETNS_FORGED_SOURCE_H

#include "ahead.h"
#include "handoff-lab.h"
#include "seal.h"

typedef struct {
    Pair *pair;
    int from;
    int own_netns, host_netns;
    MscHub *hub;
    MscTransfer *t; /* what an honest helper would have */
    Move move;      /* the destination's half, [1] */
} Forged;

/* With the handshake done.  Host @from has no daemon meanwhile; @carries:
 * batches, by the destination's QEMU. */
Forged *forged_new(Pair *pair, int from, bool carries);
/* Both QEMUs go, and the daemon comes back. */
void forged_free(Forged *f);

/* What the honest helper says next; NULL: nothing. */
GBytes *forged_honest(Forged *f, MscPrecopyState *state);
/* Its context when the guest stops; bytes. */
gsize forged_honest_freeze(Forged *f);
/* False with f->move.err[1] if it is refused. */
bool forged_deliver(Forged *f, GBytes *chunk);
/* As the next chunk; and delivered. */
GBytes *forged_seal_batch(Forged *f, uint16_t flags, const char *provider,
                          uint16_t version, const void *data, size_t len);
bool forged_batch(Forged *f, uint16_t flags, const char *provider,
                  uint16_t version, const void *data, size_t len);
/* So many more batches of the base. */
bool forged_step(Forged *f, uint32_t batches);
/* The stream from its beginning, under the same key. */
void forged_seal_again(Forged *f);
/* A context's chunks, with @data as its one section, conntrack's, or without
 * any; and its END. */
GPtrArray *forged_context(Forged *f, uint16_t version, const void *data,
                          size_t len);
GPtrArray *forged_end(Forged *f, GPtrArray *chunks);

#endif
