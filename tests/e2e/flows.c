/*
 * Long-lived flows between a guest and its peer.
 *
 *   flows guest COUNT     opens its share, answers, prints only trouble
 *   flows peer COUNT      the other end; commands on stdin, JSON on stdout:
 *     open                {"total": N, "open": N}
 *     verify SECONDS      every flow must carry a new request and its answer
 *                         in both directions; says which did not, and why
 *
 * Both ends ask and answer on every flow, every INTERVAL. A message's bytes
 * follow from flow, type and number, so a changed, lost or repeated byte of
 * a TCP stream is found. UDP may lose and repeat a message, but must keep
 * the address it comes from. A ping is asked by the guest and answered by the
 * peer's kernel; the guest's next number says that the answer came, and the
 * identifier, which the host translates, must stay. No flow is ever opened a
 * second time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4() */
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/icmp.h>
#include <netinet/ip.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x6d736366u /* "mscf" */
#define INTERVAL 1500     /* ms between two requests of a flow */
#define MAX_FLOWS 4096
#define MARKER "migration-sc guest RAM marker, never to be seen outside. "
#define MARKER_SIZE (8 << 20)

enum { OUT, SNAT, IN, DNAT, UDP, OUT6, IN6, PING, KINDS };

/* The guest opens what leaves it, the peer what enters. */
static const struct {
    const char *name;
    const char *address; /* where the opener connects to */
    uint16_t port, listen;
    bool guest_opens;
} kinds[KINDS] = {
    [OUT] = { "tcp-out", "203.0.113.5", 7001, 7001, true },
    [SNAT] = { "tcp-snat", "203.0.113.5", 7002, 7002, true },
    [IN] = { "tcp-in", "10.20.0.10", 7000, 7000, false },
    [DNAT] = { "tcp-dnat", "203.0.113.10", 8000, 7004, false },
    [UDP] = { "udp-snat", "203.0.113.5", 7003, 7003, true },
    [OUT6] = { "tcp6-out", "fd00:203::5", 7005, 7005, true },
    [IN6] = { "tcp6-in", "fd00:20::10", 7006, 7006, false },
    [PING] = { "ping-snat", "203.0.113.5", 0, 0, true },
};

enum { GUEST_ASKS, PEER_ANSWERS, PEER_ASKS, GUEST_ANSWERS };

typedef struct {
    uint32_t magic, flow, type, seq;
    uint32_t body[28];
} Message;

typedef struct {
    int fd; /* -1: not open */
    bool connecting;
    uint32_t asked, answered; /* our requests, and those answered */
    uint32_t seen;            /* the other end's last request */
    uint32_t mark_asked, mark_seen;
    int64_t next;
    struct sockaddr_storage from;
    size_t have, pending; /* bytes of in, bytes of out left to send */
    Message in;
    uint8_t out[8 * sizeof(Message)];
    char why[96]; /* dead: the reason */
} Flow;

typedef struct { /* accepted, its flow not known yet */
    int fd;
    size_t have;
    Message in;
} Stranger;

static Flow flows[MAX_FLOWS];
static Stranger strangers[MAX_FLOWS];
static int n_flows, n_strangers;
static int listeners[KINDS];
static bool guest;

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void fill(Message *m, uint32_t flow, uint32_t type, uint32_t seq)
{
    uint32_t x = (flow + 1) * 2654435761u ^ (type + 1) * 40503u ^ seq;

    *m = (Message){ MAGIC, flow, type, seq, { 0 } };
    for (size_t i = 0; i < sizeof(m->body) / sizeof(m->body[0]); i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        m->body[i] = x;
    }
}

static bool intact(const Message *m)
{
    Message want;

    if (m->magic != MAGIC || m->flow >= (uint32_t)n_flows ||
        m->type > GUEST_ANSWERS) {
        return false;
    }
    fill(&want, m->flow, m->type, m->seq);
    return !memcmp(m, &want, sizeof(want));
}

/* The peer's UDP socket, and the raw ones, serve all flows of their kind. */
static bool shared(int fd)
{
    return fd == listeners[UDP] || fd == listeners[PING];
}

__attribute__((format(printf, 2, 3))) static void dead(Flow *f,
                                                       const char *format, ...)
{
    va_list ap;

    if (f->why[0]) {
        return;
    }
    va_start(ap, format);
    vsnprintf(f->why, sizeof(f->why), format, ap);
    va_end(ap);
    if (f->fd >= 0 && !shared(f->fd)) {
        close(f->fd);
    }
    f->fd = -1;
    if (guest) {
        printf("flow %d (%s): %s\n", (int)(f - flows),
               kinds[(f - flows) % KINDS].name, f->why);
    }
}

static int kind_of(const Flow *f)
{
    return (f - flows) % KINDS;
}

static void flush_out(Flow *f)
{
    while (f->pending && f->fd >= 0 && !f->connecting) {
        ssize_t n = send(f->fd, f->out, f->pending, MSG_NOSIGNAL);

        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                dead(f, "send: %s", strerror(errno));
            }
            return;
        }
        f->pending -= n;
        memmove(f->out, f->out + n, f->pending);
    }
}

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

static void ping(Flow *f, const Message *m)
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

static void put(Flow *f, uint32_t type, uint32_t seq)
{
    Message m;

    fill(&m, f - flows, type, seq);
    if (kind_of(f) == PING) {
        ping(f, &m);
        return;
    }
    if (kind_of(f) == UDP) {
        if (guest) {
            send(f->fd, &m, sizeof(m), MSG_NOSIGNAL);
        } else {
            sendto(f->fd, &m, sizeof(m), MSG_NOSIGNAL,
                   (struct sockaddr *)&f->from, sizeof(struct sockaddr_in));
        }
        return;
    }
    if (f->pending + sizeof(m) > sizeof(f->out)) {
        dead(f, "the other end does not read");
        return;
    }
    memcpy(f->out + f->pending, &m, sizeof(m));
    f->pending += sizeof(m);
    flush_out(f);
}

static void take(Flow *f, const Message *m)
{
    const uint32_t ask = guest ? PEER_ASKS : GUEST_ASKS;
    const uint32_t answer = guest ? PEER_ANSWERS : GUEST_ANSWERS;
    bool tcp = kind_of(f) != UDP;

    if (m->type == ask) {
        if (tcp && m->seq != f->seen + 1) {
            dead(f, "request %u after %u: data lost or repeated", m->seq,
                 f->seen);
            return;
        }
        if (m->seq > f->seen) {
            f->seen = m->seq;
        }
        put(f, guest ? GUEST_ANSWERS : PEER_ANSWERS, m->seq);
    } else if (m->type == answer) {
        if (tcp && (m->seq != f->answered + 1 || m->seq > f->asked)) {
            dead(f, "answer %u after %u: data lost or repeated", m->seq,
                 f->answered);
            return;
        }
        if (m->seq <= f->asked && m->seq > f->answered) {
            f->answered = m->seq;
        }
    } else {
        dead(f, "own message came back");
    }
}

/* Reads one message as it comes; 1 when whole, 0 for later, -1 at the end. */
static int gather(int fd, Message *in, size_t *have)
{
    ssize_t n = recv(fd, (uint8_t *)in + *have, sizeof(*in) - *have, 0);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    if (n == 0) {
        errno = 0;
        return -1;
    }
    *have += n;
    if (*have < sizeof(*in)) {
        return 0;
    }
    *have = 0;
    return 1;
}

static void readable(Flow *f)
{
    int r;

    while (f->fd >= 0 && (r = gather(f->fd, &f->in, &f->have)) != 0) {
        if (r < 0 && kind_of(f) == UDP) {
            return; /* an ICMP error; the next try may do */
        } else if (r < 0) {
            dead(f, "receive: %s", errno ? strerror(errno) : "closed");
        } else if (!intact(&f->in) || &flows[f->in.flow] != f) {
            dead(f, "changed data");
        } else {
            take(f, &f->in);
        }
    }
}

static void udp_readable(int fd)
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

static void ping_readable(int fd)
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

static void stranger_readable(Stranger *s)
{
    int r = gather(s->fd, &s->in, &s->have);
    Flow *f;

    if (r == 0) {
        return;
    }
    f = r > 0 && intact(&s->in) ? &flows[s->in.flow] : NULL;
    if (!f || f->fd >= 0 || f->why[0]) {
        close(s->fd);
    } else {
        f->fd = s->fd;
        take(f, &s->in);
    }
    s->fd = -1;
}

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

static void open_flow(Flow *f)
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

static void connected(Flow *f)
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

static void serve(int kind)
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
static void serve_pings(void)
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

/* One round of requests; a flow that never got through is tried again. */
static void tick(int64_t t)
{
    for (int i = 0; i < n_flows; i++) {
        Flow *f = &flows[i];

        if (f->why[0] || f->next > t) {
            continue;
        }
        f->next = t + INTERVAL;
        if (f->fd < 0 && kinds[i % KINDS].guest_opens == guest) {
            open_flow(f);
        }
        if (f->fd < 0 || f->connecting || (i % KINDS == PING && !guest)) {
            continue;
        }
        if (f->asked == f->answered) {
            f->asked++;
        } else if (i % KINDS != UDP && i % KINDS != PING) {
            continue;
        }
        put(f, guest ? GUEST_ASKS : PEER_ASKS, f->asked);
    }
}

static bool good(const Flow *f)
{
    return !f->why[0] && f->seen >= f->mark_seen + 2 &&
           (kind_of(f) == PING || f->answered > f->mark_asked);
}

static bool is_open(const Flow *f)
{
    return !f->why[0] &&
           (kind_of(f) == PING ? f->seen > 1 : f->answered && f->seen);
}

static void report(bool verified)
{
    int alive = 0, shown = 0;

    for (int i = 0; i < n_flows; i++) {
        alive += verified ? good(&flows[i]) : is_open(&flows[i]);
    }
    printf("{\"total\": %d, \"%s\": %d, \"kinds\": {", n_flows,
           verified ? "alive" : "open", alive);
    for (int k = 0; k < KINDS; k++) {
        int total = 0, up = 0;

        for (int i = k; i < n_flows; i += KINDS) {
            total++;
            up += verified ? good(&flows[i]) : is_open(&flows[i]);
        }
        printf("%s\"%s\": [%d, %d]", k ? ", " : "", kinds[k].name, up, total);
    }
    printf("}, \"dead\": [");
    for (int i = 0; verified && i < n_flows; i++) {
        const Flow *f = &flows[i];

        if (!good(f)) {
            printf("%s{\"flow\": %d, \"kind\": \"%s\", \"why\": \"%s\"}",
                   shown++ ? ", " : "", i, kinds[i % KINDS].name,
                   f->why[0] ? f->why
                   : f->answered <= f->mark_asked && kind_of(f) != PING
                       ? "no answer came"
                       : "the guest's requests stopped");
        }
    }
    printf("]}\n");
}

static bool all_good(void)
{
    for (int i = 0; i < n_flows; i++) {
        if (!good(&flows[i])) {
            return false;
        }
    }
    return true;
}

/* Returns the deadline of a verification, 0 for none. */
static int64_t command(void)
{
    char line[64];
    ssize_t n = read(0, line, sizeof(line) - 1);

    if (n <= 0) {
        exit(0);
    }
    line[n] = 0;
    if (!strncmp(line, "verify ", 7)) {
        for (int i = 0; i < n_flows; i++) {
            flows[i].mark_asked = flows[i].asked;
            flows[i].mark_seen = flows[i].seen;
        }
        return now() + atoi(line + 7) * 1000LL;
    }
    report(false);
    return 0;
}

static void loop(void)
{
    static struct pollfd p[2 * MAX_FLOWS + KINDS + 1];
    static int owner[2 * MAX_FLOWS + KINDS + 1];
    int64_t deadline = 0;

    for (;;) {
        int n = 0;
        int64_t t = now();

        tick(t);
        if (deadline && (all_good() || t >= deadline)) {
            report(true);
            deadline = 0;
        }
        if (!guest) {
            owner[n] = -1;
            p[n++] = (struct pollfd){ 0, POLLIN, 0 };
        }
        for (int k = 0; k < KINDS; k++) {
            if (listeners[k] >= 0) {
                owner[n] = -2 - k;
                p[n++] = (struct pollfd){ listeners[k], POLLIN, 0 };
            }
        }
        for (int i = 0; i < n_flows; i++) {
            Flow *f = &flows[i];

            if (f->fd >= 0 && !shared(f->fd)) {
                owner[n] = i;
                p[n++] = (struct pollfd){
                    f->fd, POLLIN | (f->connecting || f->pending ? POLLOUT : 0),
                    0
                };
            }
        }
        for (int i = 0; i < n_strangers; i++) {
            if (strangers[i].fd < 0) {
                strangers[i--] = strangers[--n_strangers];
                continue;
            }
            owner[n] = MAX_FLOWS + i;
            p[n++] = (struct pollfd){ strangers[i].fd, POLLIN, 0 };
        }
        poll(p, n, 50);
        for (int i = 0; i < n; i++) {
            int o = owner[i];

            if (!p[i].revents) {
                continue;
            }
            if (o == -1) {
                deadline = command();
            } else if (o == -2 - UDP) {
                udp_readable(p[i].fd);
            } else if (o == -2 - PING) {
                ping_readable(p[i].fd);
            } else if (o < 0) {
                int fd = accept4(p[i].fd, NULL, NULL, SOCK_NONBLOCK);

                if (fd >= 0 && n_strangers < MAX_FLOWS) {
                    strangers[n_strangers++] = (Stranger){ .fd = fd };
                }
            } else if (o >= MAX_FLOWS) {
                stranger_readable(&strangers[o - MAX_FLOWS]);
            } else if (flows[o].connecting) {
                connected(&flows[o]);
            } else {
                readable(&flows[o]);
                flush_out(&flows[o]);
            }
        }
    }
}

/* Kept for the run, so that a capture of the guest's RAM shows it. */
static char *keep_marker(void)
{
    char *page = malloc(MARKER_SIZE + sizeof(MARKER));

    for (size_t at = 0; page && at < MARKER_SIZE; at += sizeof(MARKER) - 1) {
        memcpy(page + at, MARKER, sizeof(MARKER));
    }
    return page;
}

int main(int argc, char **argv)
{
    char *volatile marker = NULL;
    int64_t t = now();

    if (argc != 3 || (strcmp(argv[1], "guest") && strcmp(argv[1], "peer")) ||
        (n_flows = atoi(argv[2])) < 1 || n_flows > MAX_FLOWS) {
        fprintf(stderr, "Usage: flows guest|peer COUNT\n");
        return 2;
    }
    guest = !strcmp(argv[1], "guest");
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (guest) {
        marker = keep_marker();
    }
    for (int k = 0; k < KINDS; k++) {
        listeners[k] = -1;
        if (k == PING) {
            serve_pings();
        } else if (kinds[k].guest_opens != guest) {
            serve(k);
        }
    }
    for (int i = 0; i < n_flows; i++) {
        flows[i].fd = -1;
        flows[i].next = t + (int64_t)i * INTERVAL / n_flows;
    }
    if (guest) {
        printf("guest: talking through %d flows\n", n_flows);
    }
    loop();
    return marker == NULL;
}
