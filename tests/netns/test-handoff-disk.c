/*
 * What a pre-copy takes of the destination's disk: a source that goes on for
 * ever is refused, and an honest one begins anew before that.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <string.h>

#include "base-lab.h"
#include "forged-source.h"

/* Bytes of what a destination has staged. */
static gsize log_length(Pair *pair, int host)
{
    g_autofree char *path =
        g_strdup_printf("%s/%d/var/journal", pair->dir, host);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    gsize sum = 0;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        GStatBuf st;

        if (g_str_has_suffix(name, ".staged") && !g_stat(file, &st)) {
            sum += (gsize)st.st_size;
        }
    }
    return sum;
}

static GBytes *first_batch_of_base(Pair *pair)
{
    g_autofree char *path = pair_base_path(pair, 0);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscBaseReader) reader =
        msc_base_reader_new(fopen(path, "re"), &err);
    GBytes *data = NULL;
    uint64_t when;

    g_assert_cmpint(msc_base_reader_next(reader, &data, &when, &err), ==, 1);
    return data;
}

#define MIB (1024 * 1024)

/* The same again and again: nothing is wrong with it but that it never ends. */
static void test_disk_of_the_destination_is_bounded(void)
{
    Pair *pair;
    g_autoptr(GBytes) batch = NULL;
    g_autofree char *config = NULL;

    pair_new_with_base(&pair);
    batch = first_batch_of_base(pair);
    config = g_strdup_printf("%s/0/etc/migration-sc.conf", pair->dir);
    for (unsigned mib = 1; mib <= 2; mib++) {
        Forged *f;
        gsize sent = 0;
        g_autofree char *text =
            g_strdup_printf("[handoff]\nprecopy-disk-mib=%u\n", mib);

        g_file_set_contents(config, text, -1, NULL);
        pair_stop_daemon(pair, 0);
        pair_start_daemon(pair, 0);
        f = forged_new(pair, 1, true);
        while (forged_batch(f, 0, "conntrack", 2, PROOF(batch))) {
            sent += g_bytes_get_size(batch);
            g_assert_cmpuint(log_length(pair, 0), <=, mib * MIB);
        }
        /* The twin: until then nothing is refused. */
        g_assert_cmpuint(sent, >, mib * MIB / 10 * 9);
        g_assert_nonnull(strstr(f->move.err[1]->message, "precopy-disk-mib"));
        forged_free(f);
        pair_wait_for_flows(pair, 0, 0);
        g_assert_cmpuint(log_length(pair, 0), ==, 0);
    }
    pair_free(pair);
}

/* What the honest helper says until only changes follow, staged; how often it
 * said that it is not so far, with nothing to send. */
static guint send_honest(Forged *f)
{
    MscPrecopyState state;
    guint pauses = 0;
    GBytes *chunk;

    do {
        chunk = forged_honest(f, &state);
        if (chunk) {
            g_assert_true(forged_deliver(f, chunk));
            g_bytes_unref(chunk);
        } else {
            pauses += state == MSC_PRECOPY_BULK;
        }
    } while (chunk || state == MSC_PRECOPY_BULK);
    return pauses;
}

#define ROUNDS 6

/* Once they take more than all of it did, at least; and not before. */
static void test_changes_without_end_begin_anew(void)
{
    for (int little = 0; little < 2; little++) {
        Pair *pair = pair_new();
        g_autofree char *source = NULL, *destination = NULL;
        guint pauses = 0;
        MscAheadPart *part;
        gsize bulk;
        Forged *f;

        pair_add_many(pair, 0);
        f = forged_new(pair, 0, true);
        part = f->t->ahead->pdata[0];
        part->changes_max = little ? 1000 : part->changes_max;
        pauses += send_honest(f);
        bulk = log_length(pair, 1);
        for (guint i = 1; i <= ROUNDS; i++) {
            pair_replace_many(pair, 0, i);
            pauses += send_honest(f);
            g_assert_cmpuint(log_length(pair, 1), >, 0);
            if (little) {
                g_assert_cmpuint(log_length(pair, 1), <, 3 * bulk);
            }
        }
        source = pair_table(pair, 0);
        destination = pair_table(pair, 1);
        assert_same_table(source, destination);
        if (little) {
            g_assert_cmpuint(pauses, >, 1);
        } else {
            g_assert_cmpuint(pauses, ==, 0);
            g_assert_cmpuint(log_length(pair, 1), >, ROUNDS * bulk);
        }
        forged_free(f);
        pair_wait_for_flows(pair, 1, 0);
        pair_free(pair);
    }
}

/* It stops when the helper is about to begin anew: what is left are the last
 * changes, as ever. */
static void test_guest_stops_before_it_begins_anew(void)
{
    Pair *pair = pair_new();
    MscPrecopyState state = MSC_PRECOPY_LIVE;
    MscAheadPart *part;
    gsize bulk;
    Forged *f;

    pair_add_many(pair, 0);
    f = forged_new(pair, 0, true);
    part = f->t->ahead->pdata[0];
    part->changes_max = 1000;
    send_honest(f);
    bulk = log_length(pair, 1);
    for (guint i = 1; state == MSC_PRECOPY_LIVE; i++) {
        GBytes *chunk;

        g_assert_cmpuint(i, <, 10);
        pair_replace_many(pair, 0, i);
        while ((chunk = forged_honest(f, &state))) {
            g_assert_true(forged_deliver(f, chunk));
            g_bytes_unref(chunk);
        }
    }
    g_assert_cmpuint(forged_honest_freeze(f), <, bulk / 2);
    forged_free(f);
    pair_wait_for_flows(pair, 1, 0);
    pair_free(pair);
}

#define ADD(name, function) g_test_add_func("/handoff-disk/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("disk-of-the-destination-is-bounded",
        test_disk_of_the_destination_is_bounded);
    ADD("changes-without-end-begin-anew", test_changes_without_end_begin_anew);
    ADD("guest-stops-before-it-begins-anew",
        test_guest_stops_before_it_begins_anew);
    return g_test_run();
}
