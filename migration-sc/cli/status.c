/*
 * migration-sc status, migration-sc resolve
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"

#define TIMEOUT_MS 10000
/* ECMA-48: to the first line, and erase the rest. */
#define CLEAR_SCREEN "\033[H\033[J"

/* While the guest runs: how much of it has gone ahead. */
static void print_progress(JsonObject *m)
{
    printf("%12s sent ahead: %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT
           " flows, backlog %" G_GINT64_FORMAT "\n",
           "", json_object_get_int_member_with_default(m, "staged_ahead", 0),
           json_object_get_int_member_with_default(m, "total", 0),
           json_object_get_int_member_with_default(m, "backlog", 0));
}

static void print_migration(JsonObject *m)
{
    const char *error = json_object_get_string_member(m, "error");
    const char *stage = json_object_get_string_member(m, "stage");

    printf("%-12s %-11s %-10s with %-12s %-18s %5" G_GINT64_FORMAT
           " flows %8" G_GINT64_FORMAT " bytes%s%s\n",
           json_object_get_string_member(m, "name"),
           json_object_get_string_member(m, "role"), stage,
           json_object_get_string_member(m, "peer"),
           json_object_get_string_member(m, "suite"),
           json_object_get_int_member(m, "flows"),
           json_object_get_int_member(m, "bytes"), *error ? "  " : "", error);
    if (!strcmp(stage, "admitted") || !strcmp(stage, "staged")) {
        print_progress(m);
    }
}

static bool is_status(JsonNode *node, GError **errp)
{
    JsonObject *o =
        JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

    if (!o || !json_object_has_member(o, "migrations") ||
        !json_object_has_member(o, "host")) {
        g_set_error_literal(errp, G_IO_CHANNEL_ERROR, G_IO_CHANNEL_ERROR_FAILED,
                            "the daemon's answer is not a status; is it of "
                            "another version?");
        return false;
    }
    return true;
}

static bool show_status(MscCli *cli, GError **errp)
{
    MscControlRequest request = { .command = MSC_CONTROL_STATUS };
    g_autoptr(JsonNode) result = msc_cli_ask(cli, &request, TIMEOUT_MS, errp);
    JsonArray *migrations;
    JsonObject *o;

    if (!result || !is_status(result, errp)) {
        return false;
    }
    if (cli->json) {
        g_autofree char *text = json_to_string(result, TRUE);

        printf("%s\n", text);
        return true;
    }
    o = json_node_get_object(result);
    printf("host %s, %" G_GINT64_FORMAT " guests, %" G_GINT64_FORMAT " peers\n",
           json_object_get_string_member(o, "host"),
           json_object_get_int_member(o, "vms"),
           json_object_get_int_member(o, "peers"));
    migrations = json_object_get_array_member(o, "migrations");
    for (guint i = 0; i < json_array_get_length(migrations); i++) {
        print_migration(json_array_get_object_element(migrations, i));
    }
    return true;
}

bool msc_cmd_status(MscCli *cli, int argc, char **argv, GError **errp)
{
    gboolean watch = FALSE;
    const GOptionEntry entries[] = { { "watch", 0, 0, G_OPTION_ARG_NONE, &watch,
                                       "again each second, until interrupted",
                                       NULL },
                                     { 0 } };

    if (!msc_cli_parse(cli, &argc, &argv, entries, 0, 0, "",
                       "What the daemon on this host knows.", errp)) {
        return false;
    }
    while (watch) {
        if (isatty(STDOUT_FILENO)) {
            printf(CLEAR_SCREEN);
        }
        if (!show_status(cli, errp) || fflush(stdout)) {
            return false;
        }
        g_usleep(G_USEC_PER_SEC);
    }
    return show_status(cli, errp);
}

static const char *text_member(JsonObject *o, const char *name)
{
    return o ? json_object_get_string_member_with_default(o, name, "") : "";
}

static void print_resolved(const char *vm, bool here, JsonNode *result)
{
    JsonObject *o =
        JSON_NODE_HOLDS_OBJECT(result) ? json_node_get_object(result) : NULL;
    bool already =
        o && json_object_get_boolean_member_with_default(o, "already", FALSE);

    printf("The guest is %s%s: %s\n", here ? "this host's" : "given up here",
           already ? " already" : "", text_member(o, "text"));
    if (!here) {
        printf("On the other host:\nmigration-sc resolve %s --here --code "
               "%s\n",
               vm, text_member(o, "code"));
    }
}

bool msc_cmd_resolve(MscCli *cli, int argc, char **argv, GError **errp)
{
    gboolean here = FALSE, there = FALSE, force = FALSE;
    g_autofree char *code = NULL;
    const GOptionEntry entries[] = {
        { "there", 0, 0, G_OPTION_ARG_NONE, &there,
          "the guest is the other host's: give it up here, and print the code "
          "for the other host",
          NULL },
        { "here", 0, 0, G_OPTION_ARG_NONE, &here,
          "the guest is this host's: it may run here", NULL },
        { "code", 0, 0, G_OPTION_ARG_STRING, &code,
          "with --here: what the other host printed", "CODE" },
        { "force", 0, 0, G_OPTION_ARG_NONE, &force,
          "with --here: without a code, for the other host will never run "
          "again",
          NULL },
        { 0 }
    };
    MscControlRequest request = { .command = MSC_CONTROL_RESOLVE };
    g_autoptr(JsonNode) result = NULL;

    if (!msc_cli_parse(cli, &argc, &argv, entries, 1, 1, "UUID",
                       "Ends a migration that was cut between RELEASE and its "
                       "receipt: the guest is paused on both hosts then. Say "
                       "--there on the host that shall not have it, then "
                       "--here with its code on the other.",
                       errp)) {
        return false;
    }
    if (here == there) {
        g_set_error_literal(errp, MSC_USAGE_ERROR, 0,
                            "say either --here or --there");
        return false;
    }
    if (there && (code || force)) {
        g_set_error_literal(errp, MSC_USAGE_ERROR, 0,
                            "--code and --force go with --here only");
        return false;
    }
    if (!msc_cli_is_uuid(argv[1], errp)) {
        return false;
    }
    request.vm = argv[1];
    request.here = here;
    request.force = force;
    request.code = code;
    result = msc_cli_ask(cli, &request, TIMEOUT_MS, errp);
    if (!result) {
        return false;
    }
    if (cli->json) {
        g_autofree char *text = json_to_string(result, TRUE);

        printf("%s\n", text);
    } else {
        print_resolved(argv[1], here, result);
    }
    return true;
}
