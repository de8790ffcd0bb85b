/*
 * Every kind of object in the guest's table moves from host A to host B, and
 * is there what it was here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "nft-lab.h"
#include "nft-payload.h"

static const MscProvider *const p = &msc_nft_provider;

/* Nft's own view of both, as text and as JSON, but for handles, the names of
 * interfaces and the time that went by. */
static void move_and_compare(NftLab *lab)
{
    g_autofree char *text = nft_listing(false);
    g_autofree char *json = nft_listing(true);
    g_autoptr(GBytes) summary = nft_summary(lab->a);
    g_autoptr(GBytes) payload = nft_collect(lab->a);
    g_autoptr(GBytes) replaced = NULL;
    g_autofree char *reasons = NULL;

    lab_enter(lab->host_b);
    reasons = nft_reasons(lab->b, summary);
    g_assert_cmpstr(reasons, ==, "");
    {
        /* The trial changed nothing. */
        g_autofree char *before = nft_listing(false);

        g_assert_cmpstr(before, ==, "");
    }
    replaced = nft_restore(lab->b, payload, 0);
    for (int i = 0; i < 2; i++) {
        g_autofree char *wanted = nft_on_b(i ? json : text);
        g_autofree char *is = nft_listing(i);

        g_assert_cmpstr(is, ==, wanted);
    }
}

static void test_corpus(gconstpointer file)
{
    g_autofree char *path = g_build_filename(CORPUS, file, NULL);
    g_autofree char *ruleset = NULL;
    g_auto(GStrv) words = NULL;
    g_autofree char *table = NULL;

    g_assert_true(g_file_get_contents(path, &ruleset, NULL, NULL));
    words = g_strsplit(strstr(ruleset, "table "), " ", 3);
    table = g_strdup_printf("%s g", words[1]);
    {
        g_autoptr(NftLab) lab = nft_lab_new(table);

        nft_load(ruleset);
        move_and_compare(lab);
    }
}

/* The twin: what is compared does tell tables apart. */
static void test_a_difference_is_seen(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autofree char *before = NULL, *after = NULL;

    g_assert_nonnull(lab);
    nft_load("table inet g { chain c { tcp dport 80 counter packets 3 bytes 4"
             " drop; } }");
    before = nft_listing(false);
    nft_load("flush ruleset; table inet g { chain c { "
             "tcp dport 80 counter packets 3 bytes 5 drop; } }");
    after = nft_listing(false);
    g_assert_cmpstr(before, !=, after);
}

/* Nft's JSON prints arbitrary memory for the flag. */
static void test_dormant_table(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GBytes) payload = NULL, replaced = NULL;

    nft_load("table inet g { flags dormant; chain c { type filter hook input "
             "priority 0; drop; } }");
    before = nft_listing(false);
    g_assert_nonnull(strstr(before, "dormant"));
    payload = nft_collect(lab->a);
    lab_enter(lab->host_b);
    replaced = nft_restore(lab->b, payload, 0);
    after = nft_listing(false);
    g_assert_cmpstr(before, ==, after);
}

static void test_several_tables(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");

    msc_selector_add_table(lab->a, "bridge g", NULL);
    msc_selector_add_table(lab->b, "bridge g", NULL);
    nft_load("table bridge g { chain c { iifname \"tap7\" drop; } }\n"
             "table inet g { set s { type ipv4_addr; elements = { 1.2.3.4 } }"
             " chain c { ip saddr @s drop; } }\n");
    move_and_compare(lab);
}

static void test_tables_of_others_stay(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autoptr(GBytes) payload = NULL, replaced = NULL;
    g_autofree char *before = NULL, *after = NULL;

    nft_load("table inet g { chain c { drop; } }\n"
             "table inet other { chain c { accept; } }\n"
             "table ip g { chain c { accept; } }\n");
    payload = nft_collect(lab->a);
    lab_enter(lab->host_b);
    nft_load("table inet host { chain c { accept; } }\n"
             "table bridge g { chain c { accept; } }\n");
    before = lab_output("nft -a list table inet host; "
                        "nft -a list table bridge g");
    replaced = nft_restore(lab->b, payload, 0);
    after = lab_output("nft -a list table inet host; "
                       "nft -a list table bridge g");
    g_assert_cmpstr(before, ==, after);
    g_free(after);
    after = lab_output("nft list tables");
    g_assert_cmpstr(after, ==,
                    "table inet host\ntable bridge g\n"
                    "table inet g");
    /* Retiring takes the guest's table alone. */
    lab_enter(lab->host_a);
    g_assert_true(p->retire(lab->a, payload, NULL));
    g_free(after);
    after = lab_output("nft list tables");
    g_assert_cmpstr(after, ==, "table inet other\ntable ip g");
    g_assert_true(p->retire(lab->a, payload, NULL)); /* again: nothing */
}

/* Somebody made a table of the same name since: it is not what moved. */
static void test_retire_spares_a_newer_table(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autoptr(GBytes) payload = NULL;
    g_autofree char *after = NULL;

    nft_load("table inet g { chain c { drop; } }");
    payload = nft_collect(lab->a);
    nft_load("delete table inet g; table inet g { chain c { accept; } }");
    g_assert_true(p->retire(lab->a, payload, NULL));
    after = lab_output("nft list tables");
    g_assert_cmpstr(after, ==, "table inet g");
}

static guint expires(const char *set)
{
    g_autofree char *text = lab_output(
        "nft -j list set inet g %s | grep -o '\"expires\": [0-9]*' | "
        "cut -d' ' -f2",
        set);

    return (guint)g_ascii_strtoull(text, NULL, 10);
}

static void test_time_in_transit_counts(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autoptr(GBytes) payload = NULL, replaced = NULL;
    g_autofree char *elements = NULL;
    guint before, after;

    nft_load("table inet g {\n"
             "set s { type ipv4_addr; flags timeout; elements = { "
             "10.0.0.1 timeout 10m expires 5m } }\n"
             "set i { type ipv4_addr; flags interval,timeout; elements = { "
             "10.0.0.0/24 timeout 10m expires 1m, 10.0.2.0/24, "
             "10.0.1.0/24 timeout 10m expires 8m } } }\n");
    before = expires("s");
    payload = nft_collect(lab->a);
    lab_enter(lab->host_b);
    replaced = nft_restore(lab->b, payload, 100 * G_USEC_PER_SEC);
    after = expires("s");
    g_assert_cmpuint(after + 100, <=, before);
    g_assert_cmpuint(after + 160, >=, before);
    /* What ended on the way is not there, both ends of it. */
    elements = lab_output("nft list set inet g i | "
                          "grep -o '10[.0-9]*/24' | tr '\\n' ' '");
    g_assert_cmpstr(elements, ==, "10.0.1.0/24 10.0.2.0/24");
}

static void test_nothing_is_said_of_a_guest_without_tables(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autoptr(MscSelector) without = lab_guest();
    g_autoptr(GBytes) summary = nft_summary(without);
    g_autoptr(GBytes) payload = nft_collect(without);
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);

    g_assert_cmpuint(g_bytes_get_size(summary), ==, 0);
    g_assert_cmpuint(g_bytes_get_size(payload), ==, 0);
    g_assert_true(p->retire(without, payload, NULL));
    p->check_absent(without, reasons);
    g_assert_cmpuint(reasons->len, ==, 0);
    /* Its twin expects them. */
    p->check_absent(lab->b, reasons);
    g_assert_cmpuint(reasons->len, ==, 1);
}

static void test_a_long_set_is_left_out_before_ram(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    GString *ruleset = g_string_new("table inet g { set s { type ipv4_addr; "
                                    "elements = { ");
    g_autoptr(GBytes) summary = NULL, payload = NULL, replaced = NULL;
    g_autofree char *reasons = NULL, *count = NULL;

    for (int i = 0; i < 20000; i++) {
        g_string_append_printf(ruleset, "10.1.%d.%d, ", i / 256, i % 256);
    }
    g_string_append(ruleset, "10.0.0.1 } } chain c { ip saddr @s drop; } }");
    nft_load(ruleset->str);
    g_string_free(ruleset, TRUE);
    summary = nft_summary(lab->a);
    g_assert_cmpuint(g_bytes_get_size(summary), <, 4096);
    payload = nft_collect(lab->a);
    lab_enter(lab->host_b);
    reasons = nft_reasons(lab->b, summary);
    g_assert_cmpstr(reasons, ==, "");
    replaced = nft_restore(lab->b, payload, 0);
    count = lab_output("nft list ruleset | grep -oE '10[.][0-9.]+' | wc -l");
    g_assert_cmpstr(count, ==, "20001");
    /* Coming home to the same table is no change of it. */
    g_free(reasons);
    reasons = nft_reasons(lab->b, summary);
    g_assert_cmpstr(reasons, ==, "");
}

/* The kernel makes the set's hash table larger while it is dumped: that takes
 * it long enough to be seen if there are so many. */
#define GROWN 60000

static void test_a_set_that_grows_is_read_whole(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autofree char *file =
        g_strdup_printf("%s/msc-grows-%d", g_get_tmp_dir(), getpid());
    g_autofree char *load = g_strdup_printf("nft -f %s", file);
    GString *ruleset = g_string_new("flush ruleset\ntable inet g {\nset s {\n"
                                    "type ipv4_addr\nelements = { 10.0.0.1");

    for (int i = 0; i < GROWN; i++) {
        g_string_append_printf(ruleset, ", 10.%d.%d.%d", 1 + i / 65536,
                               i / 256 % 256, i % 256);
    }
    g_string_append(ruleset, " }\n}\n}\n");
    g_assert_true(g_file_set_contents(file, ruleset->str, -1, NULL));
    g_string_free(ruleset, TRUE);
    for (int i = 0; i < 6; i++) {
        FILE *loading;

        nft_load("flush ruleset; table inet g { set s { type ipv4_addr; } }");
        loading = popen(load, "r");
        g_assert_nonnull(loading);
        for (guint n = 0; n == 0;) {
            g_autoptr(GBytes) bytes = nft_collect(lab->a);
            g_autoptr(MscNftPayload) payload =
                msc_nft_payload_decode(bytes, NULL);
            const MscNftTable *t = payload->tables->pdata[0];

            n = msc_nft_table_set(t, "s")->elements->len;
            g_assert_true(n == 0 || n == GROWN + 1);
            g_assert_false(msc_nft_set_has_doubles(t->sets->pdata[0]));
        }
        g_assert_cmpint(pclose(loading), ==, 0);
    }
    unlink(file);
}

/* More than one message to the kernel holds: an interval's two ends may come
 * in different ones. */
static void test_long_interval_sets(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    GString *s = g_string_new("table inet g { set s { type ipv4_addr; "
                              "flags interval; counter; elements = { ");
    const char *separator = "";

    for (int i = 0; i < 1500; i++, separator = ", ") {
        g_string_append_printf(s, "%s10.%d.%d.0-10.%d.%d.99", separator,
                               i / 256, i % 256, i / 256, i % 256);
    }
    g_string_append(s, " } } set p { type ipv4_addr . inet_service; "
                       "flags interval; elements = { ");
    separator = "";
    for (int i = 0; i < 1000; i++, separator = ", ") {
        g_string_append_printf(s, "%s10.%d.%d.0/24 . %d-%d", separator, i / 256,
                               i % 256, i, i + 9);
    }
    g_string_append(s, " } } chain c { ip saddr @s drop; } }");
    nft_load(s->str);
    g_string_free(s, TRUE);
    move_and_compare(lab);
}

int main(int argc, char **argv)
{
    static const char *const files[] = {
        "objects",   "rules-inet",   "rules-ip",     "rules-ip6",
        "rules-arp", "rules-bridge", "rules-netdev",
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *name = g_strdup_printf("/nft/moves/%s", files[i]);
        char *file = g_strconcat(files[i], ".nft", NULL);

        g_test_add_data_func_full(name, file, (GTestDataFunc)test_corpus,
                                  g_free);
    }
    g_test_add_func("/nft/a-difference-is-seen", test_a_difference_is_seen);
    g_test_add_func("/nft/dormant-table", test_dormant_table);
    g_test_add_func("/nft/several-tables", test_several_tables);
    g_test_add_func("/nft/tables-of-others-stay", test_tables_of_others_stay);
    g_test_add_func("/nft/retire-spares-a-newer-table",
                    test_retire_spares_a_newer_table);
    g_test_add_func("/nft/time-in-transit-counts", test_time_in_transit_counts);
    g_test_add_func("/nft/nothing-is-said-of-a-guest-without-tables",
                    test_nothing_is_said_of_a_guest_without_tables);
    g_test_add_func("/nft/long-interval-sets", test_long_interval_sets);
    g_test_add_func("/nft/a-set-that-grows-is-read-whole",
                    test_a_set_that_grows_is_read_whole);
    g_test_add_func("/nft/a-long-set-is-left-out-before-ram",
                    test_a_long_set_is_left_out_before_ram);
    return g_test_run();
}
