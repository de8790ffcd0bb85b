/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "conntrack-needs.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "conntrack-probe.h"
#include "error.h"

#define WHAT "conntrack's admission request"
#define ACCT "/proc/sys/net/netfilter/nf_conntrack_acct"
#define PROBE_LABEL 1
#define PROBE_MARK 0x6d736331
#define PROBE_ZONE 0x6d73

MscNeeds *msc_needs_new(void)
{
    MscNeeds *needs = g_new0(MscNeeds, 1);

    needs->helpers = g_array_new(FALSE, TRUE, sizeof(MscHelper));
    return needs;
}

void msc_needs_free(MscNeeds *needs)
{
    if (needs) {
        g_array_unref(needs->helpers);
        g_free(needs);
    }
}

static gint helper_compare(gconstpointer a, gconstpointer b)
{
    const MscHelper *x = a, *y = b;

    if (x->family != y->family) {
        return x->family < y->family ? -1 : 1;
    }
    if (x->l4 != y->l4) {
        return x->l4 < y->l4 ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

static void add_helper(MscNeeds *needs, const MscFlow *flow)
{
    MscHelper helper = { .family = nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO),
                         .l4 = nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO) };

    g_strlcpy(helper.name, nfct_get_attr(flow, ATTR_HELPER_NAME),
              sizeof(helper.name));
    for (guint i = 0; i < needs->helpers->len; i++) {
        if (!helper_compare(&helper,
                            &g_array_index(needs->helpers, MscHelper, i))) {
            return;
        }
    }
    g_array_append_val(needs->helpers, helper);
}

static bool is_set(const MscFlow *flow, enum nf_conntrack_attr attr)
{
    return nfct_attr_is_set(flow, attr) > 0;
}

bool msc_needs_of(const GPtrArray *flows, guint from, MscNeeds *needs,
                  GError **errp)
{
    for (guint i = from; i < flows->len; i++) {
        const MscFlow *flow = flows->pdata[i];
        bool v4 = nfct_get_attr_u8(flow, ATTR_ORIG_L3PROTO) == AF_INET;

        if (msc_flow_zone(flow, false) || msc_flow_zone(flow, true)) {
            needs->features |= MSC_NEED_ZONES;
        }
        if (nfct_get_attr_u32(flow, ATTR_MARK)) {
            needs->features |= MSC_NEED_MARKS;
        }
        if (msc_flow_has_labels(flow)) {
            needs->features |= MSC_NEED_LABELS;
        }
        if (msc_flow_is_nated(flow)) {
            needs->features |= v4 ? MSC_NEED_NAT_IPV4 : MSC_NEED_NAT_IPV6;
        }
        if (nfct_get_attr_u8(flow, ATTR_ORIG_L4PROTO) == IPPROTO_TCP) {
            needs->features |= MSC_NEED_COUNTERS;
        }
        if (is_set(flow, ATTR_HELPER_NAME)) {
            add_helper(needs, flow);
        }
    }
    if (needs->helpers->len > MSC_HELPERS_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "the guest's flows use %u conntrack helpers, at most %u "
                    "can be told to another host",
                    needs->helpers->len, MSC_HELPERS_MAX);
        return false;
    }
    g_array_sort(needs->helpers, helper_compare);
    return true;
}

void msc_needs_encode(const MscNeeds *needs, GByteArray *out)
{
    msc_put_u8(out, needs->features);
    msc_put_u8(out, (uint8_t)needs->helpers->len);
    for (guint i = 0; i < needs->helpers->len; i++) {
        const MscHelper *h = &g_array_index(needs->helpers, MscHelper, i);

        msc_put_u8(out, h->family);
        msc_put_u8(out, h->l4);
        msc_put_name(out, h->name, MSC_CONNTRACK_HELPER_MAX);
    }
}

MscNeeds *msc_needs_decode(MscReader *r, GError **errp)
{
    g_autoptr(MscNeeds) needs = msc_needs_new();
    uint8_t count;

    if (!msc_reader_u8(r, &needs->features) || !msc_reader_u8(r, &count) ||
        needs->features & ~MSC_NEEDS_ALL || count > MSC_HELPERS_MAX) {
        msc_reader_error(r, errp, WHAT, "bad list of features");
        return NULL;
    }
    for (uint8_t i = 0; i < count; i++) {
        MscHelper helper = { 0 };

        if (!msc_reader_u8(r, &helper.family) ||
            !msc_reader_u8(r, &helper.l4) ||
            (helper.family != AF_INET && helper.family != AF_INET6) ||
            !msc_reader_name(r, helper.name, MSC_CONNTRACK_HELPER_MAX) ||
            (i &&
             helper_compare(&g_array_index(needs->helpers, MscHelper, i - 1),
                            &helper) >= 0)) {
            msc_reader_error(r, errp, WHAT, "bad helper");
            return NULL;
        }
        g_array_append_val(needs->helpers, helper);
    }
    return g_steal_pointer(&needs);
}

/* Creates @scratch; was it made as asked?  Takes it. */
static bool try_scratch(MscCt *ct, MscFlow *scratch,
                        bool (*fine)(const MscFlow *made,
                                     const MscFlow *wanted),
                        bool *can, GError **errp)
{
    MscFlow *made = NULL;
    int refused;
    bool ok = msc_scratch_try(ct, scratch, &made, &refused, errp);

    if (ok && refused && refused != EOPNOTSUPP && refused != EINVAL &&
        refused != ENOENT) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                    "cannot create a conntrack entry to try what this host "
                    "can: %s",
                    g_strerror(refused));
        ok = false;
    }
    *can = ok && made && fine(made, scratch);
    nfct_destroy(scratch);
    if (made) {
        nfct_destroy(made);
    }
    return ok;
}

static bool zone_is_fine(const MscFlow *made, const MscFlow *wanted)
{
    return msc_flow_zone(made, false) == msc_flow_zone(wanted, false);
}

static bool mark_is_fine(const MscFlow *made, const MscFlow *wanted)
{
    return nfct_get_attr_u32(made, ATTR_MARK) ==
           nfct_get_attr_u32(wanted, ATTR_MARK);
}

static bool labels_are_fine(const MscFlow *made, const MscFlow *wanted)
{
    (void)wanted;
    return is_set(made, ATTR_CONNLABELS) &&
           nfct_bitmask_test_bit(nfct_get_attr(made, ATTR_CONNLABELS),
                                 PROBE_LABEL);
}

static bool nat_is_fine(const MscFlow *made, const MscFlow *wanted)
{
    (void)wanted;
    return msc_flow_is_snat(made);
}

static bool helper_is_fine(const MscFlow *made, const MscFlow *wanted)
{
    return is_set(made, ATTR_HELPER_NAME) &&
           !strcmp(nfct_get_attr(made, ATTR_HELPER_NAME),
                   nfct_get_attr(wanted, ATTR_HELPER_NAME));
}

static bool timeout_is_fine(const MscFlow *made, const MscFlow *wanted)
{
    uint32_t asked = nfct_get_attr_u32(wanted, ATTR_TIMEOUT);
    uint32_t got = nfct_get_attr_u32(made, ATTR_TIMEOUT);

    return got <= asked && got >= asked / 2;
}

static MscFlow *scratch_with_nat(uint8_t family)
{
    MscFlow *flow = msc_scratch_new(family, IPPROTO_UDP);

    /* Another port of the same address is a translation, too. */
    nfct_set_attr_u16(flow, ATTR_REPL_PORT_DST,
                      nfct_get_attr_u16(flow, ATTR_ORIG_PORT_SRC) ^ 1);
    return flow;
}

static bool check_features(MscCt *ct, uint8_t features, GPtrArray *reasons,
                           GError **errp)
{
    static const struct {
        uint8_t feature, family;
        bool (*fine)(const MscFlow *made, const MscFlow *wanted);
        const char *reason;
    } rows[] = {
        { 0, AF_INET, timeout_is_fine,
          "this kernel does not keep the time-out that a conntrack entry is "
          "created with" },
        { MSC_NEED_ZONES, AF_INET, zone_is_fine,
          "this kernel has no conntrack zones (CONFIG_NF_CONNTRACK_ZONES)" },
        { MSC_NEED_MARKS, AF_INET, mark_is_fine,
          "this kernel has no conntrack marks (CONFIG_NF_CONNTRACK_MARK)" },
        { MSC_NEED_LABELS, AF_INET, labels_are_fine,
          "conntrack labels are off on this host: the kernel keeps them only "
          "while a firewall rule uses them (nft 'ct label', xtables "
          "'connlabel')" },
        { MSC_NEED_NAT_IPV4, AF_INET, nat_is_fine,
          "this kernel cannot translate IPv4 addresses: load nf_nat" },
        { MSC_NEED_NAT_IPV6, AF_INET6, nat_is_fine,
          "this kernel cannot translate IPv6 addresses: load nf_nat" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint8_t feature = rows[i].feature;
        MscFlow *scratch;
        bool can;

        if ((features & feature) != feature) {
            continue;
        }
        scratch = feature & (MSC_NEED_NAT_IPV4 | MSC_NEED_NAT_IPV6)
                      ? scratch_with_nat(rows[i].family)
                      : msc_scratch_new(rows[i].family, IPPROTO_UDP);
        if (feature == MSC_NEED_ZONES) {
            nfct_set_attr_u16(scratch, ATTR_ZONE, PROBE_ZONE);
        } else if (feature == MSC_NEED_MARKS) {
            nfct_set_attr_u32(scratch, ATTR_MARK, PROBE_MARK);
        } else if (feature == MSC_NEED_LABELS) {
            struct nfct_bitmask *labels = nfct_bitmask_new(127);

            nfct_bitmask_set_bit(labels, PROBE_LABEL);
            nfct_set_attr(scratch, ATTR_CONNLABELS, labels);
        }
        if (!try_scratch(ct, scratch, rows[i].fine, &can, errp)) {
            return false;
        }
        if (!can) {
            g_ptr_array_add(reasons, g_strdup(rows[i].reason));
        }
    }
    return true;
}

static bool check_helper(MscCt *ct, const MscHelper *helper, GPtrArray *reasons,
                         GError **errp)
{
    MscFlow *scratch = msc_scratch_new(helper->family, helper->l4);
    bool can;

    nfct_set_attr(scratch, ATTR_HELPER_NAME, helper->name);
    if (!try_scratch(ct, scratch, helper_is_fine, &can, errp)) {
        return false;
    }
    if (!can) {
        g_ptr_array_add(
            reasons,
            g_strdup_printf(
                "this host has no conntrack helper '%s' for IPv%d, protocol %u: "
                "load nf_conntrack_%s",
                helper->name, helper->family == AF_INET ? 4 : 6, helper->l4,
                helper->name));
    }
    return true;
}

static bool counters_are_on(void)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(ACCT, &text, NULL, NULL) && text[0] == '1';
}

static int open_counters(GError **errp)
{
    int fd = open(ACCT, O_WRONLY | O_CLOEXEC);

    if (fd < 0) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                    "packets of conntrack entries are not counted and it "
                    "cannot be switched on (%s): set "
                    "net.netfilter.nf_conntrack_acct=1",
                    g_strerror(errno));
    }
    return fd;
}

bool msc_counters_enable(GError **errp)
{
    bool ok;
    int fd;

    if (counters_are_on()) {
        return true;
    }
    fd = open_counters(errp);
    if (fd < 0) {
        return false;
    }
    ok = write(fd, "1", 1) == 1;
    if (!ok) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_KERNEL,
                    "cannot switch net.netfilter.nf_conntrack_acct on: %s",
                    g_strerror(errno));
    }
    close(fd);
    return ok;
}

/* Could they be switched on?  Nothing is changed yet. */
static void check_counters(GPtrArray *reasons)
{
    g_autoptr(GError) err = NULL;
    int fd;

    if (counters_are_on()) {
        return;
    }
    fd = open_counters(&err);
    if (fd < 0) {
        g_ptr_array_add(reasons, g_strdup(err->message));
    } else {
        close(fd);
    }
}

bool msc_needs_check(const MscNeeds *needs, GPtrArray *reasons, GError **errp)
{
    g_autoptr(MscCt) ct = msc_ct_open(errp);

    if (!ct || !check_features(ct, needs->features, reasons, errp)) {
        return false;
    }
    for (guint i = 0; i < needs->helpers->len; i++) {
        if (!check_helper(ct, &g_array_index(needs->helpers, MscHelper, i),
                          reasons, errp)) {
            return false;
        }
    }
    if (needs->features & MSC_NEED_COUNTERS) {
        check_counters(reasons);
    }
    return true;
}
