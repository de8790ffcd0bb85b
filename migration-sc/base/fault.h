/*
 * Fault points: where a test makes a helper crash, fail or hang.
 *
 * They exist with the build option -Dfault-points=true alone; otherwise the
 * macros are nothing.  Then the environment of migration-scd picks what
 * happens, each once:
 *
 *   MSC_FAULT=NAME[@N][:crash|error|hang][,...]
 *
 * N counts how often the point is reached; the first time, without it.  Each
 * point that does something says "fault: NAME" on standard error first.
 * tests/faults has a run for every point, and fails for one that has none.
 *
 * A crash is SIGKILL: what was written stays in the page cache, so these
 * tests do not show what fsync() is for.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_BASE_FAULT_H
#define MSC_BASE_FAULT_H

#include <glib.h>
#include <stdbool.h>

/* In the order of a migration. */
#define MSC_FAULT_POINTS_LIST(X)                                            \
    /* Either host. */                                                      \
    X(JOURNAL_WRITE)                                                        \
    X(JOURNAL_WRITTEN)                                                      \
    X(JOURNAL_RENAMED) /* a new file; its directory is not flushed */       \
    X(JOURNAL_BLOB)    /* under its temporary name */                       \
    X(PRECOPY)         /* an error: as of a helper that knows no batches */ \
    X(HANDSHAKE_DONE)  /* and the last message not sent */                  \
    X(DISCONNECTED)    /* QEMU hung up */                                   \
    X(RECOVER)         /* started, an entry of the journal read */          \
    X(VERDICT)                                                              \
    X(SUPERSEDE) /* a new migration tells how the last one ended */         \
    X(RESOLVE)                                                              \
    X(RESOLVED) /* and the operator not told */                             \
    X(RECONCILE_ASK)                                                        \
    X(RECONCILE_ANSWER) /* decided, and the other host not told */          \
    X(RECONCILE_APPLY)                                                      \
    /* Source. */                                                           \
    X(ADMISSION)                                                            \
    X(ANSWERED) /* the destination's answer came */                         \
    X(BATCH)    /* before each of pre-copy is read */                       \
    X(FREEZE)                                                               \
    X(FROZEN)                                                               \
    X(COLLECT) /* before each provider */                                   \
    X(COLLECTED)                                                            \
    X(SEALED)                                                               \
    X(SEND)                                                                 \
    X(READY_CAME)                                                           \
    X(RELEASED)                                                             \
    X(DONE_CAME)                                                            \
    X(RETIRED)                                                              \
    X(FINISHED)                                                             \
    X(THAW)                                                                 \
    X(UNFROZEN)                                                             \
    X(THAWED)                                                               \
    /* Destination. */                                                      \
    X(ADMIT)                                                                \
    X(CHECKED)                                                              \
    X(OPEN)                                                                 \
    X(OPENED)                                                               \
    X(BATCH_RECORDED) /* in the journal, and not staged */                  \
    X(BATCH_STAGED)                                                         \
    X(VALIDATE)                                                             \
    X(DECODED)                                                              \
    X(PREPARED)                                                             \
    X(UNDO_RECORDED)                                                        \
    X(INSTALL)           /* before each provider */                         \
    X(CONNTRACK_REMOVED) /* what is in the way, and nothing created */      \
    X(CONNTRACK_CREATED) /* also in the undo; no expectations yet */        \
    X(INSTALLED)                                                            \
    X(READY)                                                                \
    X(COMMIT)                                                               \
    X(COMMITTED)                                                            \
    X(TAKEN)                                                                \
    X(UNDO)                                                                 \
    X(UNINSTALLED)                                                          \
    X(ABORTED)                                                              \
    X(SETTLED)

#ifdef MSC_FAULT_POINTS
typedef enum {
#define X(name) MSC_FAULT_##name,
    MSC_FAULT_POINTS_LIST(X)
#undef X
        MSC_FAULT_LAST
} MscFaultPoint;

void msc_fault(MscFaultPoint point);
bool msc_fault_passes(MscFaultPoint point, GError **errp);

/* As a statement, where no error can be returned. */
#define MSC_FAULT(name) msc_fault(MSC_FAULT_##name)
/* As a condition: false with an error. */
#define MSC_FAULT_PASSES(name, errp) msc_fault_passes(MSC_FAULT_##name, errp)
#else
#define MSC_FAULT(name) ((void)0)
#define MSC_FAULT_PASSES(name, errp) true
#endif

#endif
