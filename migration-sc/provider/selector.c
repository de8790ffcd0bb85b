/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "selector.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <string.h>

#include "error.h"

/* IFNAMSIZ and NFT_NAME_MAXLEN, less the NUL. */
#define DEVICE_MAX 15
#define TABLE_MAX 255

static void table_free(MscNftTableName *table)
{
    g_free(table->name);
    g_free(table);
}

static void interface_free(MscInterface *interface)
{
    g_free(interface->role);
    g_free(interface->device);
    g_free(interface);
}

MscSelector *msc_selector_new(void)
{
    MscSelector *s = g_new0(MscSelector, 1);

    s->addresses = g_array_new(FALSE, FALSE, sizeof(MscAddress));
    s->nat_addresses = g_array_new(FALSE, FALSE, sizeof(MscAddress));
    s->nft_tables = g_ptr_array_new_with_free_func((GDestroyNotify)table_free);
    s->interfaces =
        g_ptr_array_new_with_free_func((GDestroyNotify)interface_free);
    return s;
}

void msc_selector_free(MscSelector *s)
{
    if (s) {
        g_array_unref(s->addresses);
        g_array_unref(s->nat_addresses);
        g_ptr_array_unref(s->nft_tables);
        g_ptr_array_unref(s->interfaces);
        g_free(s);
    }
}

bool msc_address_parse(const char *text, MscAddress *address, GError **errp)
{
    memset(address, 0, sizeof(*address));
    if (inet_pton(AF_INET, text, &address->v4) == 1) {
        address->family = AF_INET;
    } else if (inet_pton(AF_INET6, text, &address->v6) == 1) {
        address->family = AF_INET6;
    } else {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.64s' is not an IPv4 or IPv6 address", text);
        return false;
    }
    return true;
}

char *msc_address_format(const MscAddress *address)
{
    char text[INET6_ADDRSTRLEN];

    inet_ntop(address->family, address->bytes, text, sizeof(text));
    return g_strdup(text);
}

static bool number_parse(const char *text, uint32_t *v)
{
    bool hex = g_str_has_prefix(text, "0x");
    guint64 wide;

    if (!g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0,
                                    UINT32_MAX, &wide, NULL)) {
        return false;
    }
    *v = (uint32_t)wide;
    return true;
}

bool msc_mark_parse(const char *text, uint32_t *mark, uint32_t *mask,
                    GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 3);
    guint n = g_strv_length(parts);

    *mask = UINT32_MAX;
    if (n < 1 || n > 2 || !number_parse(parts[0], mark) ||
        (n == 2 && !number_parse(parts[1], mask)) || !*mask ||
        (*mark & ~*mask)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.64s' is not a mark: VALUE or VALUE/MASK, where VALUE "
                    "lies inside MASK",
                    text);
        return false;
    }
    return true;
}

static const struct {
    uint8_t family;
    const char *name;
} families[] = {
    { NFPROTO_INET, "inet" },     { NFPROTO_IPV4, "ip" },
    { NFPROTO_IPV6, "ip6" },      { NFPROTO_ARP, "arp" },
    { NFPROTO_BRIDGE, "bridge" }, { NFPROTO_NETDEV, "netdev" },
};

const char *msc_nft_family_name(uint8_t family)
{
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        if (families[i].family == family) {
            return families[i].name;
        }
    }
    return NULL;
}

static uint8_t family_parse(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        if (!strcmp(families[i].name, name)) {
            return families[i].family;
        }
    }
    return 0;
}

bool msc_nft_name_is_safe(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!g_ascii_isalpha(name[i]) && name[i] != '_' && name[i] != '.' &&
            (!i ||
             (!g_ascii_isdigit(name[i]) && name[i] != '-' && name[i] != '/'))) {
            return false;
        }
    }
    return len > 0;
}

bool msc_device_is_safe(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!g_ascii_isalnum(name[i]) && !strchr("_.-@", name[i])) {
            return false;
        }
    }
    return len > 0 && len <= DEVICE_MAX;
}

bool msc_selector_add_table(MscSelector *s, const char *text, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, " ", 3);
    guint n = g_strv_length(parts);
    uint8_t family = n == 2 ? family_parse(parts[0]) : 0;
    MscNftTableName *table;

    if (!family || strlen(parts[1]) > TABLE_MAX ||
        !msc_nft_name_is_safe(parts[1], strlen(parts[1]))) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.300s' is not a table: FAMILY NAME, such as "
                    "'inet guest7'",
                    text);
        return false;
    }
    for (guint i = 0; i < s->nft_tables->len; i++) {
        const MscNftTableName *other = s->nft_tables->pdata[i];

        if (other->family == family && !strcmp(other->name, parts[1])) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "table '%s' twice",
                        text);
            return false;
        }
    }
    table = g_new0(MscNftTableName, 1);
    table->family = family;
    table->name = g_strdup(parts[1]);
    g_ptr_array_add(s->nft_tables, table);
    return true;
}

char *msc_nft_table_name_format(const MscNftTableName *table)
{
    return g_strdup_printf("%s %s", msc_nft_family_name(table->family),
                           table->name);
}

static gint by_role(gconstpointer a, gconstpointer b)
{
    const MscInterface *const *x = a, *const *y = b;

    return strcmp((*x)->role, (*y)->role);
}

bool msc_selector_add_interface(MscSelector *s, const char *text, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, "=", 2);
    MscInterface *interface;

    if (g_strv_length(parts) != 2 ||
        !msc_device_is_safe(parts[0], strlen(parts[0])) ||
        !msc_device_is_safe(parts[1], strlen(parts[1]))) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.64s' is not an interface: ROLE=DEVICE, such as "
                    "'lan=tap7'",
                    text);
        return false;
    }
    for (guint i = 0; i < s->interfaces->len; i++) {
        const MscInterface *other = s->interfaces->pdata[i];

        if (!strcmp(other->role, parts[0]) ||
            !strcmp(other->device, parts[1])) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                        "interface '%s': its role or device was named before",
                        text);
            return false;
        }
    }
    interface = g_new0(MscInterface, 1);
    interface->role = g_strdup(parts[0]);
    interface->device = g_strdup(parts[1]);
    g_ptr_array_add(s->interfaces, interface);
    g_ptr_array_sort(s->interfaces, by_role);
    return true;
}

static bool choice_parse(const char *text, const char *const names[2],
                         unsigned *choice, GError **errp)
{
    for (*choice = 0; *choice < 2; ++*choice) {
        if (!strcmp(text, names[*choice])) {
            return true;
        }
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "'%.64s': must be %s or %s",
                text, names[0], names[1]);
    return false;
}

bool msc_nft_existing_parse(const char *text, MscNftExisting *existing,
                            GError **errp)
{
    static const char *const names[2] = { "refuse", "replace" };
    unsigned choice;

    if (!choice_parse(text, names, &choice, errp)) {
        return false;
    }
    *existing = choice ? MSC_NFT_EXISTING_REPLACE : MSC_NFT_EXISTING_REFUSE;
    return true;
}

bool msc_nft_scope_parse(const char *text, MscNftScope *scope, GError **errp)
{
    static const char *const names[2] = { "guest", "host" };
    unsigned choice;

    if (!choice_parse(text, names, &choice, errp)) {
        return false;
    }
    *scope = choice ? MSC_NFT_SCOPE_HOST : MSC_NFT_SCOPE_GUEST;
    return true;
}

bool msc_selector_check(const MscSelector *s, GError **errp)
{
    if (!s->has_zone && !s->has_mark && !s->addresses->len) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                            "no zone, mark or address: nothing says which "
                            "flows are the guest's");
        return false;
    }
    return true;
}
