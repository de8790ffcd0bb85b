/*
 * Flows of every kind that a guest can have, for tests that move them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_CONNTRACK_CORPUS_H
#define TESTS_NETNS_CONNTRACK_CORPUS_H

#include "conntrack-lab.h"

typedef struct {
    const char *name;
    /* Creates them in the current namespace, which tracks (lab_track()); all
     * are lab_guest()'s. */
    void (*fill)(void);
} CorpusKind;

/* What needs nothing else; ends with one without a name. */
extern const CorpusKind corpus[];

/* Those of the above that tests name. */
void corpus_plain(void);
void corpus_helpers(void);
/* The kernel keeps labels while a rule uses them: the caller adds one. */
void corpus_labels(void);

/* A flow with helper sip, and SIP's announcement of media, from the peer to
 * the guest's port: a class that allows several. */
MscFlow *corpus_signalling(const char *src, uint16_t sport);
MscExpect *corpus_announced(const MscFlow *master, uint16_t port);
/* A connection that has announced two, in @zone. */
MscPayload *corpus_call_payload(uint16_t sport, uint16_t zone);

#endif
