/*
 * A guest's registration is refused with a reason, or read and written back
 * the same.  No restriction may get lost: not on the way to the file and back,
 * and not because the value of its key could not be read.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fuzz.h"
#include "vm.h"

#define UUID "6f1f4a0e-93a5-4c9c-9a2b-3f0a3b9f1f01"

static void no_limit_is_lost(const MscVm *vm, const uint8_t *data, size_t size)
{
    g_autoptr(GKeyFile) file = g_key_file_new();

    fuzz_must(g_key_file_load_from_data(file, (const char *)data, size,
                                        G_KEY_FILE_NONE, NULL));
    fuzz_must(!g_key_file_has_key(file, "vm", "cgroup", NULL) == !vm->cgroup);
    fuzz_must(!g_key_file_has_key(file, "vm", "peer", NULL) == !vm->peer);
    fuzz_must(!g_key_file_has_key(file, "vm", "uid", NULL) == !vm->has_uid);
    fuzz_must(!g_key_file_has_key(file, "vm", "mark", NULL) ==
              !vm->selector->has_mark);
    fuzz_must(!g_key_file_has_key(file, "vm", "zone", NULL) ==
              !vm->selector->has_zone);
    /* Without its key, rules that come may touch the guest's packets only. */
    fuzz_must(g_key_file_has_key(file, "vm", "nft-scope", NULL) ||
              vm->selector->nft_scope == MSC_NFT_SCOPE_GUEST);
    fuzz_must(g_key_file_has_key(file, "vm", "nft-existing", NULL) ||
              vm->selector->nft_existing == MSC_NFT_EXISTING_REFUSE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscVm) vm = msc_vm_parse(UUID, (const char *)data, size, &err);
    g_autoptr(MscVm) again = NULL;
    g_autofree char *text = NULL, *same = NULL;

    fuzz_must(!vm == !!err);
    if (!vm) {
        return 0;
    }
    no_limit_is_lost(vm, data, size);
    text = msc_vm_format(vm);
    again = msc_vm_parse(UUID, text, strlen(text), NULL);
    fuzz_must(again != NULL);
    same = msc_vm_format(again);
    fuzz_same(same, strlen(same), text, strlen(text));
    return 0;
}
