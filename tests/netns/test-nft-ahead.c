/*
 * Sets move while the guest runs, and at the end the rest of its table: what
 * arrives is what there was at the end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "nft-ahead-lab.h"
#include "nft-netlink.h"
#include "nft-watch.h"

/* Enough for several batches. */
#define MANY 20000
#define SOME 1000

/* "11.0.0.0, 11.0.0.2, ...", each after @before. */
static void add_addresses(GString *text, guint count, const char *after)
{
    for (guint i = 0; i < count; i++) {
        g_string_append_printf(text, "%s11.%u.%u.%u%s", i ? ", " : "", i >> 15,
                               i >> 7 & 255, (i & 127) * 2, after);
    }
}

/* A table with @count elements in each of: a plain set, one of intervals, one
 * of concatenated intervals, a map, one whose elements have times. */
static char *rules(guint count)
{
    GString *text = g_string_new("table inet g {\n"
                                 " set s { type ipv4_addr; elements = { ");

    add_addresses(text, count, "");
    g_string_append(text, " } }\n set i { type ipv4_addr; flags interval; "
                          "elements = { ");
    add_addresses(text, count / 10, "/31");
    g_string_append(text, " } }\n set c { type ipv4_addr . inet_service; "
                          "flags interval; elements = { ");
    add_addresses(text, count / 10, "/31 . 80-90");
    g_string_append(text,
                    " } }\n map m { type ipv4_addr : mark; elements = { ");
    add_addresses(text, count / 10, " : 7");
    g_string_append(text, " } }\n set t { type ipv4_addr; flags timeout; "
                          "timeout 2h; elements = { ");
    add_addresses(text, count / 10, " timeout 1h");
    g_string_append(
        text, " } }\n set few { type ipv4_addr; elements = { 1.2.3.4 } }\n"
              " set d { type ipv4_addr; flags dynamic; }\n"
              " chain f { type filter hook forward priority 0;\n"
              "  iifname \"tap7\" ip saddr @s counter drop\n"
              "  iifname \"tap7\" ip saddr @i drop\n"
              "  iifname \"tap7\" ip saddr . tcp dport @c drop\n"
              "  iifname \"tap7\" meta mark set ip saddr map @m\n"
              "  iifname \"tap7\" ip saddr @t drop\n"
              "  iifname \"tap7\" ip saddr @few add @d { ip saddr }\n"
              " }\n}\n");
    return g_string_free(text, FALSE);
}

static NftAhead *lab_of(guint count)
{
    g_autofree char *text = rules(count);

    return nft_ahead_new(text);
}

static void test_all_arrives(void)
{
    NftAhead *l = lab_of(MANY);
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
        NftAhead *l = lab_of(i ? MANY : MANY / 2);

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
    NftAhead *l = lab_of(SOME * 3);
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
    NftAhead *l = lab_of(SOME * 3);
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
    NftAhead *l = lab_of(SOME * 3);

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

/* Other tables of the host are no news. */
static void test_changes_of_others_send_nothing(void)
{
    gsize size[2];

    for (int i = 0; i < 2; i++) {
        NftAhead *l = lab_of(SOME * 3);

        nft_ahead_bulk(l);
        for (int k = 0; i && k < 100; k++) {
            g_autoptr(GBytes) batch = NULL;

            nft_load(k % 2 ? "delete table inet other\n"
                           : "table inet other { set x { type mark; } }\n");
            batch = nft_ahead_next(l);
            g_assert_cmpuint(g_bytes_get_size(batch), ==, 0);
            g_assert_true(l->progress.live);
        }
        size[i] = nft_ahead_final(l);
        nft_ahead_assert_same(l);
        nft_ahead_free(l);
    }
    g_assert_cmpuint(size[0], ==, size[1]);
}

static bool is_unchanged(MscNft *nft, MscNftWatch *w)
{
    g_autoptr(GError) err = NULL;
    uint32_t generation;

    msc_nft_generation(nft, &generation, &err);
    g_assert_no_error(err);
    return msc_nft_watch_unchanged(w, generation);
}

static void test_whose_change_it_was(void)
{
    static const struct {
        const char *change;
        bool ours;
    } rows[] = {
        { "table inet other { set x { type mark; } }\n", false },
        { "add element inet other x { 7 }\n", false },
        { "table ip g { chain f { drop; } }\n", false },
        { "add element inet g s { 12.0.0.1 }\n", true },
        { "delete element inet g s { 12.0.0.1 }\n", true },
        { "flush set inet g s\n", true },
        { "add set inet g new { type mark; }\n", true },
        { "add counter inet g new\n", true },
        { "add rule inet g f drop\n", true },
        { "add chain inet g new\n", true },
        { "delete table inet g\n", true },
    };
    NftAhead *l = lab_of(SOME);
    g_autoptr(MscNft) nft = msc_nft_open(NULL);
    MscNftWatch *w = msc_nft_watch_new(l->lab->a->nft_tables, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        msc_nft_watch_reset(w);
        nft_load(rows[i].change);
        g_assert_cmpint(is_unchanged(nft, w), ==, !rows[i].ours);
    }
    msc_nft_watch_free(w);
    nft_ahead_free(l);
}

static void die_with_parent(gpointer opaque)
{
    (void)opaque;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Runs @command again and again on this host. */
static GPid change_all_the_time(const char *command)
{
    /* The shell waits for what it runs before it heeds a signal. */
    g_autofree char *loop =
        g_strdup_printf("trap 'exit 0' TERM; while %s; do :; done", command);
    char *argv[] = { (char *)"sh", (char *)"-c", loop, NULL };
    g_autoptr(GError) err = NULL;
    GPid pid;

    g_spawn_async(NULL, argv, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                  die_with_parent, NULL, &pid, &err);
    g_assert_no_error(err);
    return pid;
}

/* What it had begun has an end. */
static void leave_it(GPid pid)
{
    kill(pid, SIGTERM);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

/* On a host where other guests come and go, a long set can be read at all. */
static void test_others_change_all_the_time(void)
{
    NftAhead *l = lab_of(MANY);
    g_autoptr(GBytes) before = nft_collect(l->lab->a);
    GPid pid = change_all_the_time("nft add table inet other && "
                                   "nft delete table inet other");

    for (int i = 0; i < 5; i++) {
        g_autoptr(GBytes) now = nft_collect(l->lab->a);

        /* Times go on. */
        g_assert_cmpuint(g_bytes_get_size(now), ==, g_bytes_get_size(before));
    }
    nft_ahead_bulk(l);
    nft_ahead_final(l);
    leave_it(pid);
    nft_load("table inet other { }\ndelete table inet other\n");
    nft_ahead_assert_same(l);
    nft_ahead_free(l);
}

/* The twin: the guest's own cannot, but that is no end while it runs. */
static void test_own_changes_all_the_time(void)
{
    NftAhead *l = lab_of(SOME * 5);
    GPid pid = change_all_the_time("nft add chain inet g x && "
                                   "nft delete chain inet g x");

    for (int i = 0; i < 3; i++) {
        nft_ahead_bulk(l);
    }
    leave_it(pid);
    nft_load("add chain inet g x\ndelete chain inet g x\n"
             "add element inet g s { 12.0.0.1 }\n");
    nft_ahead_follow(l);
    nft_ahead_final(l);
    nft_ahead_assert_same(l);
    nft_ahead_free(l);
}

static void load_table_of_another(guint count)
{
    g_autoptr(GString) text =
        g_string_new("table inet other { set s { type ipv4_addr; "
                     "elements = { ");

    add_addresses(text, count, "");
    g_string_append(text, " } } }\n");
    nft_load(text->str);
}

/* More at once than a socket holds: then nobody can tell. */
static void test_lost_events_are_a_change(void)
{
    NftAhead *l = lab_of(SOME);
    g_autoptr(MscNft) nft = msc_nft_open(NULL);
    MscNftWatch *w = msc_nft_watch_new(l->lab->a->nft_tables, NULL);

    load_table_of_another(MANY * 5);
    g_assert_false(is_unchanged(nft, w));
    msc_nft_watch_reset(w);
    nft_load("delete table inet other\n");
    g_assert_true(is_unchanged(nft, w));
    /* The twin. */
    load_table_of_another(MANY / 4);
    g_assert_true(is_unchanged(nft, w));
    msc_nft_watch_free(w);
    nft_ahead_free(l);
}

/* Between the look at the number and that at the events there may be more. */
static void test_events_of_later_changes(void)
{
    static const struct {
        const char *later;
        bool unchanged;
    } rows[] = {
        { "add element inet other x { 7 }\n", true },
        { "add element inet g s { 12.0.0.1 }\n", false },
    };
    NftAhead *l = lab_of(SOME);
    g_autoptr(MscNft) nft = msc_nft_open(NULL);
    MscNftWatch *w = msc_nft_watch_new(l->lab->a->nft_tables, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) err = NULL;
        uint32_t generation;

        nft_load("table inet other { set x { type mark; } }\n");
        msc_nft_watch_reset(w);
        nft_load("flush set inet other x\n");
        msc_nft_generation(nft, &generation, &err);
        g_assert_no_error(err);
        nft_load(rows[i].later);
        g_assert_cmpint(msc_nft_watch_unchanged(w, generation), ==,
                        rows[i].unchanged);
    }
    msc_nft_watch_free(w);
    nft_ahead_free(l);
}

static void test_another_shape_begins_anew(void)
{
    NftAhead *l = lab_of(SOME);
    g_autofree char *other = rules(2 * SOME);

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
    NftAhead *l = lab_of(SOME);
    g_autofree char *other = rules(2 * SOME);

    nft_ahead_bulk(l);
    nft_load("delete table inet g\n");
    nft_load(other);
    g_assert_null(nft_ahead_last(l));
    nft_ahead_free(l);
}

/* Likewise with one that is now filled by packets. */
static void test_a_set_that_rules_fill_is_collected(void)
{
    NftAhead *l = lab_of(SOME);

    nft_ahead_bulk(l);
    nft_load("add rule inet g f add @t { ip saddr }\n");
    g_assert_null(nft_ahead_last(l));
    nft_ahead_free(l);
}

static void test_a_bulk_that_is_cut_off_is_collected(void)
{
    NftAhead *l = lab_of(MANY);
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
    NftAhead *l = lab_of(SOME);
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
    NftAhead *l = lab_of(SOME);

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
    l = lab_of(MANY * 2);
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
    ADD("changes-of-others-send-nothing", test_changes_of_others_send_nothing);
    ADD("whose-change-it-was", test_whose_change_it_was);
    ADD("others-change-all-the-time", test_others_change_all_the_time);
    ADD("own-changes-all-the-time", test_own_changes_all_the_time);
    ADD("lost-events-are-a-change", test_lost_events_are_a_change);
    ADD("events-of-later-changes", test_events_of_later_changes);
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
