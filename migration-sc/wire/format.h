/*
 * Every number of every format, in one place, with its unit.
 * Integers on the wire are big-endian unless it says otherwise.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_FORMAT_H
#define MSC_WIRE_FORMAT_H

#include <migration-sc/helper-client.h>

/* ---- transport: handshake (docs/transport.md) ---- */

#define MSC_TRANSPORT_MAGIC 0x4d534354u /* "MSCT" */
#define MSC_TRANSPORT_VERSION 1
#define MSC_TRANSPORT_OLDEST 1
/* A handshake message without its u32 length prefix, bytes. */
#define MSC_HANDSHAKE_MAX (1024 * 1024)
/* The admission request or answer inside it, bytes. */
#define MSC_ADMISSION_MAX (MSC_HANDSHAKE_MAX - 4096)
#define MSC_REASON_MAX 2048
#define MSC_NAME_MAX 255

/* ---- transport: records ---- */

/* u32 payload length, u8 type, u8 flags, u16 zero: the associated data. */
#define MSC_RECORD_HEADER 8
/* Bytes sealed under one key before the sender moves to the next; far below
 * the tightest limit of any suite (AES-GCM: 2^36 - 32 bytes a message and
 * about 2^32 records; RFC 9147 appendix B for the reasoning). */
#define MSC_REKEY_BYTES (16ull * 1024 * 1024 * 1024)
#define MSC_REKEY_RECORDS (1ull << 24)

/* ---- helper protocol: QEMU <-> helper (docs/helper-protocol.md) ---- */

#define MSC_HELPER_VERSION 1
/* u32 payload length, u16 type, u16 zero. */
#define MSC_HELPER_HEADER 8
#define MSC_HELPER_PAYLOAD_MAX (MSC_CHUNK_MAX + 4096)
#define MSC_TOKEN_LEN 32

/* ---- sealed context ---- */

#define MSC_CHUNK_HEADER 16
#define MSC_CHUNK_PLAIN_MAX (MSC_CHUNK_MAX - 64)

/* ---- batches of pre-copy (docs/context.md) ---- */

#define MSC_BATCH_MAGIC 0x4d534342u /* "MSCB" */
#define MSC_BATCH_VERSION 1
/* Everything but what its section holds, bytes: magic, version, flags, time,
 * count, and the section's name, versions and length. */
#define MSC_BATCH_OVERHEAD (4 + 2 + 2 + 8 + 2 + (2 + MSC_NAME_MAX) + 2 + 2 + 4)
#define MSC_BATCH_PAYLOAD_MAX (MSC_CHUNK_PLAIN_MAX - MSC_BATCH_OVERHEAD)

/* ---- bases (docs/context.md) ---- */

#define MSC_BASE_MAGIC 0x4d53434cu /* "MSCL" */
#define MSC_BASE_VERSION 1
/* In an admission's answer: 16 migration id, 32 digest. */
#define MSC_BASE_SECTION_SUFFIX ".base"
#define MSC_BASE_SECTION_VERSION 1
/* A batch in a base's file, and all of them, bytes; what was more is no base
 * for the next migration. */
#define MSC_BASE_RECORD_MAX (4u * 1024 * 1024)
#define MSC_BASE_MAX (512ull * 1024 * 1024)

/* ---- plain context (docs/context.md) ---- */

#define MSC_CONTEXT_MAGIC 0x4d534358u /* "MSCX" */
#define MSC_CONTEXT_VERSION 1
#define MSC_CONTEXT_OLDEST 1
/* A whole plain context, bytes; about 20 million flows would be more. */
#define MSC_CONTEXT_MAX (1024u * 1024 * 1024)
#define MSC_SECTIONS_MAX 16

#endif
