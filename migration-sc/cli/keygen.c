/*
 * migration-sc keygen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>

#include "commands.h"
#include "identity.h"

bool msc_cmd_keygen(MscCli *cli, int argc, char **argv, GError **errp)
{
    g_autofree char *name = NULL;
    const GOptionEntry entries[] = {
        { "name", 0, 0, G_OPTION_ARG_STRING, &name,
          "what this host is called (its host name)", "NAME" },
        { 0 }
    };
    g_autoptr(MscIdentity) identity = NULL;
    g_autofree char *key = NULL;

    if (!msc_cli_parse(cli, &argc, &argv, entries, 0, 0, "",
                       "Makes this host's key, once, and prints its public "
                       "half for 'peer add' on other hosts.",
                       errp) ||
        !msc_identity_create(cli->config_dir, name ? name : g_get_host_name(),
                             errp)) {
        return false;
    }
    identity = msc_identity_load(cli->config_dir, errp);
    if (!identity) {
        return false;
    }
    key = g_base64_encode(msc_identity_public(identity), MSC_IDENTITY_KEY_LEN);
    if (cli->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();

        json_builder_begin_object(b);
        msc_cli_json_text(b, "name", msc_identity_name(identity));
        msc_cli_json_text(b, "key", key);
        json_builder_end_object(b);
        msc_cli_print_json(b);
    } else {
        printf("%s\n", key);
    }
    return true;
}
