/*
 * migration-sc peer add|list|remove
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "error.h"
#include "identity.h"
#include "selector.h"

#define ARGUMENTS "add NAME FILE-OR-KEY | list | revoke NAME | remove NAME"

static bool parse_role(const char *role, unsigned *roles, GError **errp)
{
    *roles = MSC_PEER_MAY_SEND | MSC_PEER_MAY_RECEIVE;
    if (!role || !strcmp(role, "both")) {
        return true;
    }
    *roles = !strcmp(role, "source")        ? MSC_PEER_MAY_SEND
             : !strcmp(role, "destination") ? MSC_PEER_MAY_RECEIVE
                                            : 0;
    if (!*roles) {
        g_set_error(errp, MSC_USAGE_ERROR, 0,
                    "--role %s: must be source, destination or both", role);
    }
    return *roles != 0;
}

static bool add(MscCli *cli, const char *name, const char *key, char **address,
                char **vm, const char *role, const char *expires, GError **errp)
{
    g_autoptr(MscPeer) peer = g_new0(MscPeer, 1);
    g_autofree char *text = NULL;

    if (!parse_role(role, &peer->roles, errp)) {
        return false;
    }
    peer->expires = MSC_PEER_FOREVER;
    if (expires && !msc_peer_time_parse(expires, &peer->expires)) {
        g_set_error(errp, MSC_USAGE_ERROR, 0,
                    "--expires %s: must be a time with its zone, such as "
                    "2027-01-31T00:00:00Z",
                    expires);
        return false;
    }
    for (char **a = address; a && *a; a++) {
        MscAddress parsed;
        char *canonical;

        if (!msc_address_parse(*a, &parsed, errp)) {
            return false;
        }
        canonical = msc_address_format(&parsed);
        g_free(*a);
        *a = canonical;
    }
    for (char **v = vm; v && *v; v++) {
        if (!g_uuid_string_is_valid(*v)) {
            g_set_error(errp, MSC_USAGE_ERROR, 0, "--vm %s: not a UUID", *v);
            return false;
        }
    }
    if (!g_file_get_contents(key, &text, NULL, NULL)) {
        text = g_strdup(key);
    }
    if (!msc_peer_key_parse(text, peer->key, errp)) {
        g_prefix_error(errp,
                       "'%.80s' is neither a key nor a file with one: ", key);
        return false;
    }
    peer->name = g_strdup(name);
    peer->addresses = g_strdupv(address);
    peer->vms = g_strdupv(vm);
    return msc_peer_save(cli->config_dir, peer, errp);
}

/* Its key stays known, so that it cannot come back under another name. */
static bool revoke_peer(MscCli *cli, const char *name, GError **errp)
{
    g_autoptr(GPtrArray) peers = msc_peers_load(cli->config_dir, errp);

    if (!peers) {
        return false;
    }
    for (guint i = 0; i < peers->len; i++) {
        MscPeer *peer = peers->pdata[i];

        if (!strcmp(peer->name, name)) {
            peer->revoked = true;
            return msc_peer_save(cli->config_dir, peer, errp);
        }
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                "there is no peer '%s': see 'migration-sc peer list'", name);
    return false;
}

static const char *role_text(unsigned roles)
{
    return roles == MSC_PEER_MAY_SEND      ? "source"
           : roles == MSC_PEER_MAY_RECEIVE ? "destination"
                                           : "both";
}

static void json_list(JsonBuilder *b, const char *name, char **list)
{
    json_builder_set_member_name(b, name);
    json_builder_begin_array(b);
    for (; list && *list; list++) {
        json_builder_add_string_value(b, *list);
    }
    json_builder_end_array(b);
}

static bool list(MscCli *cli, GError **errp)
{
    g_autoptr(GPtrArray) peers = msc_peers_load(cli->config_dir, errp);
    g_autoptr(JsonBuilder) b = json_builder_new();

    if (!peers) {
        return false;
    }
    json_builder_begin_array(b);
    for (guint i = 0; i < peers->len; i++) {
        const MscPeer *p = peers->pdata[i];
        g_autofree char *key = g_base64_encode(p->key, sizeof(p->key));
        g_autofree char *addresses = g_strjoinv(",", p->addresses);
        g_autofree char *vms = g_strjoinv(",", p->vms);
        g_autofree char *expires = p->expires == MSC_PEER_FOREVER
                                       ? NULL
                                       : msc_peer_time_format(p->expires);
        bool current =
            msc_peer_is_current(p, g_get_real_time() / G_USEC_PER_SEC, NULL);

        json_builder_begin_object(b);
        msc_cli_json_text(b, "name", p->name);
        msc_cli_json_text(b, "key", key);
        msc_cli_json_text(b, "role", role_text(p->roles));
        json_list(b, "addresses", p->addresses);
        json_list(b, "vms", p->vms);
        if (expires) {
            msc_cli_json_text(b, "expires", expires);
        }
        msc_cli_json_text(b, "trust",
                          p->revoked ? "revoked"
                          : current  ? "current"
                                     : "expired");
        json_builder_end_object(b);
        if (!cli->json) {
            printf("%-16s %-44s %-11s %-24s %s%s%s%s\n", p->name, key,
                   role_text(p->roles), *addresses ? addresses : "any address",
                   *vms ? vms : "any guest", p->revoked ? " revoked" : "",
                   expires ? (current ? " until " : " expired ") : "",
                   expires ? expires : "");
        }
    }
    json_builder_end_array(b);
    if (cli->json) {
        msc_cli_print_json(b);
    }
    return true;
}

bool msc_cmd_peer(MscCli *cli, int argc, char **argv, GError **errp)
{
    g_auto(GStrv) address = NULL;
    g_auto(GStrv) vm = NULL;
    g_autofree char *role = NULL;
    g_autofree char *expires = NULL;
    const GOptionEntry entries[] = {
        { "address", 0, 0, G_OPTION_ARG_STRING_ARRAY, &address,
          "it may only be at this address (repeatable)", "ADDR" },
        { "vm", 0, 0, G_OPTION_ARG_STRING_ARRAY, &vm,
          "only for this guest (repeatable)", "UUID" },
        { "role", 0, 0, G_OPTION_ARG_STRING, &role,
          "source, destination or both (both)", "ROLE" },
        { "expires", 0, 0, G_OPTION_ARG_STRING, &expires,
          "trusted until then, such as 2027-01-31T00:00:00Z", "TIME" },
        { 0 }
    };

    if (!msc_cli_parse(cli, &argc, &argv, entries, 1, 3, ARGUMENTS,
                       "The hosts that this one trusts. A removed or revoked "
                       "peer is refused from the next handshake on, that of "
                       "a further channel included.",
                       errp)) {
        return false;
    }
    if (!strcmp(argv[1], "add") && argc == 4) {
        return add(cli, argv[2], argv[3], address, vm, role, expires, errp);
    }
    if (!strcmp(argv[1], "list") && argc == 2) {
        return list(cli, errp);
    }
    if (!strcmp(argv[1], "revoke") && argc == 3) {
        return revoke_peer(cli, argv[2], errp);
    }
    if (!strcmp(argv[1], "remove") && argc == 3) {
        return msc_peer_remove(cli->config_dir, argv[2], errp);
    }
    g_set_error(errp, MSC_USAGE_ERROR, 0, "expected: peer %s", ARGUMENTS);
    return false;
}
