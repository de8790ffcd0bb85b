/*
 * Sets ahead, the destination: what of a batch is refused before anything
 * changes.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-admit.h"
#include "nft-ahead-private.h"
#include "nft-collect.h"

static bool refuse(GError **errp, const char *why)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED, "nft, sent ahead: %s", why);
    return false;
}

static bool are_static(const MscNftSet *set, GError **errp)
{
    if (!msc_nft_set_is_static(set)) {
        return refuse(errp, "a set that is not static");
    }
    for (guint i = 0; i < set->elements->len; i++) {
        if (!msc_nft_element_is_static(set->elements->pdata[i])) {
            return refuse(errp, "an element with more than keys and values");
        }
    }
    return true;
}

/* Elements of sets that are here, and these are described alike. */
static bool check_known(const MscNftDestination *d, const MscNftPayload *p,
                        GError **errp)
{
    for (guint i = 0; i < p->tables->len; i++) {
        const MscNftTable *t = p->tables->pdata[i];

        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *set = t->sets->pdata[k];
            const MscNftSet *ours = msc_nft_ahead_set(d, t, set);

            if (!ours || !msc_nft_attrs_same(ours->attrs, set->attrs)) {
                return refuse(errp, "elements of a set that did not go ahead");
            }
            if (!are_static(set, errp)) {
                return false;
            }
        }
    }
    return true;
}

static bool check_begin(const MscNftPayload *p, GError **errp)
{
    for (guint i = 0; i < p->tables->len; i++) {
        const MscNftTable *t = p->tables->pdata[i];

        for (guint k = 0; k < t->sets->len; k++) {
            if (!are_static(t->sets->pdata[k], errp)) {
                return false;
            }
        }
    }
    return true;
}

/* All that went ahead is a part of what comes at last, as it was described. */
static bool check_end(const MscNftDestination *d, const MscNftPayload *p,
                      GError **errp)
{
    for (guint i = 0; i < d->tables->tables->len; i++) {
        const MscNftTable *t = d->tables->tables->pdata[i];
        const MscNftTable *last = msc_nft_payload_find(p, t->family, t->name);

        if (!last || !msc_nft_attrs_same(t->attrs, last->attrs)) {
            return refuse(errp, "a table that is not described as it was");
        }
        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *was = t->sets->pdata[k];
            const MscNftSet *set =
                msc_nft_table_set(last,
                                  msc_nft_text(was->attrs, NFTA_SET_NAME));

            if (!set || !msc_nft_attrs_same(was->attrs, set->attrs)) {
                return refuse(errp, "a set that is not described as it was");
            }
            if (!are_static(set, errp)) {
                return false;
            }
        }
    }
    return true;
}

static bool check_order(const MscNftDestination *d, const MscNftAhead *a,
                        GError **errp)
{
    if (!(a->flags & MSC_NFT_BEGINS) != !!d->tables) {
        return refuse(errp, "a batch out of place");
    }
    if (memcmp(a->before, d->before, sizeof(a->before)) ||
        (d->tables && memcmp(a->nonce, d->nonce, sizeof(a->nonce)))) {
        return refuse(errp, "a batch does not follow the one before");
    }
    if ((a->flags & MSC_NFT_ENDS) && !d->complete) {
        return refuse(errp, "the end of it comes too early");
    }
    return true;
}

bool msc_nft_ahead_check(const MscNftDestination *d, MscNftAhead *a,
                         size_t size, GError **errp)
{
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);

    if (d->bytes + size > MSC_NFT_PAYLOAD_MAX) {
        return refuse(errp, "more elements than a guest may have");
    }
    if (!check_order(d, a, errp) || !check_known(d, a->gone, errp)) {
        return false;
    }
    if (a->flags & MSC_NFT_BEGINS ? !check_begin(a->comes, errp)
        : a->flags & MSC_NFT_ENDS ? !check_end(d, a->comes, errp)
                                  : !check_known(d, a->comes, errp)) {
        return false;
    }
    if (a->flags & (MSC_NFT_BEGINS | MSC_NFT_ENDS)) {
        msc_nft_admit(a->comes, d->selector, reasons);
    }
    return !msc_nft_refused(reasons, errp);
}
