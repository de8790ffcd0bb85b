/*
 * A message of the kernel is no flow, or one that can be encoded and whose
 * keys can be made.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "conntrack-codec.h"
#include "conntrack-message.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree struct nlmsghdr *nlh = g_malloc0(size + sizeof(*nlh));
    g_autoptr(GPtrArray) flows = msc_flows_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) key = NULL;
    MscFlow *flow;

    /* The head's type and numbers have been looked at before. */
    if (size) {
        memcpy((uint8_t *)nlh + NLMSG_HDRLEN, data, size);
    }
    nlh->nlmsg_len = (uint32_t)(NLMSG_HDRLEN + size);
    flow = msc_flow_parse(nlh);
    if (!flow) {
        return 0;
    }
    key = msc_flow_key(flow);
    fuzz_must(msc_flow_hash(flow) == msc_flow_key_hash(key));
    if (msc_flow_is_child(flow)) {
        g_autoptr(GBytes) master = msc_flow_master_key(flow);

        fuzz_must(g_bytes_get_size(master) == g_bytes_get_size(key));
    }
    g_ptr_array_add(flows, flow);
    msc_flows_encode(flows, out);
    fuzz_must(out->len > 4);
    return 0;
}
