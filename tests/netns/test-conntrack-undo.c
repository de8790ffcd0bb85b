/*
 * What staging does to a host that is not empty, and that abort undoes it.
 *
 *     host B: stale entries of the guest, entries of others
 *             <--stage-- payload --abort--> as before
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <string.h>

#include "bytes.h"
#include "conntrack-lab.h"
#include "error.h"

#define OTHER "10.20.0.66"

static const MscProvider *const p = &msc_conntrack_provider;

/* A payload of these flows, which it takes. */
static GBytes *payload_of(MscFlow *first, ...)
{
    g_autoptr(MscPayload) payload = msc_payload_new();
    va_list args;

    va_start(args, first);
    for (MscFlow *flow = first; flow; flow = va_arg(args, MscFlow *)) {
        g_ptr_array_add(payload->flows, flow);
    }
    va_end(args);
    return msc_payload_encode(payload);
}

static MscFlow *tcp(const char *src, uint16_t sport, uint16_t dport)
{
    return lab_flow(IPPROTO_TCP, src, sport, PEER, dport);
}

static MscFlow *behind_nat(const char *src, uint16_t sport, uint16_t nat_port)
{
    MscFlow *flow = tcp(src, sport, 443);

    lab_snat(flow, NAT, nat_port);
    return flow;
}

static MscFlow *find_port(const GPtrArray *table, uint16_t sport)
{
    for (guint i = 0; i < table->len; i++) {
        if (nfct_get_attr_u16(table->pdata[i], ATTR_ORIG_PORT_SRC) ==
            htons(sport)) {
            return table->pdata[i];
        }
    }
    return NULL;
}

static void fill_others(void)
{
    lab_create(tcp(OTHER, 100, 80));
    lab_create(behind_nat(OTHER, 101, 40101));
    lab_create(lab_flow(IPPROTO_UDP, "fd20::66", 102, PEER6, 53));
}

/* The very same entries, not others like them. */
static void assert_untouched(const GPtrArray *before, const GPtrArray *after,
                             const char *src)
{
    guint seen = 0;

    for (guint i = 0; i < before->len; i++) {
        const MscFlow *was = before->pdata[i];
        guint there = 0;

        if (nfct_get_attr_u32(was, ATTR_ORIG_IPV4_SRC) != inet_addr(src)) {
            continue;
        }
        seen++;
        for (guint k = 0; k < after->len; k++) {
            there += nfct_get_attr_u32(was, ATTR_ID) ==
                     nfct_get_attr_u32(after->pdata[k], ATTR_ID);
        }
        g_assert_cmpuint(there, ==, 1);
    }
    g_assert_cmpuint(seen, >, 0);
}

/* The guest has been here before, in another shape. */
static void fill_stale(void)
{
    MscFlow *control = tcp(GUEST, 500, 21);
    MscFlow *data = tcp(GUEST, 501, 30000);
    MscFlow *flow = tcp(GUEST, 502, 443);

    nfct_set_attr(control, ATTR_HELPER_NAME, "ftp");
    lab_child(data, control);
    lab_create(control);
    lab_create(data);
    lab_tcp(flow, TCP_CONNTRACK_TIME_WAIT, IP_CT_TCP_FLAG_CLOSE_INIT, 3);
    lab_snat(flow, NAT, 40502);
    nfct_set_attr_u32(flow, ATTR_MARK, 77);
    lab_create(flow);
    lab_create(tcp(GUEST, 503, 80)); /* nobody's in the payload */
}

/* 500 and 501 as they stand there, 502 behind another port, 504 is new. */
static GBytes *newer_payload(void)
{
    MscFlow *control = tcp(GUEST, 500, 21);
    MscFlow *data = tcp(GUEST, 501, 30000);

    nfct_set_attr(control, ATTR_HELPER_NAME, "ftp");
    lab_child(data, control);
    return payload_of(control, data, behind_nat(GUEST, 502, 41502),
                      behind_nat(GUEST, 504, 41504), NULL);
}

static void test_abort_restores_the_table(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) payload = newer_payload();
    g_autoptr(GBytes) replaced = NULL;
    g_autoptr(GPtrArray) before = NULL, during = NULL, after = NULL;
    g_autoptr(GError) err = NULL;

    lab_track();
    fill_others();
    fill_stale();
    before = lab_table();
    replaced = p->prepare(s, payload, &err);
    g_assert_no_error(err);
    during = lab_table();
    assert_untouched(before, during, GUEST); /* preparing changes nothing */
    g_clear_pointer(&during, g_ptr_array_unref);
    g_assert_true(p->stage(s, payload, 0, &err));
    during = lab_table();
    g_assert_cmpuint(during->len, ==, before->len + 1);
    g_assert_cmpuint(ntohs(nfct_get_attr_u16(find_port(during, 502),
                                             ATTR_REPL_PORT_DST)),
                     ==, 41502);
    g_assert_cmpuint(nfct_get_attr_u8(find_port(during, 502), ATTR_TCP_STATE),
                     ==, TCP_CONNTRACK_ESTABLISHED);
    assert_untouched(before, during, OTHER);
    /* As after a crash: again changes nothing. */
    for (int i = 0; i < 2; i++) {
        g_assert_true(p->abort(s, payload, replaced, &err));
        g_clear_pointer(&after, g_ptr_array_unref);
        after = lab_table();
        lab_assert_same(before, after, false, 0, 0);
        assert_untouched(before, after, OTHER);
    }
    lab_host_free(host);
}

/* The helper crashed after the journal was written, before stage. */
static void test_abort_of_what_was_not_staged(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) payload = newer_payload();
    g_autoptr(GBytes) replaced = NULL;
    g_autoptr(GPtrArray) before = NULL, after = NULL;

    lab_track();
    fill_others();
    fill_stale();
    before = lab_table();
    replaced = p->prepare(s, payload, NULL);
    g_assert_true(p->abort(s, payload, replaced, NULL));
    after = lab_table();
    lab_assert_same(before, after, false, 0, 0);
    assert_untouched(before, after, OTHER);
    lab_host_free(host);
}

/* A flow that the kernel refuses, in the midst of others. */
static void test_abort_of_half_a_stage(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    MscFlow *impossible = tcp(GUEST, 600, 9999);
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(GBytes) replaced = NULL;
    g_autoptr(GPtrArray) before = NULL, during = NULL, after = NULL;
    g_autoptr(GError) err = NULL;

    lab_track();
    fill_others();
    fill_stale();
    before = lab_table();
    nfct_set_attr(impossible, ATTR_HELPER_NAME, "no-such-helper");
    payload = payload_of(behind_nat(GUEST, 502, 41502), impossible,
                         tcp(GUEST, 601, 22), NULL);
    replaced = p->prepare(s, payload, NULL);
    g_assert_false(p->stage(s, payload, 0, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_KERNEL);
    g_assert_nonnull(strstr(err->message, GUEST ":600"));
    during = lab_table();
    g_assert_cmpuint(during->len, !=, before->len);
    g_assert_true(p->abort(s, payload, replaced, NULL));
    after = lab_table();
    lab_assert_same(before, after, false, 0, 0);
    lab_host_free(host);
}

/* What stands where a flow of the guest must go, in three ways. */
static void test_stale_entry_is_replaced(void)
{
    static const struct {
        const char *name;
        uint16_t sport, nat_port; /* of the entry that is there */
    } rows[] = {
        { "same tuples", 700, 40700 },
        { "same original tuple, another translation", 700, 40777 },
        { "same reply tuple, another originator", 777, 40700 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        int host = lab_host_new();
        g_autoptr(MscSelector) s = lab_guest();
        g_autoptr(GBytes) payload =
            payload_of(behind_nat(GUEST, 700, 40700), NULL);
        g_autoptr(GPtrArray) table = NULL;

        g_test_message("%s", rows[i].name);
        lab_create(behind_nat(GUEST, rows[i].sport, rows[i].nat_port));
        lab_restore(s, payload, 0);
        table = lab_table();
        g_assert_cmpuint(table->len, ==, 1);
        g_assert_cmpuint(ntohs(nfct_get_attr_u16(table->pdata[0],
                                                 ATTR_ORIG_PORT_SRC)),
                         ==, 700);
        g_assert_cmpuint(ntohs(nfct_get_attr_u16(table->pdata[0],
                                                 ATTR_REPL_PORT_DST)),
                         ==, 40700);
        lab_host_free(host);
    }
}

/* Firewall rules give the mark; they have not seen the guest here yet. */
static void test_stale_entry_without_mark(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    MscFlow *flow = tcp(GUEST, 700, 80);
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(GPtrArray) table = NULL;

    s->has_mark = true;
    s->mark = s->mark_mask = 7;
    nfct_set_attr_u32(flow, ATTR_MARK, 7);
    payload = payload_of(flow, NULL);
    lab_create(tcp(GUEST, 700, 80));
    lab_restore(s, payload, 0);
    table = lab_table();
    g_assert_cmpuint(table->len, ==, 1);
    g_assert_cmpuint(nfct_get_attr_u32(table->pdata[0], ATTR_MARK), ==, 7);
    lab_host_free(host);
}

static void test_clash_is_named_flow_by_flow(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GPtrArray) before = NULL, after = NULL;
    g_autoptr(GBytes) clashing =
        payload_of(behind_nat(GUEST, 800, 40101), behind_nat(GUEST, 801, 40801),
                   behind_nat(GUEST, 802, 40102), NULL);
    g_autoptr(GBytes) fine = payload_of(behind_nat(GUEST, 801, 40801), NULL);
    g_autoptr(GBytes) replaced = NULL;
    g_autoptr(GError) err = NULL;

    lab_track();
    fill_others();
    lab_create(behind_nat(OTHER, 105, 40102));
    before = lab_table();
    g_assert_null(p->prepare(s, clashing, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    g_assert_nonnull(strstr(err->message, GUEST ":800"));
    g_assert_nonnull(strstr(err->message, OTHER ":101"));
    g_assert_nonnull(strstr(err->message, GUEST ":802"));
    g_assert_nonnull(strstr(err->message, OTHER ":105"));
    g_assert_null(strstr(err->message, GUEST ":801"));
    /* Nor does stage try, if somebody took the tuple since. */
    g_assert_false(p->stage(s, clashing, 0, NULL));
    after = lab_table();
    g_assert_cmpuint(after->len, ==, before->len);
    assert_untouched(before, after, OTHER);
    replaced = p->prepare(s, fine, NULL);
    g_assert_nonnull(replaced);
    lab_host_free(host);
}

/* P4, with a kernel: one stray entry, and nothing of the rest comes. */
static void test_stray_entry_refuses_all(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) payload =
        payload_of(tcp(GUEST, 1, 80), tcp(OTHER, 2, 80), NULL);
    g_autoptr(GBytes) twin =
        payload_of(tcp(GUEST, 1, 80), tcp(GUEST, 2, 80), NULL);
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;

    g_assert_false(p->validate(s, payload, &stats, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    g_assert_nonnull(strstr(err->message, OTHER));
    g_assert_cmpuint(lab_count(), ==, 0);
    lab_restore(s, twin, 0);
    g_assert_cmpuint(lab_count(), ==, 2);
    lab_host_free(host);
}

static void test_others_are_not_collected(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(MscPayload) payload = NULL;

    lab_track();
    fill_others();
    fill_stale();
    bytes = lab_collect(s, 4);
    payload = msc_payload_decode(bytes, NULL);
    for (guint i = 0; i < payload->flows->len; i++) {
        g_assert_cmphex(nfct_get_attr_u32(payload->flows->pdata[i],
                                          ATTR_ORIG_IPV4_SRC),
                        ==, inet_addr(GUEST));
    }
    lab_host_free(host);
}

static void test_retire_removes_the_guests_alone(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(GPtrArray) before = NULL, after = NULL;
    g_autoptr(MscPayload) edited = NULL;

    lab_track();
    fill_others();
    fill_stale();
    before = lab_table();
    payload = lab_collect(s, 4);
    /* Meanwhile another guest has got one of the tuples. */
    edited = msc_payload_decode(payload, NULL);
    g_ptr_array_add(edited->flows, tcp(OTHER, 100, 80));
    g_bytes_unref(payload);
    payload = msc_payload_encode(edited);
    g_assert_true(p->retire(s, payload, NULL));
    after = lab_table();
    g_assert_cmpuint(after->len, ==, 3);
    assert_untouched(before, after, OTHER);
    lab_host_free(host);
}

/* Between looking and deleting, the tuple became somebody else's. */
static void test_delete_means_the_entry_that_was_seen(void)
{
    int host = lab_host_new();
    g_autoptr(GPtrArray) seen = NULL;
    g_autoptr(MscCt) ct = NULL;
    int result = 0;

    lab_create(tcp(GUEST, 1000, 80));
    seen = lab_table();
    lab_run("conntrack -F 2>/dev/null");
    /* Answers of this one have the tuple.  (The kernel's number is made of
     * the original tuple and an address, which it uses again soon.) */
    lab_create(lab_flow(IPPROTO_TCP, PEER, 80, GUEST, 1000));
    ct = msc_ct_open(NULL);
    g_assert_true(msc_ct_run(ct, MSC_CT_DELETE, seen, &result, NULL, NULL));
    g_assert_cmpint(result, ==, ENOENT);
    g_assert_cmpuint(lab_count(), ==, 1);
    /* The twin: this one is the one that was seen. */
    g_ptr_array_unref(seen);
    seen = lab_table();
    g_assert_true(msc_ct_run(ct, MSC_CT_DELETE, seen, &result, NULL, NULL));
    g_assert_cmpint(result, ==, 0);
    g_assert_cmpuint(lab_count(), ==, 0);
    lab_host_free(host);
}

/* SNAT to an address that stays with the old host. */
static void test_nat_address_that_stays(void)
{
    int b = lab_host_new(), a = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) summary = NULL, answer = NULL, payload = NULL;
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscPayload) left = NULL;
    MscProviderStats stats;
    MscFlow *flow = tcp(GUEST, 900, 80), *child = tcp(GUEST, 901, 3000);

    lab_track();
    lab_snat(flow, "198.51.100.1", 40900);
    lab_child(child, flow);
    lab_create(flow);
    lab_create(child);
    lab_create(behind_nat(GUEST, 902, 40902));
    flow = lab_flow(IPPROTO_UDP, PEER, 903, "198.51.100.1", 53);
    lab_dnat(flow, GUEST, 53);
    lab_create(flow);
    summary = p->summarize(s, 65536, &err);
    g_assert_no_error(err);
    lab_enter(b);
    lab_track();
    g_assert_true(p->check(s, summary, false, reasons, &answer, &err));
    g_assert_no_error(err);
    g_assert_cmpuint(reasons->len, ==, 2);
    for (guint i = 0; i < reasons->len; i++) {
        g_assert_nonnull(strstr(reasons->pdata[i], "198.51.100.1"));
    }
    g_clear_pointer(&answer, g_bytes_unref);
    g_ptr_array_set_size(reasons, 0);
    g_assert_true(p->check(s, summary, true, reasons, &answer, &err));
    g_assert_cmpuint(reasons->len, ==, 0);
    lab_enter(a);
    /* The source's policy decides. */
    g_assert_null(p->collect(s, answer, &stats, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    g_clear_error(&err);
    s->nat_policy = MSC_NAT_LEAVE_BEHIND;
    payload = p->collect(s, answer, &stats, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(stats.left_behind, ==, 2);
    g_assert_cmpuint(stats.entries, ==, 2);
    left = msc_payload_decode(payload, NULL);
    g_assert_nonnull(find_port(left->flows, 901));
    g_assert_nonnull(find_port(left->flows, 902));
    lab_enter(b);
    lab_restore(s, payload, 0);
    g_assert_cmpuint(lab_count(), ==, 2);
    lab_host_free(a);
    lab_host_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/conntrack-undo/" name, function)
    ADD("abort-restores-the-table", test_abort_restores_the_table);
    ADD("abort-of-what-was-not-staged", test_abort_of_what_was_not_staged);
    ADD("abort-of-half-a-stage", test_abort_of_half_a_stage);
    ADD("stale-entry-is-replaced", test_stale_entry_is_replaced);
    ADD("stale-entry-without-mark", test_stale_entry_without_mark);
    ADD("clash-is-named-flow-by-flow", test_clash_is_named_flow_by_flow);
    ADD("stray-entry-refuses-all", test_stray_entry_refuses_all);
    ADD("others-are-not-collected", test_others_are_not_collected);
    ADD("retire-removes-the-guests-alone",
        test_retire_removes_the_guests_alone);
    ADD("delete-means-the-entry-that-was-seen",
        test_delete_means_the_entry_that_was_seen);
    ADD("nat-address-that-stays", test_nat_address_that_stays);
#undef ADD
    return g_test_run();
}
