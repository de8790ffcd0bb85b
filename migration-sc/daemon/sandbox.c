/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <sys/prctl.h>

#include "error.h"

bool msc_sandbox_enter(GError **errp)
{
    capng_clear(CAPNG_SELECT_BOTH);
    if (capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED,
                     CAP_NET_ADMIN) ||
        capng_apply(CAPNG_SELECT_BOTH)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                    "cannot reduce capabilities to CAP_NET_ADMIN; run as "
                    "root, or with that capability and CAP_SETPCAP");
        return false;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL, "prctl: %s",
                    g_strerror(errno));
        return false;
    }
    return true;
}
