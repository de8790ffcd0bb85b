/*
 * What a migration that begins with a base would send, without one.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-collect.h"
#include "conntrack-known.h"
#include "conntrack-precopy.h"

/* A list's count comes once for many. */
#define COUNT_BYTES 4

typedef void Encode(const GPtrArray *flows, GByteArray *out);

static uint64_t bytes_of(MscFlow *flow, Encode *encode)
{
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    g_autoptr(GByteArray) out = g_byte_array_new();

    g_ptr_array_add(one, flow);
    encode(one, out);
    return out->len - COUNT_BYTES;
}

static void count_flow(MscKnown *known, MscFlow *flow, MscBaseDiff *diff)
{
    uint64_t bytes = bytes_of(flow, msc_flows_encode);
    g_autoptr(GBytes) key = NULL;

    diff->whole += bytes;
    switch (msc_known_look(known, flow)) {
    case MSC_KNOWN_SAME:
        diff->same++;
        return;
    case MSC_KNOWN_OTHER:
        diff->changed++;
        break;
    case MSC_KNOWN_NOT:
        diff->added++;
        break;
    }
    diff->bytes += bytes;
    key = msc_flow_key(flow);
    msc_known_settle(known, key);
}

/* Reads @base from its beginning; @left: counts what nothing was seen of. */
static bool read_base(const MscBase *base, MscKnown *known, MscBaseDiff *left,
                      GError **errp)
{
    bool ok = base->rewind(base->opaque, errp);

    for (int got = 1; ok && got == 1;) {
        g_autoptr(MscBatch) batch = NULL;
        uint64_t age_us;

        got = msc_known_read(base, &batch, &age_us, errp);
        ok = got >= 0;
        if (got == 1 && !left) {
            msc_known_add(known, batch, age_us);
        }
        for (guint i = 0; got == 1 && left && i < batch->payload->flows->len;
             i++) {
            MscFlow *flow = batch->payload->flows->pdata[i];
            g_autoptr(GBytes) key = msc_flow_key(flow);

            if (msc_known_is_left(known, key)) {
                msc_known_settle(known, key);
                left->gone++;
                left->bytes += bytes_of(flow, msc_tuples_encode);
            }
        }
    }
    return ok;
}

bool msc_ct_compare(const MscSelector *selector, const MscBase *base,
                    MscBaseDiff *diff, GError **errp)
{
    g_autoptr(MscKnown) known = msc_known_new();
    g_autoptr(GPtrArray) flows = msc_flows_new();
    g_autoptr(MscScan) scan = NULL;
    bool done = false;

    *diff = (MscBaseDiff){ 0 };
    if (!read_base(base, known, NULL, errp) ||
        !(scan = msc_scan_new(selector, errp))) {
        return false;
    }
    while (!done) {
        if (!msc_scan_next(scan, flows, &done, errp)) {
            return false;
        }
        for (guint i = 0; i < flows->len; i++) {
            count_flow(known, flows->pdata[i], diff);
        }
        g_ptr_array_set_size(flows, 0);
    }
    return read_base(base, known, diff, errp);
}
