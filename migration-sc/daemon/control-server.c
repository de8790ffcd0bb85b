/*
 * The command line's requests: status, resolve, check, diff.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "control.h"
#include "diff.h"
#include "error.h"
#include "identity.h"
#include "msc-config.h"
#include "server.h"
#include "suite.h"

#define CONTROL_MS 5000

static void add_text(JsonBuilder *b, const char *name, const char *text)
{
    json_builder_set_member_name(b, name);
    json_builder_add_string_value(b, text);
}

static void add_number(JsonBuilder *b, const char *name, gint64 n)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, n);
}

/* An answer is one object. */
static JsonBuilder *begin(void)
{
    return json_builder_begin_object(json_builder_new());
}

/* Takes @b. */
static JsonNode *end(JsonBuilder *b)
{
    JsonNode *root = json_builder_get_root(json_builder_end_object(b));

    g_object_unref(b);
    return root;
}

static void add_migration(JsonBuilder *b, const MscEntry *entry)
{
    g_autofree char *id = msc_entry_id_text(entry);

    json_builder_begin_object(b);
    add_text(b, "id", id);
    add_text(b, "vm", entry->vm);
    add_text(b, "name", entry->name);
    add_text(b, "role",
             entry->role == MSC_ROLE_SOURCE ? "source" : "destination");
    add_text(b, "peer", entry->peer);
    add_text(b, "stage", msc_stage_name(entry->stage));
    add_text(b, "suite", entry->suite);
    add_text(b, "kem", entry->kem);
    add_number(b, "flows", (gint64)entry->stats.flows);
    add_number(b, "left_behind", (gint64)entry->stats.left_behind);
    add_number(b, "bytes", (gint64)entry->stats.bytes);
    add_number(b, "freeze_us", (gint64)entry->stats.elapsed_us);
    add_number(b, "staged_ahead", (gint64)entry->progress.sent);
    add_number(b, "total", (gint64)entry->progress.total);
    add_number(b, "backlog", (gint64)entry->progress.backlog);
    add_text(b, "error", entry->error);
    add_number(b, "started", entry->started_us / G_USEC_PER_SEC);
    json_builder_end_object(b);
}

static JsonNode *status(MscHub *hub, GError **errp)
{
    const char *config_dir = msc_hub_config_dir(hub);
    g_autoptr(MscIdentity) identity = msc_identity_load(config_dir, NULL);
    g_autoptr(GPtrArray) peers = msc_peers_load(config_dir, errp);
    g_autoptr(GPtrArray) vms = peers ? msc_vms_load(config_dir, errp) : NULL;
    g_autoptr(GPtrArray) entries = NULL;
    JsonBuilder *b;

    if (!vms) {
        return NULL;
    }
    entries = msc_hub_status(hub);
    b = begin();
    add_text(b, "version", MSC_VERSION);
    add_text(b, "host", identity ? msc_identity_name(identity) : "");
    json_builder_set_member_name(b, "suites");
    json_builder_begin_array(b);
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        json_builder_add_string_value(b, (*s)->name);
    }
    json_builder_end_array(b);
    add_number(b, "vms", vms->len);
    add_number(b, "peers", peers->len);
    json_builder_set_member_name(b, "migrations");
    json_builder_begin_array(b);
    for (guint i = 0; i < entries->len; i++) {
        add_migration(b, entries->pdata[i]);
    }
    json_builder_end_array(b);
    return end(b);
}

static void add_diff(JsonBuilder *b, const MscDiff *d)
{
    json_builder_begin_object(b);
    add_text(b, "provider", d->provider);
    json_builder_set_member_name(b, "base");
    json_builder_add_boolean_value(b, !d->why);
    if (d->why) {
        add_text(b, "why", d->why);
    } else {
        add_text(b, "peer", d->peer);
        add_text(b, "migration", d->id);
        add_number(b, "ended", (gint64)(d->wall_us / G_USEC_PER_SEC));
        add_number(b, "same", (gint64)d->diff.same);
        add_number(b, "changed", (gint64)d->diff.changed);
        add_number(b, "new", (gint64)d->diff.added);
        add_number(b, "gone", (gint64)d->diff.gone);
        add_number(b, "bytes", (gint64)d->diff.bytes);
        add_number(b, "whole_bytes", (gint64)d->diff.whole);
    }
    json_builder_end_object(b);
}

static JsonNode *diff(MscHub *hub, const char *vm, GError **errp)
{
    g_autoptr(GPtrArray) all = msc_diff(hub, vm, errp);
    JsonBuilder *b;

    if (!all) {
        return NULL;
    }
    b = begin();
    add_text(b, "vm", vm);
    json_builder_set_member_name(b, "bases");
    json_builder_begin_array(b);
    for (guint i = 0; i < all->len; i++) {
        add_diff(b, all->pdata[i]);
    }
    json_builder_end_array(b);
    return end(b);
}

static JsonNode *check(MscHub *hub, const MscControlRequest *request,
                       GError **errp)
{
    return msc_check_ask(hub, request->vm, request->to, errp) ? end(begin())
                                                              : NULL;
}

static JsonNode *resolve(MscHub *hub, const MscControlRequest *request,
                         GError **errp)
{
    g_auto(MscResolved) resolved = { 0 };
    JsonBuilder *b;

    if (!msc_hub_resolve(hub, request->vm, request->here, request->code,
                         request->force, &resolved, errp)) {
        return NULL;
    }
    b = begin();
    json_builder_set_member_name(b, "already");
    json_builder_add_boolean_value(b, resolved.already);
    add_text(b, "text", resolved.text);
    if (resolved.code) {
        add_text(b, "code", resolved.code);
    }
    return end(b);
}

static JsonNode *dispatch(MscHub *hub, const MscControlRequest *request,
                          GError **errp)
{
    switch (request->command) {
    case MSC_CONTROL_STATUS:
        return status(hub, errp);
    case MSC_CONTROL_DIFF:
        return diff(hub, request->vm, errp);
    case MSC_CONTROL_CHECK:
        return check(hub, request, errp);
    case MSC_CONTROL_RESOLVE:
        return resolve(hub, request, errp);
    }
    g_assert_not_reached();
}

void msc_server_control(MscHub *hub, int fd)
{
    gint64 deadline = msc_deadline(CONTROL_MS);
    g_autoptr(GError) err = NULL;
    g_autoptr(JsonNode) result = NULL;
    MscControlRequest request = { 0 };

    if (msc_control_read_request(fd, &request, deadline, &err)) {
        result = dispatch(hub, &request, &err);
    }
    if (!msc_control_write_reply(fd, result, err, msc_deadline(CONTROL_MS),
                                 NULL)) {
        g_message("the command line did not take its answer");
    }
    msc_control_request_clear(&request);
    close(fd);
}
