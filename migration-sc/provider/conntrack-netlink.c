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

#include "error.h"

/* Larger batches were no faster when measured. */
#define BATCH 64
/* One request: tuples, protocol, NAT, labels, helper, master. */
#define REQUEST_MAX 1024
#define TIMEOUT_S 5
#define SOCKET_BUFFER (4 * 1024 * 1024)

struct MscCt {
    struct mnl_socket *nl;
    uint32_t seq;
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
    int size = SOCKET_BUFFER;
    MscCt *ct = g_new0(MscCt, 1);

    ct->nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (!ct->nl || mnl_socket_bind(ct->nl, 0, MNL_SOCKET_AUTOPID) ||
        setsockopt(mnl_socket_get_fd(ct->nl), SOL_SOCKET, SO_RCVTIMEO,
                   &timeout, sizeof(timeout))) {
        kernel_error(errp, "cannot open a netlink socket");
        msc_ct_close(ct);
        return NULL;
    }
    /* Best effort: the default holds a batch's answers as well. */
    setsockopt(mnl_socket_get_fd(ct->nl), SOL_SOCKET, SO_RCVBUFFORCE, &size,
               sizeof(size));
    ct->seq = (uint32_t)g_get_monotonic_time();
    return ct;
}

void msc_ct_close(MscCt *ct)
{
    if (ct) {
        if (ct->nl) {
            mnl_socket_close(ct->nl);
        }
        g_free(ct);
    }
}

static struct nlmsghdr *put_header(void *buf, uint16_t type, uint16_t flags,
                                   uint32_t seq, uint8_t family)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct nfgenmsg *nfg;

    nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
    nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    nlh->nlmsg_seq = seq;
    nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
    nfg->nfgen_family = family;
    nfg->version = NFNETLINK_V0;
    nfg->res_id = 0;
    return nlh;
}

typedef struct {
    const MscSelector *selector;
    GPtrArray *flows;
    GHashTable *seen;
} Dump;

static int dump_one(const struct nlmsghdr *nlh, void *opaque)
{
    Dump *dump = opaque;
    MscFlow *flow = nfct_new();
    GBytes *key;

    if (nfct_nlmsg_parse(nlh, flow) < 0 ||
        !msc_flow_belongs(flow, dump->selector)) {
        nfct_destroy(flow);
        return MNL_CB_OK;
    }
    /* A table that is resized during the dump shows entries twice. */
    key = msc_flow_key(flow);
    if (g_hash_table_add(dump->seen, key)) {
        g_ptr_array_add(dump->flows, flow);
    } else {
        nfct_destroy(flow);
    }
    return MNL_CB_OK;
}

GPtrArray *msc_ct_dump(MscCt *ct, const MscSelector *s, GError **errp)
{
    size_t size = 64 * 1024;
    g_autofree char *buf = g_malloc(size);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(
        g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
    g_autoptr(GPtrArray) flows = msc_flows_new();
    Dump dump = { s, flows, seen };
    struct nlmsghdr *nlh;
    ssize_t n;

    nlh = put_header(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP, ++ct->seq, AF_UNSPEC);
    if (s->has_mark) {
        mnl_attr_put_u32(nlh, CTA_MARK, htonl(s->mark));
        mnl_attr_put_u32(nlh, CTA_MARK_MASK, htonl(s->mark_mask));
    }
    if (s->has_zone) {
        mnl_attr_put_u16(nlh, CTA_ZONE, htons(s->zone));
    }
    if (mnl_socket_sendto(ct->nl, nlh, nlh->nlmsg_len) < 0) {
        kernel_error(errp, "cannot ask for the table");
        return NULL;
    }
    do {
        n = mnl_socket_recvfrom(ct->nl, buf, size);
        if (n > 0) {
            n = mnl_cb_run(buf, (size_t)n, ct->seq,
                           mnl_socket_get_portid(ct->nl), dump_one, &dump);
        }
    } while (n > MNL_CB_STOP);
    if (n < 0) {
        kernel_error(errp, "reading the table");
        return NULL;
    }
    return g_steal_pointer(&flows);
}

static const struct {
    uint16_t type, flags;
} verbs[] = {
    [MSC_CT_CREATE] = { IPCTNL_MSG_CT_NEW,
                        NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK },
    [MSC_CT_UPDATE] = { IPCTNL_MSG_CT_NEW, NLM_F_ACK },
    [MSC_CT_DELETE] = { IPCTNL_MSG_CT_DELETE, NLM_F_ACK },
    [MSC_CT_FIND] = { IPCTNL_MSG_CT_GET, NLM_F_ACK },
};

typedef struct {
    uint32_t first;             /* sequence number of the batch's first */
    guint count, left;
    int *results;
    MscFlow **found;
} Batch;

/* A request's tuple must be there: a delete without one empties the table. */
static bool has_tuple(const MscFlow *flow)
{
    return nfct_attr_is_set(flow, ATTR_ORIG_L3PROTO) ||
           nfct_attr_is_set(flow, ATTR_REPL_L3PROTO);
}

static bool send_batch(MscCt *ct, MscCtVerb verb, const GPtrArray *flows,
                       guint from, guint count, GError **errp)
{
    g_autofree char *buf = g_malloc0(BATCH * REQUEST_MAX);
    size_t used = 0;

    for (guint i = 0; i < count; i++) {
        const MscFlow *flow = flows->pdata[from + i];
        uint8_t family = nfct_attr_is_set(flow, ATTR_ORIG_L3PROTO)
                             ? nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO)
                             : nfct_get_attr_u8(flow, ATTR_REPL_L3PROTO);
        struct nlmsghdr *nlh =
            put_header(buf + used, verbs[verb].type, verbs[verb].flags,
                       ++ct->seq, family);

        g_assert(has_tuple(flow));
        if (nfct_nlmsg_build(nlh, flow) < 0) {
            return kernel_error(errp, "cannot put a flow into a message");
        }
        used += MNL_ALIGN(nlh->nlmsg_len);
        g_assert(nlh->nlmsg_len <= REQUEST_MAX);
    }
    if (mnl_socket_sendto(ct->nl, buf, used) < 0) {
        return kernel_error(errp, "cannot send requests");
    }
    return true;
}

/* Takes one answer; false if it is none of this batch's. */
static bool take_answer(Batch *batch, const struct nlmsghdr *nlh)
{
    uint32_t i = nlh->nlmsg_seq - batch->first;

    if (i >= batch->count) {
        return false;
    }
    if (nlh->nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

        batch->results[i] = -e->error;
        batch->left--;
    } else if (batch->found && !batch->found[i]) {
        batch->found[i] = nfct_new();
        if (nfct_nlmsg_parse(nlh, batch->found[i]) < 0) {
            g_clear_pointer(&batch->found[i], nfct_destroy);
        }
    }
    return true;
}

static bool run_batch(MscCt *ct, MscCtVerb verb, const GPtrArray *flows,
                      guint from, Batch *batch, GError **errp)
{
    size_t size = 64 * 1024;
    g_autofree char *buf = g_malloc(size);

    batch->first = ct->seq + 1;
    batch->left = batch->count;
    if (!send_batch(ct, verb, flows, from, batch->count, errp)) {
        return false;
    }
    while (batch->left) {
        ssize_t n = mnl_socket_recvfrom(ct->nl, buf, size);
        const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
        int len = (int)n;

        if (n < 0) {
            return kernel_error(errp, "waiting for an answer");
        }
        for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
            take_answer(batch, nlh);
        }
    }
    return true;
}

bool msc_ct_run(MscCt *ct, MscCtVerb verb, const GPtrArray *flows,
                int *results, GPtrArray **found, GError **errp)
{
    g_autofree MscFlow **entries = g_new0(MscFlow *, flows->len + 1);
    bool ok = true;

    for (guint at = 0; ok && at < flows->len; at += BATCH) {
        Batch batch = {
            .count = MIN(BATCH, flows->len - at),
            .results = results + at,
            .found = verb == MSC_CT_FIND ? entries + at : NULL,
        };

        ok = run_batch(ct, verb, flows, at, &batch, errp);
    }
    if (verb == MSC_CT_FIND) {
        GPtrArray *out = msc_flows_new();

        for (guint i = 0; i < flows->len; i++) {
            g_ptr_array_add(out, entries[i]);
        }
        if (ok && found) {
            *found = out;
        } else {
            g_ptr_array_unref(out);
        }
    }
    return ok;
}
