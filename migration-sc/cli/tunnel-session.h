/*
 * One session of a tunnel: the channels of one migration, from the first
 * connection to the end of the last.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_CLI_TUNNEL_SESSION_H
#define MSC_CLI_TUNNEL_SESSION_H

#include <migration-sc/helper-client.h>

#include "tunnel-socket.h"

typedef struct {
    MscRole role;
    MscTunnelAddress listen, to;
    char *helper;    /* path of its socket */
    char *vm, *peer; /* peer: NULL for the policy's */
    unsigned timeout_ms;
    uint64_t rekey_bytes; /* 0 for the default */
} MscTunnelOptions;

typedef struct {
    char *peer, *suite, *kem; /* of the main channel */
    char migration_id[MSC_UUID_STR_LEN + 1];
    unsigned channels;
    uint64_t sent, received; /* payload bytes to and from the other host */
} MscTunnelReport;

void msc_tunnel_report_clear(MscTunnelReport *report);

/* Opens a session with the helper, which decides whether this may be. */
MscClient *msc_tunnel_client(const MscTunnelOptions *options, GError **errp);

/*
 * Serves @listener until all channels of one migration have ended.
 *
 * True: all ended as they should.  If one fails, all are broken off: a
 * migration that lost a channel must not go on as if nothing were.
 */
bool msc_tunnel_session(const MscTunnelOptions *options, int listener,
                        MscClient *client, MscTunnelReport *report,
                        GError **errp);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MscTunnelReport, msc_tunnel_report_clear)

#endif
