/*
 * What every transaction for the kernel must be, whatever led to it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_FUZZ_NFT_H
#define TESTS_FUZZ_NFT_H

#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include "fuzz.h"
#include "nft-batch.h"
#include "selector.h"

static inline MscSelector *fuzz_registration(void)
{
    MscSelector *s = msc_selector_new();

    msc_selector_add_table(s, "inet g", NULL);
    msc_selector_add_interface(s, "lan=lo", NULL);
    msc_selector_add_interface(s, "wan=wan0", NULL);
    return s;
}

/* Attributes lie inside what holds them, and the first one is the table. */
static inline void fuzz_message(const uint8_t *p, uint32_t len)
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

static inline void fuzz_batch(const MscNftBatch *batch)
{
    uint32_t at = 0;

    while (at < batch->bytes->len) {
        const struct nlmsghdr *nlh = (const void *)(batch->bytes->data + at);

        fuzz_must(nlh->nlmsg_len >= NLMSG_HDRLEN &&
                  nlh->nlmsg_len <= batch->bytes->len - at);
        if (at) {
            g_autofree char *text = msc_nft_batch_text(batch, nlh->nlmsg_seq);

            fuzz_must(text != NULL);
            fuzz_message(batch->bytes->data + at, batch->bytes->len - at);
        }
        at += NLMSG_ALIGN(nlh->nlmsg_len);
    }
}

#endif
