/*
 * Carries a handshake's messages over a connected socket: u32 length, message.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_HANDSHAKE_IO_H
#define MSC_TRANSFER_HANDSHAKE_IO_H

#include "handshake.h"

/* Nothing is sent if @message is empty. */
bool msc_handshake_send(int fd, const GByteArray *message, gint64 deadline,
                        GError **errp);
/* At most @max bytes; not one byte more than the message is read. */
bool msc_handshake_recv(int fd, GByteArray *message, size_t max,
                        gint64 deadline, GError **errp);
/*
 * Runs @hs to its end.  @first: a message that was received already, or NULL.
 * The last message is left in @last and not sent yet: what it acknowledges
 * has to be on record first.
 */
bool msc_handshake_run(MscHandshake *hs, int fd, const GByteArray *first,
                       size_t max, GByteArray *last, gint64 deadline,
                       GError **errp);

#endif
