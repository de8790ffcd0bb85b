/*
 * What the helper reads from a QEMU: a stream of frames over a real socket,
 * each refused with a reason, or exactly what its value encodes to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"
#include "fuzz.h"
#include "helper-messages.h"

/* Beyond it, an input would block in the socket's buffer. */
#define INPUT_MAX 65536
#define WAIT_MS 5000

static bool decode(const MscFrame *f, GByteArray *again, bool *known,
                   GError **errp)
{
    const uint8_t *data = f->payload->data;
    size_t len = f->payload->len;
    g_autofree char *text = NULL;
    MscChannelMessage channel;
    MscAttachMessage attach;
    MscOpenMessage open;
    bool ok;

    switch (f->type) {
    case MSC_MSG_OPEN:
        ok = msc_open_decode(data, len, &open, errp);
        if (ok) {
            msc_open_encode(&open, again);
        }
        return ok;
    case MSC_MSG_CHANNEL:
        ok = msc_channel_decode(data, len, &channel, errp);
        if (ok) {
            msc_channel_encode(&channel, again);
            msc_channel_message_clear(&channel);
        }
        return ok;
    case MSC_MSG_THAW:
    case MSC_MSG_ABORT:
        ok = msc_text_decode(data, len, &text, errp);
        if (ok) {
            msc_text_encode(text, again);
        }
        return ok;
    case MSC_MSG_VERDICT:
    case MSC_MSG_ATTACH:
        ok = msc_attach_decode(data, len, &attach, errp);
        if (ok) {
            msc_attach_encode(&attach, again);
        }
        return ok;
    }
    *known = false; /* opaque here, or no such message */
    return true;
}

static void read_all(int fd)
{
    g_auto(MscFrame) frame;

    msc_frame_init(&frame);
    for (;;) {
        g_autoptr(GByteArray) again = g_byte_array_new();
        g_autoptr(GError) err = NULL;
        MscFrameResult result =
            msc_frame_recv(fd, &frame, msc_deadline(WAIT_MS), WAIT_MS, "QEMU",
                           &err);
        bool known = true, ok;

        fuzz_must((result == MSC_FRAME_FAILED) == !!err);
        if (result != MSC_FRAME_OK) {
            return;
        }
        fuzz_must(msc_message_name(frame.type) != NULL);
        ok = decode(&frame, again, &known, &err);
        fuzz_must(ok == !err);
        if (ok && known) {
            fuzz_same(again->data, again->len, frame.payload->data,
                      frame.payload->len);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];

    if (!size || size > INPUT_MAX) {
        return 0;
    }
    fuzz_must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    fuzz_must(send(pair[0], data, size, 0) == (ssize_t)size);
    shutdown(pair[0], SHUT_WR);
    read_all(pair[1]);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
