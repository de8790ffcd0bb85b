/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "tunnel-socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "commands.h"
#include "error.h"

#define UNIX_PREFIX "unix:"
/* More channels than QEMU can open at once. */
#define BACKLOG 256

void msc_tunnel_address_clear(MscTunnelAddress *address)
{
    g_free(address->text);
    g_free(address->path);
    g_free(address->host);
    g_free(address->port);
    memset(address, 0, sizeof(*address));
}

bool msc_tunnel_address_parse(const char *text, MscTunnelAddress *address,
                              GError **errp)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    struct sockaddr_un un;

    memset(address, 0, sizeof(*address));
    if (g_str_has_prefix(text, UNIX_PREFIX)) {
        const char *path = text + strlen(UNIX_PREFIX);

        if (*path != '/' || strlen(path) >= sizeof(un.sun_path)) {
            g_set_error(errp, MSC_USAGE_ERROR, 0,
                        "'%s': the path must begin with / and have less than "
                        "%zu bytes",
                        text, sizeof(un.sun_path));
            return false;
        }
        address->path = g_strdup(path);
    } else {
        bool brackets = len > 2 && *text == '[' && text[len - 1] == ']';
        guint64 port;

        if (!len ||
            !g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &port, NULL) ||
            (!brackets && memchr(text, ':', len))) {
            g_set_error(errp, MSC_USAGE_ERROR, 0,
                        "'%s' is neither unix:PATH nor HOST:PORT nor "
                        "[ADDRESS]:PORT",
                        text);
            return false;
        }
        address->host = g_strndup(text + brackets, len - 2u * brackets);
        address->port = g_strdup(colon + 1);
    }
    address->text = g_strdup(text);
    return true;
}

static bool io_error(GError **errp, const char *what,
                     const MscTunnelAddress *address, int error)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot %s %s: %s", what,
                address->text, g_strerror(error));
    return false;
}

static void unix_address(const MscTunnelAddress *address,
                         struct sockaddr_un *un)
{
    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, address->path);
}

/* A socket file that nobody listens at is what a killed tunnel left. */
static void remove_stale(const struct sockaddr_un *un)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)un, sizeof(*un)) &&
        errno == ECONNREFUSED) {
        unlink(un->sun_path);
    }
    if (fd >= 0) {
        close(fd);
    }
}

static int listen_unix(const MscTunnelAddress *address, GError **errp)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un un;
    mode_t mask;
    bool ok;

    unix_address(address, &un);
    remove_stale(&un);
    mask = umask(0177);
    ok = fd >= 0 && !bind(fd, (struct sockaddr *)&un, sizeof(un));
    umask(mask);
    if (!ok || listen(fd, BACKLOG)) {
        io_error(errp, "listen on", address, errno);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static struct addrinfo *resolve(const MscTunnelAddress *address, int flags,
                                GError **errp)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags };
    struct addrinfo *list = NULL;
    int status = getaddrinfo(address->host, address->port, &hints, &list);

    if (status) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "'%s': %s", address->text,
                    gai_strerror(status));
        return NULL;
    }
    return list;
}

int msc_tunnel_listen(const MscTunnelAddress *address, GError **errp)
{
    struct addrinfo *list;
    int on = 1;
    int fd;

    if (address->path) {
        return listen_unix(address, errp);
    }
    list = resolve(address, AI_PASSIVE, errp);
    if (!list) {
        return -1;
    }
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
        bind(fd, list->ai_addr, list->ai_addrlen) || listen(fd, BACKLOG)) {
        io_error(errp, "listen on", address, errno);
        if (fd >= 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

MscTunnelWait msc_tunnel_wait(int fd, short events, gint64 deadline, int stop)
{
    for (;;) {
        struct pollfd fds[] = { { stop, POLLIN, 0 }, { fd, events, 0 } };
        gint64 left = deadline < 0 ? -1 : deadline - g_get_monotonic_time();

        if (deadline >= 0 && left <= 0) {
            return MSC_TUNNEL_LATE;
        }
        if (poll(fds, 2, left < 0 ? -1 : (int)(left / 1000) + 1) > 0) {
            return fds[0].revents ? MSC_TUNNEL_STOPPED : MSC_TUNNEL_READY;
        }
    }
}

/* Returns 0 or an errno. */
static int connect_one(int fd, const struct sockaddr *to, socklen_t len,
                       gint64 deadline, int stop)
{
    int error = 0;
    socklen_t size = sizeof(error);

    while (connect(fd, to, len)) {
        if (errno == EAGAIN) {
            /* A unix listener whose queue is full; there is no event. */
            if (msc_tunnel_wait(-1, 0,
                                MIN(deadline, g_get_monotonic_time() + 20000),
                                stop) == MSC_TUNNEL_STOPPED) {
                return ECANCELED;
            }
            if (g_get_monotonic_time() >= deadline) {
                return ETIMEDOUT;
            }
            continue;
        }
        if (errno != EINPROGRESS) {
            return errno;
        }
        switch (msc_tunnel_wait(fd, POLLOUT, deadline, stop)) {
        case MSC_TUNNEL_LATE:
            return ETIMEDOUT;
        case MSC_TUNNEL_STOPPED:
            return ECANCELED;
        case MSC_TUNNEL_READY:
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? errno
                                                                       : error;
        }
    }
    return 0;
}

static int connect_new(int family, const struct sockaddr *to, socklen_t len,
                       gint64 deadline, int stop, int *error)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    *error = fd < 0 ? errno : connect_one(fd, to, len, deadline, stop);
    if (*error && fd >= 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

int msc_tunnel_connect(const MscTunnelAddress *address, unsigned timeout_ms,
                       int stop, GError **errp)
{
    gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    struct addrinfo *list = NULL;
    int error = 0, fd = -1;

    if (address->path) {
        struct sockaddr_un un;

        unix_address(address, &un);
        fd = connect_new(AF_UNIX, (struct sockaddr *)&un, sizeof(un), deadline,
                         stop, &error);
    } else {
        list = resolve(address, 0, errp);
        if (!list) {
            return -1;
        }
        for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
            fd = connect_new(a->ai_family, a->ai_addr, a->ai_addrlen, deadline,
                             stop, &error);
        }
        freeaddrinfo(list);
    }
    if (fd < 0) {
        io_error(errp, "connect to", address, error);
    }
    return fd;
}

void msc_tunnel_tune(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        { IPPROTO_TCP, TCP_NODELAY, 1 },   { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, 30 }, { IPPROTO_TCP, TCP_KEEPINTVL, 10 },
        { IPPROTO_TCP, TCP_KEEPCNT, 6 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                       sizeof(int))) {
            g_debug("setsockopt: %s", g_strerror(errno));
        }
    }
}
