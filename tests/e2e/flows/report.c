/*
 * What the peer says on its standard output.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "flows.h"

#include <stdio.h>

void report(bool verified)
{
    int alive = 0, shown = 0;

    for (int i = 0; i < n_flows; i++) {
        alive += verified ? good(&flows[i]) : is_open(&flows[i]);
    }
    printf("{\"total\": %d, \"%s\": %d, \"kinds\": {", n_flows,
           verified ? "alive" : "open", alive);
    for (int k = 0; k < KINDS; k++) {
        int total = 0, up = 0;

        for (int i = k; i < n_flows; i += KINDS) {
            total++;
            up += verified ? good(&flows[i]) : is_open(&flows[i]);
        }
        printf("%s\"%s\": [%d, %d]", k ? ", " : "", kinds[k].name, up, total);
    }
    printf("}, \"dead\": [");
    for (int i = 0; verified && i < n_flows; i++) {
        const Flow *f = &flows[i];

        if (!good(f)) {
            printf("%s{\"flow\": %d, \"kind\": \"%s\", \"why\": \"%s\"}",
                   shown++ ? ", " : "", i, kinds[i % KINDS].name,
                   f->why[0] ? f->why
                   : f->answered <= f->mark_asked && kind_of(f) != PING
                       ? "no answer came"
                       : "the guest's requests stopped");
        }
    }
    printf("]}\n");
}

bool all_good(void)
{
    for (int i = 0; i < n_flows; i++) {
        if (!good(&flows[i])) {
            return false;
        }
    }
    return true;
}
