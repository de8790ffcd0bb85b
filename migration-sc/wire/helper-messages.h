/*
 * Messages between QEMU and its helper.  docs/helper-protocol.md.
 *
 * A frame: u32 payload length, u16 type, u16 zero, payload.  QEMU asks, the
 * helper answers each request with one frame: the request's type with
 * MSC_MSG_REPLY set, or MSC_MSG_ERROR.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_WIRE_HELPER_MESSAGES_H
#define MSC_WIRE_HELPER_MESSAGES_H

#include <migration-sc/helper-client.h>

#include "bytes.h"
#include "format.h"

#define MSC_ID_LEN 16
#define MSC_KEY_LEN 32

typedef enum {
    MSC_MSG_OPEN = 1,     /* open -> token */
    MSC_MSG_CHANNEL = 2,  /* channel + descriptor -> keys */
    MSC_MSG_FREEZE = 3,   /* - -> stats, chunks that fit */
    MSC_MSG_COLLECT = 4,  /* - -> chunk, empty after the last */
    MSC_MSG_STAGE = 5,    /* chunk -> u64 flows staged so far */
    MSC_MSG_VALIDATE = 6, /* - -> stats */
    MSC_MSG_RELEASE = 7,  /* proof -> proof */
    MSC_MSG_COMMIT = 8,   /* proof -> proof */
    MSC_MSG_FINISH = 9,   /* proof -> - */
    MSC_MSG_THAW = 10,    /* reason -> - */
    MSC_MSG_ABORT = 11,   /* reason -> - */
    MSC_MSG_VERDICT = 12, /* attach -> u8 verdict */
    MSC_MSG_ATTACH = 13,  /* attach -> -: a session after a crash */
    MSC_MSG_PRECOPY = 14, /* - -> -: this QEMU carries batches */
    MSC_MSG_BATCH = 15,   /* - -> progress, chunk or nothing */
    MSC_MSG_READY = 16,   /* - -> proof */
    MSC_MSG_LAST = MSC_MSG_READY,
    MSC_MSG_REPLY = 0x8000,
    MSC_MSG_ERROR = 0xffff, /* u16 MscErrorCode, string */
} MscMessageType;

const char *msc_message_name(unsigned type);

/* Header of a frame; @len is the payload's. */
void msc_frame_header_encode(uint8_t header[MSC_HELPER_HEADER], uint16_t type,
                             uint32_t len);
bool msc_frame_header_decode(const uint8_t header[MSC_HELPER_HEADER],
                             uint16_t *type, uint32_t *len, GError **errp);

/* Set in the role of OPEN: no security context will move. */
#define MSC_OPEN_TRANSPORT_ONLY 0x80

typedef struct {
    MscRole role;
    bool transport_only;
    char vm[MSC_UUID_STR_LEN + 1];
} MscOpenMessage;

void msc_open_encode(const MscOpenMessage *m, GByteArray *out);
bool msc_open_decode(const void *data, size_t len, MscOpenMessage *m,
                     GError **errp);

typedef struct {
    uint8_t token[MSC_TOKEN_LEN];
    uint32_t timeout_ms; /* default bound of a call */
} MscOpenedMessage;

void msc_opened_encode(const MscOpenedMessage *m, GByteArray *out);
bool msc_opened_decode(const void *data, size_t len, MscOpenedMessage *m,
                       GError **errp);

typedef struct {
    uint8_t token[MSC_TOKEN_LEN];
    uint8_t kind; /* MscChannelKind, 0 on the destination */
    uint32_t number;
    uint64_t rekey_bytes;
    char *expected_peer; /* "" for none */
} MscChannelMessage;

void msc_channel_encode(const MscChannelMessage *m, GByteArray *out);
bool msc_channel_decode(const void *data, size_t len, MscChannelMessage *m,
                        GError **errp);
void msc_channel_message_clear(MscChannelMessage *m);

typedef struct {
    uint8_t kind;
    uint8_t suite; /* MscSuiteId */
    uint32_t number;
    uint64_t rekey_bytes;
    uint64_t handshake_us;
    uint8_t migration_id[MSC_ID_LEN];
    uint8_t send[MSC_KEY_LEN];
    uint8_t recv[MSC_KEY_LEN];
    char *suite_name;
    char *kem;
    char *peer;
} MscKeysMessage;

void msc_keys_encode(const MscKeysMessage *m, GByteArray *out);
bool msc_keys_decode(const void *data, size_t len, MscKeysMessage *m,
                     GError **errp);
void msc_keys_message_clear(MscKeysMessage *m); /* wipes */

void msc_stats_encode(const MscContextStats *m, GByteArray *out);
bool msc_stats_decode(const void *data, size_t len, MscContextStats *m,
                      GError **errp);

/* FREEZE's reply, after the stats: each chunk that fits, then NULL if there
 * are no more. */
bool msc_frozen_has_room(const GByteArray *out, GBytes *chunk);
void msc_frozen_put(GByteArray *out, GBytes *chunk);
/* @chunks: of GBytes; *@more: COLLECT gives the rest. */
bool msc_frozen_decode(const void *data, size_t len, MscContextStats *m,
                       GQueue *chunks, bool *more, GError **errp);

/* BATCH's reply, before the chunk. */
void msc_precopy_encode(const MscPrecopyStatus *m, GByteArray *out);
/* *@chunk: the rest, NULL if there is none. */
bool msc_precopy_decode(const void *data, size_t len, MscPrecopyStatus *m,
                        GBytes **chunk, GError **errp);

typedef struct {
    MscRole role;
    char vm[MSC_UUID_STR_LEN + 1];
    uint8_t migration_id[MSC_ID_LEN];
} MscAttachMessage;

void msc_attach_encode(const MscAttachMessage *m, GByteArray *out);
bool msc_attach_decode(const void *data, size_t len, MscAttachMessage *m,
                       GError **errp);

/* One string of at most MSC_REASON_MAX bytes. */
void msc_text_encode(const char *text, GByteArray *out);
bool msc_text_decode(const void *data, size_t len, char **text, GError **errp);

void msc_error_encode(const GError *error, GByteArray *out);
/* Sets @errp to the error that was sent; always returns false. */
bool msc_error_decode(const void *data, size_t len, GError **errp);

bool msc_verdict_decode(const void *data, size_t len, MscVerdict *verdict,
                        GError **errp);

#endif
