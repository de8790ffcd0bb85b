/*
 * migration-sc tunnel: the transport as a proxy between two unix sockets, for
 * a QEMU without the patches or any other stream.
 *
 *     QEMU -- unix socket -- tunnel ==TCP== tunnel -- unix socket -- QEMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "commands.h"
#include "error.h"
#include "tunnel-session.h"

#define SUMMARY                                                              \
    "Relays connections between a unix socket and another host, protected "  \
    "as a\nmigration is; what QEMU sends to the socket of the source comes " \
    "out of the\nsocket that the destination's QEMU listens on. Security "   \
    "context does not move;\nboth hosts must say context=optional.\n\n"      \
    "  source:       --listen unix:PATH --to HOST:PORT --vm UUID\n"          \
    "  destination:  --listen HOST:PORT --to unix:PATH --vm UUID"
#define TIMEOUT_MAX_S 600

typedef struct {
    char *listen, *to, *vm, *peer;
    int timeout_s;
    gint64 rekey_bytes;
    gboolean keep;
} Arguments;

static bool take_arguments(const Arguments *a, MscTunnelOptions *o,
                           GError **errp)
{
    if (!a->listen || !a->to || !a->vm) {
        g_set_error_literal(errp, MSC_USAGE_ERROR, 0,
                            "--listen, --to and --vm must be given; see "
                            "--help");
        return false;
    }
    if (a->timeout_s < 1 || a->timeout_s > TIMEOUT_MAX_S) {
        g_set_error(errp, MSC_USAGE_ERROR, 0,
                    "--timeout %d: must be 1 to %d seconds", a->timeout_s,
                    TIMEOUT_MAX_S);
        return false;
    }
    if (!msc_tunnel_address_parse(a->listen, &o->listen, errp) ||
        !msc_tunnel_address_parse(a->to, &o->to, errp)) {
        return false;
    }
    if (!o->listen.path == !o->to.path) {
        g_set_error_literal(errp, MSC_USAGE_ERROR, 0,
                            "exactly one of --listen and --to must be a "
                            "unix socket: the source's --listen, the "
                            "destination's --to");
        return false;
    }
    o->role = o->listen.path ? MSC_ROLE_SOURCE : MSC_ROLE_DESTINATION;
    o->vm = a->vm;
    o->peer = a->peer;
    o->timeout_ms = (unsigned)a->timeout_s * 1000;
    o->rekey_bytes = (uint64_t)MAX(a->rekey_bytes, 0);
    return true;
}

static void print_report(const MscCli *cli, const MscTunnelReport *r)
{
    g_autoptr(JsonBuilder) b = NULL;

    if (!cli->json) {
        printf("%u channels with %s (%s, %s): %" G_GUINT64_FORMAT
               " bytes sent, %" G_GUINT64_FORMAT " received\n",
               r->channels, r->peer, r->suite, r->kem, r->sent, r->received);
        fflush(stdout);
        return;
    }
    b = json_builder_new();
    json_builder_begin_object(b);
    msc_cli_json_text(b, "migration_id", r->migration_id);
    msc_cli_json_text(b, "peer", r->peer);
    msc_cli_json_text(b, "suite", r->suite);
    msc_cli_json_text(b, "kem", r->kem);
    msc_cli_json_number(b, "channels", r->channels);
    msc_cli_json_number(b, "sent", (gint64)r->sent);
    msc_cli_json_number(b, "received", (gint64)r->received);
    json_builder_end_object(b);
    msc_cli_print_json(b);
    fflush(stdout);
}

static bool serve_one(const MscCli *cli, const MscTunnelOptions *o,
                      int listener, MscClient *client, GError **errp)
{
    g_auto(MscTunnelReport) report = { 0 };
    bool ok = msc_tunnel_session(o, listener, client, &report, errp);

    if (ok) {
        print_report(cli, &report);
    }
    return ok;
}

static bool serve(const MscCli *cli, const MscTunnelOptions *o, bool keep,
                  GError **errp)
{
    /* Before anybody is let in: a helper that will not have it says so now. */
    g_autoptr(MscClient) client = msc_tunnel_client(o, errp);
    int listener = client ? msc_tunnel_listen(&o->listen, errp) : -1;
    bool ok = listener >= 0;

    if (ok) {
        fprintf(stderr, "migration-sc: listening on %s\n", o->listen.text);
    }
    while (ok) {
        g_autoptr(GError) err = NULL;

        ok = serve_one(cli, o, listener, client, &err);
        if (!keep) {
            if (err) {
                g_propagate_error(errp, g_steal_pointer(&err));
            }
            break;
        }
        if (err) {
            fprintf(stderr, "migration-sc: %s\n", err->message);
        }
        msc_client_unref(client);
        client = msc_tunnel_client(o, errp);
        ok = client != NULL;
    }
    if (listener >= 0) {
        close(listener);
        if (o->listen.path) {
            unlink(o->listen.path);
        }
    }
    return ok;
}

bool msc_cmd_tunnel(MscCli *cli, int argc, char **argv, GError **errp)
{
    const struct rlimit no_core = { 0, 0 };
    Arguments a = { .timeout_s = 10 };
    MscTunnelOptions o = { 0 };
    const GOptionEntry entries[] = {
        { "listen", 0, 0, G_OPTION_ARG_STRING, &a.listen,
          "where connections come from", "ADDRESS" },
        { "to", 0, 0, G_OPTION_ARG_STRING, &a.to, "where each is connected to",
          "ADDRESS" },
        { "vm", 0, 0, G_OPTION_ARG_STRING, &a.vm,
          "the guest, registered here for this user", "UUID" },
        { "peer", 0, 0, G_OPTION_ARG_STRING, &a.peer,
          "the only host that may be the other one", "NAME" },
        { "keep", 0, 0, G_OPTION_ARG_NONE, &a.keep,
          "go on after the first migration", NULL },
        { "timeout", 0, 0, G_OPTION_ARG_INT, &a.timeout_s,
          "for helper, connections and handshake, each (10)", "SECONDS" },
        { "rekey-bytes", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_INT64,
          &a.rekey_bytes, "for tests", "N" },
        { 0 }
    };
    bool ok = false;

    if (!msc_cli_parse(cli, &argc, &argv, entries, 0, 0, "", SUMMARY, errp) ||
        !take_arguments(&a, &o, errp)) {
        /* The error is set. */
    } else if (setrlimit(RLIMIT_CORE, &no_core)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                            "cannot switch core dumps off");
    } else {
        o.helper = g_build_filename(cli->runtime_dir, "helper.sock", NULL);
        ok = serve(cli, &o, a.keep, errp);
    }
    msc_tunnel_address_clear(&o.listen);
    msc_tunnel_address_clear(&o.to);
    g_free(o.helper);
    g_free(a.listen);
    g_free(a.to);
    g_free(a.vm);
    g_free(a.peer);
    return ok;
}
