/*
 * Whatever another host sends, it is refused, or it is canonical and makes
 * messages for the kernel whose every length is right and whose every table
 * is the guest's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include "fuzz.h"
#include "nft-admit.h"
#include "nft-batch.h"
#include "nft-collect.h"
#include "nft-print.h"

static MscSelector *registration(void)
{
    MscSelector *s = msc_selector_new();

    msc_selector_add_table(s, "inet g", NULL);
    msc_selector_add_interface(s, "lan=lo", NULL);
    msc_selector_add_interface(s, "wan=wan0", NULL);
    return s;
}

/* Attributes lie inside what holds them, and the first one is the table. */
static void check_message(const uint8_t *p, uint32_t len)
{
    const struct nlmsghdr *nlh = (const void *)p;
    uint32_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
    bool first = true;

    fuzz_must(nlh->nlmsg_len <= len && nlh->nlmsg_len % 4 == 0);
    while (at < nlh->nlmsg_len) {
        const struct nlattr *nla = (const void *)(p + at);

        fuzz_must(nla->nla_len >= NLA_HDRLEN &&
                  nla->nla_len <= nlh->nlmsg_len - at);
        if (first) {
            fuzz_must(nla->nla_type == 1 && nla->nla_len == NLA_HDRLEN + 2 &&
                      !memcmp(nla + 1, "g", 2));
        } else {
            fuzz_must((nla->nla_type & NLA_TYPE_MASK) != 1);
        }
        first = false;
        at += NLA_ALIGN(nla->nla_len);
    }
}

static void check_batch(const MscNftBatch *batch)
{
    uint32_t at = 0;

    while (at < batch->bytes->len) {
        const struct nlmsghdr *nlh = (const void *)(batch->bytes->data + at);

        fuzz_must(nlh->nlmsg_len >= NLMSG_HDRLEN &&
                  nlh->nlmsg_len <= batch->bytes->len - at);
        if (at) {
            g_autofree char *text = msc_nft_batch_text(batch, nlh->nlmsg_seq);

            fuzz_must(text != NULL);
            check_message(batch->bytes->data + at, batch->bytes->len - at);
        }
        at += NLMSG_ALIGN(nlh->nlmsg_len);
    }
}

static void drop_line(const char *line, void *opaque)
{
    (void)opaque;
    fuzz_must(g_utf8_validate(line, -1, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscNftPayload) payload = msc_nft_payload_decode(bytes, &err);
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(MscSelector) selector = registration();
    g_autoptr(MscNftBatch) batch = NULL;
    g_autoptr(GBytes) again = NULL;

    fuzz_must(!payload == !!err);
    if (!payload) {
        return 0;
    }
    again = msc_nft_payload_encode(payload);
    fuzz_same(g_bytes_get_data(again, NULL), g_bytes_get_size(again), data,
              size);
    fuzz_must(msc_nft_print(bytes, drop_line, NULL, NULL));
    msc_nft_admit(payload, selector, reasons);
    for (guint i = 0; i < payload->tables->len; i++) {
        const MscNftTable *t = payload->tables->pdata[i];

        if (t->family == 1 && !strcmp(t->name, "g")) {
            batch = msc_nft_batch_new();
            msc_nft_batch_add(batch, t, false);
            check_batch(batch);
        }
    }
    return 0;
}
