/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-install.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "conntrack-admission.h"
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

bool msc_install_remove(MscCt *ct, const GPtrArray *flows, GError **errp)
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

MscPayload *msc_install_find_stale(MscCt *ct, const MscSelector *s,
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

bool msc_install_flows(MscCt *ct, GPtrArray *flows, const int *fine,
                       GPtrArray *exist, GError **errp)
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
            } else if (results[i] == EEXIST && exist) {
                g_ptr_array_add(exist, flow);
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

GPtrArray *msc_install_copies(const GPtrArray *flows, uint64_t transit_us,
                              bool lenient)
{
    GPtrArray *copies = msc_flows_new();

    for (guint i = 0; i < flows->len; i++) {
        MscFlow *flow =
            msc_flow_to_create(flows->pdata[i], transit_us, lenient);

        if (flow) {
            g_ptr_array_add(copies, flow);
        }
    }
    return copies;
}

bool msc_install_expects(MscCt *ct, const GPtrArray *expects,
                         uint64_t transit_us, const int *fine, GError **errp)
{
    g_autoptr(GPtrArray) copies = msc_expects_new();

    for (guint i = 0; i < expects->len; i++) {
        MscExpect *expect = msc_expect_to_create(expects->pdata[i], transit_us);

        if (expect) {
            g_ptr_array_add(copies, expect);
        }
    }
    return create_expects(ct, copies, fine, errp);
}

bool msc_install_create(MscCt *ct, const MscPayload *payload,
                        uint64_t transit_us, bool lenient, const int *fine,
                        const int *fine_expect, GError **errp)
{
    g_autoptr(GPtrArray) copies =
        msc_install_copies(payload->flows, transit_us, lenient);

    return msc_install_flows(ct, copies, fine, NULL, errp) &&
           MSC_FAULT_PASSES(CONNTRACK_CREATED, errp) &&
           msc_install_expects(ct, payload->expects, transit_us, fine_expect,
                               errp);
}

bool msc_install_remove_all(MscCt *ct, const MscPayload *payload, GError **errp)
{
    static const int no_master[] = { ENOENT, 0 };

    return run_expects(ct, MSC_CT_EXPECT_DELETE, payload->expects, no_master,
                       "remove", errp) &&
           msc_install_remove(ct, payload->flows, errp);
}

bool msc_install_count_packets(const MscPayload *payload, GError **errp)
{
    for (guint i = 0; i < payload->flows->len; i++) {
        if (nfct_get_attr_u8(payload->flows->pdata[i], ATTR_ORIG_L4PROTO) ==
            IPPROTO_TCP) {
            return msc_counters_enable(errp);
        }
    }
    return true;
}
