/*
 * Opening flows, and listening for those that the other end opens.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "flows.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const Kind kinds[KINDS] = {
    [OUT] = { "tcp-out", "203.0.113.5", 7001, 7001, true },
    [SNAT] = { "tcp-snat", "203.0.113.5", 7002, 7002, true },
    [IN] = { "tcp-in", "10.20.0.10", 7000, 7000, false },
    [DNAT] = { "tcp-dnat", "203.0.113.10", 8000, 7004, false },
    [UDP] = { "udp-snat", "203.0.113.5", 7003, 7003, true },
    [OUT6] = { "tcp6-out", "fd00:203::5", 7005, 7005, true },
    [IN6] = { "tcp6-in", "fd00:20::10", 7006, 7006, false },
    [PING] = { "ping-snat", "203.0.113.5", 0, 0, true },
};

static socklen_t resolve(struct sockaddr_storage *a, const char *text,
                         uint16_t port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)a;

    memset(a, 0, sizeof(*a));
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof(*v4);
    }
    inet_pton(AF_INET6, text, &v6->sin6_addr);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return sizeof(*v6);
}

void open_flow(Flow *f)
{
    int kind = kind_of(f);
    struct sockaddr_storage a;
    socklen_t len = resolve(&a, kinds[kind].address, kinds[kind].port);

    if (kind == PING) {
        f->fd = listeners[PING];
        f->from = a;
        return;
    }
    f->fd = socket(a.ss_family,
                   (kind == UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    f->connecting = kind != UDP;
    if (connect(f->fd, (struct sockaddr *)&a, len) && errno != EINPROGRESS) {
        close(f->fd); /* the route may not be there yet */
        f->fd = -1;
        f->connecting = false;
    }
}

void connected(Flow *f)
{
    int err = 0;
    socklen_t len = sizeof(err);

    getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    f->connecting = false;
    if (err) {
        close(f->fd);
        f->fd = -1;
    }
}

void serve(int kind)
{
    bool v6 = strchr(kinds[kind].address, ':');
    struct sockaddr_storage a;
    socklen_t len = resolve(&a, v6 ? "::" : "0.0.0.0", kinds[kind].listen);
    int fd =
        socket(a.ss_family,
               (kind == UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    int on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&a, len) ||
        (kind != UDP && listen(fd, 4096))) {
        perror(kinds[kind].name);
        exit(1);
    }
    listeners[kind] = fd;
}

/* Each end hears the other's pings only. */
void serve_pings(void)
{
    struct icmp_filter filter = { ~(1u
                                    << (guest ? ICMP_ECHOREPLY : ICMP_ECHO)) };
    int fd = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP);

    if (fd < 0 ||
        setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof(filter))) {
        perror(kinds[PING].name);
        exit(1);
    }
    listeners[PING] = fd;
}
