/*
 * The subcommands of migration-sc.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_CLI_COMMANDS_H
#define MSC_CLI_COMMANDS_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

/* Options that every subcommand takes. */
typedef struct {
    char *config_dir;
    char *runtime_dir;
    char *state_dir;
    gboolean json;
} MscCli;

/* Parses @entries (may be NULL) and the common options out of argv; exactly
 * @min to @max other arguments must be left after the program's name. */
bool msc_cli_parse(MscCli *cli, int *argc, char ***argv,
                   const GOptionEntry *entries, int min, int max,
                   const char *usage, const char *summary, GError **errp);
/* An argument is wrong: exit status 2. */
#define MSC_USAGE_ERROR (msc_usage_error_quark())
GQuark msc_usage_error_quark(void);

void msc_cli_print_json(JsonBuilder *builder);
void msc_cli_json_text(JsonBuilder *b, const char *name, const char *text);
void msc_cli_json_number(JsonBuilder *b, const char *name, gint64 number);

typedef bool MscCommand(MscCli *cli, int argc, char **argv, GError **errp);

MscCommand msc_cmd_keygen, msc_cmd_peer, msc_cmd_vm, msc_cmd_status,
    msc_cmd_resolve, msc_cmd_check, msc_cmd_diff, msc_cmd_inspect,
    msc_cmd_snapshot, msc_cmd_restore, msc_cmd_tunnel, msc_cmd_doctor;

#endif
