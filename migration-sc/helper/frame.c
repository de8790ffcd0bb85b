/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "frame.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "error.h"
#include "helper-messages.h"
#include "secret.h"

gint64 msc_deadline(unsigned timeout_ms)
{
    return g_get_monotonic_time() + (gint64)timeout_ms * 1000;
}

/* 1: ready, 0: the deadline passed, -1: errno. */
static int wait_for(int fd, short events, gint64 deadline)
{
    for (;;) {
        struct pollfd p = { .fd = fd, .events = events };
        gint64 left = deadline - g_get_monotonic_time();
        int ms = deadline < 0 ? -1
                 : left <= 0  ? 0
                              : (int)MIN(left / 1000 + 1, G_MAXINT);
        int n = poll(&p, 1, ms);

        if (n > 0 || (n < 0 && errno != EINTR)) {
            return n;
        }
        if (n == 0 && (deadline >= 0 && g_get_monotonic_time() >= deadline)) {
            return 0;
        }
    }
}

static bool would_block(int err)
{
    return err == EAGAIN || err == EWOULDBLOCK || err == EINTR;
}

/* That the other end is gone is told in the same words whichever call meets
 * it: one that had not read everything is a reset, not an end of file. */
static bool is_gone(int err)
{
    return err == EPIPE || err == ECONNRESET;
}

static bool io_error(GError **errp, const char *who, const char *verb)
{
    if (is_gone(errno)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "%s hung up", who);
    } else {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "%s %s: %s", verb, who,
                    g_strerror(errno));
    }
    return false;
}

static bool timed_out(GError **errp, const char *who)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_TIMEOUT, "%s did not answer in time",
                who);
    return false;
}

/* All of @iov, which is used up; in one call if the socket takes it, so that
 * the other side wakes up once. */
static bool send_with_fd(int fd, struct iovec *iov, size_t count, int pass_fd,
                         gint64 deadline, const char *who, GError **errp)
{
    while (count) {
        union {
            struct cmsghdr align;
            char buf[CMSG_SPACE(sizeof(int))];
        } control = { 0 };
        struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count };
        ssize_t n;

        if (pass_fd >= 0) {
            msg.msg_control = control.buf;
            msg.msg_controllen = sizeof(control.buf);
            struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(c), &pass_fd, sizeof(int));
        }
        n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            size_t sent = (size_t)n;

            pass_fd = -1;
            while (count && sent >= iov->iov_len) {
                sent -= iov->iov_len;
                iov++;
                count--;
            }
            if (count) {
                iov->iov_base = (uint8_t *)iov->iov_base + sent;
                iov->iov_len -= sent;
            }
            continue;
        }
        if (n < 0 && !would_block(errno)) {
            return io_error(errp, who, "cannot send to");
        }
        switch (wait_for(fd, POLLOUT, deadline)) {
        case 0:
            return timed_out(errp, who);
        case -1:
            return io_error(errp, who, "cannot wait for");
        }
    }
    return true;
}

bool msc_socket_send(int fd, const void *data, size_t len, gint64 deadline,
                     const char *who, GError **errp)
{
    struct iovec iov = { .iov_base = (void *)data, .iov_len = len };

    return send_with_fd(fd, &iov, len ? 1 : 0, -1, deadline, who, errp);
}

/* Takes the descriptor out of @msg, closing any beyond the first. */
static void take_fds(struct msghdr *msg, int *fd)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t count;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int got;

            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (fd && *fd < 0) {
                *fd = got;
            } else {
                close(got);
            }
        }
    }
}

/* At least one byte of up to @len: how many; 0 if the other end is gone, -1. */
static ssize_t recv_some(int fd, void *data, size_t len, int *got_fd,
                         gint64 deadline, const char *who, GError **errp)
{
    for (;;) {
        union {
            struct cmsghdr align;
            char buf[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct iovec iov = { .iov_base = data, .iov_len = len };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.buf,
                              .msg_controllen = sizeof(control.buf) };
        ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n >= 0) {
            take_fds(&msg, got_fd);
            return n;
        }
        if (is_gone(errno)) {
            return 0;
        }
        if (!would_block(errno)) {
            io_error(errp, who, "cannot read from");
            return -1;
        }
        switch (wait_for(fd, POLLIN, deadline)) {
        case 0:
            timed_out(errp, who);
            return -1;
        case -1:
            io_error(errp, who, "cannot wait for");
            return -1;
        }
    }
}

bool msc_socket_recv(int fd, void *data, size_t len, gint64 deadline,
                     const char *who, GError **errp)
{
    uint8_t *p = data;

    while (len) {
        ssize_t n = recv_some(fd, p, len, NULL, deadline, who, errp);

        if (n == 0) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "%s hung up%s", who,
                        p == data ? "" : " in the middle of a message");
        }
        if (n <= 0) {
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

void msc_frame_init(MscFrame *frame)
{
    frame->type = 0;
    frame->fd = -1;
    frame->payload = g_byte_array_new();
}

void msc_frame_clear(MscFrame *frame)
{
    if (frame->payload) {
        msc_wipe(frame->payload->data, frame->payload->len);
        g_clear_pointer(&frame->payload, g_byte_array_unref);
    }
    if (frame->fd >= 0) {
        close(frame->fd);
        frame->fd = -1;
    }
}

bool msc_frame_send(int fd, uint16_t type, const GByteArray *payload,
                    int pass_fd, gint64 deadline, const char *who,
                    GError **errp)
{
    uint8_t header[MSC_HELPER_HEADER];
    uint32_t len = payload ? payload->len : 0;
    struct iovec iov[] = {
        { .iov_base = header, .iov_len = sizeof(header) },
        { .iov_base = len ? payload->data : NULL, .iov_len = len },
    };

    g_assert(len <= MSC_HELPER_PAYLOAD_MAX);
    msc_frame_header_encode(header, type, len);
    return send_with_fd(fd, iov, len ? 2 : 1, pass_fd, deadline, who, errp);
}

MscFrameResult msc_frame_recv(int fd, MscFrame *frame, gint64 deadline,
                              unsigned body_ms, const char *who, GError **errp)
{
    uint8_t header[MSC_HELPER_HEADER];
    uint32_t len;
    ssize_t n;

    msc_frame_clear(frame);
    msc_frame_init(frame);
    n = recv_some(fd, header, sizeof(header), &frame->fd, deadline, who, errp);
    if (n <= 0) {
        return n ? MSC_FRAME_FAILED : MSC_FRAME_CLOSED;
    }
    deadline = msc_deadline(body_ms);
    if (!msc_socket_recv(fd, header + n, sizeof(header) - (size_t)n, deadline,
                         who, errp) ||
        !msc_frame_header_decode(header, &frame->type, &len, errp)) {
        return MSC_FRAME_FAILED;
    }
    g_byte_array_set_size(frame->payload, len);
    if (len &&
        !msc_socket_recv(fd, frame->payload->data, len, deadline, who, errp)) {
        return MSC_FRAME_FAILED;
    }
    return MSC_FRAME_OK;
}

int msc_unix_connect(const char *path, gint64 deadline, GError **errp)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "socket path '%s' is longer than %zu bytes", path,
                    sizeof(addr.sun_path) - 1);
        return -1;
    }
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    while (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        int err = errno;

        /* EAGAIN: the backlog of a Unix socket is full; there is no event
         * to poll for (unix(7)). */
        if (err == EAGAIN && g_get_monotonic_time() < deadline) {
            g_usleep(5000);
            continue;
        }
        close(fd);
        fd = -1;
        errno = err;
    }
    if (fd < 0) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO,
                    "no migration helper at '%s': %s; is migration-scd "
                    "running?",
                    path, g_strerror(errno));
    }
    return fd;
}
