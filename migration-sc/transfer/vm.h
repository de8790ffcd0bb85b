/*
 * The guests this host knows: CONFIG/vms.d/UUID.vm, written by root.
 *
 * A file is a GKeyFile with one group, [vm]: name=, zone=, mark=, address=
 * and nat-address= (lists), nat-policy=refuse|leave-behind, nft-table=
 * ("FAMILY NAME") and interface= (ROLE=DEVICE; lists),
 * nft-existing=refuse|replace, nft-scope=guest|host, uid=, cgroup=, peer=.  An
 * unknown group or key is an error, never ignored.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_VM_H
#define MSC_TRANSFER_VM_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "selector.h"

typedef struct {
    char *uuid; /* canonical, lower case */
    char *name;
    MscSelector *selector;
    bool has_uid; /* without it, root only */
    uid_t uid;
    char *cgroup; /* prefix of the process's cgroup, or NULL */
    char *peer;   /* only this host may take part, or NULL */
} MscVm;

void msc_vm_free(MscVm *vm);
/* One file, strictly. */
MscVm *msc_vm_parse(const char *uuid, const char *data, size_t len,
                    GError **errp);
char *msc_vm_format(const MscVm *vm);
MscVm *msc_vm_load(const char *config_dir, const char *uuid, GError **errp);
/* Of MscVm*; one bad file is an error. */
GPtrArray *msc_vms_load(const char *config_dir, GError **errp);
/* A new guest; one that is there with other values is not replaced. */
bool msc_vm_save(const char *config_dir, const MscVm *vm, GError **errp);
bool msc_vm_remove(const char *config_dir, const char *uuid, GError **errp);
/* May the process with these credentials (SO_PEERCRED) act for @vm? */
bool msc_vm_may_act(const MscVm *vm, uid_t uid, pid_t pid, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscVm, msc_vm_free)

#endif
