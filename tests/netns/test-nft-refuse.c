/*
 * What a host does not take: from a hostile other one, or because it could not
 * enforce it.  Each refusal has its twin, which is taken.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "nft-lab.h"

static const MscProvider *const p = &msc_nft_provider;

#define HOOK "type filter hook forward priority 0; policy accept; "

/* ---- rulesets ---- */

typedef struct {
    const char *name;
    const char *family;
    const char *chains; /* of table g */
    const char *reason; /* in the refusal, or NULL: taken */
} Row;

/* By default rules that come here touch the guest's packets alone.  The
 * guest: tap7, 10.20.0.10, fd20::10. */
static const Row scopes[] = {
    { "interface-first", "inet",
      "chain f { " HOOK "iifname \"tap7\" tcp dport 25 drop; }", NULL },
    { "no-interface", "inet", "chain f { " HOOK "tcp dport 25 drop; }",
      "chain f: rule 1" },
    { "interface-last", "inet",
      "chain f { " HOOK "tcp dport 25 iifname \"tap7\" drop; }", NULL },
    { "interface-after-the-deed", "inet",
      "chain f { " HOOK "meta mark set 5 iifname \"tap7\" drop; }",
      "chain f: rule 1" },
    { "not-that-interface", "inet",
      "chain f { " HOOK "iifname != \"tap7\" drop; }", "chain f: rule 1" },
    { "interface-by-number", "inet", "chain f { " HOOK "oif \"tap7\" drop; }",
      NULL },
    { "one-of-its-interfaces", "inet",
      "chain f { " HOOK "iifname { \"tap7\", \"eth0\" } drop; }", NULL },
    { "none-of-its-interfaces", "inet",
      "chain f { " HOOK "iifname != { \"tap7\", \"eth0\" } drop; }",
      "chain f: rule 1" },
    { "verdicts-by-interface", "inet",
      "chain f { " HOOK "iifname vmap { \"tap7\" : drop }; }", NULL },
    { "verdicts-by-interface-or-any", "inet",
      "map m { type ifname : verdict; elements = { \"tap7\" : drop, "
      "* : drop } } chain f { " HOOK "iifname vmap @m; }",
      "chain f: rule 1" },
    { "verdicts-by-port", "inet",
      "chain f { " HOOK "tcp dport vmap { 25 : drop }; }", "chain f: rule 1" },
    { "harmless-verdicts", "inet",
      "chain f { " HOOK "tcp dport vmap { 25 : accept, 26 : return }; }",
      NULL },
    { "its-address", "inet", "chain f { " HOOK "ip daddr 10.20.0.10 drop; }",
      NULL },
    { "its-ipv6-address", "inet",
      "chain f { " HOOK "ip6 saddr fd20::10 drop; }", NULL },
    { "its-network", "inet", "chain f { " HOOK "ip daddr 10.20.0.0/24 drop; }",
      "chain f: rule 1" },
    { "not-its-address", "inet",
      "chain f { " HOOK "ip daddr != 10.20.0.10 drop; }", "chain f: rule 1" },
    { "address-of-another", "inet",
      "chain f { " HOOK "ip daddr 10.20.0.11 drop; }", "chain f: rule 1" },
    { "its-address-in-another-place", "inet",
      "chain f { " HOOK "@nh,160,32 0x0a14000a drop; }", "chain f: rule 1" },
    { "policy", "inet",
      "chain f { type filter hook forward priority 0; policy drop; }",
      "its policy, drop" },
    { "jump", "inet",
      "chain d { drop; } chain f { " HOOK "iifname \"tap7\" jump d; }", NULL },
    { "jump-by-any", "inet", "chain d { drop; } chain f { " HOOK "jump d; }",
      "chain d: rule 1" },
    { "jump-by-any-to-a-guard", "inet",
      "chain d { iifname \"tap7\" drop; } chain f { " HOOK "jump d; }", NULL },
    { "goto-through-a-map", "inet",
      "chain d { drop; } chain f { " HOOK "ct state vmap { new : goto d }; }",
      "chain d: rule 1" },
    { "inner-chain", "inet", "chain f { " HOOK "tcp dport 25 jump { drop; } }",
      "rule 1" },
    { "established-first", "inet",
      "chain f { " HOOK "ct state established accept; "
      "iifname \"tap7\" drop; }",
      NULL },
    { "counting-all", "inet", "chain f { " HOOK "counter; }", NULL },
    { "logging-all", "inet", "chain f { " HOOK "log; }", "chain f: rule 1" },
    { "filling-a-set-with-all", "inet",
      "set s { type ifname; flags dynamic; size 9; } "
      "chain f { " HOOK "add @s { iifname }; }",
      "chain f: rule 1" },
    { "translating-all", "ip",
      "chain f { type nat hook postrouting priority 100; masquerade; }",
      "chain f: rule 1" },
    { "translating-its-own", "ip",
      "chain f { type nat hook postrouting priority 100; "
      "ip saddr 10.20.0.10 masquerade; }",
      NULL },
    { "untracking-all", "inet",
      "chain f { type filter hook prerouting priority -300; notrack; }",
      "chain f: rule 1" },
    { "bridge", "bridge",
      "chain f { " HOOK "iifname \"tap7\" ether type arp drop; }", NULL },
    { "bridge-all", "bridge", "chain f { " HOOK "ether type arp drop; }",
      "chain f: rule 1" },
    { "its-device", "netdev",
      "chain f { type filter hook ingress device \"tap7\" priority 0; "
      "policy drop; }",
      NULL },
};

static void test_scope(gconstpointer data)
{
    const Row *row = data;
    g_autofree char *table = g_strdup_printf("%s g", row->family);
    g_autofree char *ruleset =
        g_strdup_printf("table %s {\n%s\n}\n", table, row->chains);
    g_autofree char *reasons = NULL, *after = NULL;
    g_autoptr(NftLab) lab = nft_lab_new(table);
    g_autoptr(GBytes) summary = NULL, payload = NULL;
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;

    lab->b->nft_scope = MSC_NFT_SCOPE_GUEST;
    nft_load(ruleset);
    summary = nft_summary(lab->a);
    payload = nft_collect(lab->a);
    lab_enter(lab->host_b);
    reasons = nft_reasons(lab->b, summary);
    if (!row->reason) {
        g_autoptr(GBytes) replaced = NULL;

        g_assert_cmpstr(reasons, ==, "");
        replaced = nft_restore(lab->b, payload, 0);
        return;
    }
    /* Before RAM, and again when it comes: the first may have been a lie. */
    g_assert_nonnull(strstr(reasons, row->reason));
    g_assert_nonnull(strstr(reasons, "--nft-scope host"));
    g_assert_false(p->validate(lab->b, payload, &stats, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    g_assert_nonnull(strstr(err->message, row->reason));
    after = nft_listing(false);
    g_assert_cmpstr(after, ==, "");
    /* Who says so may have it. */
    lab->b->nft_scope = MSC_NFT_SCOPE_HOST;
    g_free(reasons);
    reasons = nft_reasons(lab->b, summary);
    g_assert_cmpstr(reasons, ==, "");
}

/* What the source's own host finds out. */
static const Row sources[] = {
    { "interface-without-a-role", "inet",
      "chain f { iifname \"dummy9\" drop; }",
      "interface 'dummy9' has no "
      "role" },
    { "pattern", "inet", "chain f { iifname \"tap*\" drop; }", "by a pattern" },
    { "pattern-in-a-set", "inet",
      "set s { type ifname; flags interval; elements = { \"tap*\" } }",
      "by a pattern" },
    { "interface-in-a-set", "inet",
      "set s { type ifname . inet_service; elements = { \"eth9\" . 80 } }",
      "interface 'eth9' has no role" },
    { "interface-in-a-map", "inet",
      "map m { type mark : ifname; elements = { 5 : \"eth9\" } }",
      "interface 'eth9' has no role" },
    { "hash-of-an-interface", "inet",
      "chain f { meta mark set jhash iifname mod 2 seed 0x5; }",
      "in a way that cannot be moved" },
};

static void test_source(gconstpointer data)
{
    const Row *row = data;
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autofree char *ruleset =
        g_strdup_printf("table inet g {\n%s\n}\n", row->chains);
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;

    nft_load(ruleset);
    g_assert_null(p->summarize(lab->a, 256 * 1024, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_REFUSED);
    g_assert_nonnull(strstr(err->message, row->reason));
    g_clear_error(&err);
    g_assert_null(p->collect(lab->a, NULL, &stats, &err));
    g_assert_nonnull(strstr(err->message, row->reason));
}

static void test_a_registered_table_must_exist(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) summary = NULL;

    g_assert_null(p->summarize(lab->a, 256 * 1024, &err));
    g_assert_nonnull(strstr(err->message, "table 'inet g'"));
    nft_load("table inet g { }");
    summary = nft_summary(lab->a);
}

/* ---- the other host's payload ---- */

typedef struct {
    const char *name;
    void (*change)(NftLab *lab, MscNftPayload *payload);
    const char *reason;
} Change;

static MscNftTable *first(MscNftPayload *payload)
{
    return payload->tables->pdata[0];
}

static void leave(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    (void)payload;
}

static void rename_table(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    g_free(first(payload)->name);
    first(payload)->name = g_strdup("host");
}

static void change_family(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    first(payload)->family = 2;
}

static void add_table(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    g_ptr_array_add(payload->tables, msc_nft_table_new(1, "host"));
}

static void drop_table(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    g_ptr_array_set_size(payload->tables, 0);
}

static void make_local(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    payload->local = true;
}

static MscNftAttr *expression(MscNftPayload *payload, const char *name)
{
    const GPtrArray *rule = first(payload)->rules->pdata[0];
    GPtrArray *exprs = msc_nft_nested(rule, NFTA_RULE_EXPRESSIONS);

    for (guint i = 0; i < exprs->len; i++) {
        MscNftAttr *expr = exprs->pdata[i];

        if (!strcmp(msc_nft_text(expr->nest, NFTA_EXPR_NAME), name)) {
            return expr;
        }
    }
    g_assert_not_reached();
}

/* A device of this host, not a role; the role of another. */
static void name_a_device(NftLab *lab, MscNftPayload *payload)
{
    MscNftAttr *cmp = expression(payload, "cmp");
    MscNftAttr *value =
        msc_nft_find(msc_nft_nested(msc_nft_nested(cmp->nest, NFTA_EXPR_DATA),
                                    NFTA_CMP_DATA),
                     NFTA_DATA_VALUE);

    (void)lab;
    memset(value->data, 0, value->len);
    memcpy(value->data, "tap70", 5);
}

static void missing_device(NftLab *lab, MscNftPayload *payload)
{
    MscInterface *wan = lab->b->interfaces->pdata[2];

    (void)payload;
    g_assert_cmpstr(wan->role, ==, "wan");
    g_free(wan->device);
    wan->device = g_strdup("gone0");
}

static void rename_expression(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    msc_nft_set_text(msc_nft_find(expression(payload, "counter")->nest,
                                  NFTA_EXPR_NAME),
                     "match");
}

static void break_out_of_a_name(NftLab *lab, MscNftPayload *payload)
{
    MscNftAttr *name =
        msc_nft_find(first(payload)->chains->pdata[1], NFTA_CHAIN_NAME);

    (void)lab;
    msc_nft_set_text(name, "x { }\n}\nflush ruleset\ntable inet y {\nchain z");
}

static void break_out_of_a_comment(NftLab *lab, MscNftPayload *payload)
{
    MscNftAttr *comment =
        msc_nft_find(first(payload)->rules->pdata[0], NFTA_RULE_USERDATA);

    (void)lab;
    comment->data[3] = '"';
}

static void break_out_of_a_log_prefix(NftLab *lab, MscNftPayload *payload)
{
    MscNftAttr *log = expression(payload, "log");

    (void)lab;
    msc_nft_set_text(msc_nft_find(msc_nft_nested(log->nest, NFTA_EXPR_DATA),
                                  NFTA_LOG_PREFIX),
                     "x\" drop; flush ruleset");
}

static void verdict(MscNftPayload *payload, uint32_t code)
{
    GPtrArray *data =
        msc_nft_nested(expression(payload, "immediate")->nest, NFTA_EXPR_DATA);

    data = msc_nft_nested(msc_nft_nested(data, NFTA_IMMEDIATE_DATA),
                          NFTA_DATA_VERDICT);
    msc_nft_set_u32(msc_nft_find(data, NFTA_VERDICT_CODE), code);
}

/* Hands packets to a program. */
static void queue_verdict(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    verdict(payload, 3);
}

static void stolen_verdict(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    verdict(payload, 2);
}

static void own_the_table(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    msc_nft_set_u32(msc_nft_find(first(payload)->attrs, NFTA_TABLE_FLAGS), 2);
}

static void rule_without_a_chain(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    msc_nft_set_text(msc_nft_find(first(payload)->rules->pdata[0],
                                  NFTA_RULE_CHAIN),
                     "elsewhere");
}

static void type_that_is_a_module(NftLab *lab, MscNftPayload *payload)
{
    (void)lab;
    msc_nft_set_text(msc_nft_find(first(payload)->chains->pdata[0],
                                  NFTA_CHAIN_TYPE),
                     "any_module");
}

static void sets_for_the_whole_memory(NftLab *lab, MscNftPayload *payload)
{
    const MscNftSet *set = first(payload)->sets->pdata[0];
    GPtrArray *desc = msc_nft_nested(set->attrs, NFTA_SET_DESC);

    (void)lab;
    msc_nft_set_u32(msc_nft_find(desc, NFTA_SET_DESC_SIZE), 0x7fffffff);
}

static const Change changes[] = {
    { "nothing-changed", leave, NULL },
    { "another-table", rename_table, "not the guest's" },
    { "another-family", change_family, "not the guest's" },
    { "one-more-table", add_table, "table inet host is not the guest's" },
    { "no-table", drop_table, "does not come with it" },
    { "names-of-its-own-devices", make_local, "own names of interfaces" },
    { "a-device-for-a-role", name_a_device, "role 'tap70' is not registered" },
    { "a-device-that-is-missing", missing_device,
      "interface 'gone0' (role 'wan') does not exist" },
    { "an-xtables-extension", rename_expression, "'match' cannot be moved" },
    { "a-name-that-is-a-command", break_out_of_a_name, "bad value" },
    { "a-comment-with-a-quote", break_out_of_a_comment, "bad value" },
    { "a-log-prefix-with-a-quote", break_out_of_a_log_prefix, "bad value" },
    { "queue-to-a-program", queue_verdict, "bad value" },
    { "a-verdict-that-leaks", stolen_verdict, "bad value" },
    { "a-table-that-goes-with-its-owner", own_the_table, "flags" },
    { "a-module-by-its-name", type_that_is_a_module,
      "type that cannot be moved" },
    { "room-for-billions", sets_for_the_whole_memory, "smaller 'size'" },
    { "a-rule-in-no-chain", rule_without_a_chain,
      "chain 'elsewhere', which table g does not have" },
};

static void test_change(gconstpointer data)
{
    const Change *change = data;
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autoptr(GBytes) payload = NULL, changed = NULL;
    g_autoptr(MscNftPayload) decoded = NULL;
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;

    nft_load(
        "table inet g { set s { type ipv4_addr; size 65535; } chain f { " HOOK
        "iifname \"tap7\" counter log prefix \"seen \" drop "
        "comment \"why\"; } chain d { } }");
    payload = nft_collect(lab->a);
    decoded = msc_nft_payload_decode(payload, &err);
    g_assert_no_error(err);
    change->change(lab, decoded);
    changed = msc_nft_payload_encode(decoded);
    lab_enter(lab->host_b);
    nft_load("table inet host { chain c { accept; } }");
    before = lab_output("nft -a list ruleset");
    if (!change->reason) {
        g_assert_true(g_bytes_equal(payload, changed));
        g_assert_true(p->validate(lab->b, changed, &stats, NULL));
        return;
    }
    g_assert_false(p->validate(lab->b, changed, &stats, &err));
    g_assert_nonnull(err);
    if (!strstr(err->message, change->reason)) {
        g_error("another reason: %s", err->message);
    }
    /* A caller that did not ask gets nothing installed either. */
    g_assert_null(p->prepare(lab->b, changed, NULL));
    g_assert_false(p->stage(lab->b, changed, 0, NULL));
    after = lab_output("nft -a list ruleset");
    g_assert_cmpstr(before, ==, after);
}

/* Every reason at once, so that one look is enough. */
static void test_all_reasons_are_told(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autoptr(GBytes) summary = NULL;
    g_autofree char *reasons = NULL;

    lab->b->nft_scope = MSC_NFT_SCOPE_GUEST;
    nft_load("table inet g { chain f { " HOOK "tcp dport 25 drop; "
             "tcp dport 26 drop; } }");
    summary = nft_summary(lab->a);
    lab_enter(lab->host_b);
    lab_run("ip link del tap70");
    msc_selector_add_table(lab->b, "ip more", NULL);
    reasons = nft_reasons(lab->b, summary);
    g_assert_nonnull(strstr(reasons, "chain f: rule 1"));
    g_assert_nonnull(strstr(reasons, "chain f: rule 2"));
    g_assert_nonnull(strstr(reasons, "'tap70' (role 'lan') does not exist"));
    g_assert_nonnull(strstr(reasons, "'eth1' (role 'wan') does not exist"));
    g_assert_nonnull(strstr(reasons, "'ip more'"));
}

/* The trial asks this very kernel about these very rules. */
static void test_what_the_kernel_lacks_is_told_before_ram(void)
{
    g_autoptr(NftLab) lab = nft_lab_new("inet g");
    g_autoptr(GBytes) summary = NULL, bytes = NULL, rest = NULL;
    g_autoptr(MscNftPayload) payload = NULL;
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree char *reasons = NULL, *after = NULL;
    MscNftAttr *expr;

    nft_load("table inet g { chain f { iifname \"tap7\" "
             "log prefix \"x\" drop; } chain d { counter; } }");
    summary = nft_summary(lab->a);
    rest = g_bytes_new_from_bytes(summary, 1, g_bytes_get_size(summary) - 1);
    payload = msc_nft_payload_decode(rest, NULL);
    /* A chain type that no kernel has. */
    g_ptr_array_remove_index(first(payload)->rules, 1);
    expr = expression(payload, "log");
    msc_nft_set_u32(msc_nft_find(msc_nft_nested(expr->nest, NFTA_EXPR_DATA),
                                 NFTA_LOG_LEVEL),
                    99);
    bytes = msc_nft_payload_encode(payload);
    g_byte_array_append(out, (const guint8 *)"\0", 1);
    g_byte_array_append(out, g_bytes_get_data(bytes, NULL),
                        (guint)g_bytes_get_size(bytes));
    g_bytes_unref(bytes);
    bytes = g_bytes_new(out->data, out->len);
    lab_enter(lab->host_b);
    reasons = nft_reasons(lab->b, bytes);
    g_assert_nonnull(strstr(reasons, "table inet g, chain f, rule 1"));
    after = nft_listing(false);
    g_assert_cmpstr(after, ==, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(scopes); i++) {
        g_autofree char *name =
            g_strdup_printf("/nft/scope/%s", scopes[i].name);

        g_test_add_data_func(name, &scopes[i], test_scope);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        g_autofree char *name =
            g_strdup_printf("/nft/source-refuses/%s", sources[i].name);

        g_test_add_data_func(name, &sources[i], test_source);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autofree char *name =
            g_strdup_printf("/nft/hostile/%s", changes[i].name);

        g_test_add_data_func(name, &changes[i], test_change);
    }
    g_test_add_func("/nft/a-registered-table-must-exist",
                    test_a_registered_table_must_exist);
    g_test_add_func("/nft/all-reasons-are-told", test_all_reasons_are_told);
    g_test_add_func("/nft/what-the-kernel-lacks-is-told-before-ram",
                    test_what_the_kernel_lacks_is_told_before_ram);
    return g_test_run();
}
