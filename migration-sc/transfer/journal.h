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

#include "journal-entry.h"

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

#endif
