/*
 * The question of one helper to another: would you take this guest?
 *
 *   u32 magic "MSCC", u8 1, 3 zero bytes, 16 bytes guest UUID, then an
 *   admission request (wire/admission.h)
 *
 * The answer is one byte, 1; a refusal has all reasons (transfer/check.h;
 * docs/transport.md, "Helper to helper").
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_CHECK_MESSAGE_H
#define MSC_WIRE_CHECK_MESSAGE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "context.h"

GBytes *msc_check_question_encode(const uint8_t vm[MSC_CONTEXT_UUID_LEN],
                                  GBytes *admission);
/* Is it this question, and not another (wire/reconcile-message.h)? */
bool msc_check_is_question(GBytes *request);
/* The admission request, not looked into; @vm: whose. */
GBytes *msc_check_question_decode(GBytes *request,
                                  uint8_t vm[MSC_CONTEXT_UUID_LEN],
                                  GError **errp);

GBytes *msc_check_answer_encode(void);
/* @from: the host that answered, for the error. */
bool msc_check_answer_decode(GBytes *answer, const char *from, GError **errp);

#endif
