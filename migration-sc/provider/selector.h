/*
 * Which of a host's entries belong to one guest.
 *
 * An entry belongs to the guest if it matches every kind of criterion that
 * is set: the zone; one of the addresses, in either direction's tuple, before
 * or after NAT; the mark under its mask.  A selector without any criterion is
 * invalid: it would select the whole host.
 *
 * nat_addresses move with the guest (the network brings them to its new
 * host); any other address that NAT uses stays with the old host.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_SELECTOR_H
#define MSC_PROVIDER_SELECTOR_H

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint8_t family;             /* AF_INET or AF_INET6 */
    union {
        struct in_addr v4;
        struct in6_addr v6;
        uint8_t bytes[16];      /* network byte order; first 4 for v4 */
    };
} MscAddress;

typedef enum {
    MSC_NAT_REFUSE,             /* flows that cannot survive refuse the migration */
    MSC_NAT_LEAVE_BEHIND,       /* exactly those flows stay on the source */
} MscNatPolicy;

typedef struct {
    bool has_zone;
    uint16_t zone;
    bool has_mark;
    uint32_t mark, mark_mask;
    GArray *addresses;          /* of MscAddress */
    GArray *nat_addresses;      /* of MscAddress */
    MscNatPolicy nat_policy;
} MscSelector;

MscSelector *msc_selector_new(void);
void msc_selector_free(MscSelector *selector);
bool msc_address_parse(const char *text, MscAddress *address, GError **errp);
char *msc_address_format(const MscAddress *address);
/* "V" or "V/MASK", decimal or 0x hexadecimal. */
bool msc_mark_parse(const char *text, uint32_t *mark, uint32_t *mask,
                    GError **errp);
/* False if no criterion is set. */
bool msc_selector_check(const MscSelector *selector, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscSelector, msc_selector_free)

#endif
