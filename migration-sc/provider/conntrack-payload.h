/*
 * What the provider carries: flows, and the expectations of some of them.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_PAYLOAD_H
#define MSC_PROVIDER_CONNTRACK_PAYLOAD_H

#include "conntrack-expect.h"
#include "conntrack-flow.h"

typedef struct {
    GPtrArray *flows;   /* of MscFlow */
    GPtrArray *expects; /* of MscExpect */
} MscPayload;

MscPayload *msc_payload_new(void);
/* Takes both lists. */
MscPayload *msc_payload_of(GPtrArray *flows, GPtrArray *expects);
void msc_payload_free(MscPayload *payload);

/*
 * Makes it whole: masters stand before their children; a child without its
 * master here is a flow of its own from now on; expectations stay only with
 * their master, and if they are the guest's.
 */
void msc_payload_tidy(MscPayload *payload, const MscSelector *s);

/* What a hostile host could claim: flows of others, or the addresses of others
 * for the guest's flows.  NULL if @flow is neither. */
const char *msc_payload_foreign(const MscFlow *flow, const MscSelector *s);
/* Is it whole in that sense, and all of it the guest's? */
bool msc_payload_check(const MscPayload *payload, const MscSelector *s,
                       GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscPayload, msc_payload_free)

#endif
