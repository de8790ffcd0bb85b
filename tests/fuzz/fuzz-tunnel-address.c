/*
 * A tunnel's address on the command line: refused with a reason, or exactly
 * one of unix:PATH, HOST:PORT and [ADDRESS]:PORT, whose parts make up the
 * whole text.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "commands.h"
#include "fuzz.h"
#include "tunnel-socket.h"

/* main.c's, which has a main() of its own. */
GQuark msc_usage_error_quark(void)
{
    return g_quark_from_static_string("msc-usage-error");
}

static void check(const char *text, const MscTunnelAddress *a)
{
    g_autofree char *unix_path = NULL, *plain = NULL, *brackets = NULL;
    guint64 port;

    fuzz_must(!strcmp(a->text, text));
    if (a->path) {
        unix_path = g_strconcat("unix:", a->path, NULL);
        fuzz_must(!a->host && !a->port && a->path[0] == '/');
        fuzz_must(!strcmp(unix_path, text));
        return;
    }
    plain = g_strconcat(a->host, ":", a->port, NULL);
    brackets = g_strconcat("[", a->host, "]:", a->port, NULL);
    fuzz_must(*a->host && (!strcmp(plain, text) || !strcmp(brackets, text)));
    /* An IPv6 address without brackets would be cut anywhere. */
    fuzz_must(!strchr(a->host, ':') || !strcmp(brackets, text));
    fuzz_must(g_ascii_string_to_unsigned(a->port, 10, 1, 65535, &port, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(MscTunnelAddress) address = { 0 };
    g_autoptr(GError) err = NULL;
    bool ok = msc_tunnel_address_parse(text, &address, &err);

    fuzz_must(ok == !err);
    if (ok) {
        check(text, &address);
    } else {
        fuzz_must(!address.text && !address.path && !address.host &&
                  !address.port);
    }
    return 0;
}
