/*
 * A small text file that changes in place, so that one fdatasync() makes a
 * change durable: no new name, no new length, nothing of the file system's own
 * has to be written with it.
 *
 * The file has two slots of MSC_SLOT_LEN bytes: "# GENERATION DIGEST\n", the
 * text, zeros.  DIGEST is BLAKE2b-128, in hexadecimal, of all before it in the
 * line and all after the line.  The slot with the higher generation counts, or
 * the only one that is whole.  A change never touches the slot with the newest
 * durable text, and it lies in one page: a crash of the process cannot leave
 * half of it, a crash of the host leaves the durable text.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_SLOTS_H
#define MSC_TRANSFER_SLOTS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSC_SLOT_LEN 4096u
#define MSC_SLOTS_LEN (2u * MSC_SLOT_LEN)

/* Where a file stands; zeros for one that does not exist. */
typedef struct {
    uint64_t generation; /* of the newest text */
    uint8_t durable;     /* the slot that must not be touched */
} MscSlots;

/* Blocks.  Makes the file, and that is durable, if @slots is zeros. */
bool msc_slots_write(MscSlots *slots, const char *path, const char *text,
                     bool durable, GError **errp);
/* The whole contents of a file: its newest text, and *@slots. */
char *msc_slots_decode(const uint8_t *data, size_t len, MscSlots *slots,
                       GError **errp);
/* The same of the file itself, whose newest text is durable after that. */
char *msc_slots_read(MscSlots *slots, const char *path, GError **errp);

#endif
