/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "reconcile.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"
#include "frame.h"
#include "handshake-io.h"
#include "reconcile-message.h"

#define CONNECT_MS 2000
/* A message of this handshake, bytes. */
#define MESSAGE_MAX 4096

static const char kept[] = "the other host kept the guest";
static const char given_up[] = "the other host has given the guest up";
static const char nobody[] = "no QEMU waited for the guest here; it is the "
                             "other host's";

/* What both ends of the conversation know. */
typedef struct {
    MscHub *hub;
    const char *address;        /* of the other end, or NULL */
    const char *expected;       /* asking: the only acceptable host */
} Talk;

static GBytes *proof_of(const MscTransfer *t, MscProofKind kind)
{
    return msc_proof_encode(kind, t->entry->id, t->entry->token[kind - 1]);
}

static bool proof_holds(const MscTransfer *t, MscProofKind kind, GBytes *proof,
                        GError **errp)
{
    return msc_proof_check(kind, g_bytes_get_data(proof, NULL),
                           g_bytes_get_size(proof), t->entry->id,
                           t->entry->commitment[kind - 1], errp);
}

static GBytes *answer_proof(const MscTransfer *t, MscProofKind kind)
{
    g_autoptr(GBytes) proof = proof_of(t, kind);

    return msc_reconcile_answer_encode(MSC_RECONCILE_PROOF, proof);
}

/* The destination asks a source. */
static GBytes *answer_as_source(const MscTransfer *t)
{
    switch (t->entry->stage) {
    case MSC_STAGE_RELEASED:
    case MSC_STAGE_FINISHED:
        return answer_proof(t, MSC_PROOF_RELEASE);
    case MSC_STAGE_THAWED:
        return msc_reconcile_answer_encode(MSC_RECONCILE_KEPT, NULL);
    default:
        return msc_reconcile_answer_encode(MSC_RECONCILE_WAIT, NULL);
    }
}

/* RELEASE is here: the guest is ours, if somebody still wants it. */
static bool take_or_leave(MscTransfer *t, GError **errp)
{
    switch (msc_transfer_qemu(t)) {
    case MSC_QEMU_WAITS:
        return msc_destination_take(t, errp);
    case MSC_QEMU_IS_GONE:
        return msc_destination_undo(t, nobody, errp);
    default:
        return true;            /* next time */
    }
}

/* A source asks, and shows that it let go. */
static GBytes *answer_as_destination(MscTransfer *t, GBytes *release,
                                     GError **errp)
{
    static const uint8_t none[MSC_PROOF_TOKEN_LEN];
    const uint8_t *abandon = t->entry->token[MSC_PROOF_ABANDON - 1];

    if (!release || !proof_holds(t, MSC_PROOF_RELEASE, release, errp)) {
        return NULL;
    }
    if (t->entry->stage == MSC_STAGE_READY && !take_or_leave(t, errp)) {
        return NULL;
    }
    if (t->entry->stage == MSC_STAGE_COMMITTED) {
        return answer_proof(t, MSC_PROOF_DONE);
    }
    if (t->entry->stage == MSC_STAGE_ABORTED &&
        sodium_memcmp(abandon, none, sizeof(none))) {
        return answer_proof(t, MSC_PROOF_ABANDON);
    }
    return msc_reconcile_answer_encode(MSC_RECONCILE_WAIT, NULL);
}

static bool match_id(MscTransfer *t, const void *id)
{
    /* Set before the stage leaves OPEN, and never changed. */
    return g_atomic_int_get(&t->seen_stage) != MSC_STAGE_OPEN &&
           !memcmp(t->entry->id, id, MSC_ID_LEN);
}

static GBytes *answer(GBytes *request, const char *peer,
                      const uint8_t migration_id[MSC_MIGRATION_ID_LEN],
                      void *opaque, GError **errp)
{
    const Talk *talk = opaque;
    g_autoptr(MscTransfer) t = NULL;
    MscReconcileQuestion q;
    GBytes *out = NULL;

    (void)migration_id;
    if (!msc_reconcile_question_decode(request, &q, errp)) {
        return NULL;
    }
    t = msc_hub_find(talk->hub, match_id, q.id);
    if (t) {
        msc_transfer_lock(t);
    }
    if (!t || strcmp(t->entry->peer, peer)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                            "reconciling: this host knows no such migration "
                            "with yours");
    } else if (t->entry->role == MSC_ROLE_SOURCE) {
        out = answer_as_source(t);
    } else {
        out = answer_as_destination(t, q.proof, errp);
    }
    if (t) {
        msc_transfer_unlock(t);
    }
    msc_reconcile_question_clear(&q);
    return out;
}

static char *accept_host(const uint8_t key[MSC_IDENTITY_KEY_LEN], void *opaque,
                         GError **errp)
{
    const Talk *talk = opaque;
    char *name = msc_peer_identify(talk->hub, talk->address, key, errp);

    if (name && talk->expected && strcmp(name, talk->expected)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                    "'%s' answers in place of '%s'", name, talk->expected);
        g_clear_pointer(&name, g_free);
    }
    return name;
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

    memcpy(config.vm, MSC_RECONCILE_LABEL, MSC_UUID_LEN);
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
    if (!hs || !msc_handshake_run(hs, fd, NULL, MESSAGE_MAX, last, deadline,
                                  errp) ||
        !msc_handshake_send(fd, last, deadline, errp)) {
        return false;
    }
    if (question) {
        *got = g_bytes_ref(msc_handshake_answer(hs));
    }
    return true;
}

void msc_reconcile_serve(MscHub *hub, int fd)
{
    g_autofree char *address = msc_remote_address(fd);
    Talk talk = { .hub = hub, .address = address };
    g_autoptr(GError) err = NULL;

    if (!talk_run(&talk, fd, NULL, NULL, &err)) {
        g_message("reconciling with %s: %s", address ? address : "somebody",
                  err->message);
    }
}

/* The other host's word, checked; the lock is held. */
static bool take_answer(MscTransfer *t, MscReconcileWord word, GBytes *proof,
                        GError **errp)
{
    bool source = t->entry->role == MSC_ROLE_SOURCE;

    if (word == MSC_RECONCILE_WAIT) {
        return true;
    }
    if (!source && word == MSC_RECONCILE_KEPT) {
        return msc_destination_undo(t, kept, errp);
    }
    if (!source && word == MSC_RECONCILE_PROOF) {
        return proof_holds(t, MSC_PROOF_RELEASE, proof, errp) &&
               take_or_leave(t, errp);
    }
    if (word == MSC_RECONCILE_PROOF &&
        proof_holds(t, MSC_PROOF_DONE, proof, NULL)) {
        msc_source_let_go(t, "");
        return true;
    }
    return word == MSC_RECONCILE_PROOF &&
           proof_holds(t, MSC_PROOF_ABANDON, proof, errp) &&
           msc_source_give_up(t, given_up, errp);
}

static bool apply(MscTransfer *t, GBytes *got, GError **errp)
{
    g_autoptr(GBytes) proof = NULL;
    MscReconcileWord word;
    bool ok;

    if (!msc_reconcile_answer_decode(got, &word, &proof, errp)) {
        return false;
    }
    msc_transfer_lock(t);
    /* It may have ended while we asked. */
    ok = (t->entry->stage != MSC_STAGE_RELEASED &&
          t->entry->stage != MSC_STAGE_READY) ||
         take_answer(t, word, proof, errp);
    msc_transfer_unlock(t);
    return ok;
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
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot connect to %s port "
                    "%u: %s", address, port, g_strerror(error ? error : errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static bool ask_at(MscTransfer *t, const char *peer, const char *address,
                   GBytes *question, GError **errp)
{
    Talk talk = { .hub = t->hub, .address = address, .expected = peer };
    int fd = connect_to(address, msc_hub_config(t->hub)->reconcile_port, errp);
    g_autoptr(GBytes) got = NULL;
    bool ok;

    if (fd < 0) {
        return false;
    }
    ok = talk_run(&talk, fd, question, &got, errp) && apply(t, got, errp);
    close(fd);
    return ok;
}

static char **addresses_of(MscHub *hub, const char *name, GError **errp)
{
    g_autoptr(GPtrArray) peers =
        msc_peers_load(msc_hub_config_dir(hub), errp);

    for (guint i = 0; peers && i < peers->len; i++) {
        const MscPeer *peer = peers->pdata[i];

        if (!strcmp(peer->name, name)) {
            return g_strdupv(peer->addresses);
        }
    }
    return peers ? g_new0(char *, 1) : NULL;
}

static void ask(MscTransfer *t)
{
    g_autoptr(GBytes) question = NULL;
    g_autoptr(GBytes) proof = NULL;
    g_autofree char *peer = NULL;
    g_auto(GStrv) addresses = NULL;
    g_autoptr(GError) err = NULL;
    bool cut_off;

    msc_transfer_lock(t);
    /* While all goes well nothing is on record about it. */
    cut_off = *t->entry->error != 0;
    if (t->entry->role == MSC_ROLE_SOURCE &&
        t->entry->stage == MSC_STAGE_RELEASED) {
        proof = proof_of(t, MSC_PROOF_RELEASE);
    }
    question = msc_reconcile_question_encode(t->entry->id, proof);
    peer = g_strdup(t->entry->peer);
    msc_transfer_unlock(t);
    if (!cut_off) {
        return;
    }

    addresses = addresses_of(t->hub, peer, &err);
    for (char **address = addresses; address && *address; address++) {
        g_clear_error(&err);
        if (ask_at(t, peer, *address, question, &err)) {
            return;
        }
    }
    if (err) {
        g_info("reconciling with %s: %s", peer, err->message);
    }
}

void msc_reconcile_all(MscHub *hub)
{
    g_autoptr(GPtrArray) waiting = NULL;

    if (!msc_hub_config(hub)->reconcile_port) {
        return;
    }
    waiting = msc_hub_undecided(hub);
    for (guint i = 0; i < waiting->len; i++) {
        ask(waiting->pdata[i]);
    }
}
