/*
 * migration-sc doctor
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <cap-ng.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "ask.h"
#include "error.h"
#include "identity.h"
#include "kem.h"
#include "provider.h"
#include "suite.h"
#include "vm.h"

/* What one QEMU channel needs locked at most, with room to spare. */
#define MEMLOCK_WANTED (1024 * 1024)

/* 2025-01-01, seconds since 1970. */
#define BUILT_AFTER 1735689600

typedef struct {
    GPtrArray *problems; /* must be fixed */
    GPtrArray *notes;    /* works, but could be better */
} Findings;

static void take_error(Findings *f, GError *err)
{
    g_ptr_array_add(f->problems, g_strdup(err->message));
    g_error_free(err);
}

static void check_config(MscCli *cli, Findings *f)
{
    g_autoptr(MscIdentity) identity = NULL;
    g_autoptr(MscConfig) config = NULL;
    g_autoptr(GPtrArray) peers = NULL;
    g_autoptr(GPtrArray) vms = NULL;
    GError *err = NULL;

    identity = msc_identity_load(cli->config_dir, &err);
    if (!identity) {
        take_error(f, g_steal_pointer(&err));
    }
    config = msc_config_load(cli->config_dir, &err);
    if (!config) {
        take_error(f, g_steal_pointer(&err));
    }
    peers = msc_peers_load(cli->config_dir, &err);
    if (!peers) {
        take_error(f, g_steal_pointer(&err));
    } else if (!peers->len) {
        g_ptr_array_add(
            f->problems,
            g_strdup(
                "no other host is trusted: 'migration-sc peer add NAME KEY' with "
                "the key that 'keygen' printed there"));
    }
    vms = msc_vms_load(cli->config_dir, &err);
    if (!vms) {
        take_error(f, g_steal_pointer(&err));
    } else if (!vms->len) {
        g_ptr_array_add(
            f->problems,
            g_strdup(
                "no guest is registered: 'migration-sc vm add UUID --address "
                "ADDR'"));
    }
}

static void check_crypto(Findings *f)
{
    struct rlimit lock;

    if (!msc_suite_by_id(MSC_SUITE_AES_256_GCM)) {
        g_ptr_array_add(
            f->notes,
            g_strdup(
                "this CPU has no AES instructions: aes-256-gcm is not offered"));
    }
    if (!msc_suite_by_id(MSC_SUITE_AEGIS_128L)) {
        g_ptr_array_add(
            f->notes,
            g_strdup("libsodium is older than 1.0.19 or this CPU has no AES "
                     "instructions: the fast AEGIS suites are not offered"));
    }
    if (!msc_kem_by_id(MSC_KEM_XWING)) {
        g_ptr_array_add(
            f->notes,
            g_strdup("libsodium is older than 1.0.22: no post-quantum key "
                     "agreement"));
    }
    if (!getrlimit(RLIMIT_MEMLOCK, &lock) && lock.rlim_cur < MEMLOCK_WANTED) {
        g_ptr_array_add(
            f->problems,
            g_strdup("less than 1 MiB may be locked: raise RLIMIT_MEMLOCK "
                     "(ulimit -l), or keys could be swapped out"));
    }
}

static void check_daemon(MscCli *cli, Findings *f)
{
    MscControlRequest request = { .command = MSC_CONTROL_STATUS };
    GError *err = NULL;
    g_autoptr(JsonNode) result = msc_cli_ask(cli, &request, 5000, &err);

    if (!result) {
        take_error(f, err);
    }
}

/* Both sockets as migration-scd makes them. */
static void check_socket(MscCli *cli, const char *name, mode_t mode,
                         Findings *f)
{
    g_autofree char *path = g_build_filename(cli->runtime_dir, name, NULL);
    struct stat st;

    /* That it is missing, check_daemon() says. */
    if (!stat(path, &st) &&
        (!S_ISSOCK(st.st_mode) || (st.st_mode & 0777) != mode || st.st_uid)) {
        g_ptr_array_add(
            f->problems,
            g_strdup_printf(
                "'%s' must be a socket of root's with mode %04o: restart "
                "migration-scd",
                path, (unsigned)mode));
    }
}

static void check_capability(Findings *f)
{
    capng_get_caps_process();
    if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN)) {
        g_ptr_array_add(
            f->problems,
            g_strdup(
                "no CAP_NET_ADMIN: run this, snapshot and restore as root"));
    }
}

/* A clock that starts at 1970 lets expired peers in, and new ones not. */
static void check_clock(Findings *f)
{
    if (g_get_real_time() / G_USEC_PER_SEC < BUILT_AFTER) {
        g_ptr_array_add(
            f->problems,
            g_strdup("the clock is before this program was written: set it, or "
                     "run an NTP client"));
    }
}

static void check_tracking(Findings *f)
{
    static const struct {
        const char *name, *why;
    } wanted[] = {
        { "acct", "the kernel does not count packets of flows: TCP flows that "
                  "come here stay lenient" },
        { "events", "flows do not tell all that changes: what is sent while a "
                    "guest is stopped grows with its table" },
        { "timestamp", "flows do not tell their age: what is sent while a "
                       "guest is stopped grows with its table" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++) {
        g_autofree char *path =
            g_strconcat("/proc/sys/net/netfilter/nf_conntrack_", wanted[i].name,
                        NULL);
        g_autofree char *text = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL) && text[0] != '1') {
            g_ptr_array_add(
                f->notes,
                g_strdup_printf(
                    "%s; set sysctl net.netfilter.nf_conntrack_%s=1 (the "
                    "daemon does when it may)",
                    wanted[i].why, wanted[i].name));
        }
    }
}

static bool knows_our_object(const char *qemu)
{
    const char *argv[] = { qemu, "-object", "help", NULL };
    g_autofree char *out = NULL;

    return g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL,
                        NULL, NULL, &out, NULL, NULL, NULL) &&
           strstr(out, "migration-sc") != NULL;
}

static void check_qemu(Findings *f)
{
    g_auto(GStrv) dirs =
        g_strsplit(g_getenv("PATH") ? g_getenv("PATH") : "", ":", -1);
    g_autofree char *without = NULL;

    for (char **dir = dirs; *dir; dir++) {
        GDir *d = g_dir_open(*dir, 0, NULL);
        const char *name;

        while (d && (name = g_dir_read_name(d))) {
            g_autofree char *path = g_build_filename(*dir, name, NULL);

            if (!g_str_has_prefix(name, "qemu-system-")) {
                continue;
            }
            if (knows_our_object(path)) {
                g_dir_close(d);
                return;
            }
            g_free(without);
            without = g_steal_pointer(&path);
        }
        if (d) {
            g_dir_close(d);
        }
    }
    g_ptr_array_add(
        f->notes, without
                      ? g_strdup_printf(
                            "'%s' has no migration-sc object, and neither has "
                            "another in PATH: build QEMU with qemu-patches/",
                            without)
                      : g_strdup("no qemu-system-* in PATH: build QEMU with "
                                 "qemu-patches/"));
}

static void check_providers(Findings *f)
{
    for (const MscProvider *const *p = msc_providers(); *p; p++) {
        GError *err = NULL;

        if (!(*p)->probe(f->problems, &err)) {
            take_error(f, err);
        } else if ((*p)->describe) {
            g_ptr_array_add(f->notes, (*p)->describe());
        }
    }
}

static void print_list(JsonBuilder *b, const char *name, GPtrArray *list)
{
    if (b) {
        json_builder_set_member_name(b, name);
        json_builder_begin_array(b);
    }
    for (guint i = 0; i < list->len; i++) {
        if (b) {
            json_builder_add_string_value(b, list->pdata[i]);
        } else {
            printf("%s: %s\n", name, (const char *)list->pdata[i]);
        }
    }
    if (b) {
        json_builder_end_array(b);
    }
}

bool msc_cmd_doctor(MscCli *cli, int argc, char **argv, GError **errp)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    Findings f = { problems, notes };
    g_autoptr(JsonBuilder) b = NULL;

    if (!msc_cli_parse(cli, &argc, &argv, NULL, 0, 0, "",
                       "Looks for what this host lacks, and says the fix. "
                       "Exit status 0 if nothing must be fixed.",
                       errp)) {
        return false;
    }
    check_config(cli, &f);
    check_crypto(&f);
    check_capability(&f);
    check_clock(&f);
    check_daemon(cli, &f);
    check_socket(cli, "helper.sock", 0666, &f);
    check_socket(cli, "control.sock", 0600, &f);
    check_qemu(&f);
    check_tracking(&f);
    check_providers(&f);
    if (cli->json) {
        b = json_builder_new();
        json_builder_begin_object(b);
    }
    print_list(b, "problem", problems);
    print_list(b, "note", notes);
    if (b) {
        json_builder_end_object(b);
        msc_cli_print_json(b);
    } else if (!problems->len) {
        printf("nothing is missing\n");
    }
    return !problems->len;
}
