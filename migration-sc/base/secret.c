/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "secret.h"

#include <errno.h>
#include <sodium.h>

#include "error.h"

void *msc_secret_new(size_t len, GError **errp)
{
    void *p;

    if (sodium_init() < 0) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                            "libsodium did not initialize");
        return NULL;
    }
    p = sodium_malloc(len);
    if (!p) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                    "no locked memory for a key (%zu bytes): %s; raise "
                    "RLIMIT_MEMLOCK",
                    len, g_strerror(errno));
        return NULL;
    }
    sodium_memzero(p, len);
    return p;
}

void msc_secret_free(void *secret)
{
    sodium_free(secret);
}

void msc_wipe(void *p, size_t len)
{
    sodium_memzero(p, len);
}
