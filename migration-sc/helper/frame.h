/*
 * Moving bytes and frames over sockets, always with a deadline.
 *
 * The flags of a descriptor are never touched: it may be shared with a
 * process that wants it blocking, or not (MSG_DONTWAIT and poll do the rest).
 * Deadlines are absolute, in g_get_monotonic_time() microseconds.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_HELPER_FRAME_H
#define MSC_HELPER_FRAME_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

gint64 msc_deadline(unsigned timeout_ms);

/* Exactly @len bytes, or an error that names @who as the other end. */
bool msc_socket_send(int fd, const void *data, size_t len, gint64 deadline,
                     const char *who, GError **errp);
bool msc_socket_recv(int fd, void *data, size_t len, gint64 deadline,
                     const char *who, GError **errp);

typedef struct {
    uint16_t type;
    GByteArray *payload;
    int fd; /* passed along with it, or -1 */
} MscFrame;

void msc_frame_init(MscFrame *frame);
/* Wipes the payload, which may hold keys; closes fd. */
void msc_frame_clear(MscFrame *frame);

/* @pass_fd: a descriptor to hand over, or -1; it stays the caller's. */
bool msc_frame_send(int fd, uint16_t type, const GByteArray *payload,
                    int pass_fd, gint64 deadline, const char *who,
                    GError **errp);

typedef enum {
    MSC_FRAME_OK,
    MSC_FRAME_CLOSED, /* the other end hung up between two frames */
    MSC_FRAME_FAILED, /* @errp is set */
} MscFrameResult;

/* @deadline < 0: wait for ever for the frame to begin; once begun it has
 * @body_ms to arrive. */
MscFrameResult msc_frame_recv(int fd, MscFrame *frame, gint64 deadline,
                              unsigned body_ms, const char *who, GError **errp);

int msc_unix_connect(const char *path, gint64 deadline, GError **errp);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MscFrame, msc_frame_clear)

#endif
