/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "keyfile.h"

#define VM_SUFFIX ".vm"
#define GROUP "vm"

void msc_vm_free(MscVm *vm)
{
    if (vm) {
        g_free(vm->uuid);
        g_free(vm->name);
        msc_selector_free(vm->selector);
        g_free(vm->cgroup);
        g_free(vm->peer);
        g_free(vm);
    }
}

static bool vm_error(GError **errp, const char *what, const char *key,
                     const GError *err)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "%s: %s=: %s", what, key,
                err ? err->message : "not a valid value");
    return false;
}

static bool add_to(GArray *addresses, const char *text, GError **errp)
{
    MscAddress address;

    if (!msc_address_parse(text, &address, errp)) {
        return false;
    }
    g_array_append_val(addresses, address);
    return true;
}

static bool add_address(MscSelector *s, const char *text, GError **errp)
{
    return add_to(s->addresses, text, errp);
}

static bool add_nat_address(MscSelector *s, const char *text, GError **errp)
{
    return add_to(s->nat_addresses, text, errp);
}

/* A list, each of whose texts @add takes. */
static bool parse_list(GKeyFile *file, const char *what, const char *key,
                       bool (*add)(MscSelector *, const char *, GError **),
                       MscSelector *s, GError **errp)
{
    g_autoptr(GError) list_err = NULL;
    g_auto(GStrv) list =
        g_key_file_get_string_list(file, GROUP, key, NULL, &list_err);

    if (list_err && g_key_file_has_key(file, GROUP, key, NULL)) {
        return vm_error(errp, what, key, list_err);
    }
    for (char **text = list; text && *text; text++) {
        g_autoptr(GError) err = NULL;

        if (!add(s, *text, &err)) {
            return vm_error(errp, what, key, err);
        }
    }
    return true;
}

static bool parse_nft(GKeyFile *file, const char *what, MscSelector *s,
                      GError **errp)
{
    g_autofree char *existing = NULL;
    g_autofree char *scope = NULL;
    g_autoptr(GError) err = NULL;

    if (!msc_keyfile_string(file, what, GROUP, "nft-existing", &existing,
                            errp) ||
        !msc_keyfile_string(file, what, GROUP, "nft-scope", &scope, errp)) {
        return false;
    }
    if (existing && !msc_nft_existing_parse(existing, &s->nft_existing, &err)) {
        return vm_error(errp, what, "nft-existing", err);
    }
    if (scope && !msc_nft_scope_parse(scope, &s->nft_scope, &err)) {
        return vm_error(errp, what, "nft-scope", err);
    }
    return parse_list(file, what, "nft-table", msc_selector_add_table, s,
                      errp) &&
           parse_list(file, what, "interface", msc_selector_add_interface, s,
                      errp);
}

static bool parse_selector(GKeyFile *file, const char *what, MscSelector *s,
                           GError **errp)
{
    g_autofree char *policy = NULL;
    g_autofree char *mark = NULL;
    g_autoptr(GError) err = NULL;
    unsigned zone;

    if (!msc_keyfile_string(file, what, GROUP, "mark", &mark, errp) ||
        !msc_keyfile_string(file, what, GROUP, "nat-policy", &policy, errp)) {
        return false;
    }
    s->has_zone = g_key_file_has_key(file, GROUP, "zone", NULL);
    if (!msc_keyfile_uint(file, what, GROUP, "zone", 0, UINT16_MAX, &zone,
                          errp)) {
        return false;
    }
    if (s->has_zone) {
        s->zone = (uint16_t)zone;
    }
    s->has_mark = mark != NULL;
    if (mark && !msc_mark_parse(mark, &s->mark, &s->mark_mask, &err)) {
        return vm_error(errp, what, "mark", err);
    }
    if (policy && strcmp(policy, "refuse") && strcmp(policy, "leave-behind")) {
        return vm_error(errp, what, "nat-policy", NULL);
    }
    s->nat_policy = policy && !strcmp(policy, "leave-behind")
                        ? MSC_NAT_LEAVE_BEHIND
                        : MSC_NAT_REFUSE;
    if (!parse_list(file, what, "address", add_address, s, errp) ||
        !parse_list(file, what, "nat-address", add_nat_address, s, errp) ||
        !parse_nft(file, what, s, errp)) {
        return false;
    }
    if (!msc_selector_check(s, errp)) {
        g_prefix_error(errp, "%s: ", what);
        return false;
    }
    return true;
}

MscVm *msc_vm_parse(const char *uuid, const char *data, size_t len,
                    GError **errp)
{
    static const char *const keys[] = {
        "name",         "zone",       "mark",      "address",
        "nat-address",  "nat-policy", "nft-table", "interface",
        "nft-existing", "nft-scope",  "uid",       "cgroup",
        "peer",         NULL
    };
    static const MscKeyFileGroup groups[] = { { GROUP, keys }, { 0 } };
    g_autofree char *what = g_strdup_printf("guest %s", uuid);
    g_autofree char *lower = g_ascii_strdown(uuid, -1);
    g_autoptr(GKeyFile) file = NULL;
    g_autoptr(MscVm) vm = g_new0(MscVm, 1);
    unsigned uid = 0;

    if (!g_uuid_string_is_valid(uuid) || strcmp(lower, uuid)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.64s' is not a UUID in lower case", uuid);
        return NULL;
    }
    file = msc_keyfile_parse(what, data, len, groups, errp);
    if (!file) {
        return NULL;
    }
    vm->uuid = g_strdup(uuid);
    if (!msc_keyfile_string(file, what, GROUP, "name", &vm->name, errp) ||
        !msc_keyfile_string(file, what, GROUP, "cgroup", &vm->cgroup, errp) ||
        !msc_keyfile_string(file, what, GROUP, "peer", &vm->peer, errp)) {
        return NULL;
    }
    if (!vm->name) {
        vm->name = g_strdup(uuid);
    }
    if (!msc_name_is_safe(vm->name)) {
        vm_error(errp, what, "name", NULL);
        return NULL;
    }
    vm->has_uid = g_key_file_has_key(file, GROUP, "uid", NULL);
    if (!msc_keyfile_uint(file, what, GROUP, "uid", 0, UINT32_MAX - 1, &uid,
                          errp)) {
        return NULL;
    }
    vm->uid = uid;
    /* An empty prefix would be a prefix of every cgroup. */
    if (vm->cgroup &&
        (vm->cgroup[0] != '/' || g_str_has_suffix(vm->cgroup, "/"))) {
        vm_error(errp, what, "cgroup", NULL);
        return NULL;
    }
    if (vm->peer && !msc_name_is_safe(vm->peer)) {
        vm_error(errp, what, "peer", NULL);
        return NULL;
    }
    vm->selector = msc_selector_new();
    if (!parse_selector(file, what, vm->selector, errp)) {
        return NULL;
    }
    return g_steal_pointer(&vm);
}

static void format_addresses(GKeyFile *file, const char *key,
                             const GArray *addresses)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < addresses->len; i++) {
        g_ptr_array_add(list, msc_address_format(
                                  &g_array_index(addresses, MscAddress, i)));
    }
    if (list->len) {
        g_key_file_set_string_list(file, GROUP, key,
                                   (const char *const *)list->pdata, list->len);
    }
}

static void format_list(GKeyFile *file, const char *key, GPtrArray *list)
{
    if (list->len) {
        g_key_file_set_string_list(file, GROUP, key,
                                   (const char *const *)list->pdata, list->len);
    }
}

/* What is not said is as before there were tables. */
static void format_nft(GKeyFile *file, const MscSelector *s)
{
    g_autoptr(GPtrArray) tables = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) interfaces = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < s->nft_tables->len; i++) {
        g_ptr_array_add(tables,
                        msc_nft_table_name_format(s->nft_tables->pdata[i]));
    }
    for (guint i = 0; i < s->interfaces->len; i++) {
        const MscInterface *one = s->interfaces->pdata[i];

        g_ptr_array_add(interfaces,
                        g_strdup_printf("%s=%s", one->role, one->device));
    }
    format_list(file, "nft-table", tables);
    format_list(file, "interface", interfaces);
    if (s->nft_existing == MSC_NFT_EXISTING_REPLACE) {
        g_key_file_set_string(file, GROUP, "nft-existing", "replace");
    }
    if (s->nft_scope == MSC_NFT_SCOPE_HOST) {
        g_key_file_set_string(file, GROUP, "nft-scope", "host");
    }
}

char *msc_vm_format(const MscVm *vm)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    const MscSelector *s = vm->selector;

    g_key_file_set_string(file, GROUP, "name", vm->name);
    if (s->has_zone) {
        g_key_file_set_integer(file, GROUP, "zone", s->zone);
    }
    if (s->has_mark) {
        g_autofree char *mark =
            g_strdup_printf("0x%x/0x%x", s->mark, s->mark_mask);

        g_key_file_set_string(file, GROUP, "mark", mark);
    }
    format_addresses(file, "address", s->addresses);
    format_addresses(file, "nat-address", s->nat_addresses);
    g_key_file_set_string(file, GROUP, "nat-policy",
                          s->nat_policy == MSC_NAT_LEAVE_BEHIND ? "leave-behind"
                                                                : "refuse");
    format_nft(file, s);
    if (vm->has_uid) {
        g_key_file_set_uint64(file, GROUP, "uid", vm->uid);
    }
    if (vm->cgroup) {
        g_key_file_set_string(file, GROUP, "cgroup", vm->cgroup);
    }
    if (vm->peer) {
        g_key_file_set_string(file, GROUP, "peer", vm->peer);
    }
    return g_key_file_to_data(file, NULL, NULL);
}

static char *vm_path(const char *config_dir, const char *uuid)
{
    g_autofree char *file = g_strconcat(uuid, VM_SUFFIX, NULL);

    return g_build_filename(config_dir, "vms.d", file, NULL);
}

MscVm *msc_vm_load(const char *config_dir, const char *uuid, GError **errp)
{
    g_autofree char *path = NULL;
    g_autofree char *data = NULL;
    g_autoptr(GError) err = NULL;
    gsize len;

    if (!g_uuid_string_is_valid(uuid)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "'%.64s' is not a UUID",
                    uuid);
        return NULL;
    }
    path = vm_path(config_dir, uuid);
    if (!g_file_get_contents(path, &data, &len, &err)) {
        if (!g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "guest %s: %s", uuid,
                        err->message);
            return NULL;
        }
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "guest %s is not registered on this host: add it with "
                    "'migration-sc vm add %s ...'",
                    uuid, uuid);
        return NULL;
    }
    return msc_vm_parse(uuid, data, len, errp);
}

GPtrArray *msc_vms_load(const char *config_dir, GError **errp)
{
    g_autofree char *dir_path = g_build_filename(config_dir, "vms.d", NULL);
    g_autoptr(GPtrArray) vms =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_vm_free);
    g_autoptr(GDir) dir = NULL;
    const char *file;

    if (!g_file_test(dir_path, G_FILE_TEST_EXISTS)) {
        return g_steal_pointer(&vms);
    }
    dir = g_dir_open(dir_path, 0, errp);
    while (dir && (file = g_dir_read_name(dir))) {
        g_autofree char *uuid = NULL;
        MscVm *vm;

        if (!g_str_has_suffix(file, VM_SUFFIX) || *file == '.') {
            continue;
        }
        uuid = g_strndup(file, strlen(file) - strlen(VM_SUFFIX));
        vm = msc_vm_load(config_dir, uuid, errp);
        if (!vm) {
            return NULL;
        }
        g_ptr_array_add(vms, vm);
    }
    return dir ? g_steal_pointer(&vms) : NULL;
}

bool msc_vm_save(const char *config_dir, const MscVm *vm, GError **errp)
{
    g_autofree char *path = vm_path(config_dir, vm->uuid);
    g_autofree char *text = msc_vm_format(vm);
    g_autoptr(MscVm) again = msc_vm_parse(vm->uuid, text, strlen(text), errp);
    g_autofree char *before = NULL;

    /* Nothing is written that could not be read. */
    if (!again) {
        return false;
    }
    if (g_file_get_contents(path, &before, NULL, NULL)) {
        if (!strcmp(before, text)) {
            return true;
        }
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "guest %s is registered already, with other values; "
                    "'migration-sc vm remove %s' first",
                    vm->uuid, vm->uuid);
        return false;
    }
    return msc_file_replace(path, text, 0600, errp);
}

bool msc_vm_remove(const char *config_dir, const char *uuid, GError **errp)
{
    g_autofree char *path = NULL;

    if (!g_uuid_string_is_valid(uuid)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "'%.64s' is not a UUID",
                    uuid);
        return false;
    }
    path = vm_path(config_dir, uuid);
    if (unlink(path)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "cannot remove guest %s: %s", uuid, g_strerror(errno));
        return false;
    }
    return true;
}

/* True if one line "ID:controllers:PATH" has @cgroup as PATH or above it. */
static bool cgroup_matches(const char *text, const char *cgroup)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    size_t len = strlen(cgroup);

    for (char **line = lines; *line; line++) {
        const char *path = strchr(*line, ':');

        path = path ? strchr(path + 1, ':') : NULL;
        if (path && !strncmp(path + 1, cgroup, len) &&
            (path[1 + len] == '\0' || path[1 + len] == '/')) {
            return true;
        }
    }
    return false;
}

bool msc_vm_may_act(const MscVm *vm, uid_t uid, pid_t pid, GError **errp)
{
    uid_t wanted = vm->has_uid ? vm->uid : 0;
    g_autofree char *path = NULL;
    g_autofree char *text = NULL;

    if (uid != wanted) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "a process of user %u may not act for guest %s, which "
                    "belongs to user %u: see 'migration-sc vm add --uid'",
                    uid, vm->name, wanted);
        return false;
    }
    if (!vm->cgroup) {
        return true;
    }
    path = g_strdup_printf("/proc/%d/cgroup", pid);
    if (!g_file_get_contents(path, &text, NULL, errp)) {
        return false;
    }
    if (!cgroup_matches(text, vm->cgroup)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "process %d may not act for guest %s: it is not in "
                    "cgroup '%s'",
                    pid, vm->name, vm->cgroup);
        return false;
    }
    return true;
}
