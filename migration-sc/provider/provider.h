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

    /* "inspect": false if the payload is malformed. */
    bool (*print)(GBytes *payload, MscPrintLine *line, void *opaque,
                  GError **errp);
} MscProvider;

/* The registry (daemon/registry.c), NULL-terminated. */
const MscProvider *const *msc_providers(void);

#endif
