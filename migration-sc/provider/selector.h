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
 * nft_tables are the guest's own, whole; what is in them may name no interface
 * but those in interfaces, where each host says what its device is called.
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
    uint8_t family; /* AF_INET or AF_INET6 */
    union {
        struct in_addr v4;
        struct in6_addr v6;
        uint8_t bytes[16]; /* network byte order; first 4 for v4 */
    };
} MscAddress;

typedef enum {
    MSC_NAT_REFUSE,       /* flows that cannot survive refuse the migration */
    MSC_NAT_LEAVE_BEHIND, /* exactly those flows stay on the source */
} MscNatPolicy;

typedef enum {
    MSC_NFT_EXISTING_REFUSE, /* a table that is here already, and differs */
    MSC_NFT_EXISTING_REPLACE,
} MscNftExisting;

typedef enum {
    MSC_NFT_SCOPE_GUEST, /* moved rules may touch its packets alone */
    MSC_NFT_SCOPE_HOST,  /* any packet */
} MscNftScope;

typedef struct {
    uint8_t family; /* NFPROTO_* */
    char *name;
} MscNftTableName;

typedef struct {
    char *role;   /* the same on every host */
    char *device; /* on this one */
} MscInterface;

typedef struct {
    bool has_zone;
    uint16_t zone;
    bool has_mark;
    uint32_t mark, mark_mask;
    GArray *addresses;     /* of MscAddress */
    GArray *nat_addresses; /* of MscAddress */
    MscNatPolicy nat_policy;
    GPtrArray *nft_tables; /* of MscNftTableName* */
    GPtrArray *interfaces; /* of MscInterface*, ascending by role */
    MscNftExisting nft_existing;
    MscNftScope nft_scope;
} MscSelector;

MscSelector *msc_selector_new(void);
void msc_selector_free(MscSelector *selector);
bool msc_address_parse(const char *text, MscAddress *address, GError **errp);
char *msc_address_format(const MscAddress *address);
/* "V" or "V/MASK", decimal or 0x hexadecimal. */
bool msc_mark_parse(const char *text, uint32_t *mark, uint32_t *mask,
                    GError **errp);
/* "FAMILY NAME", as nft has it; one that is there already is an error. */
bool msc_selector_add_table(MscSelector *selector, const char *text,
                            GError **errp);
/* "inet", or NULL if no table can have it. */
const char *msc_nft_family_name(uint8_t family);
/* An identifier as nft's parser has it: nothing that nft prints of it can be
 * read as something else. */
bool msc_nft_name_is_safe(const char *name, size_t len);
bool msc_device_is_safe(const char *name, size_t len);
char *msc_nft_table_name_format(const MscNftTableName *table);
/* "ROLE=DEVICE"; both once only. */
bool msc_selector_add_interface(MscSelector *selector, const char *text,
                                GError **errp);
/* "refuse" or "replace", "guest" or "host". */
bool msc_nft_existing_parse(const char *text, MscNftExisting *existing,
                            GError **errp);
bool msc_nft_scope_parse(const char *text, MscNftScope *scope, GError **errp);
/* False if no criterion is set. */
bool msc_selector_check(const MscSelector *selector, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscSelector, msc_selector_free)

#endif
