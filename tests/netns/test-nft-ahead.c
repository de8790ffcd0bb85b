/*
 * Sets move while the guest runs, and at the end the rest of its table: what
 * arrives is what there was at the end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "nft-ahead-lab.h"

/* Enough for several batches. */
#define MANY 20000
#define SOME 1000

static void test_all_arrives(void)
{
    NftAhead *l = nft_ahead_new_of(MANY);
    g_autofree char *during = NULL;

    g_assert_cmpuint(nft_ahead_bulk(l), >, 2);
    during = nft_ahead_listing_of_b(l);
    /* Inert: sets alone, and not those that packets fill. */
    g_assert_null(strstr(during, "chain"));
    g_assert_nonnull(strstr(during, "11.0.0.2"));
    g_assert_null(strstr(during, "1.2.3.4"));
    g_assert_null(strstr(during, "dynamic"));
    nft_ahead_final(l);
    nft_ahead_assert_same(l);
    nft_ahead_free(l);
}

/* What comes at the end does not grow with what was sent before. */
static void test_the_end_is_the_rest(void)
{
    gsize size[2];

    for (int i = 0; i < 2; i++) {
        NftAhead *l = nft_ahead_new_of(i ? MANY : MANY / 2);

        nft_ahead_bulk(l);
        size[i] = nft_ahead_final(l);
        nft_ahead_free(l);
    }
    g_assert_cmpuint(size[0], ==, size[1]);
}

#define CHANGES                                                 \
    "add element inet g s { 12.0.0.1, 12.0.0.2 }\n"             \
    "delete element inet g s { 11.0.0.2 }\n"                    \
    "add element inet g i { 12.0.0.0/24, 12.1.0.1-12.1.0.9 }\n" \
    "delete element inet g i { 11.0.0.4/31 }\n"                 \
    "add element inet g c { 12.0.0.0/24 . 1-2 }\n"              \
    "delete element inet g c { 11.0.0.4/31 . 80-90 }\n"         \
    "delete element inet g m { 11.0.0.8 }\n"                    \
    "add element inet g m { 11.0.0.8 : 9 }\n"                   \
    "delete element inet g t { 11.0.0.6 }\n"                    \
    "add element inet g t { 12.0.0.6 timeout 30m }\n"           \
    "add element inet g few { 1.2.3.5 }\n"                      \
    "add rule inet g f iifname \"tap7\" tcp dport 25 drop\n"

static void test_changes_follow(void)
{
    NftAhead *l = nft_ahead_new_of(SOME * 3);
    g_autofree char *during = NULL;

    nft_ahead_bulk(l);
    nft_load(CHANGES);
    nft_ahead_follow(l);
    during = nft_ahead_listing_of_b(l);
    g_assert_nonnull(strstr(during, "12.0.0.2"));
    nft_ahead_final(l);
    nft_ahead_assert_same(l);
    nft_ahead_free(l);
}

static void test_changes_at_the_stop(void)
{
    NftAhead *l = nft_ahead_new_of(SOME * 3);
    g_autofree char *during = NULL;
    gsize unchanged;

    nft_ahead_bulk(l);
    nft_load(CHANGES);
    during = nft_ahead_listing_of_b(l);
    g_assert_null(strstr(during, "12.0.0.2"));
    unchanged = nft_ahead_final(l);
    /* The set whose elements have times came whole, of the others little. */
    g_assert_cmpuint(unchanged, <, 32 * 1024);
    nft_ahead_assert_same(l);
    nft_ahead_free(l);
}

/* Both, with everything gone from a set, and back in it. */
static void test_a_set_is_emptied_and_filled(void)
{
    NftAhead *l = nft_ahead_new_of(SOME * 3);

    nft_ahead_bulk(l);
    for (int i = 0; i < 2; i++) {
        nft_load("flush set inet g s\nflush set inet g i\n");
        nft_ahead_follow(l);
        nft_load("add element inet g s { 11.0.0.2, 13.0.0.1 }\n"
                 "add element inet g i { 11.0.0.2-11.0.0.9 }\n");
        nft_ahead_follow(l);
    }
    nft_load("flush set inet g s\n");
    nft_ahead_final(l);
    nft_ahead_assert_same(l);
    nft_ahead_free(l);
}

static void test_another_shape_begins_anew(void)
{
    NftAhead *l = nft_ahead_new_of(SOME);
    g_autofree char *other = nft_ahead_rules(2 * SOME);

    nft_ahead_bulk(l);
    nft_load("delete table inet g\n");
    nft_load(other);
    do {
        g_autoptr(GBytes) batch = nft_ahead_next(l);
        g_autoptr(GError) err = NULL;

        if (l->progress.anew) {
            nft_ahead_undo(l);
            {
                g_autofree char *undone = nft_ahead_listing_of_b(l);

                g_assert_cmpstr(undone, ==, "");
            }
            nft_ahead_stage(l, batch, 0, &err);
            g_assert_no_error(err);
            break;
        }
        g_assert_cmpuint(g_bytes_get_size(batch), ==, 0);
    } while (true);
    nft_ahead_bulk(l);
    nft_ahead_final(l);
    nft_ahead_assert_same(l);
    nft_ahead_free(l);
}

/* When the guest has stopped, it is too late for that. */
static void test_another_shape_at_the_stop_is_collected(void)
{
    NftAhead *l = nft_ahead_new_of(SOME);
    g_autofree char *other = nft_ahead_rules(2 * SOME);

    nft_ahead_bulk(l);
    nft_load("delete table inet g\n");
    nft_load(other);
    g_assert_null(nft_ahead_last(l));
    nft_ahead_free(l);
}

/* Likewise with one that is now filled by packets. */
static void test_a_set_that_rules_fill_is_collected(void)
{
    NftAhead *l = nft_ahead_new_of(SOME);

    nft_ahead_bulk(l);
    nft_load("add rule inet g f add @t { ip saddr }\n");
    g_assert_null(nft_ahead_last(l));
    nft_ahead_free(l);
}

static void test_a_bulk_that_is_cut_off_is_collected(void)
{
    NftAhead *l = nft_ahead_new_of(MANY);
    g_autoptr(GBytes) first = nft_ahead_next(l);

    g_assert_cmpuint(g_bytes_get_size(first), >, 0);
    g_assert_false(l->progress.live);
    g_assert_null(nft_ahead_last(l));
    nft_ahead_free(l);
}

/* Of the first batches, elements whose time runs out on the way stay behind,
 * and those of the last too. */
static void test_times_go_on(void)
{
    NftAhead *l = nft_ahead_new_of(SOME);
    g_autoptr(GError) err = NULL;
    g_autofree char *there = NULL;

    nft_load("add element inet g t { 12.0.0.1 timeout 100s }\n");
    {
        g_autoptr(GBytes) batch = nft_ahead_next(l);

        g_assert_true(l->progress.live);
        nft_ahead_stage(l, batch, 101 * G_USEC_PER_SEC, &err);
        g_assert_no_error(err);
    }
    nft_ahead_final(l);
    there = nft_ahead_listing_of_b(l);
    g_assert_null(strstr(there, "12.0.0.1"));
    g_assert_nonnull(strstr(there, "timeout 3600s"));
    nft_ahead_free(l);
}

/* ---- before RAM ---- */

static bool may_go_ahead(NftAhead *l)
{
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GBytes) summary = nft_summary(l->lab->a);
    g_autoptr(GBytes) answer = NULL;
    g_autoptr(GError) err = NULL;

    lab_enter(l->lab->host_b);
    msc_nft_provider.check(l->lab->b, summary, false, reasons, &answer, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(reasons->len, ==, 0);
    lab_enter(l->lab->host_a);
    return answer;
}

static void test_a_table_that_is_there_waits_for_the_end(void)
{
    NftAhead *l = nft_ahead_new_of(SOME);

    l->lab->b->nft_existing = MSC_NFT_EXISTING_REPLACE;
    g_assert_true(may_go_ahead(l));
    lab_enter(l->lab->host_b);
    nft_load("table inet g { }\n");
    lab_enter(l->lab->host_a);
    g_assert_false(may_go_ahead(l));
    nft_ahead_free(l);
}

static void test_little_waits_for_the_end(void)
{
    NftAhead *l = nft_ahead_new("table inet g { set s { type ipv4_addr; "
                                "elements = { 1.2.3.4 } } }\n");

    g_assert_false(may_go_ahead(l));
    nft_ahead_free(l);
    /* Named in the request, too long to be in it. */
    l = nft_ahead_new_of(MANY * 2);
    g_assert_true(may_go_ahead(l));
    nft_ahead_free(l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, test) g_test_add_func("/nft-ahead/" name, test)
    ADD("all-arrives", test_all_arrives);
    ADD("the-end-is-the-rest", test_the_end_is_the_rest);
    ADD("changes-follow", test_changes_follow);
    ADD("changes-at-the-stop", test_changes_at_the_stop);
    ADD("a-set-is-emptied-and-filled", test_a_set_is_emptied_and_filled);
    ADD("another-shape-begins-anew", test_another_shape_begins_anew);
    ADD("another-shape-at-the-stop-is-collected",
        test_another_shape_at_the_stop_is_collected);
    ADD("a-set-that-rules-fill-is-collected",
        test_a_set_that_rules_fill_is_collected);
    ADD("a-bulk-that-is-cut-off-is-collected",
        test_a_bulk_that_is_cut_off_is_collected);
    ADD("times-go-on", test_times_go_on);
    ADD("a-table-that-is-there-waits-for-the-end",
        test_a_table_that_is_there_waits_for_the_end);
    ADD("little-waits-for-the-end", test_little_waits_for_the_end);
    return g_test_run();
}
