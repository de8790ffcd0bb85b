/*
 * Asking the daemon, for the commands that do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_CLI_ASK_H
#define MSC_CLI_ASK_H

#include "commands.h"
#include "control.h"

/* The answer on control.sock, or NULL with the daemon's reason. */
JsonNode *msc_cli_ask(const MscCli *cli, const MscControlRequest *request,
                      unsigned timeout_ms, GError **errp);
/* Else an error of usage. */
bool msc_cli_is_uuid(const char *text, GError **errp);

#endif
