/*
 * Two-host admission: what the helpers tell each other inside the handshake,
 * before any RAM moves.  docs/transport.md, "Admission".
 *
 *   request: u16 version, u8 flags, u8 zero, u64 source's CLOCK_BOOTTIME (us),
 *            32 bytes commitment to RELEASE, sections (provider summaries)
 *   answer:  u16 version, u16 zero, 32 bytes commitment to READY,
 *            32 bytes commitment to DONE, 32 bytes commitment to ABANDON,
 *            sections (provider answers)
 *
 * A commitment is the digest of a token that its owner reveals later
 * (wire/proof.h).
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_ADMISSION_H
#define MSC_WIRE_ADMISSION_H

#include "proof.h"
#include "sections.h"

#define MSC_ADMISSION_VERSION 1

/* Flags of the request. */
#define MSC_ADMISSION_CONTEXT 1      /* a context will follow */
#define MSC_ADMISSION_LEAVE_BEHIND 2 /* the source's NAT policy */

typedef struct {
    uint8_t flags;
    uint64_t boot_us;
    uint8_t release[MSC_COMMITMENT_LEN];
    GPtrArray *sections;
} MscAdmissionRequest;

typedef struct {
    uint8_t ready[MSC_COMMITMENT_LEN];
    uint8_t done[MSC_COMMITMENT_LEN];
    uint8_t abandon[MSC_COMMITMENT_LEN];
    GPtrArray *sections;
} MscAdmissionAnswer;

GBytes *msc_admission_request_encode(const MscAdmissionRequest *request);
/* Fills @request, whose sections the caller unrefs. */
bool msc_admission_request_decode(GBytes *bytes, MscAdmissionRequest *request,
                                  GError **errp);
GBytes *msc_admission_answer_encode(const MscAdmissionAnswer *answer);
bool msc_admission_answer_decode(GBytes *bytes, MscAdmissionAnswer *answer,
                                 GError **errp);

#endif
