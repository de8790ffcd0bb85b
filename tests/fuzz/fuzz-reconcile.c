/*
 * Question and answer of two helpers that reconcile: what is taken encodes to
 * the same bytes again.
 *
 * First byte: which of the two.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fuzz.h"
#include "reconcile-message.h"

static GBytes *question(GBytes *in, GError **errp)
{
    MscReconcileQuestion q;
    GBytes *out;

    if (!msc_reconcile_question_decode(in, &q, errp)) {
        return NULL;
    }
    out = msc_reconcile_question_encode(q.id, q.proof);
    msc_reconcile_question_clear(&q);
    return out;
}

static GBytes *answer(GBytes *in, GError **errp)
{
    g_autoptr(GBytes) proof = NULL;
    MscReconcileWord word;

    return msc_reconcile_answer_decode(in, &word, &proof, errp)
               ? msc_reconcile_answer_encode(word, proof)
               : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) in = NULL;
    g_autoptr(GBytes) out = NULL;
    g_autoptr(GError) err = NULL;

    if (!size) {
        return 0;
    }
    in = g_bytes_new(data + 1, size - 1);
    out = data[0] & 1 ? question(in, &err) : answer(in, &err);
    fuzz_must((out != NULL) == !err);
    if (out) {
        fuzz_must(g_bytes_equal(in, out));
    }
    return 0;
}
