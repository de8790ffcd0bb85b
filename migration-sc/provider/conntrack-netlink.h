/*
 * Talking to the kernel's ctnetlink: dumps, and batches of requests.
 *
 * Every request asks for an acknowledgement; nothing is assumed to have
 * worked.  A request that waits longer than five seconds fails.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_NETLINK_H
#define MSC_PROVIDER_CONNTRACK_NETLINK_H

#include "conntrack-flow.h"

typedef struct MscCt MscCt;

MscCt *msc_ct_open(GError **errp);
void msc_ct_close(MscCt *ct);

/*
 * All flows of the guest, each once.  Zone and mark are filtered in the
 * kernel where it can; an older kernel ignores the filter in silence, so
 * each entry is looked at again here, whatever the kernel did.
 */
GPtrArray *msc_ct_dump(MscCt *ct, const MscSelector *selector, GError **errp);

typedef enum {
    MSC_CT_CREATE,          /* never replaces: EEXIST */
    MSC_CT_UPDATE,          /* ENOENT if there is none */
    MSC_CT_DELETE,
    MSC_CT_FIND,            /* by a tuple, in either direction */
} MscCtVerb;

/*
 * Runs @verb for each of @flows; results[i] is 0 or an errno.  For FIND,
 * *@found (if not NULL) takes the entries found, in order, NULL where none.
 * False only if the kernel could not be asked.
 */
bool msc_ct_run(MscCt *ct, MscCtVerb verb, const GPtrArray *flows,
                int *results, GPtrArray **found, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscCt, msc_ct_close)

#endif
