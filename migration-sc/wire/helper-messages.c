/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "helper-messages.h"

#include <string.h>

#include "context.h"
#include "error.h"
#include "secret.h"

static const char *const message_names[] = {
    [MSC_MSG_OPEN] = "OPEN",       [MSC_MSG_CHANNEL] = "CHANNEL",
    [MSC_MSG_FREEZE] = "FREEZE",   [MSC_MSG_COLLECT] = "COLLECT",
    [MSC_MSG_STAGE] = "STAGE",     [MSC_MSG_VALIDATE] = "VALIDATE",
    [MSC_MSG_RELEASE] = "RELEASE", [MSC_MSG_COMMIT] = "COMMIT",
    [MSC_MSG_FINISH] = "FINISH",   [MSC_MSG_THAW] = "THAW",
    [MSC_MSG_ABORT] = "ABORT",     [MSC_MSG_VERDICT] = "VERDICT",
    [MSC_MSG_ATTACH] = "ATTACH",   [MSC_MSG_PRECOPY] = "PRECOPY",
    [MSC_MSG_BATCH] = "BATCH",     [MSC_MSG_READY] = "READY",
};
G_STATIC_ASSERT(G_N_ELEMENTS(message_names) == MSC_MSG_LAST + 1);

const char *msc_message_name(unsigned type)
{
    unsigned request = type & ~(unsigned)MSC_MSG_REPLY;

    if (type == MSC_MSG_ERROR) {
        return "ERROR";
    }
    return request && request <= MSC_MSG_LAST ? message_names[request]
                                              : "unknown message";
}

void msc_frame_header_encode(uint8_t header[MSC_HELPER_HEADER], uint16_t type,
                             uint32_t len)
{
    header[0] = (uint8_t)(len >> 24);
    header[1] = (uint8_t)(len >> 16);
    header[2] = (uint8_t)(len >> 8);
    header[3] = (uint8_t)len;
    header[4] = (uint8_t)(type >> 8);
    header[5] = (uint8_t)type;
    header[6] = header[7] = 0;
}

bool msc_frame_header_decode(const uint8_t header[MSC_HELPER_HEADER],
                             uint16_t *type, uint32_t *len, GError **errp)
{
    static const char what[] = "helper frame";
    uint16_t zero = 0;
    MscReader r;

    msc_reader_init(&r, header, MSC_HELPER_HEADER);
    msc_reader_u32(&r, len);
    msc_reader_u16(&r, type);
    msc_reader_u16(&r, &zero);
    if (*len > MSC_HELPER_PAYLOAD_MAX) {
        return msc_reader_error(&r, errp, what, "payload too long");
    }
    if (zero) {
        return msc_reader_error(&r, errp, what, "reserved bytes not zero");
    }
    return true;
}

/* The text form as it stands on the wire: exactly MSC_UUID_STR_LEN bytes. */
static bool uuid_text(MscReader *r, char vm[MSC_UUID_STR_LEN + 1])
{
    uint8_t uuid[MSC_CONTEXT_UUID_LEN];

    if (!msc_reader_copy(r, uuid, sizeof(uuid))) {
        return false;
    }
    msc_uuid_format(uuid, vm);
    return true;
}

static void put_uuid(GByteArray *out, const char *vm)
{
    uint8_t uuid[MSC_CONTEXT_UUID_LEN];
    bool ok = msc_uuid_parse(vm, uuid, NULL);

    g_assert(ok);
    msc_put_bytes(out, uuid, sizeof(uuid));
}

/* @transport_only: that bit, too, may be set; NULL if it must not. */
static bool read_role(MscReader *r, MscRole *role, bool *transport_only)
{
    uint8_t v;

    if (!msc_reader_u8(r, &v)) {
        return false;
    }
    if (transport_only) {
        *transport_only = v & MSC_OPEN_TRANSPORT_ONLY;
        v &= (uint8_t)~MSC_OPEN_TRANSPORT_ONLY;
    }
    if (v != MSC_ROLE_SOURCE && v != MSC_ROLE_DESTINATION) {
        return false;
    }
    *role = (MscRole)v;
    return true;
}

void msc_open_encode(const MscOpenMessage *m, GByteArray *out)
{
    msc_put_u16(out, MSC_HELPER_VERSION);
    msc_put_u8(out,
               (uint8_t)(m->role |
                         (m->transport_only ? MSC_OPEN_TRANSPORT_ONLY : 0)));
    put_uuid(out, m->vm);
}

bool msc_open_decode(const void *data, size_t len, MscOpenMessage *m,
                     GError **errp)
{
    static const char what[] = "OPEN";
    uint16_t version;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u16(&r, &version) || version != MSC_HELPER_VERSION) {
        return msc_reader_error(&r, errp, what,
                                "unknown version of the helper protocol");
    }
    if (!read_role(&r, &m->role, &m->transport_only) || !uuid_text(&r, m->vm)) {
        return msc_reader_error(&r, errp, what, "bad role or UUID");
    }
    return msc_reader_end(&r, errp, what);
}

void msc_opened_encode(const MscOpenedMessage *m, GByteArray *out)
{
    msc_put_bytes(out, m->token, sizeof(m->token));
    msc_put_u32(out, m->timeout_ms);
}

bool msc_opened_decode(const void *data, size_t len, MscOpenedMessage *m,
                       GError **errp)
{
    static const char what[] = "reply to OPEN";
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_copy(&r, m->token, sizeof(m->token)) ||
        !msc_reader_u32(&r, &m->timeout_ms)) {
        return msc_reader_error(&r, errp, what, "cut short");
    }
    return msc_reader_end(&r, errp, what);
}

void msc_channel_encode(const MscChannelMessage *m, GByteArray *out)
{
    msc_put_bytes(out, m->token, sizeof(m->token));
    msc_put_u8(out, m->kind);
    msc_put_u32(out, m->number);
    msc_put_u64(out, m->rekey_bytes);
    msc_put_string(out, m->expected_peer ? m->expected_peer : "");
}

bool msc_channel_decode(const void *data, size_t len, MscChannelMessage *m,
                        GError **errp)
{
    static const char what[] = "CHANNEL";
    MscReader r;

    memset(m, 0, sizeof(*m));
    msc_reader_init(&r, data, len);
    if (!msc_reader_copy(&r, m->token, sizeof(m->token)) ||
        !msc_reader_u8(&r, &m->kind) || m->kind > MSC_CHANNEL_RECOVERED ||
        !msc_reader_u32(&r, &m->number) ||
        !msc_reader_u64(&r, &m->rekey_bytes) ||
        !msc_reader_string(&r, &m->expected_peer, MSC_NAME_MAX)) {
        return msc_reader_error(&r, errp, what, "bad field");
    }
    if (!msc_reader_end(&r, errp, what)) {
        msc_channel_message_clear(m);
        return false;
    }
    return true;
}

void msc_channel_message_clear(MscChannelMessage *m)
{
    g_clear_pointer(&m->expected_peer, g_free);
    msc_wipe(m->token, sizeof(m->token));
}

void msc_keys_encode(const MscKeysMessage *m, GByteArray *out)
{
    msc_put_u8(out, m->kind);
    msc_put_u8(out, m->suite);
    msc_put_u32(out, m->number);
    msc_put_u64(out, m->rekey_bytes);
    msc_put_u64(out, m->handshake_us);
    msc_put_bytes(out, m->migration_id, sizeof(m->migration_id));
    msc_put_bytes(out, m->send, sizeof(m->send));
    msc_put_bytes(out, m->recv, sizeof(m->recv));
    msc_put_string(out, m->suite_name);
    msc_put_string(out, m->kem);
    msc_put_string(out, m->peer);
}

bool msc_keys_decode(const void *data, size_t len, MscKeysMessage *m,
                     GError **errp)
{
    static const char what[] = "reply to CHANNEL";
    MscReader r;

    memset(m, 0, sizeof(*m));
    msc_reader_init(&r, data, len);
    if (!msc_reader_u8(&r, &m->kind) || !m->kind ||
        m->kind > MSC_CHANNEL_RECOVERED || !msc_reader_u8(&r, &m->suite) ||
        !msc_reader_u32(&r, &m->number) ||
        !msc_reader_u64(&r, &m->rekey_bytes) ||
        !msc_reader_u64(&r, &m->handshake_us) ||
        !msc_reader_copy(&r, m->migration_id, sizeof(m->migration_id)) ||
        !msc_reader_copy(&r, m->send, sizeof(m->send)) ||
        !msc_reader_copy(&r, m->recv, sizeof(m->recv)) ||
        !msc_reader_string(&r, &m->suite_name, MSC_NAME_MAX) ||
        !msc_reader_string(&r, &m->kem, MSC_NAME_MAX) ||
        !msc_reader_string(&r, &m->peer, MSC_NAME_MAX)) {
        msc_keys_message_clear(m);
        return msc_reader_error(&r, errp, what, "bad field");
    }
    if (!msc_reader_end(&r, errp, what)) {
        msc_keys_message_clear(m);
        return false;
    }
    return true;
}

void msc_keys_message_clear(MscKeysMessage *m)
{
    g_free(m->suite_name);
    g_free(m->kem);
    g_free(m->peer);
    msc_wipe(m, sizeof(*m));
}

void msc_stats_encode(const MscContextStats *m, GByteArray *out)
{
    msc_put_u64(out, m->flows);
    msc_put_u64(out, m->left_behind);
    msc_put_u64(out, m->bytes);
    msc_put_u64(out, m->elapsed_us);
}

static bool read_stats(MscReader *r, MscContextStats *m, const char *what,
                       GError **errp)
{
    return (msc_reader_u64(r, &m->flows) &&
            msc_reader_u64(r, &m->left_behind) &&
            msc_reader_u64(r, &m->bytes) &&
            msc_reader_u64(r, &m->elapsed_us)) ||
           msc_reader_error(r, errp, what, "cut short");
}

bool msc_stats_decode(const void *data, size_t len, MscContextStats *m,
                      GError **errp)
{
    static const char what[] = "reply with statistics";
    MscReader r;

    msc_reader_init(&r, data, len);
    return read_stats(&r, m, what, errp) && msc_reader_end(&r, errp, what);
}

bool msc_frozen_has_room(const GByteArray *out, GBytes *chunk)
{
    /* The length of the chunk, and that of none after it. */
    return out->len + 2 * sizeof(uint32_t) + g_bytes_get_size(chunk) <=
           MSC_HELPER_PAYLOAD_MAX;
}

void msc_frozen_put(GByteArray *out, GBytes *chunk)
{
    gsize len = 0;
    const void *data = chunk ? g_bytes_get_data(chunk, &len) : NULL;

    msc_put_u32(out, (uint32_t)len);
    if (len) {
        msc_put_bytes(out, data, len);
    }
}

bool msc_frozen_decode(const void *data, size_t len, MscContextStats *m,
                       GQueue *chunks, bool *more, GError **errp)
{
    static const char what[] = "reply to FREEZE";
    MscReader r;

    msc_reader_init(&r, data, len);
    *more = true;
    if (!read_stats(&r, m, what, errp)) {
        return false;
    }
    while (*more && msc_reader_left(&r)) {
        const uint8_t *chunk;
        uint32_t size;

        if (!msc_reader_u32(&r, &size) || size > MSC_CHUNK_MAX ||
            !msc_reader_view(&r, &chunk, size)) {
            return msc_reader_error(&r, errp, what, "no such chunk");
        }
        *more = size;
        if (size) {
            g_queue_push_tail(chunks, g_bytes_new(chunk, size));
        }
    }
    return msc_reader_end(&r, errp, what);
}

void msc_precopy_encode(const MscPrecopyStatus *m, GByteArray *out)
{
    msc_put_u8(out, (uint8_t)m->state);
    msc_put_u64(out, m->sent);
    msc_put_u64(out, m->total);
    msc_put_u64(out, m->backlog);
}

bool msc_precopy_decode(const void *data, size_t len, MscPrecopyStatus *m,
                        GBytes **chunk, GError **errp)
{
    static const char what[] = "reply with a batch";
    uint8_t state;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u8(&r, &state) || state > MSC_PRECOPY_LIVE) {
        return msc_reader_error(&r, errp, what, "unknown state");
    }
    m->state = (MscPrecopyState)state;
    if (!msc_reader_u64(&r, &m->sent) || !msc_reader_u64(&r, &m->total) ||
        !msc_reader_u64(&r, &m->backlog)) {
        return msc_reader_error(&r, errp, what, "cut short");
    }
    if (msc_reader_left(&r) > MSC_CHUNK_MAX ||
        (msc_reader_left(&r) && state == MSC_PRECOPY_OFF)) {
        return msc_reader_error(&r, errp, what, "no such chunk");
    }
    *chunk =
        msc_reader_left(&r) ? g_bytes_new(r.pos, msc_reader_left(&r)) : NULL;
    return true;
}

void msc_attach_encode(const MscAttachMessage *m, GByteArray *out)
{
    msc_put_u16(out, MSC_HELPER_VERSION);
    msc_put_u8(out, (uint8_t)m->role);
    put_uuid(out, m->vm);
    msc_put_bytes(out, m->migration_id, sizeof(m->migration_id));
}

bool msc_attach_decode(const void *data, size_t len, MscAttachMessage *m,
                       GError **errp)
{
    static const char what[] = "VERDICT or ATTACH";
    uint16_t version;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u16(&r, &version) || version != MSC_HELPER_VERSION) {
        return msc_reader_error(&r, errp, what,
                                "unknown version of the helper protocol");
    }
    if (!read_role(&r, &m->role, NULL) || !uuid_text(&r, m->vm) ||
        !msc_reader_copy(&r, m->migration_id, sizeof(m->migration_id))) {
        return msc_reader_error(&r, errp, what, "bad field");
    }
    return msc_reader_end(&r, errp, what);
}

void msc_text_encode(const char *text, GByteArray *out)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    if (strlen(valid) > MSC_REASON_MAX) {
        /* Cut at a character's start. */
        *g_utf8_find_prev_char(valid, valid + MSC_REASON_MAX + 1) = '\0';
    }
    msc_put_string(out, valid);
}

bool msc_text_decode(const void *data, size_t len, char **text, GError **errp)
{
    static const char what[] = "text";
    g_autofree char *decoded = NULL;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_string(&r, &decoded, MSC_REASON_MAX)) {
        return msc_reader_error(&r, errp, what, "not a string");
    }
    if (!msc_reader_end(&r, errp, what)) {
        return false;
    }
    *text = g_steal_pointer(&decoded);
    return true;
}

void msc_error_encode(const GError *error, GByteArray *out)
{
    int code = error->domain == MSC_ERROR ? error->code : MSC_ERROR_INTERNAL;

    msc_put_u16(out, (uint16_t)code);
    msc_text_encode(error->message, out);
}

bool msc_error_decode(const void *data, size_t len, GError **errp)
{
    g_autofree char *message = NULL;
    uint16_t code;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u16(&r, &code) || code > MSC_ERROR_INTERNAL) {
        return msc_reader_error(&r, errp, "ERROR", "unknown code");
    }
    if (!msc_text_decode(r.pos, msc_reader_left(&r), &message, errp)) {
        return false;
    }
    g_set_error_literal(errp, MSC_ERROR, code, message);
    return false;
}

bool msc_verdict_decode(const void *data, size_t len, MscVerdict *verdict,
                        GError **errp)
{
    uint8_t v;
    MscReader r;

    msc_reader_init(&r, data, len);
    if (!msc_reader_u8(&r, &v) || v > MSC_VERDICT_PENDING) {
        return msc_reader_error(&r, errp, "VERDICT", "unknown verdict");
    }
    *verdict = (MscVerdict)v;
    return msc_reader_end(&r, errp, "VERDICT");
}
