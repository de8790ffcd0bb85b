/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "talk.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"
#include "format.h"
#include "frame.h"
#include "handshake-io.h"

#define CONNECT_MS 2000

/* One conversation, at either end. */
typedef struct {
    MscHub *hub;
    MscTalkAnswer *answer;             /* who is asked */
    const char *address;               /* of the other end, or NULL */
    const char *expected;              /* asking: the only acceptable host */
    uint8_t key[MSC_IDENTITY_KEY_LEN]; /* of the other host */
} Talk;

static char *accept_host(const uint8_t key[MSC_IDENTITY_KEY_LEN], void *opaque,
                         GError **errp)
{
    Talk *talk = opaque;
    char *name = msc_peer_identify(talk->hub, talk->address, key, errp);

    if (name && talk->expected && strcmp(name, talk->expected)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                    "'%s' answers in place of '%s'", name, talk->expected);
        g_clear_pointer(&name, g_free);
    }
    memcpy(talk->key, key, sizeof(talk->key));
    return name;
}

static GBytes *answer(GBytes *request, const char *peer,
                      const uint8_t migration_id[MSC_MIGRATION_ID_LEN],
                      void *opaque, GError **errp)
{
    const Talk *talk = opaque;
    MscTalkQuestion question = { request, peer, talk->address, talk->key };

    (void)migration_id;
    return talk->answer(talk->hub, &question, errp);
}

/* @question: NULL to answer one. */
static MscHandshake *talk_new(Talk *talk, const MscIdentity *identity,
                              GBytes *question, GError **errp)
{
    const MscConfig *policy = msc_hub_config(talk->hub);
    MscHandshakeConfig config = {
        .role = question ? MSC_ROLE_SOURCE : MSC_ROLE_DESTINATION,
        .identity = identity,
        .accept_peer = accept_host,
        .admission = question,
        .admit = answer,
        .opaque = talk,
        .suites = (const char *const *)policy->suites,
        .post_quantum_only = policy->post_quantum_only,
    };

    memcpy(config.vm, MSC_TALK_LABEL, MSC_UUID_LEN);
    randombytes_buf(config.migration_id, sizeof(config.migration_id));
    return msc_handshake_new(&config, errp);
}

static bool talk_run(Talk *talk, int fd, GBytes *question, GBytes **got,
                     GError **errp)
{
    g_autoptr(MscIdentity) identity =
        msc_identity_load(msc_hub_config_dir(talk->hub), errp);
    gint64 deadline =
        msc_deadline(msc_hub_config(talk->hub)->handshake_timeout_ms);
    g_autoptr(GByteArray) last = g_byte_array_new();
    g_autoptr(MscHandshake) hs = NULL;

    hs = identity ? talk_new(talk, identity, question, errp) : NULL;
    if (!hs ||
        !msc_handshake_run(hs, fd, NULL, MSC_HANDSHAKE_MAX, last, deadline,
                           errp) ||
        !msc_handshake_send(fd, last, deadline, errp)) {
        return false;
    }
    if (question) {
        *got = g_bytes_ref(msc_handshake_answer(hs));
    }
    return true;
}

void msc_talk_serve(MscHub *hub, int fd, MscTalkAnswer *answers)
{
    g_autofree char *address = msc_remote_address(fd);
    Talk talk = { .hub = hub, .answer = answers, .address = address };
    g_autoptr(GError) err = NULL;

    if (!talk_run(&talk, fd, NULL, NULL, &err)) {
        g_message("helper at %s: %s", address ? address : "some address",
                  err->message);
    }
}

static int connect_to(const char *address, unsigned port, GError **errp)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                              .ai_socktype = SOCK_STREAM };
    g_autofree char *service = g_strdup_printf("%u", port);
    struct addrinfo *ai = NULL;
    int error = 0, fd = -1;
    socklen_t len = sizeof(error);

    if (!getaddrinfo(address, service, &hints, &ai)) {
        fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    0);
    }
    if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen)) {
        struct pollfd p = { .fd = fd, .events = POLLOUT };

        error = errno == EINPROGRESS ? ETIMEDOUT : errno;
        if (error == ETIMEDOUT && poll(&p, 1, CONNECT_MS) > 0) {
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
        }
    }
    if (ai) {
        freeaddrinfo(ai);
    }
    if (fd < 0 || error) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO,
                    "cannot connect to %s port "
                    "%u: %s; is migration-scd running there, with this "
                    "helper-port=?",
                    address, port, g_strerror(error ? error : errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static GBytes *ask_at(MscHub *hub, const char *peer, const char *address,
                      GBytes *question, GError **errp)
{
    Talk talk = { .hub = hub, .address = address, .expected = peer };
    int fd = connect_to(address, msc_hub_config(hub)->helper_port, errp);
    GBytes *got = NULL;

    if (fd >= 0) {
        talk_run(&talk, fd, question, &got, errp);
        close(fd);
    }
    return got;
}

static char **addresses_of(MscHub *hub, const char *name, GError **errp)
{
    g_autoptr(GPtrArray) peers = msc_peers_load(msc_hub_config_dir(hub), errp);

    for (guint i = 0; peers && i < peers->len; i++) {
        const MscPeer *peer = peers->pdata[i];

        if (!strcmp(peer->name, name) && *peer->addresses) {
            return g_strdupv(peer->addresses);
        }
    }
    if (peers) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "nothing says where "
                    "host '%s' is: 'migration-sc peer add --address'",
                    name);
    }
    return NULL;
}

GBytes *msc_talk_ask(MscHub *hub, const char *peer, GBytes *question,
                     GError **errp)
{
    g_autoptr(GError) err = NULL;
    g_auto(GStrv) addresses = NULL;
    GBytes *got = NULL;

    if (!msc_hub_config(hub)->helper_port) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                            "helpers do not talk to each other: '[handoff] "
                            "helper-port=' in migration-sc.conf is not set");
        return NULL;
    }
    addresses = addresses_of(hub, peer, &err);
    for (char **address = addresses; address && *address && !got; address++) {
        g_clear_error(&err);
        got = ask_at(hub, peer, *address, question, &err);
    }
    if (!got) {
        g_propagate_error(errp, g_steal_pointer(&err));
    }
    return got;
}
