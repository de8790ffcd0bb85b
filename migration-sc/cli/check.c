/*
 * migration-sc check
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>

#include "ask.h"

/* Reading the guest's table, and the other host reading its own. */
#define TIMEOUT_MS 60000

static void print_answer(const MscCli *cli, const char *vm, const char *to,
                         const GError *err)
{
    g_autoptr(JsonBuilder) b = NULL;

    if (!cli->json) {
        if (!err) {
            printf("%s would take guest %s as it is now.\n", to, vm);
        }
        return;
    }
    b = json_builder_new();
    json_builder_begin_object(b);
    msc_cli_json_text(b, "vm", vm);
    msc_cli_json_text(b, "to", to);
    json_builder_set_member_name(b, "willing");
    json_builder_add_boolean_value(b, !err);
    msc_cli_json_text(b, "error", err ? err->message : "");
    json_builder_end_object(b);
    msc_cli_print_json(b);
}

bool msc_cmd_check(MscCli *cli, int argc, char **argv, GError **errp)
{
    g_autofree char *to = NULL;
    const GOptionEntry entries[] = {
        { "to", 0, 0, G_OPTION_ARG_STRING, &to,
          "the host that is asked, as 'peer list' names it", "NAME" },
        { 0 }
    };
    MscControlRequest request = { .command = MSC_CONTROL_CHECK };
    g_autoptr(JsonNode) result = NULL;
    g_autoptr(GError) err = NULL;

    if (!msc_cli_parse(cli, &argc, &argv, entries, 1, 1, "UUID",
                       "Would that host take the guest with what this host "
                       "keeps for it now? Asks what a migration would ask "
                       "before RAM moves, and changes nothing. Both hosts need "
                       "'[handoff] helper-port=' in migration-sc.conf.",
                       errp)) {
        return false;
    }
    if (!to) {
        g_set_error_literal(errp, MSC_USAGE_ERROR, 0, "--to is missing");
        return false;
    }
    if (!msc_cli_is_uuid(argv[1], errp)) {
        return false;
    }
    request.vm = argv[1];
    request.to = to;
    result = msc_cli_ask(cli, &request, TIMEOUT_MS, &err);
    print_answer(cli, argv[1], to, err);
    if (!result) {
        g_propagate_error(errp, g_steal_pointer(&err));
    }
    return result != NULL;
}
