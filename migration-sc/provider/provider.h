/*
 * What a provider of security context implements.
 *
 * A provider knows one kind of state (conntrack, nftables, SAs) and nothing
 * about QEMU, sockets or cryptography.  Every function may block for as long
 * as the kernel takes; the daemon calls it from a worker thread, one call at a
 * time for one guest, several guests at once.
 *
 *   source                        destination
 *   summarize          -->        check          before RAM
 *   freeze, collect    -->        validate, prepare, stage
 *   retire | thaw                 commit | abort
 *
 * Pairs mirror each other: freeze/thaw, stage/abort.  A payload is the
 * provider's own encoding; decoders are strict and change nothing.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_PROVIDER_H
#define MSC_PROVIDER_PROVIDER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "selector.h"

typedef struct {
    uint64_t entries;     /* flows in the payload */
    uint64_t rules;       /* rules, elements, objects in it */
    uint64_t left_behind; /* stay on the source, by policy */
} MscProviderStats;

/* How far pre-copy is. */
typedef struct {
    uint64_t sent;    /* entries that the other host has, or will have */
    uint64_t total;   /* entries there are, as far as is known */
    uint64_t backlog; /* changes that were seen and not sent */
    bool live;        /* everything was sent once; only changes follow */
    bool anew;        /* what was sent is void: this batch begins again */
    uint32_t based;   /* so many more batches of the base are to be staged */
} MscPrecopyProgress;

/*
 * What both hosts keep of the guest's state since its last migration between
 * them: the batches of then, in order.  Neither outlives what it was given
 * to.
 */
typedef struct {
    /* 1: *@batch, and how long ago its time-outs held; 0: there are no more;
     * -1: it cannot be read. */
    int (*next)(void *opaque, GBytes **batch, uint64_t *age_us, GError **errp);
    /* The first one again. */
    bool (*rewind)(void *opaque, GError **errp);
    void *opaque;
} MscBase;

/* How the guest's state differs from a base. */
typedef struct {
    uint64_t same, changed, added, gone; /* entries */
    uint64_t bytes;                      /* of what would be sent */
    uint64_t whole;                      /* the same without a base */
} MscBaseDiff;

/* Batches of a base in one step: some 10 ms of work on either host. */
#define MSC_BASE_STEP 8

/*
 * Sending ahead, while the guest runs; an optional part of a provider.
 *
 *   source                          destination
 *   begin, summarize        -->     check
 *   admitted                        begin
 *   next, again and again   -->     validate, stage
 *   (the guest stops)
 *   final                   -->     validate, stage
 *   retire, end                     settle | unstage, restore; end
 *
 * A batch is the provider's own encoding, of at most @max bytes; the final
 * one is of any size.  Each takes effect at once; what final says, and the
 * batches before it, are the guest's whole state.
 */
typedef struct {
    uint16_t version; /* told in the admission; of batches and final */
    /* Told in its place by who keeps bases; 0: this provider has none. */
    uint16_t based;

    /* Both: what has to be done early, at the daemon's start.  @memo: a file
     * for what has to be remembered over a restart of it; NULL: forget.
     * NULL: nothing has to. */
    bool (*prepare)(const char *memo, GError **errp);

    /* Source, before the admission, whether or not the other host can: from
     * now on no change is missed.  @selector outlives it. */
    gpointer (*source_begin)(const MscSelector *selector, GError **errp);
    /* As MscProvider.summarize; what is read for it is kept, and not read
     * again.  NULL: that one is asked. */
    GBytes *(*source_summarize)(gpointer memory, size_t max, GError **errp);
    /* What the other host answered to that; before all that follows. */
    bool (*source_admitted)(gpointer memory, GBytes *answer, GError **errp);
    /* The other host has @base, and stages it step by step as next says
     * (progress->based, with no bytes) before anything else.  What of it is
     * not so any more is sent, or withdrawn, like any change.  @base outlives
     * @memory, or its next beginning anew. */
    void (*source_base)(gpointer memory, const MscBase *base);
    /* No bytes: there is nothing to say now. */
    GBytes *(*next)(gpointer memory, size_t max, MscPrecopyProgress *progress,
                    GError **errp);
    /* *@lost: changes were missed and all has to be collected; then no bytes
     * are returned. */
    GBytes *(*final)(gpointer memory, MscProviderStats *stats, bool *lost,
                     GError **errp);
    /* After the guest has gone: removes what is its own from this host.
     * NULL: MscProvider.retire does, which then also reads the final batch. */
    bool (*retire)(const MscSelector *selector, GBytes *answer, GError **errp);
    void (*source_end)(gpointer memory);

    /* Where the guest runs: what a migration based on @base would send. */
    bool (*compare)(const MscSelector *selector, const MscBase *base,
                    MscBaseDiff *diff, GError **errp);

    /* Destination. */
    gpointer (*destination_begin)(const MscSelector *selector);
    /* Every entry must lie inside the selector; nothing changes. */
    bool (*validate)(gpointer memory, GBytes *batch, GError **errp);
    /* Installs.  @replacing is told, before it goes, of what was on this host
     * before; false from it ends the staging.  *@entries: those that are
     * staged now. */
    bool (*stage)(gpointer memory, GBytes *batch, uint64_t transit_us,
                  bool (*replacing)(GBytes *replaced, void *opaque,
                                    GError **errp),
                  void *opaque, uint64_t *entries, GError **errp);
    /*
     * A batch of the base, from @age_us ago, as one to stage now: without what
     * is over or is not the guest's by @selector.  What of the result stands
     * against entries of others is left out by the stage that follows.  Both
     * may be withdrawn or sent again before the end, and must be if they were
     * left out for any reason but time.
     */
    GBytes *(*rebase)(gpointer memory, GBytes *batch, uint64_t age_us,
                      GError **errp);
    /* The final batch is staged: is all there that the source counts on? */
    bool (*complete)(gpointer memory, GError **errp);
    void (*destination_end)(gpointer memory);
    /* Undo, batch by batch; also after a crash, also of a batch that was not
     * staged or only in part.  @since_us: CLOCK_REALTIME before it was staged;
     * what was there by then is not the batch's. */
    bool (*unstage)(const MscSelector *selector, GBytes *batch,
                    uint64_t since_us, GError **errp);
    bool (*restore)(const MscSelector *selector, GBytes *replaced,
                    GError **errp);
    /* As MscProvider.settle, of one batch, without memory; or NULL. */
    guint (*settle)(const MscSelector *selector, GBytes *batch);
} MscPrecopy;

/* Writes one line of text about the payload ("inspect"). */
typedef void MscPrintLine(const char *line, void *opaque);

typedef struct {
    const char *name; /* in the context and in messages */
    uint16_t version; /* of the payload, written */
    uint16_t oldest;  /* of the payload, still read */

    /* Can this host do it?  Appends to @problems (of char *) one line for
     * each thing that is missing, with its fix.  False: the probe failed. */
    bool (*probe)(GPtrArray *problems, GError **errp);

    /* What was found out about this kernel, in a line for "doctor"; to be
     * freed.  NULL if there is nothing to say. */
    char *(*describe)(void);

    /* Source: what the guest's state needs of a destination: features used,
     * counts, NAT tuples that must be free.  At most @max bytes.  No bytes,
     * here and from collect: the guest has no state of this kind, and nothing
     * of it is said to the other host. */
    GBytes *(*summarize)(const MscSelector *selector, size_t max,
                         GError **errp);

    /*
     * Destination: appends to @reasons (of char *) every reason why this host
     * cannot take it; none means willing.  @leave_behind: the source's policy
     * is MSC_NAT_LEAVE_BEHIND, so flows that stay are no reason; the answer
     * goes back to the source's collect.  False: the check failed.
     */
    bool (*check)(const MscSelector *selector, GBytes *summary,
                  bool leave_behind, GPtrArray *reasons, GBytes **answer,
                  GError **errp);

    /* Destination: the source says nothing of this kind; appends to @reasons
     * why that cannot be.  NULL: it can. */
    void (*check_absent)(const MscSelector *selector, GPtrArray *reasons);

    /* Source, the guest is stopped.  thaw undoes freeze. */
    bool (*freeze)(const MscSelector *selector, GError **errp);
    bool (*thaw)(const MscSelector *selector, GError **errp);

    /* Source, between freeze and thaw or retire. @answer: of the
     * destination's check, or NULL (snapshot to a file). */
    GBytes *(*collect)(const MscSelector *selector, GBytes *answer,
                       MscProviderStats *stats, GError **errp);

    /* Source, the other host owns the guest: remove exactly the entries of
     * @payload from this host. */
    bool (*retire)(const MscSelector *selector, GBytes *payload, GError **errp);

    /* Destination: decode everything; every entry must lie inside @selector. */
    bool (*validate)(const MscSelector *selector, GBytes *payload,
                     MscProviderStats *stats, GError **errp);

    /* Destination: what stage would replace, encoded so that abort can put
     * it back; also finds clashes, named one by one in the error. */
    GBytes *(*prepare)(const MscSelector *selector, GBytes *payload,
                       GError **errp);

    /* Destination: install.  @transit_us: time since collect, by which
     * time-outs are shortened.  On failure the caller calls abort. */
    bool (*stage)(const MscSelector *selector, GBytes *payload,
                  uint64_t transit_us, GError **errp);

    /* Destination: undo stage, whole or part; put back what it replaced.
     * May be called again after a crash. */
    bool (*abort)(const MscSelector *selector, GBytes *payload,
                  GBytes *replaced, GError **errp);

    /* Destination: the guest runs here now.  Cannot fail. */
    void (*commit)(const MscSelector *selector, GBytes *payload);

    /*
     * Destination, every second or so after commit: tighten what was restored
     * leniently, as traffic allows.  Returns how many entries are still
     * lenient; 0 ends the calls.  *@memory is NULL at first; what the
     * provider keeps there between calls is freed by settle_end.  Both NULL
     * if there is nothing to settle.
     */
    guint (*settle)(const MscSelector *selector, GBytes *payload,
                    gpointer *memory);
    void (*settle_end)(gpointer memory);

    /* NULL: all is collected at freeze. */
    const MscPrecopy *precopy;

    /* "inspect": false if the payload is malformed. */
    bool (*print)(GBytes *payload, MscPrintLine *line, void *opaque,
                  GError **errp);
} MscProvider;

/* The registry (daemon/registry.c), NULL-terminated. */
const MscProvider *const *msc_providers(void);

#endif
