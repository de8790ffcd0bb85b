/*
 * The look at the table before RAM is also the bulk of what is sent: what was
 * read for the one is kept for the other.
 *
 *   host A: look, events..., batches of what the look saw --> host B
 *
 * A flow that is made where nobody is told of it shows who has read the table
 * when: what was read before does not have it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "conntrack-admission.h"
#include "conntrack-precopy.h"
#include "precopy-lab.h"

#define MANY 3000
#define UNTOLD 777

static void fill(uint16_t first, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        lab_create(lab_guest_tcp((uint16_t)(first + i), 80));
    }
}

static void tell(bool on)
{
    lab_sysctl("netfilter/nf_conntrack_events", on ? "1" : "0");
}

static void create_untold(void)
{
    tell(false);
    fill(UNTOLD, 1);
    tell(true);
}

/* As conntrack -U would. */
static void change(const char *what)
{
    lab_run("conntrack -U -p tcp -s " GUEST " %s >/dev/null 2>&1", what);
}

static bool is_there(const LabPrecopy *l, int host, uint16_t port)
{
    g_autofree char *found = NULL;

    lab_enter(host);
    found = lab_output("conntrack -L -p tcp --sport %u 2>/dev/null", port);
    lab_enter(l->a);
    return *found;
}

static uint32_t flows_told_of(const LabPrecopy *l)
{
    MscReader r;
    uint32_t flows = 0;

    msc_reader_init(&r, g_bytes_get_data(l->summary, NULL),
                    g_bytes_get_size(l->summary));
    g_assert_true(msc_reader_u32(&r, &flows));
    return flows;
}

static void test_the_table_is_read_once(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill(1000, MANY);
    lab_precopy_begin(l);
    g_assert_cmpuint(flows_told_of(l), ==, MANY);
    create_untold();
    lab_precopy_bulk(l);
    g_assert_cmpuint(l->progress.sent, ==, MANY);
    g_assert_false(is_there(l, l->b, UNTOLD));
    lab_precopy_free(l);
}

/* The twin: told of, the same flow is sent. */
static void test_changes_in_between_are_sent(void)
{
    for (int at_the_end = 0; at_the_end <= 1; at_the_end++) {
        LabPrecopy *l = lab_precopy_new();
        MscFlow *gone = lab_guest_tcp(1003, 80);
        MscFlow *first = lab_guest_tcp(1004, 80);
        MscFlow *again = lab_guest_tcp(1004, 80);

        fill(1000, MANY);
        lab_precopy_begin(l);
        fill(UNTOLD, 1);
        change("--sport 1001 -m 7");
        change("--sport 1002 --state CLOSE_WAIT -t 50");
        lab_delete(gone);
        lab_delete(first);
        lab_snat(again, NAT, 4004);
        lab_create(again);
        if (!at_the_end) {
            lab_precopy_bulk(l);
        }
        lab_precopy_final(l);
        g_assert_true(is_there(l, l->b, UNTOLD));
        g_assert_false(is_there(l, l->b, 1003));
        lab_precopy_assert_same(l);
        nfct_destroy(gone);
        nfct_destroy(first);
        lab_precopy_free(l);
    }
}

/* A look that stops in the middle goes on where it was. */
static void test_a_part_was_looked_at(void)
{
    LabPrecopy *l = lab_precopy_new();
    uint32_t usual = msc_conntrack_looked_at_max;

    fill(1000, MANY);
    msc_conntrack_looked_at_max = 500;
    lab_precopy_begin(l);
    msc_conntrack_looked_at_max = usual;
    g_assert_cmpuint(flows_told_of(l), >=, 500);
    g_assert_cmpuint(flows_told_of(l), <, MANY);
    lab_precopy_bulk(l);
    lab_precopy_final(l);
    g_assert_cmpuint(l->staged, ==, MANY);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

/* The guest stops before any batch was asked for. */
static void test_the_end_comes_at_once(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill(1000, 10);
    lab_precopy_begin(l);
    fill(UNTOLD, 1);
    lab_precopy_final(l);
    g_assert_cmpuint(l->staged, ==, 11);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

static void test_a_look_is_not_for_the_next_migration(void)
{
    LabPrecopy *l = lab_precopy_new();

    fill(1000, 10);
    lab_precopy_look(l);
    g_assert_cmpuint(flows_told_of(l), ==, 10);
    lab_precopy_give_up(l);
    create_untold();
    lab_precopy_begin(l);
    g_assert_cmpuint(flows_told_of(l), ==, 11);
    lab_precopy_bulk(l);
    g_assert_true(is_there(l, l->b, UNTOLD));
    lab_precopy_final(l);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

static void test_lost_events_mean_another_look(void)
{
    LabPrecopy *l = lab_precopy_new();
    int usual = msc_conntrack_event_buffer;

    fill(1000, 10);
    msc_conntrack_event_buffer = 4096;
    lab_precopy_begin(l);
    create_untold();
    fill(2000, 200);
    msc_conntrack_event_buffer = usual;
    lab_precopy_next(l);
    g_assert_true(l->progress.anew);
    lab_precopy_bulk(l);
    g_assert_true(is_there(l, l->b, UNTOLD));
    lab_precopy_final(l);
    lab_precopy_assert_same(l);
    lab_precopy_free(l);
}

static guint64 time_left(const LabPrecopy *l, uint16_t port)
{
    g_autofree char *text = NULL;

    lab_enter(l->b);
    /* "tcp 6 LEFT STATE ..." */
    text = lab_output("conntrack -L -p tcp --sport %u 2>/dev/null | "
                      "awk '{ print $3 }'",
                      port);
    lab_enter(l->a);
    return g_ascii_strtoull(text, NULL, 10);
}

/* Packets refresh a time-out, and nobody is told. */
static void test_what_may_be_over_is_asked_for(void)
{
    LabPrecopy *l = lab_precopy_new();

    tell(false);
    fill(900, 1);
    change("-t 4000");
    fill(1000, 10);
    change("--sport 1000 -t 50");
    change("--sport 1009 -t 50");
    lab_precopy_begin(l);
    change("-t 8000");
    lab_run("conntrack -D -p tcp --sport 1009 >/dev/null 2>&1");
    tell(true);
    lab_precopy_bulk(l);
    g_assert_false(is_there(l, l->b, 1009));
    g_assert_cmpuint(time_left(l, 1000), >, 4000);
    /* The twin, which had time enough. */
    g_assert_cmpuint(time_left(l, 900), <=, 4000);
    lab_precopy_free(l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/conntrack-once/" name, function)
    ADD("the-table-is-read-once", test_the_table_is_read_once);
    ADD("changes-in-between-are-sent", test_changes_in_between_are_sent);
    ADD("a-part-was-looked-at", test_a_part_was_looked_at);
    ADD("the-end-comes-at-once", test_the_end_comes_at_once);
    ADD("a-look-is-not-for-the-next-migration",
        test_a_look_is_not_for_the_next_migration);
    ADD("lost-events-mean-another-look", test_lost_events_mean_another_look);
    ADD("what-may-be-over-is-asked-for", test_what_may_be_over_is_asked_for);
    return g_test_run();
}
