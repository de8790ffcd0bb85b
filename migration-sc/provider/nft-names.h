/*
 * Names inside tables, and tables compared by what they say.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_NAMES_H
#define MSC_PROVIDER_NFT_NAMES_H

#include "nft-payload.h"

/* Enough for anybody to begin with; each may cost a look at all rules. */
#define MSC_NFT_REASONS_MAX 64

/* None twice, and every rule in a chain of the table.  (What rules refer to,
 * the kernel looks for inside the table alone.) */
bool msc_nft_table_names_are_good(const MscNftTable *table, GError **errp);
/* For messages: "table inet guest", to be freed. */
char *msc_nft_table_text(uint8_t family, const char *name);
/* The number of @rule in its chain, from 1. */
guint msc_nft_rule_number(const MscNftTable *table, const GPtrArray *rule);

#endif
