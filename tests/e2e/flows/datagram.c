/*
 * UDP and pings: each socket serves many flows.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "flows.h"

#include <linux/icmp.h>
#include <netinet/ip.h>
#include <string.h>

static uint16_t checksum(const void *data, size_t len)
{
    const uint16_t *p = data;
    uint32_t sum = 0;

    for (; len > 1; len -= 2) {
        sum += *p++;
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return ~sum;
}

static uint16_t ping_id(const Flow *f)
{
    return htons(f - flows + 1);
}

void ping(Flow *f, const Message *m)
{
    struct {
        struct icmphdr icmp;
        Message m;
    } packet = { .icmp = { .type = ICMP_ECHO }, .m = *m };

    packet.icmp.un.echo.id = ping_id(f);
    packet.icmp.un.echo.sequence = htons(m->seq);
    packet.icmp.checksum = checksum(&packet, sizeof(packet));
    sendto(f->fd, &packet, sizeof(packet), 0, (struct sockaddr *)&f->from,
           sizeof(struct sockaddr_in));
}

void udp_put(Flow *f, const Message *m)
{
    if (guest) {
        send(f->fd, m, sizeof(*m), MSG_NOSIGNAL);
    } else {
        sendto(f->fd, m, sizeof(*m), MSG_NOSIGNAL, (struct sockaddr *)&f->from,
               sizeof(struct sockaddr_in));
    }
}

void udp_readable(int fd)
{
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    Message m;
    Flow *f;

    while (recvfrom(fd, &m, sizeof(m), 0, (struct sockaddr *)&from, &len) ==
           sizeof(m)) {
        if (!intact(&m) || m.flow % KINDS != UDP) {
            continue;
        }
        f = &flows[m.flow];
        if (f->why[0]) {
            continue;
        }
        if (f->fd < 0) {
            f->fd = fd;
            memcpy(&f->from, &from, sizeof(from));
        } else if (((struct sockaddr_in *)&f->from)->sin_port !=
                       from.sin_port ||
                   ((struct sockaddr_in *)&f->from)->sin_addr.s_addr !=
                       from.sin_addr.s_addr) {
            dead(f, "comes from port %d now, was %d: translated anew",
                 ntohs(from.sin_port),
                 ntohs(((struct sockaddr_in *)&f->from)->sin_port));
            continue;
        }
        take(f, &m);
    }
}

static void pinged(Flow *f, const Message *m, uint32_t addr, uint16_t id)
{
    struct sockaddr_in *from = (struct sockaddr_in *)&f->from;

    if (f->why[0] || m->type != GUEST_ASKS) {
        return;
    }
    if (guest) {
        if (id == ping_id(f) && m->seq <= f->asked && m->seq > f->answered) {
            f->answered = m->seq;
        }
        return;
    }
    if (f->fd < 0) {
        f->fd = listeners[PING];
        from->sin_addr.s_addr = addr;
        from->sin_port = id;
    } else if (from->sin_addr.s_addr != addr || from->sin_port != id) {
        dead(f, "comes with identifier %d now, was %d: translated anew",
             ntohs(id), ntohs(from->sin_port));
        return;
    }
    if (m->seq > f->seen) {
        f->seen = m->seq;
    }
}

void ping_readable(int fd)
{
    struct {
        struct iphdr ip;
        struct icmphdr icmp;
        Message m;
    } packet;

    /* No IP options here; the kernel's filter leaves one ICMP type. */
    for (;;) {
        ssize_t n = recv(fd, &packet, sizeof(packet), 0);

        if (n < 0) {
            return;
        }
        if (n == sizeof(packet) && packet.ip.ihl == 5 && intact(&packet.m) &&
            packet.m.flow % KINDS == PING) {
            pinged(&flows[packet.m.flow], &packet.m, packet.ip.saddr,
                   packet.icmp.un.echo.id);
        }
    }
}
