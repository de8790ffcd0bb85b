/*
 * A way back that begins with what was sent there, step by step.
 *
 *   host A --batches: the base--> host B
 *   host B --steps of the base, and what differs--> host A
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <string.h>

#include "conntrack-corpus.h"
#include "conntrack-precopy.h"
#include "error.h"
#include "precopy-lab.h"

#define MANY 3000
#define BATCH_MAX (256 * 1024)
/* A batch without anything in it: three counts. */
#define NOTHING 12

typedef struct {
    LabPrecopy *l;
    GPtrArray *batches; /* the base */
    guint read;
    guint broken;     /* the reading after so many fails; 0: none */
    guint staged;     /* of it, on the destination */
    gint64 told_us;   /* when it was new, monotonic */
    uint64_t age_us;  /* what it is told to be besides */
    GPtrArray *table; /* of host A, before */
    MscBase base;
    guint sent; /* ordinary batches on the way back */
} Back;

static const MscPrecopy *precopy(void)
{
    return msc_conntrack_provider.precopy;
}

/* Rounded up: on no host may there be more time left. */
static uint64_t age_of(const Back *b)
{
    return b->age_us + (uint64_t)(g_get_monotonic_time() - b->told_us) +
           G_USEC_PER_SEC;
}

static int next_of_base(void *opaque, GBytes **batch, uint64_t *age_us,
                        GError **errp)
{
    Back *b = opaque;

    if (b->broken && b->read + 1 >= b->broken) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_IO, "broken");
        return -1;
    }
    if (b->read == b->batches->len) {
        return 0;
    }
    *batch = g_bytes_ref(b->batches->pdata[b->read++]);
    *age_us = age_of(b);
    return 1;
}

static bool base_again(void *opaque, GError **errp)
{
    Back *b = opaque;

    (void)errp;
    b->read = 0;
    return true;
}

/* There, with what the current host has; then the hosts change places. */
static Back *back_new(LabPrecopy *l)
{
    Back *b = g_new0(Back, 1);
    g_autoptr(GError) err = NULL;
    int host = l->a;

    b->l = l;
    b->table = lab_table();
    b->told_us = g_get_monotonic_time();
    lab_precopy_begin(l);
    lab_precopy_bulk(l);
    lab_precopy_final(l);
    b->batches = l->batches;
    l->batches = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_assert_true(precopy()->retire(l->s, NULL, &err));
    g_assert_no_error(err);
    precopy()->source_end(l->source);
    precopy()->destination_end(l->destination);
    l->source = l->destination = NULL;
    l->a = l->b;
    l->b = host;
    b->base = (MscBase){ next_of_base, base_again, b };
    lab_enter(l->a);
    return b;
}

static void back_free(Back *b)
{
    lab_precopy_free(b->l);
    g_ptr_array_unref(b->batches);
    g_ptr_array_unref(b->table);
    g_free(b);
}

static void begin_back(Back *b)
{
    lab_precopy_begin(b->l);
    precopy()->source_base(b->l->source, &b->base);
}

static void stage_of_base(Back *b)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) now = NULL;

    lab_enter(b->l->b);
    now = precopy()->rebase(b->l->destination, b->batches->pdata[b->staged++],
                            age_of(b), &err);
    g_assert_no_error(err);
    lab_precopy_stage(b->l, now, &err);
    g_assert_no_error(err);
}

/* One step of whatever kind. */
static void go_on(Back *b)
{
    LabPrecopy *l = b->l;
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) batch =
        precopy()->next(l->source, BATCH_MAX, &l->progress, &err);

    g_assert_no_error(err);
    if (l->progress.anew) {
        lab_precopy_undo(l);
    }
    if (l->progress.based) {
        g_assert_cmpuint(g_bytes_get_size(batch), ==, 0);
    }
    for (guint i = 0; i < l->progress.based; i++) {
        stage_of_base(b);
    }
    if (g_bytes_get_size(batch)) {
        b->sent++;
        lab_precopy_stage(l, batch, &err);
        g_assert_no_error(err);
    }
}

static void go_live(Back *b)
{
    do {
        go_on(b);
    } while (!b->l->progress.live);
}

static gsize finish(Back *b)
{
    g_autoptr(GError) err = NULL;
    gsize size = lab_precopy_final(b->l);

    g_assert_true(precopy()->complete(b->l->destination, &err));
    g_assert_no_error(err);
    return size;
}

/* The destination's table is @before, read earlier or later. */
static void assert_there(Back *b, GPtrArray *before)
{
    g_autoptr(GPtrArray) after = NULL;

    lab_enter(b->l->b);
    after = lab_table();
    /* Both count down, and were not read at once. */
    lab_assert_same(before, after, true, 0, 20);
    lab_enter(b->l->a);
}

static void assert_same(Back *b)
{
    g_autoptr(GPtrArray) before = lab_table();

    assert_there(b, before);
}

/* Whatever kinds of flows: nothing of them is sent again. */
static void corpus_test(gconstpointer opaque)
{
    const CorpusKind *kind = opaque;
    LabPrecopy *l = lab_precopy_new();
    Back *b;

    kind->fill();
    b = back_new(l);
    begin_back(b);
    go_live(b);
    finish(b);
    g_assert_cmpuint(b->sent, ==, 0);
    assert_there(b, b->table);
    back_free(b);
}

static void fill(guint count)
{
    for (guint i = 0; i < count; i++) {
        lab_create(lab_guest_tcp((uint16_t)(1000 + i), 80));
    }
}

static void end(uint16_t port)
{
    MscFlow *flow = lab_guest_tcp(port, 80);

    lab_delete(flow);
    nfct_destroy(flow);
}

static void test_only_what_differs_is_sent(void)
{
    LabPrecopy *l = lab_precopy_new();
    Back *b;

    fill(MANY);
    b = back_new(l);
    end(1000);
    end(3999);
    lab_run("conntrack -U -p tcp -s " GUEST " --sport 1001 -m 7 "
            ">/dev/null 2>&1");
    lab_create(lab_guest_tcp(900, 80));
    begin_back(b);
    go_live(b);
    g_assert_cmpuint(b->staged, ==, b->batches->len);
    g_assert_cmpuint(b->sent, ==, 2); /* what the scan shows; what it lacks */
    g_assert_cmpuint(l->progress.sent, ==, MANY - 1);
    g_assert_cmpuint(finish(b), ==, NOTHING);
    assert_same(b);
    back_free(b);
}

/* It stops in the middle of each of the parts of a way back. */
static void test_final_at_any_time(void)
{
    for (guint steps = 0; steps < 6; steps++) {
        LabPrecopy *l = lab_precopy_new();
        Back *b;

        fill(MANY);
        b = back_new(l);
        for (uint16_t i = 0; i < 600; i++) {
            end((uint16_t)(1000 + 2 * i));
        }
        begin_back(b);
        for (guint i = 0; i < steps; i++) {
            go_on(b);
        }
        finish(b);
        assert_same(b);
        back_free(b);
    }
}

static void test_changes_while_it_is_compared(void)
{
    LabPrecopy *l = lab_precopy_new();
    Back *b;

    fill(MANY);
    b = back_new(l);
    begin_back(b);
    end(1000);
    go_on(b);
    end(1001);
    lab_create(lab_guest_tcp(1001, 80));
    go_on(b);
    end(1002);
    lab_create(lab_guest_tcp(901, 80));
    go_live(b);
    end(1003);
    finish(b);
    assert_same(b);
    back_free(b);
}

/* In the first reading, at once or later, and in the second. */
static void test_base_that_cannot_be_read(void)
{
    for (guint broken = 1; broken < 4; broken++) {
        LabPrecopy *l = lab_precopy_new();
        Back *b;

        fill(MANY);
        b = back_new(l);
        end(1000);
        b->broken = broken;
        begin_back(b);
        if (broken == 3) {
            b->broken = 0;
            go_on(b);
            b->broken = 1;
        }
        go_live(b);
        g_assert_cmpuint(b->sent, >=, MANY / MSC_BATCH_FLOWS);
        finish(b);
        assert_same(b);
        back_free(b);
    }
}

static void test_lost_events_void_the_base(void)
{
    LabPrecopy *l = lab_precopy_new();
    int usual = msc_conntrack_event_buffer;
    Back *b;

    fill(MANY);
    b = back_new(l);
    msc_conntrack_event_buffer = 4096;
    begin_back(b);
    msc_conntrack_event_buffer = usual;
    go_on(b);
    g_assert_cmpuint(l->progress.based, >, 0);
    for (uint16_t i = 0; i < 300; i++) {
        end((uint16_t)(1000 + i));
    }
    go_on(b);
    g_assert_true(l->progress.anew);
    go_live(b);
    finish(b);
    assert_same(b);
    back_free(b);
}

/* Old enough, nothing of it is left; the guest's own flows are new. */
static void test_time_is_over(void)
{
    LabPrecopy *l = lab_precopy_new();
    Back *b;

    fill(MANY);
    b = back_new(l);
    b->age_us = (uint64_t)1000 * G_USEC_PER_SEC;
    begin_back(b);
    go_live(b);
    g_assert_cmpuint(b->sent, >=, MANY / MSC_BATCH_FLOWS);
    finish(b);
    assert_same(b);
    back_free(b);
}

/* A time-out that differs by much is told, by little it is not. */
static void test_time_outs(void)
{
    static const struct {
        guint age_s;
        bool sent;
    } rows[] = { { 200, false }, { 300, true }, { 950, true } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        LabPrecopy *l = lab_precopy_new();
        Back *b;

        fill(10);
        b = back_new(l);
        b->age_us = (uint64_t)rows[i].age_s * G_USEC_PER_SEC;
        begin_back(b);
        go_live(b);
        g_assert_cmpuint(b->sent, ==, rows[i].sent);
        g_assert_cmpuint(finish(b), ==, NOTHING);
        back_free(b);
    }
}

/* The other host has lost a NAT address, and the policy gives up what is
 * translated to it. */
static void test_what_stays_behind_is_withdrawn(void)
{
    static const uint8_t only_guest[] = { 0, 1, 4, 10, 20, 0, 10 };
    g_autoptr(GBytes) answer =
        g_bytes_new_static(only_guest, sizeof(only_guest));
    LabPrecopy *l = lab_precopy_new();
    MscFlow *translated = lab_guest_tcp(900, 80);
    g_autoptr(GError) err = NULL;
    Back *b;

    lab_snat(translated, NAT, 900);
    lab_create(translated);
    fill(10);
    b = back_new(l);
    l->s->nat_policy = MSC_NAT_LEAVE_BEHIND;
    lab_precopy_begin(l);
    g_assert_true(precopy()->source_admitted(l->source, answer, &err));
    g_assert_no_error(err);
    precopy()->source_base(l->source, &b->base);
    go_live(b);
    finish(b);
    lab_enter(l->b);
    g_assert_cmpuint(lab_count(), ==, 10);
    lab_enter(l->a);
    g_assert_cmpuint(lab_count(), ==, 11);
    back_free(b);
}

/* Of what differs, as "diff" tells it. */
static void test_compare(void)
{
    LabPrecopy *l = lab_precopy_new();
    g_autoptr(GError) err = NULL;
    MscBaseDiff diff;
    Back *b;

    fill(MANY);
    b = back_new(l);
    g_assert_true(precopy()->compare(l->s, &b->base, &diff, &err));
    g_assert_no_error(err);
    g_assert_cmpuint(diff.same, ==, MANY);
    g_assert_cmpuint(diff.bytes, ==, 0);
    end(1000);
    end(1001);
    lab_run("conntrack -U -p tcp -s " GUEST " --sport 1002 -m 7 "
            ">/dev/null 2>&1");
    lab_create(lab_guest_tcp(900, 80));
    g_assert_true(precopy()->compare(l->s, &b->base, &diff, &err));
    g_assert_no_error(err);
    g_assert_cmpuint(diff.same, ==, MANY - 3);
    g_assert_cmpuint(diff.changed, ==, 1);
    g_assert_cmpuint(diff.added, ==, 1);
    g_assert_cmpuint(diff.gone, ==, 2);
    g_assert_cmpuint(diff.bytes, >, 0);
    g_assert_cmpuint(diff.bytes, <, diff.whole / 100);
    b->broken = 1;
    g_assert_false(precopy()->compare(l->s, &b->base, &diff, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_IO);
    back_free(b);
}

#define ADD(name, function) g_test_add_func("/conntrack-base/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (const CorpusKind *kind = corpus; kind->name; kind++) {
        g_autofree char *path =
            g_strdup_printf("/conntrack-base/kinds/%s", kind->name);

        g_test_add_data_func(path, kind, corpus_test);
    }
    ADD("only-what-differs-is-sent", test_only_what_differs_is_sent);
    ADD("final-at-any-time", test_final_at_any_time);
    ADD("changes-while-it-is-compared", test_changes_while_it_is_compared);
    ADD("base-that-cannot-be-read", test_base_that_cannot_be_read);
    ADD("lost-events-void-the-base", test_lost_events_void_the_base);
    ADD("time-is-over", test_time_is_over);
    ADD("time-outs", test_time_outs);
    ADD("what-stays-behind-is-withdrawn", test_what_stays_behind_is_withdrawn);
    ADD("compare", test_compare);
    return g_test_run();
}
