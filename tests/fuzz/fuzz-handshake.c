/*
 * Whatever a stranger says in the handshake, he never gets through it.
 *
 * First byte: whom the stranger talks to (source, destination, destination of
 * a further channel) and how many true messages he lets pass before his own.
 * Then (u16 length, bytes) for each of his.  Random numbers are fixed, so that
 * an input always does the same.
 *
 *   clang -fsanitize=fuzzer,address,undefined ... fuzz-handshake.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t seed;

static const char *fixed_name(void)
{
    return "fixed";
}

static uint32_t fixed_random(void)
{
    return seed = seed * 1664525u + 1013904223u;
}

static void fixed_buf(void *const buf, const size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)buf)[i] = (uint8_t)(fixed_random() >> 24);
    }
}

static randombytes_implementation fixed = {
    .implementation_name = fixed_name,
    .random = fixed_random,
    .buf = fixed_buf,
};

static char *accept_peer(const uint8_t key[MSC_IDENTITY_KEY_LEN], void *opaque,
                         GError **errp)
{
    (void)key;
    (void)opaque;
    (void)errp;
    return g_strdup("anybody");
}

static GBytes *admit(GBytes *request, const char *peer,
                     const uint8_t id[MSC_MIGRATION_ID_LEN], void *opaque,
                     GError **errp)
{
    (void)request;
    (void)peer;
    (void)id;
    (void)opaque;
    (void)errp;
    return g_bytes_new_static("yes", 3);
}

static MscHandshake *full(MscRole role, const MscIdentity *identity,
                          GBytes *admission)
{
    MscHandshakeConfig config = {
        .role = role,
        .identity = identity,
        .accept_peer = accept_peer,
        .admission = admission,
        .admit = admit,
    };

    return msc_handshake_new(&config, NULL);
}

static MscStep step(MscHandshake *hs, const uint8_t *in, size_t len,
                    GByteArray *out)
{
    g_autoptr(GError) err = NULL;
    MscStep result = msc_handshake_step(hs, in, len, out, &err);

    if ((result == MSC_STEP_FAILED) != (err != NULL)) {
        abort(); /* failed without a reason */
    }
    return result;
}

/* The first @count messages, carried between the true ends. */
static void overture(MscHandshake *source, MscHandshake *destination,
                     unsigned count)
{
    g_autoptr(GByteArray) in = g_byte_array_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    MscHandshake *speaker = source;

    step(source, NULL, 0, out);
    while (count--) {
        GByteArray *swap = in;

        in = out;
        out = swap;
        speaker = speaker == source ? destination : source;
        step(speaker, in->data, in->len, out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static MscIdentity *identity[2];
    g_autoptr(GBytes) admission = g_bytes_new_static("please", 6);
    g_autoptr(GByteArray) out = g_byte_array_new();
    MscSession session = { .suite = MSC_SUITE_XCHACHA20_POLY1305 };
    MscHandshake *hs[3], *victim;
    unsigned whom;

    if (!identity[0]) {
        randombytes_set_implementation(&fixed);
        identity[0] = msc_identity_generate("a", NULL);
        identity[1] = msc_identity_generate("b", NULL);
    }
    if (!size) {
        return 0;
    }
    seed = 1;
    hs[0] = full(MSC_ROLE_SOURCE, identity[0], admission);
    hs[1] = full(MSC_ROLE_DESTINATION, identity[1], NULL);
    hs[2] = msc_handshake_new_further(MSC_ROLE_DESTINATION, &session,
                                      MSC_CHANNEL_MAIN, 0, 0, NULL);
    if (!hs[0] || !hs[1] || !hs[2]) {
        abort();
    }
    whom = data[0] & 3;
    victim = hs[whom % 3];
    /* Source: after HELLO, or after AUTH.  Destination: at once, or after
     * ACCEPT. */
    if (whom == 0) {
        overture(hs[0], hs[1], data[0] & 4 ? 2 : 0);
    } else if (whom == 1 && (data[0] & 4)) {
        overture(hs[0], hs[1], 1);
    }
    for (size_t at = 1; at + 2 <= size;) {
        size_t len = (size_t)data[at] << 8 | data[at + 1];
        MscStep result;

        at += 2;
        len = MIN(len, size - at);
        result = step(victim, data + at, len, out);
        if (result == MSC_STEP_DONE) {
            abort(); /* let in without a key */
        }
        if (result == MSC_STEP_FAILED) {
            break;
        }
        at += len;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(hs); i++) {
        msc_handshake_free(hs[i]);
    }
    return 0;
}
