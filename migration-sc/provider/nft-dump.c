/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-netlink.h"

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "error.h"
#include "nft-names.h"
#include "nft-watch.h"

/* Somebody may change the ruleset while it is read. */
#define TRIES 20
#define RETRY_US 1000

static const struct nlattr *find(const void *attrs, size_t len, uint16_t type)
{
    const struct nlattr *nla = attrs;

    while (mnl_attr_ok(nla, (int)len)) {
        if (mnl_attr_get_type(nla) == type) {
            return nla;
        }
        len -= MNL_ALIGN(nla->nla_len);
        nla = mnl_attr_next(nla);
    }
    return NULL;
}

typedef struct {
    const GPtrArray *wanted;
    MscNftPayload *payload;
    MscNftExtent extent;
    MscNftTable *table; /* that is being read */
    MscNftSet *set;
    uint32_t generation;
    const MscNftSkip *skip;
    bool skips; /* in this try */
    /* Knows whose a change is that comes while it is read, or NULL: then any
     * is one. */
    MscNftWatch *watch;
} Reading;

static bool is_lenient(const Reading *r)
{
    return r->extent != MSC_NFT_WHOLE;
}

static bool take_generation(const struct nfgenmsg *nfg, const void *attrs,
                            size_t len, void *opaque, GError **errp)
{
    const struct nlattr *id = find(attrs, len, NFTA_GEN_ID);
    Reading *r = opaque;

    (void)nfg;
    (void)errp;
    if (id) {
        r->generation = mnl_attr_get_u32(id);
    }
    return true;
}

static bool take_table(const struct nfgenmsg *nfg, const void *attrs,
                       size_t len, void *opaque, GError **errp)
{
    const struct nlattr *name = find(attrs, len, NFTA_TABLE_NAME);
    const struct nlattr *handle = find(attrs, len, NFTA_TABLE_HANDLE);
    Reading *r = opaque;
    MscNftTable *t;

    for (guint i = 0; name && i < r->wanted->len; i++) {
        const MscNftTableName *want = r->wanted->pdata[i];

        if (want->family != nfg->nfgen_family ||
            strcmp(want->name, mnl_attr_get_str(name))) {
            continue;
        }
        t = msc_nft_table_new(want->family, want->name);
        g_ptr_array_add(r->payload->tables, t);
        if (r->extent == MSC_NFT_WHOLE && find(attrs, len, NFTA_TABLE_OWNER)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                        "table %s %s belongs to a process (flags owner) and "
                        "would go with it: it cannot be moved",
                        msc_nft_family_name(t->family), t->name);
            return false;
        }
        t->handle = handle ? GUINT64_FROM_BE(mnl_attr_get_u64(handle)) : 0;
        g_ptr_array_unref(t->attrs);
        t->attrs = msc_nft_attrs_parse(attrs, len, &msc_nft_table_schema,
                                       is_lenient(r), errp);
        if (!t->attrs) {
            t->attrs = msc_nft_attrs_new();
            return false;
        }
    }
    return true;
}

static bool is_ours(const Reading *r, const void *attrs, size_t len,
                    uint16_t type)
{
    const struct nlattr *name = find(attrs, len, type);

    return name && !strcmp(mnl_attr_get_str(name), r->table->name);
}

static bool take_object(Reading *r, const void *attrs, size_t len,
                        uint16_t table_attr, const MscNftSchema *schema,
                        GPtrArray *out, GError **errp)
{
    GPtrArray *object;

    if (!is_ours(r, attrs, len, table_attr)) {
        return true;
    }
    object = msc_nft_attrs_parse(attrs, len, schema, is_lenient(r), errp);
    if (object) {
        g_ptr_array_add(out, object);
    }
    return object != NULL;
}

static bool take_chain(const struct nfgenmsg *nfg, const void *attrs,
                       size_t len, void *opaque, GError **errp)
{
    Reading *r = opaque;

    (void)nfg;
    return take_object(r, attrs, len, NFTA_CHAIN_TABLE, &msc_nft_chain_schema,
                       r->table->chains, errp);
}

static bool take_stateful(const struct nfgenmsg *nfg, const void *attrs,
                          size_t len, void *opaque, GError **errp)
{
    Reading *r = opaque;

    (void)nfg;
    return take_object(r, attrs, len, NFTA_OBJ_TABLE, &msc_nft_object_schema,
                       r->table->objects, errp);
}

static bool take_rule(const struct nfgenmsg *nfg, const void *attrs, size_t len,
                      void *opaque, GError **errp)
{
    Reading *r = opaque;

    (void)nfg;
    return take_object(r, attrs, len, NFTA_RULE_TABLE, &msc_nft_rule_schema,
                       r->table->rules, errp);
}

static bool take_set(const struct nfgenmsg *nfg, const void *attrs, size_t len,
                     void *opaque, GError **errp)
{
    Reading *r = opaque;
    GPtrArray *set;

    (void)nfg;
    if (!is_ours(r, attrs, len, NFTA_SET_TABLE)) {
        return true;
    }
    set = msc_nft_attrs_parse(attrs, len, &msc_nft_set_schema, is_lenient(r),
                              errp);
    if (set) {
        g_ptr_array_add(r->table->sets, msc_nft_set_new(set));
    }
    return set != NULL;
}

static bool take_elements(const struct nfgenmsg *nfg, const void *attrs,
                          size_t len, void *opaque, GError **errp)
{
    const struct nlattr *list = find(attrs, len, NFTA_SET_ELEM_LIST_ELEMENTS);
    g_autoptr(GPtrArray) elements = NULL;
    Reading *r = opaque;

    (void)nfg;
    if (r->watch) {
        msc_nft_watch_read(r->watch); /* a long set takes long */
    }
    if (!list) {
        return true;
    }
    elements =
        msc_nft_attrs_parse(mnl_attr_get_payload(list),
                            mnl_attr_get_payload_len(list),
                            &msc_nft_elements_schema, is_lenient(r), errp);
    if (!elements) {
        return false;
    }
    for (guint i = 0; i < elements->len; i++) {
        MscNftAttr *element = elements->pdata[i];

        g_ptr_array_add(r->set->elements, g_steal_pointer(&element->nest));
    }
    return true;
}

static bool take_flowtable(const struct nfgenmsg *nfg, const void *attrs,
                           size_t len, void *opaque, GError **errp)
{
    const struct nlattr *name = find(attrs, len, NFTA_FLOWTABLE_NAME);
    Reading *r = opaque;

    (void)nfg;
    if (!is_ours(r, attrs, len, NFTA_FLOWTABLE_TABLE)) {
        return true;
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                "flowtable '%s' cannot be moved: the flows in it live in the "
                "host's devices; offload them in a table of the host's own",
                name ? mnl_attr_get_str(name) : "?");
    return false;
}

/* Are the elements of the set that is being read known? */
static bool is_skipped(const Reading *r)
{
    const MscNftTable *t;

    if (r->extent == MSC_NFT_SETS) {
        return true;
    }
    if (!r->skips) {
        return false;
    }
    t = msc_nft_payload_find(r->skip->sets, r->table->family, r->table->name);
    return t &&
           msc_nft_table_set(t, msc_nft_text(r->set->attrs, NFTA_SET_NAME));
}

static bool read_elements(MscNft *n, Reading *r, GError **errp)
{
    g_autoptr(GByteArray) attrs = g_byte_array_new();
    const MscNftTable *t = r->table;
    g_autoptr(GError) err = NULL;

    msc_nft_put_text(attrs, NFTA_SET_ELEM_LIST_TABLE, t->name);
    msc_nft_put_text(attrs, NFTA_SET_ELEM_LIST_SET,
                     msc_nft_text(r->set->attrs, NFTA_SET_NAME));
    /* If the kernel only says that there was a transaction meanwhile, all of
     * the set was read none the less. */
    if (!msc_nft_ask(n, NFT_MSG_GETSETELEM, NLM_F_DUMP, t->family, attrs,
                     take_elements, r, &err) &&
        (err || !r->watch)) {
        if (err) {
            g_propagate_error(errp, g_steal_pointer(&err));
        }
        return false;
    }
    msc_nft_set_sort(r->set);
    /*
     * While the kernel makes a set's hash table larger, the parts of one
     * dump follow different orders (nft_set_hash.c, nft_rhash_walk): some
     * elements come twice, as many others not at all, and the generation
     * stays what it was.
     */
    return !msc_nft_set_has_doubles(r->set);
}

/* The kernel counts what it has told of a list, also of what is others': if
 * there was a transaction meanwhile, that list is read again. */
static bool read_list(MscNft *n, Reading *r, uint16_t type, uint8_t family,
                      const GByteArray *attrs, MscNftTake *take,
                      GPtrArray *into, GError **errp)
{
    for (int i = 0; i < TRIES; i++) {
        g_autoptr(GError) err = NULL;

        if (into) {
            g_ptr_array_set_size(into, 0);
        }
        if (msc_nft_ask(n, type, NLM_F_DUMP, family, attrs, take, r, &err)) {
            return true;
        }
        if (err) {
            g_propagate_error(errp, g_steal_pointer(&err));
            return false;
        }
        if (!r->watch) {
            return false;
        }
    }
    return false;
}

static bool read_table(MscNft *n, Reading *r, GError **errp)
{
    MscNftTable *t = r->table;
    const struct {
        uint16_t type, attr;
        MscNftTake *take;
        GPtrArray *into;
    } kinds[] = {
        { NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE, take_chain, t->chains },
        { NFT_MSG_GETOBJ, NFTA_OBJ_TABLE, take_stateful, t->objects },
        { NFT_MSG_GETSET, NFTA_SET_TABLE, take_set, t->sets },
        { NFT_MSG_GETRULE, NFTA_RULE_TABLE, take_rule, t->rules },
        { NFT_MSG_GETFLOWTABLE, NFTA_FLOWTABLE_TABLE, take_flowtable, NULL },
    };

    if (r->extent != MSC_NFT_SETS && (msc_nft_u32(t->attrs, NFTA_TABLE_FLAGS) &
                                      (uint32_t)~NFT_TABLE_F_DORMANT)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                            "it belongs to a process (flags owner) and would "
                            "go with it");
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GByteArray) attrs = g_byte_array_new();

        if (r->extent == MSC_NFT_SETS && kinds[i].type != NFT_MSG_GETSET) {
            continue;
        }
        msc_nft_put_text(attrs, kinds[i].attr, t->name);
        if (!read_list(n, r, kinds[i].type, t->family, attrs, kinds[i].take,
                       kinds[i].into, errp)) {
            return false;
        }
    }
    for (guint i = 0; i < t->sets->len; i++) {
        r->set = t->sets->pdata[i];
        if (!is_skipped(r) && !read_elements(n, r, errp)) {
            return false;
        }
    }
    return true;
}

static bool generation(MscNft *n, Reading *r, GError **errp)
{
    return msc_nft_ask(n, NFT_MSG_GETGEN, 0, 0, NULL, take_generation, r, errp);
}

static bool try_dump(MscNft *n, Reading *r, GError **errp)
{
    bool unchanged = !r->watch || msc_nft_watch_reset(r->watch);
    uint32_t before;

    if (!generation(n, r, errp)) {
        return false;
    }
    before = r->generation;
    r->skips = r->skip->sets &&
               (!r->skip->as_of || (r->skip->as_of == before && unchanged));
    if (!read_list(n, r, NFT_MSG_GETTABLE, NFPROTO_UNSPEC, NULL, take_table,
                   r->payload->tables, errp)) {
        return false;
    }
    for (guint i = 0;
         i < r->payload->tables->len && r->extent != MSC_NFT_HANDLES; i++) {
        r->table = r->payload->tables->pdata[i];
        if (!read_table(n, r, errp)) {
            g_autofree char *text =
                msc_nft_table_text(r->table->family, r->table->name);

            g_prefix_error(errp, "%s: ", text);
            return false;
        }
    }
    /* Where others' tables change all the time, these need not have. */
    return generation(n, r, errp) &&
           (r->watch ? msc_nft_watch_same(r->watch, before, r->generation)
                     : r->generation == before);
}

bool msc_nft_generation(MscNft *n, uint32_t *number, GError **errp)
{
    Reading r = { 0 };

    /* One answer, so nothing can change in between. */
    if (!generation(n, &r, errp)) {
        return false;
    }
    *number = r.generation;
    return true;
}

MscNftPayload *msc_nft_dump(MscNft *n, const GPtrArray *tables,
                            MscNftExtent extent, GError **errp)
{
    MscNftSkip none = { 0 };

    return msc_nft_dump_but(n, tables, extent, &none, errp);
}

MscNftPayload *msc_nft_dump_but(MscNft *n, const GPtrArray *tables,
                                MscNftExtent extent, MscNftSkip *skip,
                                GError **errp)
{
    /* One's own costs milliseconds after a transaction; for what takes no
     * time to read, it is read again if need be. */
    bool quick = extent == MSC_NFT_HANDLES || extent == MSC_NFT_SETS ||
                 skip->sets || skip->watch;
    g_autoptr(MscNftWatch) own = quick ? NULL : msc_nft_watch_new(tables, NULL);

    for (int i = 0; i < TRIES; i++) {
        g_autoptr(MscNftPayload) payload = msc_nft_payload_new();
        g_autoptr(GError) err = NULL;
        Reading r = {
            .wanted = tables,
            .payload = payload,
            .extent = extent,
            .skip = skip,
            .watch = own ? own : skip->watch,
        };

        g_usleep(i > 0 ? RETRY_US : 0);
        payload->local = true;
        if (try_dump(n, &r, &err)) {
            skip->generation = r.generation;
            skip->skipped = r.skips;
            return g_steal_pointer(&payload);
        }
        /* A table that went while it was read is one more change. */
        if (err && !g_error_matches(err, MSC_ERROR, MSC_ERROR_KERNEL)) {
            g_propagate_error(errp, g_steal_pointer(&err));
            return NULL;
        }
        if (err && i == TRIES - 1) {
            g_propagate_error(errp, g_steal_pointer(&err));
            return NULL;
        }
    }
    g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                        "nftables: the ruleset changes all the time");
    return NULL;
}
