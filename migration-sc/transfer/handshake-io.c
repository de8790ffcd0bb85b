/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "handshake-io.h"

#include "bytes.h"
#include "error.h"
#include "frame.h"

#define PEER_WHO "the other host"

/* Length and message in one segment: sent apart, the second would wait for the
 * other host's delayed acknowledgement. */
bool msc_handshake_send(int fd, const GByteArray *message, gint64 deadline,
                        GError **errp)
{
    g_autoptr(GByteArray) framed = g_byte_array_new();

    if (!message->len) {
        return true;
    }
    msc_put_u32(framed, message->len);
    msc_put_bytes(framed, message->data, message->len);
    return msc_socket_send(fd, framed->data, framed->len, deadline, PEER_WHO,
                           errp);
}

bool msc_handshake_recv(int fd, GByteArray *message, size_t max,
                        gint64 deadline, GError **errp)
{
    uint8_t be[4];
    uint32_t len = 0;
    MscReader r;

    if (!msc_socket_recv(fd, be, sizeof(be), deadline, PEER_WHO, errp)) {
        g_prefix_error(errp, "handshake: ");
        return false;
    }
    msc_reader_init(&r, be, sizeof(be));
    msc_reader_u32(&r, &len);
    if (!len || len > max) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "handshake: the other end does not speak the "
                            "migration-sc transport; does its QEMU have a "
                            "migration-sc object?");
        return false;
    }
    g_byte_array_set_size(message, len);
    if (!msc_socket_recv(fd, message->data, len, deadline, PEER_WHO, errp)) {
        g_prefix_error(errp, "handshake: ");
        return false;
    }
    return true;
}

bool msc_handshake_run(MscHandshake *hs, int fd, const GByteArray *first,
                       size_t max, GByteArray *last, gint64 deadline,
                       GError **errp)
{
    g_autoptr(GByteArray) in = g_byte_array_new();
    const GByteArray *message = first;
    bool start = !first && msc_handshake_speaks_first(hs);

    for (;;) {
        g_autoptr(GError) err = NULL;
        MscStep step;

        if (!start && !message) {
            if (!msc_handshake_recv(fd, in, max, deadline, errp)) {
                return false;
            }
            message = in;
        }
        step = msc_handshake_step(hs, start ? NULL : message->data,
                                  start ? 0 : message->len, last, &err);
        start = false;
        message = NULL;
        switch (step) {
        case MSC_STEP_DONE:
            return true;
        case MSC_STEP_FAILED:
            /* Best effort: the reason matters more than its delivery. */
            msc_handshake_send(fd, last, deadline, NULL);
            g_propagate_error(errp, g_steal_pointer(&err));
            return false;
        case MSC_STEP_CONTINUE:
            if (!msc_handshake_send(fd, last, deadline, errp)) {
                g_prefix_error(errp, "handshake: ");
                return false;
            }
        }
    }
}
