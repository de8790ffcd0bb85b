/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "staged-log.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "error.h"
#include "format.h"

#define WHAT "journal, what was staged"
/* A final batch may be as large as a context. */
#define RECORD_MAX (MSC_CONTEXT_MAX + MSC_NAME_MAX + 24)

struct MscStagedReader {
    FILE *file;
};

void msc_staged_record_clear(MscStagedRecord *record)
{
    g_clear_pointer(&record->provider, g_free);
    g_clear_pointer(&record->data, g_bytes_unref);
}

static GByteArray *encode(const MscStagedRecord *record)
{
    g_autoptr(GByteArray) head = g_byte_array_new();
    GByteArray *out = g_byte_array_new();
    gsize len;
    const void *bytes = g_bytes_get_data(record->data, &len);

    msc_put_u8(head, (uint8_t)record->kind);
    msc_put_u64(head, record->when_us);
    msc_put_string(head, record->provider);
    msc_put_u32(out, (uint32_t)(head->len + len));
    msc_put_bytes(out, head->data, head->len);
    msc_put_bytes(out, bytes, len);
    return out;
}

static bool has_room(MscJournal *journal, const MscEntry *entry, size_t more,
                     unsigned max_mib, GError **errp)
{
    g_autofree char *path =
        msc_journal_blob_path(journal, entry, MSC_BLOB_STAGED);
    GStatBuf there = { 0 };

    if (g_stat(path, &there) && errno != ENOENT) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "%s: %s", WHAT,
                    g_strerror(errno));
        return false;
    }
    if ((uint64_t)there.st_size + more <= (uint64_t)max_mib << 20) {
        return true;
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                "what guest %s sends ahead takes more than %u MiB of this "
                "host's disk ('%s'); if it has so much, say more in '[handoff] "
                "precopy-disk-mib=' of this host's migration-sc.conf",
                entry->name, max_mib, path);
    return false;
}

bool msc_staged_append(MscJournal *journal, const MscEntry *entry,
                       MscStagedKind kind, const char *provider, GBytes *data,
                       unsigned max_mib, GError **errp)
{
    MscStagedRecord record = { .kind = kind,
                               .when_us = (uint64_t)g_get_real_time(),
                               .provider = (char *)provider,
                               .data = data };
    g_autoptr(GByteArray) out = encode(&record);

    return has_room(journal, entry, out->len, max_mib, errp) &&
           msc_journal_append_blob(journal, entry, MSC_BLOB_STAGED, out->data,
                                   out->len, errp);
}

/* The records that are not of @provider, to another file. */
static bool keep_others(MscJournal *journal, const MscEntry *entry,
                        MscStagedReader *reader, const char *provider,
                        bool *any, GError **errp)
{
    for (;;) {
        g_auto(MscStagedRecord) record = { 0 };
        g_autoptr(GByteArray) out = NULL;
        int got = msc_staged_read(reader, &record, errp);

        if (got != 1) {
            return !got;
        }
        if (!g_strcmp0(record.provider, provider)) {
            continue;
        }
        *any = true;
        out = encode(&record);
        if (!msc_journal_append_blob(journal, entry, MSC_BLOB_STAGED_KEPT,
                                     out->data, out->len, errp)) {
            return false;
        }
    }
}

bool msc_staged_forget(MscJournal *journal, const MscEntry *entry,
                       const char *provider, GError **errp)
{
    g_autoptr(MscStagedReader) reader = NULL;
    bool any = false;

    if (!msc_journal_has_blob(journal, entry, MSC_BLOB_STAGED)) {
        return true;
    }
    msc_journal_remove_blob(journal, entry, MSC_BLOB_STAGED_KEPT);
    reader = msc_staged_open(journal, entry, 0, errp);
    if (!reader || !keep_others(journal, entry, reader, provider, &any, errp)) {
        return false;
    }
    if (!any) {
        msc_journal_remove_blob(journal, entry, MSC_BLOB_STAGED);
        return true;
    }
    return msc_journal_rename_blob(journal, entry, MSC_BLOB_STAGED_KEPT,
                                   MSC_BLOB_STAGED, errp);
}

static void cannot_read(GError **errp)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "%s: %s", WHAT,
                g_strerror(errno));
}

MscStagedReader *msc_staged_open(MscJournal *journal, const MscEntry *entry,
                                 gint64 offset, GError **errp)
{
    g_autofree char *path =
        msc_journal_blob_path(journal, entry, MSC_BLOB_STAGED);
    g_autoptr(MscStagedReader) reader = g_new0(MscStagedReader, 1);

    reader->file = fopen(path, "re");
    if (!reader->file || fseeko(reader->file, offset, SEEK_SET)) {
        cannot_read(errp);
        return NULL;
    }
    return g_steal_pointer(&reader);
}

void msc_staged_close(MscStagedReader *reader)
{
    if (reader) {
        if (reader->file) {
            fclose(reader->file);
        }
        g_free(reader);
    }
}

gint64 msc_staged_offset(const MscStagedReader *reader)
{
    return ftello(reader->file);
}

bool msc_staged_record_decode(const void *data, size_t len,
                              MscStagedRecord *record, GError **errp)
{
    g_autofree char *provider = NULL;
    uint64_t when_us;
    uint8_t kind;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u8(&r, &kind) ||
        (kind != MSC_STAGED_BATCH && kind != MSC_STAGED_REPLACED)) {
        return msc_reader_error(&r, errp, WHAT, "unknown kind of record");
    }
    if (!msc_reader_u64(&r, &when_us)) {
        return msc_reader_error(&r, errp, WHAT, "record without a time");
    }
    if (!msc_reader_string(&r, &provider, MSC_NAME_MAX)) {
        return msc_reader_error(&r, errp, WHAT, "record without a name");
    }
    record->kind = (MscStagedKind)kind;
    record->when_us = when_us;
    record->provider = g_steal_pointer(&provider);
    record->data = g_bytes_new(r.pos, msc_reader_left(&r));
    return true;
}

int msc_staged_read(MscStagedReader *reader, MscStagedRecord *record,
                    GError **errp)
{
    g_autofree uint8_t *data = NULL;
    uint8_t prefix[4];
    uint32_t len = 0;
    MscReader r;

    if (fread(prefix, 1, sizeof(prefix), reader->file) != sizeof(prefix)) {
        if (ferror(reader->file)) {
            cannot_read(errp);
            return -1;
        }
        return 0;
    }
    msc_reader_init(&r, prefix, sizeof(prefix));
    if (!msc_reader_u32(&r, &len) || len > RECORD_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "%s: record of %u bytes", WHAT, len);
        return -1;
    }
    data = g_malloc(len);
    if (fread(data, 1, len, reader->file) != len) {
        if (ferror(reader->file)) {
            cannot_read(errp);
            return -1;
        }
        return 0; /* cut off by a crash, before it was acted upon */
    }
    return msc_staged_record_decode(data, len, record, errp) ? 1 : -1;
}
