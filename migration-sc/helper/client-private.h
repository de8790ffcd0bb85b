/*
 * Inside of MscClient, shared by client.c (the session) and client-channel.c
 * (handshakes, each on a connection of its own).
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_HELPER_CLIENT_PRIVATE_H
#define MSC_HELPER_CLIENT_PRIVATE_H

#include "frame.h"
#include "helper-messages.h"

#define MSC_HELPER_WHO "the migration helper"

struct MscClient {
    gint refs;
    char *socket_path;
    MscOpenMessage open;
    unsigned timeout_ms;
    uint8_t token[MSC_TOKEN_LEN];
    uint8_t migration_id[MSC_ID_LEN]; /* once a handshake told it */
    bool have_migration_id;

    GMutex call_lock; /* one request at a time on fd; guards why_lost */
    char *why_lost;   /* the last connection, for who asks again */
    GQueue frozen;    /* of GBytes: chunks that came with FREEZE's reply */
    bool more_to_collect;
    GMutex fd_lock; /* guards what follows; never held in I/O */
    int fd;
    bool cancelled;
    GArray *handshake_fds; /* connections of running handshakes */
};

/* Sends a request and takes the reply; an ERROR becomes @errp. */
bool msc_client_exchange(int fd, uint16_t type, const GByteArray *payload,
                         int pass_fd, unsigned timeout_ms, MscFrame *reply,
                         GError **errp);

#endif
