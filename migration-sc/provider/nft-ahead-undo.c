/*
 * Sets ahead, undone: the tables go that we made, and no others of their
 * names.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "error.h"
#include "nft-ahead-stage.h"
#include "nft-ahead.h"
#include "nft-netlink.h"
#include "nft-stage.h"

#define WHAT "journal, nft tables that were made"
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX 64
#define VERSION 1

static char *boot_id(GError **errp)
{
    char *text = NULL;

    return g_file_get_contents(BOOT_ID, &text, NULL, errp) ? g_strchomp(text)
                                                           : NULL;
}

GBytes *msc_nft_ours_encode(const MscNftPayload *tables, GError **errp)
{
    g_autofree char *boot = boot_id(errp);
    g_autoptr(GBytes) payload = NULL;
    GByteArray *out;

    if (!boot) {
        return NULL;
    }
    payload = msc_nft_payload_encode(tables);
    out = g_byte_array_new();
    msc_put_u8(out, VERSION);
    msc_put_string(out, boot);
    msc_put_bytes(out, g_bytes_get_data(payload, NULL),
                  g_bytes_get_size(payload));
    return g_byte_array_free_to_bytes(out);
}

static MscNftPayload *ours_decode(GBytes *bytes, char **boot, GError **errp)
{
    g_autoptr(GBytes) payload = NULL;
    uint8_t version;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    if (!msc_reader_u8(&r, &version) || version != VERSION ||
        !msc_reader_string(&r, boot, BOOT_ID_MAX)) {
        msc_reader_error(&r, errp, WHAT, "bad beginning");
        return NULL;
    }
    payload = g_bytes_new(r.pos, msc_reader_left(&r));
    return msc_nft_payload_decode(payload, errp);
}

bool msc_nft_unstage(const MscSelector *s, GBytes *bytes, uint64_t since_us,
                     GError **errp)
{
    g_autoptr(MscNftAhead) a = msc_nft_ahead_decode(bytes, errp);
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();
    g_autoptr(MscNftPayload) is = NULL;
    g_autoptr(MscNft) nft = NULL;
    MscNftSet *marker;

    (void)since_us;
    if (!a || !(a->flags & MSC_NFT_BEGINS)) {
        return a;
    }
    nft = msc_nft_open(errp);
    is = nft ? msc_nft_dump(nft, s->nft_tables, MSC_NFT_SETS, errp) : NULL;
    if (!is) {
        return false;
    }
    marker = msc_nft_marker_new(a->nonce);
    for (guint i = 0; i < is->tables->len; i++) {
        const MscNftTable *t = is->tables->pdata[i];

        if (msc_nft_table_set(t, msc_nft_text(marker->attrs, NFTA_SET_NAME))) {
            msc_nft_batch_delete(batch, t);
        }
    }
    msc_nft_set_free(marker);
    return msc_nft_commit(nft, batch, errp);
}

bool msc_nft_restore(const MscSelector *s, GBytes *bytes, GError **errp)
{
    g_autofree char *now = NULL, *then = NULL;
    g_autoptr(MscNftPayload) ours = ours_decode(bytes, &then, errp);
    g_autoptr(MscNftBatch) batch = msc_nft_batch_new();
    g_autoptr(MscNftPayload) is = NULL;
    g_autoptr(MscNft) nft = NULL;

    if (!ours || !(now = boot_id(errp))) {
        return false;
    }
    /* They went with that kernel; its numbers mean nothing to this one. */
    if (strcmp(now, then)) {
        return true;
    }
    nft = msc_nft_open(errp);
    is = nft ? msc_nft_dump(nft, s->nft_tables, MSC_NFT_HANDLES, errp) : NULL;
    if (!is) {
        return false;
    }
    for (guint i = 0; i < is->tables->len; i++) {
        const MscNftTable *t = is->tables->pdata[i];
        const MscNftTable *our = msc_nft_payload_find(ours, t->family, t->name);

        if (our && our->handle == t->handle) {
            msc_nft_batch_delete(batch, t);
        }
    }
    return msc_nft_commit(nft, batch, errp);
}
