/*
 * The memory of the source's half of pre-copy, and what its parts share.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_CONNTRACK_PRECOPY_PRIVATE_H
#define MSC_PROVIDER_CONNTRACK_PRECOPY_PRIVATE_H

#include "conntrack-collect.h"
#include "conntrack-known.h"
#include "conntrack-precopy.h"
#include "conntrack-watch.h"

typedef struct {
    const MscSelector *selector;
    GArray *there; /* of MscAddress: come with the guest; or NULL */
    uint32_t expected;

    MscCt *ct;
    MscWatch *watch;
    MscScan *scan;      /* of all flows, or NULL */
    bool live;          /* it has ended once, and nothing of a base is left */
    gint64 live_us;     /* since then */
    guint restarts;     /* events were lost so often */
    gint64 began_us;    /* the first scan */
    gint64 scanned_us;  /* the last one ended */
    bool refreshed;     /* the last batch was of a refresh */
    GPtrArray *pending; /* read, not sent */
    /* By key. */
    GHashTable *touched; /* changed; value: 1 if one has ended */
    GHashTable *silent;  /* tell nothing of themselves; value: fingerprint */
    GHashTable *helped;  /* have a helper, so perhaps expectations; a set */
    /* Sets of msc_flow_key_hash(). */
    GHashTable *sent;   /* the other host has them */
    GHashTable *behind; /* stay here, by policy */
    /* What the other host had before; both NULL without one, and when it is
     * settled what became of it. */
    const MscBase *base;
    MscKnown *known;
    bool base_read;     /* to its end */
    guint base_batches; /* of it that were read */
    guint base_settled; /* of these, in the second reading */
} MscCtSource;

/* For the sets of what was sent and what stays. */
gpointer msc_ct_source_hash(GBytes *key);
/* To be asked for. */
void msc_ct_source_touch(MscCtSource *p, GBytes *key);
/* Everything was sent once. */
void msc_ct_source_go_live(MscCtSource *p);

/* conntrack-precopy-batch.c */
/* A table by key, with nothing in it. */
GHashTable *msc_ct_source_keys_new(void);
bool msc_ct_source_has_sent(const MscCtSource *p, GBytes *key);
/* Would this flow be of use on the other host?  False: it would not, and the
 * policy refuses that. */
bool msc_ct_source_can_move(MscCtSource *p, const MscFlow *flow, bool *moves,
                            GError **errp);
/* The other host will have @flow. */
void msc_ct_source_note_sent(MscCtSource *p, const MscFlow *flow);
/* Takes @flows into @batch, with their masters, and notes that. */
bool msc_ct_source_fill(MscCtSource *p, MscBatch *batch, GPtrArray *flows,
                        GError **errp);
/* Up to @max of the flows that changed, as they are now. */
bool msc_ct_source_put_changes(MscCtSource *p, MscBatch *batch, guint max,
                               GError **errp);
/* Expectations, with their masters: these have to be in the same batch. */
bool msc_ct_source_put_expects(MscCtSource *p, MscBatch *batch, GError **errp);
/* Touches those that tell nothing of themselves and have changed. */
bool msc_ct_source_look_at_silent(MscCtSource *p, GError **errp);

/* conntrack-precopy-base.c */
void msc_ct_source_forget_base(MscCtSource *p);
/* Of what was read of the table from @from on, what the other host has as it
 * is need not be sent. */
bool msc_ct_source_drop_known(MscCtSource *p, guint from, GError **errp);
/* A base is read before the scan, and what is left of it settled after.
 * False: it cannot be read. */
bool msc_ct_source_step_base(MscCtSource *p, MscPrecopyProgress *progress,
                             GError **errp);
/* The scan is over: of what the base has and it did not show, the next @max
 * are asked for, and withdrawn if they are not there.  False: as above. */
bool msc_ct_source_settle_base(MscCtSource *p, guint max, GError **errp);

#endif
