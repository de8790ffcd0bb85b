/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-known.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <sodium.h>

/* Less of its time is left on the other host: it may be over before anything
 * is done about it, as no two clocks run alike. */
#define LEFT_MIN_S 60
/* By how much a time-out may differ: as much as pre-copy lets it. */
#define SHORT_S 600
#define SHORT_DIFFERS_S 10
/* Two clocks drift apart by less than this part of the time that passes. */
#define DRIFT 1000

/* What decides about a flow's packets, and not what comes and goes with them
 * or is the kernel's own. */
#define STATUS (IPS_SEEN_REPLY | IPS_ASSURED | IPS_FIXED_TIMEOUT | IPS_HELPER)
#define TCP_FLAGS                                             \
    (IP_CT_TCP_FLAG_WINDOW_SCALE | IP_CT_TCP_FLAG_SACK_PERM | \
     IP_CT_TCP_FLAG_CLOSE_INIT)

typedef enum {
    FREE, /* no entry */
    HELD, /* the other host has it */
    DONE, /* and it was seen here, or the other host told what is new of it */
    GONE, /* withdrawn; a place that a search passes over */
} State;

typedef struct {
    guint64 key;
    guint64 print;
    guint32 over_s; /* when its time is, in seconds of the table's life */
    guint32 state;
} Slot;

struct MscKnown {
    Slot *slots;
    gsize size; /* a power of two */
    gsize used; /* not FREE */
    gint64 began_us;
    uint8_t secret[crypto_shorthash_KEYBYTES];
    GPtrArray *one; /* for fingerprints: of one flow */
    GByteArray *text;
};

MscKnown *msc_known_new(void)
{
    MscKnown *known = g_new0(MscKnown, 1);

    known->size = 1024;
    known->slots = g_new0(Slot, known->size);
    known->began_us = g_get_monotonic_time();
    randombytes_buf(known->secret, sizeof(known->secret));
    known->one = msc_flows_new();
    known->text = g_byte_array_new();
    return known;
}

void msc_known_free(MscKnown *known)
{
    if (known) {
        g_free(known->slots);
        g_ptr_array_unref(known->one);
        g_byte_array_unref(known->text);
        g_free(known);
    }
}

static guint64 keyed_hash(const MscKnown *known, const void *data, gsize len)
{
    guint64 hash;

    G_STATIC_ASSERT(sizeof(hash) == crypto_shorthash_BYTES);
    crypto_shorthash((uint8_t *)&hash, data, len, known->secret);
    return hash;
}

static guint64 hash_of(const MscKnown *known, GBytes *key)
{
    gsize len;
    const void *data = g_bytes_get_data(key, &len);

    return keyed_hash(known, data, len);
}

/* All of it but the time-out. */
static guint64 fingerprint(MscKnown *known, const MscFlow *flow)
{
    static const enum nf_conntrack_attr flags[] = { ATTR_TCP_FLAGS_ORIG,
                                                    ATTR_TCP_FLAGS_REPL };
    MscFlow *copy = nfct_clone(flow);

    nfct_set_attr_u32(copy, ATTR_TIMEOUT, 0);
    nfct_set_attr_u32(copy, ATTR_STATUS,
                      nfct_get_attr_u32(copy, ATTR_STATUS) & STATUS);
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (nfct_attr_is_set(copy, flags[i]) > 0) {
            nfct_set_attr_u8(copy, flags[i],
                             nfct_get_attr_u8(copy, flags[i]) & TCP_FLAGS);
        }
    }
    g_ptr_array_set_size(known->one, 0);
    g_ptr_array_add(known->one, copy);
    g_byte_array_set_size(known->text, 0);
    msc_flows_encode(known->one, known->text);
    return keyed_hash(known, known->text->data, known->text->len);
}

/* Where @key is, or the free place that it would take. */
static Slot *find(const MscKnown *known, guint64 key)
{
    gsize at = key & (known->size - 1);

    while (known->slots[at].state != FREE && known->slots[at].key != key) {
        at = (at + 1) & (known->size - 1);
    }
    return &known->slots[at];
}

static void grow(MscKnown *known)
{
    gsize before = known->size;
    Slot *old = known->slots;

    known->size *= 2;
    known->slots = g_new0(Slot, known->size);
    known->used = 0;
    for (gsize i = 0; i < before; i++) {
        if (old[i].state == HELD || old[i].state == DONE) {
            *find(known, old[i].key) = old[i];
            known->used++;
        }
    }
    g_free(old);
}

static gint64 age_s(const MscKnown *known)
{
    return (g_get_monotonic_time() - known->began_us) / G_USEC_PER_SEC;
}

static void hold(MscKnown *known, const MscFlow *flow, uint64_t age_us)
{
    g_autoptr(GBytes) key = msc_flow_key(flow);
    gint64 age = (gint64)MIN(age_us / G_USEC_PER_SEC, (uint64_t)G_MAXINT32);
    gint64 over = age_s(known) + nfct_get_attr_u32(flow, ATTR_TIMEOUT) - age -
                  age / DRIFT;
    guint64 hash = hash_of(known, key);
    Slot *slot;

    if (known->used >= known->size / 4 * 3) {
        grow(known);
    }
    slot = find(known, hash);
    known->used += slot->state == FREE;
    slot->key = hash;
    slot->print = fingerprint(known, flow);
    slot->over_s = (guint32)CLAMP(over, 0, (gint64)G_MAXUINT32);
    slot->state = HELD;
}

void msc_known_add(MscKnown *known, const MscBatch *batch, uint64_t age_us)
{
    for (guint i = 0; i < batch->gone->len; i++) {
        g_autoptr(GBytes) key = msc_flow_key(batch->gone->pdata[i]);
        Slot *slot = find(known, hash_of(known, key));

        if (slot->state != FREE) {
            slot->state = GONE;
        }
    }
    for (guint i = 0; i < batch->payload->flows->len; i++) {
        hold(known, batch->payload->flows->pdata[i], age_us);
    }
}

int msc_known_read(const MscBase *base, MscBatch **batch, uint64_t *age_us,
                   GError **errp)
{
    g_autoptr(GBytes) bytes = NULL;
    int got = base->next(base->opaque, &bytes, age_us, errp);

    if (got != 1) {
        return got;
    }
    *batch = msc_batch_decode(bytes, errp);
    return *batch ? 1 : -1;
}

/* Will the time-out that the other host counts down do for @flow? */
static bool time_will_do(const MscKnown *known, const Slot *slot,
                         const MscFlow *flow)
{
    gint64 here = nfct_get_attr_u32(flow, ATTR_TIMEOUT);
    gint64 there = (gint64)slot->over_s - age_s(known);

    return there >= LEFT_MIN_S &&
           ABS(here - there) <= (here < SHORT_S ? SHORT_DIFFERS_S : here / 4);
}

MscKnownAs msc_known_look(MscKnown *known, const MscFlow *flow)
{
    g_autoptr(GBytes) key = msc_flow_key(flow);
    Slot *slot = find(known, hash_of(known, key));

    if (slot->state == FREE || slot->state == GONE) {
        return MSC_KNOWN_NOT;
    }
    if (!time_will_do(known, slot, flow) ||
        slot->print != fingerprint(known, flow)) {
        return MSC_KNOWN_OTHER;
    }
    slot->state = DONE;
    return MSC_KNOWN_SAME;
}

bool msc_known_is_left(const MscKnown *known, GBytes *key)
{
    return find(known, hash_of(known, key))->state == HELD;
}

void msc_known_settle(MscKnown *known, GBytes *key)
{
    Slot *slot = find(known, hash_of(known, key));

    if (slot->state == HELD) {
        slot->state = DONE;
    }
}
