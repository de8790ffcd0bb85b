/*
 * What two helpers say to each other about a migration whose end was cut off.
 *
 * A question and its answer (transfer/talk.h; docs/transport.md, "Helper to
 * helper").
 *
 *   question: u32 magic "MSCR", u8 1, 3 zero bytes, 16 bytes migration id,
 *             and from the source the proof RELEASE (wire/proof.h)
 *   answer:   u8 word, and with MSC_RECONCILE_PROOF one proof: RELEASE to the
 *             destination, DONE or ABANDON to the source
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_RECONCILE_MESSAGE_H
#define MSC_WIRE_RECONCILE_MESSAGE_H

#include "proof.h"

typedef struct {
    uint8_t id[MSC_PROOF_ID_LEN];
    GBytes *proof; /* or NULL */
} MscReconcileQuestion;

typedef enum {
    MSC_RECONCILE_WAIT = 1, /* it has not ended here; ask again */
    MSC_RECONCILE_KEPT = 2, /* from the source: it never let go */
    MSC_RECONCILE_PROOF = 3,
} MscReconcileWord;

/* @proof may be NULL. */
GBytes *msc_reconcile_question_encode(const uint8_t id[MSC_PROOF_ID_LEN],
                                      GBytes *proof);
/* Strict; the proof itself is checked by who knows its commitment. */
bool msc_reconcile_question_decode(GBytes *bytes, MscReconcileQuestion *q,
                                   GError **errp);
void msc_reconcile_question_clear(MscReconcileQuestion *q);

/* @proof: with MSC_RECONCILE_PROOF only. */
GBytes *msc_reconcile_answer_encode(MscReconcileWord word, GBytes *proof);
bool msc_reconcile_answer_decode(GBytes *bytes, MscReconcileWord *word,
                                 GBytes **proof, GError **errp);

#endif
