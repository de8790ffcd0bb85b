/*
 * The conversation on one flow: requests and answers, whose bytes follow from
 * flow, type and number.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "flows.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x6d736366u /* "mscf" */

int kind_of(const Flow *f)
{
    return (f - flows) % KINDS;
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

bool intact(const Message *m)
{
    Message want;

    if (m->magic != MAGIC || m->flow >= (uint32_t)n_flows ||
        m->type > GUEST_ANSWERS) {
        return false;
    }
    fill(&want, m->flow, m->type, m->seq);
    return !memcmp(m, &want, sizeof(want));
}

bool shared(int fd)
{
    return fd == listeners[UDP] || fd == listeners[PING];
}

void dead(Flow *f, const char *format, ...)
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

void put(Flow *f, uint32_t type, uint32_t seq)
{
    Message m;

    fill(&m, f - flows, type, seq);
    if (kind_of(f) == PING) {
        ping(f, &m);
    } else if (kind_of(f) == UDP) {
        udp_put(f, &m);
    } else {
        stream_put(f, &m);
    }
}

void take(Flow *f, const Message *m)
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

bool is_open(const Flow *f)
{
    return !f->why[0] &&
           (kind_of(f) == PING ? f->seen > 1 : f->answered && f->seen);
}

bool good(const Flow *f)
{
    return !f->why[0] && f->seen >= f->mark_seen + 2 &&
           (kind_of(f) == PING || f->answered > f->mark_asked);
}
