/*
 * migration-sc: look into, check, save and restore the security context of
 * guests, and say which hosts are trusted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "msc-config.h"

/* clang-format off: these are no minus signs */
G_DEFINE_QUARK(msc - usage - error, msc_usage_error)
/* clang-format on */

static const struct {
    const char *name;
    MscCommand *run;
    const char *summary;
} commands[] = {
    { "keygen", msc_cmd_keygen, "make this host's key" },
    { "peer", msc_cmd_peer, "add, list or remove trusted hosts" },
    { "vm", msc_cmd_vm, "add, list or remove guests" },
    { "status", msc_cmd_status, "what the daemon knows of migrations" },
    { "check", msc_cmd_check, "ask a host whether it would take a guest" },
    { "diff", msc_cmd_diff, "what a migration back would send of a guest" },
    { "resolve", msc_cmd_resolve, "say where a guest is, after a cut" },
    { "inspect", msc_cmd_inspect, "print a file of security context" },
    { "snapshot", msc_cmd_snapshot, "save a guest's context to a file" },
    { "restore", msc_cmd_restore, "install a context from a file" },
    { "tunnel", msc_cmd_tunnel, "protect a stock QEMU's migration" },
    { "doctor", msc_cmd_doctor, "what this host lacks, and the fix" },
};

static void usage(FILE *out)
{
    fprintf(out, "Usage: migration-sc COMMAND [OPTION...]\n\nCommands:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(out, "\n'migration-sc COMMAND --help' tells the options of one.\n"
                 "Common options: --config-dir, --runtime-dir, --state-dir, "
                 "--json.\n");
}

bool msc_cli_parse(MscCli *cli, int *argc, char ***argv,
                   const GOptionEntry *entries, int min, int max,
                   const char *arguments, const char *summary, GError **errp)
{
    gboolean version = FALSE;
    const GOptionEntry common[] = {
        { "config-dir", 0, 0, G_OPTION_ARG_FILENAME, &cli->config_dir,
          "keys, peers, guests (" MSC_CONFIG_DIR ")", "DIR" },
        { "runtime-dir", 0, 0, G_OPTION_ARG_FILENAME, &cli->runtime_dir,
          "sockets (" MSC_RUNTIME_DIR ")", "DIR" },
        { "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &cli->state_dir,
          "journal (" MSC_STATE_DIR ")", "DIR" },
        { "json", 0, 0, G_OPTION_ARG_NONE, &cli->json, "output for programs",
          NULL },
        { "version", 0, 0, G_OPTION_ARG_NONE, &version, "print the version",
          NULL },
        { 0 }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(arguments);
    g_autoptr(GError) err = NULL;

    g_option_context_set_summary(context, summary);
    g_option_context_add_main_entries(context, common, NULL);
    if (entries) {
        g_option_context_add_main_entries(context, entries, NULL);
    }
    if (!g_option_context_parse(context, argc, argv, &err)) {
        g_set_error_literal(errp, MSC_USAGE_ERROR, 0, err->message);
        return false;
    }
    if (version) {
        /* As GLib does for --help. */
        printf("migration-sc %s\n", MSC_VERSION);
        exit(0);
    }
    if (*argc - 1 < min || *argc - 1 > max) {
        g_set_error(errp, MSC_USAGE_ERROR, 0, "expected: %s; see --help",
                    *arguments ? arguments : "no arguments");
        return false;
    }
    cli->config_dir =
        cli->config_dir ? cli->config_dir : g_strdup(MSC_CONFIG_DIR);
    cli->runtime_dir =
        cli->runtime_dir ? cli->runtime_dir : g_strdup(MSC_RUNTIME_DIR);
    cli->state_dir = cli->state_dir ? cli->state_dir : g_strdup(MSC_STATE_DIR);
    return true;
}

void msc_cli_print_json(JsonBuilder *builder)
{
    g_autoptr(JsonNode) root = json_builder_get_root(builder);
    g_autofree char *text = json_to_string(root, TRUE);

    printf("%s\n", text);
}

void msc_cli_json_text(JsonBuilder *b, const char *name, const char *text)
{
    json_builder_set_member_name(b, name);
    json_builder_add_string_value(b, text);
}

void msc_cli_json_number(JsonBuilder *b, const char *name, gint64 number)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, number);
}

/* Common options may stand before the command: they move behind it. */
static int find_command(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-') {
            return i;
        }
        if (g_str_has_suffix(argv[i], "-dir")) {
            i++;
        }
    }
    return 0;
}

static int run(MscCommand *command, int argc, char **argv)
{
    g_autoptr(GError) err = NULL;
    MscCli cli = { 0 };
    bool ok = command(&cli, argc, argv, &err);

    g_free(cli.config_dir);
    g_free(cli.runtime_dir);
    g_free(cli.state_dir);
    if (err) {
        fprintf(stderr, "migration-sc: %s\n", err->message);
    }
    return ok ? 0 : err && err->domain == MSC_USAGE_ERROR ? 2 : 1;
}

int main(int argc, char **argv)
{
    int at = find_command(argc, argv);

    if (!at) {
        bool version = argc > 1 && !strcmp(argv[1], "--version");
        bool help = argc > 1 && !strcmp(argv[1], "--help");

        if (version) {
            printf("migration-sc %s\n", MSC_VERSION);
        } else {
            usage(help ? stdout : stderr);
        }
        return version || help ? 0 : 2;
    }
    if (sodium_init() < 0) {
        fprintf(stderr, "migration-sc: libsodium did not initialize\n");
        return 1;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, argv[at])) {
            continue;
        }
        memmove(&argv[2], &argv[1], (size_t)(at - 1) * sizeof(*argv));
        argv[1] = argv[0];
        g_set_prgname("migration-sc");
        return run(commands[i].run, argc - 1, argv + 1);
    }
    fprintf(stderr, "migration-sc: no command '%s'; see --help\n", argv[at]);
    return 2;
}
