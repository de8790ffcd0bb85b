/*
 * Does the harness see a bug?  Reads one byte past a copy of the input once
 * it begins with "bu".  tests/run fails if this target does not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *copy = g_memdup2(data, size);
    volatile uint8_t byte = 0;

    if (size >= 2 && copy[0] == 'b' && copy[1] == 'u') {
        byte = copy[size];
    }
    (void)byte;
    return 0;
}
