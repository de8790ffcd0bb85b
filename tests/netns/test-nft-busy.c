/*
 * Tables that change while they are read: those of others do not matter,
 * however many, and none of the guest's own changes is missed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "nft-ahead-lab.h"
#include "nft-netlink.h"
#include "nft-watch.h"

/* Enough for several batches. */
#define MANY 20000
#define SOME 1000

/* Other tables of the host are no news. */
static void test_changes_of_others_send_nothing(void)
{
    gsize size[2];

    for (int i = 0; i < 2; i++) {
        NftAhead *l = nft_ahead_new_of(SOME * 3);

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
    NftAhead *l = nft_ahead_new_of(SOME);
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
    NftAhead *l = nft_ahead_new_of(MANY);
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

/* Elements that were not read, for nothing changed, are not gone. */
static void test_others_change_at_the_stop(void)
{
    g_autoptr(GString) text =
        g_string_new("table inet g { set s { type ipv4_addr; elements = { ");
    NftAhead *l;
    GPid pid;

    nft_ahead_add_addresses(text, SOME, "");
    g_string_append(text, " } } }\n");
    l = nft_ahead_new(text->str);
    nft_ahead_bulk(l);
    pid = change_all_the_time("nft add table inet other && "
                              "nft delete table inet other");
    for (int i = 0; i < 300; i++) {
        g_autoptr(GBytes) batch = nft_ahead_last(l);
        g_autoptr(MscNftAhead) a = NULL;
        g_autoptr(GError) err = NULL;

        g_assert_nonnull(batch);
        a = msc_nft_ahead_decode(batch, &err);
        g_assert_no_error(err);
        g_assert_cmpuint(a->gone->tables->len, ==, 0);
    }
    leave_it(pid);
    nft_ahead_free(l);
}

/* The twin: the guest's own cannot, but that is no end while it runs. */
static void test_own_changes_all_the_time(void)
{
    NftAhead *l = nft_ahead_new_of(SOME * 5);
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

    nft_ahead_add_addresses(text, count, "");
    g_string_append(text, " } } }\n");
    nft_load(text->str);
}

/* More at once than a socket holds: then nobody can tell. */
static void test_lost_events_are_a_change(void)
{
    NftAhead *l = nft_ahead_new_of(SOME);
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
    NftAhead *l = nft_ahead_new_of(SOME);
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, test) g_test_add_func("/nft-busy/" name, test)
    ADD("changes-of-others-send-nothing", test_changes_of_others_send_nothing);
    ADD("whose-change-it-was", test_whose_change_it_was);
    ADD("others-change-all-the-time", test_others_change_all_the_time);
    ADD("others-change-at-the-stop", test_others_change_at_the_stop);
    ADD("own-changes-all-the-time", test_own_changes_all_the_time);
    ADD("lost-events-are-a-change", test_lost_events_are_a_change);
    ADD("events-of-later-changes", test_events_of_later_changes);
    return g_test_run();
}
