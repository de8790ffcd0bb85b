/*
 * Seals one message with the suite of that name, or, with a second argument,
 * twice.  check-reads-once watches which bytes of the message are loaded.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "suite.h"

/* Where the message lies: the script looks for loads from here. */
#define ADDRESS ((void *)0x20000000)
/* Several turns of any inner loop, and a broken block at the end. */
#define LEN (3 * 4096 + 17)

int main(int argc, char **argv)
{
    static uint8_t out[LEN + MSC_SUITE_TAG_MAX];
    const uint8_t key[MSC_SUITE_KEY_MAX] = { 1 };
    const uint8_t nonce[MSC_SUITE_NONCE_MAX] = { 2 };
    const uint8_t ad[8] = { 3 };
    const MscSuite *suite = argc > 1 ? msc_suite_by_name(argv[1]) : NULL;
    uint8_t *message =
        mmap(ADDRESS, LEN, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (argc < 2) {
        for (const MscSuite *const *s = msc_suites(); *s; s++) {
            if ((*s)->encrypts) {
                puts((*s)->name);
            }
        }
        return 0;
    }
    if (!suite || message != ADDRESS) {
        fprintf(stderr, "no such suite, or no such address\n");
        return 1;
    }
    for (int i = 0; i < argc - 1; i++) {
        suite->seal(out, message, LEN, ad, sizeof(ad), nonce, key);
    }
    return 0;
}
