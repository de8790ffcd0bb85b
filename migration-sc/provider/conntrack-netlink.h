/*
 * Talking to the kernel's ctnetlink: dumps, and batches of requests.
 *
 * The last request of a batch asks for an acknowledgement; the kernel tells of
 * each that fails before it, and an answer that was lost fails the batch.  A
 * batch that waits longer than five seconds fails.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_NETLINK_H
#define MSC_PROVIDER_CONNTRACK_NETLINK_H

#include "conntrack-expect.h"
#include "conntrack-flow.h"

typedef struct MscCt MscCt;

/* Bytes for answers; tests make it smaller. */
extern int msc_ct_answer_buffer;

MscCt *msc_ct_open(GError **errp);
void msc_ct_close(MscCt *ct);

/* What the kernel is asked to look for in a dump of flows. */
typedef struct {
    uint8_t family; /* AF_UNSPEC: both */
    bool has_zone, has_mark;
    uint16_t zone;
    uint32_t mark, mark_mask;
    const MscAddress *originator; /* or NULL; at most one of the two, */
    const MscAddress *responder;  /* and of this family */
} MscCtQuery;

/* Called for each entry, which it takes; false ends the dump early, and then
 * nothing more can be asked over @ct. */
typedef bool MscCtTake(MscFlow *flow, void *opaque);

/*
 * Dumps what matches @query, and possibly more: a kernel that does not know
 * a filter ignores it in silence.
 */
bool msc_ct_query(MscCt *ct, const MscCtQuery *query, MscCtTake *take,
                  void *opaque, GError **errp);

/*
 * The same step by step: begin, then next until *@done.  One dump at a time,
 * and nothing else over @ct meanwhile; closing @ct gives the dump up.
 */
bool msc_ct_query_begin(MscCt *ct, const MscCtQuery *query, GError **errp);
/* What one answer of the kernel holds, about a hundred entries. */
bool msc_ct_query_next(MscCt *ct, MscCtTake *take, void *opaque, bool *done,
                       GError **errp);

/*
 * Which flows have announced any?  Keys as of msc_flow_key_in() with zone 0:
 * the kernel does not say in which zone.  NULL on failure.
 */
GHashTable *msc_ct_expecting(MscCt *ct, GError **errp);
/* Appends to @expects those that @master announced. */
bool msc_ct_expects_of(MscCt *ct, const MscFlow *master, GPtrArray *expects,
                       GError **errp);

typedef enum {
    MSC_CT_CREATE,        /* never replaces: EEXIST */
    MSC_CT_STRICT,        /* ends leniency; ENOENT if there is none */
    MSC_CT_DELETE,        /* this entry, if it came from the kernel */
    MSC_CT_FIND,          /* by the original tuple, in either direction */
    MSC_CT_FIND_REPLY,    /* by the reply tuple, in either direction */
    MSC_CT_EXPECT_CREATE, /* these take MscExpect */
    MSC_CT_EXPECT_TIMEOUT,
    MSC_CT_EXPECT_FIND,
    MSC_CT_EXPECT_DELETE,
} MscCtVerb;

/*
 * Runs @verb for each of @items; results[i] is 0 or an errno.  For the FINDs,
 * *@found (if not NULL) takes what was found, in order, NULL where nothing.
 * False only if the kernel could not be asked.
 */
bool msc_ct_run(MscCt *ct, MscCtVerb verb, const GPtrArray *items, int *results,
                GPtrArray **found, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscCt, msc_ct_close)

#endif
