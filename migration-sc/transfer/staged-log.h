/*
 * What pre-copy has staged on this host, on disk before it is in the kernel:
 * so that a restarted helper, too, can undo exactly that.
 *
 * STATE/journal/ID.staged is a list of records: u32 length of what follows,
 * u8 kind, u64 wall clock (us) when it was written, string name of the
 * provider, bytes.  It grows up to a limit; a record that is cut off at the end
 * was never acted upon.  ID.staged-kept is to take its place.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_STAGED_LOG_H
#define MSC_TRANSFER_STAGED_LOG_H

#include "journal.h"

#define MSC_BLOB_STAGED "staged"
#define MSC_BLOB_STAGED_KEPT "staged-kept"

typedef enum {
    MSC_STAGED_BATCH = 1,    /* is being staged, or is */
    MSC_STAGED_REPLACED = 2, /* was here before */
} MscStagedKind;

typedef struct {
    MscStagedKind kind;
    uint64_t when_us; /* CLOCK_REALTIME; what it led to came later */
    char *provider;
    GBytes *data;
} MscStagedRecord;

void msc_staged_record_clear(MscStagedRecord *record);

/* Refused if the log would be longer than @max_mib (MiB): another host decides
 * how much there is. */
bool msc_staged_append(MscJournal *journal, const MscEntry *entry,
                       MscStagedKind kind, const char *provider, GBytes *data,
                       unsigned max_mib, GError **errp);
/* All of @provider's that was appended; it must have been undone. */
bool msc_staged_forget(MscJournal *journal, const MscEntry *entry,
                       const char *provider, GError **errp);

typedef struct MscStagedReader MscStagedReader;

/* At byte @offset, which must be a record's; NULL if it cannot be read. */
MscStagedReader *msc_staged_open(MscJournal *journal, const MscEntry *entry,
                                 gint64 offset, GError **errp);
void msc_staged_close(MscStagedReader *reader);
gint64 msc_staged_offset(const MscStagedReader *reader);
/* 1: *@record is filled, to be cleared; 0: there are no more; -1: error. */
int msc_staged_read(MscStagedReader *reader, MscStagedRecord *record,
                    GError **errp);

/* One record out of memory, without its length. */
bool msc_staged_record_decode(const void *data, size_t len,
                              MscStagedRecord *record, GError **errp);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MscStagedRecord, msc_staged_record_clear)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscStagedReader, msc_staged_close)

#endif
