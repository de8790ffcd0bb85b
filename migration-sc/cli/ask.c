/*
 * Asking the daemon.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "ask.h"

JsonNode *msc_cli_ask(const MscCli *cli, const MscControlRequest *request,
                      unsigned timeout_ms, GError **errp)
{
    g_autofree char *path =
        g_build_filename(cli->runtime_dir, "control.sock", NULL);

    return msc_control_call(path, request, timeout_ms, errp);
}

bool msc_cli_is_uuid(const char *text, GError **errp)
{
    if (g_uuid_string_is_valid(text)) {
        return true;
    }
    g_set_error(errp, MSC_USAGE_ERROR, 0, "'%.64s' is not a UUID", text);
    return false;
}
