/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-admission.h"

#include <string.h>

#include "conntrack-codec.h"
#include "conntrack-needs.h"
#include "error.h"

#define PROC "/proc/sys/net/netfilter/nf_conntrack_"
/* A refusal must be readable. */
#define REASONS_SHOWN 16
/* NATed flows looked for before RAM; the others when they are staged. */
#define NATED_MAX 8192

/* About a second, while the other host waits; and 100 MiB, if it is kept. */
uint32_t msc_conntrack_looked_at_max = 256 * 1024;

typedef struct {
    uint32_t count;
    MscNeeds *needs;
    GPtrArray *nated; /* copies */
} Summary;

static bool look_at(Summary *summary, const GPtrArray *flows, guint from,
                    GError **errp)
{
    GPtrArray *nated = summary->nated;

    summary->count += flows->len - from;
    if (!msc_needs_of(flows, from, summary->needs, errp)) {
        return false;
    }
    if (!(summary->needs->features & (MSC_NEED_NAT_IPV4 | MSC_NEED_NAT_IPV6))) {
        return true;
    }
    for (guint i = from; i < flows->len && nated->len < NATED_MAX; i++) {
        if (msc_flow_is_nated(flows->pdata[i])) {
            g_ptr_array_add(nated, nfct_clone(flows->pdata[i]));
        }
    }
    return true;
}

/* @keep: see msc_scan_ahead(). */
static bool look_through(MscScan *scan, bool keep, Summary *summary,
                         GError **errp)
{
    g_autoptr(GPtrArray) gone = keep ? NULL : msc_flows_new();
    const GPtrArray *flows = keep ? msc_scan_kept(scan) : gone;
    bool done = false;

    while (!done && summary->count < msc_conntrack_looked_at_max) {
        guint from = flows->len;

        if (!(keep ? msc_scan_ahead(scan, &done, errp)
                   : msc_scan_next(scan, gone, &done, errp)) ||
            !look_at(summary, flows, from, errp)) {
            return false;
        }
        if (!keep) {
            g_ptr_array_set_size(gone, 0);
        }
    }
    return true;
}

/* As many of the NATed flows as fit. */
static GBytes *encode(const Summary *summary, size_t max)
{
    GByteArray *out = g_byte_array_new();

    for (;;) {
        g_byte_array_set_size(out, 0);
        msc_put_u32(out, summary->count);
        msc_needs_encode(summary->needs, out);
        msc_flows_encode(summary->nated, out);
        if (out->len <= max || !summary->nated->len) {
            return g_byte_array_free_to_bytes(out);
        }
        g_ptr_array_set_size(summary->nated, (gint)(summary->nated->len / 2));
    }
}

static GBytes *summarize(MscScan *scan, bool keep, size_t max, uint32_t *count,
                         GError **errp)
{
    Summary summary = { 0, msc_needs_new(), msc_flows_new() };
    GBytes *bytes =
        look_through(scan, keep, &summary, errp) ? encode(&summary, max) : NULL;

    *count = summary.count;
    msc_needs_free(summary.needs);
    g_ptr_array_unref(summary.nated);
    return bytes;
}

GBytes *msc_conntrack_summarize(const MscSelector *selector, size_t max,
                                GError **errp)
{
    g_autoptr(MscScan) scan = msc_scan_new(selector, errp);
    uint32_t count;

    return scan ? summarize(scan, false, max, &count, errp) : NULL;
}

GBytes *msc_conntrack_summarize_scan(MscScan *scan, size_t max, uint32_t *count,
                                     GError **errp)
{
    return summarize(scan, true, max, count, errp);
}

static bool read_proc(const char *name, guint64 *v)
{
    g_autofree char *path = g_strconcat(PROC, name, NULL);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) &&
           g_ascii_string_to_unsigned(g_strchomp(text), 10, 0, G_MAXUINT64, v,
                                      NULL);
}

static void check_room(uint32_t flows, GPtrArray *reasons)
{
    guint64 count, max;

    if (read_proc("count", &count) && read_proc("max", &max) &&
        count + flows > max) {
        g_ptr_array_add(
            reasons,
            g_strdup_printf(
                "the conntrack table has no room for %u more flows (%" G_GUINT64_FORMAT
                " of %" G_GUINT64_FORMAT " used): raise "
                "net.netfilter.nf_conntrack_max",
                flows, count, max));
    }
}

/* Moves what cannot survive here out of @flows; a reason each, unless it may
 * stay behind. */
static void check_addresses(const MscSelector *s, GPtrArray *flows,
                            bool leave_behind, GPtrArray *reasons)
{
    for (guint i = flows->len; i; i--) {
        const MscFlow *flow = flows->pdata[i - 1];
        MscAddress address;

        if (!msc_flow_nat_address(flow, s, &address) ||
            msc_address_in(&address, s->addresses) ||
            msc_address_in(&address, s->nat_addresses)) {
            continue;
        }
        if (!leave_behind) {
            g_autofree char *text = msc_flow_describe(flow);
            g_autofree char *where = msc_address_format(&address);

            g_ptr_array_add(
                reasons,
                g_strdup_printf(
                    "%s is translated to %s, which does not move with the guest "
                    "('migration-sc vm add --nat-address' if it does, "
                    "--nat-policy leave-behind to give up such flows)",
                    text, where));
        }
        g_ptr_array_remove_index(flows, i - 1);
    }
}

bool msc_conntrack_find_clashes(const MscSelector *selector,
                                const GPtrArray *flows, GPtrArray *stale,
                                GPtrArray *clashes, GError **errp)
{
    g_autoptr(MscCt) ct = msc_ct_open(errp);
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal,
                              (GDestroyNotify)g_bytes_unref, NULL);

    if (!ct) {
        return false;
    }
    for (int reply = 0; reply <= 1; reply++) {
        g_autoptr(GPtrArray) found = NULL;
        g_autofree int *results = g_new0(int, flows->len + 1);

        if (!msc_ct_run(ct, reply ? MSC_CT_FIND_REPLY : MSC_CT_FIND, flows,
                        results, &found, errp)) {
            return false;
        }
        for (guint i = 0; i < found->len; i++) {
            MscFlow *entry = found->pdata[i];

            if (!entry || !g_hash_table_add(seen, msc_flow_key(entry))) {
                continue;
            }
            if (msc_flow_is_guests(entry, selector)) {
                g_ptr_array_add(stale, entry);
                found->pdata[i] = NULL;
            } else {
                g_autofree char *ours = msc_flow_describe(flows->pdata[i]);
                g_autofree char *theirs = msc_flow_describe(entry);

                g_ptr_array_add(
                    clashes,
                    g_strdup_printf(
                        "%s clashes with %s, which is in use on this host",
                        ours, theirs));
            }
        }
    }
    return true;
}

static void shorten(GPtrArray *reasons, guint from)
{
    guint extra;

    if (reasons->len - from <= REASONS_SHOWN) {
        return;
    }
    extra = reasons->len - from - REASONS_SHOWN;
    g_ptr_array_set_size(reasons, (gint)(from + REASONS_SHOWN));
    g_ptr_array_add(reasons,
                    g_strdup_printf("and %u more flows like these", extra));
}

static GBytes *answer_encode(const MscSelector *s)
{
    const GArray *lists[] = { s->addresses, s->nat_addresses };
    GByteArray *out = g_byte_array_new();

    msc_put_u16(out, (uint16_t)(s->addresses->len + s->nat_addresses->len));
    for (size_t l = 0; l < G_N_ELEMENTS(lists); l++) {
        for (guint i = 0; i < lists[l]->len; i++) {
            const MscAddress *a = &g_array_index(lists[l], MscAddress, i);
            bool v4 = a->family == AF_INET;

            msc_put_u8(out, v4 ? 4 : 6);
            msc_put_bytes(out, a->bytes, v4 ? 4 : 16);
        }
    }
    return g_byte_array_free_to_bytes(out);
}

GArray *msc_conntrack_answer_decode(GBytes *answer, GError **errp)
{
    static const char what[] = "conntrack's admission answer";
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(MscAddress));
    uint16_t count;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(answer, NULL),
                    g_bytes_get_size(answer));
    if (!msc_reader_u16(&r, &count)) {
        msc_reader_error(&r, errp, what, "no count");
        return NULL;
    }
    for (; count; count--) {
        MscAddress a = { 0 };
        uint8_t family;

        if (!msc_reader_u8(&r, &family) || (family != 4 && family != 6) ||
            !msc_reader_copy(&r, a.bytes, family == 4 ? 4 : 16)) {
            msc_reader_error(&r, errp, what, "bad address");
            return NULL;
        }
        a.family = family == 4 ? AF_INET : AF_INET6;
        g_array_append_val(list, a);
    }
    if (!msc_reader_end(&r, errp, what)) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

bool msc_conntrack_check(const MscSelector *s, GBytes *summary,
                         bool leave_behind, GPtrArray *reasons, GBytes **answer,
                         GError **errp)
{
    static const char what[] = "conntrack's admission request";
    g_autoptr(GPtrArray) stale = msc_flows_new();
    g_autoptr(GPtrArray) nated = NULL;
    guint before;
    g_autoptr(MscNeeds) needs = NULL;
    uint32_t flows;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(summary, NULL),
                    g_bytes_get_size(summary));
    if (!msc_reader_u32(&r, &flows)) {
        return msc_reader_error(&r, errp, what, "no count of flows");
    }
    needs = msc_needs_decode(&r, errp);
    nated = needs ? msc_flows_decode(&r, errp) : NULL;
    if (!nated || !msc_reader_end(&r, errp, what)) {
        return false;
    }
    for (guint i = 0; i < nated->len; i++) {
        if (!msc_flow_belongs(nated->pdata[i], s)) {
            g_autofree char *text = msc_flow_describe(nated->pdata[i]);

            g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                        "the source shows a flow that is not the guest's by "
                        "this host's registration: %s",
                        text);
            return false;
        }
    }
    check_room(flows, reasons);
    if (!msc_needs_check(needs, reasons, errp)) {
        return false;
    }
    before = reasons->len;
    check_addresses(s, nated, leave_behind, reasons);
    if (!msc_conntrack_find_clashes(s, nated, stale, reasons, errp)) {
        return false;
    }
    shorten(reasons, before);
    *answer = answer_encode(s);
    return true;
}
