/*
 * What staging does to a host that is not empty, and that abort undoes it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-lab.h"
#include "nft-netlink.h"

static const MscProvider *const p = &msc_nft_provider;

#define INCOMING                                                       \
    "table inet g {\n"                                                 \
    " set s { type ipv4_addr; elements = { 1.2.3.4, 1.2.3.5 } }\n"     \
    " chain f { type filter hook forward priority 0; policy accept;\n" \
    "  iifname \"tap7\" ip saddr @s counter packets 7 bytes 70 drop\n" \
    " }\n"                                                             \
    "}\n"

/* Another shape of the guest's table, with a counter in a rule, one in an
 * element, state and a chain inside a rule. */
#define STALE                                                                \
    "table inet g {\n"                                                       \
    " comment \"old\"\n"                                                     \
    " counter c { packets 3 bytes 33 }\n"                                    \
    " quota q { over 1 mbytes used 2 kbytes }\n"                             \
    " set t { type ipv4_addr; flags dynamic,timeout; timeout 1h; counter;\n" \
    "  elements = { 10.9.9.9 counter packets 4 bytes 44 expires 50m } }\n"   \
    " chain old { type filter hook input priority 5; policy accept;\n"       \
    "  iif \"tap70\" tcp dport 22 counter packets 9 bytes 99 jump {\n"       \
    "   counter name c drop\n"                                               \
    "  }\n"                                                                  \
    " }\n"                                                                   \
    "}\n"

#define OTHERS                                                         \
    "table inet host { chain c { type filter hook input priority 0;\n" \
    " tcp dport 25 counter packets 1 bytes 1 drop; } }\n"

typedef struct {
    NftLab *lab;
    GBytes *payload;
    char *before;
} Fixture;

/* On host B, with stale state of the guest's if @stale. */
static void set_up(Fixture *f, gconstpointer stale)
{
    f->lab = nft_lab_new("inet g");
    f->lab->b->nft_existing = MSC_NFT_EXISTING_REPLACE;
    nft_load(INCOMING);
    f->payload = nft_collect(f->lab->a);
    lab_enter(f->lab->host_b);
    nft_load(OTHERS);
    if (stale) {
        nft_load(STALE);
    }
    f->before = nft_listing(false);
}

static void tear_down(Fixture *f, gconstpointer stale)
{
    (void)stale;
    nft_lab_free(f->lab);
    g_bytes_unref(f->payload);
    g_free(f->before);
}

static void assert_as_before(const Fixture *f)
{
    g_autofree char *now = nft_listing(false);

    g_assert_cmpstr(now, ==, f->before);
}

static void test_abort_restores(Fixture *f, gconstpointer stale)
{
    g_autofree char *others = lab_output("nft -a list table inet host");
    g_autofree char *others_after = NULL;
    g_autofree char *during = NULL;
    g_autoptr(GBytes) replaced = nft_restore(f->lab->b, f->payload, 0);
    g_autoptr(GError) err = NULL;

    (void)stale;
    during = nft_listing(false);
    g_assert_nonnull(strstr(during, "1.2.3.4"));
    g_assert_null(strstr(during, "\"old\""));
    /* As after a crash: again changes nothing. */
    for (int i = 0; i < 2; i++) {
        p->abort(f->lab->b, f->payload, replaced, &err);
        g_assert_no_error(err);
        assert_as_before(f);
    }
    others_after = lab_output("nft -a list table inet host");
    g_assert_cmpstr(others, ==, others_after);
}

/* The helper crashed after the journal was written, before stage: the very
 * tables stay, handles and all. */
static void test_abort_of_what_was_not_staged(Fixture *f, gconstpointer stale)
{
    g_autofree char *before = lab_output("nft -a list ruleset");
    g_autofree char *after = NULL;
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) replaced = p->prepare(f->lab->b, f->payload, &err);

    (void)stale;
    g_assert_no_error(err);
    p->abort(f->lab->b, f->payload, replaced, &err);
    g_assert_no_error(err);
    after = lab_output("nft -a list ruleset");
    /* Time goes on in the set. */
    g_assert_cmpuint(strlen(before), ==, strlen(after));
    assert_as_before(f);
}

/* One rule of many that the kernel refuses: nothing of the rest is there. */
static void test_a_stage_that_fails_changes_nothing(Fixture *f,
                                                    gconstpointer stale)
{
    g_autoptr(MscNftPayload) payload = msc_nft_payload_decode(f->payload, NULL);
    MscNftTable *t = payload->tables->pdata[0];
    GPtrArray *rule = t->rules->pdata[0];
    g_autoptr(GBytes) broken = NULL, replaced = NULL;
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;

    (void)stale;
    /* A lookup in a set that is not in the table. */
    for (guint i = 0; i < rule->len; i++) {
        MscNftAttr *exprs = rule->pdata[i];

        for (guint k = 0; exprs->nest && k < exprs->nest->len; k++) {
            MscNftAttr *expr = exprs->nest->pdata[k];

            if (!strcmp(msc_nft_text(expr->nest, 1), "lookup")) {
                msc_nft_set_text(msc_nft_find(msc_nft_nested(expr->nest, 2), 1),
                                 "nowhere");
            }
        }
    }
    broken = msc_nft_payload_encode(payload);
    g_assert_true(p->validate(f->lab->b, broken, &stats, NULL));
    replaced = p->prepare(f->lab->b, broken, &err);
    g_assert_no_error(err);
    g_assert_false(p->stage(f->lab->b, broken, 0, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_KERNEL);
    g_assert_nonnull(strstr(err->message, "chain f, rule 1"));
    assert_as_before(f);
    g_clear_error(&err);
    p->abort(f->lab->b, broken, replaced, &err);
    g_assert_no_error(err);
    assert_as_before(f);
}

/* ---- a table that is there ---- */

static void test_another_table_refuses(Fixture *f, gconstpointer stale)
{
    g_autoptr(GBytes) summary = NULL;
    g_autoptr(GError) err = NULL;
    g_autofree char *reasons = NULL;
    GBytes *replaced;

    (void)stale;
    f->lab->b->nft_existing = MSC_NFT_EXISTING_REFUSE;
    lab_enter(f->lab->host_a);
    summary = nft_summary(f->lab->a);
    lab_enter(f->lab->host_b);
    reasons = nft_reasons(f->lab->b, summary);
    g_assert_nonnull(strstr(reasons, "exists on this host already"));
    g_assert_nonnull(strstr(reasons, "--nft-existing replace"));
    g_assert_null(p->prepare(f->lab->b, f->payload, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    assert_as_before(f);
    /* The twin. */
    f->lab->b->nft_existing = MSC_NFT_EXISTING_REPLACE;
    g_free(reasons);
    reasons = nft_reasons(f->lab->b, summary);
    g_assert_cmpstr(reasons, ==, "");
    replaced = nft_restore(f->lab->b, f->payload, 0);
    g_bytes_unref(replaced);
}

/* Back to a host that still has it: the same table, but for its counters. */
static void test_the_same_table_is_replaced(Fixture *f, gconstpointer stale)
{
    g_autoptr(GBytes) replaced = nft_restore(f->lab->b, f->payload, 0);
    g_autoptr(GBytes) again = NULL;
    g_autofree char *after = NULL;

    (void)stale;
    f->lab->b->nft_existing = MSC_NFT_EXISTING_REFUSE;
    again = nft_restore(f->lab->b, f->payload, 0);
    g_assert_cmpuint(g_bytes_get_size(again), >=, g_bytes_get_size(replaced));
    after = nft_listing(false);
    g_assert_nonnull(strstr(after, "packets 7 bytes 70"));
}

/* A table as only a program makes it, with a quote in a log's prefix. */
static void load_what_nft_cannot_write(Fixture *f)
{
    g_autoptr(MscNftPayload) odd = NULL;
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();
    g_autoptr(MscNft) nft = msc_nft_open(NULL);
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) err = NULL;
    MscNftTable *t;
    MscNftAttr *expr;

    nft_load("table inet g { chain c { log prefix \"x\"; } }");
    odd = msc_nft_dump(nft, f->lab->b->nft_tables, MSC_NFT_WHOLE, &err);
    g_assert_no_error(err);
    t = odd->tables->pdata[0];
    expr = msc_nft_nested(t->rules->pdata[0], NFTA_RULE_EXPRESSIONS)->pdata[0];
    msc_nft_set_text(msc_nft_find(msc_nft_nested(expr->nest, NFTA_EXPR_DATA),
                                  NFTA_LOG_PREFIX),
                     "x\"y");
    msc_nft_batch_delete(batch, t);
    msc_nft_batch_add(batch, t, false);
    msc_nft_run(nft, batch, true, reasons, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(reasons->len, ==, 0);
}

/* What could not be put back is not replaced. */
static void test_what_cannot_be_put_back_stays(Fixture *f, gconstpointer stale)
{
    g_autofree char *reasons = NULL, *before = NULL, *after = NULL;
    g_autoptr(GBytes) summary = NULL;
    g_autoptr(GError) err = NULL;

    (void)stale;
    lab_enter(f->lab->host_a);
    summary = nft_summary(f->lab->a);
    lab_enter(f->lab->host_b);
    load_what_nft_cannot_write(f);
    before = lab_output("nft -a list ruleset");
    reasons = nft_reasons(f->lab->b, summary);
    g_assert_nonnull(strstr(reasons, "could not be put back"));
    g_assert_nonnull(strstr(reasons, "no way to write"));
    g_assert_null(p->prepare(f->lab->b, f->payload, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    after = lab_output("nft -a list ruleset");
    g_assert_cmpstr(before, ==, after);
}

#define ADD(name, stale, test) \
    g_test_add("/nft/" name, Fixture, stale, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("abort-restores-nothing", NULL, test_abort_restores);
    ADD("abort-restores-what-was-there", "stale", test_abort_restores);
    ADD("abort-of-what-was-not-staged", "stale",
        test_abort_of_what_was_not_staged);
    ADD("a-stage-that-fails-changes-nothing", "stale",
        test_a_stage_that_fails_changes_nothing);
    ADD("another-table-refuses", "stale", test_another_table_refuses);
    ADD("the-same-table-is-replaced", NULL, test_the_same_table_is_replaced);
    ADD("what-cannot-be-put-back-stays", NULL,
        test_what_cannot_be_put_back_stays);
    return g_test_run();
}
