/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "proof.h"

#include <sodium.h>
#include <string.h>

#include "error.h"
#include "format.h"

#define PROOF_MAGIC 0x4d534350u /* "MSCP" */

const char *msc_proof_name(MscProofKind kind)
{
    switch (kind) {
    case MSC_PROOF_READY:
        return "READY";
    case MSC_PROOF_RELEASE:
        return "RELEASE";
    case MSC_PROOF_DONE:
        return "DONE";
    case MSC_PROOF_ABANDON:
        return "ABANDON";
    }
    return "unknown proof";
}

void msc_proof_commit(MscProofKind kind,
                      const uint8_t token[MSC_PROOF_TOKEN_LEN],
                      uint8_t commitment[MSC_COMMITMENT_LEN])
{
    static const char label[] = "migration-sc v1 proof";
    uint8_t input[1 + MSC_PROOF_TOKEN_LEN];

    input[0] = (uint8_t)kind;
    memcpy(input + 1, token, MSC_PROOF_TOKEN_LEN);
    crypto_generichash(commitment, MSC_COMMITMENT_LEN, input, sizeof(input),
                       (const unsigned char *)label, sizeof(label) - 1);
    sodium_memzero(input, sizeof(input));
}

GBytes *msc_proof_encode(MscProofKind kind, const uint8_t id[MSC_PROOF_ID_LEN],
                         const uint8_t token[MSC_PROOF_TOKEN_LEN])
{
    GByteArray *out = g_byte_array_new();

    msc_put_u32(out, PROOF_MAGIC);
    msc_put_u8(out, (uint8_t)kind);
    for (int i = 0; i < 3; i++) {
        msc_put_u8(out, 0);
    }
    msc_put_bytes(out, id, MSC_PROOF_ID_LEN);
    msc_put_bytes(out, token, MSC_PROOF_TOKEN_LEN);
    g_assert(out->len <= MSC_PROOF_MAX);
    return g_byte_array_free_to_bytes(out);
}

bool msc_proof_check(MscProofKind kind, const void *data, size_t len,
                     const uint8_t id[MSC_PROOF_ID_LEN],
                     const uint8_t commitment[MSC_COMMITMENT_LEN],
                     GError **errp)
{
    static const uint8_t zero[3];
    const char *what = msc_proof_name(kind);
    const uint8_t *got_zero, *got_id, *token;
    uint8_t seen[MSC_COMMITMENT_LEN];
    uint32_t magic;
    uint8_t seen_kind;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u32(&r, &magic) || magic != PROOF_MAGIC ||
        !msc_reader_u8(&r, &seen_kind) || seen_kind != kind ||
        !msc_reader_view(&r, &got_zero, sizeof(zero)) ||
        memcmp(got_zero, zero, sizeof(zero)) ||
        !msc_reader_view(&r, &got_id, MSC_PROOF_ID_LEN) ||
        !msc_reader_view(&r, &token, MSC_PROOF_TOKEN_LEN)) {
        return msc_reader_error(&r, errp, what, "not such a message");
    }
    if (!msc_reader_end(&r, errp, what)) {
        return false;
    }
    if (memcmp(got_id, id, MSC_PROOF_ID_LEN)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                    "%s belongs to another migration", what);
        return false;
    }
    msc_proof_commit(kind, token, seen);
    if (sodium_memcmp(seen, commitment, sizeof(seen))) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                    "%s is forged: it was not made by the other host's helper",
                    what);
        return false;
    }
    return true;
}
