/*
 * What a host finds out about itself: which filters its kernel honours, and
 * before RAM moves, whether it can hold what the flows need.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sched.h>
#include <string.h>

#include "conntrack-lab.h"
#include "conntrack-needs.h"
#include "conntrack-probe.h"
#include "error.h"

#define ACCT "netfilter/nf_conntrack_acct"

static const MscProvider *const p = &msc_conntrack_provider;

/* Asks a fresh host B about what host A (the current one) holds; B is left
 * as the current one. */
static GPtrArray *ask(const MscSelector *s, int b)
{
    GPtrArray *reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GBytes) summary = NULL, answer = NULL;
    g_autoptr(GPtrArray) before = NULL, after = NULL;
    g_autoptr(GError) err = NULL;

    summary = p->summarize(s, 1 << 20, &err);
    g_assert_no_error(err);
    lab_enter(b);
    before = lab_table();
    p->check(s, summary, false, reasons, &answer, &err);
    g_assert_no_error(err);
    after = lab_table();
    g_assert_cmpuint(after->len, ==, before->len);
    return reasons;
}

static void assert_one_reason(GPtrArray *reasons, const char *text)
{
    g_assert_cmpuint(reasons->len, ==, 1);
    if (!strstr(reasons->pdata[0], text)) {
        g_error("not about '%s': %s", text, (char *)reasons->pdata[0]);
    }
}

static MscFlow *udp(uint16_t sport)
{
    return lab_flow(IPPROTO_UDP, GUEST, sport, PEER, 53);
}

static MscFlow *udp_with_label(void)
{
    MscFlow *flow = udp(1);
    struct nfct_bitmask *labels = nfct_bitmask_new(127);

    nfct_bitmask_set_bit(labels, 9);
    nfct_set_attr(flow, ATTR_CONNLABELS, labels);
    return flow;
}

static const char label_rule[] = "nft add rule inet lab f ct label set 9";

static void test_labels_are_off(void)
{
    int b = lab_host_new(), a = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GPtrArray) reasons = NULL;

    lab_track();
    lab_run(label_rule);
    lab_create(udp_with_label());
    reasons = ask(s, b);
    assert_one_reason(reasons, "labels are off");
    g_ptr_array_unref(reasons);
    /* The twin: a rule uses them here as well. */
    lab_track();
    lab_run(label_rule);
    lab_enter(a);
    reasons = ask(s, b);
    g_assert_cmpuint(reasons->len, ==, 0);
    lab_host_free(a);
    lab_host_free(b);
}

/* As the source would describe flows whose helper this host lacks. */
static void test_helper_is_missing(void)
{
    static const struct {
        const char *name;
        uint8_t l4;
        bool there;
    } rows[] = {
        { "ftp", IPPROTO_TCP, true },
        { "tftp", IPPROTO_UDP, true },
        { "ftp", IPPROTO_UDP, false },
        { "no-such-helper", IPPROTO_TCP, false },
    };
    int host = lab_host_new();

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(MscNeeds) needs = msc_needs_new();
        g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GPtrArray) flows = msc_flows_new();
        g_autoptr(GError) err = NULL;
        MscFlow *flow = lab_flow(rows[i].l4, GUEST, 1, PEER, 21);

        nfct_set_attr(flow, ATTR_HELPER_NAME, rows[i].name);
        g_ptr_array_add(flows, flow);
        g_assert_true(msc_needs_of(flows, 0, needs, NULL));
        needs->features = 0;
        g_assert_true(msc_needs_check(needs, reasons, &err));
        if (rows[i].there) {
            g_assert_cmpuint(reasons->len, ==, 0);
        } else {
            assert_one_reason(reasons, rows[i].name);
        }
        g_assert_cmpuint(lab_count(), ==, 0);
    }
    lab_host_free(host);
}

/* This kernel has all of it: so no reason may be made up. */
static void test_every_feature(void)
{
    int b = lab_host_new(), a = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GPtrArray) reasons = NULL;
    MscFlow *flow = udp(1);

    nfct_set_attr_u16(flow, ATTR_ZONE, 4);
    nfct_set_attr_u32(flow, ATTR_MARK, 4);
    lab_create(flow);
    flow = udp(2);
    lab_snat(flow, NAT, 3);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, GUEST6, 2, PEER6, 53);
    lab_snat(flow, NAT6, 3);
    lab_create(flow);
    lab_create(lab_flow(IPPROTO_TCP, GUEST, 3, PEER, 22));
    reasons = ask(s, b);
    for (guint i = 0; i < reasons->len; i++) {
        g_test_message("%s", (char *)reasons->pdata[i]);
    }
    g_assert_cmpuint(reasons->len, ==, 0);
    lab_host_free(a);
    lab_host_free(b);
}

static char *read_acct(void)
{
    return lab_output("cat /proc/sys/net/" ACCT);
}

/* A sandbox with /proc/sys read-only: leniency would never end. */
static void test_counters_cannot_be_switched_on(void)
{
    int b = lab_host_new(), a = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GPtrArray) reasons = NULL;
    g_autoptr(GBytes) payload = NULL, replaced = NULL;
    g_autoptr(GError) err = NULL;
    g_autofree char *off = NULL, *on = NULL;

    lab_create(lab_flow(IPPROTO_TCP, GUEST, 3, PEER, 22));
    payload = lab_collect(s, 1);
    g_assert_cmpint(unshare(CLONE_NEWNS), ==, 0);
    lab_run("mount --make-rprivate / && mount --bind /proc/sys /proc/sys && "
            "mount -o remount,bind,ro /proc/sys");
    reasons = ask(s, b);
    assert_one_reason(reasons, "nf_conntrack_acct");
    replaced = p->prepare(s, payload, &err);
    g_assert_no_error(err);
    g_assert_false(p->stage(s, payload, 0, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_KERNEL);
    g_assert_nonnull(strstr(err->message, "nf_conntrack_acct"));
    g_assert_cmpuint(lab_count(), ==, 0);
    /* The twin: writable, so no reason; check itself switches nothing on. */
    lab_run("umount /proc/sys");
    lab_enter(a);
    g_ptr_array_unref(reasons);
    reasons = ask(s, b);
    g_assert_cmpuint(reasons->len, ==, 0);
    off = read_acct();
    g_assert_cmpstr(off, ==, "0");
    lab_restore(s, payload, 0);
    on = read_acct();
    g_assert_cmpstr(on, ==, "1");
    lab_host_free(a);
    lab_host_free(b);
}

/* Without TCP nobody needs counters. */
static void test_counters_are_not_needed(void)
{
    int b = lab_host_new(), a = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscNeeds) needs = msc_needs_new();
    g_autoptr(GPtrArray) table = NULL, reasons = NULL;

    lab_create(udp(1));
    table = lab_table();
    g_assert_true(msc_needs_of(table, 0, needs, NULL));
    g_assert_cmpuint(needs->features & MSC_NEED_COUNTERS, ==, 0);
    reasons = ask(s, b);
    g_assert_cmpuint(reasons->len, ==, 0);
    lab_host_free(a);
    lab_host_free(b);
}

#define CLASHES 20

static void test_clashes_before_ram(void)
{
    int b = lab_host_new(), a;
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GPtrArray) reasons = NULL;

    for (uint16_t i = 0; i < CLASHES; i++) {
        MscFlow *flow = lab_flow(IPPROTO_UDP, "10.20.0.66", i, PEER, 53);

        lab_snat(flow, NAT, (uint16_t)(40000 + i));
        lab_create(flow);
    }
    a = lab_host_new();
    for (uint16_t i = 0; i < CLASHES; i++) {
        MscFlow *flow = udp((uint16_t)(100 + i));

        lab_snat(flow, NAT, (uint16_t)(40000 + i));
        lab_create(flow);
    }
    reasons = ask(s, b);
    g_assert_cmpuint(reasons->len, ==, 17);
    for (guint i = 0; i < 16; i++) {
        g_assert_nonnull(strstr(reasons->pdata[i], "clashes with udp "
                                                   "10.20.0.66:"));
    }
    g_assert_nonnull(strstr(reasons->pdata[16], "4 more"));
    lab_host_free(a);
    lab_host_free(b);
}

static void test_strangers_in_the_request(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = lab_guest(), wide = msc_selector_new();
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GBytes) summary = NULL, answer = NULL;
    g_autoptr(GError) err = NULL;
    MscFlow *flow = lab_flow(IPPROTO_UDP, "10.20.0.66", 1, PEER, 53);

    lab_snat(flow, NAT, 40000);
    lab_create(flow);
    wide->has_zone = true;
    summary = p->summarize(wide, 65536, &err);
    g_assert_no_error(err);
    g_assert_false(p->check(s, summary, false, reasons, &answer, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    lab_host_free(host);
}

typedef struct {
    const MscAddress *address;
    bool reply;
    guint matching, others;
} Count;

static bool count(MscFlow *flow, void *opaque)
{
    Count *c = opaque;
    MscAddress a = { .family = nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO) };
    bool v4 = a.family == AF_INET;
    enum nf_conntrack_attr attr =
        c->reply ? (v4 ? ATTR_REPL_IPV4_SRC : ATTR_REPL_IPV6_SRC)
                 : (v4 ? ATTR_ORIG_IPV4_SRC : ATTR_ORIG_IPV6_SRC);

    memcpy(a.bytes, nfct_get_attr(flow, attr), v4 ? 4 : 16);
    if (msc_address_equal(&a, c->address)) {
        c->matching++;
    } else {
        c->others++;
    }
    nfct_destroy(flow);
    return true;
}

/* What the probe says must be what the kernel does, on entries that the probe
 * did not make; where it is not honoured, collecting is right all the same. */
static void test_filters_do_what_the_probe_says(void)
{
    int host = lab_host_new();
    guint filters = msc_ct_filters();
    g_autofree char *text = msc_ct_filters_describe();

    g_assert_cmpuint(lab_count(), ==, 0); /* it leaves nothing */
    g_test_message("%s", text);
    for (int v6 = 0; v6 <= 1; v6++) {
        const char *mine = v6 ? GUEST6 : GUEST, *peer = v6 ? PEER6 : PEER;
        const char *other = v6 ? "fd20::66" : "10.20.0.66";
        g_autoptr(MscSelector) s = msc_selector_new();
        g_autoptr(GBytes) payload = NULL;
        bool exact = true;

        lab_create(lab_flow(IPPROTO_UDP, mine, 1, peer, 53));
        lab_create(lab_flow(IPPROTO_UDP, other, 1, peer, 53));
        lab_create(lab_flow(IPPROTO_UDP, peer, 1, mine, 53));
        lab_create(lab_flow(IPPROTO_UDP, peer, 1, other, 53));
        lab_add_address(s->addresses, mine);
        for (int reply = 0; reply <= 1; reply++) {
            const MscAddress *a = &g_array_index(s->addresses, MscAddress, 0);
            MscCtQuery query = { .family = a->family,
                                 .originator = reply ? NULL : a,
                                 .responder = reply ? a : NULL };
            Count c = { .address = a, .reply = reply };
            g_autoptr(MscCt) ct = msc_ct_open(NULL);
            g_autoptr(GError) err = NULL;

            if (!msc_ct_query(ct, &query, count, &c, &err) || c.matching != 1 ||
                c.others) {
                exact = false;
            }
        }
        g_assert_true(exact ==
                      !!(filters & (v6 ? MSC_FILTER_IPV6 : MSC_FILTER_IPV4)));
        payload = lab_collect(s, 2);
    }
    lab_host_free(host);
}

/* A probe on behalf of one guest may use another's zone. */
static void test_probes_are_not_collected(void)
{
    int host = lab_host_new();
    g_autoptr(MscSelector) s = msc_selector_new();
    g_autoptr(GBytes) payload = NULL;
    static const uint8_t families[] = { AF_INET, AF_INET6 };

    s->has_zone = true;
    s->zone = 12;
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        MscFlow *scratch = msc_scratch_new(families[i], IPPROTO_UDP);
        MscFlow *flow =
            i ? lab_flow(IPPROTO_UDP, GUEST6, 1, PEER6, 53)
              : lab_flow(IPPROTO_UDP, "0.0.0.0", 68, "255.255.255.255", 67);

        nfct_set_attr_u16(scratch, ATTR_ZONE, s->zone);
        nfct_set_attr_u16(flow, ATTR_ZONE, s->zone);
        lab_create(scratch);
        lab_create(flow);
    }
    g_assert_cmpuint(lab_count(), ==, 4);
    payload = lab_collect(s, 2);
    lab_host_free(host);
}

static void test_probe_finds_no_problem_here(void)
{
    int host = lab_host_new();
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) err = NULL;

    g_assert_true(p->probe(problems, &err));
    g_assert_no_error(err);
    g_assert_cmpuint(problems->len, ==, 0);
    g_assert_cmpuint(lab_count(), ==, 0);
    lab_host_free(host);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/conntrack-check/" name, function)
    ADD("filters-do-what-the-probe-says", test_filters_do_what_the_probe_says);
    ADD("probes-are-not-collected", test_probes_are_not_collected);
    ADD("probe-finds-no-problem-here", test_probe_finds_no_problem_here);
    ADD("labels-are-off", test_labels_are_off);
    ADD("helper-is-missing", test_helper_is_missing);
    ADD("every-feature", test_every_feature);
    ADD("counters-cannot-be-switched-on", test_counters_cannot_be_switched_on);
    ADD("counters-are-not-needed", test_counters_are_not_needed);
    ADD("clashes-before-ram", test_clashes_before_ram);
    ADD("strangers-in-the-request", test_strangers_in_the_request);
#undef ADD
    return g_test_run();
}
