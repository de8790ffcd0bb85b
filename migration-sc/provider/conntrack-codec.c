/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-codec.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "conntrack-shape.h"
#include "error.h"

#define WHAT "conntrack payload"
#define LABEL_BITS 128 /* NF_CT_LABELS_MAX_SIZE in the kernel */

typedef enum {
    RAW,    /* as the kernel has it: addresses, ports, in network order */
    NUMBER, /* in host order in memory, big-endian on the wire */
    NAME,   /* u8 length, characters */
    LABELS, /* u8 length, bytes; bit 0 is the lowest bit of the first */
} Kind;

typedef struct {
    uint8_t tag; /* never reused */
    uint8_t len; /* bytes; 0 for NAME and LABELS */
    Kind kind;
    enum nf_conntrack_attr attr;
    uint8_t run; /* so many after it are there only if it is */
} Field;

/* In ascending order of tags, which is the order on the wire. */
static const Field fields[] = {
    { 1, 1, RAW, ATTR_ORIG_L3PROTO },
    { 2, 1, RAW, ATTR_ORIG_L4PROTO },
    { 3, 4, RAW, ATTR_ORIG_IPV4_SRC, 1 },
    { 4, 4, RAW, ATTR_ORIG_IPV4_DST },
    { 5, 16, RAW, ATTR_ORIG_IPV6_SRC, 1 },
    { 6, 16, RAW, ATTR_ORIG_IPV6_DST },
    { 7, 2, RAW, ATTR_ORIG_PORT_SRC, 1 },
    { 8, 2, RAW, ATTR_ORIG_PORT_DST },
    { 9, 1, RAW, ATTR_ICMP_TYPE, 2 },
    { 10, 1, RAW, ATTR_ICMP_CODE },
    { 11, 2, RAW, ATTR_ICMP_ID },
    { 12, 2, NUMBER, ATTR_ORIG_ZONE },
    /* The reply tuple; all absent where it mirrors the original one. */
    { 13, 4, RAW, ATTR_REPL_IPV4_SRC, 1 },
    { 14, 4, RAW, ATTR_REPL_IPV4_DST },
    { 15, 16, RAW, ATTR_REPL_IPV6_SRC, 1 },
    { 16, 16, RAW, ATTR_REPL_IPV6_DST },
    { 17, 2, RAW, ATTR_REPL_PORT_SRC }, /* or the ICMP identifier */
    { 18, 2, RAW, ATTR_REPL_PORT_DST },
    { 19, 2, NUMBER, ATTR_REPL_ZONE },
    { 24, 2, NUMBER, ATTR_ZONE },
    { 25, 4, NUMBER, ATTR_STATUS },
    { 26, 4, NUMBER, ATTR_TIMEOUT },
    { 27, 4, NUMBER, ATTR_MARK },
    { 28, 0, LABELS, ATTR_CONNLABELS },
    { 29, 0, NAME, ATTR_HELPER_NAME },
    { 32, 1, RAW, ATTR_TCP_STATE, 4 },
    { 33, 1, RAW, ATTR_TCP_FLAGS_ORIG },
    { 34, 1, RAW, ATTR_TCP_FLAGS_REPL },
    { 35, 1, RAW, ATTR_TCP_WSCALE_ORIG },
    { 36, 1, RAW, ATTR_TCP_WSCALE_REPL },
    { 40, 1, RAW, ATTR_SCTP_STATE, 2 },
    { 41, 4, NUMBER, ATTR_SCTP_VTAG_ORIG },
    { 42, 4, NUMBER, ATTR_SCTP_VTAG_REPL },
    { 48, 4, NUMBER, ATTR_ORIG_NAT_SEQ_CORRECTION_POS, 2 },
    { 49, 4, NUMBER, ATTR_ORIG_NAT_SEQ_OFFSET_BEFORE },
    { 50, 4, NUMBER, ATTR_ORIG_NAT_SEQ_OFFSET_AFTER },
    { 51, 4, NUMBER, ATTR_REPL_NAT_SEQ_CORRECTION_POS, 2 },
    { 52, 4, NUMBER, ATTR_REPL_NAT_SEQ_OFFSET_BEFORE },
    { 53, 4, NUMBER, ATTR_REPL_NAT_SEQ_OFFSET_AFTER },
    /* The flow that announced this one (FTP control of an FTP data flow). */
    { 56, 1, RAW, ATTR_MASTER_L3PROTO, 7 },
    { 57, 1, RAW, ATTR_MASTER_L4PROTO },
    { 58, 4, RAW, ATTR_MASTER_IPV4_SRC },
    { 59, 4, RAW, ATTR_MASTER_IPV4_DST },
    { 60, 16, RAW, ATTR_MASTER_IPV6_SRC },
    { 61, 16, RAW, ATTR_MASTER_IPV6_DST },
    { 62, 2, RAW, ATTR_MASTER_PORT_SRC },
    { 63, 2, RAW, ATTR_MASTER_PORT_DST },
};

/* All of them, and their length, take fewer bytes. */
#define FLOW_MAX 512

#define REPLY_FIRST 13
#define REPLY_LAST 18
/* What a withdrawn flow is named by. */
#define TUPLE_LAST 11
#define TUPLE_ZONE 24

static bool is_tuple_tag(uint8_t tag)
{
    return tag <= TUPLE_LAST || tag == TUPLE_ZONE;
}

void msc_put_name(GByteArray *out, const char *name, size_t max)
{
    size_t len = strnlen(name, max);

    msc_put_u8(out, (uint8_t)len);
    msc_put_bytes(out, name, len);
}

bool msc_reader_name(MscReader *r, char *out, size_t max)
{
    uint8_t len;

    memset(out, 0, max + 1);
    if (!msc_reader_u8(r, &len) || !len || len > max ||
        !msc_reader_copy(r, out, len)) {
        return false;
    }
    for (uint8_t i = 0; i < len; i++) {
        if (!g_ascii_isgraph(out[i])) {
            return false;
        }
    }
    return true;
}

/* Each of these returns the end of what it wrote, or @out if nothing. */
static uint8_t *encode_labels(const struct nfct_bitmask *b, uint8_t *out)
{
    unsigned last = MIN(nfct_bitmask_maxbit(b), LABEL_BITS - 1);
    uint8_t *bytes = out + 2;
    unsigned len = 0;

    memset(bytes, 0, LABEL_BITS / 8);
    for (unsigned bit = 0; bit <= last; bit++) {
        if (nfct_bitmask_test_bit(b, bit)) {
            bytes[bit / 8] |= (uint8_t)(1u << (bit % 8));
            len = bit / 8 + 1;
        }
    }
    out[0] = 28;
    out[1] = (uint8_t)len;
    return len ? bytes + len : out;
}

static uint8_t *encode_number(const void *value, uint8_t len, uint8_t *out)
{
    uint16_t v16;
    uint32_t v32;

    if (len == 2) {
        memcpy(&v16, value, sizeof(v16));
        v16 = GUINT16_TO_BE(v16);
        memcpy(out, &v16, sizeof(v16));
    } else {
        memcpy(&v32, value, sizeof(v32));
        v32 = GUINT32_TO_BE(v32);
        memcpy(out, &v32, sizeof(v32));
    }
    return out + len;
}

static uint8_t *encode_field(const Field *f, const void *value, uint8_t *out)
{
    size_t len;

    switch (f->kind) {
    case LABELS:
        return encode_labels(value, out);
    case NAME:
        len = strnlen(value, MSC_CONNTRACK_HELPER_MAX);
        *out++ = f->tag;
        *out++ = (uint8_t)len;
        memcpy(out, value, len);
        return out + len;
    case NUMBER:
        *out++ = f->tag;
        return encode_number(value, f->len, out);
    case RAW:
        break;
    }
    *out++ = f->tag;
    memcpy(out, value, f->len);
    return out + f->len;
}

static bool is_default(const Field *f, const void *value)
{
    uint32_t mark;

    if (f->attr != ATTR_MARK) {
        return false;
    }
    memcpy(&mark, value, sizeof(mark));
    return !mark;
}

static void flow_encode(const MscFlow *flow, bool tuple, GByteArray *out)
{
    bool mirror = tuple || !msc_flow_is_nated(flow);
    uint8_t bytes[FLOW_MAX];
    uint8_t *end = bytes + 2;
    size_t len;

    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        const Field *f = &fields[i];
        const void *value;

        if ((tuple && !is_tuple_tag(f->tag)) ||
            (mirror && f->tag >= REPLY_FIRST && f->tag <= REPLY_LAST)) {
            continue;
        }
        value = nfct_get_attr(flow, f->attr);
        if (!value) {
            i += f->run;
        } else if (!is_default(f, value)) {
            end = encode_field(f, value, end);
        }
    }
    len = (size_t)(end - bytes) - 2;
    bytes[0] = (uint8_t)(len >> 8);
    bytes[1] = (uint8_t)len;
    g_byte_array_append(out, bytes, (guint)len + 2);
}

static void list_encode(const GPtrArray *flows, bool tuples, GByteArray *out)
{
    msc_put_u32(out, flows->len);
    for (guint i = 0; i < flows->len; i++) {
        flow_encode(flows->pdata[i], tuples, out);
    }
}

void msc_flows_encode(const GPtrArray *flows, GByteArray *out)
{
    list_encode(flows, false, out);
}

void msc_tuples_encode(const GPtrArray *flows, GByteArray *out)
{
    list_encode(flows, true, out);
}

static const Field *find_field(uint8_t tag)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (fields[i].tag == tag) {
            return &fields[i];
        }
    }
    return NULL;
}

static bool decode_labels(MscReader *r, MscFlow *flow)
{
    struct nfct_bitmask *b;
    const uint8_t *bytes;
    uint8_t len;

    if (!msc_reader_u8(r, &len) || !len || len > LABEL_BITS / 8 ||
        !msc_reader_view(r, &bytes, len) || !bytes[len - 1]) {
        return false;
    }
    b = nfct_bitmask_new(LABEL_BITS - 1);
    for (unsigned bit = 0; bit < len * 8u; bit++) {
        if (bytes[bit / 8] & (1u << (bit % 8))) {
            nfct_bitmask_set_bit(b, bit);
        }
    }
    nfct_set_attr(flow, ATTR_CONNLABELS, b); /* takes it */
    return true;
}

static bool decode_name(MscReader *r, MscFlow *flow)
{
    char name[MSC_CONNTRACK_HELPER_MAX + 1];

    if (!msc_reader_name(r, name, MSC_CONNTRACK_HELPER_MAX)) {
        return false;
    }
    nfct_set_attr(flow, ATTR_HELPER_NAME, name);
    return true;
}

static bool decode_field(MscReader *r, const Field *f, MscFlow *flow)
{
    const uint8_t *raw;
    uint16_t v16;
    uint32_t v32;

    switch (f->kind) {
    case LABELS:
        return decode_labels(r, flow);
    case NAME:
        return decode_name(r, flow);
    case NUMBER:
        if (f->len == 2) {
            if (!msc_reader_u16(r, &v16)) {
                return false;
            }
            nfct_set_attr_u16(flow, f->attr, v16);
            return true;
        }
        if (!msc_reader_u32(r, &v32)) {
            return false;
        }
        nfct_set_attr_u32(flow, f->attr, v32);
        return true;
    case RAW:
        break;
    }
    if (!msc_reader_view(r, &raw, f->len)) {
        return false;
    }
    {
        /* nfct_set_attr() reads it as an integer: keep it aligned. */
        uint64_t aligned[2] = { 0 };

        memcpy(aligned, raw, f->len);
        nfct_set_attr(flow, f->attr, aligned);
    }
    return true;
}

static MscFlow *decode_flow(MscReader *r, bool tuple, GError **errp)
{
    MscFlow *flow = nfct_new();
    const char *wrong = NULL;
    int last = 0;
    uint8_t tag;

    while (!wrong && msc_reader_u8(r, &tag)) {
        const Field *f = find_field(tag);

        if (!f || (tuple && !is_tuple_tag(tag))) {
            wrong = "unknown attribute";
        } else if (tag <= last) {
            wrong = "attribute twice or out of order";
        } else if (!decode_field(r, f, flow)) {
            wrong = "malformed attribute";
        }
        last = tag;
    }
    if (!wrong) {
        wrong = tuple ? msc_tuple_malformed(flow) : msc_flow_malformed(flow);
    }
    if (wrong) {
        msc_reader_error(r, errp, WHAT, wrong);
        nfct_destroy(flow);
        return NULL;
    }
    if (tuple) {
        /* Nobody knows what it is translated to. */
    } else if (!nfct_attr_is_set(flow, ATTR_REPL_IPV4_SRC) &&
               !nfct_attr_is_set(flow, ATTR_REPL_IPV6_SRC)) {
        msc_flow_mirror_reply(flow);
    } else {
        nfct_set_attr_u8(flow, ATTR_REPL_L3PROTO,
                         nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO));
        nfct_set_attr_u8(flow, ATTR_REPL_L4PROTO,
                         nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO));
    }
    return flow;
}

static GPtrArray *list_decode(MscReader *r, bool tuples, GError **errp)
{
    g_autoptr(GPtrArray) flows = msc_flows_new();
    uint32_t count;

    if (!msc_reader_u32(r, &count) || count > MSC_CONNTRACK_FLOWS_MAX) {
        msc_reader_error(r, errp, WHAT, "bad count of flows");
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        MscReader one;
        uint16_t len;
        MscFlow *flow;

        if (!msc_reader_u16(r, &len) || !msc_reader_sub(r, &one, len)) {
            msc_reader_error(r, errp, WHAT, "flow cut short");
            return NULL;
        }
        flow = decode_flow(&one, tuples, errp);
        if (!flow) {
            g_prefix_error(errp, "flow %u: ", i);
            return NULL;
        }
        g_ptr_array_add(flows, flow);
    }
    return g_steal_pointer(&flows);
}

GPtrArray *msc_flows_decode(MscReader *r, GError **errp)
{
    return list_decode(r, false, errp);
}

GPtrArray *msc_tuples_decode(MscReader *r, GError **errp)
{
    return list_decode(r, true, errp);
}

GBytes *msc_payload_encode(const MscPayload *payload)
{
    GByteArray *out = g_byte_array_new();

    msc_flows_encode(payload->flows, out);
    msc_expects_encode(payload->expects, out);
    return g_byte_array_free_to_bytes(out);
}

MscPayload *msc_payload_decode(GBytes *bytes, GError **errp)
{
    g_autoptr(GPtrArray) flows = NULL;
    g_autoptr(GPtrArray) expects = NULL;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    flows = msc_flows_decode(&r, errp);
    expects = flows ? msc_expects_decode(&r, errp) : NULL;
    if (!expects || !msc_reader_end(&r, errp, WHAT)) {
        return NULL;
    }
    return msc_payload_of(g_steal_pointer(&flows), g_steal_pointer(&expects));
}
