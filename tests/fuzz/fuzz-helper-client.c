/*
 * What QEMU reads from a helper: the answer to one request over a real socket,
 * refused with a reason, or exactly what its value encodes to.
 *
 * First byte: which request was asked.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sys/socket.h>
#include <unistd.h>

#include "client-private.h"
#include "fuzz.h"

#define INPUT_MAX 65536
#define WAIT_MS 5000

static void take_keys(const GByteArray *p, GByteArray *again, GError **errp)
{
    MscKeysMessage keys;

    if (msc_keys_decode(p->data, p->len, &keys, errp)) {
        msc_keys_encode(&keys, again);
        msc_keys_message_clear(&keys);
    }
}

static void take_stats(const GByteArray *p, GByteArray *again, GError **errp)
{
    MscContextStats stats;

    if (msc_stats_decode(p->data, p->len, &stats, errp)) {
        msc_stats_encode(&stats, again);
    }
}

static void take_frozen(const GByteArray *p, GByteArray *again, GError **errp)
{
    GQueue chunks = G_QUEUE_INIT;
    MscContextStats stats;
    bool more;

    if (msc_frozen_decode(p->data, p->len, &stats, &chunks, &more, errp)) {
        msc_stats_encode(&stats, again);
        for (GList *l = chunks.head; l; l = l->next) {
            msc_frozen_put(again, l->data);
        }
        if (!more) {
            msc_frozen_put(again, NULL);
        }
    }
    g_queue_clear_full(&chunks, (GDestroyNotify)g_bytes_unref);
}

static void take_batch(const GByteArray *p, GByteArray *again, GError **errp)
{
    g_autoptr(GBytes) chunk = NULL;
    MscPrecopyStatus status;

    if (msc_precopy_decode(p->data, p->len, &status, &chunk, errp)) {
        msc_precopy_encode(&status, again);
        if (chunk) {
            msc_put_bytes(again, g_bytes_get_data(chunk, NULL),
                          g_bytes_get_size(chunk));
        }
    }
}

static void take_answer(unsigned type, const GByteArray *p, GByteArray *again,
                        GError **errp)
{
    MscOpenedMessage opened;
    MscVerdict verdict;

    switch (type) {
    case MSC_MSG_OPEN:
        if (msc_opened_decode(p->data, p->len, &opened, errp)) {
            msc_opened_encode(&opened, again);
        }
        break;
    case MSC_MSG_CHANNEL:
        take_keys(p, again, errp);
        break;
    case MSC_MSG_FREEZE:
        take_frozen(p, again, errp);
        break;
    case MSC_MSG_VALIDATE:
        take_stats(p, again, errp);
        break;
    case MSC_MSG_BATCH:
        take_batch(p, again, errp);
        break;
    case MSC_MSG_VERDICT:
        if (msc_verdict_decode(p->data, p->len, &verdict, errp)) {
            msc_put_u8(again, (uint8_t)verdict);
        }
        break;
    default:
        msc_put_bytes(again, p->data, p->len); /* opaque */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    g_auto(MscFrame) reply;
    unsigned type;
    int pair[2];
    bool ok;

    msc_frame_init(&reply);
    if (size < 2 || size > INPUT_MAX) {
        return 0;
    }
    type = 1 + data[0] % MSC_MSG_LAST;
    fuzz_must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    fuzz_must(send(pair[0], data + 1, size - 1, 0) == (ssize_t)size - 1);
    shutdown(pair[0], SHUT_WR);
    ok = msc_client_exchange(pair[1], (uint16_t)type, NULL, -1, WAIT_MS, &reply,
                             &err);
    fuzz_must(ok == !err);
    if (ok) {
        fuzz_must(reply.type == (type | MSC_MSG_REPLY));
        take_answer(type, reply.payload, again, &err);
        if (!err) {
            fuzz_same(again->data, again->len, reply.payload->data,
                      reply.payload->len);
        }
    }
    close(pair[0]);
    close(pair[1]);
    return 0;
}
