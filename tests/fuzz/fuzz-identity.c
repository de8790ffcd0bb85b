/*
 * A peer's file is refused with a reason, or read and written back the same;
 * so is the host's own key, but for the writing.
 *
 *   clang -fsanitize=fuzzer,address,undefined ... fuzz-identity.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <string.h>

#include "identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const MscPeer *a, const MscPeer *b)
{
    return !memcmp(a->key, b->key, sizeof(a->key)) && a->roles == b->roles &&
           a->expires == b->expires && a->revoked == b->revoked &&
           g_strv_equal((const char *const *)a->addresses,
                        (const char *const *)b->addresses) &&
           g_strv_equal((const char *const *)a->vms,
                        (const char *const *)b->vms);
}

static void try_own_key(const char *data, size_t size)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscIdentity) id = msc_identity_parse("fuzz", data, size, &err);

    if (!id != !!err) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    g_autoptr(MscPeer) again = NULL;
    g_autoptr(MscPeer) peer =
        msc_peer_parse("fuzz", (const char *)data, size, &err);

    try_own_key((const char *)data, size);
    if (!peer != !!err) {
        abort(); /* refused without a reason */
    }
    if (!peer) {
        return 0;
    }
    if (!peer->roles) {
        abort();
    }
    text = msc_peer_format(peer);
    again = msc_peer_parse("fuzz", text, strlen(text), NULL);
    if (!again || !same(peer, again)) {
        abort(); /* a limit was lost on the way */
    }
    return 0;
}
