/*
 * The strict decoders: every truncation, and one byte too many.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>

#include "admission.h"
#include "batch.h"
#include "context.h"
#include "error.h"
#include "helper-messages.h"
#include "proof.h"
#include "reconcile-message.h"

typedef bool Decode(const void *data, size_t len, GError **errp);

/* Whole: decodes. Any part, or with a byte more: an error, no crash. */
static void check_strict(const GByteArray *whole, Decode *decode)
{
    g_autofree uint8_t *more = g_malloc0(whole->len + 1);

    g_assert_true(decode(whole->data, whole->len, NULL));
    for (guint len = 0; len < whole->len; len++) {
        /* On the heap and no longer than it says, for the sanitizer. */
        g_autofree uint8_t *part = g_memdup2(whole->data, len);
        g_autoptr(GError) err = NULL;

        g_assert_false(decode(part, len, &err));
        g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
    }
    memcpy(more, whole->data, whole->len);
    g_assert_false(decode(more, whole->len + 1, NULL));
}

static bool decode_context(const void *data, size_t len, GError **errp)
{
    g_autoptr(MscContext) c = msc_context_decode(data, len, errp);

    return c != NULL;
}

static void test_context(void)
{
    g_autoptr(MscContext) c = msc_context_new();
    g_autoptr(GBytes) one = g_bytes_new_static("abc", 3);
    g_autoptr(GBytes) bytes = NULL;
    GByteArray whole;

    msc_sections_add(c->sections, "zeta", 2, 1, one);
    msc_sections_add(c->sections, "alpha", 1, 1, one);
    bytes = msc_context_encode(c);
    whole.data = (guint8 *)g_bytes_get_data(bytes, NULL);
    whole.len = (guint)g_bytes_get_size(bytes);
    check_strict(&whole, decode_context);
}

static bool decode_batch(const void *data, size_t len, GError **errp)
{
    MscBatchMessage batch;
    bool ok = msc_batch_message_decode(data, len, &batch, errp);

    if (ok) {
        g_ptr_array_unref(batch.sections);
    }
    return ok;
}

static void test_batch(void)
{
    g_autoptr(GPtrArray) sections = msc_sections_new();
    const MscBatchMessage batch = { MSC_BATCH_ANEW, 77, sections };
    g_autoptr(GBytes) data = g_bytes_new_static("abc", 3);
    g_autoptr(GBytes) bytes = NULL;
    MscBatchMessage back;
    GByteArray whole;

    msc_sections_add(sections, "conntrack", 2, 2, data);
    bytes = msc_batch_message_encode(&batch);
    whole.data = (guint8 *)g_bytes_get_data(bytes, NULL);
    whole.len = (guint)g_bytes_get_size(bytes);
    check_strict(&whole, decode_batch);
    g_assert_true(msc_batch_message_decode(whole.data, whole.len, &back, NULL));
    g_assert_cmpuint(back.flags, ==, MSC_BATCH_ANEW);
    g_assert_cmpuint(back.boot_us, ==, 77);
    g_assert_nonnull(msc_sections_find(back.sections, "conntrack"));
    g_ptr_array_unref(back.sections);
}

/* To begin anew and to count on what was before exclude each other. */
static void test_batch_flags(void)
{
    g_autoptr(GPtrArray) sections = msc_sections_new();
    MscBatchMessage batch = { 0, 77, sections };

    for (; batch.flags < 8; batch.flags++) {
        g_autoptr(GBytes) bytes = msc_batch_message_encode(&batch);
        g_autoptr(GError) err = NULL;

        g_assert_true(decode_batch(g_bytes_get_data(bytes, NULL),
                                   g_bytes_get_size(bytes),
                                   &err) == (batch.flags <= MSC_BATCH_BASED));
    }
}

/* The largest batch of a provider with the longest name fits a chunk. */
static void test_batch_fits(void)
{
    g_autoptr(GPtrArray) sections = msc_sections_new();
    const MscBatchMessage batch = { 0, 77, sections };
    g_autofree char *name = g_strnfill(MSC_NAME_MAX, 'x');
    g_autofree uint8_t *zero = g_malloc0(MSC_BATCH_PAYLOAD_MAX);
    g_autoptr(GBytes) data = g_bytes_new(zero, MSC_BATCH_PAYLOAD_MAX);
    g_autoptr(GBytes) bytes = NULL;

    msc_sections_add(sections, name, 2, 2, data);
    bytes = msc_batch_message_encode(&batch);
    g_assert_cmpuint(g_bytes_get_size(bytes), ==, MSC_CHUNK_PLAIN_MAX);
}

static void test_sections_twice(void)
{
    g_autoptr(MscContext) c = msc_context_new();
    g_autoptr(GBytes) one = g_bytes_new_static("abc", 3);
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GError) err = NULL;

    msc_sections_add(c->sections, "same", 1, 1, one);
    msc_sections_add(c->sections, "same", 1, 1, one);
    bytes = msc_context_encode(c);
    g_assert_false(decode_context(g_bytes_get_data(bytes, NULL),
                                  g_bytes_get_size(bytes), &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
}

static bool decode_request(const void *data, size_t len, GError **errp)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, len);
    MscAdmissionRequest r;

    if (!msc_admission_request_decode(bytes, &r, errp)) {
        return false;
    }
    g_ptr_array_unref(r.sections);
    return true;
}

static bool decode_answer(const void *data, size_t len, GError **errp)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, len);
    MscAdmissionAnswer a;

    if (!msc_admission_answer_decode(bytes, &a, errp)) {
        return false;
    }
    g_ptr_array_unref(a.sections);
    return true;
}

static void test_admission(void)
{
    g_autoptr(GPtrArray) sections = msc_sections_new();
    g_autoptr(GBytes) one = g_bytes_new_static("abc", 3);
    MscAdmissionRequest request = { .flags = MSC_ADMISSION_CONTEXT,
                                    .sections = sections };
    MscAdmissionAnswer answer = { .sections = sections };
    g_autoptr(GBytes) a = NULL;
    g_autoptr(GBytes) b = NULL;
    GByteArray whole;

    msc_sections_add(sections, "conntrack", 1, 1, one);
    a = msc_admission_request_encode(&request);
    whole.data = (guint8 *)g_bytes_get_data(a, NULL);
    whole.len = (guint)g_bytes_get_size(a);
    check_strict(&whole, decode_request);
    b = msc_admission_answer_encode(&answer);
    whole.data = (guint8 *)g_bytes_get_data(b, NULL);
    whole.len = (guint)g_bytes_get_size(b);
    check_strict(&whole, decode_answer);
}

static bool decode_open(const void *data, size_t len, GError **errp)
{
    MscOpenMessage m;

    return msc_open_decode(data, len, &m, errp);
}

static bool decode_channel(const void *data, size_t len, GError **errp)
{
    MscChannelMessage m;
    bool ok = msc_channel_decode(data, len, &m, errp);

    msc_channel_message_clear(&m);
    return ok;
}

static bool decode_keys(const void *data, size_t len, GError **errp)
{
    MscKeysMessage m;
    bool ok = msc_keys_decode(data, len, &m, errp);

    if (ok) {
        msc_keys_message_clear(&m);
    }
    return ok;
}

static bool decode_attach(const void *data, size_t len, GError **errp)
{
    MscAttachMessage m;

    return msc_attach_decode(data, len, &m, errp);
}

static void test_helper_messages(void)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    MscOpenMessage open = { .role = MSC_ROLE_SOURCE };
    MscAttachMessage attach = { .role = MSC_ROLE_SOURCE };
    MscChannelMessage channel = { .kind = 1, .expected_peer = (char *)"b" };
    MscKeysMessage keys = { .kind = 1,
                            .suite = 3,
                            .suite_name = (char *)"s",
                            .kem = (char *)"",
                            .peer = (char *)"b" };

    strcpy(open.vm, "01234567-89ab-cdef-0123-456789abcdef");
    strcpy(attach.vm, open.vm);
    msc_open_encode(&open, out);
    check_strict(out, decode_open);
    g_byte_array_set_size(out, 0);
    open.transport_only = true;
    msc_open_encode(&open, out);
    check_strict(out, decode_open);
    g_assert_cmpuint(out->data[2], ==,
                     MSC_ROLE_SOURCE | MSC_OPEN_TRANSPORT_ONLY);
    open.transport_only = false;
    g_assert_true(msc_open_decode(out->data, out->len, &open, NULL));
    g_assert_true(open.transport_only);
    /* Any other bit is no role. */
    out->data[2] |= 0x40;
    g_assert_false(msc_open_decode(out->data, out->len, &open, NULL));
    g_byte_array_set_size(out, 0);
    msc_attach_encode(&attach, out);
    check_strict(out, decode_attach);
    g_byte_array_set_size(out, 0);
    msc_channel_encode(&channel, out);
    check_strict(out, decode_channel);
    g_byte_array_set_size(out, 0);
    msc_keys_encode(&keys, out);
    check_strict(out, decode_keys);
}

static bool decode_frozen(const GByteArray *p, guint expected, bool *more)
{
    GQueue chunks = G_QUEUE_INIT;
    MscContextStats stats;
    bool ok = msc_frozen_decode(p->data, p->len, &stats, &chunks, more, NULL);

    if (ok) {
        g_assert_cmpuint(stats.flows, ==, 7);
        g_assert_cmpuint(g_queue_get_length(&chunks), ==, expected);
    }
    g_queue_clear_full(&chunks, (GDestroyNotify)g_bytes_unref);
    return ok;
}

/* FREEZE's reply: no chunk is lost, none is made up. */
static void test_frozen(void)
{
    g_autofree uint8_t *large = g_malloc0(MSC_CHUNK_MAX);
    g_autoptr(GBytes) chunk = g_bytes_new("chunk", 5);
    g_autoptr(GBytes) largest = g_bytes_new(large, MSC_CHUNK_MAX);
    g_autoptr(GByteArray) out = g_byte_array_new();
    MscContextStats stats = { .flows = 7 };
    bool more;

    msc_stats_encode(&stats, out);
    g_assert_true(decode_frozen(out, 0, &more));
    g_assert_true(more);
    msc_frozen_put(out, chunk);
    msc_frozen_put(out, chunk);
    g_assert_true(decode_frozen(out, 2, &more));
    g_assert_true(more);
    g_assert_true(msc_frozen_has_room(out, largest));
    msc_frozen_put(out, largest);
    g_assert_false(msc_frozen_has_room(out, largest));
    msc_frozen_put(out, NULL);
    g_assert_cmpuint(out->len, <=, MSC_HELPER_PAYLOAD_MAX);
    g_assert_true(decode_frozen(out, 3, &more));
    g_assert_false(more);

    /* After the last one, and cut short. */
    msc_put_u8(out, 0);
    g_assert_false(decode_frozen(out, 3, &more));
    g_byte_array_set_size(out, out->len - 2);
    g_assert_false(decode_frozen(out, 3, &more));
    g_byte_array_set_size(out, 31);
    g_assert_false(decode_frozen(out, 0, &more));
    /* Longer than a chunk may be. */
    g_byte_array_set_size(out, 0);
    msc_stats_encode(&stats, out);
    msc_put_u32(out, MSC_CHUNK_MAX + 1);
    g_byte_array_append(out, large, MSC_CHUNK_MAX);
    msc_put_u8(out, 0);
    g_assert_false(decode_frozen(out, 1, &more));
}

static void test_proof(void)
{
    uint8_t id[MSC_PROOF_ID_LEN] = { 1 }, token[MSC_PROOF_TOKEN_LEN] = { 2 };
    uint8_t commitment[MSC_COMMITMENT_LEN];
    g_autoptr(GBytes) proof = NULL;
    g_autofree uint8_t *copy = NULL;
    gsize len;

    msc_proof_commit(MSC_PROOF_READY, token, commitment);
    proof = msc_proof_encode(MSC_PROOF_READY, id, token);
    copy = g_memdup2(g_bytes_get_data(proof, &len), g_bytes_get_size(proof));
    len = g_bytes_get_size(proof);
    g_assert_true(
        msc_proof_check(MSC_PROOF_READY, copy, len, id, commitment, NULL));
    g_assert_false(
        msc_proof_check(MSC_PROOF_RELEASE, copy, len, id, commitment, NULL));
    g_assert_false(
        msc_proof_check(MSC_PROOF_READY, copy, len - 1, id, commitment, NULL));
    for (gsize i = 0; i < len; i++) {
        copy[i] ^= 1;
        g_assert_false(
            msc_proof_check(MSC_PROOF_READY, copy, len, id, commitment, NULL));
        copy[i] ^= 1;
    }
}

static void test_long_reason(void)
{
    g_autofree char *text = g_strnfill(3 * MSC_REASON_MAX, 'x');
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree char *back = NULL;

    memcpy(text + MSC_REASON_MAX - 1, "\xc3\xa4", 2); /* across the cut */
    msc_text_encode(text, out);
    g_assert_true(msc_text_decode(out->data, out->len, &back, NULL));
    g_assert_cmpuint(strlen(back), ==, MSC_REASON_MAX - 1);
}

static bool decode_question(const void *data, size_t len, GError **errp)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, len);
    MscReconcileQuestion q;
    bool whole = msc_reconcile_question_decode(bytes, &q, errp);

    if (whole && !q.proof) {
        /* That of a destination; a source's is longer. */
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED, "");
        whole = false;
    }
    msc_reconcile_question_clear(&q);
    return whole;
}

static bool decode_word(const void *data, size_t len, GError **errp)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, len);
    g_autoptr(GBytes) proof = NULL;
    MscReconcileWord word;

    return msc_reconcile_answer_decode(bytes, &word, &proof, errp);
}

static void test_reconcile(void)
{
    static const uint8_t id[MSC_PROOF_ID_LEN] = { 5 };
    static const uint8_t token[MSC_PROOF_TOKEN_LEN] = { 6 };
    g_autoptr(GBytes) proof = msc_proof_encode(MSC_PROOF_RELEASE, id, token);
    g_autoptr(GBytes) bare = msc_reconcile_question_encode(id, NULL);
    g_autoptr(GByteArray) question =
        g_bytes_unref_to_array(msc_reconcile_question_encode(id, proof));
    g_autoptr(GByteArray) answer = g_bytes_unref_to_array(
        msc_reconcile_answer_encode(MSC_RECONCILE_PROOF, proof));
    g_autoptr(GByteArray) wait = g_bytes_unref_to_array(
        msc_reconcile_answer_encode(MSC_RECONCILE_WAIT, NULL));
    MscReconcileQuestion q;

    g_assert_true(msc_reconcile_question_decode(bare, &q, NULL));
    g_assert_cmpmem(q.id, sizeof(q.id), id, sizeof(id));
    g_assert_null(q.proof);
    check_strict(question, decode_question);
    check_strict(answer, decode_word);
    check_strict(wait, decode_word);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/batch", test_batch);
    g_test_add_func("/wire/batch-flags", test_batch_flags);
    g_test_add_func("/wire/batch-fits-a-chunk", test_batch_fits);
    g_test_add_func("/wire/context", test_context);
    g_test_add_func("/wire/sections-twice", test_sections_twice);
    g_test_add_func("/wire/admission", test_admission);
    g_test_add_func("/wire/helper-messages", test_helper_messages);
    g_test_add_func("/wire/frozen", test_frozen);
    g_test_add_func("/wire/proof", test_proof);
    g_test_add_func("/wire/reconcile", test_reconcile);
    g_test_add_func("/wire/long-reason-is-cut-at-a-character",
                    test_long_reason);
    return g_test_run();
}
