/*
 * The nft provider's verbs.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft.h"

#include "nft-ahead-source.h"
#include "nft-ahead-stage.h"
#include "nft-ahead.h"
#include "nft-collect.h"
#include "nft-names.h"
#include "nft-netlink.h"
#include "nft-print.h"
#include "nft-stage.h"

static bool readable(GError **errp)
{
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autoptr(MscNft) nft = msc_nft_open(errp);
    g_autoptr(MscNftPayload) payload =
        nft ? msc_nft_dump(nft, none, MSC_NFT_HANDLES, errp) : NULL;

    return payload != NULL;
}

/* Without nf_tables, guests without tables are as well off as with it: that
 * is for describe to say. */
static bool nft_probe(GPtrArray *problems, GError **errp)
{
    (void)problems;
    (void)errp;
    return true;
}

static char *nft_describe(void)
{
    g_autoptr(GError) err = NULL;

    return readable(&err)
               ? g_strdup("nf_tables can be read: guests' nft tables can move")
               : g_strdup_printf("guests' nft tables cannot move: %s (load "
                                 "nf_tables; needs CAP_NET_ADMIN)",
                                 err->message);
}

/* Rules have no state that must stop: what packets still count on the source
 * after collect is lost with them, as the guest's own would be. */
static bool nft_freeze(const MscSelector *selector, GError **errp)
{
    (void)selector;
    (void)errp;
    return true;
}

static bool nft_thaw(const MscSelector *selector, GError **errp)
{
    (void)selector;
    (void)errp;
    return true;
}

static void nft_commit(const MscSelector *selector, GBytes *payload)
{
    (void)selector;
    (void)payload;
}

/* A guest whose rules were left out must not run without them. */
static void nft_check_absent(const MscSelector *selector, GPtrArray *reasons)
{
    if (selector->nft_tables->len) {
        g_autofree char *text =
            msc_nft_table_name_format(selector->nft_tables->pdata[0]);

        g_ptr_array_add(
            reasons,
            g_strdup_printf(
                "the guest's nft tables ('%s' ...) do not come with it: register "
                "the same tables on the source, or none here (a source older "
                "than this program's nft support sends none)",
                text));
    }
}

static const MscPrecopy precopy = {
    .version = MSC_NFT_AHEAD_VERSION,
    .source_begin = msc_nft_source_begin,
    .source_admitted = msc_nft_source_admitted,
    .next = msc_nft_source_next,
    .final = msc_nft_source_final,
    .source_end = msc_nft_source_end,
    .destination_begin = msc_nft_destination_begin,
    .validate = msc_nft_destination_validate,
    .stage = msc_nft_destination_stage,
    .destination_end = msc_nft_destination_end,
    .unstage = msc_nft_unstage,
    .restore = msc_nft_restore,
};

const MscProvider msc_nft_provider = {
    .name = "nft",
    .version = MSC_NFT_VERSION,
    .oldest = MSC_NFT_OLDEST,
    .probe = nft_probe,
    .describe = nft_describe,
    .summarize = msc_nft_summarize,
    .check = msc_nft_check,
    .check_absent = nft_check_absent,
    .freeze = nft_freeze,
    .thaw = nft_thaw,
    .collect = msc_nft_collect,
    .retire = msc_nft_retire,
    .validate = msc_nft_validate,
    .prepare = msc_nft_prepare,
    .stage = msc_nft_stage,
    .abort = msc_nft_abort,
    .commit = nft_commit,
    .precopy = &precopy,
    .print = msc_nft_print,
};
