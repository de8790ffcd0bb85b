/*
 * Would you take this guest?  Question and answer between helpers: what is
 * taken encodes to the same bytes again, and never is it taken for the other
 * question that a helper may ask.
 *
 * First byte: which of the two.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "check-message.h"
#include "fuzz.h"
#include "reconcile-message.h"

static GBytes *question(GBytes *in, GError **errp)
{
    uint8_t vm[MSC_CONTEXT_UUID_LEN];
    g_autoptr(GBytes) admission = msc_check_question_decode(in, vm, errp);
    MscReconcileQuestion other;

    if (!admission) {
        return NULL;
    }
    fuzz_must(msc_check_is_question(in));
    fuzz_must(!msc_reconcile_question_decode(in, &other, NULL));
    msc_reconcile_question_clear(&other);
    return msc_check_question_encode(vm, admission);
}

static GBytes *answer(GBytes *in, GError **errp)
{
    return msc_check_answer_decode(in, "host", errp) ? msc_check_answer_encode()
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
