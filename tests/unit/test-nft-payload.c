/*
 * The nft payload's encoding: one spelling for each value, and nothing else
 * is read.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-payload.h"
#include "selector.h"

/* Made of wire bytes, so that every object is a valid one. */
static GPtrArray *attrs(const MscNftSchema *schema, const char *hex)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    GPtrArray *out;
    MscReader r;

    for (; *hex; hex++) {
        guint8 byte;

        if (*hex == ' ') {
            continue;
        }
        byte = (guint8)(g_ascii_xdigit_value(hex[0]) << 4 |
                        g_ascii_xdigit_value(hex[1]));
        g_byte_array_append(bytes, &byte, 1);
        hex++;
    }
    msc_reader_init(&r, bytes->data, bytes->len);
    out = msc_nft_attrs_read(&r, schema, "test", &err);
    if (err) {
        g_test_message("%s", err->message);
    }
    g_assert_true(!out == !!err);
    return out;
}

#define CHAIN_C "0003 0001 63 "
#define SET_S "0002 0001 73  0005 0004 00000004 "
#define KEY "0001 000a 0001 0006 000102030405 "

static MscNftPayload *sample(void)
{
    MscNftPayload *p = msc_nft_payload_new();
    MscNftTable *t = msc_nft_table_new(1, "guest-7");
    MscNftSet *set = msc_nft_set_new(attrs(&msc_nft_set_schema, SET_S));

    g_ptr_array_add(p->roles, g_strdup("lan"));
    g_ptr_array_add(p->roles, g_strdup("wan"));
    g_ptr_array_add(p->tables, t);
    t->handle = 77;
    g_ptr_array_add(t->chains, attrs(&msc_nft_chain_schema, CHAIN_C));
    g_ptr_array_add(t->sets, set);
    g_ptr_array_add(set->elements, attrs(&msc_nft_element_schema, KEY));
    g_ptr_array_add(t->rules, attrs(&msc_nft_rule_schema, "0002 0001 63"));
    return p;
}

static void test_round_trip(void)
{
    g_autoptr(MscNftPayload) p = sample();
    g_autoptr(GBytes) bytes = msc_nft_payload_encode(p);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscNftPayload) again = msc_nft_payload_decode(bytes, &err);
    g_autoptr(GBytes) same = NULL;

    g_assert_no_error(err);
    same = msc_nft_payload_encode(again);
    g_assert_true(g_bytes_equal(bytes, same));
    g_assert_cmpuint(((MscNftTable *)again->tables->pdata[0])->handle, ==, 77);
}

static void test_every_cut_is_refused(void)
{
    g_autoptr(MscNftPayload) p = sample();
    g_autoptr(GBytes) bytes = msc_nft_payload_encode(p);

    for (gsize len = 0; len < g_bytes_get_size(bytes); len++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(bytes, 0, len);
        g_autoptr(GError) err = NULL;

        g_assert_null(msc_nft_payload_decode(cut, &err));
        g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
    }
}

static void test_trailing_bytes_are_refused(void)
{
    g_autoptr(MscNftPayload) p = sample();
    g_autoptr(GBytes) bytes = msc_nft_payload_encode(p);
    g_autoptr(GByteArray) longer = g_byte_array_new();
    g_autoptr(GBytes) more = NULL;
    g_autoptr(GError) err = NULL;

    g_byte_array_append(longer, g_bytes_get_data(bytes, NULL),
                        (guint)g_bytes_get_size(bytes));
    g_byte_array_append(longer, (const guint8 *)"", 1);
    more = g_bytes_new(longer->data, longer->len);
    g_assert_null(msc_nft_payload_decode(more, &err));
    g_assert_nonnull(strstr(err->message, "trailing bytes"));
}

static void refused(const MscNftPayload *p, const char *why)
{
    g_autoptr(GBytes) bytes = msc_nft_payload_encode(p);
    g_autoptr(GError) err = NULL;

    g_assert_null(msc_nft_payload_decode(bytes, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_MALFORMED);
    if (!strstr(err->message, why)) {
        g_error("another reason: %s", err->message);
    }
}

static void test_doubles_are_refused(void)
{
    g_autoptr(MscNftPayload) tables = sample();
    g_autoptr(MscNftPayload) chains = sample();
    g_autoptr(MscNftPayload) sets = sample();
    g_autoptr(MscNftPayload) roles = sample();
    MscNftTable *t = chains->tables->pdata[0];

    g_ptr_array_add(tables->tables, msc_nft_table_new(1, "guest-7"));
    refused(tables, "a table twice");
    g_ptr_array_add(t->chains, attrs(&msc_nft_chain_schema, CHAIN_C));
    refused(chains, "chain 'c' twice");
    t = sets->tables->pdata[0];
    g_ptr_array_add(t->sets,
                    msc_nft_set_new(attrs(&msc_nft_set_schema, SET_S)));
    refused(sets, "set 's' twice");
    g_ptr_array_add(roles->roles, g_strdup("wan"));
    refused(roles, "interfaces out of order");
}

static void test_the_other_byte_order_is_refused(void)
{
    g_autoptr(MscNftPayload) p = sample();
    g_autoptr(GBytes) bytes = msc_nft_payload_encode(p);
    gsize len;
    guint8 *data = g_bytes_unref_to_data(g_steal_pointer(&bytes), &len);
    g_autoptr(GBytes) swapped = NULL;
    g_autoptr(GError) err = NULL;

    data[1] = 3 - data[1];
    swapped = g_bytes_new_take(data, len);
    g_assert_null(msc_nft_payload_decode(swapped, &err));
    g_assert_nonnull(strstr(err->message, "byte order"));
}

/* ---- attributes ---- */

static const struct {
    const char *name;
    const MscNftSchema *schema;
    const char *hex;
    bool good;
} rows[] = {
    { "chain", &msc_nft_chain_schema, CHAIN_C, true },
    { "chain-without-a-name", &msc_nft_chain_schema, "000a 0004 00000004",
      false },
    /* NFTA_CHAIN_TABLE: another table. */
    { "chain-of-another-table", &msc_nft_chain_schema, "0001 0001 68 " CHAIN_C,
      false },
    { "rule-of-another-table", &msc_nft_rule_schema,
      "0001 0001 68 0002 0001 63", false },
    { "rule-by-its-place", &msc_nft_rule_schema,
      "0002 0001 63 0006 0008 0000000000000001", false },
    { "unknown", &msc_nft_chain_schema, CHAIN_C "0063 0001 63", false },
    { "out-of-order", &msc_nft_set_schema, "0005 0004 00000004 0002 0001 73",
      false },
    { "twice", &msc_nft_set_schema, SET_S "0005 0004 00000004", false },
    { "short-number", &msc_nft_set_schema, "0002 0001 73 0005 0003 000004",
      false },
    { "empty-name", &msc_nft_chain_schema, "0003 0000", false },
    { "name-with-a-space", &msc_nft_chain_schema, "0003 0003 632063", false },
    { "name-with-a-nul", &msc_nft_chain_schema, "0003 0003 630063", false },
    { "name-with-a-newline", &msc_nft_chain_schema, "0003 0003 630a63", false },
    { "comment", &msc_nft_chain_schema, CHAIN_C "000c 0004 00 02 6300", true },
    { "comment-with-a-quote", &msc_nft_chain_schema,
      CHAIN_C "000c 0004 00 02 2200", false },
    { "comment-without-an-end", &msc_nft_chain_schema,
      CHAIN_C "000c 0004 00 02 6363", false },
    { "userdata-cut-off", &msc_nft_chain_schema, CHAIN_C "000c 0004 01 03 6363",
      false },
    { "element", &msc_nft_element_schema, KEY, true },
    { "element-cut-off", &msc_nft_element_schema, "0001 0009 0001 0006 0001",
      false },
};

static void test_attributes(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) got = attrs(rows[i].schema, rows[i].hex);

        if (!got != !rows[i].good) {
            g_error("%s", rows[i].name);
        }
    }
}

/* Netlink pads and has 16 bits for a length: a rule that would overflow them
 * on its way to the kernel is not read. */
static void test_a_nest_that_would_overflow_is_refused(void)
{
    for (guint kib = 16; kib <= 48; kib += 32) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(GPtrArray) got = NULL;
        g_autoptr(GError) err = NULL;
        MscReader r;

        msc_put_u16(out, NFTA_RULE_CHAIN);
        msc_put_u16(out, 1);
        msc_put_u8(out, 'c');
        msc_put_u16(out, NFTA_RULE_EXPRESSIONS);
        msc_put_u16(out, (uint16_t)(kib * 1024));
        for (guint i = 0; i < kib * 1024 / 16; i++) {
            msc_put_u16(out, NFTA_LIST_ELEM);
            msc_put_u16(out, 12);
            msc_put_u16(out, NFTA_EXPR_NAME);
            msc_put_u16(out, 8);
            msc_put_bytes(out, "countera", 8);
        }
        msc_reader_init(&r, out->data, out->len);
        got = msc_nft_attrs_read(&r, &msc_nft_rule_schema, "test", &err);
        g_assert_true(!got == (kib > 32));
        if (got) {
            g_autoptr(GByteArray) netlink = g_byte_array_new();

            msc_nft_attrs_put(got, netlink);
            g_assert_cmpuint(netlink->len, <, UINT16_MAX);
        } else {
            g_assert_nonnull(strstr(err->message, "too much in it"));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nft-payload/round-trip", test_round_trip);
    g_test_add_func("/nft-payload/every-cut-is-refused",
                    test_every_cut_is_refused);
    g_test_add_func("/nft-payload/trailing-bytes-are-refused",
                    test_trailing_bytes_are_refused);
    g_test_add_func("/nft-payload/doubles-are-refused",
                    test_doubles_are_refused);
    g_test_add_func("/nft-payload/the-other-byte-order-is-refused",
                    test_the_other_byte_order_is_refused);
    g_test_add_func("/nft-payload/attributes", test_attributes);
    g_test_add_func("/nft-payload/a-nest-that-would-overflow-is-refused",
                    test_a_nest_that_would_overflow_is_refused);
    return g_test_run();
}
