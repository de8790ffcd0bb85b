/*
 * Sets of the guest's table ahead of the rest, between two namespaces, step
 * by step.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_NFT_AHEAD_LAB_H
#define TESTS_NETNS_NFT_AHEAD_LAB_H

#include "nft-ahead.h"
#include "nft-lab.h"

typedef struct {
    NftLab *lab;
    gpointer source, destination;
    MscPrecopyProgress progress;
    GPtrArray *batches, *replaced; /* of GBytes: the journal of host B */
} NftAhead;

/* @ruleset is on host A, which is entered. */
NftAhead *nft_ahead_new(const char *ruleset);
/* A table "inet g" with @count elements in a plain set, and a tenth of that in
 * each of: a set of intervals, one of concatenated intervals, a map, a set
 * whose elements have times. */
char *nft_ahead_rules(guint count);
NftAhead *nft_ahead_new_of(guint count);
/* "11.0.0.0, 11.0.0.2, ...", @after each. */
void nft_ahead_add_addresses(GString *text, guint count, const char *after);
void nft_ahead_free(NftAhead *l);

/* A batch of the source's; no bytes: there was none. */
GBytes *nft_ahead_next(NftAhead *l);
/* To the destination, whose journal knows of it; false: refused. */
bool nft_ahead_stage(NftAhead *l, GBytes *batch, uint64_t transit_us,
                     GError **err);
/* Until only changes follow; how many batches that took.  One that begins
 * anew first undoes what was staged. */
guint nft_ahead_bulk(NftAhead *l);
/* Waits until the source has looked again, for a change. */
void nft_ahead_follow(NftAhead *l);
/* The last one, staged; its size. */
gsize nft_ahead_final(NftAhead *l);
/* What the source says at the end, or NULL if all has to be collected. */
GBytes *nft_ahead_last(NftAhead *l);
/* As after a failure, or a crash of the helper. */
void nft_ahead_undo(NftAhead *l);

/* What host B has, as nft prints it. */
char *nft_ahead_listing_of_b(NftAhead *l);
/* Has B what A has? */
void nft_ahead_assert_same(NftAhead *l);

#endif
