/*
 * The session of one QEMU with its helper.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "client-private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "context.h"
#include "error.h"
#include "secret.h"

/* Until the helper has told its own. */
#define OPEN_TIMEOUT_MS 10000
/* Pause between tries to reach a helper that is being restarted. */
#define RECONNECT_PAUSE_US (100 * 1000)

bool msc_client_exchange(int fd, uint16_t type, const GByteArray *payload,
                         int pass_fd, unsigned timeout_ms, MscFrame *reply,
                         GError **errp)
{
    gint64 deadline = msc_deadline(timeout_ms);

    if (!msc_frame_send(fd, type, payload, pass_fd, deadline, MSC_HELPER_WHO,
                        errp)) {
        return false;
    }
    switch (
        msc_frame_recv(fd, reply, deadline, timeout_ms, MSC_HELPER_WHO, errp)) {
    case MSC_FRAME_OK:
        break;
    case MSC_FRAME_CLOSED:
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO,
                    "%s hung up before it answered %s; did it crash?",
                    MSC_HELPER_WHO, msc_message_name(type));
        return false;
    case MSC_FRAME_FAILED:
        g_prefix_error(errp, "%s: ", msc_message_name(type));
        return false;
    }
    if (reply->type == MSC_MSG_ERROR) {
        return msc_error_decode(reply->payload->data, reply->payload->len,
                                errp);
    }
    if (reply->type != (type | MSC_MSG_REPLY)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "%s answered %s with %s", MSC_HELPER_WHO,
                    msc_message_name(type), msc_message_name(reply->type));
        return false;
    }
    return true;
}

/* Connection-level trouble: worth another connection; anything else is the
 * helper's own word. */
static bool is_connection_error(const GError *err)
{
    return g_error_matches(err, MSC_ERROR, MSC_ERROR_IO) ||
           g_error_matches(err, MSC_ERROR, MSC_ERROR_TIMEOUT);
}

static void drop_connection(MscClient *client, const GError *why)
{
    g_free(client->why_lost);
    client->why_lost = g_strdup(why->message);
    g_mutex_lock(&client->fd_lock);
    if (client->fd >= 0) {
        close(client->fd);
        client->fd = -1;
    }
    g_mutex_unlock(&client->fd_lock);
}

/* One request on the session's connection; call_lock is held. */
static bool call_locked(MscClient *client, uint16_t type,
                        const GByteArray *payload, MscFrame *reply,
                        GError **errp)
{
    g_autoptr(GError) err = NULL;

    if (client->cancelled) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CANCELLED,
                            "the migration was cancelled");
        return false;
    }
    if (client->fd < 0) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO,
                    "the connection to %s is lost: %s", MSC_HELPER_WHO,
                    client->why_lost);
        return false;
    }
    if (msc_client_exchange(client->fd, type, payload, -1, client->timeout_ms,
                            reply, &err)) {
        return true;
    }
    /* A late answer must not be taken for the next request's. */
    if (reply->type != MSC_MSG_ERROR) {
        drop_connection(client, err);
    }
    g_propagate_error(errp, g_steal_pointer(&err));
    return false;
}

static bool call(MscClient *client, uint16_t type, const GByteArray *payload,
                 MscFrame *reply, GError **errp)
{
    bool ok;

    g_mutex_lock(&client->call_lock);
    ok = call_locked(client, type, payload, reply, errp);
    g_mutex_unlock(&client->call_lock);
    return ok;
}

static GByteArray *attach_payload(MscRole role, const char *vm,
                                  const uint8_t id[MSC_ID_LEN])
{
    GByteArray *out = g_byte_array_new();
    MscAttachMessage m = { .role = role };

    g_strlcpy(m.vm, vm, sizeof(m.vm));
    memcpy(m.migration_id, id, sizeof(m.migration_id));
    msc_attach_encode(&m, out);
    return out;
}

/* The helper may have been restarted: a new connection to the same journal
 * entry.  call_lock is held. */
static bool reattach_locked(MscClient *client, GError **errp)
{
    g_autoptr(GByteArray) payload = NULL;
    g_auto(MscFrame) reply;
    int fd;

    msc_frame_init(&reply);
    if (!client->have_migration_id) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "no migration to go back to");
        return false;
    }
    fd = msc_unix_connect(client->socket_path, msc_deadline(client->timeout_ms),
                          errp);
    if (fd < 0) {
        return false;
    }
    payload = attach_payload(client->open.role, client->open.vm,
                             client->migration_id);
    if (!msc_client_exchange(fd, MSC_MSG_ATTACH, payload, -1,
                             client->timeout_ms, &reply, errp)) {
        close(fd);
        return false;
    }
    g_mutex_lock(&client->fd_lock);
    client->fd = fd;
    g_mutex_unlock(&client->fd_lock);
    return true;
}

/*
 * A request that may be repeated, because the journal remembers it: tries
 * again over new connections until the time-out.
 */
static bool call_journalled(MscClient *client, uint16_t type,
                            const GByteArray *payload, MscFrame *reply,
                            GError **errp)
{
    gint64 deadline = msc_deadline(client->timeout_ms);
    bool ok = false;

    g_mutex_lock(&client->call_lock);
    for (;;) {
        g_autoptr(GError) err = NULL;

        if (client->fd >= 0 || reattach_locked(client, &err)) {
            ok = call_locked(client, type, payload, reply, &err);
        }
        if (ok || client->cancelled || !is_connection_error(err) ||
            g_get_monotonic_time() > deadline) {
            if (!ok) {
                g_propagate_error(errp, g_steal_pointer(&err));
            }
            break;
        }
        g_usleep(RECONNECT_PAUSE_US);
    }
    g_mutex_unlock(&client->call_lock);
    return ok;
}

static MscClient *client_open(const char *socket_path, MscRole role,
                              bool transport_only, const char *vm_uuid,
                              unsigned timeout_ms, GError **errp)
{
    g_autoptr(MscClient) client = g_new0(MscClient, 1);
    g_autoptr(GByteArray) payload = g_byte_array_new();
    uint8_t uuid[MSC_CONTEXT_UUID_LEN];
    MscOpenedMessage opened;
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    client->refs = 1;
    client->fd = -1;
    g_queue_init(&client->frozen);
    g_mutex_init(&client->call_lock);
    g_mutex_init(&client->fd_lock);
    client->handshake_fds = g_array_new(FALSE, FALSE, sizeof(int));
    client->socket_path = g_strdup(socket_path);
    client->timeout_ms = timeout_ms ? timeout_ms : OPEN_TIMEOUT_MS;
    client->open.role = role;
    client->open.transport_only = transport_only;
    if (!msc_uuid_parse(vm_uuid, uuid, errp)) {
        return NULL;
    }
    msc_uuid_format(uuid, client->open.vm);
    client->fd =
        msc_unix_connect(socket_path, msc_deadline(client->timeout_ms), errp);
    if (client->fd < 0) {
        return NULL;
    }
    msc_open_encode(&client->open, payload);
    if (!call(client, MSC_MSG_OPEN, payload, &reply, errp) ||
        !msc_opened_decode(reply.payload->data, reply.payload->len, &opened,
                           errp)) {
        return NULL;
    }
    memcpy(client->token, opened.token, sizeof(opened.token));
    msc_wipe(&opened.token, sizeof(opened.token));
    if (!timeout_ms) {
        client->timeout_ms = opened.timeout_ms;
    }
    return g_steal_pointer(&client);
}

MscClient *msc_client_open(const char *socket_path, MscRole role,
                           const char *vm_uuid, unsigned timeout_ms,
                           GError **errp)
{
    return client_open(socket_path, role, false, vm_uuid, timeout_ms, errp);
}

MscClient *msc_client_open_transport(const char *socket_path, MscRole role,
                                     const char *vm_uuid, unsigned timeout_ms,
                                     GError **errp)
{
    return client_open(socket_path, role, true, vm_uuid, timeout_ms, errp);
}

void msc_client_cancel(MscClient *client)
{
    g_mutex_lock(&client->fd_lock);
    client->cancelled = true;
    if (client->fd >= 0) {
        shutdown(client->fd, SHUT_RDWR);
    }
    for (guint i = 0; i < client->handshake_fds->len; i++) {
        shutdown(g_array_index(client->handshake_fds, int, i), SHUT_RDWR);
    }
    g_mutex_unlock(&client->fd_lock);
}

MscClient *msc_client_ref(MscClient *client)
{
    g_atomic_int_inc(&client->refs);
    return client;
}

void msc_client_unref(MscClient *client)
{
    if (!client || !g_atomic_int_dec_and_test(&client->refs)) {
        return;
    }
    if (client->fd >= 0) {
        close(client->fd);
    }
    msc_wipe(client->token, sizeof(client->token));
    g_array_unref(client->handshake_fds);
    g_queue_clear_full(&client->frozen, (GDestroyNotify)g_bytes_unref);
    g_mutex_clear(&client->call_lock);
    g_mutex_clear(&client->fd_lock);
    g_free(client->socket_path);
    g_free(client->why_lost);
    g_free(client);
}

bool msc_client_offer_precopy(MscClient *client, GError **errp)
{
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    return call(client, MSC_MSG_PRECOPY, NULL, &reply, errp);
}

int msc_client_batch(MscClient *client, GBytes **chunk,
                     MscPrecopyStatus *status, GError **errp)
{
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    if (!call(client, MSC_MSG_BATCH, NULL, &reply, errp) ||
        !msc_precopy_decode(reply.payload->data, reply.payload->len, status,
                            chunk, errp)) {
        return -1;
    }
    return *chunk != NULL;
}

bool msc_client_freeze(MscClient *client, MscContextStats *stats, GError **errp)
{
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    return call(client, MSC_MSG_FREEZE, NULL, &reply, errp) &&
           msc_frozen_decode(reply.payload->data, reply.payload->len, stats,
                             &client->frozen, &client->more_to_collect, errp);
}

int msc_client_collect(MscClient *client, GBytes **chunk, GError **errp)
{
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    *chunk = g_queue_pop_head(&client->frozen);
    if (*chunk) {
        return 1;
    }
    if (!client->more_to_collect) {
        return 0;
    }
    if (!call(client, MSC_MSG_COLLECT, NULL, &reply, errp)) {
        return -1;
    }
    if (reply.payload->len > MSC_CHUNK_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "%s gave a chunk of %u bytes, more than %u", MSC_HELPER_WHO,
                    reply.payload->len, MSC_CHUNK_MAX);
        return -1;
    }
    if (!reply.payload->len) {
        client->more_to_collect = false;
        return 0;
    }
    *chunk = g_bytes_new(reply.payload->data, reply.payload->len);
    return 1;
}

static bool stage(MscClient *client, const void *chunk, size_t len,
                  MscFrame *reply, GError **errp)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    if (!len || len > MSC_CHUNK_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "context chunk of %zu bytes, must be 1 to %u", len,
                    MSC_CHUNK_MAX);
        return false;
    }
    msc_put_bytes(payload, chunk, len);
    return call(client, MSC_MSG_STAGE, payload, reply, errp);
}

bool msc_client_stage(MscClient *client, const void *chunk, size_t len,
                      GError **errp)
{
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    return stage(client, chunk, len, &reply, errp);
}

bool msc_client_stage_batch(MscClient *client, const void *chunk, size_t len,
                            uint64_t *flows, GError **errp)
{
    g_auto(MscFrame) reply;
    MscReader r;

    msc_frame_init(&reply);
    if (!stage(client, chunk, len, &reply, errp)) {
        return false;
    }
    msc_reader_init(&r, reply.payload->data, reply.payload->len);
    return msc_reader_u64(&r, flows)
               ? msc_reader_end(&r, errp, "reply to STAGE")
               : msc_reader_error(&r, errp, "reply to STAGE", "cut short");
}

bool msc_client_validate(MscClient *client, MscContextStats *stats,
                         GError **errp)
{
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    return call(client, MSC_MSG_VALIDATE, NULL, &reply, errp) &&
           msc_stats_decode(reply.payload->data, reply.payload->len, stats,
                            errp);
}

/* The reply is a proof for QEMU to carry. */
static bool take_proof(const MscFrame *reply, GBytes **proof, GError **errp)
{
    if (!reply->payload->len || reply->payload->len > MSC_PROOF_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "%s gave a proof of %u bytes", MSC_HELPER_WHO,
                    reply->payload->len);
        return false;
    }
    *proof = g_bytes_new(reply->payload->data, reply->payload->len);
    return true;
}

bool msc_client_ready(MscClient *client, GBytes **ready, GError **errp)
{
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    return call(client, MSC_MSG_READY, NULL, &reply, errp) &&
           take_proof(&reply, ready, errp);
}

MscReleaseResult msc_client_release(MscClient *client, const void *ready,
                                    size_t len, GBytes **release, GError **errp)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    msc_put_bytes(payload, ready, MIN(len, MSC_PROOF_MAX));
    if (call_journalled(client, MSC_MSG_RELEASE, payload, &reply, &err) &&
        take_proof(&reply, release, &err)) {
        return MSC_RELEASE_SENT;
    }
    g_propagate_error(errp, g_steal_pointer(&err));
    /* Only the helper's own word says that nothing was released. */
    return reply.type == MSC_MSG_ERROR ? MSC_RELEASE_REFUSED
                                       : MSC_RELEASE_UNKNOWN;
}

bool msc_client_commit(MscClient *client, const void *release, size_t len,
                       GBytes **done, GError **errp)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    msc_put_bytes(payload, release, MIN(len, MSC_PROOF_MAX));
    return call_journalled(client, MSC_MSG_COMMIT, payload, &reply, errp) &&
           take_proof(&reply, done, errp);
}

bool msc_client_finish(MscClient *client, const void *done, size_t len,
                       GError **errp)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    msc_put_bytes(payload, done, MIN(len, MSC_PROOF_MAX));
    return call_journalled(client, MSC_MSG_FINISH, payload, &reply, errp);
}

static bool call_with_reason(MscClient *client, uint16_t type,
                             const char *reason, GError **errp)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_auto(MscFrame) reply;

    msc_frame_init(&reply);
    msc_text_encode(reason, payload);
    return call(client, type, payload, &reply, errp);
}

bool msc_client_thaw(MscClient *client, const char *reason, GError **errp)
{
    return call_with_reason(client, MSC_MSG_THAW, reason, errp);
}

bool msc_client_abort(MscClient *client, const char *reason, GError **errp)
{
    return call_with_reason(client, MSC_MSG_ABORT, reason, errp);
}

bool msc_verdict(const char *socket_path, MscRole role, const char *vm_uuid,
                 const char *migration_id, unsigned timeout_ms,
                 MscVerdict *verdict, GError **errp)
{
    g_autoptr(GByteArray) payload = NULL;
    uint8_t id[MSC_CONTEXT_UUID_LEN], vm[MSC_CONTEXT_UUID_LEN];
    g_auto(MscFrame) reply;
    bool ok;
    int fd;

    msc_frame_init(&reply);
    if (!msc_uuid_parse(vm_uuid, vm, errp) ||
        !msc_uuid_parse(migration_id, id, errp)) {
        return false;
    }
    fd = msc_unix_connect(socket_path, msc_deadline(timeout_ms), errp);
    if (fd < 0) {
        return false;
    }
    payload = attach_payload(role, vm_uuid, id);
    ok = msc_client_exchange(fd, MSC_MSG_VERDICT, payload, -1, timeout_ms,
                             &reply, errp) &&
         msc_verdict_decode(reply.payload->data, reply.payload->len, verdict,
                            errp);
    close(fd);
    return ok;
}
