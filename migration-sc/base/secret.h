/*
 * Memory for keys: locked, guarded, left out of core dumps, wiped when freed.
 *
 * Backed by sodium_malloc().  QEMU under libvirt may lock 8 MiB only, so keep
 * secrets small: a page or three each.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_BASE_SECRET_H
#define MSC_BASE_SECRET_H

#include <glib.h>
#include <stddef.h>

/* Zeroed locked memory, or NULL with MSC_ERROR_INTERNAL that says why. */
void *msc_secret_new(size_t len, GError **errp);
/* Wipes and frees; NULL is allowed. */
void msc_secret_free(void *secret);
/* Wipes memory the compiler might think is dead. */
void msc_wipe(void *p, size_t len);

#endif
