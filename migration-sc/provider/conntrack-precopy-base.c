/*
 * Pre-copy on the source that begins with what the other host has: all of it
 * counts as sent, and what differs is sent or withdrawn.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-precopy-private.h"
#include "error.h"

void msc_ct_source_forget_base(MscCtSource *p)
{
    g_clear_pointer(&p->known, msc_known_free);
    p->base = NULL;
}

void msc_ct_source_base(gpointer memory, const MscBase *base)
{
    MscCtSource *p = memory;

    p->base = base;
    p->known = msc_known_new();
}

bool msc_ct_source_drop_known(MscCtSource *p, guint from, GError **errp)
{
    for (guint i = p->pending->len; i > from; i--) {
        const MscFlow *flow = p->pending->pdata[i - 1];
        bool moves;

        if (!msc_ct_source_can_move(p, flow, &moves, errp)) {
            return false;
        }
        /* One that does not is left of the base, and withdrawn. */
        if (moves && msc_known_look(p->known, flow) != MSC_KNOWN_SAME) {
            continue;
        }
        if (moves) {
            msc_ct_source_note_sent(p, flow);
        }
        g_ptr_array_remove_index_fast(p->pending, i - 1);
    }
    return true;
}

/* The next step of the base: the other host stages it, and here it counts as
 * sent.  False: it cannot be read. */
static bool read_base(MscCtSource *p, MscPrecopyProgress *progress,
                      GError **errp)
{
    while (!p->base_read && progress->based < MSC_BASE_STEP) {
        g_autoptr(MscBatch) batch = NULL;
        uint64_t age_us;
        int got = msc_known_read(p->base, &batch, &age_us, errp);

        if (got < 0) {
            return false;
        }
        if (!got) {
            p->base_read = true;
            return true;
        }
        msc_known_add(p->known, batch, age_us);
        for (guint i = 0; i < batch->gone->len; i++) {
            g_autoptr(GBytes) key = msc_flow_key(batch->gone->pdata[i]);

            g_hash_table_remove(p->sent, msc_ct_source_hash(key));
        }
        for (guint i = 0; i < batch->payload->flows->len; i++) {
            g_autoptr(GBytes) key =
                msc_flow_key(batch->payload->flows->pdata[i]);

            g_hash_table_add(p->sent, msc_ct_source_hash(key));
        }
        p->base_batches++;
        progress->based++;
    }
    return true;
}

bool msc_ct_source_settle_base(MscCtSource *p, guint max, GError **errp)
{
    guint found = 0;

    if (!p->base_settled && !p->base->rewind(p->base->opaque, errp)) {
        return false;
    }
    while (found < max && p->base_settled < p->base_batches) {
        g_autoptr(MscBatch) batch = NULL;
        uint64_t age_us;

        int got = msc_known_read(p->base, &batch, &age_us, errp);

        if (!got) {
            g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                                "it has become shorter");
        }
        if (got != 1) {
            return false;
        }
        p->base_settled++;
        for (guint i = 0; i < batch->payload->flows->len; i++) {
            g_autoptr(GBytes) key =
                msc_flow_key(batch->payload->flows->pdata[i]);

            if (msc_known_is_left(p->known, key)) {
                msc_known_settle(p->known, key);
                msc_ct_source_touch(p, key);
                found++;
            }
        }
    }
    if (p->base_settled == p->base_batches) {
        msc_ct_source_go_live(p);
    }
    return true;
}

bool msc_ct_source_step_base(MscCtSource *p, MscPrecopyProgress *progress,
                             GError **errp)
{
    if (!p->base_read) {
        return read_base(p, progress, errp);
    }
    return p->scan || p->pending->len ||
           msc_ct_source_settle_base(p, MSC_BATCH_FLOWS, errp);
}
