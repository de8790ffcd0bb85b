/*
 * Two hosts for tests of the nft provider, each a network namespace with the
 * guest's interface under another name, and one more interface:
 *
 *     host A: tap7, eth0        host B: tap70, eth1
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_NFT_LAB_H
#define TESTS_NETNS_NFT_LAB_H

#include "conntrack-lab.h"
#include "nft-payload.h"
#include "nft.h"

typedef struct {
    int host_a, host_b;
    MscSelector *a, *b; /* how each registers the guest */
} NftLab;

/* @table: "FAMILY NAME".  The caller is on host A.  B takes rules for any
 * packet unless a test says otherwise. */
NftLab *nft_lab_new(const char *table);
void nft_lab_free(NftLab *lab);

/* Loads text as nft -f does, which wants a newline before some braces. */
void nft_load(const char *ruleset);
/* What nft prints of the whole ruleset, without handles and times left; with
 * @json as JSON. */
char *nft_listing(bool json);
/* @text with host B's names of interfaces for host A's. */
char *nft_on_b(const char *text);

/* The provider's verbs, which must succeed. */
GBytes *nft_collect(const MscSelector *s);
GBytes *nft_summary(const MscSelector *s);
/* Validates, prepares and stages; what was replaced. */
GBytes *nft_restore(const MscSelector *s, GBytes *payload, uint64_t transit_us);
/* The reasons of check, joined by newlines; "" if willing. */
char *nft_reasons(const MscSelector *s, GBytes *summary);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(NftLab, nft_lab_free)

#endif
