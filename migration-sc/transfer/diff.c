/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "diff.h"

#include "base.h"

static void diff_free(gpointer opaque)
{
    MscDiff *diff = opaque;

    g_free(diff->why);
    g_free(diff->peer);
    g_free(diff->id);
    g_free(diff);
}

static bool compare(MscHub *hub, const MscVm *vm, const MscProvider *p,
                    MscDiff *diff, GError **errp)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscBaseReader) reader =
        msc_base_find(hub, vm->uuid, p->name, &err);
    const MscBaseHead *head;
    char id[MSC_UUID_STR_LEN + 1];
    MscBase base;

    diff->provider = p->name;
    if (!reader) {
        diff->why = g_strdup(err->message);
        return true;
    }
    head = msc_base_reader_head(reader);
    msc_uuid_format(head->id, id);
    diff->id = g_strdup(id);
    diff->peer = g_strdup(head->peer);
    diff->wall_us = head->wall_us;
    base = msc_base_of(reader);
    return p->precopy->compare(vm->selector, &base, &diff->diff, errp);
}

GPtrArray *msc_diff(MscHub *hub, const char *uuid, GError **errp)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(diff_free);
    g_autoptr(MscVm) vm = msc_vm_load(msc_hub_config_dir(hub), uuid, errp);
    const MscProvider *const *p = msc_hub_providers(hub);

    for (; vm && *p; p++) {
        if ((*p)->precopy && (*p)->precopy->based) {
            MscDiff *diff = g_new0(MscDiff, 1);

            g_ptr_array_add(all, diff);
            if (!compare(hub, vm, *p, diff, errp)) {
                return NULL;
            }
        }
    }
    return vm ? g_steal_pointer(&all) : NULL;
}
