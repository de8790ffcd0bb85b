/*
 * Handshakes on sockets that QEMU handed over.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>

#include "ahead.h"
#include "context.h"
#include "error.h"
#include "fault.h"
#include "format.h"
#include "frame.h"
#include "handshake-io.h"
#include "identity.h"
#include "secret.h"
#include "suite.h"

typedef struct {
    MscTransfer *t;
    const char *expected; /* QEMU's wish, or "" */
    char *address;        /* of the other end, or NULL (Unix socket) */
    bool taken;           /* the transfer is this handshake's; locked */
} Channel;

static char *accept_peer(const uint8_t key[MSC_IDENTITY_KEY_LEN], void *opaque,
                         GError **errp)
{
    const Channel *c = opaque;

    return msc_peer_accept(c->t, c->expected, c->address, key, errp);
}

/* Is the host of this session one that could begin a session now? */
static char *still_welcome(Channel *c, GError **errp)
{
    if (!*c->expected) {
        c->expected = c->t->entry->peer;
    }
    return accept_peer(c->t->session->peer, c, errp);
}

/*
 * From here to the end of the handshake the lock is held.  A destination does
 * so only once it knows who is there: a stranger who says HELLO and no more
 * must not keep the source out.
 */
static bool take_transfer(Channel *c, GError **errp)
{
    MscTransfer *t = c->t;

    msc_transfer_lock(t);
    if (t->session || t->entry->stage != MSC_STAGE_OPEN) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "no handshake now: the migration is %s already",
                    msc_stage_name(t->entry->stage));
    } else if (!g_atomic_int_get(&t->connected)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "the QEMU of this migration is gone");
    } else {
        c->taken = true;
        return true;
    }
    msc_transfer_unlock(t);
    return false;
}

static GBytes *admit(GBytes *request, const char *peer,
                     const uint8_t migration_id[MSC_MIGRATION_ID_LEN],
                     void *opaque, GError **errp)
{
    Channel *c = opaque;
    MscEntry *entry = c->t->entry;

    if (!take_transfer(c, errp)) {
        return NULL;
    }
    memcpy(entry->id, migration_id, sizeof(entry->id));
    if (!msc_hub_claim_id(c->t->hub, entry, errp)) {
        /* That file of the journal is another's. */
        memset(entry->id, 0, sizeof(entry->id));
        return NULL;
    }
    g_free(entry->peer);
    entry->peer = g_strdup(peer);
    if (!MSC_FAULT_PASSES(ADMIT, errp) ||
        !msc_hub_supersede(c->t->hub, entry->vm, peer, errp)) {
        return NULL;
    }
    return msc_destination_admit(c->t, request, errp);
}

static void record_session(MscTransfer *t, MscHandshake *hs)
{
    MscEntry *entry = t->entry;

    t->session = msc_handshake_take_session(hs);
    memcpy(entry->id, t->session->migration_id, sizeof(entry->id));
    g_free(entry->peer);
    g_free(entry->suite);
    g_free(entry->kem);
    entry->peer = g_strdup(msc_handshake_peer(hs));
    entry->suite = g_strdup(msc_suite_by_id(t->session->suite)->name);
    entry->kem = g_strdup(msc_kem_name(t->session->kem));
}

static MscHandshake *try_full_handshake(Channel *c, int fd,
                                        const GByteArray *first,
                                        gint64 deadline, GError **errp)
{
    MscTransfer *t = c->t;
    bool source = t->entry->role == MSC_ROLE_SOURCE;
    g_autoptr(MscIdentity) identity =
        msc_identity_load(msc_hub_config_dir(t->hub), errp);
    g_autoptr(GByteArray) last = g_byte_array_new();
    g_autoptr(GBytes) admission = NULL;
    g_autoptr(MscHandshake) hs = NULL;
    MscHandshakeConfig config = {
        .role = t->entry->role,
        .identity = identity,
        .accept_peer = accept_peer,
        .admit = admit,
        .opaque = c,
        .suites = (const char *const *)msc_hub_config(t->hub)->suites,
        .post_quantum_only = msc_hub_config(t->hub)->post_quantum_only,
    };

    if (!identity || !msc_uuid_parse(t->vm->uuid, config.vm, errp)) {
        return NULL;
    }
    if (source) {
        if (!take_transfer(c, errp)) {
            return NULL;
        }
        randombytes_buf(config.migration_id, sizeof(config.migration_id));
        memcpy(t->entry->id, config.migration_id, sizeof(t->entry->id));
        if (!msc_hub_claim_id(t->hub, t->entry, errp)) {
            return NULL;
        }
        admission = msc_source_admission(t, errp);
        if (!admission) {
            return NULL;
        }
        config.admission = admission;
    }
    hs = msc_handshake_new(&config, errp);
    if (!hs || !msc_handshake_run(hs, fd, first, MSC_HANDSHAKE_MAX, last,
                                  deadline, errp)) {
        return NULL;
    }
    record_session(t, hs);
    if (source
            ? !msc_source_admitted(t, msc_handshake_answer(hs), errp)
            : !msc_transfer_set_stage(t, msc_admitted_stage(t), false, errp)) {
        return NULL;
    }
    if (!MSC_FAULT_PASSES(HANDSHAKE_DONE, errp) ||
        !msc_handshake_send(fd, last, deadline, errp)) {
        g_prefix_error(errp, "handshake: ");
        return NULL;
    }
    return g_steal_pointer(&hs);
}

/*
 * A refusal is on record where it was asked for (the source), or where a
 * trusted host asked: "status" can tell.  What strangers do is not, or they
 * could fill the journal.
 */
static void record_failure(const Channel *c, const char *why)
{
    MscTransfer *t = c->t;
    MscEntry *entry = t->entry;
    bool source = entry->role == MSC_ROLE_SOURCE;

    if (entry->stage == msc_admitted_stage(t)) {
        /* The other host may not know yet that it was admitted. */
        if (source) {
            msc_source_give_up(t, why, NULL);
        } else {
            msc_destination_undo(t, why, NULL);
        }
    } else if (!sodium_is_zero(entry->id, sizeof(entry->id))) {
        if (!*entry->peer) {
            g_free(entry->peer);
            entry->peer = g_strdup(c->expected);
        }
        msc_transfer_end(t, source ? MSC_STAGE_THAWED : MSC_STAGE_ABORTED, why);
    }
    if (source) {
        msc_ahead_source_end(t);
    }
}

/* The first channel. */
static MscHandshake *full_handshake(Channel *c, int fd, const GByteArray *first,
                                    gint64 deadline, GError **errp)
{
    g_autoptr(GError) err = NULL;
    MscHandshake *hs = try_full_handshake(c, fd, first, deadline, &err);

    if (!hs && c->taken) {
        record_failure(c, err->message);
    }
    if (c->taken) {
        msc_transfer_unlock(c->t);
    }
    if (!hs) {
        g_propagate_error(errp, g_steal_pointer(&err));
    }
    return hs;
}

static gint64 *epoch_key(uint32_t kind, uint32_t number)
{
    gint64 *key = g_new(gint64, 1);

    *key = (gint64)((uint64_t)kind << 32 | number);
    return key;
}

/* Source: the next epoch of a channel. */
static uint32_t epoch_next(MscTransfer *t, uint32_t kind, uint32_t number)
{
    gint64 *key = epoch_key(kind, number);
    uint32_t epoch = GPOINTER_TO_UINT(g_hash_table_lookup(t->epochs, key)) + 1;

    g_hash_table_insert(t->epochs, key, GUINT_TO_POINTER(epoch));
    return epoch;
}

/* Destination: each channel number and epoch is accepted once. */
static bool epoch_accept(MscTransfer *t, uint32_t kind, uint32_t number,
                         uint32_t epoch, GError **errp)
{
    gint64 *key = epoch_key(kind, number);

    if (epoch <= GPOINTER_TO_UINT(g_hash_table_lookup(t->epochs, key))) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                    "channel %u of kind %u came twice: a replay", number, kind);
        g_free(key);
        return false;
    }
    g_hash_table_insert(t->epochs, key, GUINT_TO_POINTER(epoch));
    return true;
}

static MscHandshake *further_handshake(Channel *c, int fd,
                                       const MscChannelMessage *request,
                                       const GByteArray *first, gint64 deadline,
                                       GError **errp)
{
    MscTransfer *t = c->t;
    MscRole role = t->entry->role;
    g_autoptr(GByteArray) last = g_byte_array_new();
    g_autoptr(MscHandshake) hs = NULL;
    g_autofree char *peer;
    const MscChannelKeys *keys;
    uint32_t epoch = 0;
    bool fresh = true;

    msc_transfer_lock(t);
    if (!t->session) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE,
                            "a further channel before the main one");
        peer = NULL;
    } else {
        peer = still_welcome(c, errp);
    }
    if (peer) {
        if (role == MSC_ROLE_SOURCE) {
            epoch = epoch_next(t, request->kind, request->number);
        }
        hs = msc_handshake_new_further(role, t->session,
                                       (MscChannelKind)request->kind,
                                       request->number, epoch, errp);
    }
    msc_transfer_unlock(t);
    if (!hs || !msc_handshake_run(hs, fd, first, MSC_HANDSHAKE_MAX, last,
                                  deadline, errp)) {
        return NULL;
    }
    keys = msc_handshake_channel_keys(hs);
    if (role == MSC_ROLE_DESTINATION) {
        msc_transfer_lock(t);
        fresh = epoch_accept(t, keys->kind, keys->number,
                             msc_handshake_epoch(hs), errp);
        msc_transfer_unlock(t);
    }
    if (!fresh || !msc_handshake_send(fd, last, deadline, errp)) {
        return NULL;
    }
    return g_steal_pointer(&hs);
}

static void fill_keys(MscTransfer *t, MscHandshake *hs, uint64_t rekey_bytes,
                      gint64 start, MscKeysMessage *out)
{
    const MscChannelKeys *keys = msc_handshake_channel_keys(hs);

    memset(out, 0, sizeof(*out));
    msc_transfer_lock(t);
    out->kind = (uint8_t)keys->kind;
    out->number = keys->number;
    out->suite = (uint8_t)keys->suite;
    out->rekey_bytes = rekey_bytes;
    out->handshake_us = (uint64_t)(g_get_monotonic_time() - start);
    memcpy(out->migration_id, t->entry->id, sizeof(out->migration_id));
    memcpy(out->send, keys->send, sizeof(out->send));
    memcpy(out->recv, keys->recv, sizeof(out->recv));
    out->suite_name = g_strdup(t->entry->suite);
    out->kem = g_strdup(keys->kind == MSC_CHANNEL_MAIN ? t->entry->kem : "");
    out->peer = g_strdup(t->entry->peer);
    msc_transfer_unlock(t);
}

bool msc_transfer_handshake(MscTransfer *t, int fd,
                            const MscChannelMessage *request,
                            MscKeysMessage *out, GError **errp)
{
    gint64 start = g_get_monotonic_time();
    gint64 deadline =
        msc_deadline(msc_hub_config(t->hub)->handshake_timeout_ms);
    g_autofree char *address = msc_remote_address(fd);
    Channel c = { t, request->expected_peer, address, false };
    bool further = request->kind > MSC_CHANNEL_MAIN;
    g_autoptr(GByteArray) message = NULL;
    g_autoptr(MscHandshake) hs = NULL;

    if (t->entry->role == MSC_ROLE_DESTINATION) {
        message = g_byte_array_new();
        if (!msc_handshake_recv(fd, message, MSC_HANDSHAKE_MAX, deadline,
                                errp)) {
            return false;
        }
        if (!msc_handshake_is_further(message->data, message->len, &further)) {
            g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                                "handshake: the other end does not begin "
                                "with a handshake");
            return false;
        }
    } else if (!request->kind) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "the source must name the channel");
        return false;
    }
    if (further) {
        hs = further_handshake(&c, fd, request, message, deadline, errp);
    } else {
        hs = full_handshake(&c, fd, message, deadline, errp);
    }
    if (!hs) {
        return false;
    }
    fill_keys(t, hs, request->rekey_bytes, start, out);
    return true;
}
