/*
 * Ends the lenient handling of restored TCP flows, each when its packets were
 * counted in both directions.
 *
 * A quiet flow must stay lenient until it speaks, which may be days; so the
 * work is bounded instead: only flows known to be lenient are asked for, one
 * by one, at most ASKED_MAX in a call, and while none of them speaks the
 * calls do nothing for longer and longer, up to a minute.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>

#include "conntrack-batch.h"
#include "conntrack-netlink.h"
#include "conntrack-stage.h"
#include "error.h"

/* About 50 ms on two busy cores, with the transfer locked. */
#define ASKED_MAX 4096
#define PAUSE_MIN G_USEC_PER_SEC
#define PAUSE_MAX (60 * G_USEC_PER_SEC)

typedef struct {
    GPtrArray *lenient; /* of MscFlow, as in the payload */
    guint next;         /* to be asked for */
    gint64 pause, wake; /* microseconds, monotonic */
} Settling;

static Settling *settling_of(MscPayload *all)
{
    Settling *st = g_new0(Settling, 1);

    st->lenient = msc_flows_new();
    st->pause = PAUSE_MIN;
    for (guint i = 0; i < all->flows->len; i++) {
        MscFlow *flow = all->flows->pdata[i];

        if (nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO) == IPPROTO_TCP) {
            g_ptr_array_add(st->lenient, flow);
            all->flows->pdata[i] = NULL;
        }
    }
    return st;
}

static Settling *settling_new(GBytes *payload, GError **errp)
{
    g_autoptr(MscPayload) all = msc_payload_decode(payload, errp);

    return all ? settling_of(all) : NULL;
}

void msc_conntrack_settle_end(gpointer memory)
{
    Settling *st = memory;

    if (st) {
        g_ptr_array_unref(st->lenient);
        g_free(st);
    }
}

static bool is_lenient(const MscFlow *flow)
{
    return (nfct_get_attr_u8(flow, ATTR_TCP_FLAGS_ORIG) |
            nfct_get_attr_u8(flow, ATTR_TCP_FLAGS_REPL)) &
           IP_CT_TCP_FLAG_BE_LIBERAL;
}

static bool seen_both_ways(const MscFlow *flow)
{
    return nfct_get_attr_u64(flow, ATTR_ORIG_COUNTER_PACKETS) &&
           nfct_get_attr_u64(flow, ATTR_REPL_COUNTER_PACKETS);
}

/* Takes out what has become NULL, and keeps the place in the list. */
static void drop_settled(Settling *st)
{
    guint left = 0, next = 0;

    for (guint i = 0; i < st->lenient->len; i++) {
        if (i == st->next) {
            next = left;
        }
        if (st->lenient->pdata[i]) {
            st->lenient->pdata[left++] = st->lenient->pdata[i];
        }
    }
    if (st->next < st->lenient->len) {
        st->next = next;
    } else {
        st->next = 0;
    }
    for (guint i = left; i < st->lenient->len; i++) {
        st->lenient->pdata[i] = NULL;
    }
    g_ptr_array_set_size(st->lenient, (gint)left);
}

/* Asks for the next ones; @settled says how many need no more attention. */
static bool ask(MscCt *ct, Settling *st, guint *settled, GError **errp)
{
    guint from = st->next;
    guint count = MIN(ASKED_MAX, st->lenient->len - from);
    g_autofree int *results = g_new0(int, count + 1);
    g_autoptr(GPtrArray) asked = g_ptr_array_new();
    g_autoptr(GPtrArray) strict = g_ptr_array_new();
    g_autoptr(GPtrArray) found = NULL;
    g_autofree bool *done = g_new0(bool, count + 1);

    for (guint i = 0; i < count; i++) {
        g_ptr_array_add(asked, st->lenient->pdata[from + i]);
    }
    if (!msc_ct_run(ct, MSC_CT_FIND, asked, results, &found, errp)) {
        return false;
    }
    for (guint i = 0; i < count; i++) {
        MscFlow *entry = found->pdata[i];

        /* Ended, or a new one that took its place. */
        done[i] = !entry || !is_lenient(entry);
        if (!done[i] && seen_both_ways(entry)) {
            g_ptr_array_add(strict, asked->pdata[i]);
            done[i] = true;
        }
    }
    if (!msc_ct_run(ct, MSC_CT_STRICT, strict, results, NULL, errp)) {
        return false;
    }
    for (guint i = 0; i < strict->len; i++) {
        /* One that ends meanwhile needs no more attention either. */
        if (results[i] && results[i] != ENOENT) {
            g_autofree char *text = msc_flow_describe(strict->pdata[i]);

            g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                        "cannot end the lenient handling of %s: %s", text,
                        g_strerror(results[i]));
            return false;
        }
    }
    st->next += count;
    for (guint i = 0; i < count; i++) {
        if (done[i]) {
            nfct_destroy(st->lenient->pdata[from + i]);
            st->lenient->pdata[from + i] = NULL;
            (*settled)++;
        }
    }
    drop_settled(st);
    return true;
}

guint msc_conntrack_settle(const MscSelector *s, GBytes *payload,
                           gpointer *memory)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscCt) ct = NULL;
    Settling *st = *memory;
    gint64 now = g_get_monotonic_time();
    guint settled = 0;

    (void)s;
    if (!st) {
        st = *memory = settling_new(payload, &err);
    }
    if (st && (!st->lenient->len || now < st->wake)) {
        return st->lenient->len;
    }
    ct = st ? msc_ct_open(&err) : NULL;
    if (!ct || !ask(ct, st, &settled, &err)) {
        g_warning("%s", err->message);
        return 1; /* try again */
    }
    /* One round through the list without news makes the next wait longer. */
    if (settled) {
        st->pause = PAUSE_MIN;
    } else if (!st->next) {
        st->pause = MIN(2 * st->pause, PAUSE_MAX);
    }
    st->wake = st->next ? 0 : now + st->pause;
    return st->lenient->len;
}

guint msc_conntrack_settle_batch(const MscSelector *s, GBytes *bytes)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscBatch) batch = msc_batch_decode(bytes, &err);
    g_autoptr(MscCt) ct = batch ? msc_ct_open(&err) : NULL;
    Settling *st = batch ? settling_of(batch->payload) : NULL;
    guint left, settled = 0;

    (void)s;
    if (!ct) {
        g_warning("%s", err->message);
        msc_conntrack_settle_end(st);
        return 1; /* try again */
    }
    do {
        if (st->lenient->len && !ask(ct, st, &settled, &err)) {
            g_warning("%s", err->message);
            break;
        }
    } while (st->next);
    left = st->lenient->len;
    msc_conntrack_settle_end(st);
    return left;
}
