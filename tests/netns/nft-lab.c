/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "nft-lab.h"

#include <stdio.h>
#include <string.h>

static const MscProvider *const p = &msc_nft_provider;

static void add_interface(MscSelector *s, const char *text)
{
    g_autoptr(GError) err = NULL;

    msc_selector_add_interface(s, text, &err);
    g_assert_no_error(err);
}

NftLab *nft_lab_new(const char *table)
{
    NftLab *lab = g_new0(NftLab, 1);
    g_autoptr(GError) err = NULL;

    lab->a = lab_guest();
    lab->b = lab_guest();
    msc_selector_add_table(lab->a, table, &err);
    g_assert_no_error(err);
    msc_selector_add_table(lab->b, table, NULL);
    add_interface(lab->a, "lan=tap7");
    add_interface(lab->a, "wan=eth0");
    add_interface(lab->a, "lo=lo");
    add_interface(lab->b, "lan=tap70");
    add_interface(lab->b, "wan=eth1");
    add_interface(lab->b, "lo=lo");
    lab->b->nft_scope = MSC_NFT_SCOPE_HOST;
    lab->host_b = lab_host_new();
    /* Other numbers than on the other host. */
    lab_run("ip link add unused1 type veth peer name unused2");
    lab_run("ip link add tap70 type veth peer name eth1");
    lab->host_a = lab_host_new();
    lab_run("ip link add tap7 type veth peer name eth0");
    return lab;
}

void nft_lab_free(NftLab *lab)
{
    lab_host_free(lab->host_a);
    lab_host_free(lab->host_b);
    msc_selector_free(lab->a);
    msc_selector_free(lab->b);
    g_free(lab);
}

static char *replace(const char *text, const char *pattern, const char *with)
{
    g_autoptr(GRegex) regex = g_regex_new(pattern, 0, 0, NULL);
    char *out = g_regex_replace_literal(regex, text, -1, 0, with, 0, NULL);

    g_assert_nonnull(out);
    return out;
}

void nft_load(const char *ruleset)
{
    g_autofree char *inner = replace(ruleset, "; *\\}", "\n}\n");
    g_autofree char *lines = replace(inner, "\\} *\\}", "}\n}\n");
    FILE *f = popen("nft -f -", "w");

    g_assert_nonnull(f);
    g_assert_cmpint(fputs(lines, f), >=, 0);
    g_assert_cmpint(pclose(f), ==, 0);
}

char *nft_listing(bool json)
{
    g_autofree char *all = json ? lab_output("nft -j -nn list ruleset")
                                : lab_output("nft -nn list ruleset");
    g_autofree char *plain =
        replace(all, "\"handle\": [0-9]+, |, \"handle\": [0-9]+", "");

    return json ? replace(plain, "\"expires\": [0-9]+", "\"expires\": 0")
                : replace(plain, "expires [0-9hms]+", "expires 0s");
}

char *nft_on_b(const char *text)
{
    g_autofree char *tap = replace(text, "\\btap7\\b", "tap70");

    return replace(tap, "\\beth0\\b", "eth1");
}

GBytes *nft_collect(const MscSelector *s)
{
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;
    GBytes *payload = p->collect(s, NULL, &stats, &err);

    g_assert_no_error(err);
    return payload;
}

GBytes *nft_summary(const MscSelector *s)
{
    g_autoptr(GError) err = NULL;
    GBytes *summary = p->summarize(s, 256 * 1024, &err);

    g_assert_no_error(err);
    return summary;
}

GBytes *nft_restore(const MscSelector *s, GBytes *payload, uint64_t transit_us)
{
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;
    GBytes *replaced;

    p->validate(s, payload, &stats, &err);
    g_assert_no_error(err);
    replaced = p->prepare(s, payload, &err);
    g_assert_no_error(err);
    p->stage(s, payload, transit_us, &err);
    g_assert_no_error(err);
    return replaced;
}

char *nft_reasons(const MscSelector *s, GBytes *summary)
{
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GBytes) answer = NULL;
    g_autoptr(GError) err = NULL;

    p->check(s, summary, false, reasons, &answer, &err);
    g_assert_no_error(err);
    g_ptr_array_add(reasons, NULL);
    return g_strjoinv("\n", (char **)reasons->pdata);
}
