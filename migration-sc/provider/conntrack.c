/*
 * The conntrack provider's verbs.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack.h"

#include <string.h>
#include <unistd.h>

#include "conntrack-admission.h"
#include "conntrack-codec.h"
#include "conntrack-collect.h"
#include "conntrack-needs.h"
#include "conntrack-precopy.h"
#include "conntrack-prestage.h"
#include "conntrack-probe.h"
#include "conntrack-stage.h"
#include "conntrack-watch.h"
#include "error.h"

#define TRACKING "/proc/sys/net/netfilter/nf_conntrack_max"

static bool conntrack_probe(GPtrArray *problems, GError **errp)
{
    g_autoptr(MscCt) ct = msc_ct_open(errp);
    g_autoptr(MscNeeds) nothing = msc_needs_new();
    g_autoptr(GError) err = NULL;

    if (!ct) {
        return false;
    }
    if (!msc_needs_check(nothing, problems, &err)) {
        g_ptr_array_add(
            problems,
            g_strdup_printf(
                "%s; needs CAP_NET_ADMIN and the kernel's nf_conntrack_netlink",
                err->message));
    }
    if (access(TRACKING, F_OK)) {
        g_ptr_array_add(
            problems,
            g_strdup(
                "connection tracking is not active in this network namespace: "
                "load nf_conntrack, or add a stateful firewall rule"));
    }
    return true;
}

/*
 * There is nothing to stop: the guest is halted and its address still lives
 * here, so packets of its peers keep the entries alive until they move.
 */
static bool conntrack_freeze(const MscSelector *selector, GError **errp)
{
    (void)selector;
    (void)errp;
    return true;
}

static bool conntrack_thaw(const MscSelector *selector, GError **errp)
{
    (void)selector;
    (void)errp;
    return true;
}

/* Takes flows out of @flows whose NAT address the destination lacks. */
static bool leave_behind(const MscSelector *s, GBytes *answer, GPtrArray *flows,
                         MscProviderStats *stats, GError **errp)
{
    g_autoptr(GArray) there = msc_conntrack_answer_decode(answer, errp);

    if (!there) {
        return false;
    }
    for (guint i = flows->len; i; i--) {
        const MscFlow *flow = flows->pdata[i - 1];
        MscAddress address;

        if (!msc_flow_nat_address(flow, s, &address) ||
            msc_address_in(&address, there)) {
            continue;
        }
        if (s->nat_policy != MSC_NAT_LEAVE_BEHIND) {
            g_autofree char *text = msc_flow_describe(flow);

            g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                        "%s began after the check and cannot survive on the "
                        "other host; try again",
                        text);
            return false;
        }
        stats->left_behind++;
        g_ptr_array_remove_index(flows, i - 1);
    }
    return true;
}

static GBytes *conntrack_collect(const MscSelector *s, GBytes *answer,
                                 MscProviderStats *stats, GError **errp)
{
    g_autoptr(MscCt) ct = msc_ct_open(errp);
    g_autoptr(GPtrArray) flows = ct ? msc_collect_flows(s, errp) : NULL;
    g_autoptr(GPtrArray) expects = NULL;
    g_autoptr(MscPayload) payload = NULL;

    memset(stats, 0, sizeof(*stats));
    if (!flows || (answer && !leave_behind(s, answer, flows, stats, errp))) {
        return NULL;
    }
    expects = msc_collect_expects(ct, flows, errp);
    if (!expects) {
        return NULL;
    }
    payload =
        msc_payload_of(g_steal_pointer(&flows), g_steal_pointer(&expects));
    msc_payload_tidy(payload, s);
    stats->entries = payload->flows->len;
    return msc_payload_encode(payload);
}

static bool conntrack_validate(const MscSelector *s, GBytes *payload,
                               MscProviderStats *stats, GError **errp)
{
    g_autoptr(MscPayload) decoded = msc_payload_decode(payload, errp);

    memset(stats, 0, sizeof(*stats));
    if (!decoded || !msc_payload_check(decoded, s, errp)) {
        return false;
    }
    stats->entries = decoded->flows->len;
    return true;
}

static void conntrack_commit(const MscSelector *s, GBytes *payload)
{
    (void)s;
    (void)payload;
}

static bool conntrack_print(GBytes *payload, MscPrintLine *line, void *opaque,
                            GError **errp)
{
    g_autoptr(MscPayload) decoded = msc_payload_decode(payload, errp);
    char text[1024];

    if (!decoded) {
        return false;
    }
    for (guint i = 0; i < decoded->flows->len; i++) {
        nfct_snprintf(text, sizeof(text), decoded->flows->pdata[i],
                      NFCT_T_UNKNOWN, NFCT_O_DEFAULT, NFCT_OF_SHOW_LAYER3);
        line(text, opaque);
    }
    for (guint i = 0; i < decoded->expects->len; i++) {
        g_autofree char *expected =
            msc_expect_describe(decoded->expects->pdata[i]);

        line(expected, opaque);
    }
    return true;
}

/* The filters, too: a migration would wait for that. */
static bool conntrack_prepare(const char *memo, GError **errp)
{
    msc_ct_filters();
    return msc_watch_prepare(memo, errp);
}

static const MscPrecopy precopy = {
    .version = MSC_CONNTRACK_BATCH_VERSION,
    .based = MSC_CONNTRACK_BASED_VERSION,
    .prepare = conntrack_prepare,
    .source_begin = msc_ct_source_begin,
    .source_summarize = msc_ct_source_summarize,
    .source_admitted = msc_ct_source_admitted,
    .source_base = msc_ct_source_base,
    .next = msc_ct_source_next,
    .final = msc_ct_source_final,
    .retire = msc_ct_retire_all,
    .source_end = msc_ct_source_end,
    .compare = msc_ct_compare,
    .destination_begin = msc_ct_destination_begin,
    .validate = msc_ct_destination_validate,
    .stage = msc_ct_destination_stage,
    .rebase = msc_ct_destination_rebase,
    .complete = msc_ct_destination_complete,
    .destination_end = msc_ct_destination_end,
    .unstage = msc_ct_unstage,
    .restore = msc_ct_restore,
    .settle = msc_conntrack_settle_batch,
};

const MscProvider msc_conntrack_provider = {
    .name = "conntrack",
    .version = MSC_CONNTRACK_VERSION,
    .oldest = MSC_CONNTRACK_OLDEST,
    .probe = conntrack_probe,
    .describe = msc_ct_filters_describe,
    .summarize = msc_conntrack_summarize,
    .check = msc_conntrack_check,
    .freeze = conntrack_freeze,
    .thaw = conntrack_thaw,
    .collect = conntrack_collect,
    .retire = msc_conntrack_retire,
    .validate = conntrack_validate,
    .prepare = msc_conntrack_prepare,
    .stage = msc_conntrack_stage,
    .abort = msc_conntrack_abort,
    .commit = conntrack_commit,
    .settle = msc_conntrack_settle,
    .settle_end = msc_conntrack_settle_end,
    .precopy = &precopy,
    .print = conntrack_print,
};
