/*
 * The conntrack provider's verbs.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "conntrack-admission.h"
#include "conntrack-codec.h"
#include "conntrack-netlink.h"
#include "error.h"

#define ACCT "/proc/sys/net/netfilter/nf_conntrack_acct"

/* Packets must be counted, or nobody can tell that a flow was seen in both
 * directions and need no longer be treated leniently. */
static bool count_packets(void)
{
    int fd = open(ACCT, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, "1", 1) == 1;

    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static bool conntrack_probe(GPtrArray *problems, GError **errp)
{
    g_autoptr(MscCt) ct = msc_ct_open(errp);
    g_autoptr(MscSelector) nobody = msc_selector_new();
    g_autoptr(GPtrArray) flows = NULL;
    g_autoptr(GError) err = NULL;

    if (!ct) {
        return false;
    }
    nobody->has_mark = true;
    nobody->mark = nobody->mark_mask = UINT32_MAX;
    flows = msc_ct_dump(ct, nobody, &err);
    if (!flows) {
        g_ptr_array_add(problems, g_strdup_printf(
            "%s; needs CAP_NET_ADMIN and the kernel's nf_conntrack_netlink",
            err->message));
    }
    if (access(ACCT, F_OK)) {
        g_ptr_array_add(problems, g_strdup(
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
static bool leave_behind(const MscSelector *s, GBytes *answer,
                         GPtrArray *flows, MscProviderStats *stats,
                         GError **errp)
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
                        "other host; try again", text);
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
    g_autoptr(GPtrArray) flows = ct ? msc_ct_dump(ct, s, errp) : NULL;
    GByteArray *out;

    memset(stats, 0, sizeof(*stats));
    if (!flows ||
        (answer && !leave_behind(s, answer, flows, stats, errp))) {
        return NULL;
    }
    stats->entries = flows->len;
    out = g_byte_array_new();
    msc_flows_encode(flows, out);
    return g_byte_array_free_to_bytes(out);
}

/* Runs @verb for all @flows; an errno listed in @fine (ended by 0) is no
 * failure. */
static bool run_all(MscCtVerb verb, const GPtrArray *flows, const int *fine,
                    const char *what, GError **errp)
{
    g_autoptr(MscCt) ct = msc_ct_open(errp);
    g_autofree int *results = g_new0(int, flows->len + 1);

    if (!ct || !msc_ct_run(ct, verb, flows, results, NULL, errp)) {
        return false;
    }
    for (guint i = 0; i < flows->len; i++) {
        const int *f = fine;

        while (*f && *f != results[i]) {
            f++;
        }
        if (results[i] && !*f) {
            g_autofree char *text = msc_flow_describe(flows->pdata[i]);

            g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                        "cannot %s conntrack entry %s: %s", what, text,
                        g_strerror(results[i]));
            return false;
        }
    }
    return true;
}

static bool remove_flows(const GPtrArray *flows, GError **errp)
{
    static const int fine[] = { ENOENT, 0 };
    g_autoptr(GPtrArray) tuples = msc_flows_new();

    for (guint i = 0; i < flows->len; i++) {
        g_ptr_array_add(tuples, msc_flow_to_find(flows->pdata[i], false));
    }
    return run_all(MSC_CT_DELETE, tuples, fine, "remove", errp);
}

static bool conntrack_retire(const MscSelector *s, GBytes *payload,
                             GError **errp)
{
    g_autoptr(GPtrArray) flows = msc_payload_decode(payload, errp);

    (void)s;
    return flows && remove_flows(flows, errp);
}

/* What a hostile host could claim: flows of others, or the addresses of
 * others for the guest's flows. */
static bool flow_is_admissible(const MscSelector *s, const MscFlow *flow,
                               GError **errp)
{
    g_autofree char *text = NULL;
    MscAddress address;

    if (!msc_flow_belongs(flow, s)) {
        text = msc_flow_describe(flow);
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "the context holds a flow that is not the guest's by "
                    "this host's registration: %s", text);
        return false;
    }
    if (msc_flow_nat_address(flow, s, &address) &&
        !msc_address_in(&address, s->addresses) &&
        !msc_address_in(&address, s->nat_addresses)) {
        text = msc_flow_describe(flow);
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "the context holds a flow translated to an address that "
                    "is not the guest's on this host: %s", text);
        return false;
    }
    return true;
}

static bool conntrack_validate(const MscSelector *s, GBytes *payload,
                               MscProviderStats *stats, GError **errp)
{
    g_autoptr(GPtrArray) flows = msc_payload_decode(payload, errp);

    memset(stats, 0, sizeof(*stats));
    if (!flows) {
        return false;
    }
    for (guint i = 0; i < flows->len; i++) {
        if (!flow_is_admissible(s, flows->pdata[i], errp)) {
            return false;
        }
    }
    stats->entries = flows->len;
    return true;
}

static GBytes *conntrack_prepare(const MscSelector *s, GBytes *payload,
                                 GError **errp)
{
    g_autoptr(GPtrArray) flows = msc_payload_decode(payload, errp);
    g_autoptr(GPtrArray) stale = msc_flows_new();
    g_autoptr(GPtrArray) clashes = g_ptr_array_new_with_free_func(g_free);
    GByteArray *out;

    if (!flows ||
        !msc_conntrack_find_clashes(s, flows, stale, clashes, errp)) {
        return NULL;
    }
    if (clashes->len) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED, "%s%s",
                    (char *)clashes->pdata[0],
                    clashes->len > 1 ? ", and others do too" : "");
        return NULL;
    }
    out = g_byte_array_new();
    msc_flows_encode(stale, out);
    return g_byte_array_free_to_bytes(out);
}

static bool create_flows(const GPtrArray *flows, uint64_t transit_us,
                         bool lenient, const int *fine, GError **errp)
{
    g_autoptr(GPtrArray) wanted = msc_flows_new();

    /* Masters first: the kernel refuses a child whose master is missing. */
    for (int child = 0; child <= 1; child++) {
        for (guint i = 0; i < flows->len; i++) {
            const MscFlow *from = flows->pdata[i];
            MscFlow *flow;

            if (nfct_attr_is_set(from, ATTR_MASTER_L4PROTO) != child) {
                continue;
            }
            flow = msc_flow_to_create(from, transit_us, lenient);
            if (flow) {
                g_ptr_array_add(wanted, flow);
            }
        }
    }
    return run_all(MSC_CT_CREATE, wanted, fine, "create", errp);
}

static bool conntrack_stage(const MscSelector *s, GBytes *payload,
                            uint64_t transit_us, GError **errp)
{
    static const int nothing[] = { 0 };
    g_autoptr(GPtrArray) flows = msc_payload_decode(payload, errp);
    g_autoptr(GPtrArray) stale = msc_flows_new();
    g_autoptr(GPtrArray) clashes = g_ptr_array_new_with_free_func(g_free);

    if (!flows ||
        !msc_conntrack_find_clashes(s, flows, stale, clashes, errp)) {
        return false;
    }
    count_packets();
    return remove_flows(stale, errp) &&
           create_flows(flows, transit_us, true, nothing, errp);
}

static bool conntrack_abort(const MscSelector *s, GBytes *payload,
                            GBytes *replaced, GError **errp)
{
    static const int fine[] = { EEXIST, 0 };
    g_autoptr(GPtrArray) flows = msc_payload_decode(payload, errp);
    g_autoptr(GPtrArray) old = flows ? msc_payload_decode(replaced, errp)
                                     : NULL;
    g_autoptr(GPtrArray) ours = msc_flows_new();
    g_autoptr(GPtrArray) others = g_ptr_array_new_with_free_func(g_free);

    /* What stands in the way may be why stage failed: it is not ours. */
    return old && msc_conntrack_find_clashes(s, flows, ours, others, errp) &&
           remove_flows(ours, errp) &&
           create_flows(old, 0, false, fine, errp);
}

static void conntrack_commit(const MscSelector *s, GBytes *payload)
{
    (void)s;
    (void)payload;
}

static bool is_lenient(const MscFlow *flow)
{
    return nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO) == IPPROTO_TCP &&
           ((nfct_get_attr_u8(flow, ATTR_TCP_FLAGS_ORIG) |
             nfct_get_attr_u8(flow, ATTR_TCP_FLAGS_REPL)) &
            IP_CT_TCP_FLAG_BE_LIBERAL);
}

static bool seen_both_ways(const MscFlow *flow)
{
    return nfct_get_attr_u64(flow, ATTR_ORIG_COUNTER_PACKETS) &&
           nfct_get_attr_u64(flow, ATTR_REPL_COUNTER_PACKETS);
}

static MscFlow *without_leniency(const MscFlow *flow)
{
    MscFlow *update = msc_flow_to_find(flow, false);

    nfct_set_attr_u8(update, ATTR_TCP_FLAGS_ORIG, 0);
    nfct_set_attr_u8(update, ATTR_TCP_MASK_ORIG, IP_CT_TCP_FLAG_BE_LIBERAL);
    nfct_set_attr_u8(update, ATTR_TCP_FLAGS_REPL, 0);
    nfct_set_attr_u8(update, ATTR_TCP_MASK_REPL, IP_CT_TCP_FLAG_BE_LIBERAL);
    return update;
}

static guint conntrack_settle(const MscSelector *s, GBytes *payload)
{
    static const int fine[] = { ENOENT, 0 };
    g_autoptr(GError) err = NULL;
    g_autoptr(MscCt) ct = msc_ct_open(&err);
    g_autoptr(GPtrArray) flows = ct ? msc_ct_dump(ct, s, &err) : NULL;
    g_autoptr(GPtrArray) updates = msc_flows_new();
    guint lenient = 0;

    (void)payload;
    for (guint i = 0; flows && i < flows->len; i++) {
        const MscFlow *flow = flows->pdata[i];

        if (!is_lenient(flow)) {
            continue;
        }
        if (seen_both_ways(flow)) {
            g_ptr_array_add(updates, without_leniency(flow));
        } else {
            lenient++;
        }
    }
    if (!flows ||
        !run_all(MSC_CT_UPDATE, updates, fine, "tighten", &err)) {
        g_warning("%s", err->message);
        return 1;               /* try again */
    }
    return lenient;
}

static bool conntrack_print(GBytes *payload, MscPrintLine *line, void *opaque,
                            GError **errp)
{
    g_autoptr(GPtrArray) flows = msc_payload_decode(payload, errp);

    if (!flows) {
        return false;
    }
    for (guint i = 0; i < flows->len; i++) {
        char text[1024];

        nfct_snprintf(text, sizeof(text), flows->pdata[i], NFCT_T_UNKNOWN,
                      NFCT_O_DEFAULT, NFCT_OF_SHOW_LAYER3);
        line(text, opaque);
    }
    return true;
}

const MscProvider msc_conntrack_provider = {
    .name = "conntrack",
    .version = MSC_CONNTRACK_VERSION,
    .oldest = MSC_CONNTRACK_OLDEST,
    .probe = conntrack_probe,
    .summarize = msc_conntrack_summarize,
    .check = msc_conntrack_check,
    .freeze = conntrack_freeze,
    .thaw = conntrack_thaw,
    .collect = conntrack_collect,
    .retire = conntrack_retire,
    .validate = conntrack_validate,
    .prepare = conntrack_prepare,
    .stage = conntrack_stage,
    .abort = conntrack_abort,
    .commit = conntrack_commit,
    .settle = conntrack_settle,
    .print = conntrack_print,
};
