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
#include "conntrack-install.h"
#include "error.h"
#include "fault.h"

GBytes *msc_conntrack_prepare(const MscSelector *s, GBytes *payload,
                              GError **errp)
{
    g_autoptr(MscPayload) wanted = msc_payload_decode(payload, errp);
    g_autoptr(MscCt) ct = wanted ? msc_ct_open(errp) : NULL;
    g_autoptr(MscPayload) stale =
        ct ? msc_install_find_stale(ct, s, wanted, errp) : NULL;
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

bool msc_conntrack_stage(const MscSelector *s, GBytes *payload,
                         uint64_t transit_us, GError **errp)
{
    static const int nothing[] = { 0 };
    static const int no_master[] = { ENOENT, 0 };
    g_autoptr(MscPayload) wanted = msc_payload_decode(payload, errp);
    g_autoptr(MscCt) ct = wanted ? msc_ct_open(errp) : NULL;
    g_autoptr(MscPayload) stale =
        ct ? msc_install_find_stale(ct, s, wanted, errp) : NULL;

    return stale && msc_install_count_packets(wanted, errp) &&
           msc_install_remove_all(ct, stale, errp) &&
           MSC_FAULT_PASSES(CONNTRACK_REMOVED, errp) &&
           msc_install_create(ct, wanted, transit_us, true, nothing, no_master,
                              errp);
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
           msc_install_remove(ct, there, errp) &&
           msc_install_create(ct, old, 0, false, fine, fine_expect, errp);
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
    return msc_install_remove(ct, ours, errp);
}
