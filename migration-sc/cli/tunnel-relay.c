/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "tunnel-relay.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <sys/socket.h>

#include "error.h"
#include "tunnel-socket.h"

#define LOCAL "the local end"
#define NET "the other host"

static bool wait_for(MscRelay *r, int fd, short events, GError **errp)
{
    if (msc_tunnel_wait(fd, events, -1, r->stop) == MSC_TUNNEL_STOPPED) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CANCELLED, "broken off");
        return false;
    }
    return true;
}

static bool failed(GError **errp, const char *who)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "%s: %s", who,
                g_strerror(errno));
    return false;
}

/* Returns what came, 0 at end of file, -1; waits for at least one byte. */
static ssize_t receive(MscRelay *r, int fd, const char *who, void *data,
                       size_t len, GError **errp)
{
    for (;;) {
        ssize_t n = recv(fd, data, len, MSG_DONTWAIT);

        if (n >= 0) {
            return n;
        }
        if (errno != EAGAIN && errno != EINTR) {
            failed(errp, who);
            return -1;
        }
        if (!wait_for(r, fd, POLLIN, errp)) {
            return -1;
        }
    }
}

static bool transmit(MscRelay *r, int fd, const char *who, const uint8_t *data,
                     size_t len, GError **errp)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            return failed(errp, who);
        } else if (!wait_for(r, fd, POLLOUT, errp)) {
            return false;
        }
    }
    return true;
}

static bool flush(MscRelay *r, GError **errp)
{
    MscSealer *sealer = r->channel->sealer;
    const uint8_t *data;
    size_t len;

    while (data = msc_sealer_pending(sealer, &len), len) {
        if (!transmit(r, r->net, NET, data, len, errp)) {
            return false;
        }
        msc_sealer_consume(sealer, len);
    }
    return true;
}

/* What is there, up to a record: large records are cheap ones. */
static ssize_t fill(MscRelay *r, uint8_t *buf, GError **errp)
{
    ssize_t n = receive(r, r->local, LOCAL, buf, MSC_RECORD_MAX_PAYLOAD, errp);
    size_t len = n > 0 ? (size_t)n : 0;

    while (n > 0 && len < MSC_RECORD_MAX_PAYLOAD) {
        n = recv(r->local, buf + len, MSC_RECORD_MAX_PAYLOAD - len,
                 MSG_DONTWAIT);
        /* The next call comes upon the end or the error again. */
        len += n > 0 ? (size_t)n : 0;
    }
    return len ? (ssize_t)len : n;
}

static bool pump_out(MscRelay *r, uint8_t *buf, GError **errp)
{
    MscSealer *sealer = r->channel->sealer;
    ssize_t n;

    while ((n = fill(r, buf, errp)) > 0) {
        size_t done = 0;

        while (done < (size_t)n) {
            struct iovec iov = { buf + done, (size_t)n - done };
            ssize_t taken = msc_sealer_seal(sealer, &iov, 1, errp);

            if (taken < 0 || !flush(r, errp)) {
                return false;
            }
            done += (size_t)taken;
        }
    }
    if (n < 0 || !msc_sealer_end(sealer, errp) || !flush(r, errp)) {
        return false;
    }
    return !shutdown(r->net, SHUT_WR) || failed(errp, NET);
}

/* One piece from the network; false is an error. */
static bool take_in(MscRelay *r, uint8_t *buf, GError **errp)
{
    struct iovec iov = { buf, MSC_RECORD_MAX_PAYLOAD };
    MscOpener *opener = r->channel->opener;
    size_t space, taken;
    uint8_t *to = msc_opener_space(opener, &space);
    ssize_t n = receive(r, r->net, NET, to, space, errp);

    if (n < 0) {
        return false;
    }
    if (!n) {
        return msc_opener_eof(opener, errp);
    }
    return msc_opener_fed_into(opener, (size_t)n, &iov, 1, &taken, errp) &&
           transmit(r, r->local, LOCAL, buf, taken, errp);
}

static bool pump_in(MscRelay *r, uint8_t *buf, GError **errp)
{
    struct iovec iov = { buf, MSC_RECORD_MAX_PAYLOAD };
    MscOpener *opener = r->channel->opener;

    for (;;) {
        switch (msc_opener_state(opener)) {
        case MSC_OPENER_MORE:
            if (!take_in(r, buf, errp)) {
                return false;
            }
            break;
        case MSC_OPENER_DATA:
            if (!transmit(r, r->local, LOCAL, buf,
                          msc_opener_read(opener, &iov, 1), errp) ||
                !msc_opener_check(opener, errp)) {
                return false;
            }
            break;
        case MSC_OPENER_END:
            /* Who hung up altogether has no need of the end. */
            return !shutdown(r->local, SHUT_WR) || errno == ENOTCONN ||
                   failed(errp, LOCAL);
        }
    }
}

/* What went through it may be guest memory. */
static void wipe_free(uint8_t *buf)
{
    sodium_memzero(buf, MSC_RECORD_MAX_PAYLOAD);
    g_free(buf);
}

bool msc_relay_out(MscRelay *r, GError **errp)
{
    uint8_t *buf = g_malloc(MSC_RECORD_MAX_PAYLOAD);
    bool ok = pump_out(r, buf, errp);

    wipe_free(buf);
    return ok;
}

bool msc_relay_in(MscRelay *r, GError **errp)
{
    uint8_t *buf = g_malloc(MSC_RECORD_MAX_PAYLOAD);
    bool ok = pump_in(r, buf, errp);

    wipe_free(buf);
    return ok;
}
