/*
 * Two helpers settle between them how a migration ended that was cut off.
 *
 * Whoever waits for a word of the other host asks for it (talk.h).  What is
 * decided is what 'migration-sc resolve' would do on both hosts, with the same
 * proofs; if the destination still has a QEMU that waits, the guest is the
 * destination's, else the source's.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_RECONCILE_H
#define MSC_TRANSFER_RECONCILE_H

#include "transfer.h"

/* The answer to host @peer's question. */
GBytes *msc_reconcile_answer(MscHub *hub, GBytes *request, const char *peer,
                             GError **errp);

/* Asks for each migration here that waits; blocks for some seconds at most
 * for each.  To be called again and again. */
void msc_reconcile_all(MscHub *hub);

#endif
