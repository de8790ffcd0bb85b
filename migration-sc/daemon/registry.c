/*
 * The one place that names concrete providers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "conntrack.h"
#include "nft.h"
#include "provider.h"

const MscProvider *const *msc_providers(void)
{
    static const MscProvider *const providers[] = { &msc_conntrack_provider,
                                                    &msc_nft_provider, NULL };

    return providers;
}
