/*
 * Would that host take this guest, as it is now?  Nothing moves or changes.
 *
 * The question is what a migration would ask before any RAM moves:
 *
 *   u32 magic "MSCC", u8 1, 3 zero bytes, 16 bytes guest UUID, then an
 *   admission request (wire/admission.h)
 *
 * The answer is one byte, 1; a refusal has all reasons.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_CHECK_H
#define MSC_TRANSFER_CHECK_H

#include "transfer.h"

/* Asks host @to (talk.h); every reason against it is in the error. */
bool msc_check_ask(MscHub *hub, const char *vm, const char *to, GError **errp);

/* For talk.c. */
bool msc_check_is_question(GBytes *request);
GBytes *msc_check_answer(MscHub *hub, GBytes *request, const char *address,
                         const uint8_t key[MSC_IDENTITY_KEY_LEN],
                         GError **errp);

#endif
