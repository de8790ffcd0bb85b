/*
 * Sealed contexts: whole, in order, of this migration, or not at all.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>
#include <string.h>

#include "error.h"
#include "format.h"
#include "seal.h"
#include "secret.h"

#define CHUNKS 3 /* two of data, END */

static MscSession *session_new(const MscSuite *suite)
{
    MscSession *s = msc_secret_new(sizeof(*s), NULL);

    memset(s, 1, sizeof(*s));
    s->suite = (uint32_t)suite->id;
    s->context_sealed = false;
    return s;
}

static void seal_all(MscSession *session, GBytes *chunks[CHUNKS])
{
    MscContextSealer *s = msc_context_sealer_new(session, NULL);

    chunks[0] = msc_context_seal(s, "one", 3, NULL);
    chunks[1] = msc_context_seal(s, "two", 3, NULL);
    chunks[2] = msc_context_seal_end(s, NULL);
    g_assert_null(msc_context_seal(s, "x", 1, NULL));
    g_assert_null(msc_context_seal_end(s, NULL));
    msc_context_sealer_free(s);
    /* Its nonces would repeat. */
    g_assert_null(msc_context_sealer_new(session, NULL));
}

static void free_all(GBytes *chunks[CHUNKS])
{
    for (int i = 0; i < CHUNKS; i++) {
        g_bytes_unref(chunks[i]);
    }
}

/* Opens @order, stops at the first refusal; true if it came to END. */
static bool open_all(const MscSession *session, GBytes *const *chunks,
                     const int *order, size_t n, GByteArray *plain)
{
    MscContextOpener *o = msc_context_opener_new(session, NULL);
    MscChunkKind kind = MSC_CHUNK_DATA;
    bool ok = true;

    for (size_t i = 0; i < n && ok; i++) {
        g_autoptr(GError) err = NULL;
        gsize len;
        const void *data = g_bytes_get_data(chunks[order[i]], &len);

        ok = msc_context_open(o, data, len, plain, &kind, &err);
        g_assert_true(ok == !err);
    }
    msc_context_opener_free(o);
    return ok && kind == MSC_CHUNK_END;
}

static void test_round_trip(void)
{
    static const int order[] = { 0, 1, 2 };

    for (const MscSuite *const *suite = msc_suites(); *suite; suite++) {
        g_autoptr(MscSession) session = session_new(*suite);
        g_autoptr(GByteArray) plain = g_byte_array_new();
        GBytes *chunks[CHUNKS];

        seal_all(session, chunks);
        g_assert_true(open_all(session, chunks, order, CHUNKS, plain));
        g_assert_cmpmem(plain->data, plain->len, "onetwo", 6);
        /* Encrypted even where the stream is not. */
        for (int i = 0; i < CHUNKS; i++) {
            gsize len;
            const void *data = g_bytes_get_data(chunks[i], &len);

            g_assert_null(memmem(data, len, "one", 3));
            g_assert_null(memmem(data, len, "two", 3));
        }
        free_all(chunks);
    }
}

static void test_order(void)
{
    static const struct {
        int order[4];
        size_t n;
    } wrong[] = {
        { { 1, 0, 2 }, 3 },    /* swapped */
        { { 0, 0, 1, 2 }, 4 }, /* replayed */
        { { 0, 2 }, 2 },       /* dropped */
        { { 2 }, 1 },          /* all dropped */
        { { 0, 1 }, 2 },       /* no END */
        { { 0, 1, 2, 2 }, 4 }, /* after the END */
    };
    g_autoptr(MscSession) session = session_new(*msc_suites());
    GBytes *chunks[CHUNKS];

    seal_all(session, chunks);
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GByteArray) plain = g_byte_array_new();

        g_assert_false(
            open_all(session, chunks, wrong[i].order, wrong[i].n, plain));
    }
    free_all(chunks);
}

static void test_changed_byte(void)
{
    g_autoptr(MscSession) session = session_new(*msc_suites());
    GBytes *chunks[CHUNKS];
    const uint8_t *good;
    gsize len;

    seal_all(session, chunks);
    good = g_bytes_get_data(chunks[0], &len);
    /* At @at == len: the control, unchanged. */
    for (gsize at = 0; at <= len; at++) {
        MscContextOpener *o = msc_context_opener_new(session, NULL);
        g_autoptr(GByteArray) plain = g_byte_array_new();
        g_autofree uint8_t *bad = g_memdup2(good, len);
        MscChunkKind kind;

        if (at < len) {
            bad[at] ^= 0x10;
        }
        g_assert_true(msc_context_open(o, bad, len, plain, &kind, NULL) ==
                      (at == len));
        g_assert_cmpuint(plain->len, ==, at == len ? 3 : 0);
        /* Once refused, the rest is refused as well. */
        g_assert_true(at == len ||
                      !msc_context_open(o, good, len, plain, &kind, NULL));
        msc_context_opener_free(o);
    }
    for (gsize cut = 0; cut < len; cut++) {
        MscContextOpener *o = msc_context_opener_new(session, NULL);
        g_autoptr(GByteArray) plain = g_byte_array_new();
        MscChunkKind kind;

        g_assert_false(msc_context_open(o, good, cut, plain, &kind, NULL));
        msc_context_opener_free(o);
    }
    free_all(chunks);
}

static void test_other_session(void)
{
    static const int order[] = { 0, 1, 2 };
    g_autoptr(MscSession) session = session_new(*msc_suites());
    g_autoptr(MscSession) other = session_new(*msc_suites());
    g_autoptr(GByteArray) plain = g_byte_array_new();
    uint8_t *const bound[] = { other->migration_id, other->vm,
                               other->context_key };
    GBytes *chunks[CHUNKS];

    seal_all(session, chunks);
    for (size_t i = 0; i < G_N_ELEMENTS(bound); i++) {
        *bound[i] ^= 1;
        g_assert_false(open_all(other, chunks, order, CHUNKS, plain));
        *bound[i] ^= 1;
    }
    g_assert_cmpuint(plain->len, ==, 0);
    g_assert_true(open_all(other, chunks, order, CHUNKS, plain));
    free_all(chunks);
}

static void test_size(void)
{
    g_autoptr(MscSession) session = session_new(*msc_suites());
    MscContextSealer *s = msc_context_sealer_new(session, NULL);
    MscContextOpener *o = msc_context_opener_new(session, NULL);
    g_autofree uint8_t *big = g_malloc0(MSC_CHUNK_PLAIN_MAX + 1);
    g_autoptr(GByteArray) plain = g_byte_array_new();
    g_autoptr(GBytes) chunk = NULL;
    gsize len;
    const void *data;
    MscChunkKind kind;

    g_assert_null(msc_context_seal(s, big, MSC_CHUNK_PLAIN_MAX + 1, NULL));
    chunk = msc_context_seal(s, big, MSC_CHUNK_PLAIN_MAX, NULL);
    data = g_bytes_get_data(chunk, &len);
    g_assert_cmpuint(len, <=, MSC_CHUNK_MAX);
    g_assert_true(msc_context_open(o, data, len, plain, &kind, NULL));
    g_assert_cmpuint(plain->len, ==, MSC_CHUNK_PLAIN_MAX);
    msc_context_sealer_free(s);
    msc_context_opener_free(o);
}

/* The END covers batches, and none can pass for a piece of the context. */
static void test_batches(void)
{
    static const struct {
        int first, relabel; /* -1: not */
        bool fine;
    } rows[] = {
        { 0, -1, true },
        { 1, -1, false },                 /* the batch is left out */
        { 0, MSC_CHUNK_DATA, false },     /* it says that it is none */
        { 0, MSC_CHUNK_BATCH + 1, false } /* or what nobody knows */
    };
    g_autoptr(MscSession) session = session_new(*msc_suites());
    MscContextSealer *s = msc_context_sealer_new(session, NULL);
    GBytes *chunks[3];

    chunks[0] = msc_context_seal_batch(s, "batch", 5, NULL);
    chunks[1] = msc_context_seal(s, "context", 7, NULL);
    chunks[2] = msc_context_seal_end(s, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        MscContextOpener *o = msc_context_opener_new(session, NULL);
        g_autoptr(GByteArray) plain = g_byte_array_new();
        MscChunkKind kind = MSC_CHUNK_DATA;
        bool ok = true;

        for (int c = rows[i].first; ok && c < 3; c++) {
            gsize len;
            const void *data = g_bytes_get_data(chunks[c], &len);
            g_autofree uint8_t *copy = g_memdup2(data, len);

            if (c == 0 && rows[i].relabel >= 0) {
                copy[8] = (uint8_t)rows[i].relabel;
            }
            ok = msc_context_open(o, copy, len, plain, &kind, NULL);
            g_assert_true(!ok || (kind == MSC_CHUNK_BATCH) == (c == 0));
        }
        g_assert_true((ok && kind == MSC_CHUNK_END) == rows[i].fine);
        msc_context_opener_free(o);
    }
    msc_context_sealer_free(s);
    free_all(chunks);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/seal/round-trip-in-every-suite", test_round_trip);
    g_test_add_func("/seal/wrong-order-is-refused", test_order);
    g_test_add_func("/seal/changed-byte-is-refused", test_changed_byte);
    g_test_add_func("/seal/other-session-is-refused", test_other_session);
    g_test_add_func("/seal/largest-chunk", test_size);
    g_test_add_func("/seal/batches", test_batches);
    return g_test_run();
}
