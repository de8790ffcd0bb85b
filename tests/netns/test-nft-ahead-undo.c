/*
 * What is sent ahead of the rest goes without a trace, and never touches what
 * is not its own, whatever the other host says.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-ahead-lab.h"

#define OTHERS                                                              \
    "table inet host { set s { type ipv4_addr; elements = { 10.1.1.1 } }\n" \
    " chain c { type filter hook input priority 0; tcp dport 25 drop; } }\n"

/* One set of 100 addresses, and a chain that looks at it. */
static NftAhead *lab(void)
{
    g_autoptr(GString) text =
        g_string_new("table inet g { set s { type ipv4_addr; elements = { ");
    NftAhead *l;

    for (int i = 1; i <= 100; i++) {
        g_string_append_printf(text, "%s11.0.0.%d", i > 1 ? ", " : "", i);
    }
    g_string_append(text, " } }\n set few { type ipv4_addr; }\n"
                          " chain f { type filter hook forward priority 0;\n"
                          "  iifname \"tap7\" ip saddr @s drop; } }\n");
    l = nft_ahead_new(text->str);
    lab_enter(l->lab->host_b);
    nft_load(OTHERS);
    lab_enter(l->lab->host_a);
    return l;
}

static char *all_of_b(NftAhead *l)
{
    char *text;

    lab_enter(l->lab->host_b);
    text = lab_output("nft -a list ruleset");
    lab_enter(l->lab->host_a);
    return text;
}

static void assert_b(NftAhead *l, const char *wanted)
{
    g_autofree char *is = all_of_b(l);

    g_assert_cmpstr(is, ==, wanted);
}

/* ---- undo ---- */

/* @end: after the last batch too. */
static void test_undo(gconstpointer end)
{
    NftAhead *l = lab();
    g_autofree char *before = all_of_b(l);
    g_autofree char *during = NULL;

    nft_ahead_bulk(l);
    if (end) {
        nft_ahead_final(l);
    }
    during = all_of_b(l);
    g_assert_nonnull(strstr(during, "11.0.0.9"));
    /* As after a crash: again changes nothing. */
    for (int i = 0; i < 2; i++) {
        nft_ahead_undo(l);
        assert_b(l, before);
    }
    nft_ahead_free(l);
}

/* The helper crashed before the journal heard of the tables' numbers. */
static void test_undo_by_the_marker(void)
{
    NftAhead *l = lab();
    g_autofree char *before = all_of_b(l);

    nft_ahead_bulk(l);
    g_ptr_array_set_size(l->replaced, 0);
    nft_ahead_undo(l);
    assert_b(l, before);
    nft_ahead_free(l);
}

/* The table that is there under the name is not the one that we made. */
static void test_undo_leaves_the_table_of_another(gconstpointer end)
{
    NftAhead *l = lab();
    g_autofree char *theirs = NULL;

    nft_ahead_bulk(l);
    if (end) {
        nft_ahead_final(l);
    }
    lab_enter(l->lab->host_b);
    nft_load("delete table inet g\n"
             "table inet g { set s { type ipv4_addr; } }\n");
    lab_enter(l->lab->host_a);
    theirs = all_of_b(l);
    nft_ahead_undo(l);
    assert_b(l, theirs);
    nft_ahead_free(l);
}

static void test_numbers_of_another_boot_mean_nothing(void)
{
    NftAhead *l = lab();
    g_autofree char *during = NULL;
    GBytes *record;
    gsize len;
    uint8_t *data;

    nft_ahead_bulk(l);
    nft_ahead_final(l);
    g_assert_cmpuint(l->replaced->len, ==, 1);
    record = l->replaced->pdata[0];
    len = g_bytes_get_size(record);
    data = g_memdup2(g_bytes_get_data(record, NULL), len);
    data[3] ^= 1; /* of the boot's id */
    g_bytes_unref(record);
    l->replaced->pdata[0] = g_bytes_new_take(data, len);
    during = all_of_b(l);
    nft_ahead_undo(l);
    assert_b(l, during);
    nft_ahead_free(l);
}

/* ---- what is refused ---- */

static void assert_refused(NftAhead *l, GBytes *batch, gint code,
                           const char *why)
{
    g_autofree char *before = all_of_b(l);
    g_autoptr(GError) err = NULL;

    g_assert_false(nft_ahead_stage(l, batch, 0, &err));
    g_assert_error(err, MSC_ERROR, code);
    if (!strstr(err->message, why)) {
        g_error("'%s' is not in: %s", why, err->message);
    }
    assert_b(l, before);
}

/* Somebody puts a table in the place of ours: nothing goes into that. */
static void test_a_table_of_another_is_not_filled(gconstpointer end)
{
    NftAhead *l = lab();
    g_autoptr(GBytes) batch = NULL;

    nft_ahead_bulk(l);
    lab_enter(l->lab->host_b);
    nft_load("delete table inet g\n"
             "table inet g { set s { type ipv4_addr; } }\n");
    lab_enter(l->lab->host_a);
    nft_load("add element inet g s { 12.0.0.1 }\n");
    if (end) {
        batch = nft_ahead_last(l);
    } else {
        do {
            g_clear_pointer(&batch, g_bytes_unref);
            batch = nft_ahead_next(l);
        } while (!g_bytes_get_size(batch));
    }
    assert_refused(l, batch, MSC_ERROR_KERNEL, "migration-sc-");
    nft_ahead_free(l);
}

static void test_a_table_that_came_meanwhile_stays(void)
{
    NftAhead *l = lab();
    g_autoptr(GBytes) batch = nft_ahead_next(l);
    g_autofree char *theirs = NULL;

    lab_enter(l->lab->host_b);
    nft_load("table inet g { set s { type ipv4_addr; } }\n");
    lab_enter(l->lab->host_a);
    theirs = all_of_b(l);
    assert_refused(l, batch, MSC_ERROR_KERNEL, "File exists");
    nft_ahead_undo(l);
    assert_b(l, theirs);
    nft_ahead_free(l);
}

static MscNftTable *first_table(const MscNftPayload *p)
{
    return p->tables->pdata[0];
}

static MscNftSet *first_set(const MscNftPayload *p)
{
    return first_table(p)->sets->pdata[0];
}

static void rename_set(MscNftPayload *p, const char *name)
{
    msc_nft_set_text(msc_nft_find(first_set(p)->attrs, NFTA_SET_NAME), name);
}

static void to_another_table(MscNftAhead *a)
{
    MscNftTable *t = first_table(a->comes);

    g_free(t->name);
    t->name = g_strdup("host");
}

static void to_another_set(MscNftAhead *a)
{
    rename_set(a->comes, "few");
}

static void as_another_type(MscNftAhead *a)
{
    msc_nft_set_u32(msc_nft_find(first_set(a->comes)->attrs, NFTA_SET_KEY_TYPE),
                    19);
}

static void of_another_beginning(MscNftAhead *a)
{
    a->nonce[0] ^= 1;
}

static void after_another_batch(MscNftAhead *a)
{
    a->before[0] ^= 1;
}

static void filled_by_packets(MscNftAhead *a)
{
    const uint32_t flags = GUINT32_TO_BE(NFT_SET_EVAL);
    g_autoptr(GByteArray) attrs = g_byte_array_new();
    MscNftSet *set = first_set(a->comes);

    msc_nft_attrs_put(set->attrs, attrs);
    msc_nft_put(attrs, NFTA_SET_FLAGS, &flags, sizeof(flags));
    g_ptr_array_unref(set->attrs);
    set->attrs = msc_nft_attrs_parse(attrs->data, attrs->len,
                                     &msc_nft_set_schema, false, NULL);
}

static void begun_again(MscNftAhead *a)
{
    a->flags |= MSC_NFT_BEGINS;
    g_ptr_array_set_size(a->gone->tables, 0);
}

static void without_the_set(MscNftAhead *a)
{
    g_ptr_array_remove_index(first_table(a->comes)->sets, 0);
}

static void without_the_table(MscNftAhead *a)
{
    g_ptr_array_remove_index(a->comes->tables, 0);
}

static void gone_from_another_set(MscNftAhead *a)
{
    rename_set(a->gone, "few");
}

static void gone_twice(MscNftAhead *a)
{
    GPtrArray *elements = first_set(a->gone)->elements;

    g_ptr_array_add(elements, g_ptr_array_ref(elements->pdata[0]));
}

static void there_already(MscNftAhead *a)
{
    GPtrArray *elements = first_set(a->comes)->elements;

    g_ptr_array_add(elements, g_ptr_array_ref(elements->pdata[0]));
}

static void of_all_packets(MscNftAhead *a)
{
    GPtrArray *rules = first_table(a->comes)->rules;
    GPtrArray *exprs = msc_nft_nested(rules->pdata[0], NFTA_RULE_EXPRESSIONS);

    g_ptr_array_remove_range(exprs, 0, 2); /* iifname "tap7" */
}

typedef struct {
    const char *name;
    enum { FIRST, CHANGE, LAST } which;
    void (*spoil)(MscNftAhead *ahead);
    gint code;
    const char *why;
} Spoilt;

static const Spoilt spoilt[] = {
    { "first-of-another-table", FIRST, to_another_table, MSC_ERROR_REFUSED,
      "is not the guest's by this host's registration" },
    { "first-without-a-table", FIRST, without_the_table, MSC_ERROR_REFUSED,
      "does not come with it" },
    { "first-of-a-set-that-packets-fill", FIRST, filled_by_packets,
      MSC_ERROR_REFUSED, "not static" },
    { "first-after-another", FIRST, after_another_batch, MSC_ERROR_REFUSED,
      "does not follow" },
    { "first-with-an-element-twice", FIRST, there_already, MSC_ERROR_KERNEL,
      "elements of set s: File exists" },
    { "change-of-another-table", CHANGE, to_another_table, MSC_ERROR_REFUSED,
      "a set that did not go ahead" },
    { "change-of-another-set", CHANGE, to_another_set, MSC_ERROR_REFUSED,
      "a set that did not go ahead" },
    { "change-of-another-type", CHANGE, as_another_type, MSC_ERROR_REFUSED,
      "a set that did not go ahead" },
    { "change-of-another-beginning", CHANGE, of_another_beginning,
      MSC_ERROR_REFUSED, "does not follow" },
    { "change-after-another", CHANGE, after_another_batch, MSC_ERROR_REFUSED,
      "does not follow" },
    { "change-that-begins", CHANGE, begun_again, MSC_ERROR_REFUSED,
      "out of place" },
    { "change-takes-from-another-set", CHANGE, gone_from_another_set,
      MSC_ERROR_REFUSED, "a set that did not go ahead" },
    { "change-takes-what-is-not-there", CHANGE, gone_twice, MSC_ERROR_KERNEL,
      "elements of set s: No such file" },
    { "change-brings-what-is-there", CHANGE, there_already, MSC_ERROR_KERNEL,
      "elements of set s: File exists" },
    { "last-without-the-set", LAST, without_the_set, MSC_ERROR_REFUSED,
      "a set that is not described as it was" },
    { "last-without-the-table", LAST, without_the_table, MSC_ERROR_REFUSED,
      "a table that is not described as it was" },
    { "last-of-another-type", LAST, as_another_type, MSC_ERROR_REFUSED,
      "a set that is not described as it was" },
    { "last-after-another", LAST, after_another_batch, MSC_ERROR_REFUSED,
      "does not follow" },
    { "last-of-all-packets", LAST, of_all_packets, MSC_ERROR_REFUSED,
      "that are not the guest's" },
};

/* The batch that is to be spoilt: a change takes one address and brings one. */
static GBytes *batch_of(NftAhead *l, const Spoilt *row)
{
    GBytes *batch;

    if (row->which == FIRST) {
        return nft_ahead_next(l);
    }
    nft_ahead_bulk(l);
    if (row->which == LAST) {
        return nft_ahead_last(l);
    }
    nft_load("delete element inet g s { 11.0.0.7 }\n"
             "add element inet g s { 12.0.0.7 }\n");
    for (;;) {
        batch = nft_ahead_next(l);
        if (g_bytes_get_size(batch)) {
            return batch;
        }
        g_bytes_unref(batch);
    }
}

static void test_spoilt(gconstpointer data)
{
    const Spoilt *row = data;
    NftAhead *l = lab();
    g_autoptr(GBytes) batch = NULL, bad = NULL;
    g_autoptr(MscNftAhead) a = NULL;
    g_autoptr(GError) err = NULL;

    l->lab->b->nft_scope = MSC_NFT_SCOPE_GUEST;
    batch = batch_of(l, row);
    a = msc_nft_ahead_decode(batch, &err);
    g_assert_no_error(err);
    row->spoil(a);
    bad = msc_nft_ahead_encode(a);
    assert_refused(l, bad, row->code, row->why);
    /* The twin. */
    nft_ahead_stage(l, batch, 0, &err);
    g_assert_no_error(err);
    nft_ahead_free(l);
}

/* The end of it, before all that goes ahead is there. */
static void test_an_end_too_early(void)
{
    NftAhead *l = lab();
    g_autoptr(GBytes) first = nft_ahead_next(l);
    g_autoptr(GBytes) last = nft_ahead_last(l);
    g_autoptr(GBytes) cut = NULL, end = NULL;
    g_autoptr(MscNftAhead) a = msc_nft_ahead_decode(first, NULL);
    g_autoptr(MscNftAhead) z = msc_nft_ahead_decode(last, NULL);
    g_autoptr(GError) err = NULL;

    a->flags = MSC_NFT_BEGINS;
    cut = msc_nft_ahead_encode(a);
    nft_ahead_stage(l, cut, 0, &err);
    g_assert_no_error(err);
    msc_nft_ahead_digest(cut, z->before);
    end = msc_nft_ahead_encode(z);
    assert_refused(l, end, MSC_ERROR_REFUSED, "too early");
    nft_ahead_free(l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, test) g_test_add_func("/nft-ahead/" name, test)
#define ADD_OF(name, data, test) \
    g_test_add_data_func("/nft-ahead/" name, data, test)
    ADD_OF("undo", NULL, test_undo);
    ADD_OF("undo-after-the-end", "end", test_undo);
    ADD("undo-by-the-marker", test_undo_by_the_marker);
    ADD_OF("undo-leaves-the-table-of-another", NULL,
           test_undo_leaves_the_table_of_another);
    ADD_OF("undo-after-the-end-leaves-the-table-of-another", "end",
           test_undo_leaves_the_table_of_another);
    ADD("numbers-of-another-boot-mean-nothing",
        test_numbers_of_another_boot_mean_nothing);
    ADD_OF("a-table-of-another-is-not-filled", NULL,
           test_a_table_of_another_is_not_filled);
    ADD_OF("a-table-of-another-is-not-completed", "end",
           test_a_table_of_another_is_not_filled);
    ADD("a-table-that-came-meanwhile-stays",
        test_a_table_that_came_meanwhile_stays);
    ADD("an-end-too-early", test_an_end_too_early);
    for (size_t i = 0; i < G_N_ELEMENTS(spoilt); i++) {
        g_autofree char *path =
            g_strconcat("/nft-ahead/", spoilt[i].name, NULL);

        g_test_add_data_func(path, &spoilt[i], test_spoilt);
    }
    return g_test_run();
}
