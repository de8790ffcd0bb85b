/*
 * TCP: messages come and go in pieces.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "flows.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

typedef struct { /* accepted, its flow not known yet */
    int fd;
    size_t have;
    Message in;
} Stranger;

static Stranger strangers[MAX_FLOWS];
static int n_strangers;

void flush_out(Flow *f)
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

void stream_put(Flow *f, const Message *m)
{
    if (f->pending + sizeof(*m) > sizeof(f->out)) {
        dead(f, "the other end does not read");
        return;
    }
    memcpy(f->out + f->pending, m, sizeof(*m));
    f->pending += sizeof(*m);
    flush_out(f);
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

void readable(Flow *f)
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

void stranger_add(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

    if (fd >= 0 && n_strangers < MAX_FLOWS) {
        strangers[n_strangers++] = (Stranger){ .fd = fd };
    } else if (fd >= 0) {
        close(fd);
    }
}

void stranger_pack(void)
{
    for (int i = 0; i < n_strangers; i++) {
        if (strangers[i].fd < 0) {
            strangers[i--] = strangers[--n_strangers];
        }
    }
}

int stranger_fd(int i)
{
    return i < n_strangers ? strangers[i].fd : -1;
}

void stranger_readable(int i)
{
    Stranger *s = &strangers[i];
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
