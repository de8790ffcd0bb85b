/*
 * The payload's second list.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "conntrack-codec.h"
#include "conntrack-shape.h"

#define WHAT "conntrack payload, expectations"

typedef enum {
    EXPECTED,
    MASK,
    MASTER,
    NAT,
    PARTS, /* how many */
    SELF = PARTS,
} Part;

typedef enum {
    RAW,    /* of a tuple, in network order */
    WORD,   /* u16 */
    NUMBER, /* u32 */
    NAME,   /* u8 length, characters */
} Kind;

static const enum nf_expect_attr part_attr[PARTS] = {
    ATTR_EXP_EXPECTED, ATTR_EXP_MASK, ATTR_EXP_MASTER, ATTR_EXP_NAT_TUPLE
};

/* In ascending order of tags, which is the order on the wire. */
static const struct {
    uint8_t tag; /* never reused */
    uint8_t len; /* bytes; at most, for a NAME */
    Kind kind;
    Part part;
    int attr; /* nf_conntrack_attr, or nf_expect_attr */
} fields[] = {
    { 1, 1, RAW, EXPECTED, ATTR_ORIG_L3PROTO }, /* of all tuples */
    { 2, 1, RAW, EXPECTED, ATTR_ORIG_L4PROTO },
    { 3, 4, RAW, EXPECTED, ATTR_ORIG_IPV4_SRC },
    { 4, 4, RAW, EXPECTED, ATTR_ORIG_IPV4_DST },
    { 5, 16, RAW, EXPECTED, ATTR_ORIG_IPV6_SRC },
    { 6, 16, RAW, EXPECTED, ATTR_ORIG_IPV6_DST },
    { 7, 2, RAW, EXPECTED, ATTR_ORIG_PORT_SRC },
    { 8, 2, RAW, EXPECTED, ATTR_ORIG_PORT_DST },
    { 9, 4, RAW, MASK, ATTR_ORIG_IPV4_SRC },
    { 10, 16, RAW, MASK, ATTR_ORIG_IPV6_SRC },
    { 11, 2, RAW, MASK, ATTR_ORIG_PORT_SRC },
    { 16, 1, RAW, MASTER, ATTR_ORIG_L4PROTO },
    { 17, 4, RAW, MASTER, ATTR_ORIG_IPV4_SRC },
    { 18, 4, RAW, MASTER, ATTR_ORIG_IPV4_DST },
    { 19, 16, RAW, MASTER, ATTR_ORIG_IPV6_SRC },
    { 20, 16, RAW, MASTER, ATTR_ORIG_IPV6_DST },
    { 21, 2, RAW, MASTER, ATTR_ORIG_PORT_SRC },
    { 22, 2, RAW, MASTER, ATTR_ORIG_PORT_DST },
    { 24, 2, WORD, SELF, ATTR_EXP_ZONE },
    { 25, 4, NUMBER, SELF, ATTR_EXP_FLAGS },
    { 26, 4, NUMBER, SELF, ATTR_EXP_TIMEOUT },
    { 27, 4, NUMBER, SELF, ATTR_EXP_CLASS },
    { 29, MSC_CONNTRACK_HELPER_MAX, NAME, SELF, ATTR_EXP_HELPER_NAME },
    { 30, MSC_CONNTRACK_FUNCTION_MAX, NAME, SELF, ATTR_EXP_FN },
    { 32, 4, NUMBER, SELF, ATTR_EXP_NAT_DIR },
    { 33, 4, RAW, NAT, ATTR_ORIG_IPV4_SRC },
    { 34, 16, RAW, NAT, ATTR_ORIG_IPV6_SRC },
    { 35, 2, RAW, NAT, ATTR_ORIG_PORT_SRC },
};

/* The families share one place in a tuple: only one of them counts. */
static bool wrong_family(int attr, bool v4)
{
    return v4 ? attr == ATTR_ORIG_IPV6_SRC || attr == ATTR_ORIG_IPV6_DST
              : attr == ATTR_ORIG_IPV4_SRC || attr == ATTR_ORIG_IPV4_DST;
}

static void encode_self(const MscExpect *expect, size_t i, GByteArray *out)
{
    enum nf_expect_attr attr = (enum nf_expect_attr)fields[i].attr;

    if (!nfexp_attr_is_set(expect, attr)) {
        return;
    }
    msc_put_u8(out, fields[i].tag);
    if (fields[i].kind == NAME) {
        msc_put_name(out, nfexp_get_attr(expect, attr), fields[i].len);
    } else if (fields[i].kind == WORD) {
        msc_put_u16(out, nfexp_get_attr_u16(expect, attr));
    } else {
        msc_put_u32(out, nfexp_get_attr_u32(expect, attr));
    }
}

static void expect_encode(const MscExpect *expect, GByteArray *out)
{
    bool v4 = msc_expect_family(expect) == AF_INET;
    MscFlow *parts[PARTS];
    guint at = out->len, len;

    for (int p = 0; p < PARTS; p++) {
        parts[p] = msc_expect_tuple(expect, part_attr[p]);
    }
    msc_put_u16(out, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        enum nf_conntrack_attr attr = (enum nf_conntrack_attr)fields[i].attr;
        const MscFlow *part;

        if (fields[i].part == SELF) {
            encode_self(expect, i, out);
            continue;
        }
        part = parts[fields[i].part];
        if (part && nfct_attr_is_set(part, attr) > 0 &&
            !wrong_family(fields[i].attr, v4)) {
            msc_put_u8(out, fields[i].tag);
            msc_put_bytes(out, nfct_get_attr(part, attr), fields[i].len);
        }
    }
    len = out->len - at - 2;
    out->data[at] = (uint8_t)(len >> 8);
    out->data[at + 1] = (uint8_t)len;
    for (int p = 0; p < PARTS; p++) {
        if (parts[p]) {
            nfct_destroy(parts[p]);
        }
    }
}

void msc_expects_encode(const GPtrArray *expects, GByteArray *out)
{
    msc_put_u32(out, expects->len);
    for (guint i = 0; i < expects->len; i++) {
        expect_encode(expects->pdata[i], out);
    }
}

static bool decode_field(MscReader *r, size_t i, MscFlow **parts,
                         MscExpect *expect)
{
    char name[MAX(MSC_CONNTRACK_HELPER_MAX, MSC_CONNTRACK_FUNCTION_MAX) + 1];
    uint64_t aligned[2] = { 0 };
    uint32_t v32;
    uint16_t v16;

    switch (fields[i].kind) {
    case RAW:
        if (!msc_reader_copy(r, aligned, fields[i].len)) {
            return false;
        }
        nfct_set_attr(parts[fields[i].part],
                      (enum nf_conntrack_attr)fields[i].attr, aligned);
        return true;
    case WORD:
        if (!msc_reader_u16(r, &v16)) {
            return false;
        }
        nfexp_set_attr_u16(expect, (enum nf_expect_attr)fields[i].attr, v16);
        return true;
    case NUMBER:
        if (!msc_reader_u32(r, &v32)) {
            return false;
        }
        nfexp_set_attr_u32(expect, (enum nf_expect_attr)fields[i].attr, v32);
        return true;
    case NAME:
        if (!msc_reader_name(r, name, fields[i].len)) {
            return false;
        }
        nfexp_set_attr(expect, (enum nf_expect_attr)fields[i].attr, name);
        return true;
    }
    return false;
}

static bool has(const MscFlow *tuple, enum nf_conntrack_attr attr)
{
    return nfct_attr_is_set(tuple, attr) > 0;
}

/* Its source, and its destination if @whole, in this family. */
static bool part_fits(const MscFlow *tuple, bool v4, bool whole)
{
    bool src = has(tuple, v4 ? ATTR_ORIG_IPV4_SRC : ATTR_ORIG_IPV6_SRC);
    bool dst = has(tuple, v4 ? ATTR_ORIG_IPV4_DST : ATTR_ORIG_IPV6_DST);

    return src && dst == whole && has(tuple, ATTR_ORIG_PORT_SRC) &&
           has(tuple, ATTR_ORIG_PORT_DST) == whole &&
           !has(tuple, v4 ? ATTR_ORIG_IPV6_SRC : ATTR_ORIG_IPV4_SRC) &&
           !has(tuple, v4 ? ATTR_ORIG_IPV6_DST : ATTR_ORIG_IPV4_DST);
}

static bool part_is_empty(const MscFlow *tuple)
{
    return !has(tuple, ATTR_ORIG_IPV4_SRC) && !has(tuple, ATTR_ORIG_IPV6_SRC) &&
           !has(tuple, ATTR_ORIG_PORT_SRC);
}

static const char *check_expect(MscFlow **parts, const MscExpect *expect)
{
    uint8_t l3 = nfct_get_attr_u8(parts[EXPECTED], ATTR_ORIG_L3PROTO);
    bool v4 = l3 == AF_INET;
    bool nat = nfexp_attr_is_set(expect, ATTR_EXP_NAT_DIR) > 0;

    if (l3 != AF_INET && l3 != AF_INET6) {
        return "no protocol";
    }
    if (!msc_l4_has_ports(
            nfct_get_attr_u8(parts[EXPECTED], ATTR_ORIG_L4PROTO)) ||
        !msc_l4_has_ports(nfct_get_attr_u8(parts[MASTER], ATTR_ORIG_L4PROTO))) {
        return "a protocol that cannot be expected";
    }
    if (!part_fits(parts[EXPECTED], v4, true) ||
        !part_fits(parts[MASK], v4, false) ||
        !part_fits(parts[MASTER], v4, true)) {
        return "half an expectation";
    }
    if (nat ? !part_fits(parts[NAT], v4, false) ||
                  nfexp_get_attr_u32(expect, ATTR_EXP_NAT_DIR) > 1
            : !part_is_empty(parts[NAT])) {
        return "half a translation";
    }
    if (!nfexp_attr_is_set(expect, ATTR_EXP_ZONE) ||
        !nfexp_attr_is_set(expect, ATTR_EXP_FLAGS) ||
        !nfexp_attr_is_set(expect, ATTR_EXP_TIMEOUT) ||
        !nfexp_attr_is_set(expect, ATTR_EXP_CLASS)) {
        return "no zone, flags, timeout or class";
    }
    return NULL;
}

/* What the tuples have in common, or always have. */
static void complete(MscFlow **parts)
{
    static const uint8_t ones[16] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff };
    static const uint8_t zero[16] = { 0 };
    uint8_t l3 = nfct_get_attr_u8(parts[EXPECTED], ATTR_ORIG_L3PROTO);
    uint8_t l4 = nfct_get_attr_u8(parts[EXPECTED], ATTR_ORIG_L4PROTO);
    enum nf_conntrack_attr dst =
        l3 == AF_INET ? ATTR_ORIG_IPV4_DST : ATTR_ORIG_IPV6_DST;

    for (int p = MASK; p < PARTS; p++) {
        nfct_set_attr_u8(parts[p], ATTR_ORIG_L3PROTO, l3);
        if (p != MASTER) {
            nfct_set_attr_u8(parts[p], ATTR_ORIG_L4PROTO, l4);
        }
    }
    nfct_set_attr(parts[MASK], dst, ones);
    nfct_set_attr_u16(parts[MASK], ATTR_ORIG_PORT_DST, UINT16_MAX);
    nfct_set_attr(parts[NAT], dst, zero);
    nfct_set_attr_u16(parts[NAT], ATTR_ORIG_PORT_DST, 0);
}

static MscExpect *decode_expect(MscReader *r, GError **errp)
{
    MscExpect *expect = nfexp_new();
    const char *wrong = NULL;
    MscFlow *parts[PARTS];
    size_t next = 0;
    uint8_t tag;

    for (int p = 0; p < PARTS; p++) {
        parts[p] = nfct_new();
    }
    while (!wrong && msc_reader_u8(r, &tag)) {
        while (next < G_N_ELEMENTS(fields) && fields[next].tag < tag) {
            next++;
        }
        if (next == G_N_ELEMENTS(fields) || fields[next].tag != tag) {
            wrong = "attribute unknown, twice or out of order";
        } else if (!decode_field(r, next++, parts, expect)) {
            wrong = "malformed attribute";
        }
    }
    wrong = wrong ? wrong : check_expect(parts, expect);
    if (wrong) {
        msc_reader_error(r, errp, WHAT, wrong);
        g_clear_pointer(&expect, nfexp_destroy);
    } else {
        bool nat = nfexp_attr_is_set(expect, ATTR_EXP_NAT_DIR) > 0;

        complete(parts);
        for (int p = 0; p < (nat ? PARTS : NAT); p++) {
            nfexp_set_attr(expect, part_attr[p], parts[p]);
        }
    }
    for (int p = 0; p < PARTS; p++) {
        nfct_destroy(parts[p]);
    }
    return expect;
}

GPtrArray *msc_expects_decode(MscReader *r, GError **errp)
{
    g_autoptr(GPtrArray) expects = msc_expects_new();
    uint32_t count;

    if (!msc_reader_u32(r, &count) || count > MSC_CONNTRACK_EXPECTS_MAX) {
        msc_reader_error(r, errp, WHAT, "bad count");
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        MscExpect *expect;
        MscReader one;
        uint16_t len;

        if (!msc_reader_u16(r, &len) || !msc_reader_sub(r, &one, len)) {
            msc_reader_error(r, errp, WHAT, "cut short");
            return NULL;
        }
        expect = decode_expect(&one, errp);
        if (!expect) {
            g_prefix_error(errp, "expectation %u: ", i);
            return NULL;
        }
        g_ptr_array_add(expects, expect);
    }
    return g_steal_pointer(&expects);
}
