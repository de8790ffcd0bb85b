/*
 * migration-scd: the host's helper for secure live migration.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "error.h"
#include "identity.h"
#include "msc-config.h"
#include "reconcile.h"
#include "sandbox.h"
#include "server.h"

#define SETTLE_PERIOD_US G_USEC_PER_SEC
/* So long at most, while guests move. */
#define SETTLE_PUT_OFF_US (10 * G_USEC_PER_SEC)
#define RECONCILE_PERIOD_US (2 * G_USEC_PER_SEC)

typedef struct {
    char *config_dir;
    char *runtime_dir;
    char *state_dir;
    gboolean foreground;
    gboolean version;
} Options;

static bool parse_options(Options *o, int *argc, char ***argv, GError **errp)
{
    const GOptionEntry entries[] = {
        { "config-dir", 0, 0, G_OPTION_ARG_FILENAME, &o->config_dir,
          "keys, peers, guests (" MSC_CONFIG_DIR ")", "DIR" },
        { "runtime-dir", 0, 0, G_OPTION_ARG_FILENAME, &o->runtime_dir,
          "sockets (" MSC_RUNTIME_DIR ")", "DIR" },
        { "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &o->state_dir,
          "journal (" MSC_STATE_DIR ")", "DIR" },
        { "foreground", 0, 0, G_OPTION_ARG_NONE, &o->foreground,
          "stay in the foreground, which it always does", NULL },
        { "version", 0, 0, G_OPTION_ARG_NONE, &o->version, "print the version",
          NULL },
        { 0 }
    };
    g_autoptr(GOptionContext) context =
        g_option_context_new("- helper for secure live migration");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, errp)) {
        return false;
    }
    if (*argc > 1) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "unexpected argument '%s'", (*argv)[1]);
        return false;
    }
    o->config_dir = o->config_dir ? o->config_dir : g_strdup(MSC_CONFIG_DIR);
    o->runtime_dir =
        o->runtime_dir ? o->runtime_dir : g_strdup(MSC_RUNTIME_DIR);
    o->state_dir = o->state_dir ? o->state_dir : g_strdup(MSC_STATE_DIR);
    return true;
}

static int listen_in(const char *dir, const char *name, mode_t mode,
                     GError **errp)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return msc_server_listen(path, mode, errp);
}

/* A thread of its own, for it waits for other hosts. */
static void *reconcile_thread(void *hub)
{
    for (;;) {
        g_usleep(RECONCILE_PERIOD_US);
        msc_reconcile_all(hub);
    }
    return NULL;
}

static bool listen_to_peers(MscHub *hub, GError **errp)
{
    unsigned port = msc_hub_config(hub)->helper_port;
    int fd;

    if (!port) {
        return true;
    }
    fd = msc_server_listen_tcp(port, errp);
    if (fd < 0) {
        return false;
    }
    msc_server_start(hub, fd, msc_server_peer);
    g_thread_unref(g_thread_new("reconcile", reconcile_thread, hub));
    return true;
}

static bool start(const Options *o, MscHub **hub, GError **errp)
{
    g_autoptr(MscIdentity) identity = NULL;
    int qemu, control;

    /* A host without a key could only fail later, in a migration. */
    identity = msc_identity_load(o->config_dir, errp);
    if (!identity) {
        return false;
    }
    if (g_mkdir_with_parents(o->runtime_dir, 0755)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot make '%s': %s",
                    o->runtime_dir, g_strerror(errno));
        return false;
    }
    /* Anybody may connect: who may act for which guest is checked per
     * session, by credentials.  Control is for root. */
    qemu = listen_in(o->runtime_dir, "helper.sock", 0666, errp);
    control =
        qemu < 0 ? -1 : listen_in(o->runtime_dir, "control.sock", 0600, errp);
    if (control < 0 || !msc_sandbox_enter(errp)) {
        return false;
    }
    *hub = msc_hub_new(o->config_dir, o->state_dir, msc_providers(), errp);
    if (!*hub || !msc_hub_recover(*hub, errp) || !listen_to_peers(*hub, errp)) {
        return false;
    }
    msc_server_start(*hub, qemu, msc_server_qemu);
    msc_server_start(*hub, control, msc_server_control);
    return true;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) err = NULL;
    Options options = { 0 };
    MscHub *hub = NULL;
    gint64 settled = g_get_monotonic_time();

    signal(SIGPIPE, SIG_IGN);
    if (!parse_options(&options, &argc, &argv, &err)) {
        fprintf(stderr, "migration-scd: %s\n", err->message);
        return 2;
    }
    if (options.version) {
        printf("migration-scd %s\n", MSC_VERSION);
        return 0;
    }
    if (!start(&options, &hub, &err)) {
        fprintf(stderr, "migration-scd: %s\n", err->message);
        return 1;
    }
    fprintf(stderr, "migration-scd: ready\n");
    for (;;) {
        gint64 now = g_get_monotonic_time();

        /* A guest that moves may be stopped just now, and waits for us. */
        if (!msc_hub_is_moving(hub) || now - settled > SETTLE_PUT_OFF_US) {
            msc_hub_settle(hub);
            settled = now;
        }
        g_usleep(SETTLE_PERIOD_US);
    }
}
