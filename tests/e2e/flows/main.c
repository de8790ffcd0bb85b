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
#include "flows.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL 1500 /* ms between two requests of a flow */
#define MARKER "migration-sc guest RAM marker, never to be seen outside. "
#define MARKER_SIZE (8 << 20)

Flow flows[MAX_FLOWS];
int n_flows;
int listeners[KINDS];
bool guest;

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
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
        stranger_pack();
        for (int i = 0; stranger_fd(i) >= 0; i++) {
            owner[n] = MAX_FLOWS + i;
            p[n++] = (struct pollfd){ stranger_fd(i), POLLIN, 0 };
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
                stranger_add(p[i].fd);
            } else if (o >= MAX_FLOWS) {
                stranger_readable(o - MAX_FLOWS);
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
