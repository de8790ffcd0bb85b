/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "nft-ahead-lab.h"

#include "nft-ahead-source.h"

#define BATCH_MAX (256 * 1024)

static const MscPrecopy *precopy(void)
{
    return msc_nft_provider.precopy;
}

NftAhead *nft_ahead_new(const char *ruleset)
{
    NftAhead *l = g_new0(NftAhead, 1);
    g_autoptr(GBytes) answer = msc_nft_ahead_answer();
    g_autoptr(GError) err = NULL;

    l->lab = nft_lab_new("inet g");
    l->batches = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    l->replaced = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    nft_load(ruleset);
    l->source = precopy()->source_begin(l->lab->a, &err);
    g_assert_no_error(err);
    precopy()->source_admitted(l->source, answer, &err);
    g_assert_no_error(err);
    l->destination = precopy()->destination_begin(l->lab->b);
    return l;
}

void nft_ahead_add_addresses(GString *text, guint count, const char *after)
{
    for (guint i = 0; i < count; i++) {
        g_string_append_printf(text, "%s11.%u.%u.%u%s", i ? ", " : "", i >> 15,
                               i >> 7 & 255, (i & 127) * 2, after);
    }
}

char *nft_ahead_rules(guint count)
{
    GString *text = g_string_new("table inet g {\n"
                                 " set s { type ipv4_addr; elements = { ");

    nft_ahead_add_addresses(text, count, "");
    g_string_append(text, " } }\n set i { type ipv4_addr; flags interval; "
                          "elements = { ");
    nft_ahead_add_addresses(text, count / 10, "/31");
    g_string_append(text, " } }\n set c { type ipv4_addr . inet_service; "
                          "flags interval; elements = { ");
    nft_ahead_add_addresses(text, count / 10, "/31 . 80-90");
    g_string_append(text,
                    " } }\n map m { type ipv4_addr : mark; elements = { ");
    nft_ahead_add_addresses(text, count / 10, " : 7");
    g_string_append(text, " } }\n set t { type ipv4_addr; flags timeout; "
                          "timeout 2h; elements = { ");
    nft_ahead_add_addresses(text, count / 10, " timeout 1h");
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

NftAhead *nft_ahead_new_of(guint count)
{
    g_autofree char *text = nft_ahead_rules(count);

    return nft_ahead_new(text);
}

void nft_ahead_free(NftAhead *l)
{
    precopy()->source_end(l->source);
    precopy()->destination_end(l->destination);
    g_ptr_array_unref(l->batches);
    g_ptr_array_unref(l->replaced);
    nft_lab_free(l->lab);
    g_free(l);
}

GBytes *nft_ahead_next(NftAhead *l)
{
    g_autoptr(GError) err = NULL;
    GBytes *batch = precopy()->next(l->source, BATCH_MAX, &l->progress, &err);

    g_assert_no_error(err);
    g_assert_cmpuint(g_bytes_get_size(batch), <=, BATCH_MAX);
    return batch;
}

static bool replacing(GBytes *replaced, void *opaque, GError **errp)
{
    NftAhead *l = opaque;

    (void)errp;
    g_ptr_array_add(l->replaced, g_bytes_ref(replaced));
    return true;
}

bool nft_ahead_stage(NftAhead *l, GBytes *batch, uint64_t transit_us,
                     GError **err)
{
    uint64_t flows;
    bool ok;

    lab_enter(l->lab->host_b);
    ok = precopy()->validate(l->destination, batch, err);
    if (ok) {
        g_ptr_array_add(l->batches, g_bytes_ref(batch));
        ok = precopy()->stage(l->destination, batch, transit_us, replacing, l,
                              &flows, err);
    }
    lab_enter(l->lab->host_a);
    return ok;
}

void nft_ahead_undo(NftAhead *l)
{
    g_autoptr(GError) err = NULL;

    lab_enter(l->lab->host_b);
    precopy()->destination_end(l->destination);
    l->destination = precopy()->destination_begin(l->lab->b);
    for (guint i = 0; i < l->batches->len; i++) {
        precopy()->unstage(l->lab->b, l->batches->pdata[i], 0, &err);
        g_assert_no_error(err);
    }
    for (guint i = 0; i < l->replaced->len; i++) {
        precopy()->restore(l->lab->b, l->replaced->pdata[i], &err);
        g_assert_no_error(err);
    }
    lab_enter(l->lab->host_a);
}

static bool move_one(NftAhead *l)
{
    g_autoptr(GBytes) batch = nft_ahead_next(l);
    g_autoptr(GError) err = NULL;

    if (l->progress.anew) {
        nft_ahead_undo(l);
    }
    if (!g_bytes_get_size(batch)) {
        return false;
    }
    nft_ahead_stage(l, batch, 0, &err);
    g_assert_no_error(err);
    return true;
}

guint nft_ahead_bulk(NftAhead *l)
{
    guint n = 0;

    do {
        n += move_one(l);
    } while (!l->progress.live);
    return n;
}

void nft_ahead_follow(NftAhead *l)
{
    while (!move_one(l)) {
        g_usleep(1000);
    }
    nft_ahead_bulk(l);
}

GBytes *nft_ahead_last(NftAhead *l)
{
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;
    GBytes *batch;
    bool lost;

    batch = precopy()->final(l->source, &stats, &lost, &err);
    g_assert_no_error(err);
    if (lost) {
        g_clear_pointer(&batch, g_bytes_unref);
    }
    return batch;
}

gsize nft_ahead_final(NftAhead *l)
{
    g_autoptr(GBytes) batch = nft_ahead_last(l);
    g_autoptr(GError) err = NULL;

    g_assert_nonnull(batch);
    nft_ahead_stage(l, batch, 0, &err);
    g_assert_no_error(err);
    return g_bytes_get_size(batch);
}

char *nft_ahead_listing_of_b(NftAhead *l)
{
    char *text;

    lab_enter(l->lab->host_b);
    text = nft_listing(false);
    lab_enter(l->lab->host_a);
    return text;
}

void nft_ahead_assert_same(NftAhead *l)
{
    g_autofree char *here = nft_listing(false);
    g_autofree char *wanted = nft_on_b(here);
    g_autofree char *there = nft_ahead_listing_of_b(l);

    g_assert_cmpstr(there, ==, wanted);
}
