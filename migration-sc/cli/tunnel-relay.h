/*
 * One protected channel of a tunnel: bytes of a local socket in records on a
 * socket to the other host, both ways at once.
 *
 *     local --- msc_relay_out: seal --> net        a thread for each, which
 *     local <-- open: msc_relay_in ---- net        share nothing
 *
 * Memory is bounded: a buffer of one record each, and the record layer's own.
 * Who cannot write does not read, so back-pressure goes through; as no
 * direction waits for the other there is no deadlock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_CLI_TUNNEL_RELAY_H
#define MSC_CLI_TUNNEL_RELAY_H

#include <migration-sc/helper-client.h>

typedef struct {
    int local, net;
    int stop; /* readable: break off */
    MscChannel *channel;
} MscRelay;

/* Both end after an end of stream, which they pass on: end of file at local
 * becomes the authenticated end on net, and that a shutdown(SHUT_WR) of local.
 * Anything else is an error, and is not passed on as an end. */
bool msc_relay_out(MscRelay *relay, GError **errp);
bool msc_relay_in(MscRelay *relay, GError **errp);

#endif
