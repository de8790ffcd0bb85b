/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "reconcile-message.h"

#include <string.h>

#include "error.h"
#include "format.h"

#define RECONCILE_MAGIC 0x4d534352u /* "MSCR" */
#define RECONCILE_VERSION 1

static void put_bytes(GByteArray *out, GBytes *bytes)
{
    gsize len;
    const void *data = g_bytes_get_data(bytes, &len);

    msc_put_bytes(out, data, len);
}

GBytes *msc_reconcile_question_encode(const uint8_t id[MSC_PROOF_ID_LEN],
                                      GBytes *proof)
{
    GByteArray *out = g_byte_array_new();

    msc_put_u32(out, RECONCILE_MAGIC);
    msc_put_u8(out, RECONCILE_VERSION);
    for (int i = 0; i < 3; i++) {
        msc_put_u8(out, 0);
    }
    msc_put_bytes(out, id, MSC_PROOF_ID_LEN);
    if (proof) {
        put_bytes(out, proof);
    }
    return g_byte_array_free_to_bytes(out);
}

/* All that is left is one proof. */
static GBytes *take_proof(MscReader *r)
{
    size_t len = msc_reader_left(r);
    const uint8_t *data;

    return len == MSC_PROOF_LEN && msc_reader_view(r, &data, len)
               ? g_bytes_new(data, len)
               : NULL;
}

bool msc_reconcile_question_decode(GBytes *bytes, MscReconcileQuestion *q,
                                   GError **errp)
{
    static const uint8_t zero[3];
    const uint8_t *got;
    uint8_t version;
    uint32_t magic;
    MscReader r;

    memset(q, 0, sizeof(*q));
    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    if (!msc_reader_u32(&r, &magic) || magic != RECONCILE_MAGIC ||
        !msc_reader_u8(&r, &version) || version != RECONCILE_VERSION ||
        !msc_reader_view(&r, &got, sizeof(zero)) ||
        memcmp(got, zero, sizeof(zero)) ||
        !msc_reader_copy(&r, q->id, sizeof(q->id)) ||
        (msc_reader_left(&r) && !(q->proof = take_proof(&r)))) {
        return msc_reader_error(&r, errp, "reconciling", "malformed question");
    }
    return true;
}

void msc_reconcile_question_clear(MscReconcileQuestion *q)
{
    g_clear_pointer(&q->proof, g_bytes_unref);
}

GBytes *msc_reconcile_answer_encode(MscReconcileWord word, GBytes *proof)
{
    GByteArray *out = g_byte_array_new();

    g_assert((word == MSC_RECONCILE_PROOF) == (proof != NULL));
    msc_put_u8(out, (uint8_t)word);
    if (proof) {
        put_bytes(out, proof);
    }
    return g_byte_array_free_to_bytes(out);
}

bool msc_reconcile_answer_decode(GBytes *bytes, MscReconcileWord *word,
                                 GBytes **proof, GError **errp)
{
    uint8_t got;
    MscReader r;

    *proof = NULL;
    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    if (!msc_reader_u8(&r, &got) || got < MSC_RECONCILE_WAIT ||
        got > MSC_RECONCILE_PROOF ||
        (got == MSC_RECONCILE_PROOF && !(*proof = take_proof(&r)))) {
        return msc_reader_error(&r, errp, "reconciling", "malformed answer");
    }
    *word = (MscReconcileWord)got;
    if (!msc_reader_end(&r, errp, "reconciling")) {
        g_clear_pointer(proof, g_bytes_unref);
        return false;
    }
    return true;
}
