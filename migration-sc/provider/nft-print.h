/*
 * A payload as text, for "inspect".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_PRINT_H
#define MSC_PROVIDER_NFT_PRINT_H

#include "provider.h"

bool msc_nft_print(GBytes *payload, MscPrintLine *line, void *opaque,
                   GError **errp);

#endif
