/*
 * Listening, and the connections of QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "check-message.h"
#include "check.h"
#include "error.h"
#include "frame.h"
#include "reconcile.h"
#include "secret.h"
#include "talk.h"

#define QEMU_WHO "QEMU"
/* A request that has begun must be whole by then. */
#define BODY_MS 5000
/* More at once are turned away; a process cannot exhaust the helper. */
#define CONNECTIONS_MAX 256

typedef struct {
    MscHub *hub;
    MscServe *serve;
    int fd;
} Job;

static gint connections;

int msc_server_listen(const char *path, mode_t mode, GError **errp)
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
    unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
        chmod(path, mode) || listen(fd, 64)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot listen on '%s': %s",
                    path, g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

int msc_server_listen_tcp(unsigned port, GError **errp)
{
    struct sockaddr_in6 any = { .sin6_family = AF_INET6,
                                .sin6_port = htons((uint16_t)port),
                                .sin6_addr = in6addr_any };
    struct sockaddr_in any4 = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port) };
    int on = 1, off = 0;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound;

    if (fd >= 0) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        bound = !bind(fd, (struct sockaddr *)&any, sizeof(any));
    } else {
        /* A host without IPv6. */
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        bound = fd >= 0 && !bind(fd, (struct sockaddr *)&any4, sizeof(any4));
    }
    if (!bound || listen(fd, 64)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO,
                    "cannot listen on TCP port "
                    "%u, helper-port= in migration-sc.conf: %s",
                    port, g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static GBytes *answer_helper(MscHub *hub, const MscTalkQuestion *question,
                             GError **errp)
{
    return msc_check_is_question(question->bytes)
               ? msc_check_answer(hub, question, errp)
               : msc_reconcile_answer(hub, question->bytes, question->peer,
                                      errp);
}

void msc_server_peer(MscHub *hub, int fd)
{
    msc_talk_serve(hub, fd, answer_helper);
    close(fd);
}

static void *connection_thread(void *opaque)
{
    Job *job = opaque;

    job->serve(job->hub, job->fd);
    g_free(job);
    g_atomic_int_add(&connections, -1);
    return NULL;
}

static void *accept_thread(void *opaque)
{
    Job *listener = opaque;

    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        g_autoptr(GError) err = NULL;
        GThread *thread;
        Job *job;

        if (fd < 0) {
            if (errno != EINTR && errno != ECONNABORTED) {
                g_warning("accept: %s", g_strerror(errno));
                g_usleep(100 * 1000);
            }
            continue;
        }
        if (g_atomic_int_add(&connections, 1) >= CONNECTIONS_MAX) {
            g_atomic_int_add(&connections, -1);
            g_warning("more than %d connections: one turned away",
                      CONNECTIONS_MAX);
            close(fd);
            continue;
        }
        job = g_new(Job, 1);
        *job = *listener;
        job->fd = fd;
        thread = g_thread_try_new("connection", connection_thread, job, &err);
        if (!thread) {
            g_warning("%s", err->message);
            g_atomic_int_add(&connections, -1);
            g_free(job);
            close(fd);
            continue;
        }
        g_thread_unref(thread);
    }
    return NULL;
}

void msc_server_start(MscHub *hub, int listener, MscServe *serve)
{
    Job *job = g_new(Job, 1);

    job->hub = hub;
    job->serve = serve;
    job->fd = listener;
    g_thread_unref(g_thread_new("accept", accept_thread, job));
}

static bool send_reply(int fd, uint16_t type, const GByteArray *payload,
                       const GError *err)
{
    g_autoptr(GByteArray) error_payload = NULL;
    g_autoptr(GError) io_err = NULL;

    if (err) {
        error_payload = g_byte_array_new();
        msc_error_encode(err, error_payload);
        type = MSC_MSG_ERROR;
        payload = error_payload;
    } else {
        type |= MSC_MSG_REPLY;
    }
    if (!msc_frame_send(fd, type, payload, -1, msc_deadline(BODY_MS), QEMU_WHO,
                        &io_err)) {
        g_message("%s: %s", msc_message_name(type), io_err->message);
        return false;
    }
    return true;
}

/* One handshake, the whole life of its connection. */
static bool serve_channel(MscHub *hub, const MscFrame *frame, GByteArray *out,
                          GError **errp)
{
    g_autoptr(MscTransfer) t = NULL;
    MscChannelMessage request;
    MscKeysMessage keys;
    bool ok = false;

    if (!msc_channel_decode(frame->payload->data, frame->payload->len, &request,
                            errp)) {
        return false;
    }
    t = msc_hub_find_token(hub, request.token);
    if (!t) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH,
                            "no session of that token: this helper was "
                            "restarted, or the session is over");
    } else if (frame->fd < 0) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "CHANNEL without a socket");
    } else {
        ok = msc_transfer_handshake(t, frame->fd, &request, &keys, errp);
    }
    if (ok) {
        msc_keys_encode(&keys, out);
        msc_keys_message_clear(&keys);
    } else if (t && errp && *errp) {
        g_message("%s: %s", t->entry->name, (*errp)->message);
    }
    msc_channel_message_clear(&request);
    return ok;
}

static bool serve_open(MscHub *hub, const MscFrame *frame,
                       const struct ucred *cred, MscTransfer **t,
                       GByteArray *out, GError **errp)
{
    MscOpenedMessage opened;
    MscOpenMessage open;

    if (!msc_open_decode(frame->payload->data, frame->payload->len, &open,
                         errp)) {
        return false;
    }
    *t = msc_hub_open(hub, &open, cred->uid, cred->pid, errp);
    if (!*t) {
        return false;
    }
    memcpy(opened.token, (*t)->token, sizeof(opened.token));
    opened.timeout_ms = msc_hub_config(hub)->helper_timeout_ms;
    msc_opened_encode(&opened, out);
    msc_wipe(&opened, sizeof(opened));
    return true;
}

static bool serve_attach(MscHub *hub, const MscFrame *frame,
                         const struct ucred *cred, MscTransfer **t,
                         GByteArray *out, GError **errp)
{
    MscAttachMessage attach;
    MscVerdict verdict;

    if (!msc_attach_decode(frame->payload->data, frame->payload->len, &attach,
                           errp)) {
        return false;
    }
    if (frame->type == MSC_MSG_ATTACH) {
        *t = msc_hub_attach(hub, &attach, cred->uid, cred->pid, errp);
        return *t != NULL;
    }
    if (!msc_hub_verdict(hub, &attach, cred->uid, cred->pid, &verdict, errp)) {
        return false;
    }
    msc_put_u8(out, (uint8_t)verdict);
    return true;
}

/* @t: the session, once OPEN or ATTACH made one. */
static bool serve_request(MscHub *hub, const MscFrame *frame,
                          const struct ucred *cred, MscTransfer **t,
                          GByteArray *out, GError **errp)
{
    if (*t) {
        return msc_transfer_run(*t, frame->type, frame->payload, out, errp);
    }
    switch (frame->type) {
    case MSC_MSG_OPEN:
        return serve_open(hub, frame, cred, t, out, errp);
    case MSC_MSG_CHANNEL:
        return serve_channel(hub, frame, out, errp);
    case MSC_MSG_ATTACH:
    case MSC_MSG_VERDICT:
        return serve_attach(hub, frame, cred, t, out, errp);
    default:
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE, "%s without a session",
                    msc_message_name(frame->type));
        return false;
    }
}

void msc_server_qemu(MscHub *hub, int fd)
{
    g_autoptr(MscTransfer) t = NULL;
    struct ucred cred;
    socklen_t len = sizeof(cred);
    g_auto(MscFrame) frame;
    bool go_on = true;

    msc_frame_init(&frame);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
        g_warning("SO_PEERCRED: %s", g_strerror(errno));
        go_on = false;
    }
    while (go_on) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(GError) err = NULL;
        MscFrameResult got =
            msc_frame_recv(fd, &frame, -1, BODY_MS, QEMU_WHO, &err);

        if (got == MSC_FRAME_FAILED) {
            g_message("a connection of process %d: %s", cred.pid, err->message);
        }
        if (got != MSC_FRAME_OK) {
            break;
        }
        if (!serve_request(hub, &frame, &cred, &t, out, &err)) {
            g_info("%s: %s", msc_message_name(frame.type), err->message);
        }
        go_on = send_reply(fd, frame.type, out, err) &&
                (t || frame.type == MSC_MSG_VERDICT);
        msc_wipe(out->data, out->len);
        if (t) {
            msc_transfer_after_reply(t);
        }
    }
    close(fd);
    if (t) {
        msc_transfer_disconnect(t);
    }
}
