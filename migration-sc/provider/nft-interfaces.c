/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "nft-interfaces.h"

#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <string.h>

#include "nft-names.h"
#include "nft-registers.h"

typedef struct {
    MscNftPayload *payload;
    const MscSelector *selector;
    bool to_roles;
    GPtrArray *reasons;
    const MscNftTable *table;
    const char *kind, *name; /* of what, in it; or */
    const GPtrArray *rule;
} Mapping;

static char *where(const Mapping *m)
{
    g_autofree char *table =
        msc_nft_table_text(m->table->family, m->table->name);

    return m->rule ? g_strdup_printf("%s, chain %s, rule %u", table,
                                     msc_nft_text(m->rule, NFTA_RULE_CHAIN),
                                     msc_nft_rule_number(m->table, m->rule))
                   : g_strdup_printf("%s, %s %s", table, m->kind, m->name);
}

static void G_GNUC_PRINTF(2, 3) refuse(Mapping *m, const char *format, ...)
{
    g_autofree char *place = NULL;
    g_autofree char *why = NULL;
    char *text;
    va_list args;

    if (m->reasons->len >= MSC_NFT_REASONS_MAX) {
        return;
    }
    place = where(m);
    va_start(args, format);
    why = g_strdup_vprintf(format, args);
    va_end(args);
    text = g_strdup_printf("%s: %s", place, why);
    if (g_ptr_array_find_with_equal_func(m->reasons, text, g_str_equal, NULL)) {
        g_free(text);
    } else {
        g_ptr_array_add(m->reasons, text);
    }
}

/* ---- one name, one number ---- */

static const char *counterpart(const Mapping *m, const char *name)
{
    for (guint i = 0; i < m->selector->interfaces->len; i++) {
        const MscInterface *one = m->selector->interfaces->pdata[i];

        if (!strcmp(m->to_roles ? one->device : one->role, name)) {
            return m->to_roles ? one->role : one->device;
        }
    }
    return NULL;
}

static const char *map_name(Mapping *m, const char *name)
{
    const char *other = counterpart(m, name);

    if (!other && m->to_roles) {
        refuse(m,
               "interface '%s' has no role: 'migration-sc vm add "
               "--interface ROLE=%s', and that role on the other host",
               name, name);
    } else if (!other) {
        refuse(m,
               "the interface with the role '%s' is not registered on "
               "this host: 'migration-sc vm add --interface %s=DEVICE'",
               name, name);
    }
    return other;
}

/* 16 bytes, the rest of them zero. */
static void map_name_bytes(Mapping *m, uint8_t bytes[IFNAMSIZ])
{
    char name[IFNAMSIZ + 1] = { 0 };
    const char *other;

    memcpy(name, bytes, IFNAMSIZ);
    if (!msc_device_is_safe(name, strlen(name))) {
        refuse(m, "a name of an interface that none can have");
        return;
    }
    other = map_name(m, name);
    if (other) {
        memset(bytes, 0, IFNAMSIZ);
        g_strlcpy((char *)bytes, other, IFNAMSIZ);
    }
}

static void index_to_role(Mapping *m, uint32_t *index)
{
    char name[IF_NAMESIZE];
    const char *role;
    guint at;

    if (!if_indextoname(*index, name)) {
        refuse(m, "interface number %u is no more", *index);
        return;
    }
    role = map_name(m, name);
    if (role && g_ptr_array_find_with_equal_func(m->payload->roles, role,
                                                 g_str_equal, &at)) {
        *index = at + 1;
    }
}

static void index_to_device(Mapping *m, uint32_t *index)
{
    const char *device;
    unsigned there;

    if (!*index || *index > m->payload->roles->len) {
        refuse(m, "an interface by a number that stands for none");
        return;
    }
    device = map_name(m, m->payload->roles->pdata[*index - 1]);
    there = device ? if_nametoindex(device) : 0;
    if (device && !there) {
        refuse(m, "interface '%s' does not exist on this host", device);
    }
    *index = there;
}

static void map_index_bytes(Mapping *m, uint8_t bytes[4])
{
    uint32_t index;

    memcpy(&index, bytes, sizeof(index));
    if (m->to_roles) {
        index_to_role(m, &index);
    } else {
        index_to_device(m, &index);
    }
    memcpy(bytes, &index, sizeof(index));
}

/* ---- chains ---- */

static void map_device(Mapping *m, MscNftAttr *device)
{
    const char *other = device ? map_name(m, (const char *)device->data) : NULL;

    if (other) {
        msc_nft_set_text(device, other);
    }
}

static void map_chain(Mapping *m, GPtrArray *chain)
{
    GPtrArray *hook = msc_nft_nested(chain, NFTA_CHAIN_HOOK);
    GPtrArray *devices;

    if (!hook) {
        return;
    }
    map_device(m, msc_nft_find(hook, NFTA_HOOK_DEV));
    devices = msc_nft_nested(hook, NFTA_HOOK_DEVS);
    for (guint i = 0; devices && i < devices->len; i++) {
        map_device(m, devices->pdata[i]);
    }
}

/* ---- sets ---- */

static void map_fields(Mapping *m, const GPtrArray *element, uint16_t type,
                       const MscNftField *fields, guint n)
{
    const GPtrArray *data = msc_nft_nested(element, type);
    MscNftAttr *value = data ? msc_nft_find(data, NFTA_DATA_VALUE) : NULL;

    for (guint i = 0; value && i < n; i++) {
        if (fields[i].at + fields[i].len > value->len) {
            if (fields[i].kind != MSC_NFT_REG_OTHER) {
                refuse(m, "a key or value is too short");
            }
        } else if (fields[i].kind == MSC_NFT_REG_NAME) {
            map_name_bytes(m, value->data + fields[i].at);
        } else if (fields[i].kind == MSC_NFT_REG_INDEX) {
            map_index_bytes(m, value->data + fields[i].at);
        }
    }
}

/* Both ends of a range of interfaces must be the same one. */
static bool is_range(const GPtrArray *element, const MscNftField *field)
{
    const GPtrArray *from = msc_nft_nested(element, NFTA_SET_ELEM_KEY);
    const GPtrArray *to = msc_nft_nested(element, NFTA_SET_ELEM_KEY_END);
    const MscNftAttr *a = from ? msc_nft_find(from, NFTA_DATA_VALUE) : NULL;
    const MscNftAttr *b = to ? msc_nft_find(to, NFTA_DATA_VALUE) : NULL;
    guint end = field->at + field->len;

    return a && b && a->len >= end && b->len >= end &&
           memcmp(a->data + field->at, b->data + field->at, field->len);
}

static void map_set(Mapping *m, MscNftSet *set)
{
    MscNftField keys[MSC_NFT_SLOTS], values[MSC_NFT_SLOTS];
    uint32_t flags = msc_nft_u32(set->attrs, NFTA_SET_FLAGS);
    guint n_keys, n_values;
    bool interfaces = false;

    if (!msc_nft_set_fields(set, false, keys, &n_keys) ||
        !msc_nft_set_fields(set, true, values, &n_values)) {
        refuse(m, "cannot tell where its keys or values name an interface");
        return;
    }
    for (guint i = 0; i < n_keys; i++) {
        if (keys[i].kind == MSC_NFT_REG_TEXT) {
            refuse(m, "sets of text cannot be moved");
            return;
        }
        interfaces = interfaces || keys[i].kind != MSC_NFT_REG_OTHER;
        for (guint k = 0;
             keys[i].kind != MSC_NFT_REG_OTHER && k < set->elements->len; k++) {
            if (is_range(set->elements->pdata[k], &keys[i])) {
                refuse(m, "an interface by a pattern, such as \"tap*\", could "
                          "be another guest's there: name each one");
                return;
            }
        }
    }
    for (guint i = 0; i < n_values; i++) {
        interfaces = interfaces || values[i].kind != MSC_NFT_REG_OTHER;
        if (values[i].kind == MSC_NFT_REG_TEXT) {
            refuse(m, "maps to text cannot be moved");
            return;
        }
    }
    if (!interfaces) {
        return;
    }
    if ((flags & NFT_SET_INTERVAL) && n_keys == 1 &&
        keys[0].kind != MSC_NFT_REG_OTHER) {
        refuse(m, "an interface by a pattern, such as \"tap*\", could be "
                  "another guest's there: name each one, without 'flags "
                  "interval'");
        return;
    }
    for (guint i = 0; i < set->elements->len; i++) {
        const GPtrArray *element = set->elements->pdata[i];

        map_fields(m, element, NFTA_SET_ELEM_KEY, keys, n_keys);
        map_fields(m, element, NFTA_SET_ELEM_KEY_END, keys, n_keys);
        map_fields(m, element, NFTA_SET_ELEM_DATA, values, n_values);
    }
    msc_nft_set_sort(set);
}

/* ---- rules ---- */

static void map_cmp(Mapping *m, const GPtrArray *data, MscNftRegKind kind)
{
    uint32_t op = msc_nft_u32(data, NFTA_CMP_OP);
    MscNftAttr *value =
        msc_nft_find(msc_nft_nested(data, NFTA_CMP_DATA), NFTA_DATA_VALUE);

    if (!value || (op != NFT_CMP_EQ && op != NFT_CMP_NEQ)) {
        refuse(m, "an interface can only be equal to another, or not");
    } else if (kind == MSC_NFT_REG_INDEX) {
        if (value->len == sizeof(uint32_t)) {
            map_index_bytes(m, value->data);
        } else {
            refuse(m, "a number of an interface of %u bytes", value->len);
        }
    } else if (kind == MSC_NFT_REG_NAME) {
        if (value->len == IFNAMSIZ) {
            map_name_bytes(m, value->data);
        } else {
            refuse(m, "an interface by a pattern, such as \"tap*\", could be "
                      "another guest's there: name each one");
        }
    } else {
        /* A helper, a kind of interface, "Linux:4.20". */
        for (guint i = 0; i < value->len && value->data[i]; i++) {
            if (!g_ascii_isalnum(value->data[i]) &&
                !strchr("_.-:", value->data[i])) {
                refuse(m, "text that cannot be moved");
                break;
            }
        }
    }
}

/* Do the fields of @set fit what is in the registers? */
static bool set_fits(const MscNftSet *set, bool values, const MscNftRegs *regs,
                     guint first, guint slots)
{
    MscNftField fields[MSC_NFT_SLOTS];
    guint n;

    if (!set || !msc_nft_set_fields(set, values, fields, &n)) {
        return false;
    }
    for (guint i = 0; i < slots && first + i < MSC_NFT_SLOTS; i++) {
        MscNftRegKind kind = regs->slot[first + i].kind;
        bool found = kind == MSC_NFT_REG_OTHER || kind == MSC_NFT_REG_CONSTANT;

        for (guint k = 0; k < n && !found; k++) {
            found =
                fields[k].at == i * NFT_REG32_SIZE && fields[k].kind == kind;
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

static void map_read(Mapping *m, MscNftRegs *regs, const char *name,
                     const GPtrArray *data, const MscNftAttr *attr,
                     guint length)
{
    int first = msc_nft_slot(msc_nft_u32(data, attr->spec->type));
    guint slots = msc_nft_slots_of(length);
    bool output =
        (!strcmp(name, "fwd") && attr->spec->type == NFTA_FWD_SREG_DEV) ||
        (!strcmp(name, "dup") && attr->spec->type == NFTA_DUP_SREG_DEV);
    const char *set = NULL;
    bool values = false;

    if (first < 0) {
        refuse(m, "expression %s reads no register", name);
        return;
    }
    if (output) {
        MscNftReg *r = &regs->slot[first];

        if (r->kind == MSC_NFT_REG_CONSTANT && r->constant &&
            r->constant->len == sizeof(uint32_t)) {
            map_index_bytes(m, r->constant->data);
            r->kind = MSC_NFT_REG_INDEX; /* once is enough */
        } else if (r->kind != MSC_NFT_REG_INDEX) {
            refuse(m, "%s to an interface that cannot be told", name);
        }
        return;
    }
    if (!strcmp(name, "lookup")) {
        set = msc_nft_text(data, NFTA_LOOKUP_SET);
    } else if (!strcmp(name, "dynset")) {
        set = msc_nft_text(data, NFTA_DYNSET_SET_NAME);
        values = attr->spec->type == NFTA_DYNSET_SREG_DATA;
    } else if (!strcmp(name, "objref")) {
        set = msc_nft_text(data, NFTA_OBJREF_SET_NAME);
    }
    for (guint i = 0; i < slots && (guint)first + i < MSC_NFT_SLOTS; i++) {
        MscNftRegKind kind = regs->slot[first + (int)i].kind;

        if (kind == MSC_NFT_REG_OTHER || kind == MSC_NFT_REG_CONSTANT) {
            continue;
        }
        if (!strcmp(name, "cmp") && !i) {
            map_cmp(m, data, kind);
        } else if (!set || !set_fits(msc_nft_table_set(m->table, set), values,
                                     regs, (guint)first, slots)) {
            refuse(m,
                   "expression %s uses an interface in a way that cannot "
                   "be moved",
                   name);
        }
        return;
    }
}

static void map_rule(Mapping *m, GPtrArray *rule)
{
    const GPtrArray *exprs = msc_nft_nested(rule, NFTA_RULE_EXPRESSIONS);
    MscNftRegs regs = { 0 };

    for (guint i = 0; exprs && i < exprs->len; i++) {
        const MscNftAttr *expr = exprs->pdata[i];
        const char *name = msc_nft_text(expr->nest, NFTA_EXPR_NAME);
        const GPtrArray *data = msc_nft_nested(expr->nest, NFTA_EXPR_DATA);

        for (guint k = 0; data && k < data->len; k++) {
            const MscNftAttr *attr = data->pdata[k];
            guint length =
                msc_nft_read_length(m->table, name, data, attr->spec->type);

            if (length) {
                map_read(m, &regs, name, data, attr, length);
            }
        }
        msc_nft_regs_write(&regs, m->table, name, data);
    }
}

static void map_table(Mapping *m, MscNftTable *t)
{
    m->table = t;
    m->rule = NULL;
    m->kind = "chain";
    for (guint i = 0; i < t->chains->len; i++) {
        m->name = msc_nft_text(t->chains->pdata[i], NFTA_CHAIN_NAME);
        map_chain(m, t->chains->pdata[i]);
    }
    m->kind = "set";
    for (guint i = 0; i < t->sets->len; i++) {
        MscNftSet *set = t->sets->pdata[i];

        m->name = msc_nft_text(set->attrs, NFTA_SET_NAME);
        map_set(m, set);
    }
    for (guint i = 0; i < t->rules->len; i++) {
        m->rule = t->rules->pdata[i];
        map_rule(m, t->rules->pdata[i]);
    }
}

static void map_payload(MscNftPayload *payload, const MscSelector *s,
                        bool to_roles, GPtrArray *reasons)
{
    Mapping m = { .payload = payload,
                  .selector = s,
                  .to_roles = to_roles,
                  .reasons = reasons };

    for (guint i = 0; i < payload->tables->len; i++) {
        map_table(&m, payload->tables->pdata[i]);
    }
    payload->local = !to_roles;
}

void msc_nft_to_roles(MscNftPayload *payload, const MscSelector *s,
                      GPtrArray *reasons)
{
    for (guint i = 0; i < s->interfaces->len; i++) {
        const MscInterface *one = s->interfaces->pdata[i];

        g_ptr_array_add(payload->roles, g_strdup(one->role));
    }
    map_payload(payload, s, true, reasons);
}

void msc_nft_to_devices(MscNftPayload *payload, const MscSelector *s,
                        GPtrArray *reasons)
{
    map_payload(payload, s, false, reasons);
}
