/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-admit.h"

#include <linux/netfilter/nf_tables.h>
#include <net/if.h>

#include "nft-interfaces.h"
#include "nft-names.h"
#include "nft-scope.h"

static bool is_registered(const MscSelector *s, const MscNftTable *t)
{
    for (guint i = 0; i < s->nft_tables->len; i++) {
        const MscNftTableName *name = s->nft_tables->pdata[i];

        if (name->family == t->family && g_str_equal(name->name, t->name)) {
            return true;
        }
    }
    return false;
}

static bool is_chain_type(const char *type)
{
    static const char *const types[] = { "filter", "nat", "route" };

    for (size_t i = 0; type && i < G_N_ELEMENTS(types); i++) {
        if (g_str_equal(type, types[i])) {
            return true;
        }
    }
    return !type;
}

/* What would make this kernel load a module of any name, or take memory for
 * what is not there. */
static void check_demands(const MscNftTable *t, uint64_t *room,
                          GPtrArray *reasons)
{
    for (guint i = 0; i < t->chains->len; i++) {
        if (!is_chain_type(
                msc_nft_text(t->chains->pdata[i], NFTA_CHAIN_TYPE))) {
            g_ptr_array_add(
                reasons,
                g_strdup_printf(
                    "chain '%s' of table %s is of a type that cannot be moved",
                    msc_nft_text(t->chains->pdata[i], NFTA_CHAIN_NAME),
                    t->name));
        }
    }
    for (guint i = 0; i < t->sets->len; i++) {
        const MscNftSet *set = t->sets->pdata[i];
        const GPtrArray *desc = msc_nft_nested(set->attrs, NFTA_SET_DESC);

        *room += desc ? msc_nft_u32(desc, NFTA_SET_DESC_SIZE) : 0;
    }
}

static void check_tables(const MscNftPayload *payload, const MscSelector *s,
                         GPtrArray *reasons)
{
    uint64_t room = 0;

    for (guint i = 0; i < payload->tables->len; i++) {
        const MscNftTable *t = payload->tables->pdata[i];
        g_autofree char *text = msc_nft_table_text(t->family, t->name);

        check_demands(t, &room, reasons);

        if (!is_registered(s, t)) {
            g_ptr_array_add(
                reasons,
                g_strdup_printf(
                    "%s is not the guest's by this host's registration: "
                    "'migration-sc vm add --nft-table \"%s %s\"' if it is",
                    text, msc_nft_family_name(t->family), t->name));
        }
        if (msc_nft_u32(t->attrs, NFTA_TABLE_FLAGS) &
            (uint32_t)~NFT_TABLE_F_DORMANT) {
            g_ptr_array_add(reasons,
                            g_strdup_printf("%s has flags that cannot be moved",
                                            text));
        }
    }
    if (room > MSC_NFT_ROOM_MAX) {
        g_ptr_array_add(
            reasons,
            g_strdup_printf("the nft sets want room for %" G_GUINT64_FORMAT
                            " elements, at "
                            "most %u: give them a smaller 'size'",
                            room, MSC_NFT_ROOM_MAX));
    }
    for (guint i = 0; i < s->nft_tables->len; i++) {
        const MscNftTableName *name = s->nft_tables->pdata[i];
        g_autofree char *text = msc_nft_table_name_format(name);

        if (!msc_nft_payload_find(payload, name->family, name->name)) {
            g_ptr_array_add(
                reasons,
                g_strdup_printf(
                    "table '%s' is the guest's by this host's registration, but "
                    "does not come with it: register the same tables on both "
                    "hosts",
                    text));
        }
    }
}

static void check_devices(const MscNftPayload *payload, const MscSelector *s,
                          GPtrArray *reasons)
{
    for (guint i = 0; i < payload->roles->len; i++) {
        for (guint k = 0; k < s->interfaces->len; k++) {
            const MscInterface *one = s->interfaces->pdata[k];

            if (g_str_equal(one->role, payload->roles->pdata[i]) &&
                !if_nametoindex(one->device)) {
                g_ptr_array_add(
                    reasons,
                    g_strdup_printf(
                        "interface '%s' (role '%s') does not exist on this host: "
                        "make it, or register the guest with the right one",
                        one->device, one->role));
            }
        }
    }
}

void msc_nft_admit(MscNftPayload *payload, const MscSelector *s,
                   GPtrArray *reasons)
{
    if (payload->local) {
        g_ptr_array_add(
            reasons,
            g_strdup("nft tables with another host's own names of interfaces"));
        return;
    }
    check_tables(payload, s, reasons);
    if (s->nft_scope == MSC_NFT_SCOPE_GUEST) {
        msc_nft_scope_check(payload, s, reasons);
    }
    check_devices(payload, s, reasons);
    msc_nft_to_devices(payload, s, reasons);
}

static void drop_elements(MscNftTable *t, const MscNftTable *like)
{
    for (guint i = 0; i < t->sets->len; i++) {
        MscNftSet *set = t->sets->pdata[i];
        const MscNftSet *other =
            msc_nft_table_set(like, msc_nft_text(set->attrs, NFTA_SET_NAME));

        if (other && !other->elements->len) {
            g_ptr_array_set_size(set->elements, 0);
        }
    }
}

void msc_nft_admit_existing(const MscNftPayload *payload,
                            MscNftPayload *existing, const MscSelector *s,
                            bool shortened, GPtrArray *reasons)
{
    if (s->nft_existing == MSC_NFT_EXISTING_REPLACE) {
        return;
    }
    for (guint i = 0; i < existing->tables->len; i++) {
        MscNftTable *there = existing->tables->pdata[i];
        const MscNftTable *comes =
            msc_nft_payload_find(payload, there->family, there->name);
        g_autofree char *text = msc_nft_table_text(there->family, there->name);
        const char *what;

        if (!comes) {
            continue;
        }
        if (shortened) {
            drop_elements(there, comes);
        }
        if (!msc_nft_table_holds(there, comes, &what) ||
            !msc_nft_table_holds(comes, there, &what)) {
            g_ptr_array_add(
                reasons,
                g_strdup_printf(
                    "%s exists on this host already, with other %s: delete it "
                    "('nft delete %s'), or register the guest here with "
                    "--nft-existing replace",
                    text, what, text));
        }
    }
}
