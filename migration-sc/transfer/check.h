/*
 * Would that host take this guest, as it is now?  Nothing moves or changes.
 *
 * The question (wire/check-message.h) is what a migration would ask before
 * any RAM moves.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_CHECK_H
#define MSC_TRANSFER_CHECK_H

#include "talk.h"

/* Asks host @to (talk.h); every reason against it is in the error. */
bool msc_check_ask(MscHub *hub, const char *vm, const char *to, GError **errp);

/* The answer to another helper. */
GBytes *msc_check_answer(MscHub *hub, const MscTalkQuestion *question,
                         GError **errp);

#endif
