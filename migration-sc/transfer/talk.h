/*
 * One helper asks another one something, outside of any migration.
 *
 * Off unless [handoff] helper-port= names a TCP port, the same on all hosts.
 * A connection carries one handshake, with the question in AUTH and the answer
 * in ADMIT (docs/transport.md, "Helper to helper").
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_TALK_H
#define MSC_TRANSFER_TALK_H

#include "transfer.h"

/* In place of a guest's UUID in the handshake; 16 bytes. */
#define MSC_TALK_LABEL "msc helpers v1.0"

/*
 * Asks host @peer at each of its addresses until one answers.  What it
 * refuses, and why, is the error.  Blocks for some seconds at most.
 */
GBytes *msc_talk_ask(MscHub *hub, const char *peer, GBytes *question,
                     GError **errp);

/* What another helper asks, and which it is. */
typedef struct {
    GBytes *bytes;
    const char *peer;    /* its name */
    const char *address; /* text; NULL: it has none */
    const uint8_t *key;  /* MSC_IDENTITY_KEY_LEN bytes */
} MscTalkQuestion;

/* NULL: refused, with the reason, which the other helper is told. */
typedef GBytes *MscTalkAnswer(MscHub *hub, const MscTalkQuestion *question,
                              GError **errp);

/* Has @answers answer one question on the connected socket @fd, which stays
 * open. */
void msc_talk_serve(MscHub *hub, int fd, MscTalkAnswer *answers);

#endif
