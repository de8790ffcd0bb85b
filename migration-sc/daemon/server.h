/*
 * The helper's socket, as QEMU sees it: one thread a connection.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_DAEMON_SERVER_H
#define MSC_DAEMON_SERVER_H

#include "transfer.h"

/* Listens on a new Unix socket; an old one of that name is replaced. */
int msc_server_listen(const char *path, mode_t mode, GError **errp);

/* Listens on TCP @port of all addresses, for other hosts' helpers. */
int msc_server_listen_tcp(unsigned port, GError **errp);

/* Serves another host's helper on @fd, and closes it. */
void msc_server_peer(MscHub *hub, int fd);

/* Serves QEMU's connection @fd, and closes it. */
void msc_server_qemu(MscHub *hub, int fd);

/* Serves one request of the command line on @fd, and closes it. */
void msc_server_control(MscHub *hub, int fd);

typedef void MscServe(MscHub *hub, int fd);

/* Accepts for ever in a thread of its own; each connection gets one too. */
void msc_server_start(MscHub *hub, int listener, MscServe *serve);

#endif
