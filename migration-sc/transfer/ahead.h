/*
 * Pre-copy: what a transfer sends ahead while the guest runs.
 *
 * A part is one provider that both ends can do it with; the admission says so
 * by the version of the provider's section.  The lock is held everywhere.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_AHEAD_H
#define MSC_TRANSFER_AHEAD_H

#include "base-file.h"
#include "transfer.h"

typedef struct {
    const MscProvider *provider;
    gpointer memory; /* of the provider; NULL before it begins */
    void (*end)(gpointer memory);
    bool asked;                  /* source: for batches, so all goes that way */
    uint64_t flows;              /* destination: staged now */
    MscPrecopyProgress progress; /* source: as of its last turn */

    /* Source: bytes that are in the other host's log (staged-log.h), about;
     * ahead-source.c, "crowded". */
    uint64_t logged;
    uint64_t bulk;        /* of these, once all was sent; else 0 */
    uint64_t changes_max; /* beyond bulk, at least */
    bool anew_next;

    /* base.h */
    bool keeps;          /* both hosts keep bases of it */
    MscBaseReader *base; /* what both have; NULL if they do not, or not any
                          * more */
    MscBase reading;     /* source: the provider's view of that */
    bool reread;         /* source: it was read to its end once */
    bool batches_came;   /* destination: nothing of the base can follow */
    uint64_t whole;      /* of the base that this migration began with */
    MscBaseWriter *kept; /* the next base; NULL before its first batch */
    char *replaced;      /* the file of the one before; to be removed */
    bool lost;           /* it could not be written */
    bool ended;          /* the final batch is in it */
} MscAheadPart;

/* The version to tell of @p in an admission. */
uint16_t msc_ahead_version(const MscTransfer *t, const MscProvider *p);
/* @p becomes a part, as of version @version in the admission; on the source
 * for the time being, until the other host has answered. */
MscAheadPart *msc_ahead_add(MscTransfer *t, const MscProvider *p,
                            uint16_t version);
MscAheadPart *msc_ahead_find(const MscTransfer *t, const char *name);
/* Does a section of an admission say that both ends can? */
bool msc_ahead_told(const MscProvider *p, uint16_t version);
/* Is the section the end of a pre-copy, rather than a whole payload? */
bool msc_ahead_section(const MscProvider *p, const MscSection *s);

#define MSC_AHEAD_CHANGES_MAX (64 * 1024 * 1024) /* bytes */

/* ahead-source.c */
/* What the admission says of @p's state; begins to listen before it looks, if
 * batches could follow. */
GBytes *msc_ahead_summarize(MscTransfer *t, const MscProvider *p, size_t max,
                            GError **errp);
/* The other host has answered: with whom it cannot, listening ends. */
bool msc_ahead_source_negotiate(MscTransfer *t, GError **errp);
/*
 * The guest is stopped: what is left of @part.  NULL with no error: changes
 * were missed; what was sent is void now, and all has to be collected.
 */
GBytes *msc_ahead_final(MscTransfer *t, MscAheadPart *part,
                        MscProviderStats *stats, GError **errp);
/*
 * Microseconds to rest after @used of work, so that it takes @percent of one
 * processor; at most MSC_AHEAD_PAUSE_MAX, for a postcopy does not wait for
 * the bulk.
 */
#define MSC_AHEAD_PAUSE_MAX 10000
uint64_t msc_ahead_pause_us(uint64_t used, unsigned percent);
/* Ends what still listens. */
void msc_ahead_source_end(MscTransfer *t);
/* The session's one sealer. */
MscContextSealer *msc_source_sealer(MscTransfer *t, GError **errp);

/* ahead-destination.c */
/* Plain bytes of a batch: checked, journalled, staged; a part of it may be if
 * that fails. */
bool msc_ahead_take(MscTransfer *t, const GByteArray *plain, GError **errp);
/* The same for the section that ends it, in two steps. */
bool msc_ahead_validate(MscTransfer *t, MscAheadPart *part, GBytes *data,
                        GError **errp);
bool msc_ahead_stage(MscTransfer *t, MscAheadPart *part, GBytes *data,
                     uint64_t boot_us, GError **errp);
/* Undoes all of it, also after a crash. */
bool msc_ahead_undo(MscTransfer *t, GError **errp);
void msc_ahead_destination_end(MscTransfer *t);
/* As MscProvider.settle: a step, and how many are left (0: none). */
guint msc_ahead_settle(MscTransfer *t);

#endif
