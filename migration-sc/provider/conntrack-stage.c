/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-stage.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "conntrack-admission.h"
#include "conntrack-codec.h"
#include "conntrack-collect.h"
#include "conntrack-needs.h"
#include "conntrack-request.h"
#include "error.h"
#include "fault.h"

/* A refusal must be readable. */
#define CLASHES_SHOWN 16

static bool is_fine(int result, const int *fine)
{
    while (*fine && *fine != result) {
        fine++;
    }
    return !result || *fine;
}

static void cannot(const char *what, const char *text, int why, GError **errp)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                "cannot %s conntrack entry %s: %s", what, text,
                g_strerror(why));
}

/* Runs @verb for all @flows; an errno listed in @fine (ended by 0) is no
 * failure. */
static bool run_flows(MscCt *ct, MscCtVerb verb, const GPtrArray *flows,
                      const int *fine, const char *what, GError **errp)
{
    g_autofree int *results = g_new0(int, flows->len + 1);

    if (!msc_ct_run(ct, verb, flows, results, NULL, errp)) {
        return false;
    }
    for (guint i = 0; i < flows->len; i++) {
        if (!is_fine(results[i], fine)) {
            g_autofree char *text = msc_flow_describe(flows->pdata[i]);

            cannot(what, text, results[i], errp);
            return false;
        }
    }
    return true;
}

static bool run_expects(MscCt *ct, MscCtVerb verb, const GPtrArray *expects,
                        const int *fine, const char *what, GError **errp)
{
    g_autofree int *results = g_new0(int, expects->len + 1);

    if (!msc_ct_run(ct, verb, expects, results, NULL, errp)) {
        return false;
    }
    for (guint i = 0; i < expects->len; i++) {
        if (!is_fine(results[i], fine)) {
            g_autofree char *text = msc_expect_describe(expects->pdata[i]);

            cannot(what, text, results[i], errp);
            return false;
        }
    }
    return true;
}

static bool remove_flows(MscCt *ct, const GPtrArray *flows, GError **errp)
{
    static const int fine[] = { ENOENT, 0 };

    return run_flows(ct, MSC_CT_DELETE, flows, fine, "remove", errp);
}

/* The flow that announced @expect, as the kernel has it, or NULL. */
static bool find_master(MscCt *ct, const MscExpect *expect, MscFlow **master,
                        GError **errp)
{
    g_autoptr(GPtrArray) wanted = msc_flows_new();
    g_autoptr(GPtrArray) found = NULL;
    MscFlow *tuple = msc_expect_tuple(expect, ATTR_EXP_MASTER);
    int result = 0;

    if (msc_expect_zone(expect)) {
        nfct_set_attr_u16(tuple, ATTR_ZONE, msc_expect_zone(expect));
    }
    g_ptr_array_add(wanted, tuple);
    if (!msc_ct_run(ct, MSC_CT_FIND, wanted, &result, &found, errp)) {
        return false;
    }
    *master = g_steal_pointer(&found->pdata[0]);
    return true;
}

/* Expectations of this host that stand in the way of @expects, in @stale if
 * their master is the guest's, else as text in @clashes. */
static bool find_expect_clashes(MscCt *ct, const MscSelector *s,
                                const GPtrArray *expects, GPtrArray *stale,
                                GPtrArray *clashes, GError **errp)
{
    g_autofree int *results = g_new0(int, expects->len + 1);
    g_autoptr(GPtrArray) found = NULL;

    if (!msc_ct_run(ct, MSC_CT_EXPECT_FIND, expects, results, &found, errp)) {
        return false;
    }
    for (guint i = 0; i < found->len; i++) {
        MscExpect *entry = found->pdata[i];
        MscFlow *master = NULL;

        if (!entry) {
            continue;
        }
        if (!find_master(ct, entry, &master, errp)) {
            return false;
        }
        if (!master) {
            continue; /* both have just ended */
        }
        if (msc_flow_is_guests(master, s)) {
            g_ptr_array_add(stale, entry);
            found->pdata[i] = NULL;
        } else {
            g_autofree char *ours = msc_expect_describe(expects->pdata[i]);
            g_autofree char *theirs = msc_flow_describe(master);

            g_ptr_array_add(
                clashes,
                g_strdup_printf(
                    "%s clashes with an expectation of %s, which is in use on "
                    "this host",
                    ours, theirs));
        }
        nfct_destroy(master);
    }
    return true;
}

static void refuse_clashes(GPtrArray *clashes, GError **errp)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < MIN(clashes->len, CLASHES_SHOWN); i++) {
        g_string_append_printf(text, "%s%s", i ? "; " : "",
                               (char *)clashes->pdata[i]);
    }
    if (clashes->len > CLASHES_SHOWN) {
        g_string_append_printf(text, "; and %u more",
                               clashes->len - CLASHES_SHOWN);
    }
    g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED, text->str);
    g_string_free(text, TRUE);
}

/* What staging @payload would remove; NULL if something else is in the way. */
static MscPayload *find_stale(MscCt *ct, const MscSelector *s,
                              const MscPayload *payload, GError **errp)
{
    g_autoptr(GPtrArray) clashes = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(MscPayload) stale = msc_payload_new();

    if (!msc_conntrack_find_clashes(s, payload->flows, stale->flows, clashes,
                                    errp) ||
        !find_expect_clashes(ct, s, payload->expects, stale->expects, clashes,
                             errp)) {
        return NULL;
    }
    if (clashes->len) {
        refuse_clashes(clashes, errp);
        return NULL;
    }
    return g_steal_pointer(&stale);
}

GBytes *msc_conntrack_prepare(const MscSelector *s, GBytes *payload,
                              GError **errp)
{
    g_autoptr(MscPayload) wanted = msc_payload_decode(payload, errp);
    g_autoptr(MscCt) ct = wanted ? msc_ct_open(errp) : NULL;
    g_autoptr(MscPayload) stale = ct ? find_stale(ct, s, wanted, errp) : NULL;
    g_autoptr(GPtrArray) theirs = NULL;

    if (!stale) {
        return NULL;
    }
    /* A master takes its expectations with it. */
    theirs = msc_collect_expects(ct, stale->flows, errp);
    if (!theirs) {
        return NULL;
    }
    g_ptr_array_extend_and_steal(stale->expects, g_steal_pointer(&theirs));
    return msc_payload_encode(stale);
}

/*
 * Creates @flows.  A child whose master is not there becomes a flow of its
 * own: the master's time was over, or it ended on this host.
 */
static bool create_flows(MscCt *ct, GPtrArray *flows, const int *fine,
                         GError **errp)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_ref(flows);

    while (todo->len) {
        g_autofree int *results = g_new0(int, todo->len + 1);
        g_autoptr(GPtrArray) again = g_ptr_array_new();

        if (!msc_ct_run(ct, MSC_CT_CREATE, todo, results, NULL, errp)) {
            return false;
        }
        for (guint i = 0; i < todo->len; i++) {
            MscFlow *flow = todo->pdata[i];

            if (results[i] == EAGAIN ||
                (results[i] == ENOENT && msc_flow_is_child(flow))) {
                g_ptr_array_add(again, flow);
            } else if (!is_fine(results[i], fine)) {
                g_autofree char *text = msc_flow_describe(flow);

                cannot("create", text, results[i], errp);
                return false;
            }
        }
        if (again->len == todo->len) {
            for (guint i = 0; i < again->len; i++) {
                if (!msc_flow_is_child(again->pdata[i])) {
                    g_autofree char *text = msc_flow_describe(again->pdata[i]);

                    cannot("create", text, EAGAIN, errp);
                    return false;
                }
                msc_flow_orphan(again->pdata[i]);
            }
        }
        g_ptr_array_unref(todo);
        todo = g_steal_pointer(&again);
    }
    return true;
}

/* Masters are there by now, those whose time was over aside. */
static bool create_expects(MscCt *ct, const GPtrArray *expects, const int *fine,
                           GError **errp)
{
    static const int gone[] = { ENOENT, ETIME, 0 };

    return run_expects(ct, MSC_CT_EXPECT_CREATE, expects, fine, "create",
                       errp) &&
           /* A new one has the time that its helper gives it. */
           run_expects(ct, MSC_CT_EXPECT_TIMEOUT, expects, gone,
                       "set the time-out of", errp);
}

static bool create_all(MscCt *ct, const MscPayload *payload,
                       uint64_t transit_us, bool lenient, const int *fine,
                       const int *fine_expect, GError **errp)
{
    g_autoptr(MscPayload) wanted = msc_payload_new();

    for (guint i = 0; i < payload->flows->len; i++) {
        MscFlow *flow =
            msc_flow_to_create(payload->flows->pdata[i], transit_us, lenient);

        if (flow) {
            g_ptr_array_add(wanted->flows, flow);
        }
    }
    for (guint i = 0; i < payload->expects->len; i++) {
        MscExpect *expect =
            msc_expect_to_create(payload->expects->pdata[i], transit_us);

        if (expect) {
            g_ptr_array_add(wanted->expects, expect);
        }
    }
    return create_flows(ct, wanted->flows, fine, errp) &&
           create_expects(ct, wanted->expects, fine_expect, errp);
}

/* Only TCP has a leniency that counters end. */
static bool count_packets(const MscPayload *payload, GError **errp)
{
    for (guint i = 0; i < payload->flows->len; i++) {
        if (nfct_get_attr_u8(payload->flows->pdata[i], ATTR_ORIG_L4PROTO) ==
            IPPROTO_TCP) {
            return msc_counters_enable(errp);
        }
    }
    return true;
}

bool msc_conntrack_stage(const MscSelector *s, GBytes *payload,
                         uint64_t transit_us, GError **errp)
{
    static const int nothing[] = { 0 };
    static const int no_master[] = { ENOENT, 0 };
    g_autoptr(MscPayload) wanted = msc_payload_decode(payload, errp);
    g_autoptr(MscCt) ct = wanted ? msc_ct_open(errp) : NULL;
    g_autoptr(MscPayload) stale = ct ? find_stale(ct, s, wanted, errp) : NULL;

    return stale && count_packets(wanted, errp) &&
           run_expects(ct, MSC_CT_EXPECT_DELETE, stale->expects, no_master,
                       "remove", errp) &&
           remove_flows(ct, stale->flows, errp) &&
           MSC_FAULT_PASSES(CONNTRACK_REMOVED, errp) &&
           create_all(ct, wanted, transit_us, true, nothing, no_master, errp);
}

bool msc_conntrack_abort(const MscSelector *s, GBytes *payload,
                         GBytes *replaced, GError **errp)
{
    static const int fine[] = { EEXIST, 0 };
    /* An expectation is a hint; what stands in its way now came later. */
    static const int fine_expect[] = { EEXIST, EBUSY, ENOENT, 0 };
    g_autoptr(MscPayload) ours = msc_payload_decode(payload, errp);
    g_autoptr(MscPayload) old =
        ours ? msc_payload_decode(replaced, errp) : NULL;
    g_autoptr(GPtrArray) there = msc_flows_new();
    g_autoptr(GPtrArray) others = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(MscCt) ct = old ? msc_ct_open(errp) : NULL;

    /* What stands in the way may be why stage failed: it is not ours. */
    return ct &&
           msc_conntrack_find_clashes(s, ours->flows, there, others, errp) &&
           remove_flows(ct, there, errp) &&
           create_all(ct, old, 0, false, fine, fine_expect, errp);
}

bool msc_conntrack_retire(const MscSelector *s, GBytes *payload, GError **errp)
{
    g_autoptr(MscPayload) gone = msc_payload_decode(payload, errp);
    g_autoptr(MscCt) ct = gone ? msc_ct_open(errp) : NULL;
    g_autoptr(GPtrArray) found = NULL;
    g_autoptr(GPtrArray) ours = g_ptr_array_new();
    g_autofree int *results = NULL;

    if (!ct) {
        return false;
    }
    results = g_new0(int, gone->flows->len + 1);
    if (!msc_ct_run(ct, MSC_CT_FIND, gone->flows, results, &found, errp)) {
        return false;
    }
    /* Somebody else may have the tuple by now. */
    for (guint i = 0; i < found->len; i++) {
        if (found->pdata[i] && msc_flow_belongs(found->pdata[i], s)) {
            g_ptr_array_add(ours, found->pdata[i]);
        }
    }
    return remove_flows(ct, ours, errp);
}
