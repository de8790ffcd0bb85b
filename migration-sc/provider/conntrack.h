/*
 * The conntrack provider: the kernel's connection tracking entries.
 * docs/conntrack.md.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_H
#define MSC_PROVIDER_CONNTRACK_H

#include "provider.h"

extern const MscProvider msc_conntrack_provider;

#endif
