/*
 * Sets ahead, the source: all of them, then what changes; at the end the
 * rest of the tables.
 *
 * Whether anything changed is told by the kernel's count of transactions, and
 * whose change it was by its events.  Nothing else changes these sets, but that
 * time-outs run out, which they do on both hosts.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-ahead-source.h"

#include <linux/netfilter/nf_tables.h>
#include <sodium.h>
#include <string.h>

#include "error.h"
#include "nft-ahead-pieces.h"
#include "nft-collect.h"
#include "nft-interfaces.h"
#include "nft-netlink.h"
#include "nft-watch.h"

/* Reading takes at most one part in so many of the time. */
#define READING_SHARE 10
/* The answer: none of the tables is there. */
#define MAY 1

typedef struct {
    const MscSelector *selector;
    MscNft *nft;
    MscNftWatch *watch;
    /* What goes ahead, as it was read last; NULL before it begins. */
    MscNftPayload *sent;
    uint32_t generation;  /* of that */
    gint64 read_us;       /* when, monotonic */
    gint64 not_before_us; /* is it read again */
    MscNftPieces *pieces; /* of it, yet to be sent; NULL: none */
    uint8_t nonce[MSC_NFT_NONCE_LEN];
    uint8_t before[MSC_NFT_DIGEST_LEN];
} Source;

GBytes *msc_nft_ahead_answer(void)
{
    static const uint8_t may = MAY;

    return g_bytes_new_static(&may, sizeof(may));
}

gpointer msc_nft_source_begin(const MscSelector *selector, GError **errp)
{
    Source *s = g_new0(Source, 1);

    (void)errp;
    s->selector = selector;
    return s;
}

bool msc_nft_source_admitted(gpointer memory, GBytes *answer, GError **errp)
{
    g_autoptr(GBytes) may = msc_nft_ahead_answer();
    Source *s = memory;

    if (!g_bytes_equal(answer, may)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "nft's admission answer is malformed");
        return false;
    }
    s->nft = msc_nft_open(errp);
    s->watch = s->nft ? msc_nft_watch_new(s->selector->nft_tables, errp) : NULL;
    return s->watch;
}

static void forget(Source *s)
{
    g_clear_pointer(&s->sent, msc_nft_payload_free);
    g_clear_pointer(&s->pieces, msc_nft_pieces_free);
}

void msc_nft_source_end(gpointer memory)
{
    Source *s = memory;

    if (s) {
        forget(s);
        msc_nft_watch_free(s->watch);
        msc_nft_close(s->nft);
        g_free(s);
    }
}

static uint64_t since_ms(gint64 then_us)
{
    return (uint64_t)(g_get_monotonic_time() - then_us) / 1000;
}

/* Sets are still what they were when they were read: the transactions since
 * were of others.  *@same: is it so? */
static bool look(Source *s, bool *same, GError **errp)
{
    uint32_t now;

    if (!msc_nft_generation(s->nft, &now, errp)) {
        return false;
    }
    *same = msc_nft_watch_same(s->watch, s->generation, now);
    if (*same) {
        s->generation = now;
    }
    return true;
}

/* ---- while the guest runs ---- */

static void begin(Source *s, const MscNftPayload *is, size_t max)
{
    forget(s);
    randombytes_buf(s->nonce, sizeof(s->nonce));
    memset(s->before, 0, sizeof(s->before));
    s->sent = msc_nft_choose_ahead(is, max);
    s->pieces = msc_nft_pieces_new(msc_nft_payload_new(),
                                   msc_nft_choose_ahead(is, max), true);
}

static void go_on(Source *s, const MscNftPayload *is, uint64_t ms)
{
    MscNftPayload *gone = msc_nft_payload_new();
    MscNftPayload *comes = msc_nft_payload_new();

    msc_nft_compare_ahead(s->sent, is, ms, gone, comes);
    if (gone->tables->len || comes->tables->len) {
        s->pieces = msc_nft_pieces_new(gone, comes, false);
    } else {
        msc_nft_payload_free(gone);
        msc_nft_payload_free(comes);
    }
    msc_nft_renew_ahead(s->sent, is);
}

static bool read_again(Source *s, size_t max, bool *anew, GError **errp)
{
    gint64 start = g_get_monotonic_time(), took;
    MscNftSkip skip = { .watch = s->watch };
    g_autoptr(MscNftPayload) is =
        msc_nft_dump_but(s->nft, s->selector->nft_tables, MSC_NFT_WHOLE, &skip,
                         errp);

    if (is && s->sent && msc_nft_is_same_shape(s->sent, is)) {
        go_on(s, is, (uint64_t)(start - s->read_us) / 1000);
    } else if (is) {
        *anew = s->sent != NULL;
        begin(s, is, max);
    }
    if (is) {
        s->read_us = start;
        s->generation = skip.generation;
    }
    took = g_get_monotonic_time() - start;
    s->not_before_us = start + READING_SHARE * took;
    return is;
}

/* Tables that change all the time cannot be read now; perhaps they can be
 * later, and if not, at the stop that is an error. */
static bool try_again(Source *s, size_t max, bool *anew, GError **errp)
{
    g_autoptr(GError) err = NULL;

    if (g_get_monotonic_time() < s->not_before_us ||
        read_again(s, max, anew, &err)) {
        return true;
    }
    if (!g_error_matches(err, MSC_ERROR, MSC_ERROR_KERNEL)) {
        g_propagate_error(errp, g_steal_pointer(&err));
        return false;
    }
    g_message("%s; nothing more goes ahead for now", err->message);
    return true;
}

static GBytes *encode(Source *s, MscNftAhead *a)
{
    GBytes *bytes;

    memcpy(a->nonce, s->nonce, sizeof(a->nonce));
    memcpy(a->before, s->before, sizeof(a->before));
    bytes = msc_nft_ahead_encode(a);
    msc_nft_ahead_digest(bytes, s->before);
    return bytes;
}

GBytes *msc_nft_source_next(gpointer memory, size_t max,
                            MscPrecopyProgress *progress, GError **errp)
{
    g_autoptr(MscNftAhead) piece = NULL;
    Source *s = memory;
    bool same = false;

    memset(progress, 0, sizeof(*progress));
    if (!s->pieces) {
        if (s->sent && !look(s, &same, errp)) {
            return NULL;
        }
        if (!same && !try_again(s, max, &progress->anew, errp)) {
            return NULL;
        }
    }
    if (!s->pieces) {
        progress->live = true;
        return g_bytes_new(NULL, 0);
    }
    msc_nft_watch_read(s->watch);
    piece = msc_nft_pieces_next(s->pieces, max);
    piece->age_ms = (uint32_t)since_ms(s->read_us);
    if (piece->flags & MSC_NFT_COMPLETE) {
        progress->live = true;
        g_clear_pointer(&s->pieces, msc_nft_pieces_free);
    }
    return encode(s, piece);
}

/* ---- the guest is stopped ---- */

/* Sets that went ahead have in @is what is new of them. */
static void leave_news(const MscNftPayload *sent, MscNftPayload *is,
                       const MscNftPayload *comes)
{
    for (guint i = 0; i < sent->tables->len; i++) {
        const MscNftTable *t = sent->tables->pdata[i];
        const MscNftTable *now = msc_nft_payload_find(is, t->family, t->name);
        const MscNftTable *news =
            msc_nft_payload_find(comes, t->family, t->name);

        for (guint k = 0; k < t->sets->len; k++) {
            const MscNftSet *was = t->sets->pdata[k];
            const char *name = msc_nft_text(was->attrs, NFTA_SET_NAME);
            MscNftSet *set = msc_nft_table_set(now, name);
            const MscNftSet *new = news ? msc_nft_table_set(news, name) : NULL;

            g_ptr_array_unref(set->elements);
            set->elements =
                new ? g_ptr_array_ref(new->elements) : g_ptr_array_new();
        }
    }
}

GBytes *msc_nft_source_final(gpointer memory, MscProviderStats *stats,
                             bool *lost, GError **errp)
{
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(MscNftAhead) last = msc_nft_ahead_new();
    g_autoptr(MscNftPayload) comes = msc_nft_payload_new();
    Source *s = memory;
    MscNftSkip skip = { .watch = s->watch, .sets = s->sent };
    bool same;

    memset(stats, 0, sizeof(*stats));
    *lost = !s->sent || s->pieces;
    if (!*lost) {
        if (!look(s, &same, errp)) {
            return NULL;
        }
        skip.as_of = s->generation;
        msc_nft_payload_free(last->comes);
        last->comes = msc_nft_dump_but(s->nft, s->selector->nft_tables,
                                       MSC_NFT_WHOLE, &skip, errp);
        if (!last->comes) {
            return NULL;
        }
        *lost = !msc_nft_is_same_shape(s->sent, last->comes);
    }
    if (*lost) {
        return g_bytes_new(NULL, 0);
    }
    stats->rules = msc_nft_count(last->comes);
    if (skip.skipped) {
        stats->rules += msc_nft_count(s->sent);
    } else {
        msc_nft_compare_ahead(s->sent, last->comes, since_ms(s->read_us),
                              last->gone, comes);
        leave_news(s->sent, last->comes, comes);
    }
    msc_nft_to_roles(last->comes, s->selector, reasons);
    if (msc_nft_refused(reasons, errp)) {
        return NULL;
    }
    last->flags = MSC_NFT_ENDS;
    return encode(s, last);
}
