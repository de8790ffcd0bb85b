/*
 * A thread for each connection: set-up, then one direction; the other has a
 * thread of its own.  The calling thread accepts, and decides when it is over.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "tunnel-session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"
#include "tunnel-relay.h"

/* QEMU's 255 multifd channels, the main one, and a few strangers. */
#define CONNECTIONS_MAX 264

typedef struct {
    const MscTunnelOptions *options;
    MscTunnelReport *report;
    int stop;    /* eventfd: break off what runs */
    int change;  /* eventfd: the accepting thread should look */
    GMutex lock; /* guards what follows */
    GCond changed;
    MscClient *client;
    bool tainted; /* a handshake failed: this session may be over */
    unsigned accepted;
    unsigned running;  /* threads of connections */
    unsigned relaying; /* those past their set-up */
    bool main_up;      /* the main channel is, or was, relaying */
    GError *error;     /* the first failure */
} Session;

typedef struct {
    Session *s;
    MscClient *client;
    int fd;          /* the accepted one */
    uint32_t number; /* source: in the order of connections */
} Connection;

void msc_tunnel_report_clear(MscTunnelReport *report)
{
    g_free(report->peer);
    g_free(report->suite);
    g_free(report->kem);
    memset(report, 0, sizeof(*report));
}

MscClient *msc_tunnel_client(const MscTunnelOptions *o, GError **errp)
{
    return msc_client_open_transport(o->helper, o->role, o->vm, o->timeout_ms,
                                     errp);
}

static bool is_source(const Session *s)
{
    return s->options->role == MSC_ROLE_SOURCE;
}

static void raise_event(int fd)
{
    /* Fails only when it is raised already. */
    if (eventfd_write(fd, 1)) {
        g_debug("eventfd: %s", g_strerror(errno));
    }
}

/* Takes @err.  What is broken off because of an earlier failure is none. */
static void session_fail(Session *s, GError *err)
{
    g_mutex_lock(&s->lock);
    if (!s->error) {
        s->error = g_steal_pointer(&err);
    }
    g_cond_broadcast(&s->changed);
    g_mutex_unlock(&s->lock);
    g_clear_error(&err);
    raise_event(s->stop);
    raise_event(s->change);
}

/* A further channel has no session before the main one has it; and QEMU up to
 * 7.2 takes the first connection for the main one. */
static bool await_main(Session *s, GError **errp)
{
    gint64 end =
        g_get_monotonic_time() + (gint64)s->options->timeout_ms * 1000 * 2;
    bool up;

    g_mutex_lock(&s->lock);
    while (!s->main_up && !s->error &&
           g_cond_wait_until(&s->changed, &s->lock, end)) {
        /* Woken for something else. */
    }
    up = s->main_up && !s->error;
    g_mutex_unlock(&s->lock);
    if (!up) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CANCELLED,
                            "the main channel did not come up");
    }
    return up;
}

static void relay_begins(Session *s, const MscChannel *channel)
{
    MscTunnelReport *report = s->report;

    g_mutex_lock(&s->lock);
    s->relaying++;
    report->channels++;
    if (channel->kind == MSC_CHANNEL_MAIN) {
        s->main_up = true;
        report->peer = g_strdup(channel->peer);
        report->suite = g_strdup(channel->suite);
        report->kem = g_strdup(channel->kem);
        g_strlcpy(report->migration_id, channel->migration_id,
                  sizeof(report->migration_id));
    }
    g_cond_broadcast(&s->changed);
    g_mutex_unlock(&s->lock);
}

static void relay_ended(Session *s, const MscChannel *channel)
{
    MscRecordStats out, in;

    msc_sealer_get_stats(channel->sealer, &out);
    msc_opener_get_stats(channel->opener, &in);
    g_mutex_lock(&s->lock);
    s->relaying--;
    s->report->sent += out.payload_bytes;
    s->report->received += in.payload_bytes;
    g_mutex_unlock(&s->lock);
}

typedef struct {
    Session *s;
    MscRelay relay;
} Inward;

static void *inward_thread(void *opaque)
{
    Inward *inward = opaque;
    GError *err = NULL;
    bool ok = msc_relay_in(&inward->relay, &err);

    if (!ok) {
        session_fail(inward->s, err);
    }
    return GINT_TO_POINTER(ok);
}

/* Both directions; true if both came to their end. */
static bool relay(Session *s, MscChannel *channel, int local, int net)
{
    Inward inward = { s, { local, net, s->stop, channel } };
    GError *err = NULL;
    GThread *thread = NULL;
    bool ok;

    relay_begins(s, channel);
    thread = g_thread_try_new("inward", inward_thread, &inward, &err);
    ok = thread && msc_relay_out(&inward.relay, &err);
    if (!ok) {
        session_fail(s, err);
    }
    if (thread) {
        ok = GPOINTER_TO_INT(g_thread_join(thread)) && ok;
    }
    relay_ended(s, channel);
    return ok;
}

static MscChannel *handshake(Connection *c, int net, GError **errp)
{
    const MscTunnelOptions *o = c->s->options;
    MscChannelKind kind = (MscChannelKind)0;

    msc_tunnel_tune(net);
    if (is_source(c->s)) {
        kind = c->number ? MSC_CHANNEL_MULTIFD : MSC_CHANNEL_MAIN;
    }
    /* Further channels are numbered from 0 within their kind. */
    return msc_client_handshake(c->client, net, kind,
                                c->number ? c->number - 1 : 0, o->peer,
                                o->rekey_bytes, errp);
}

static MscChannel *set_up_source(Connection *c, int *net, GError **errp)
{
    Session *s = c->s;

    if (c->number && !await_main(s, errp)) {
        return NULL;
    }
    *net = msc_tunnel_connect(&s->options->to, s->options->timeout_ms, s->stop,
                              errp);
    return *net < 0 ? NULL : handshake(c, *net, errp);
}

/* Nothing is connected for a host that could not prove who it is. */
static MscChannel *set_up_destination(Connection *c, int *local, GError **errp)
{
    g_autoptr(MscChannel) channel = NULL;
    Session *s = c->s;
    GError *err = NULL;

    channel = handshake(c, c->fd, &err);
    if (!channel) {
        /* Anybody can come here and fail: no reason to end the session. */
        fprintf(stderr, "migration-sc: a connection was refused: %s\n",
                err->message);
        g_error_free(err);
        g_mutex_lock(&s->lock);
        s->tainted = true;
        g_mutex_unlock(&s->lock);
        return NULL;
    }
    if (channel->kind != MSC_CHANNEL_MAIN && !await_main(s, errp)) {
        return NULL;
    }
    *local = msc_tunnel_connect(&s->options->to, s->options->timeout_ms,
                                s->stop, errp);
    return *local < 0 ? NULL : g_steal_pointer(&channel);
}

/* Without its end record the other host knows that the channel was cut; the
 * reset tells it at once. */
static void close_net(int fd, bool ok)
{
    const struct linger reset = { 1, 0 };

    if (!ok && setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset))) {
        g_debug("SO_LINGER: %s", g_strerror(errno));
    }
    close(fd);
}

static void *connection_thread(void *opaque)
{
    Connection *c = opaque;
    Session *s = c->s;
    g_autoptr(MscChannel) channel = NULL;
    GError *err = NULL;
    int other = -1, local, net;
    bool ok = false;

    channel = is_source(s) ? set_up_source(c, &other, &err)
                           : set_up_destination(c, &other, &err);
    local = is_source(s) ? c->fd : other;
    net = is_source(s) ? other : c->fd;
    if (channel) {
        ok = relay(s, channel, local, net);
    } else if (err) {
        session_fail(s, err);
    }
    if (local >= 0) {
        close(local);
    }
    if (net >= 0) {
        close_net(net, ok);
    }
    msc_client_unref(c->client);
    g_free(c);
    g_mutex_lock(&s->lock);
    s->running--;
    /* The last use of @s: who waits for running == 0 has the lock. */
    raise_event(s->change);
    g_cond_broadcast(&s->changed);
    g_mutex_unlock(&s->lock);
    return NULL;
}

/* A handshake that failed may have ended the session in the helper; who comes
 * next finds a new one.  The lock is held. */
static bool renew_client(Session *s, GError **errp)
{
    MscClient *client;

    if (!s->tainted || s->main_up || s->running) {
        return true;
    }
    client = msc_tunnel_client(s->options, errp);
    if (client) {
        msc_client_unref(s->client);
        s->client = client;
        s->tainted = false;
    }
    return client != NULL;
}

/* Takes @fd. */
static bool start_connection(Session *s, int fd, GError **errp)
{
    Connection *c = g_new0(Connection, 1);
    GThread *thread = NULL;

    g_mutex_lock(&s->lock);
    if (renew_client(s, errp)) {
        c->s = s;
        c->fd = fd;
        c->client = msc_client_ref(s->client);
        c->number = s->accepted++;
        s->running++;
        thread = g_thread_try_new("connection", connection_thread, c, errp);
        if (!thread) {
            s->running--;
            msc_client_unref(c->client);
        }
    }
    g_mutex_unlock(&s->lock);
    if (!thread) {
        g_free(c);
        close(fd);
        return false;
    }
    g_thread_unref(thread);
    return true;
}

static bool accept_one(Session *s, int listener, GError **errp)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    bool full;

    if (fd < 0) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) {
            return true;
        }
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "accept: %s",
                    g_strerror(errno));
        return false;
    }
    g_mutex_lock(&s->lock);
    full = s->running >= CONNECTIONS_MAX;
    g_mutex_unlock(&s->lock);
    if (full) {
        fprintf(stderr,
                "migration-sc: more than %d connections: one turned "
                "away\n",
                CONNECTIONS_MAX);
        close(fd);
        return true;
    }
    return start_connection(s, fd, errp);
}

static bool is_over(Session *s)
{
    bool over;

    g_mutex_lock(&s->lock);
    /* On the destination strangers may still be about. */
    over = s->error ||
           (s->main_up && !s->relaying && (!is_source(s) || !s->running));
    g_mutex_unlock(&s->lock);
    return over;
}

/* For the helper's record; the channels have ended. */
static void tell_helper(Session *s)
{
    const char *why = s->error ? s->error->message : "";
    g_autoptr(GError) err = NULL;

    if (is_source(s) ? !msc_client_thaw(s->client, why, &err)
                     : !msc_client_abort(s->client, why, &err)) {
        fprintf(stderr,
                "migration-sc: the helper has no record of this end: "
                "%s\n",
                err->message);
    }
}

static void end_session(Session *s)
{
    tell_helper(s);
    msc_client_cancel(s->client);
    raise_event(s->stop);
    g_mutex_lock(&s->lock);
    while (s->running) {
        g_cond_wait(&s->changed, &s->lock);
    }
    g_mutex_unlock(&s->lock);
}

bool msc_tunnel_session(const MscTunnelOptions *options, int listener,
                        MscClient *client, MscTunnelReport *report,
                        GError **errp)
{
    Session s = { .options = options, .report = report };
    bool ok = true;

    s.client = msc_client_ref(client);
    s.stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s.change = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_mutex_init(&s.lock);
    g_cond_init(&s.changed);
    if (s.stop < 0 || s.change < 0) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "eventfd: %s",
                    g_strerror(errno));
        ok = false;
    }
    while (ok && !is_over(&s)) {
        GError *err = NULL;
        eventfd_t seen;

        if (msc_tunnel_wait(listener, POLLIN, -1, s.change) ==
            MSC_TUNNEL_STOPPED) {
            if (eventfd_read(s.change, &seen)) {
                g_debug("eventfd: %s", g_strerror(errno));
            }
        } else if (!accept_one(&s, listener, &err)) {
            session_fail(&s, err);
        }
    }
    if (ok) {
        end_session(&s);
        ok = !s.error;
    }
    if (s.error) {
        g_propagate_error(errp, s.error);
    }
    msc_client_unref(s.client);
    g_mutex_clear(&s.lock);
    g_cond_clear(&s.changed);
    if (s.stop >= 0) {
        close(s.stop);
    }
    if (s.change >= 0) {
        close(s.change);
    }
    return ok;
}
