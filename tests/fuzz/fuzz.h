/*
 * What the fuzz targets share.  Each is linked by clang's libFuzzer
 * (meson setup -Dfuzz=true) and run by tests/run on its corpus, then on
 * mutations of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_FUZZ_H
#define MSC_FUZZ_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not an assertion of GLib's, which a build may leave out. */
static inline void fuzz_must(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* A format has one spelling for each value. */
static inline void fuzz_same(const void *encoded, size_t encoded_len,
                             const void *data, size_t size)
{
    fuzz_must(encoded_len == size && (!size || !memcmp(encoded, data, size)));
}

#endif
