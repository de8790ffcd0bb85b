/*
 * The file that holds a base: what a provider sent of a guest in its last
 * migration between this host and another.  docs/context.md, "Bases".
 *
 *   u32 magic "MSCL", u16 version, u16 zero, 16 boot id, 16 migration id,
 *   16 guest UUID, string provider, string other host
 *   for each batch: u32 length, u64 own CLOCK_BOOTTIME (us) at which its
 *   time-outs held, the bytes
 *   u32 0, u64 own CLOCK_BOOTTIME, u64 wall clock, at the end of the
 *   migration (us), u64 bytes of the batches that were sent whole,
 *   32 digest: BLAKE2b-256 of each batch's u32 length and bytes
 *   32 BLAKE2b-256 of all of the file before it
 *
 * Both hosts have the same digest, and only times of their own.  Opening a
 * file reads all of it once, in pieces; nothing of one that is damaged or cut
 * short is ever used.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_BASE_FILE_H
#define MSC_TRANSFER_BASE_FILE_H

#include <glib.h>
#include <stdbool.h>
#include <stdio.h>

#include "format.h"
#include "handshake.h"
#include "proof.h"

#define MSC_BASE_DIGEST_LEN 32

typedef struct {
    uint8_t boot[16]; /* of the host */
    uint8_t id[MSC_PROOF_ID_LEN];
    uint8_t vm[MSC_UUID_LEN];
    char *provider;
    char *peer;
    /* Known at the end. */
    uint64_t ended_us; /* CLOCK_BOOTTIME */
    uint64_t wall_us;
    uint64_t whole; /* bytes of the batches that were sent whole, once */
    uint64_t bytes; /* of all batches; not in the file */
    uint8_t digest[MSC_BASE_DIGEST_LEN];
} MscBaseHead;

void msc_base_head_clear(MscBaseHead *head);

typedef struct MscBaseWriter MscBaseWriter;

/* Begins a file at @path, which is removed again unless it is finished.
 * @head: as far as it is known. */
MscBaseWriter *msc_base_writer_new(const char *path, const MscBaseHead *head,
                                   GError **errp);
bool msc_base_writer_add(MscBaseWriter *w, const void *data, size_t len,
                         uint64_t when_us, GError **errp);
/* Bytes of batches in it. */
uint64_t msc_base_writer_bytes(const MscBaseWriter *w);
/* Puts it in @path's place; not flushed to disk. */
bool msc_base_writer_finish(MscBaseWriter *w, const char *path,
                            uint64_t ended_us, uint64_t wall_us, uint64_t whole,
                            GError **errp);
void msc_base_writer_free(MscBaseWriter *w);

typedef struct MscBaseReader MscBaseReader;

/* Takes @file, also if it fails. */
MscBaseReader *msc_base_reader_new(FILE *file, GError **errp);
const MscBaseHead *msc_base_reader_head(const MscBaseReader *r);
/* 1: *@data, and when its time-outs held; 0: there are no more; -1: error. */
int msc_base_reader_next(MscBaseReader *r, GBytes **data, uint64_t *when_us,
                         GError **errp);
bool msc_base_reader_rewind(MscBaseReader *r, GError **errp);
void msc_base_reader_free(MscBaseReader *r);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MscBaseHead, msc_base_head_clear)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscBaseWriter, msc_base_writer_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscBaseReader, msc_base_reader_free)

#endif
