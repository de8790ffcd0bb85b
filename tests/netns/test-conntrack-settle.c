/*
 * The end of leniency, where there is no traffic; test-conntrack-live.c has
 * the traffic.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/netfilter/nf_conntrack_tcp.h>

#include "conntrack-lab.h"

static const MscProvider *const p = &msc_conntrack_provider;

static MscFlow *tcp(const char *src, uint16_t sport, uint16_t dport)
{
    return lab_flow(IPPROTO_TCP, src, sport, PEER, dport);
}

#define LENIENT 10000
#define PER_CALL 4096 /* docs/conntrack.md */

/* However many there are, a call looks at so many; what has ended, or made
 * place for another, needs no more looks. */
static void test_settle_is_bounded(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscPayload) many = msc_payload_new();
    g_autoptr(GBytes) payload = NULL;
    gpointer memory = NULL;
    guint left = LENIENT;

    for (uint16_t i = 0; i < LENIENT; i++) {
        g_ptr_array_add(many->flows, tcp(GUEST, (uint16_t)(1000 + i), 80));
    }
    payload = msc_payload_encode(many);
    lab_restore(s, payload, 0);
    /* One round through them: none has spoken. */
    for (int i = 0; i < 3; i++) {
        g_assert_cmpuint(p->settle(s, payload, &memory), ==, LENIENT);
    }
    lab_run("conntrack -F 2>/dev/null");
    lab_create(tcp(GUEST, 1000, 80)); /* strict, as new ones are */
    while (left) {
        guint now = p->settle(s, payload, &memory);

        g_assert_cmpuint(left - now, <=, PER_CALL);
        left = now;
        g_usleep(20000);
    }
    g_assert_cmpuint(lab_count(), ==, 1);
    p->settle_end(memory);
    lab_host_free(host);
}

static guint count_lenient(void)
{
    g_autoptr(GPtrArray) table = lab_table();
    guint n = 0;

    for (guint i = 0; i < table->len; i++) {
        n += nfct_attr_is_set(table->pdata[i], ATTR_TCP_FLAGS_ORIG) > 0 &&
             nfct_get_attr_u8(table->pdata[i], ATTR_TCP_FLAGS_ORIG) &
                 IP_CT_TCP_FLAG_BE_LIBERAL;
    }
    return n;
}

/* What has no windows needs no leniency; flows of others that are lenient for
 * reasons of their own are left alone, and so are the guest's newer ones. */
static void test_only_what_was_restored(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscPayload) made = msc_payload_new();
    g_autoptr(GBytes) payload = NULL;
    gpointer memory = NULL;
    MscFlow *own = tcp(GUEST, 2, 80);

    g_ptr_array_add(made->flows, lab_flow(IPPROTO_UDP, GUEST, 1, PEER, 53));
    payload = msc_payload_encode(made);
    lab_restore(s, payload, 0);
    lab_tcp(own, TCP_CONNTRACK_ESTABLISHED, IP_CT_TCP_FLAG_BE_LIBERAL, 2);
    lab_create(own);
    g_assert_cmpuint(p->settle(s, payload, &memory), ==, 0);
    g_assert_cmpuint(count_lenient(), ==, 1);
    p->settle_end(memory);
    lab_host_free(host);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/conntrack-settle/is-bounded", test_settle_is_bounded);
    g_test_add_func("/conntrack-settle/only-what-was-restored",
                    test_only_what_was_restored);
    return g_test_run();
}
