/*
 * Which transactions changed the guest's tables: the kernel's events, between
 * its count of all transactions on the host.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_WATCH_H
#define MSC_PROVIDER_NFT_WATCH_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct MscNftWatch MscNftWatch;

/* @tables (of MscNftTableName*) outlive it. */
MscNftWatch *msc_nft_watch_new(const GPtrArray *tables, GError **errp);
void msc_nft_watch_free(MscNftWatch *watch);
/* Before the tables are read: what was changed so far does not matter.
 * False: something was, since the last reset. */
bool msc_nft_watch_reset(MscNftWatch *watch);
/* Takes the events that have come, so that there is room for more: while
 * something is done that takes long. */
void msc_nft_watch_read(MscNftWatch *watch);
/* Has no transaction since the reset, up to number @generation at least,
 * changed them?  False as well if events were lost, or do not come within 50
 * milliseconds. */
bool msc_nft_watch_unchanged(MscNftWatch *watch, uint32_t generation);
/* The same between two readings of the number.  A transaction has its number
 * before it takes effect: the same number alone does not say that all of it
 * was seen. */
bool msc_nft_watch_same(MscNftWatch *watch, uint32_t was, uint32_t is);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscNftWatch, msc_nft_watch_free)

#endif
