/*
 * migration-sc inspect, snapshot, restore: contexts as files.
 *
 * A file is the plain context (wire/context.h).  Live keys never get into
 * one; what providers put there today is no secret, but it is the guest's
 * business: mode 0600.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <migration-sc/helper-client.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "context.h"
#include "error.h"
#include "provider.h"
#include "vm.h"

static const MscProvider *find_provider(const char *name)
{
    for (const MscProvider *const *p = msc_providers(); *p; p++) {
        if (!strcmp((*p)->name, name)) {
            return *p;
        }
    }
    return NULL;
}

static MscContext *load(const char *path, GError **errp)
{
    g_autofree char *data = NULL;
    MscContext *context;
    gsize len;

    if (!g_file_get_contents(path, &data, &len, errp)) {
        return NULL;
    }
    context = msc_context_decode(data, len, errp);
    if (!context) {
        g_prefix_error(errp, "'%s': ", path);
    }
    return context;
}

static void print_line(const char *line, void *opaque)
{
    JsonBuilder *b = opaque;

    if (b) {
        json_builder_add_string_value(b, line);
    } else {
        printf("  %s\n", line);
    }
}

static bool inspect_section(const MscSection *s, JsonBuilder *b, GError **errp)
{
    const MscProvider *p = find_provider(s->name);
    bool ok = true;

    if (b) {
        json_builder_begin_object(b);
        msc_cli_json_text(b, "provider", s->name);
        msc_cli_json_number(b, "version", s->version);
        msc_cli_json_number(b, "bytes", (gint64)g_bytes_get_size(s->data));
        json_builder_set_member_name(b, "entries");
        json_builder_begin_array(b);
    } else {
        printf("%s, version %u, %zu bytes%s\n", s->name, s->version,
               g_bytes_get_size(s->data), p ? ":" : ", unknown here");
    }
    if (p && s->oldest <= p->version && s->version >= p->oldest) {
        ok = p->print(s->data, print_line, b, errp);
    }
    if (b) {
        json_builder_end_array(b);
        json_builder_end_object(b);
    }
    return ok;
}

bool msc_cmd_inspect(MscCli *cli, int argc, char **argv, GError **errp)
{
    g_autoptr(JsonBuilder) b = NULL;
    g_autoptr(MscContext) context = NULL;
    g_autoptr(GDateTime) when = NULL;
    g_autofree char *date = NULL;
    char vm[MSC_UUID_STR_LEN + 1];

    if (!msc_cli_parse(cli, &argc, &argv, NULL, 1, 1, "FILE",
                       "Prints a file of security context.", errp)) {
        return false;
    }
    context = load(argv[1], errp);
    if (!context) {
        return false;
    }
    msc_uuid_format(context->vm, vm);
    when = g_date_time_new_from_unix_utc(
        (gint64)(context->wall_us / G_USEC_PER_SEC));
    date = when ? g_date_time_format_iso8601(when) : g_strdup("?");
    if (cli->json) {
        b = json_builder_new();
        json_builder_begin_object(b);
        msc_cli_json_text(b, "vm", vm);
        msc_cli_json_text(b, "taken", date);
        json_builder_set_member_name(b, "sections");
        json_builder_begin_array(b);
    } else {
        printf("guest %s, taken %s\n", vm, date);
    }
    for (guint i = 0; i < context->sections->len; i++) {
        if (!inspect_section(context->sections->pdata[i], b, errp)) {
            return false;
        }
    }
    if (b) {
        json_builder_end_array(b);
        json_builder_end_object(b);
        msc_cli_print_json(b);
    }
    return true;
}

bool msc_cmd_snapshot(MscCli *cli, int argc, char **argv, GError **errp)
{
    g_autoptr(MscContext) context = msc_context_new();
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(MscVm) vm = NULL;
    guint64 entries = 0;

    if (!msc_cli_parse(cli, &argc, &argv, NULL, 2, 2, "UUID FILE",
                       "Saves the guest's context as it is now.", errp)) {
        return false;
    }
    vm = msc_vm_load(cli->config_dir, argv[1], errp);
    if (!vm || !msc_uuid_parse(vm->uuid, context->vm, errp)) {
        return false;
    }
    context->wall_us = (uint64_t)g_get_real_time();
    for (const MscProvider *const *p = msc_providers(); *p; p++) {
        MscProviderStats stats;
        g_autoptr(GBytes) payload =
            (*p)->collect(vm->selector, NULL, &stats, errp);

        if (!payload) {
            return false;
        }
        entries += stats.entries + stats.rules;
        if (!g_bytes_get_size(payload)) {
            continue;
        }
        msc_sections_add(context->sections, (*p)->name, (*p)->version,
                         (*p)->oldest, payload);
    }
    bytes = msc_context_encode(context);
    if (!g_file_set_contents_full(argv[2], g_bytes_get_data(bytes, NULL),
                                  (gssize)g_bytes_get_size(bytes),
                                  G_FILE_SET_CONTENTS_CONSISTENT, 0600, errp)) {
        return false;
    }
    fprintf(stderr, "%" G_GUINT64_FORMAT " entries, %zu bytes\n", entries,
            g_bytes_get_size(bytes));
    return true;
}

/* Stages every section; on failure undoes the ones before. */
static bool install(const MscVm *vm, const MscContext *context, uint64_t age_us,
                    GError **errp)
{
    g_autoptr(GPtrArray) replaced =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    bool ok = true;
    guint i;

    for (i = 0; ok && i < context->sections->len; i++) {
        const MscSection *s = context->sections->pdata[i];
        const MscProvider *p = find_provider(s->name);
        GBytes *old = p->prepare(vm->selector, s->data, errp);

        if (!old) {
            ok = false;
            break;
        }
        g_ptr_array_add(replaced, old);
        ok = p->stage(vm->selector, s->data, age_us, errp);
    }
    for (guint k = replaced->len; k; k--) {
        const MscSection *s = context->sections->pdata[k - 1];
        const MscProvider *p = find_provider(s->name);
        g_autoptr(GError) err = NULL;

        if (ok) {
            p->commit(vm->selector, s->data);
        } else if (!p->abort(vm->selector, s->data, replaced->pdata[k - 1],
                             &err)) {
            fprintf(stderr, "migration-sc: undo: %s\n", err->message);
        }
    }
    return ok;
}

bool msc_cmd_restore(MscCli *cli, int argc, char **argv, GError **errp)
{
    gboolean dry = FALSE;
    const GOptionEntry entries[] = { { "dry-run", 0, 0, G_OPTION_ARG_NONE, &dry,
                                       "check everything, change nothing",
                                       NULL },
                                     { 0 } };
    g_autoptr(MscContext) context = NULL;
    g_autoptr(MscVm) vm = NULL;
    uint8_t uuid[MSC_CONTEXT_UUID_LEN];
    guint64 count = 0;
    gint64 age;

    if (!msc_cli_parse(cli, &argc, &argv, entries, 2, 2, "UUID FILE",
                       "Installs a context that 'snapshot' saved: all of it "
                       "or nothing.",
                       errp)) {
        return false;
    }
    vm = msc_vm_load(cli->config_dir, argv[1], errp);
    context = vm ? load(argv[2], errp) : NULL;
    if (!context || !msc_uuid_parse(vm->uuid, uuid, errp)) {
        return false;
    }
    if (memcmp(uuid, context->vm, sizeof(uuid))) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "'%s' is the context of another guest", argv[2]);
        return false;
    }
    for (guint i = 0; i < context->sections->len; i++) {
        const MscSection *s = context->sections->pdata[i];
        const MscProvider *p = find_provider(s->name);
        MscProviderStats stats;

        if (!p || s->oldest > p->version || s->version < p->oldest) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                        "'%s' holds '%s' of version %u, which this host does "
                        "not read",
                        argv[2], s->name, s->version);
            return false;
        }
        if (!p->validate(vm->selector, s->data, &stats, errp)) {
            return false;
        }
        count += stats.entries + stats.rules;
    }
    age = g_get_real_time() - (gint64)context->wall_us;
    if (!dry && !install(vm, context, (uint64_t)MAX(age, 0), errp)) {
        return false;
    }
    fprintf(stderr, "%" G_GUINT64_FORMAT " entries %s\n", count,
            dry ? "would be restored" : "restored");
    return true;
}
