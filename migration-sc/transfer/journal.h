/*
 * The journal: what this host knows of each migration, and keeps over a
 * crash of the helper.
 *
 * STATE/journal/ID.entry is a GKeyFile, one a migration, in two slots that are
 * written in turn (slots.h).  On the destination, ID.context and ID.replaced
 * beside it hold what was staged and what staging replaced, ID.staged what
 * pre-copy staged (staged-log.h), until the end is known, so that a restarted
 * helper can undo it.  All of it is readable by root only.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_JOURNAL_H
#define MSC_TRANSFER_JOURNAL_H

#include <glib.h>
#include <migration-sc/helper-client.h>

#include "proof.h"
#include "slots.h"

typedef enum {
    MSC_STAGE_OPEN,     /* no handshake yet; never on disk */
    MSC_STAGE_ADMITTED, /* both helpers are willing */
    /* source */
    MSC_STAGE_FROZEN,   /* the final snapshot is taken */
    MSC_STAGE_RELEASED, /* the point of no return */
    MSC_STAGE_FINISHED, /* the other host has the guest */
    MSC_STAGE_THAWED,   /* the guest stays; RELEASE will never be given */
    /* destination */
    MSC_STAGE_STAGED,    /* being installed, or installed */
    MSC_STAGE_READY,     /* READY was given out: the source may release */
    MSC_STAGE_COMMITTED, /* the guest is ours */
    MSC_STAGE_ABORTED,   /* undone; the guest will never run here */
    /* without a security context, in place of all that follows ADMITTED */
    MSC_STAGE_TRANSPORT, /* both helpers are willing */
    MSC_STAGE_CLOSED,    /* over; where the guest is, QEMU knows */
} MscStage;

const char *msc_stage_name(MscStage stage);
/* FINISHED, THAWED, COMMITTED, ABORTED, CLOSED: nothing can follow. */
bool msc_stage_is_final(MscStage stage);

typedef struct {
    uint8_t id[MSC_PROOF_ID_LEN];
    MscRole role;
    MscStage stage;
    char *vm;   /* UUID */
    char *name; /* of the guest */
    char *peer;
    char *suite;
    char *kem;
    char *error;             /* why it ended, or "" */
    gint64 started_us;       /* wall clock */
    uint64_t boot_offset_us; /* destination: see transfer.c */
    MscContextStats stats;
    MscPrecopyStatus progress; /* of pre-copy; not on disk */
    /* Own tokens, by MscProofKind - 1, and the peer's commitments. */
    uint8_t token[MSC_PROOF_LAST][MSC_PROOF_TOKEN_LEN];
    uint8_t commitment[MSC_PROOF_LAST][MSC_COMMITMENT_LEN];
    MscSlots slots; /* where its file stands */
} MscEntry;

MscEntry *msc_entry_new(MscRole role, const char *vm, const char *name);
void msc_entry_free(MscEntry *entry);
/* Without the tokens and commitments. */
MscEntry *msc_entry_copy(const MscEntry *entry);
char *msc_entry_id_text(const MscEntry *entry);

typedef struct MscJournal MscJournal;

/* Makes the directory if need be. */
MscJournal *msc_journal_open(const char *state_dir, GError **errp);
void msc_journal_close(MscJournal *journal);

/* @durable: on disk when it returns true; the first of an entry always is. */
bool msc_journal_write(MscJournal *journal, MscEntry *entry, bool durable,
                       GError **errp);
/* A file that belongs to an entry: @what is "context", "replaced", "staged",
 * "staged-kept".
 * Survives a crash of the helper, not of the host: after that the kernel's
 * tables are gone as well. */
bool msc_journal_write_blob(MscJournal *journal, const MscEntry *entry,
                            const char *what, GBytes *blob, GError **errp);
GBytes *msc_journal_read_blob(MscJournal *journal, const MscEntry *entry,
                              const char *what, GError **errp);
/* Appends to it instead. */
bool msc_journal_append_blob(MscJournal *journal, const MscEntry *entry,
                             const char *what, const void *data, size_t len,
                             GError **errp);
bool msc_journal_has_blob(MscJournal *journal, const MscEntry *entry,
                          const char *what);
char *msc_journal_blob_path(MscJournal *journal, const MscEntry *entry,
                            const char *what);
bool msc_journal_rename_blob(MscJournal *journal, const MscEntry *entry,
                             const char *what, const char *to, GError **errp);
void msc_journal_remove_blob(MscJournal *journal, const MscEntry *entry,
                             const char *what);
void msc_journal_remove_blobs(MscJournal *journal, const MscEntry *entry);
/* All entries, oldest first; an unreadable one is reported and left alone. */
GPtrArray *msc_journal_load(MscJournal *journal, GError **errp);
/* Final entries beyond the newest @keep go. */
void msc_journal_prune(MscJournal *journal, guint keep);

MscEntry *msc_entry_parse(const char *data, size_t len, GError **errp);
char *msc_entry_format(const MscEntry *entry);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscEntry, msc_entry_free)

#endif
