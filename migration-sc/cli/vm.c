/*
 * migration-sc vm add|list|remove
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "ask.h"
#include "vm.h"

#define ARGUMENTS "add UUID | list | remove UUID"
/* Not -1: who says --zone=-1 must not get a guest without a zone. */
#define NOT_GIVEN INT_MIN

typedef struct {
    char *name, *mark, *policy, *cgroup, *peer;
    char *nft_existing, *nft_scope;
    char **address, **nat_address, **nft_table, **interface;
    int zone, uid;
} VmOptions;

static bool add_addresses(char **texts, GArray *out, GError **errp)
{
    for (; texts && *texts; texts++) {
        g_autoptr(GError) err = NULL;
        MscAddress address;

        if (!msc_address_parse(*texts, &address, &err)) {
            g_set_error(errp, MSC_USAGE_ERROR, 0, "%s", err->message);
            return false;
        }
        g_array_append_val(out, address);
    }
    return true;
}

static bool add_texts(char **texts, MscSelector *s,
                      bool (*take)(MscSelector *, const char *, GError **),
                      GError **errp)
{
    for (; texts && *texts; texts++) {
        g_autoptr(GError) err = NULL;

        if (!take(s, *texts, &err)) {
            g_set_error(errp, MSC_USAGE_ERROR, 0, "%s", err->message);
            return false;
        }
    }
    return true;
}

static bool add_nft(const VmOptions *o, MscSelector *s, GError **errp)
{
    g_autoptr(GError) err = NULL;

    if (o->nft_existing &&
        !msc_nft_existing_parse(o->nft_existing, &s->nft_existing, &err)) {
        g_set_error(errp, MSC_USAGE_ERROR, 0, "--nft-existing %s",
                    err->message);
        return false;
    }
    if (o->nft_scope &&
        !msc_nft_scope_parse(o->nft_scope, &s->nft_scope, &err)) {
        g_set_error(errp, MSC_USAGE_ERROR, 0, "--nft-scope %s", err->message);
        return false;
    }
    return add_texts(o->nft_table, s, msc_selector_add_table, errp) &&
           add_texts(o->interface, s, msc_selector_add_interface, errp);
}

static bool add(MscCli *cli, const char *uuid, const VmOptions *o,
                GError **errp)
{
    g_autoptr(MscVm) vm = g_new0(MscVm, 1);
    MscSelector *s = vm->selector = msc_selector_new();

    if (!msc_cli_is_uuid(uuid, errp)) {
        return false;
    }
    vm->uuid = g_ascii_strdown(uuid, -1);
    vm->name = g_strdup(o->name ? o->name : vm->uuid);
    vm->has_uid = o->uid != NOT_GIVEN;
    vm->uid = o->uid != NOT_GIVEN ? (uid_t)o->uid : 0;
    vm->cgroup = g_strdup(o->cgroup);
    vm->peer = g_strdup(o->peer);
    if (o->zone > UINT16_MAX || (o->zone < 0 && o->zone != NOT_GIVEN)) {
        g_set_error(errp, MSC_USAGE_ERROR, 0, "--zone %d: must be 0 to %d",
                    o->zone, UINT16_MAX);
        return false;
    }
    if (o->uid < 0 && o->uid != NOT_GIVEN) {
        g_set_error(errp, MSC_USAGE_ERROR, 0, "--uid %d: must not be negative",
                    o->uid);
        return false;
    }
    s->has_zone = o->zone != NOT_GIVEN;
    s->zone = o->zone != NOT_GIVEN ? (uint16_t)o->zone : 0;
    s->has_mark = o->mark != NULL;
    if (o->policy && strcmp(o->policy, "refuse") &&
        strcmp(o->policy, "leave-behind")) {
        g_set_error(errp, MSC_USAGE_ERROR, 0,
                    "--nat-policy %s: must be refuse or leave-behind",
                    o->policy);
        return false;
    }
    s->nat_policy = o->policy && !strcmp(o->policy, "leave-behind")
                        ? MSC_NAT_LEAVE_BEHIND
                        : MSC_NAT_REFUSE;
    return (!o->mark ||
            msc_mark_parse(o->mark, &s->mark, &s->mark_mask, errp)) &&
           add_addresses(o->address, s->addresses, errp) &&
           add_addresses(o->nat_address, s->nat_addresses, errp) &&
           add_nft(o, s, errp) && msc_vm_save(cli->config_dir, vm, errp);
}

static char *addresses_text(const GArray *addresses)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < addresses->len; i++) {
        g_autofree char *text =
            msc_address_format(&g_array_index(addresses, MscAddress, i));

        g_string_append_printf(out, "%s%s", i ? "," : "", text);
    }
    return g_string_free(out, FALSE);
}

static char *tables_text(const MscSelector *s)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < s->nft_tables->len; i++) {
        g_autofree char *text =
            msc_nft_table_name_format(s->nft_tables->pdata[i]);

        g_string_append_printf(out, "%s%s", i ? "," : "", text);
    }
    return g_string_free(out, FALSE);
}

static char *interfaces_text(const MscSelector *s)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < s->interfaces->len; i++) {
        const MscInterface *one = s->interfaces->pdata[i];

        g_string_append_printf(out, "%s%s=%s", i ? "," : "", one->role,
                               one->device);
    }
    return g_string_free(out, FALSE);
}

static bool list(MscCli *cli, GError **errp)
{
    g_autoptr(GPtrArray) vms = msc_vms_load(cli->config_dir, errp);
    g_autoptr(JsonBuilder) b = json_builder_new();

    if (!vms) {
        return false;
    }
    json_builder_begin_array(b);
    for (guint i = 0; i < vms->len; i++) {
        const MscVm *vm = vms->pdata[i];
        const MscSelector *s = vm->selector;
        g_autofree char *addresses = addresses_text(s->addresses);
        g_autofree char *nat = addresses_text(s->nat_addresses);
        g_autofree char *tables = tables_text(s);
        g_autofree char *interfaces = interfaces_text(s);

        json_builder_begin_object(b);
        msc_cli_json_text(b, "uuid", vm->uuid);
        msc_cli_json_text(b, "name", vm->name);
        msc_cli_json_text(b, "addresses", addresses);
        msc_cli_json_text(b, "nat_addresses", nat);
        msc_cli_json_text(b, "nft_tables", tables);
        msc_cli_json_text(b, "interfaces", interfaces);
        if (s->has_zone) {
            msc_cli_json_number(b, "zone", s->zone);
        }
        if (s->has_mark) {
            msc_cli_json_number(b, "mark", s->mark);
            msc_cli_json_number(b, "mark_mask", s->mark_mask);
        }
        msc_cli_json_text(b, "peer", vm->peer ? vm->peer : "");
        json_builder_end_object(b);
        if (!cli->json) {
            g_autofree char *zone = s->has_zone
                                        ? g_strdup_printf("zone %u", s->zone)
                                        : g_strdup("");

            printf("%s  %-16s %-10s %s%s%s%s%s%s%s\n", vm->uuid, vm->name, zone,
                   addresses, *nat ? " NAT " : "", nat, *tables ? " nft " : "",
                   tables, *interfaces ? " on " : "", interfaces);
        }
    }
    json_builder_end_array(b);
    if (cli->json) {
        msc_cli_print_json(b);
    }
    return true;
}

bool msc_cmd_vm(MscCli *cli, int argc, char **argv, GError **errp)
{
    VmOptions o = { .zone = NOT_GIVEN, .uid = NOT_GIVEN };
    const GOptionEntry entries[] = {
        { "name", 0, 0, G_OPTION_ARG_STRING, &o.name, "for people", "NAME" },
        { "address", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.address,
          "an address of the guest (repeatable)", "ADDR" },
        { "nat-address", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.nat_address,
          "a NAT address that moves with it (repeatable)", "ADDR" },
        { "zone", 0, 0, G_OPTION_ARG_INT, &o.zone, "its conntrack zone", "N" },
        { "mark", 0, 0, G_OPTION_ARG_STRING, &o.mark, "its conntrack mark",
          "VALUE[/MASK]" },
        { "nat-policy", 0, 0, G_OPTION_ARG_STRING, &o.policy,
          "flows that cannot move: refuse or leave-behind (refuse)", "POLICY" },
        { "nft-table", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.nft_table,
          "an nftables table of the guest's own (repeatable)",
          "\"FAMILY NAME\"" },
        { "interface", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.interface,
          "an interface of the guest: a name that is the same on every host, "
          "and this host's device (repeatable)",
          "ROLE=DEVICE" },
        { "nft-existing", 0, 0, G_OPTION_ARG_STRING, &o.nft_existing,
          "a table that is here when the guest comes, and differs: refuse or "
          "replace (refuse)",
          "POLICY" },
        { "nft-scope", 0, 0, G_OPTION_ARG_STRING, &o.nft_scope,
          "whose packets rules that come here may touch: guest or host "
          "(guest)",
          "SCOPE" },
        { "uid", 0, 0, G_OPTION_ARG_INT, &o.uid,
          "user whose process may act for it (0)", "UID" },
        { "cgroup", 0, 0, G_OPTION_ARG_STRING, &o.cgroup,
          "cgroup that process must be in", "PATH" },
        { "peer", 0, 0, G_OPTION_ARG_STRING, &o.peer,
          "the only host it may come from or go to", "NAME" },
        { 0 }
    };
    bool ok = false;

    if (!msc_cli_parse(cli, &argc, &argv, entries, 1, 2, ARGUMENTS,
                       "The guests of this host, and which flows are theirs.",
                       errp)) {
        /* The error is set. */
    } else if (!strcmp(argv[1], "add") && argc == 3) {
        ok = add(cli, argv[2], &o, errp);
    } else if (!strcmp(argv[1], "list") && argc == 2) {
        ok = list(cli, errp);
    } else if (!strcmp(argv[1], "remove") && argc == 3) {
        ok = msc_vm_remove(cli->config_dir, argv[2], errp);
        if (ok) {
            msc_base_remove(cli->state_dir, argv[2]);
        }
    } else {
        g_set_error(errp, MSC_USAGE_ERROR, 0, "expected: vm %s", ARGUMENTS);
    }
    g_free(o.name);
    g_free(o.mark);
    g_free(o.policy);
    g_free(o.cgroup);
    g_free(o.peer);
    g_strfreev(o.address);
    g_strfreev(o.nat_address);
    g_strfreev(o.nft_table);
    g_strfreev(o.interface);
    g_free(o.nft_existing);
    g_free(o.nft_scope);
    return ok;
}
