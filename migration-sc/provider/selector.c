/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "selector.h"

#include <arpa/inet.h>
#include <string.h>

#include "error.h"

MscSelector *msc_selector_new(void)
{
    MscSelector *s = g_new0(MscSelector, 1);

    s->addresses = g_array_new(FALSE, FALSE, sizeof(MscAddress));
    s->nat_addresses = g_array_new(FALSE, FALSE, sizeof(MscAddress));
    return s;
}

void msc_selector_free(MscSelector *s)
{
    if (s) {
        g_array_unref(s->addresses);
        g_array_unref(s->nat_addresses);
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
                    "lies inside MASK", text);
        return false;
    }
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
