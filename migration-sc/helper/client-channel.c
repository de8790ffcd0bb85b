/*
 * Handshakes: each on a connection of its own, so that channels need not
 * wait for each other and a stuck one does not block the session.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "client-private.h"

#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "channel-keys.h"
#include "context.h"
#include "error.h"
#include "secret.h"

void msc_channel_free(MscChannel *channel)
{
    if (!channel) {
        return;
    }
    g_free(channel->suite);
    g_free(channel->kem);
    g_free(channel->peer);
    msc_sealer_free(channel->sealer);
    msc_opener_free(channel->opener);
    g_free(channel);
}

/* From here on msc_client_cancel() reaches @fd. */
static bool handshake_begin(MscClient *client, int fd, GError **errp)
{
    bool cancelled;

    g_mutex_lock(&client->fd_lock);
    cancelled = client->cancelled;
    if (!cancelled) {
        g_array_append_val(client->handshake_fds, fd);
    }
    g_mutex_unlock(&client->fd_lock);
    if (cancelled) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CANCELLED,
                            "the migration was cancelled");
    }
    return !cancelled;
}

static void handshake_end(MscClient *client, int fd)
{
    g_mutex_lock(&client->fd_lock);
    for (guint i = 0; i < client->handshake_fds->len; i++) {
        if (g_array_index(client->handshake_fds, int, i) == fd) {
            g_array_remove_index_fast(client->handshake_fds, i);
            break;
        }
    }
    g_mutex_unlock(&client->fd_lock);
}

static MscChannel *channel_from_keys(const MscChannelKeys *keys, GError **errp)
{
    g_autoptr(MscChannel) channel = g_new0(MscChannel, 1);

    channel->sealer = msc_sealer_new(keys, errp);
    if (channel->sealer) {
        channel->opener = msc_opener_new(keys, errp);
    }
    if (!channel->opener) {
        return NULL;
    }
    channel->kind = (MscChannelKind)keys->kind;
    channel->number = keys->number;
    return g_steal_pointer(&channel);
}

static MscChannel *channel_new(MscClient *client, const MscKeysMessage *m,
                               GError **errp)
{
    MscChannelKeys *keys = msc_secret_new(sizeof(*keys), errp);
    g_autoptr(MscChannel) channel = NULL;

    if (!keys) {
        return NULL;
    }
    keys->suite = m->suite;
    keys->kind = m->kind;
    keys->number = m->number;
    keys->rekey_bytes = m->rekey_bytes;
    memcpy(keys->send, m->send, sizeof(keys->send));
    memcpy(keys->recv, m->recv, sizeof(keys->recv));
    channel = channel_from_keys(keys, errp);
    msc_secret_free(keys);
    if (!channel) {
        return NULL;
    }
    channel->suite = g_strdup(m->suite_name);
    channel->kem = g_strdup(m->kem);
    channel->peer = g_strdup(m->peer);
    channel->handshake_us = m->handshake_us;
    msc_uuid_format(m->migration_id, channel->migration_id);

    g_mutex_lock(&client->fd_lock);
    memcpy(client->migration_id, m->migration_id, MSC_ID_LEN);
    client->have_migration_id = true;
    g_mutex_unlock(&client->fd_lock);
    return g_steal_pointer(&channel);
}

MscChannel *msc_client_handshake(MscClient *client, int fd, MscChannelKind kind,
                                 uint32_t number, const char *expected_peer,
                                 uint64_t rekey_bytes, GError **errp)
{
    MscChannelMessage request = {
        .kind = (uint8_t)kind,
        .number = number,
        .rekey_bytes = rekey_bytes,
        .expected_peer = (char *)(expected_peer ? expected_peer : ""),
    };
    g_autoptr(GByteArray) payload = g_byte_array_new();
    MscChannel *channel = NULL;
    MscKeysMessage keys;
    g_auto(MscFrame) reply;
    int conn;

    msc_frame_init(&reply);
    if (strlen(request.expected_peer) > MSC_NAME_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "the peer's name is longer than %u bytes", MSC_NAME_MAX);
        return NULL;
    }
    conn = msc_unix_connect(client->socket_path,
                            msc_deadline(client->timeout_ms), errp);
    if (conn < 0) {
        return NULL;
    }
    if (handshake_begin(client, conn, errp)) {
        memcpy(request.token, client->token, sizeof(request.token));
        msc_channel_encode(&request, payload);
        msc_wipe(request.token, sizeof(request.token));
        if (msc_client_exchange(conn, MSC_MSG_CHANNEL, payload, fd,
                                client->timeout_ms, &reply, errp) &&
            msc_keys_decode(reply.payload->data, reply.payload->len, &keys,
                            errp)) {
            channel = channel_new(client, &keys, errp);
            msc_keys_message_clear(&keys);
        }
        msc_wipe(payload->data, payload->len);
        handshake_end(client, conn);
    }
    close(conn);
    return channel;
}

bool msc_channel_pair(uint64_t rekey_bytes, MscChannel *ends[2], GError **errp)
{
    const MscSuite *suite = msc_suites()[0];
    MscChannelKeys *keys = msc_secret_new(sizeof(*keys), errp);

    ends[0] = ends[1] = NULL;
    if (!keys) {
        return false;
    }
    keys->suite = suite->id;
    keys->kind = MSC_CHANNEL_MAIN;
    keys->rekey_bytes = rekey_bytes;
    randombytes_buf(keys->send, sizeof(keys->send));
    randombytes_buf(keys->recv, sizeof(keys->recv));
    for (int i = 0; i < 2; i++) {
        uint8_t swap[MSC_SUITE_KEY_MAX];

        ends[i] = channel_from_keys(keys, errp);
        if (!ends[i]) {
            break;
        }
        ends[i]->suite = g_strdup(suite->name);
        ends[i]->kem = g_strdup("");
        ends[i]->peer = g_strdup("");
        memcpy(swap, keys->send, sizeof(swap));
        memcpy(keys->send, keys->recv, sizeof(swap));
        memcpy(keys->recv, swap, sizeof(swap));
        msc_wipe(swap, sizeof(swap));
    }
    msc_secret_free(keys);
    if (!ends[1]) {
        g_clear_pointer(&ends[0], msc_channel_free);
    }
    return ends[1] != NULL;
}
