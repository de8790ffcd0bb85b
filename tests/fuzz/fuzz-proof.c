/*
 * READY, RELEASE, DONE and ABANDON: whatever QEMU hands on, only the one
 * message of this migration whose token was committed to is taken.
 *
 * First byte: which of the four is expected.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fuzz.h"
#include "proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t id[MSC_PROOF_ID_LEN] = "sixteen letters";
    static const uint8_t token[MSC_PROOF_TOKEN_LEN] =
        "not quite thirty-two letters";
    uint8_t commitment[MSC_COMMITMENT_LEN];
    g_autoptr(GBytes) genuine = NULL;
    g_autoptr(GError) err = NULL;
    MscProofKind kind;
    bool ok;

    if (!size) {
        return 0;
    }
    kind = (MscProofKind)(MSC_PROOF_READY + data[0] % MSC_PROOF_LAST);
    msc_proof_commit(kind, token, commitment);
    genuine = msc_proof_encode(kind, id, token);
    ok = msc_proof_check(kind, data + 1, size - 1, id, commitment, &err);
    fuzz_must(ok == !err);
    if (ok) {
        fuzz_same(g_bytes_get_data(genuine, NULL), g_bytes_get_size(genuine),
                  data + 1, size - 1);
    }
    return 0;
}
