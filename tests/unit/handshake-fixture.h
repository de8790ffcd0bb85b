/*
 * Both ends of a full handshake, and somebody between them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HANDSHAKE_FIXTURE_H
#define HANDSHAKE_FIXTURE_H

#include <sodium.h>
#include <string.h>

#include "error.h"
#include "handshake.h"
#include "kem.h"

typedef struct {
    MscIdentity *identity[2]; /* source, destination */
    MscHandshake *hs[2];
    const MscIdentity *trusted[2]; /* whom each accepts */
    bool refuse_admission;
    int admitted;
    bool drop_suite, drop_kem; /* out of the offer, on the way */
    bool post_quantum[2];      /* policy */
    GByteArray *wire;          /* what an observer sees */
    /* A man in the middle: flips a bit of byte @at in message @message. */
    int message, at;
    size_t last_len;
    bool done[2];
    GError *err[2];
} Fixture;

static inline char *accept_peer(const uint8_t key[MSC_IDENTITY_KEY_LEN],
                                void *opaque, GError **errp)
{
    const MscIdentity *const *trusted = opaque;

    if (!*trusted) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                            "peer 'alice' is broken");
        return NULL;
    }
    if (memcmp(key, msc_identity_public(*trusted), MSC_IDENTITY_KEY_LEN)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH, "unknown host");
        return NULL;
    }
    return g_strdup(msc_identity_name(*trusted));
}

/* The trusted identity's place tells the fixture. */
static inline GBytes *admit(GBytes *request, const char *peer,
                            const uint8_t id[MSC_MIGRATION_ID_LEN],
                            void *opaque, GError **errp)
{
    const MscIdentity **mine = opaque;
    Fixture *f = (Fixture *)((char *)(mine - 1) - offsetof(Fixture, trusted));

    (void)id;
    g_assert_cmpstr(peer, ==, "source");
    g_assert_cmpmem(g_bytes_get_data(request, NULL), g_bytes_get_size(request),
                    "please", 6);
    f->admitted++;
    if (f->refuse_admission) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED, "no room");
        return NULL;
    }
    return g_bytes_new_static("welcome", 7);
}

static const uint8_t vm[MSC_UUID_LEN] = "guest's own UUID";
static const uint8_t migration_id[MSC_MIGRATION_ID_LEN] = "a migration's id";

static inline void setup(Fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->message = -1;
    f->wire = g_byte_array_new();
    f->identity[0] = msc_identity_generate("source", NULL);
    f->identity[1] = msc_identity_generate("destination", NULL);
    f->trusted[0] = f->identity[1];
    f->trusted[1] = f->identity[0];
}

static inline void start(Fixture *f, const char *const *suites0,
                         const char *const *suites1)
{
    g_autoptr(GBytes) admission = g_bytes_new_static("please", 6);

    for (int i = 0; i < 2; i++) {
        MscHandshakeConfig config = {
            .role = i ? MSC_ROLE_DESTINATION : MSC_ROLE_SOURCE,
            .identity = f->identity[i],
            .accept_peer = accept_peer,
            .admission = i ? NULL : admission,
            .admit = admit,
            .opaque = &f->trusted[i],
            .suites = i ? suites1 : suites0,
            .post_quantum_only = f->post_quantum[i],
        };

        memcpy(config.vm, vm, sizeof(config.vm));
        memcpy(config.migration_id, migration_id, sizeof(migration_id));
        f->hs[i] = msc_handshake_new(&config, NULL);
        g_assert_nonnull(f->hs[i]);
    }
}

/* The suites stand behind type, magic, versions, migration id and nonce, the
 * key agreements behind them; the best come first. */
static inline void meddle_with_hello(const Fixture *f, GByteArray *hello)
{
    const guint suites = 2 + 4 + 2 + 2 + MSC_MIGRATION_ID_LEN + 32;
    const guint kems = suites + 1 + hello->data[suites];

    if (f->drop_kem) {
        const guint len =
            (guint)(hello->data[kems + 2] << 8 | hello->data[kems + 3]);

        g_assert_cmpuint(hello->data[kems], >, 1);
        hello->data[kems]--;
        g_byte_array_remove_range(hello, kems + 1, 3 + len);
    }
    if (f->drop_suite) {
        g_assert_cmpuint(hello->data[suites], >, 1);
        hello->data[suites]--;
        g_byte_array_remove_index(hello, suites + 1);
    }
}

/* Carries messages until both are done or one has failed. */
static inline void converse(Fixture *f)
{
    g_autoptr(GByteArray) message = g_byte_array_new();
    g_autoptr(GByteArray) reply = g_byte_array_new();
    bool first = true;

    for (int turn = 0, n = 0; turn < 10; turn++) {
        int i = turn % 2;
        MscStep step;

        step = msc_handshake_step(f->hs[i], first ? NULL : message->data,
                                  first ? 0 : message->len, reply, &f->err[i]);
        first = false;
        f->done[i] = step == MSC_STEP_DONE;
        g_assert_true((step == MSC_STEP_FAILED) == (f->err[i] != NULL));
        if (!reply->len) {
            break;
        }
        if (n == f->message) {
            f->last_len = reply->len;
            if (f->at >= 0 && f->at < (int)reply->len) {
                reply->data[f->at] ^= 4;
            }
        }
        if (!n) {
            meddle_with_hello(f, reply);
        }
        n++;
        g_byte_array_set_size(message, 0);
        g_byte_array_append(message, reply->data, reply->len);
        g_byte_array_append(f->wire, reply->data, reply->len);
        if (f->done[1 - i] || f->err[1 - i]) {
            break;
        }
    }
}

static inline void teardown(Fixture *f)
{
    g_byte_array_unref(f->wire);
    for (int i = 0; i < 2; i++) {
        msc_handshake_free(f->hs[i]);
        msc_identity_free(f->identity[i]);
        g_clear_error(&f->err[i]);
    }
}

#endif
