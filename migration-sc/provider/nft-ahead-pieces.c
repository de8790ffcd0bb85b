/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-ahead-pieces.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

/* Of a batch without tables, of a table but for its name and attributes, and
 * of a set but for its attributes, bytes. */
#define BATCH_BYTES 80
#define TABLE_BYTES 32
#define SET_BYTES 8
/* An end that stays with its beginning. */
#define MARGIN 1024

struct MscNftPieces {
    MscNftPayload *gone, *comes;
    bool begins;
    /* The next element. */
    bool coming; /* of comes, not of gone */
    guint table, set, element;
    GByteArray *scratch;
};

MscNftPieces *msc_nft_pieces_new(MscNftPayload *gone, MscNftPayload *comes,
                                 bool begins)
{
    MscNftPieces *p = g_new0(MscNftPieces, 1);

    p->gone = gone;
    p->comes = comes;
    p->begins = begins;
    p->scratch = g_byte_array_new();
    return p;
}

void msc_nft_pieces_free(MscNftPieces *p)
{
    if (p) {
        msc_nft_payload_free(p->gone);
        msc_nft_payload_free(p->comes);
        g_byte_array_unref(p->scratch);
        g_free(p);
    }
}

static size_t size_of(MscNftPieces *p, const GPtrArray *attrs)
{
    g_byte_array_set_size(p->scratch, 0);
    msc_nft_attrs_write(attrs, p->scratch);
    return p->scratch->len + sizeof(uint32_t);
}

/* What @set, of @t, takes more in @to. */
static size_t size_of_place(MscNftPieces *p, const MscNftPayload *to,
                            const MscNftTable *t, const MscNftSet *set)
{
    const MscNftTable *into = msc_nft_payload_find(to, t->family, t->name);
    const char *name = msc_nft_text(set->attrs, NFTA_SET_NAME);
    size_t size = 0;

    if (!into) {
        size += TABLE_BYTES + strlen(t->name) + size_of(p, t->attrs);
    }
    if (!into || !msc_nft_table_set(into, name)) {
        size += SET_BYTES + size_of(p, set->attrs);
    }
    return size;
}

static MscNftTable *table_in(MscNftPayload *to, const MscNftTable *like)
{
    MscNftTable *t = msc_nft_payload_find(to, like->family, like->name);

    if (!t) {
        t = msc_nft_table_new(like->family, like->name);
        t->handle = like->handle;
        g_ptr_array_unref(t->attrs);
        t->attrs = g_ptr_array_ref(like->attrs);
        g_ptr_array_add(to->tables, t);
    }
    return t;
}

static MscNftSet *set_in(MscNftPayload *to, const MscNftTable *t,
                         const MscNftSet *like)
{
    MscNftTable *into = table_in(to, t);
    MscNftSet *set =
        msc_nft_table_set(into, msc_nft_text(like->attrs, NFTA_SET_NAME));

    if (!set) {
        set = msc_nft_set_new(g_ptr_array_ref(like->attrs));
        g_ptr_array_add(into->sets, set);
    }
    return set;
}

static size_t put_places(MscNftPieces *p, MscNftPayload *to)
{
    size_t size = 0;

    for (guint i = 0; i < p->comes->tables->len; i++) {
        const MscNftTable *t = p->comes->tables->pdata[i];

        size += TABLE_BYTES + strlen(t->name) + size_of(p, t->attrs);
        table_in(to, t);
        for (guint k = 0; k < t->sets->len; k++) {
            size += size_of_place(p, to, t, t->sets->pdata[k]);
            set_in(to, t, t->sets->pdata[k]);
        }
    }
    return size;
}

static bool is_end(const GPtrArray *element)
{
    return msc_nft_u32(element, NFTA_SET_ELEM_FLAGS) &
           NFT_SET_ELEM_INTERVAL_END;
}

/* As many elements of the set at hand as there is room for; false: there are
 * more.  An interval stays in one piece. */
static bool put_elements(MscNftPieces *p, const MscNftSet *set, MscNftSet *into,
                         size_t *size, size_t max)
{
    for (bool first = true; p->element < set->elements->len; first = false) {
        GPtrArray *element = set->elements->pdata[p->element];

        *size += size_of(p, element);
        if (*size > max && !first && !is_end(element)) {
            return false;
        }
        g_ptr_array_add(into->elements, g_ptr_array_ref(element));
        p->element++;
    }
    return true;
}

/* The set at hand, or NULL: there are no more. */
static const MscNftSet *at_hand(MscNftPieces *p, const MscNftTable **table)
{
    for (;;) {
        const MscNftPayload *from = p->coming ? p->comes : p->gone;

        if (p->table == from->tables->len) {
            if (p->coming) {
                return NULL;
            }
            p->coming = true;
            p->table = 0;
            continue;
        }
        *table = from->tables->pdata[p->table];
        if (p->set < (*table)->sets->len) {
            return (*table)->sets->pdata[p->set];
        }
        p->table++;
        p->set = 0;
    }
}

MscNftAhead *msc_nft_pieces_next(MscNftPieces *p, size_t max)
{
    MscNftAhead *a = msc_nft_ahead_new();
    size_t size = BATCH_BYTES, room = max - MARGIN;
    const MscNftTable *t;
    const MscNftSet *set;
    bool any = false;

    if (p->begins) {
        p->begins = false;
        a->flags |= MSC_NFT_BEGINS;
        size += put_places(p, a->comes);
    }
    while ((set = at_hand(p, &t))) {
        MscNftPayload *to = p->coming ? a->comes : a->gone;
        size_t need = size_of_place(p, to, t, set);

        if (p->element < set->elements->len) {
            need += size_of(p, set->elements->pdata[p->element]);
        }
        /* Not a set without elements because there is no room for any. */
        if (size + need > room && any) {
            return a;
        }
        size += size_of_place(p, to, t, set);
        any = true;
        if (!put_elements(p, set, set_in(to, t, set), &size, room)) {
            return a;
        }
        p->element = 0;
        p->set++;
    }
    a->flags |= MSC_NFT_COMPLETE;
    return a;
}
