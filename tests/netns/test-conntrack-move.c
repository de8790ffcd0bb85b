/*
 * Flows of every kind, from one kernel to another, field by field.
 *
 *     host A: conntrack of the guest --collect--> payload --stage--> host B
 *             and of others                                 (empty)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_sctp.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <string.h>

#include "conntrack-lab.h"
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
    lab_assert_same(before, after, true, (guint)(transit_us / G_USEC_PER_SEC));
}

typedef void FillHost(void);

static void move_test(gconstpointer opaque)
{
    FillHost *fill = *(FillHost *const *)opaque;
    g_autoptr(MscSelector) s = lab_guest();
    Hosts h = hosts_new();

    fill();
    assert_moves(&h, s, 0);
    hosts_free(&h);
}

static void fill_tcp(void)
{
    for (uint8_t state = TCP_CONNTRACK_SYN_SENT;
         state <= TCP_CONNTRACK_SYN_SENT2; state++) {
        for (int v6 = 0; v6 <= 1; v6++) {
            MscFlow *flow =
                lab_flow(IPPROTO_TCP, v6 ? GUEST6 : GUEST,
                         (uint16_t)(1000 + state), v6 ? PEER6 : PEER, 80);

            lab_tcp(
                flow, state,
                state == TCP_CONNTRACK_TIME_WAIT
                    ? IP_CT_TCP_FLAG_CLOSE_INIT | IP_CT_TCP_FLAG_WINDOW_SCALE
                    : IP_CT_TCP_FLAG_WINDOW_SCALE | IP_CT_TCP_FLAG_SACK_PERM,
                (uint8_t)(state + 2));
            if (state == TCP_CONNTRACK_SYN_SENT) {
                nfct_set_attr_u32(flow, ATTR_STATUS, IPS_CONFIRMED);
            }
            lab_create(flow);
        }
    }
}

static void fill_plain(void)
{
    static const uint8_t with_ports[] = { IPPROTO_UDP, IPPROTO_UDPLITE,
                                          IPPROTO_GRE };
    MscFlow *flow;

    for (size_t i = 0; i < G_N_ELEMENTS(with_ports); i++) {
        lab_create(lab_flow(with_ports[i], GUEST, 1000, PEER, 53));
        lab_create(lab_flow(with_ports[i], PEER6, 1001, GUEST6, 53));
    }
    lab_create(lab_flow(IPPROTO_ICMP, GUEST, 7, PEER, 0));
    lab_create(lab_flow(IPPROTO_ICMPV6, PEER6, 7, GUEST6, 0));
    /* Without ports: what the kernel tracks by addresses. */
    lab_create(lab_flow(IPPROTO_ESP, GUEST, 0, PEER, 0));
    flow = lab_flow(IPPROTO_UDP, GUEST, 1003, PEER, 53);
    nfct_set_attr_u32(flow, ATTR_STATUS, IPS_CONFIRMED); /* unreplied */
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, GUEST, 1004, PEER, 53);
    nfct_set_attr_u32(flow, ATTR_STATUS, IPS_CONFIRMED | IPS_FIXED_TIMEOUT);
    lab_create(flow);
}

static void fill_sctp(void)
{
    for (uint8_t state = SCTP_CONNTRACK_CLOSED;
         state <= SCTP_CONNTRACK_HEARTBEAT_SENT; state++) {
        MscFlow *flow = lab_flow(IPPROTO_SCTP, GUEST, (uint16_t)(1000 + state),
                                 PEER, 38412);

        nfct_set_attr_u8(flow, ATTR_SCTP_STATE, state);
        nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_ORIG, 0xdeadbee0 + state);
        /* Before COOKIE ECHO the other end's is unknown. */
        nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_REPL,
                          state < SCTP_CONNTRACK_COOKIE_ECHOED ? 0 : state);
        lab_create(flow);
    }
}

static void fill_nat(void)
{
    static const uint8_t with_ports[] = { IPPROTO_TCP, IPPROTO_UDP,
                                          IPPROTO_SCTP, IPPROTO_UDPLITE };
    MscFlow *flow;

    for (size_t i = 0; i < G_N_ELEMENTS(with_ports); i++) {
        for (int both = 0; both <= 1; both++) {
            flow = lab_flow(with_ports[i], GUEST, (uint16_t)(1000 + both), PEER,
                            80);
            if (with_ports[i] == IPPROTO_SCTP) {
                nfct_set_attr_u8(flow, ATTR_SCTP_STATE,
                                 SCTP_CONNTRACK_ESTABLISHED);
                nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_ORIG, 1);
                nfct_set_attr_u32(flow, ATTR_SCTP_VTAG_REPL, 2);
            }
            lab_snat(flow, NAT, (uint16_t)(40000 + both));
            if (both) {
                lab_dnat(flow, "192.0.2.77", 8080);
            }
            lab_create(flow);
        }
    }
    /* From outside to the guest. */
    flow = lab_flow(IPPROTO_TCP, PEER, 5000, NAT, 2222);
    lab_dnat(flow, GUEST, 22);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, PEER6, 5000, NAT6, 53);
    lab_dnat(flow, GUEST6, 5353);
    lab_create(flow);
    flow = lab_flow(IPPROTO_TCP, GUEST6, 5000, PEER6, 443);
    lab_snat(flow, NAT6, 5000);
    lab_create(flow);
    /* Only the port; only the address of the far end. */
    flow = lab_flow(IPPROTO_UDP, GUEST, 5001, PEER, 53);
    lab_snat(flow, GUEST, 5002);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, GUEST, 5003, PEER, 53);
    lab_dnat(flow, "192.0.2.78", 53);
    lab_create(flow);
    flow = lab_flow(IPPROTO_ESP, GUEST, 0, PEER, 0);
    lab_snat(flow, NAT, 0);
    lab_create(flow);
}

static void fill_nat_ping(void)
{
    MscFlow *flow = lab_flow(IPPROTO_ICMP, GUEST, 7, PEER, 0);

    lab_snat(flow, NAT, 7);
    lab_create(flow);
    flow = lab_flow(IPPROTO_ICMP, GUEST, 8, PEER, 0);
    lab_snat(flow, NAT, 4711);
    lab_create(flow);
    flow = lab_flow(IPPROTO_ICMPV6, GUEST6, 9, PEER6, 0);
    lab_snat(flow, NAT6, 4712);
    lab_create(flow);
    flow = lab_flow(IPPROTO_ICMP, PEER, 10, NAT, 0);
    lab_set_u16(flow, ATTR_REPL_PORT_SRC, 10);
    lab_dnat(flow, GUEST, 0);
    lab_create(flow);
}

static void fill_marks_and_zones(void)
{
    MscFlow *flow;

    for (uint16_t zone = 0; zone < 3; zone++) {
        /* The same tuple lives in several zones. */
        flow = lab_flow(IPPROTO_TCP, GUEST, 1000, PEER, 80);
        if (zone) {
            nfct_set_attr_u16(flow, ATTR_ZONE, zone);
        }
        nfct_set_attr_u32(flow, ATTR_MARK, 0x80000000u + zone);
        lab_create(flow);
    }
    flow = lab_flow(IPPROTO_TCP, GUEST, 1001, PEER, 80);
    nfct_set_attr_u16(flow, ATTR_ORIG_ZONE, 9);
    lab_snat(flow, NAT, 3333);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, PEER6, 1002, GUEST6, 80);
    nfct_set_attr_u16(flow, ATTR_REPL_ZONE, 10);
    lab_create(flow);
}

static void fill_seqadj(void)
{
    static const enum nf_conntrack_attr attrs[] = {
        ATTR_ORIG_NAT_SEQ_CORRECTION_POS, ATTR_ORIG_NAT_SEQ_OFFSET_BEFORE,
        ATTR_ORIG_NAT_SEQ_OFFSET_AFTER,   ATTR_REPL_NAT_SEQ_CORRECTION_POS,
        ATTR_REPL_NAT_SEQ_OFFSET_BEFORE,  ATTR_REPL_NAT_SEQ_OFFSET_AFTER
    };
    static const uint32_t values[2][6] = {
        { 123456, (uint32_t)-3, 17, 654321, 2, (uint32_t)-9 },
        /* One direction, and nothing before it. */
        { 1000, 0, 5, 0, 0, 0 },
    };

    for (uint16_t i = 0; i < 2; i++) {
        MscFlow *flow =
            lab_flow(IPPROTO_TCP, GUEST, (uint16_t)(1000 + i), PEER, 21);

        for (size_t k = 0; k < G_N_ELEMENTS(attrs); k++) {
            nfct_set_attr_u32(flow, attrs[k], values[i][k]);
        }
        lab_snat(flow, NAT, (uint16_t)(2000 + i));
        lab_create(flow);
    }
}

/* FTP control, a data connection that it announced, and, never seen but
 * possible, one that the data connection announced. */
static void fill_helpers(void)
{
    MscFlow *control = lab_flow(IPPROTO_TCP, GUEST, 50000, PEER, 21);
    MscFlow *data = lab_flow(IPPROTO_TCP, GUEST, 50001, PEER, 30000);
    MscFlow *more = lab_flow(IPPROTO_UDP, GUEST, 50002, PEER, 30001);
    MscFlow *tftp = lab_flow(IPPROTO_UDP, GUEST6, 50003, PEER6, 69);

    nfct_set_attr(control, ATTR_HELPER_NAME, "ftp");
    nfct_set_attr(tftp, ATTR_HELPER_NAME, "tftp");
    lab_child(data, control);
    lab_child(more, data);
    lab_create(control);
    lab_create(data);
    lab_create(more);
    lab_create(tftp);
}

static void test_labels(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    Hosts h = hosts_new();
    /* The kernel keeps labels while a rule uses them. */
    static const char rule[] = "nft add rule inet lab f ct label set 5";

    lab_run(rule);
    for (uint16_t i = 0; i < 3; i++) {
        MscFlow *flow =
            lab_flow(IPPROTO_UDP, GUEST, (uint16_t)(1000 + i), PEER, 53);
        struct nfct_bitmask *labels = nfct_bitmask_new(127);

        nfct_bitmask_set_bit(labels, i * 63u);
        nfct_bitmask_set_bit(labels, 40);
        nfct_set_attr(flow, ATTR_CONNLABELS, labels);
        lab_create(flow);
    }
    lab_enter(h.b);
    lab_run(rule);
    assert_moves(&h, s, 0);
    hosts_free(&h);
}

/* The kernel's own tool must see no difference either. */
static void test_tool_sees_no_difference(void)
{
    static const char list[] = "conntrack -L 2>/dev/null | sed -E 's/ +/ /g; "
                               "s/^([a-z0-9]+ [0-9]+) [0-9]+/\\1/; "
                               "s/ (use|packets|bytes)=[0-9]+//g' | sort";
    g_autoptr(MscSelector) s = lab_guest();
    Hosts h = hosts_new();
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GBytes) payload = NULL;

    fill_nat();
    fill_nat_ping();
    fill_helpers();
    before = lab_output(list);
    g_assert_nonnull(strstr(before, "id=4711"));
    payload = lab_collect(s, lab_count());
    lab_enter(h.b);
    lab_restore(s, payload, 0);
    after = lab_output(list);
    g_assert_true(g_str_equal(before, after));
    hosts_free(&h);
}

static void test_time_in_transit(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    Hosts h = hosts_new();
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(GPtrArray) left = NULL;
    MscFlow *flow;

    fill_plain();
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

    fill_helpers();
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
    static const struct {
        const char *name;
        FillHost *fill;
    } moves[] = {
        { "tcp-in-every-state", fill_tcp },
        { "protocols", fill_plain },
        { "sctp-in-every-state", fill_sctp },
        { "nat", fill_nat },
        { "nat-of-ping", fill_nat_ping },
        { "marks-and-zones", fill_marks_and_zones },
        { "sequence-adjustment", fill_seqadj },
        { "helpers-and-masters", fill_helpers },
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(moves); i++) {
        g_autofree char *path =
            g_strconcat("/conntrack-move/", moves[i].name, NULL);

        g_test_add_data_func(path, &moves[i].fill, move_test);
    }
    g_test_add_func("/conntrack-move/labels", test_labels);
    g_test_add_func("/conntrack-move/tool-sees-no-difference",
                    test_tool_sees_no_difference);
    g_test_add_func("/conntrack-move/time-in-transit", test_time_in_transit);
    g_test_add_func("/conntrack-move/child-outlives-its-master",
                    test_child_outlives_its_master);
    g_test_add_func("/conntrack-move/selectors", test_selectors);
    g_test_add_func("/conntrack-move/many", test_many);
    return g_test_run();
}
