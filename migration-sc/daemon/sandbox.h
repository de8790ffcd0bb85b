/*
 * Least privilege for the daemon.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_DAEMON_SANDBOX_H
#define MSC_DAEMON_SANDBOX_H

#include <glib.h>
#include <stdbool.h>

/* Keeps CAP_NET_ADMIN, drops every other capability for good, and forbids
 * new privileges and core dumps.  Called before the first thread starts. */
bool msc_sandbox_enter(GError **errp);

#endif
