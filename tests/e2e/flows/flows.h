/*
 * The parts of flows: main.c says what it is for.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_E2E_FLOWS_H
#define TESTS_E2E_FLOWS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4() */
#endif
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define MAX_FLOWS 4096

enum { OUT, SNAT, IN, DNAT, UDP, OUT6, IN6, PING, KINDS };

/* The guest opens what leaves it, the peer what enters. */
typedef struct {
    const char *name;
    const char *address; /* where the opener connects to */
    uint16_t port, listen;
    bool guest_opens;
} Kind;

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

extern const Kind kinds[KINDS];
/* Flow i is of kind i % KINDS. */
extern Flow flows[MAX_FLOWS];
extern int n_flows;
extern int listeners[KINDS]; /* or -1 */
extern bool guest;

/* flow.c: the conversation on a flow. */
int kind_of(const Flow *f);
bool intact(const Message *m);
/* Its descriptor serves all flows of its kind: the peer's UDP socket, and the
 * raw ones. */
bool shared(int fd);
__attribute__((format(printf, 2, 3))) void dead(Flow *f, const char *format,
                                                ...);
/* Says it; a TCP stream may keep some of it for later. */
void put(Flow *f, uint32_t type, uint32_t seq);
/* Takes what the other end said. */
void take(Flow *f, const Message *m);
/* Has carried data both ways; has done so since the mark. */
bool is_open(const Flow *f);
bool good(const Flow *f);

/* stream.c */
void stream_put(Flow *f, const Message *m);
void flush_out(Flow *f);
void readable(Flow *f);
/* Connections whose flow is not known yet: it is in their first message. */
void stranger_add(int listener);
/* Forgets those that are strangers no more; the others get new numbers. */
void stranger_pack(void);
/* Of stranger @i, from 0 on; -1 after the last one. */
int stranger_fd(int i);
void stranger_readable(int i);

/* datagram.c */
void udp_put(Flow *f, const Message *m);
void ping(Flow *f, const Message *m);
void udp_readable(int fd);
void ping_readable(int fd);

/* open.c */
void open_flow(Flow *f);
void connected(Flow *f);
/* Both end the program if they cannot. */
void serve(int kind);
void serve_pings(void);

/* report.c */
void report(bool verified);
bool all_good(void);

#endif
