/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "conntrack-message.h"
#include "conntrack-request.h"
#include "error.h"

/* Larger batches were no faster when measured. */
#define BATCH 64
/* The kernel's answers are at most 32 KiB. */
#define ANSWER_MAX (64 * 1024)
/* Inside CTA_FILTER_*_FLAGS; the kernel keeps the list to itself
 * (nf_internals.h). */
#define FILTER_IP_SRC 1u
#define TIMEOUT_S 5

int msc_ct_answer_buffer = 4 * 1024 * 1024;

struct MscCt {
    struct mnl_socket *nl;
    uint32_t seq;
    char *requests; /* a batch of them */
    char *answers;  /* what was received last */
};

static bool kernel_error(GError **errp, const char *what)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL, "conntrack: %s: %s", what,
                g_strerror(errno));
    return false;
}

MscCt *msc_ct_open(GError **errp)
{
    struct timeval timeout = { .tv_sec = TIMEOUT_S };
    MscCt *ct = g_new0(MscCt, 1);

    ct->nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (!ct->nl || mnl_socket_bind(ct->nl, 0, MNL_SOCKET_AUTOPID) ||
        setsockopt(mnl_socket_get_fd(ct->nl), SOL_SOCKET, SO_RCVTIMEO, &timeout,
                   sizeof(timeout))) {
        kernel_error(errp, "cannot open a netlink socket");
        msc_ct_close(ct);
        return NULL;
    }
    /* Best effort: the default holds a batch's answers as well. */
    setsockopt(mnl_socket_get_fd(ct->nl), SOL_SOCKET, SO_RCVBUFFORCE,
               &msc_ct_answer_buffer, sizeof(msc_ct_answer_buffer));
    ct->seq = (uint32_t)g_get_monotonic_time();
    ct->requests = g_malloc0(BATCH * MSC_REQUEST_MAX);
    ct->answers = g_malloc(ANSWER_MAX);
    return ct;
}

void msc_ct_close(MscCt *ct)
{
    if (ct) {
        if (ct->nl) {
            mnl_socket_close(ct->nl);
        }
        g_free(ct->requests);
        g_free(ct->answers);
        g_free(ct);
    }
}

static struct nlmsghdr *put_header(void *buf, uint16_t subsystem, uint16_t type,
                                   uint16_t flags, uint32_t seq, uint8_t family)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct nfgenmsg *nfg;

    nlh->nlmsg_type = (uint16_t)(subsystem << 8 | type);
    nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    nlh->nlmsg_seq = seq;
    nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
    nfg->nfgen_family = family;
    nfg->version = NFNETLINK_V0;
    nfg->res_id = 0;
    return nlh;
}

static bool dump_begin(MscCt *ct, const struct nlmsghdr *request, GError **errp)
{
    return mnl_socket_sendto(ct->nl, request, request->nlmsg_len) >= 0 ||
           kernel_error(errp, "cannot ask for the table");
}

/* Gives each entry of one answer to @take. */
static bool dump_next(MscCt *ct, mnl_cb_t take, void *opaque, bool *done,
                      GError **errp)
{
    ssize_t n = mnl_socket_recvfrom(ct->nl, ct->answers, ANSWER_MAX);

    if (n > 0) {
        n = mnl_cb_run(ct->answers, (size_t)n, ct->seq,
                       mnl_socket_get_portid(ct->nl), take, opaque);
    }
    *done = n <= MNL_CB_STOP;
    return n >= 0 || kernel_error(errp, "reading the table");
}

/* Sends a request for a dump and gives every message to @take. */
static bool dump(MscCt *ct, const struct nlmsghdr *request, mnl_cb_t take,
                 void *opaque, GError **errp)
{
    bool done = false;

    if (!dump_begin(ct, request, errp)) {
        return false;
    }
    while (!done) {
        if (!dump_next(ct, take, opaque, &done, errp)) {
            return false;
        }
    }
    return true;
}

typedef struct {
    MscCtTake *take;
    void *opaque;
} Dump;

static int dump_flow(const struct nlmsghdr *nlh, void *opaque)
{
    Dump *d = opaque;
    MscFlow *flow = msc_flow_parse(nlh);

    if (!flow) {
        errno = EBADMSG;
        return MNL_CB_ERROR;
    }
    return d->take(flow, d->opaque) ? MNL_CB_OK : MNL_CB_STOP;
}

static void put_address(struct nlmsghdr *nlh, const MscAddress *a, bool reply)
{
    bool v4 = a->family == AF_INET;
    struct nlattr *tuple =
        mnl_attr_nest_start(nlh, reply ? CTA_TUPLE_REPLY : CTA_TUPLE_ORIG);
    struct nlattr *nest = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);

    mnl_attr_put(nlh, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, v4 ? 4 : 16,
                 a->bytes);
    mnl_attr_nest_end(nlh, nest);
    mnl_attr_nest_end(nlh, tuple);
    nest = mnl_attr_nest_start(nlh, CTA_FILTER);
    mnl_attr_put_u32(nlh,
                     reply ? CTA_FILTER_REPLY_FLAGS : CTA_FILTER_ORIG_FLAGS,
                     FILTER_IP_SRC);
    mnl_attr_nest_end(nlh, nest);
}

bool msc_ct_query_begin(MscCt *ct, const MscCtQuery *q, GError **errp)
{
    char buf[MSC_REQUEST_MAX] __attribute__((aligned(NLMSG_ALIGNTO))) = { 0 };
    struct nlmsghdr *nlh =
        put_header(buf, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, NLM_F_DUMP,
                   ++ct->seq, q->family);

    if (q->has_mark) {
        mnl_attr_put_u32(nlh, CTA_MARK, htonl(q->mark));
        mnl_attr_put_u32(nlh, CTA_MARK_MASK, htonl(q->mark_mask));
    }
    if (q->has_zone) {
        mnl_attr_put_u16(nlh, CTA_ZONE, htons(q->zone));
    }
    if (q->originator) {
        put_address(nlh, q->originator, false);
    } else if (q->responder) {
        put_address(nlh, q->responder, true);
    }
    return dump_begin(ct, nlh, errp);
}

bool msc_ct_query_next(MscCt *ct, MscCtTake *take, void *opaque, bool *done,
                       GError **errp)
{
    Dump d = { take, opaque };

    return dump_next(ct, dump_flow, &d, done, errp);
}

bool msc_ct_query(MscCt *ct, const MscCtQuery *q, MscCtTake *take, void *opaque,
                  GError **errp)
{
    bool done = false;

    if (!msc_ct_query_begin(ct, q, errp)) {
        return false;
    }
    while (!done) {
        if (!msc_ct_query_next(ct, take, opaque, &done, errp)) {
            return false;
        }
    }
    return true;
}

static int dump_master(const struct nlmsghdr *nlh, void *opaque)
{
    MscExpect *expect = msc_expect_parse(nlh, 0);

    if (expect) {
        g_hash_table_add(opaque, msc_expect_master_key(expect));
        nfexp_destroy(expect);
    }
    return MNL_CB_OK;
}

GHashTable *msc_ct_expecting(MscCt *ct, GError **errp)
{
    char buf[MSC_REQUEST_MAX] __attribute__((aligned(NLMSG_ALIGNTO))) = { 0 };
    struct nlmsghdr *nlh =
        put_header(buf, NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_GET,
                   NLM_F_DUMP, ++ct->seq, AF_UNSPEC);
    g_autoptr(GHashTable) keys =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                              (GDestroyNotify)g_bytes_unref, NULL);

    return dump(ct, nlh, dump_master, keys, errp) ? g_steal_pointer(&keys)
                                                  : NULL;
}

typedef struct {
    const MscFlow *master;
    GPtrArray *expects;
} ExpectDump;

static int dump_expect(const struct nlmsghdr *nlh, void *opaque)
{
    ExpectDump *d = opaque;
    MscExpect *expect = msc_expect_parse(nlh, msc_flow_zone(d->master, false));
    g_autoptr(GBytes) mine = NULL;
    g_autoptr(GBytes) master = NULL;

    if (!expect) {
        return MNL_CB_OK;
    }
    /* A kernel that ignores the question shows everybody's. */
    mine = msc_flow_key(d->master);
    master = msc_expect_master_key(expect);
    if (g_bytes_equal(mine, master)) {
        g_ptr_array_add(d->expects, expect);
    } else {
        nfexp_destroy(expect);
    }
    return MNL_CB_OK;
}

bool msc_ct_expects_of(MscCt *ct, const MscFlow *master, GPtrArray *expects,
                       GError **errp)
{
    char buf[MSC_REQUEST_MAX] __attribute__((aligned(NLMSG_ALIGNTO))) = { 0 };
    /* Without ACK there is no answer where a flow has no helper. */
    struct nlmsghdr *nlh =
        put_header(buf, NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_GET,
                   NLM_F_DUMP | NLM_F_ACK, ++ct->seq,
                   nfct_get_attr_u8(master, ATTR_ORIG_L3PROTO));
    ExpectDump d = { master, expects };
    g_autoptr(GError) err = NULL;

    if (!msc_put_master(nlh, master)) {
        return kernel_error(errp, "cannot put a flow into a message");
    }
    if (!dump(ct, nlh, dump_expect, &d, &err) && errno != ENOENT) {
        g_propagate_error(errp, g_steal_pointer(&err));
        return false;
    }
    return true; /* ENOENT: it has just ended */
}

static bool put_flow(struct nlmsghdr *nlh, gconstpointer item)
{
    return msc_put_flow(nlh, item);
}

static bool put_strict(struct nlmsghdr *nlh, gconstpointer item)
{
    return msc_put_strict(nlh, item);
}

static bool put_entry(struct nlmsghdr *nlh, gconstpointer item)
{
    return msc_put_entry(nlh, item);
}

static bool put_original(struct nlmsghdr *nlh, gconstpointer item)
{
    return msc_put_tuple(nlh, item, false);
}

static bool put_reply(struct nlmsghdr *nlh, gconstpointer item)
{
    return msc_put_tuple(nlh, item, true);
}

static bool put_expect(struct nlmsghdr *nlh, gconstpointer item)
{
    return msc_put_expect(nlh, item);
}

static bool put_expect_tuple(struct nlmsghdr *nlh, gconstpointer item)
{
    return msc_put_expect_tuple(nlh, item);
}

/* A request without a tuple would mean all entries: these put one, or fail. */
static const struct {
    bool expect, find;
    uint16_t type, flags;
    bool (*put)(struct nlmsghdr *nlh, gconstpointer item);
} verbs[] = {
    [MSC_CT_CREATE] = { false, false, IPCTNL_MSG_CT_NEW,
                        NLM_F_CREATE | NLM_F_EXCL, put_flow },
    [MSC_CT_STRICT] = { false, false, IPCTNL_MSG_CT_NEW, 0, put_strict },
    [MSC_CT_DELETE] = { false, false, IPCTNL_MSG_CT_DELETE, 0, put_entry },
    [MSC_CT_FIND] = { false, true, IPCTNL_MSG_CT_GET, 0, put_original },
    [MSC_CT_FIND_REPLY] = { false, true, IPCTNL_MSG_CT_GET, 0, put_reply },
    [MSC_CT_EXPECT_CREATE] = { true, false, IPCTNL_MSG_EXP_NEW,
                               NLM_F_CREATE | NLM_F_EXCL, put_expect },
    [MSC_CT_EXPECT_TIMEOUT] = { true, false, IPCTNL_MSG_EXP_NEW, 0,
                                put_expect },
    [MSC_CT_EXPECT_FIND] = { true, true, IPCTNL_MSG_EXP_GET, 0,
                             put_expect_tuple },
    [MSC_CT_EXPECT_DELETE] = { true, false, IPCTNL_MSG_EXP_DELETE, 0,
                               put_expect_tuple },
};

typedef struct {
    MscCtVerb verb;
    gpointer *items;
    uint32_t first; /* sequence number of the batch's first */
    guint count;
    int *results;
    gpointer *found; /* or NULL */
} Batch;

/* The kernel tells of every request that fails, and works in order: the answer
 * to the last one, which alone asks for it, says that all are through. */
static bool send_batch(MscCt *ct, const Batch *b, GError **errp)
{
    bool expect = verbs[b->verb].expect;
    size_t used = 0;

    for (guint i = 0; i < b->count; i++) {
        uint8_t family = expect
                             ? msc_expect_family(b->items[i])
                             : nfct_get_attr_u8(b->items[i], ATTR_ORIG_L3PROTO);
        uint16_t ack = i == b->count - 1 ? NLM_F_ACK : 0;
        struct nlmsghdr *nlh = put_header(
            ct->requests + used,
            expect ? NFNL_SUBSYS_CTNETLINK_EXP : NFNL_SUBSYS_CTNETLINK,
            verbs[b->verb].type, ack | verbs[b->verb].flags, ++ct->seq, family);

        if (!verbs[b->verb].put(nlh, b->items[i])) {
            return kernel_error(errp, "cannot put a flow into a message");
        }
        used += MNL_ALIGN(nlh->nlmsg_len);
        g_assert(nlh->nlmsg_len <= MSC_REQUEST_MAX);
    }
    if (mnl_socket_sendto(ct->nl, ct->requests, used) < 0) {
        return kernel_error(errp, "cannot send requests");
    }
    return true;
}

/* One entry that was found; false: it cannot be one. */
static bool take_found(Batch *b, guint i, const struct nlmsghdr *nlh)
{
    if (verbs[b->verb].expect) {
        b->found[i] = msc_expect_parse(nlh, msc_expect_zone(b->items[i]));
        return true;
    }
    b->found[i] = msc_flow_parse(nlh);
    return b->found[i];
}

/* Takes one answer; what is none of this batch's is a late one.  *@done: it is
 * the last. */
static bool take_answer(Batch *b, const struct nlmsghdr *nlh, bool *done)
{
    uint32_t i = nlh->nlmsg_seq - b->first;

    if (i >= b->count) {
        return true;
    }
    if (nlh->nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

        b->results[i] = -e->error;
        *done = i == b->count - 1;
        return true;
    }
    return !b->found || b->found[i] || take_found(b, i, nlh);
}

static bool run_batch(MscCt *ct, Batch *b, GError **errp)
{
    bool done = false;

    b->first = ct->seq + 1;
    memset(b->results, 0, b->count * sizeof(*b->results));
    if (!send_batch(ct, b, errp)) {
        return false;
    }
    while (!done) {
        /* An answer that had no room shows as ENOBUFS here. */
        ssize_t n = mnl_socket_recvfrom(ct->nl, ct->answers, ANSWER_MAX);
        const struct nlmsghdr *nlh = (const struct nlmsghdr *)ct->answers;
        int len = (int)n;

        if (n < 0) {
            return kernel_error(errp, "waiting for an answer");
        }
        for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
            if (!take_answer(b, nlh, &done)) {
                errno = EBADMSG;
                return kernel_error(errp, "reading an answer");
            }
        }
    }
    return true;
}

bool msc_ct_run(MscCt *ct, MscCtVerb verb, const GPtrArray *items, int *results,
                GPtrArray **found, GError **errp)
{
    GPtrArray *all = verbs[verb].expect ? msc_expects_new() : msc_flows_new();
    bool ok = true;

    g_assert(!found || verbs[verb].find);
    g_ptr_array_set_size(all, (gint)items->len);
    for (guint at = 0; ok && at < items->len; at += BATCH) {
        Batch batch = {
            .verb = verb,
            .items = items->pdata + at,
            .count = MIN(BATCH, items->len - at),
            .results = results + at,
            .found = found ? all->pdata + at : NULL,
        };

        ok = run_batch(ct, &batch, errp);
    }
    if (ok && found) {
        *found = all;
    } else {
        g_ptr_array_unref(all);
    }
    return ok;
}
