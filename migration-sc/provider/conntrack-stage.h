/*
 * The verbs that change the kernel's tables; provider.h has their contracts.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_STAGE_H
#define MSC_PROVIDER_CONNTRACK_STAGE_H

#include "selector.h"

GBytes *msc_conntrack_prepare(const MscSelector *s, GBytes *payload,
                              GError **errp);
bool msc_conntrack_stage(const MscSelector *s, GBytes *payload,
                         uint64_t transit_us, GError **errp);
bool msc_conntrack_abort(const MscSelector *s, GBytes *payload,
                         GBytes *replaced, GError **errp);
bool msc_conntrack_retire(const MscSelector *s, GBytes *payload, GError **errp);

/* conntrack-settle.c */
guint msc_conntrack_settle(const MscSelector *s, GBytes *payload,
                           gpointer *memory);
void msc_conntrack_settle_end(gpointer memory);
guint msc_conntrack_settle_batch(const MscSelector *s, GBytes *bytes);

#endif
