/*
 * Pre-copy of conntrack between two namespaces, step by step.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_PRECOPY_LAB_H
#define TESTS_NETNS_PRECOPY_LAB_H

#include "conntrack-batch.h"
#include "conntrack-lab.h"

typedef struct {
    int a, b; /* source, destination */
    MscSelector *s;
    gpointer source, destination;
    GBytes *summary; /* of the last look */
    MscPrecopyProgress progress;
    gint64 began;        /* g_get_monotonic_time() */
    GPtrArray *batches;  /* of GBytes: what the destination was given */
    GArray *when;        /* of uint64_t: just before, CLOCK_REALTIME (us) */
    GPtrArray *replaced; /* of GBytes */
    uint64_t staged;
} LabPrecopy;

/* Two hosts that track, the daemon's early work done on both; the source is
 * entered. */
LabPrecopy *lab_precopy_new(void);
void lab_precopy_free(LabPrecopy *l);
/* As in an admission: the table is looked through, and changes are heard of
 * from now on. */
void lab_precopy_look(LabPrecopy *l);
/* And the destination is willing. */
void lab_precopy_begin(LabPrecopy *l);
/* No migration followed. */
void lab_precopy_give_up(LabPrecopy *l);
/* One batch from host to host; false if there was none.  A batch that begins
 * anew first removes all that was staged. */
bool lab_precopy_next(LabPrecopy *l);
/* Until only changes are left to follow. */
void lab_precopy_bulk(LabPrecopy *l);
/* The last one.  Its bytes. */
gsize lab_precopy_final(LabPrecopy *l);
/* To the destination; false with *@err if it is refused. */
bool lab_precopy_stage(LabPrecopy *l, GBytes *batch, GError **err);
/* The journal knows of it, and nothing else was done yet. */
void lab_precopy_record(LabPrecopy *l, GBytes *batch);
/* Undoes everything on the destination. */
void lab_precopy_undo(LabPrecopy *l);
/* Has the destination what the source has? */
void lab_precopy_assert_same(LabPrecopy *l);

/* The guest's TCP flow from @port, to @dport of the peer. */
MscFlow *lab_guest_tcp(uint16_t port, uint16_t dport);
/* Ends a flow in the current host. */
void lab_delete(const MscFlow *flow);

#endif
