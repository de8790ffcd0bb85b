/*
 * What would a migration send of a guest, as it is now, that begins with the
 * base on this host?  Nothing moves or changes.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_DIFF_H
#define MSC_TRANSFER_DIFF_H

#include "transfer.h"

typedef struct {
    const char *provider;
    char *why; /* there is no base, or NULL */
    /* Of the migration that left it: */
    char *peer;
    char *id;
    uint64_t wall_us; /* its end */
    MscBaseDiff diff;
} MscDiff;

/* GPtrArray of MscDiff*, freed with it: one for each provider that keeps
 * bases. */
GPtrArray *msc_diff(MscHub *hub, const char *uuid, GError **errp);

#endif
