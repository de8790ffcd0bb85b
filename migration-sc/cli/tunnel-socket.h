/*
 * The sockets of a tunnel.  All are in non-blocking use (MSG_DONTWAIT), so
 * that every wait ends at its deadline or when the tunnel is broken off.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_CLI_TUNNEL_SOCKET_H
#define MSC_CLI_TUNNEL_SOCKET_H

#include <glib.h>
#include <stdbool.h>

/* "unix:PATH" or "HOST:PORT", "[ADDRESS]:PORT". */
typedef struct {
    char *text; /* as given */
    char *path; /* of a unix socket, else NULL */
    char *host, *port;
} MscTunnelAddress;

bool msc_tunnel_address_parse(const char *text, MscTunnelAddress *address,
                              GError **errp);
void msc_tunnel_address_clear(MscTunnelAddress *address);

/* A unix socket is for the calling user only (mode 0600). */
int msc_tunnel_listen(const MscTunnelAddress *address, GError **errp);
/* @stop: a descriptor that becomes readable to end the wait. */
int msc_tunnel_connect(const MscTunnelAddress *address, unsigned timeout_ms,
                       int stop, GError **errp);
/* For a socket to another host: small answers at once, and a host that is
 * silent for a minute and a half is gone. */
void msc_tunnel_tune(int fd);

typedef enum {
    MSC_TUNNEL_READY,
    MSC_TUNNEL_LATE,    /* the time is over */
    MSC_TUNNEL_STOPPED, /* @stop is readable */
} MscTunnelWait;

/* @events: POLLIN or POLLOUT.  @deadline < 0: no bound. */
MscTunnelWait msc_tunnel_wait(int fd, short events, gint64 deadline, int stop);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MscTunnelAddress, msc_tunnel_address_clear)

#endif
