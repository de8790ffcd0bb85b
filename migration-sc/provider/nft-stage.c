/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-stage.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-admit.h"
#include "nft-ahead-source.h"
#include "nft-ahead.h"
#include "nft-collect.h"
#include "nft-names.h"
#include "nft-netlink.h"

static GPtrArray *reasons_new(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

/* What came, as this host will have it. */
static MscNftPayload *open_payload(const MscSelector *s, GBytes *bytes,
                                   GError **errp)
{
    g_autoptr(MscNftPayload) payload = msc_nft_payload_decode(bytes, errp);
    g_autoptr(GPtrArray) reasons = reasons_new();

    if (!payload) {
        return NULL;
    }
    msc_nft_admit(payload, s, reasons);
    return msc_nft_refused(reasons, errp) ? NULL : g_steal_pointer(&payload);
}

static void delete_all(MscNftBatch *batch, const MscNftPayload *existing)
{
    for (guint i = 0; i < existing->tables->len; i++) {
        msc_nft_batch_delete(batch, existing->tables->pdata[i]);
    }
}

static void add_all(MscNftBatch *batch, const MscNftPayload *payload,
                    bool dormant)
{
    for (guint i = 0; i < payload->tables->len; i++) {
        msc_nft_batch_add(batch, payload->tables->pdata[i], dormant);
    }
}

bool msc_nft_commit(MscNft *nft, const MscNftBatch *batch, GError **errp)
{
    g_autoptr(GPtrArray) reasons = reasons_new();

    if (batch->about->len == 1) {
        return true;
    }
    if (!msc_nft_run(nft, batch, true, reasons, errp)) {
        return false;
    }
    if (msc_nft_refused(reasons, errp)) {
        if (errp) {
            (*errp)->code = MSC_ERROR_KERNEL;
        }
        g_prefix_error(errp, "nftables: ");
        return false;
    }
    return true;
}

/* ---- before RAM ---- */

/* Is there a set that is worth sending ahead? */
static bool has_much(const MscNftPayload *payload, bool shortened)
{
    for (guint i = 0; i < payload->tables->len; i++) {
        const MscNftTable *t = payload->tables->pdata[i];

        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *set = t->sets->pdata[k];

            if ((shortened || set->elements->len >= MSC_NFT_AHEAD_MIN) &&
                msc_nft_set_goes_ahead(t, set)) {
                return true;
            }
        }
    }
    return false;
}

/* *@ahead: sets may be sent before the end.  Not into a table that is here:
 * that works on packets until the end. */
static bool check(const MscSelector *s, GBytes *summary, GPtrArray *reasons,
                  bool *ahead, GError **errp)
{
    bool shortened;
    g_autoptr(MscNftPayload) payload =
        msc_nft_summary_decode(summary, &shortened, errp);
    g_autoptr(MscNftPayload) existing = NULL;
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();
    g_autoptr(GError) err = NULL;
    g_autoptr(MscNft) nft = payload ? msc_nft_open(errp) : NULL;

    if (!nft) {
        return false;
    }
    msc_nft_admit(payload, s, reasons);
    existing = msc_nft_dump(nft, s->nft_tables, MSC_NFT_WHOLE, &err);
    if (!existing) {
        g_ptr_array_add(
            reasons,
            g_strdup_printf("what would be replaced could not be put back: %s",
                            err->message));
    }
    if (reasons->len) {
        return true; /* the kernel would only repeat it */
    }
    msc_nft_admit_existing(payload, existing, s, shortened, reasons);
    *ahead = !existing->tables->len && has_much(payload, shortened);
    delete_all(batch, existing);
    add_all(batch, payload, true);
    return msc_nft_run(nft, batch, false, reasons, errp);
}

bool msc_nft_check(const MscSelector *s, GBytes *summary, bool leave_behind,
                   GPtrArray *reasons, GBytes **answer, GError **errp)
{
    g_autoptr(GPtrArray) found = reasons_new();
    bool ahead = false;
    bool ok = check(s, summary, found, &ahead, errp);

    (void)leave_behind;
    *answer = ok && ahead ? msc_nft_ahead_answer() : NULL;
    for (guint i = 0; ok && i < found->len; i++) {
        g_ptr_array_add(reasons, g_strdup(found->pdata[i]));
    }
    return ok;
}

/* ---- at the switchover ---- */

bool msc_nft_validate(const MscSelector *s, GBytes *bytes,
                      MscProviderStats *stats, GError **errp)
{
    g_autoptr(MscNftPayload) payload = open_payload(s, bytes, errp);

    memset(stats, 0, sizeof(*stats));
    if (!payload) {
        return false;
    }
    stats->rules = msc_nft_count(payload);
    return true;
}

GBytes *msc_nft_prepare(const MscSelector *s, GBytes *bytes, GError **errp)
{
    g_autoptr(MscNftPayload) payload = open_payload(s, bytes, errp);
    g_autoptr(GPtrArray) reasons = reasons_new();
    g_autoptr(MscNft) nft = payload ? msc_nft_open(errp) : NULL;
    g_autoptr(MscNftPayload) existing =
        nft ? msc_nft_dump(nft, s->nft_tables, MSC_NFT_WHOLE, errp) : NULL;

    if (!existing) {
        return NULL;
    }
    msc_nft_admit_existing(payload, existing, s, false, reasons);
    return msc_nft_refused(reasons, errp) ? NULL
                                          : msc_nft_payload_encode(existing);
}

/* Elements whose time is over on the way are left behind; the end of an
 * interval goes with its beginning. */
static void shorten(MscNftSet *set, uint64_t ms)
{
    GPtrArray *old = set->elements;
    GPtrArray *left =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    bool gone = false;

    for (guint i = 0; i < old->len; i++) {
        GPtrArray *element = old->pdata[i];
        MscNftAttr *expires = msc_nft_find(element, NFTA_SET_ELEM_EXPIRATION);
        bool end = msc_nft_u32(element, NFTA_SET_ELEM_FLAGS) &
                   NFT_SET_ELEM_INTERVAL_END;
        uint64_t has = msc_nft_u64(element, NFTA_SET_ELEM_EXPIRATION);

        gone = (expires && has <= ms) || (end && gone);
        if (gone) {
            continue;
        }
        if (expires) {
            msc_nft_set_u64(expires, has - ms);
        }
        g_ptr_array_add(left, g_ptr_array_ref(element));
    }
    g_ptr_array_unref(old);
    set->elements = left;
}

void msc_nft_shorten(const MscNftPayload *payload, uint64_t ms)
{
    for (guint i = 0; i < payload->tables->len; i++) {
        const MscNftTable *t = payload->tables->pdata[i];

        for (guint k = 0; k < t->sets->len; k++) {
            shorten(t->sets->pdata[k], ms);
        }
    }
}

/* An older kernel ignores what it does not know. */
bool msc_nft_verify(const MscNftPayload *is, const MscNftPayload *payload,
                    GError **errp)
{
    for (guint i = 0; i < payload->tables->len; i++) {
        const MscNftTable *wanted = payload->tables->pdata[i];
        const MscNftTable *there =
            msc_nft_payload_find(is, wanted->family, wanted->name);
        const char *what = "everything";

        if (!there || !msc_nft_table_holds(there, wanted, &what)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                        "nftables: this kernel made something else of table "
                        "%s: its %s differ; is it older than the source's?",
                        wanted->name, what);
            return false;
        }
    }
    return true;
}

static bool read_back(MscNft *nft, const MscSelector *s,
                      const MscNftPayload *payload, GError **errp)
{
    g_autoptr(MscNftPayload) is =
        msc_nft_dump(nft, s->nft_tables, MSC_NFT_KNOWN, errp);

    return is && msc_nft_verify(is, payload, errp);
}

bool msc_nft_stage(const MscSelector *s, GBytes *bytes, uint64_t transit_us,
                   GError **errp)
{
    g_autoptr(MscNftPayload) payload = open_payload(s, bytes, errp);
    g_autoptr(MscNft) nft = payload ? msc_nft_open(errp) : NULL;
    g_autoptr(MscNftPayload) existing =
        nft ? msc_nft_dump(nft, s->nft_tables, MSC_NFT_HANDLES, errp) : NULL;
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();

    if (!existing) {
        return false;
    }
    msc_nft_shorten(payload, transit_us / 1000);
    delete_all(batch, existing);
    add_all(batch, payload, false);
    return msc_nft_commit(nft, batch, errp) && read_back(nft, s, payload, errp);
}

bool msc_nft_abort(const MscSelector *s, GBytes *bytes, GBytes *replaced,
                   GError **errp)
{
    g_autoptr(MscNftPayload) old = msc_nft_payload_decode(replaced, errp);
    g_autoptr(MscNft) nft = old ? msc_nft_open(errp) : NULL;
    g_autoptr(MscNftPayload) is =
        nft ? msc_nft_dump(nft, s->nft_tables, MSC_NFT_HANDLES, errp) : NULL;
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();

    (void)bytes;
    if (!is) {
        return false;
    }
    for (guint i = 0; i < is->tables->len; i++) {
        const MscNftTable *t = is->tables->pdata[i];
        const MscNftTable *was = msc_nft_payload_find(old, t->family, t->name);

        if (!was || was->handle != t->handle) {
            msc_nft_batch_delete(batch, t);
        }
    }
    for (guint i = 0; i < old->tables->len; i++) {
        const MscNftTable *t = old->tables->pdata[i];
        const MscNftTable *there = msc_nft_payload_find(is, t->family, t->name);

        /* The very table: stage did not come so far. */
        if (!there || there->handle != t->handle) {
            msc_nft_batch_add(batch, t, false);
        }
    }
    return msc_nft_commit(nft, batch, errp);
}

bool msc_nft_retire(const MscSelector *s, GBytes *bytes, GError **errp)
{
    g_autoptr(MscNftPayload) moved = NULL;
    g_autoptr(MscNftPayload) is = NULL;
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();
    g_autoptr(MscNft) nft = NULL;

    if (!g_bytes_get_size(bytes)) {
        return true;
    }
    moved = msc_nft_ahead_is(bytes) ? msc_nft_ahead_rest(bytes, errp)
                                    : msc_nft_payload_decode(bytes, errp);
    nft = moved ? msc_nft_open(errp) : NULL;
    is = nft ? msc_nft_dump(nft, s->nft_tables, MSC_NFT_HANDLES, errp) : NULL;
    if (!is) {
        return false;
    }
    for (guint i = 0; i < is->tables->len; i++) {
        const MscNftTable *t = is->tables->pdata[i];
        const MscNftTable *was =
            msc_nft_payload_find(moved, t->family, t->name);

        /* Not one that was made since, under the same name. */
        if (was && was->handle == t->handle) {
            msc_nft_batch_delete(batch, t);
        }
    }
    return msc_nft_commit(nft, batch, errp);
}
