/*
 * conntrack-tools' own view of the source before a migration and of the
 * destination after it: the same, but for what conntrack-view.c permits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "conntrack-corpus.h"
#include "conntrack-view.h"
#include "handoff-lab.h"

static void enter(const Pair *pair, int host)
{
    g_autofree char *path = g_strdup_printf("/run/netns/%s", pair->netns[host]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    lab_enter(fd);
    close(fd);
}

/* Both hosts track and keep labels; the test is on host 0. */
static Pair *view_pair_new(void)
{
    Pair *pair = pair_new_of("--address " GUEST " --address " GUEST6
                             " --nat-address " NAT " --nat-address " NAT6);

    for (int host = 1; host >= 0; host--) {
        enter(pair, host);
        lab_track();
        lab_run("nft add rule inet lab f ct label set 5");
    }
    return pair;
}

static void assert_same(const View *before, const View *after, guint transit_s)
{
    g_autoptr(GPtrArray) differences =
        view_differences(before, after, transit_s);

    for (guint i = 0; i < differences->len; i++) {
        g_test_message("%s", (const char *)differences->pdata[i]);
    }
    g_assert_cmpuint(differences->len, ==, 0);
}

/* What host 0 holds, all of it the guest's, goes to host 1; the test too. */
static View *move_all(Pair *pair)
{
    View *before = view_take();

    g_assert_cmpuint(view_fields(before), >, 0);
    pair_migrate_of(pair, 0, lab_count());
    g_assert_cmpuint(lab_count(), ==, 0);
    enter(pair, 1);
    return before;
}

static void expectations(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscPayload) call = corpus_call_payload(100, 0);
    g_autoptr(GBytes) bytes = msc_payload_encode(call);

    lab_restore(s, bytes, 0);
}

static void expectations_in_a_zone(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(MscPayload) call = corpus_call_payload(100, 5);
    g_autoptr(GBytes) bytes = msc_payload_encode(call);

    lab_restore(s, bytes, 0);
}

static void test_kind(gconstpointer opaque)
{
    const CorpusKind *kind = opaque;
    Pair *pair = view_pair_new();
    g_autoptr(View) before = NULL;
    g_autoptr(View) after = NULL;

    kind->fill();
    before = move_all(pair);
    after = view_take();
    assert_same(before, after, 0);
    pair_free(pair);
}

/* As test_kind() without daemons, which cannot be made slow. */
static void test_time_in_transit(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    int b = lab_host_new(), a;
    g_autoptr(View) before = NULL;
    g_autoptr(View) after = NULL;
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(GPtrArray) wrong = NULL;

    lab_track();
    a = lab_host_new();
    lab_track();
    corpus_plain();
    before = view_take();
    payload = lab_collect(s, lab_count());
    lab_enter(b);
    lab_restore(s, payload, 500 * G_USEC_PER_SEC);
    after = view_take();
    assert_same(before, after, 500);
    /* Its twin: that much is not lost without a reason. */
    wrong = view_differences(before, after, 0);
    g_assert_cmpuint(wrong->len, >, 0);
    for (guint i = 0; i < wrong->len; i++) {
        g_assert_nonnull(strstr(wrong->pdata[i], "s later"));
    }
    lab_host_free(a);
    lab_host_free(b);
}

#define FROM "-s " GUEST " -d " PEER

/* What is not as it was must be seen: a change for each field, made on the
 * destination after a move, and the words that tell of it. */
static const struct {
    const char *name, *change;
    const char *says[3];
} changes[] = {
    { "mark",
      "conntrack -U -p udp " FROM " --sport 2001 --dport 53 -m 7",
      { "xml: independent/mark: 3 became 7", "list: mark: 3 became 7" } },
    { "label",
      "conntrack -U -p udp " FROM " --sport 2001 --dport 53 --label-add bit9",
      { "list: labels: bit4 became bit4,bit9" } },
    { "state",
      "conntrack -U -p tcp " FROM " --sport 2000 --dport 80 --state CLOSE_WAIT",
      { "xml: independent/state: ESTABLISHED became CLOSE_WAIT",
        "save: --state: ESTABLISHED became CLOSE_WAIT" } },
    { "longer",
      "conntrack -U -p tcp " FROM " --sport 2000 --dport 80 -t 5000",
      { "xml: independent/timeout: ", "save: -t: ", "list: word5: " } },
    { "shorter",
      "conntrack -U -p tcp " FROM " --sport 2000 --dport 80 -t 5",
      { "xml: independent/timeout: ", "save: -t: ", "list: word5: " } },
    { "assured",
      "conntrack -D -p udp --sport 2003 && "
      "conntrack -I -p udp " FROM " --sport 2003 --dport 53 "
      "-u SEEN_REPLY,ASSURED -t 1000 -w 3",
      { "xml: independent/assured: (none) became ",
        "save: -u: SEEN_REPLY became SEEN_REPLY,ASSURED",
        "list: [ASSURED]: (none) became [ASSURED]" } },
    { "nat-port",
      "conntrack -D -p udp --sport 2002 && "
      "conntrack -I -p udp " FROM " --sport 2002 --dport 53 "
      "-r " PEER " -q " NAT " --reply-port-src 53 --reply-port-dst 30001 "
      "-u SEEN_REPLY,ASSURED -t 1000",
      { "xml: reply/layer4/dport: 30000 became 30001",
        "save: --reply-port-dst: 30000 became 30001",
        "list: dport#2: 30000 became 30001" } },
    { "icmp-id",
      "conntrack -D -p icmp && "
      "conntrack -I -p icmp " FROM " --icmp-type 8 "
      "--icmp-code 0 --icmp-id 8 -u SEEN_REPLY,ASSURED -t 1000",
      { "save: --icmp-id: 7 became 8", "list: id: 7 became 8" } },
    { "zone",
      "conntrack -D -p udp --sport 2003 && "
      "conntrack -I -p udp " FROM " --sport 2003 --dport 53 "
      "-u SEEN_REPLY -t 1000 -w 4",
      { "xml: independent/zone: 3 became 4", "save: -w: 3 became 4",
        "list: zone: 3 became 4" } },
    { "lost",
      "conntrack -D -p tcp --sport 2000",
      { "xml: lost ", "save: lost ", "list: lost " } },
    { "new",
      "conntrack -I -p udp -s " GUEST6 " -d " PEER6 " --sport 9 --dport 9 "
      "-u SEEN_REPLY -t 1000",
      { "xml: new ", "save: new ", "list: new " } },
    { "expectation-lost",
      "conntrack -F expect",
      { "expect-xml: lost ", "expect-list: lost " } },
};

static void fill_for_changes(void)
{
    MscFlow *flow;

    lab_create(lab_flow(IPPROTO_TCP, GUEST, 2000, PEER, 80));
    flow = lab_flow(IPPROTO_UDP, GUEST, 2001, PEER, 53);
    {
        struct nfct_bitmask *labels = nfct_bitmask_new(127);

        nfct_bitmask_set_bit(labels, 4);
        nfct_set_attr(flow, ATTR_CONNLABELS, labels);
    }
    nfct_set_attr_u32(flow, ATTR_MARK, 3);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, GUEST, 2002, PEER, 53);
    lab_snat(flow, NAT, 30000);
    lab_create(flow);
    flow = lab_flow(IPPROTO_UDP, GUEST, 2003, PEER, 53);
    nfct_set_attr_u32(flow, ATTR_STATUS, IPS_CONFIRMED | IPS_SEEN_REPLY);
    nfct_set_attr_u16(flow, ATTR_ZONE, 3);
    lab_create(flow);
    lab_create(lab_flow(IPPROTO_ICMP, GUEST, 7, PEER, 0));
    expectations();
}

static void test_changes_are_seen(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
        Pair *pair = view_pair_new();
        g_autoptr(View) before = NULL;
        g_autoptr(View) after = NULL;
        g_autoptr(GPtrArray) said = NULL;

        fill_for_changes();
        before = move_all(pair);
        after = view_take();
        assert_same(before, after, 0);
        g_clear_pointer(&after, view_free);
        view_run(changes[i].change);
        after = view_take();
        said = view_differences(before, after, 0);
        for (guint k = 0; k < said->len; k++) {
            g_test_message("%s: %s", changes[i].name,
                           (const char *)said->pdata[k]);
        }
        for (size_t k = 0; k < 3 && changes[i].says[k]; k++) {
            bool found = false;

            for (guint n = 0; n < said->len; n++) {
                found |= g_str_has_prefix(said->pdata[n], changes[i].says[k]);
            }
            if (!found) {
                g_error("%s: nobody says '%s'", changes[i].name,
                        changes[i].says[k]);
            }
        }
        pair_free(pair);
    }
}

int main(int argc, char **argv)
{
    static const CorpusKind more[] = {
        { "labels", corpus_labels },
        { "expectations", expectations },
        { "expectations-in-a-zone", expectations_in_a_zone },
        { 0 },
    };
    const CorpusKind *const kinds[] = { corpus, more };

    g_test_init(&argc, &argv, NULL);
    if (geteuid() != 0) {
        g_print("1..0 # SKIP needs root for network namespaces\n");
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        for (const CorpusKind *kind = kinds[i]; kind->name; kind++) {
            g_autofree char *path =
                g_strconcat("/handoff-view/", kind->name, NULL);

            g_test_add_data_func(path, kind, test_kind);
        }
    }
    g_test_add_func("/handoff-view/time-in-transit", test_time_in_transit);
    g_test_add_func("/handoff-view/changes-are-seen", test_changes_are_seen);
    return g_test_run();
}
