/*
 * Changes flows of the bench's guest at a rate, until it is ended: what a busy
 * guest's traffic does to the table.
 *
 *   bench-churn FLOWS PER-SECOND
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>

#include "conntrack-lab.h"
#include "error.h"

/* As bench/handoff.py makes them. */
#define PORTS 50000
#define BATCH 100

static MscFlow *flow_number(guint i)
{
    g_autofree char *peer = g_strdup_printf("192.0.2.%u", 1 + i / PORTS);

    return lab_flow(IPPROTO_TCP, GUEST, (uint16_t)(1024 + i % PORTS), peer,
                    443);
}

int main(int argc, char **argv)
{
    guint flows = argc > 1 ? (guint)strtoul(argv[1], NULL, 10) : 0;
    guint rate = argc > 2 ? (guint)strtoul(argv[2], NULL, 10) : 0;
    g_autoptr(GError) err = NULL;
    g_autoptr(MscCt) ct = msc_ct_open(&err);
    gint64 next = g_get_monotonic_time();
    int results[BATCH];

    if (!flows || !rate) {
        fprintf(stderr, "Usage: bench-churn FLOWS PER-SECOND\n");
        return 2;
    }
    g_assert_no_error(err);
    for (guint at = 0;; at += BATCH) {
        g_autoptr(GPtrArray) some = msc_flows_new();
        gint64 now = g_get_monotonic_time();

        for (guint i = 0; i < BATCH; i++) {
            /* All over the table. */
            g_ptr_array_add(some, flow_number((at + i) * 7919u % flows));
        }
        /* An update that says what is so already is an event all the same. */
        msc_ct_run(ct, MSC_CT_STRICT, some, results, NULL, &err);
        g_assert_no_error(err);
        next += (gint64)BATCH * G_USEC_PER_SEC / rate;
        if (next > now) {
            g_usleep((gulong)(next - now));
        }
    }
}
