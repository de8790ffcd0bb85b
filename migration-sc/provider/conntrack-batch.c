/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-batch.h"

#define WHAT "conntrack batch"

MscBatch *msc_batch_new(void)
{
    MscBatch *batch = g_new(MscBatch, 1);

    batch->gone = msc_flows_new();
    batch->payload = msc_payload_new();
    return batch;
}

void msc_batch_free(MscBatch *batch)
{
    if (batch) {
        g_ptr_array_unref(batch->gone);
        msc_payload_free(batch->payload);
        g_free(batch);
    }
}

GBytes *msc_batch_encode(const MscBatch *batch)
{
    GByteArray *out = g_byte_array_new();

    msc_tuples_encode(batch->gone, out);
    msc_flows_encode(batch->payload->flows, out);
    msc_expects_encode(batch->payload->expects, out);
    return g_byte_array_free_to_bytes(out);
}

static bool no_tuple_twice(const GPtrArray *gone)
{
    g_autoptr(GHashTable) keys =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                              (GDestroyNotify)g_bytes_unref, NULL);

    for (guint i = 0; i < gone->len; i++) {
        if (!g_hash_table_add(keys, msc_flow_key(gone->pdata[i]))) {
            return false;
        }
    }
    return true;
}

MscBatch *msc_batch_decode(GBytes *bytes, GError **errp)
{
    g_autoptr(GPtrArray) gone = NULL;
    g_autoptr(GPtrArray) flows = NULL;
    g_autoptr(GPtrArray) expects = NULL;
    MscBatch *batch;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    gone = msc_tuples_decode(&r, errp);
    if (!gone) {
        return NULL;
    }
    if (!no_tuple_twice(gone)) {
        msc_reader_error(&r, errp, WHAT, "withdraws a flow twice");
        return NULL;
    }
    flows = msc_flows_decode(&r, errp);
    expects = flows ? msc_expects_decode(&r, errp) : NULL;
    if (!expects || !msc_reader_end(&r, errp, WHAT)) {
        return NULL;
    }
    batch = g_new(MscBatch, 1);
    batch->gone = g_steal_pointer(&gone);
    batch->payload =
        msc_payload_of(g_steal_pointer(&flows), g_steal_pointer(&expects));
    return batch;
}
