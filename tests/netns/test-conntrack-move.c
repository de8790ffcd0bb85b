/*
 * Flows of every kind, from one kernel to another, field by field; how
 * conntrack-tools see it is test-handoff-view.c's.
 *
 *     host A: conntrack of the guest --collect--> payload --stage--> host B
 *             and of others                                 (empty)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <string.h>

#include "conntrack-corpus.h"
#include "error.h"

typedef struct {
    int a, b;
} Hosts;

static Hosts hosts_new(void)
{
    Hosts h;

    h.b = lab_host_new();
    lab_track();
    h.a = lab_host_new();
    lab_track();
    return h;
}

static void hosts_free(Hosts *h)
{
    lab_host_free(h->a);
    lab_host_free(h->b);
}

/* What A holds (all of it the guest's) must be what B holds afterwards. */
static void assert_moves(const Hosts *h, const MscSelector *s,
                         uint64_t transit_us)
{
    g_autoptr(GPtrArray) before = NULL, after = NULL;
    g_autoptr(GBytes) payload = NULL;

    lab_enter(h->a);
    before = lab_table();
    g_assert_cmpuint(before->len, >, 0);
    payload = lab_collect(s, before->len);
    lab_enter(h->b);
    g_assert_cmpuint(lab_count(), ==, 0);
    lab_restore(s, payload, transit_us);
    after = lab_table();
    lab_assert_same(before, after, true, (guint)(transit_us / G_USEC_PER_SEC),
                    0);
}

static void move_test(gconstpointer opaque)
{
    const CorpusKind *kind = opaque;
    g_autoptr(MscSelector) s = lab_guest();
    Hosts h = hosts_new();

    kind->fill();
    assert_moves(&h, s, 0);
    hosts_free(&h);
}

static void test_labels(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    Hosts h = hosts_new();
    /* The kernel keeps labels while a rule uses them. */
    static const char rule[] = "nft add rule inet lab f ct label set 5";

    lab_run(rule);
    corpus_labels();
    lab_enter(h.b);
    lab_run(rule);
    assert_moves(&h, s, 0);
    hosts_free(&h);
}

static void test_time_in_transit(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    Hosts h = hosts_new();
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(GPtrArray) left = NULL;
    MscFlow *flow;

    corpus_plain();
    assert_moves(&h, s, 500 * G_USEC_PER_SEC);
    /* One whose time is over is no error, nor is the child of it. */
    lab_enter(h.a);
    lab_run("conntrack -F 2>/dev/null");
    flow = lab_flow(IPPROTO_TCP, GUEST, 2000, PEER, 21);
    nfct_set_attr_u32(flow, ATTR_TIMEOUT, 100);
    {
        MscFlow *child = lab_flow(IPPROTO_TCP, GUEST, 2001, PEER, 30000);

        lab_child(child, flow);
        lab_create(flow);
        lab_create(child);
    }
    payload = lab_collect(s, 2);
    lab_enter(h.b);
    lab_run("conntrack -F 2>/dev/null");
    lab_restore(s, payload, 200 * G_USEC_PER_SEC);
    left = lab_table();
    g_assert_cmpuint(left->len, ==, 1);
    g_assert_cmpuint(
        ntohs(nfct_get_attr_u16(left->pdata[0], ATTR_ORIG_PORT_SRC)), ==, 2001);
    g_assert_false(msc_flow_is_child(left->pdata[0]));
    hosts_free(&h);
}

/* The master ended while its child goes on: the kernel still names it. */
static void test_child_outlives_its_master(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    Hosts h = hosts_new();
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(GPtrArray) table = NULL;

    corpus_helpers();
    lab_run("conntrack -D -p tcp --orig-port-dst 21 >/dev/null 2>&1");
    table = lab_table();
    g_assert_cmpuint(table->len, ==, 3);
    payload = lab_collect(s, 3);
    lab_enter(h.b);
    lab_restore(s, payload, 0);
    g_clear_pointer(&table, g_ptr_array_unref);
    table = lab_table();
    g_assert_cmpuint(table->len, ==, 3);
    for (guint i = 0; i < table->len; i++) {
        uint16_t port =
            ntohs(nfct_get_attr_u16(table->pdata[i], ATTR_ORIG_PORT_SRC));

        /* 50001 lost its master, 50002 still has 50001. */
        g_assert_true(msc_flow_is_child(table->pdata[i]) == (port == 50002));
    }
    hosts_free(&h);
}

/* What selects; and its twin, what does not. */
static void test_selectors(void)
{
    static const struct {
        int zone;            /* or -1 */
        uint32_t mark, mask; /* mask 0: no mark */
        const char *address; /* or NULL */
        guint flows;
    } rows[] = {
        { -1, 0, 0, GUEST, 8 },         { -1, 0, 0, GUEST6, 1 },
        { -1, 0, 0, PEER6, 1 },         { -1, 0, 0, "10.20.0.11", 8 },
        { 5, 0, 0, NULL, 8 },           { 5, 0, 0, GUEST, 4 },
        { 6, 0, 0, NULL, 0 },           { 0, 0, 0, NULL, 10 },
        { -1, 0x100, 0xff00, NULL, 8 }, { -1, 0x100, 0xffff, NULL, 0 },
        { 5, 0x101, 0xffff, GUEST, 2 }, { -1, 0x200, 0xff00, NULL, 0 },
    };
    int host = lab_host_new();

    for (unsigned i = 0; i < 16; i++) {
        MscFlow *flow = lab_flow(IPPROTO_TCP, i & 1 ? GUEST : "10.20.0.11",
                                 (uint16_t)(1000 + i), PEER, 80);

        if (i & 2) {
            nfct_set_attr_u16(flow, ATTR_ZONE, 5);
        }
        if (i & 4) {
            nfct_set_attr_u32(flow, ATTR_MARK, 0x101);
        }
        lab_create(flow);
    }
    lab_create(lab_flow(IPPROTO_TCP, PEER6, 1, GUEST6, 22));
    lab_create(lab_flow(IPPROTO_TCP, "fd20::11", 1, "fd20::12", 22));
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(MscSelector) s = msc_selector_new();
        g_autoptr(GBytes) payload = NULL;

        s->has_zone = rows[i].zone >= 0;
        s->zone = (uint16_t)rows[i].zone;
        s->has_mark = rows[i].mask;
        s->mark = rows[i].mark;
        s->mark_mask = rows[i].mask;
        if (rows[i].address) {
            lab_add_address(s->addresses, rows[i].address);
        }
        payload = lab_collect(s, rows[i].flows);
    }
    lab_host_free(host);
}

#define MANY 10000

static void test_many(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscPayload) all = msc_payload_new();
    g_autoptr(GBytes) payload = NULL, back = NULL;
    Hosts h = hosts_new();

    for (unsigned i = 0; i < MANY; i++) {
        MscFlow *flow = i % 3 ? lab_flow(IPPROTO_TCP, GUEST,
                                         (uint16_t)(10000 + i), PEER, 443)
                              : lab_flow(IPPROTO_UDP, GUEST6,
                                         (uint16_t)(10000 + i), PEER6, 53);

        if (i % 3 == 1) {
            lab_snat(flow, NAT, (uint16_t)(20000 + i));
        }
        g_ptr_array_add(all->flows, flow);
    }
    payload = msc_payload_encode(all);
    lab_enter(h.a);
    lab_restore(s, payload, 0);
    g_assert_cmpuint(lab_count(), ==, MANY);
    assert_moves(&h, s, 0);
    /* And away again. */
    lab_enter(h.a);
    back = lab_collect(s, MANY);
    g_assert_true(msc_conntrack_provider.retire(s, back, NULL));
    g_assert_cmpuint(lab_count(), ==, 0);
    hosts_free(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (const CorpusKind *kind = corpus; kind->name; kind++) {
        g_autofree char *path =
            g_strconcat("/conntrack-move/", kind->name, NULL);

        g_test_add_data_func(path, kind, move_test);
    }
    g_test_add_func("/conntrack-move/labels", test_labels);
    g_test_add_func("/conntrack-move/time-in-transit", test_time_in_transit);
    g_test_add_func("/conntrack-move/child-outlives-its-master",
                    test_child_outlives_its_master);
    g_test_add_func("/conntrack-move/selectors", test_selectors);
    g_test_add_func("/conntrack-move/many", test_many);
    return g_test_run();
}
