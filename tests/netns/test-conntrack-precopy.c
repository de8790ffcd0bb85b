/*
 * Flows that are sent ahead, and what becomes of them until the guest stops.
 *
 *   host A: conntrack --scan, events--> batches --stage--> host B
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <string.h>

#include "conntrack-corpus.h"
#include "conntrack-precopy.h"
#include "conntrack-watch.h"
#include "error.h"
#include "precopy-lab.h"

#define MANY 3000
/* A batch without anything in it: three counts. */
#define NOTHING 12

static void fill(uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        lab_create(lab_guest_tcp((uint16_t)(1000 + i), 80));
    }
}

/* Sets what a command of conntrack's would. */
static void G_GNUC_PRINTF(1, 2) change(const char *format, ...)
{
    g_autofree char *options = NULL;
    va_list args;

    va_start(args, format);
    options = g_strdup_vprintf(format, args);
    va_end(args);
    lab_run("conntrack -U -p tcp -s " GUEST " %s >/dev/null 2>&1", options);
}

static void end(uint16_t port)
{
    MscFlow *flow = lab_guest_tcp(port, 80);

    lab_delete(flow);
    nfct_destroy(flow);
}

/* Sent ahead, then the end of it: as if it had been moved at once. */
static void corpus_test(gconstpointer opaque)
{
    const CorpusKind *kind = opaque;
    LabPrecopy *l = lab_precopy_new();

    kind->fill();
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    lab_precopy_final(l);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

static char *expectations(void)
{
    return lab_output("conntrack -L expect 2>/dev/null | "
                      "sed -E 's/^[0-9]+ //' | sort");
}

/* They come with the last batch, whatever happens to them before. */
static void test_expectations_come_last(void)
{
    LabPrecopy *l = lab_precopy_new();
    g_autoptr(MscPayload) made = corpus_call_payload(100, 0);
    g_autoptr(MscPayload) later = corpus_call_payload(101, 0);
    g_autoptr(GBytes) bytes = msc_payload_encode(made);
    g_autoptr(GBytes) more = NULL;
    g_autofree char *early = NULL, *before = NULL, *after = NULL;

    lab_restore(l->s, bytes, 0);
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    lab_enter(l->b);
    early = expectations();
    g_assert_cmpstr(early, ==, "");
    lab_enter(l->a);
    g_ptr_array_set_size(later->expects, 0);
    g_ptr_array_add(later->expects,
                    corpus_announced(later->flows->pdata[0], 4010));
    more = msc_payload_encode(later);
    lab_restore(l->s, more, 0);
    before = expectations();
    g_assert_nonnull(strstr(before, "dport=4001"));
    g_assert_nonnull(strstr(before, "dport=4010"));
    lab_precopy_final(l);
    lab_precopy_assert_same(l);
    lab_enter(l->b);
    after = expectations();
    g_assert_cmpstr(before, ==, after);
    lab_precopy_free(l);
}

/* A quiet table costs nothing at the end, however large it is. */
static void test_quiet_flows_are_sent_once(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill(MANY);
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    g_assert_cmpuint(l->progress.sent, ==, MANY);
    g_assert_cmpuint(l->staged, ==, MANY);
    g_assert_cmpuint(l->batches->len, >=, MANY / MSC_BATCH_FLOWS);
    g_assert_cmpuint(lab_precopy_final(l), ==, NOTHING);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

static void changes_of_every_kind(void)
{
    MscFlow *again;

    lab_create(lab_guest_tcp(500, 80)); /* begins */
    change("--sport 1001 --state CLOSE_WAIT -t 50");
    change("--sport 1002 -m 7");
    end(1003);
    end(1004); /* and begins again, as another one */
    again = lab_guest_tcp(1004, 80);
    lab_snat(again, NAT, 4004);
    lab_create(again);
    lab_create(lab_guest_tcp(501, 80)); /* begins and ends */
    end(501);
}

static void test_changes_follow(void)
{
    for (int at_the_end = 0; at_the_end <= 1; at_the_end++) {
        LabPrecopy *l = lab_precopy_new();

        fill(10);
        lab_precopy_begin(l);
        lab_precopy_bulk(l);
        changes_of_every_kind();
        if (!at_the_end) {
            g_assert_true(lab_precopy_next(l));
            lab_precopy_assert_same(l);
            g_assert_false(lab_precopy_next(l));
            g_assert_cmpuint(lab_precopy_final(l), ==, NOTHING);
        } else {
            g_assert_cmpuint(lab_precopy_final(l), >, NOTHING);
        }
        lab_precopy_assert_same(l);
        lab_precopy_free(l);
    }
}

/* Changes between two parts of the first scan. */
static void test_changes_during_the_scan(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill(MANY);
    lab_precopy_begin(l);
    g_assert_true(lab_precopy_next(l));
    g_assert_false(l->progress.live);
    changes_of_every_kind();
    g_assert_true(lab_precopy_next(l));
    for (uint16_t i = 1010; i < 1000 + MANY; i += 7) {
        end(i);
    }
    lab_precopy_bulk(l);
    lab_precopy_final(l);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

/* Nor must a guest that stops early wait for another round. */
static void test_guest_stops_during_the_scan(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill(MANY);
    lab_precopy_begin(l);
    lab_precopy_next(l);
    g_assert_false(l->progress.live);
    end(1003);
    lab_precopy_final(l);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

static void test_flow_that_times_out_is_gone(void)
{
    LabPrecopy *l = lab_precopy_new();
    MscFlow *brief = lab_guest_tcp(500, 80);

    fill(2);
    nfct_set_attr_u32(brief, ATTR_TIMEOUT, 1);
    lab_create(brief);
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    g_usleep(2 * G_USEC_PER_SEC);
    lab_precopy_final(l);
    g_assert_cmpuint(lab_count(), ==, 2);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

/* As they began before the daemon's start while nobody listened.  Not with
 * events=2: a listener anywhere on this machine counts. */
static void fill_silently(guint n)
{
    lab_sysctl("netfilter/nf_conntrack_timestamp", "0");
    lab_sysctl("netfilter/nf_conntrack_events", "0");
    fill(n);
}

/* Flows from before the daemon's start tell nothing of what becomes of them. */
static void test_silent_flows_are_looked_at(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill_silently(10);
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    change("--sport 1001 --state CLOSE_WAIT -t 50");
    change("--sport 1002 -m 7");
    end(1003);
    /* If the kernel told of these, the test would show nothing. */
    g_assert_false(lab_precopy_next(l));
    g_assert_cmpuint(lab_precopy_final(l), >, NOTHING);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

static void test_quiet_silent_flows_are_sent_once(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill_silently(10);
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    g_assert_cmpuint(lab_precopy_final(l), ==, NOTHING);
    lab_precopy_free(l);
}

static bool tells(uint16_t port)
{
    g_autoptr(GPtrArray) all = lab_table();
    MscFlow *flow = lab_guest_tcp(port, 80);
    g_autoptr(GBytes) wanted = msc_flow_key(flow);
    bool found = false, is = false;

    nfct_destroy(flow);
    for (guint i = 0; i < all->len; i++) {
        g_autoptr(GBytes) key = msc_flow_key(all->pdata[i]);

        if (g_bytes_equal(key, wanted)) {
            found = true;
            is = msc_watch_tells(all->pdata[i]);
        }
    }
    g_assert_true(found);
    return is;
}

/* Which flows tell is known over a restart of the daemon, and never believed
 * of one that began while events were off. */
static void test_who_tells_is_remembered(void)
{
    g_autofree char *dir = g_dir_make_tmp("msc-memo-XXXXXX", NULL);
    g_autofree char *memo = g_build_filename(dir, "memo", NULL);
    g_autoptr(GError) err = NULL;
    int host = lab_host_new();

    lab_track();
    /* Stamped, and silent: the twin of the ones below. */
    lab_sysctl("netfilter/nf_conntrack_timestamp", "1");
    lab_sysctl("netfilter/nf_conntrack_events", "2");
    lab_create(lab_guest_tcp(1, 80));
    g_usleep(1000);
    g_assert_true(msc_watch_prepare(memo, &err));
    lab_create(lab_guest_tcp(2, 80));
    g_assert_false(tells(1));
    g_assert_true(tells(2));
    /* Another start. */
    g_usleep(1000);
    g_assert_true(msc_watch_prepare(memo, &err));
    g_assert_false(tells(1));
    g_assert_true(tells(2));
    /* Without the file, or with another boot's, only what comes is known. */
    g_assert_true(g_file_set_contents(memo, "another-boot 1\n", -1, NULL));
    g_assert_true(msc_watch_prepare(memo, &err));
    lab_create(lab_guest_tcp(3, 80));
    g_assert_false(tells(2));
    g_assert_true(tells(3));
    /* Somebody switched it off. */
    lab_sysctl("netfilter/nf_conntrack_events", "2");
    msc_watch_check();
    g_assert_false(tells(3));
    lab_create(lab_guest_tcp(4, 80));
    g_usleep(1000);
    g_assert_true(msc_watch_prepare(memo, &err));
    g_assert_no_error(err);
    g_assert_false(tells(3));
    g_assert_false(tells(4));
    lab_run("rm -r '%s'", dir);
    lab_host_free(host);
}

/* More than a buffer of 4096 bytes holds. */
static void change_many(int mark)
{
    for (int i = 0; i < 300; i++) {
        change("--sport %d -m %d", 1000 + i, mark);
    }
}

static void touch_many(void)
{
    change_many(7);
    end(1299);
}

static void test_lost_events_begin_anew(void)
{
    LabPrecopy *l = lab_precopy_new();
    MscFlow *others = lab_flow(IPPROTO_TCP, "10.20.0.77", 1, PEER, 80);

    lab_enter(l->b);
    lab_create(others);
    lab_enter(l->a);
    msc_conntrack_event_buffer = 4096;
    fill(300);
    lab_precopy_begin(l);
    msc_conntrack_event_buffer = 8 * 1024 * 1024;
    lab_precopy_bulk(l);
    touch_many();
    g_assert_true(lab_precopy_next(l));
    g_assert_true(l->progress.anew);
    lab_precopy_bulk(l);
    /* It is heard again. */
    end(1000);
    lab_precopy_final(l);
    g_assert_cmpuint(lab_count(), ==, 298);
    lab_enter(l->b);
    g_assert_cmpuint(lab_count(), ==, 299);
    lab_precopy_free(l);
}

/* But not for ever: then the rest waits for the guest to stop. */
static void test_table_that_cannot_be_followed(void)
{
    LabPrecopy *l = lab_precopy_new();
    int usual = msc_conntrack_event_buffer;

    fill(1500);
    msc_conntrack_event_buffer = 4096;
    lab_precopy_begin(l);
    for (int i = 0; i < 3; i++) {
        lab_precopy_bulk(l);
        change_many(i + 1);
        g_assert_true(lab_precopy_next(l));
        g_assert_true(l->progress.anew);
        g_assert_false(l->progress.live);
    }
    lab_precopy_bulk(l);
    msc_conntrack_event_buffer = usual;
    change_many(8);
    g_assert_true(lab_precopy_next(l));
    g_assert_true(l->progress.anew);
    g_assert_true(l->progress.live);
    g_assert_cmpuint(l->progress.sent, <, lab_count());
    lab_precopy_final(l);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

static void test_events_lost_at_the_end(void)
{
    LabPrecopy *l = lab_precopy_new();
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) batch = NULL;
    MscProviderStats stats = { 0 };
    bool lost = false;
    int usual = msc_conntrack_event_buffer;

    msc_conntrack_event_buffer = 4096;
    fill(300);
    lab_precopy_begin(l);
    msc_conntrack_event_buffer = usual;
    lab_precopy_bulk(l);
    touch_many();
    batch =
        msc_conntrack_provider.precopy->final(l->source, &stats, &lost, &err);
    g_assert_no_error(err);
    g_assert_true(lost);
    g_assert_cmpuint(g_bytes_get_size(batch), ==, 0);
    lab_precopy_free(l);
}

/* What this host had before comes back; what others have is not touched. */
static void test_undo_leaves_nothing(void)
{
    LabPrecopy *l = lab_precopy_new();
    g_autoptr(GPtrArray) before = NULL, after = NULL;
    MscFlow *old = lab_guest_tcp(1005, 80);

    lab_enter(l->b);
    nfct_set_attr_u32(old, ATTR_MARK, 99);
    lab_create(old);
    lab_create(lab_guest_tcp(2, 80)); /* the guest's, in nobody's way */
    lab_create(lab_flow(IPPROTO_TCP, "10.20.0.77", 1, PEER, 80));
    before = lab_table();
    lab_enter(l->a);
    fill(1200);
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    g_assert_cmpuint(l->replaced->len, ==, 1);
    changes_of_every_kind();
    lab_precopy_final(l);
    lab_precopy_undo(l);
    lab_enter(l->b);
    after = lab_table();
    lab_assert_same(before, after, false, 0, 0);
    lab_precopy_free(l);
}

/* The helper died between its journal and the kernel: what waits to be
 * replaced has the batch's tuple, but is not the batch's. */
static void test_undo_of_a_batch_not_begun(void)
{
    LabPrecopy *l = lab_precopy_new();
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) batch = NULL;
    MscFlow *old = lab_guest_tcp(1005, 80);

    lab_enter(l->b);
    msc_conntrack_provider.precopy->prepare(NULL, &err);
    g_assert_no_error(err);
    nfct_set_attr_u32(old, ATTR_MARK, 99);
    lab_create(old);
    lab_enter(l->a);
    fill(20);
    lab_precopy_begin(l);
    batch = msc_conntrack_provider.precopy->next(l->source, 65536, &l->progress,
                                                 &err);
    g_assert_no_error(err);
    lab_precopy_record(l, batch);
    lab_precopy_undo(l);
    lab_enter(l->b);
    g_assert_cmpuint(lab_count(), ==, 1);
    /* Its twin: the same, staged. */
    lab_enter(l->a);
    lab_precopy_stage(l, batch, &err);
    g_assert_no_error(err);
    lab_enter(l->b);
    g_assert_cmpuint(lab_count(), ==, 20);
    g_ptr_array_set_size(l->replaced, 0);
    lab_enter(l->a);
    lab_precopy_undo(l);
    lab_enter(l->b);
    g_assert_cmpuint(lab_count(), ==, 0);
    lab_precopy_free(l);
}

/* A journal may know of a batch that was not staged, or only in part. */
static void test_undo_of_half_a_batch(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill(20);
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    lab_enter(l->b);
    for (uint16_t port = 1000; port < 1010; port++) {
        end(port);
    }
    g_assert_cmpuint(lab_count(), ==, 10);
    lab_precopy_undo(l);
    lab_enter(l->b);
    g_assert_cmpuint(lab_count(), ==, 0);
    lab_precopy_free(l);
}

static GBytes *batch_of(MscFlow *gone, MscFlow *brought)
{
    g_autoptr(MscBatch) batch = msc_batch_new();

    if (gone) {
        g_ptr_array_add(batch->gone, gone);
    }
    if (brought) {
        g_ptr_array_add(batch->payload->flows, brought);
    }
    return msc_batch_encode(batch);
}

static void test_what_is_not_the_guests_is_refused(void)
{
    const struct {
        MscFlow *gone, *brought;
        const char *why; /* NULL: it is fine */
    } rows[] = {
        { NULL, lab_guest_tcp(1, 80), NULL },
        { lab_guest_tcp(1, 80), lab_guest_tcp(1, 80), NULL },
        { lab_guest_tcp(1, 80), NULL, NULL },
        { lab_guest_tcp(1, 80), NULL, "never brought" },
        { lab_guest_tcp(2, 80), NULL, "never brought" },
        { NULL, lab_flow(IPPROTO_TCP, "10.20.0.77", 1, PEER, 80),
          "not the guest's" },
    };
    LabPrecopy *l = lab_precopy_new();

    lab_enter(l->b);
    lab_create(lab_guest_tcp(2, 80));
    lab_create(lab_guest_tcp(3, 80));
    lab_precopy_begin(l);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GBytes) batch = batch_of(rows[i].gone, rows[i].brought);
        g_autoptr(GError) err = NULL;

        if (!rows[i].why) {
            lab_precopy_stage(l, batch, &err);
            g_assert_no_error(err);
            continue;
        }
        g_assert_false(lab_precopy_stage(l, batch, &err));
        g_assert_nonnull(strstr(err->message, rows[i].why));
    }
    lab_enter(l->b);
    g_assert_cmpuint(lab_count(), ==, 2);
    lab_precopy_free(l);
}

/* Somebody else's flow in the way is named, and stays. */
static void test_clash_is_refused(void)
{
    LabPrecopy *l = lab_precopy_new();
    MscFlow *theirs = lab_flow(IPPROTO_TCP, "10.20.0.77", 1, PEER, 80);
    MscFlow *ours = lab_guest_tcp(1, 80);
    g_autoptr(GBytes) batch = NULL;
    g_autoptr(GError) err = NULL;

    lab_enter(l->b);
    lab_snat(theirs, NAT, 4000);
    lab_create(theirs);
    lab_snat(ours, NAT, 4000);
    batch = batch_of(NULL, ours);
    lab_precopy_begin(l);
    g_assert_false(lab_precopy_stage(l, batch, &err));
    g_assert_nonnull(strstr(err->message, "clashes with tcp 10.20.0.77:1"));
    lab_precopy_undo(l);
    lab_enter(l->b);
    g_assert_cmpuint(lab_count(), ==, 1);
    lab_precopy_free(l);
}

static MscFlow *child_of(const MscFlow *master, uint16_t port)
{
    MscFlow *flow = lab_guest_tcp(port, 8000);

    lab_child(flow, master);
    return flow;
}

/* Children need their masters, whichever the scan or the events show first. */
static void test_children_and_masters(void)
{
    LabPrecopy *l = lab_precopy_new();
    MscFlow *master = lab_guest_tcp(1500, 80);

    fill(1000);
    for (uint16_t i = 0; i < 50; i++) {
        lab_create(child_of(master, (uint16_t)(3000 + i)));
    }
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    lab_precopy_assert_same(l);
    lab_create(child_of(master, 3100));
    lab_create(lab_guest_tcp(4000, 80));
    nfct_destroy(master);
    master = lab_guest_tcp(4000, 80);
    lab_create(child_of(master, 3101));
    lab_precopy_final(l);
    lab_precopy_assert_same(l);
    nfct_destroy(master);
    lab_precopy_free(l);
}

static void test_retire_removes_the_guests_alone(void)
{
    LabPrecopy *l = lab_precopy_new();
    g_autoptr(GError) err = NULL;

    fill(1000);
    lab_create(lab_flow(IPPROTO_TCP, "10.20.0.77", 1, PEER, 80));
    msc_conntrack_provider.precopy->retire(l->s, NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(lab_count(), ==, 1);
    lab_precopy_free(l);
}

#define ADD(name, function) \
    g_test_add_func("/conntrack-precopy/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (const CorpusKind *kind = corpus; kind->name; kind++) {
        g_autofree char *path =
            g_strconcat("/conntrack-precopy/", kind->name, NULL);

        g_test_add_data_func(path, kind, corpus_test);
    }
    ADD("expectations-come-last", test_expectations_come_last);
    ADD("quiet-flows-are-sent-once", test_quiet_flows_are_sent_once);
    ADD("changes-follow", test_changes_follow);
    ADD("changes-during-the-scan", test_changes_during_the_scan);
    ADD("guest-stops-during-the-scan", test_guest_stops_during_the_scan);
    ADD("flow-that-times-out-is-gone", test_flow_that_times_out_is_gone);
    ADD("silent-flows-are-looked-at", test_silent_flows_are_looked_at);
    ADD("quiet-silent-flows-are-sent-once",
        test_quiet_silent_flows_are_sent_once);
    ADD("who-tells-is-remembered", test_who_tells_is_remembered);
    ADD("lost-events-begin-anew", test_lost_events_begin_anew);
    ADD("table-that-cannot-be-followed", test_table_that_cannot_be_followed);
    ADD("events-lost-at-the-end", test_events_lost_at_the_end);
    ADD("undo-leaves-nothing", test_undo_leaves_nothing);
    ADD("undo-of-half-a-batch", test_undo_of_half_a_batch);
    ADD("undo-of-a-batch-not-begun", test_undo_of_a_batch_not_begun);
    ADD("what-is-not-the-guests-is-refused",
        test_what_is_not_the_guests_is_refused);
    ADD("clash-is-refused", test_clash_is_refused);
    ADD("children-and-masters", test_children_and_masters);
    ADD("retire-removes-the-guests-alone",
        test_retire_removes_the_guests_alone);
    return g_test_run();
}
