/*
 * READY, RELEASE, DONE and ABANDON: how the helpers hand over a guest.
 *
 * Each is a random token whose digest (the commitment) its owner gave to the
 * other helper inside the authenticated handshake.  Showing the token proves
 * who speaks and of which migration; nobody between the helpers, QEMU
 * included, can make one up, and a journal that holds the commitments can
 * still check it after a restart, when the session's keys are gone.  An
 * overheard token is worth nothing: it can only say what its owner has said.
 *
 *   u32 magic "MSCP", u8 kind, 3 zero bytes, 16 bytes migration id, 32 bytes token
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_PROOF_H
#define MSC_WIRE_PROOF_H

#include "bytes.h"

#define MSC_PROOF_TOKEN_LEN 32
#define MSC_COMMITMENT_LEN 32
#define MSC_PROOF_ID_LEN 16
/* A whole one, bytes. */
#define MSC_PROOF_LEN (4 + 1 + 3 + MSC_PROOF_ID_LEN + MSC_PROOF_TOKEN_LEN)

typedef enum {
    MSC_PROOF_READY = 1,   /* destination: the whole context is staged */
    MSC_PROOF_RELEASE = 2, /* source: the guest is yours */
    MSC_PROOF_DONE = 3,    /* destination: taken */
    MSC_PROOF_ABANDON = 4, /* destination: it will never run here */
    MSC_PROOF_LAST = MSC_PROOF_ABANDON,
} MscProofKind;

const char *msc_proof_name(MscProofKind kind);
/* BLAKE2b-256 over kind and token, under a label. */
void msc_proof_commit(MscProofKind kind,
                      const uint8_t token[MSC_PROOF_TOKEN_LEN],
                      uint8_t commitment[MSC_COMMITMENT_LEN]);
GBytes *msc_proof_encode(MscProofKind kind, const uint8_t id[MSC_PROOF_ID_LEN],
                         const uint8_t token[MSC_PROOF_TOKEN_LEN]);
/* Decodes and checks against @id and @commitment. */
bool msc_proof_check(MscProofKind kind, const void *data, size_t len,
                     const uint8_t id[MSC_PROOF_ID_LEN],
                     const uint8_t commitment[MSC_COMMITMENT_LEN],
                     GError **errp);

#endif
