/*
 * migration-sc diff
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>

#include "ask.h"
#include "error.h"

/* Reading the guest's table. */
#define TIMEOUT_MS 60000

static const char *text_of(JsonObject *o, const char *name)
{
    return json_object_get_string_member_with_default(o, name, "");
}

static gint64 number_of(JsonObject *o, const char *name)
{
    return json_object_get_int_member_with_default(o, name, 0);
}

static void print_base(JsonObject *o)
{
    g_autoptr(GDateTime) ended =
        g_date_time_new_from_unix_local(number_of(o, "ended"));
    g_autofree char *when =
        ended ? g_date_time_format(ended, "%Y-%m-%d %H:%M:%S") : g_strdup("?");

    if (!json_object_get_boolean_member_with_default(o, "base", FALSE)) {
        printf("%s: no base, all would be sent: %s\n", text_of(o, "provider"),
               text_of(o, "why"));
        return;
    }
    printf("%s: base of the migration with %s that ended %s (%s)\n"
           "  flows: %" G_GINT64_FORMAT " as there, %" G_GINT64_FORMAT
           " changed, %" G_GINT64_FORMAT " new, %" G_GINT64_FORMAT " gone\n"
           "  bytes: %" G_GINT64_FORMAT " to %s, %" G_GINT64_FORMAT
           " without the base\n",
           text_of(o, "provider"), text_of(o, "peer"), when,
           text_of(o, "migration"), number_of(o, "same"),
           number_of(o, "changed"), number_of(o, "new"), number_of(o, "gone"),
           number_of(o, "bytes"), text_of(o, "peer"),
           number_of(o, "whole_bytes"));
}

static bool print_all(const MscCli *cli, JsonNode *result, GError **errp)
{
    JsonObject *o =
        JSON_NODE_HOLDS_OBJECT(result) ? json_node_get_object(result) : NULL;
    JsonArray *bases = o && json_object_has_member(o, "bases")
                           ? json_object_get_array_member(o, "bases")
                           : NULL;

    if (!bases) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "the daemon's answer is no comparison; is it of "
                            "another version?");
        return false;
    }
    if (cli->json) {
        g_autofree char *text = json_to_string(result, TRUE);

        printf("%s\n", text);
        return true;
    }
    for (guint i = 0; i < json_array_get_length(bases); i++) {
        print_base(json_array_get_object_element(bases, i));
    }
    return true;
}

bool msc_cmd_diff(MscCli *cli, int argc, char **argv, GError **errp)
{
    MscControlRequest request = { .command = MSC_CONTROL_DIFF };
    g_autoptr(JsonNode) result = NULL;

    if (!msc_cli_parse(cli, &argc, &argv, NULL, 1, 1, "UUID",
                       "What of the guest's flows, as they are now, differs "
                       "from what both hosts of its last migration have kept: "
                       "what a migration back would send. Where the guest is; "
                       "changes nothing, and does not ask the other host.",
                       errp)) {
        return false;
    }
    if (!msc_cli_is_uuid(argv[1], errp)) {
        return false;
    }
    request.vm = argv[1];
    result = msc_cli_ask(cli, &request, TIMEOUT_MS, errp);
    return result && print_all(cli, result, errp);
}
