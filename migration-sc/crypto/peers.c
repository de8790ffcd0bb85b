/*
 * The trust store: the other hosts, one file each.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "identity.h"
#include "keyfile.h"

#define PEER_SUFFIX ".pub"

static const struct {
    const char *name;
    unsigned roles;
} role_names[] = {
    { "source", MSC_PEER_MAY_SEND },
    { "destination", MSC_PEER_MAY_RECEIVE },
    { "both", MSC_PEER_MAY_SEND | MSC_PEER_MAY_RECEIVE },
};

void msc_peer_free(MscPeer *peer)
{
    if (peer) {
        g_free(peer->name);
        g_strfreev(peer->addresses);
        g_strfreev(peer->vms);
        g_free(peer);
    }
}

bool msc_peer_time_parse(const char *text, int64_t *time)
{
    /* Without a time zone in the text, NULL. */
    g_autoptr(GDateTime) parsed = g_date_time_new_from_iso8601(text, NULL);

    if (!parsed) {
        return false;
    }
    *time = g_date_time_to_unix(parsed);
    return true;
}

char *msc_peer_time_format(int64_t time)
{
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(time);

    return utc ? g_date_time_format_iso8601(utc) : NULL;
}

bool msc_peer_is_current(const MscPeer *peer, int64_t now, GError **errp)
{
    g_autofree char *when = NULL;

    if (peer->revoked) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                    "host '%s' was revoked: see 'migration-sc peer list'",
                    peer->name);
        return false;
    }
    if (now >= peer->expires) {
        when = msc_peer_time_format(peer->expires);
        g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                    "trust in host '%s' expired at %s: renew it with "
                    "'migration-sc peer add --expires' if it still holds",
                    peer->name, when);
        return false;
    }
    return true;
}

static bool get_end(GKeyFile *file, const char *what, MscPeer *peer,
                    GError **errp)
{
    g_autofree char *expires = NULL;
    g_autofree char *revoked = NULL;

    if (!msc_keyfile_string(file, what, "peer", "expires", &expires, errp) ||
        !msc_keyfile_string(file, what, "peer", "revoked", &revoked, errp)) {
        return false;
    }
    peer->expires = MSC_PEER_FOREVER;
    if (expires && !msc_peer_time_parse(expires, &peer->expires)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: expires= must be a time with its zone, such as "
                    "2027-01-31T00:00:00Z",
                    what);
        return false;
    }
    peer->revoked = revoked && !strcmp(revoked, "true");
    if (revoked && !peer->revoked && strcmp(revoked, "false")) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: revoked= must be true or false", what);
        return false;
    }
    return true;
}

static bool key_from_base64(const char *text, uint8_t key[MSC_IDENTITY_KEY_LEN])
{
    size_t got;

    return sodium_base642bin(key, MSC_IDENTITY_KEY_LEN, text, strlen(text),
                             " \t\r\n", &got, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           got == MSC_IDENTITY_KEY_LEN;
}

/*
 * An absent list is empty and means "any".  One that is there but says nothing
 * or cannot be read must not come to mean the same.
 */
static bool get_list(GKeyFile *file, const char *what, const char *key,
                     char ***list, GError **errp)
{
    bool empty;

    if (!g_key_file_has_key(file, "peer", key, NULL)) {
        *list = g_new0(char *, 1);
        return true;
    }
    *list = g_key_file_get_string_list(file, "peer", key, NULL, NULL);
    empty = !*list || !**list;
    for (char **item = *list; item && *item; item++) {
        empty |= !**item;
    }
    if (empty) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: %s= has an empty or unreadable entry; leave the "
                    "whole line out to allow any",
                    what, key);
    }
    return !empty;
}

MscPeer *msc_peer_parse(const char *name, const char *data, size_t len,
                        GError **errp)
{
    static const char *const keys[] = { "key",     "address", "vm", "role",
                                        "expires", "revoked", NULL };
    static const MscKeyFileGroup groups[] = { { "peer", keys }, { 0 } };
    g_autofree char *what = g_strdup_printf("peer '%s'", name);
    g_autoptr(GKeyFile) file = msc_keyfile_parse(what, data, len, groups, errp);
    g_autoptr(MscPeer) peer = g_new0(MscPeer, 1);
    g_autofree char *key = NULL;
    g_autofree char *role = NULL;

    if (!file) {
        return NULL;
    }
    peer->name = g_strdup(name);
    key = g_key_file_get_string(file, "peer", "key", NULL);
    if (!key || !key_from_base64(key, peer->key)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: key= must be a public key of %u bytes in base64", what,
                    MSC_IDENTITY_KEY_LEN);
        return NULL;
    }
    if (!get_list(file, what, "address", &peer->addresses, errp) ||
        !get_list(file, what, "vm", &peer->vms, errp) ||
        !get_end(file, what, peer, errp)) {
        return NULL;
    }
    role = g_key_file_get_string(file, "peer", "role", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(role_names); i++) {
        if (!strcmp(role ? role : "both", role_names[i].name)) {
            peer->roles = role_names[i].roles;
        }
    }
    if (!peer->roles) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: role=%s must be source, destination or both", what,
                    role);
        return NULL;
    }
    return g_steal_pointer(&peer);
}

char *msc_peer_format(const MscPeer *peer)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *key = g_base64_encode(peer->key, sizeof(peer->key));

    g_key_file_set_string(file, "peer", "key", key);
    if (peer->addresses && *peer->addresses) {
        g_key_file_set_string_list(file, "peer", "address",
                                   (const char *const *)peer->addresses,
                                   g_strv_length(peer->addresses));
    }
    if (peer->vms && *peer->vms) {
        g_key_file_set_string_list(file, "peer", "vm",
                                   (const char *const *)peer->vms,
                                   g_strv_length(peer->vms));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(role_names); i++) {
        if (role_names[i].roles == peer->roles) {
            g_key_file_set_string(file, "peer", "role", role_names[i].name);
        }
    }
    if (peer->expires != MSC_PEER_FOREVER) {
        g_autofree char *expires = msc_peer_time_format(peer->expires);

        g_key_file_set_string(file, "peer", "expires", expires);
    }
    if (peer->revoked) {
        g_key_file_set_string(file, "peer", "revoked", "true");
    }
    return g_key_file_to_data(file, NULL, NULL);
}

static bool peer_is_new(GPtrArray *peers, const MscPeer *peer, GError **errp)
{
    for (guint i = 0; i < peers->len; i++) {
        const MscPeer *other = peers->pdata[i];

        if (!memcmp(other->key, peer->key, sizeof(peer->key))) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                        "peers '%s' and '%s' have the same key: remove one",
                        other->name, peer->name);
            return false;
        }
    }
    return true;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    const MscPeer *const *x = a;
    const MscPeer *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static char *peer_path(const char *config_dir, const char *name)
{
    g_autofree char *file = g_strconcat(name, PEER_SUFFIX, NULL);

    return g_build_filename(config_dir, "peers.d", file, NULL);
}

GPtrArray *msc_peers_load(const char *config_dir, GError **errp)
{
    g_autofree char *dir_path = g_build_filename(config_dir, "peers.d", NULL);
    g_autoptr(GPtrArray) peers =
        g_ptr_array_new_with_free_func((GDestroyNotify)msc_peer_free);
    g_autoptr(GDir) dir = NULL;
    const char *file;

    if (!g_file_test(dir_path, G_FILE_TEST_EXISTS)) {
        return g_steal_pointer(&peers);
    }
    dir = g_dir_open(dir_path, 0, errp);
    if (!dir) {
        return NULL;
    }
    while ((file = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(dir_path, file, NULL);
        g_autofree char *name = NULL;
        g_autofree char *data = NULL;
        MscPeer *peer;
        gsize len;

        if (!g_str_has_suffix(file, PEER_SUFFIX) || *file == '.') {
            continue;
        }
        name = g_strndup(file, strlen(file) - strlen(PEER_SUFFIX));
        if (!msc_name_is_safe(name)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                        "'%s': not a peer's name; use letters, digits, '.', "
                        "'_' and '-'",
                        path);
            return NULL;
        }
        if (!g_file_get_contents(path, &data, &len, errp)) {
            return NULL;
        }
        peer = msc_peer_parse(name, data, len, errp);
        if (!peer) {
            return NULL;
        }
        if (!peer_is_new(peers, peer, errp)) {
            msc_peer_free(peer);
            return NULL;
        }
        g_ptr_array_add(peers, peer);
    }
    g_ptr_array_sort(peers, by_name);
    return g_steal_pointer(&peers);
}

bool msc_peer_save(const char *config_dir, const MscPeer *peer, GError **errp)
{
    g_autoptr(GPtrArray) peers = NULL;
    g_autofree char *path = peer_path(config_dir, peer->name);
    g_autofree char *text = msc_peer_format(peer);

    if (!msc_name_is_safe(peer->name)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.80s' cannot be a peer's name: use letters, digits, "
                    "'.', '_' and '-'",
                    peer->name);
        return false;
    }
    peers = msc_peers_load(config_dir, errp);
    if (!peers) {
        return false;
    }
    for (guint i = peers->len; i; i--) {
        const MscPeer *other = peers->pdata[i - 1];

        if (!strcmp(other->name, peer->name)) {
            if (other->revoked && !peer->revoked) {
                g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                            "peer '%s' was revoked: remove it first if you "
                            "trust it again",
                            peer->name);
                return false;
            }
            g_ptr_array_remove_index(peers, i - 1);
        }
    }
    return peer_is_new(peers, peer, errp) &&
           msc_file_replace(path, text, 0644, errp);
}

bool msc_peer_remove(const char *config_dir, const char *name, GError **errp)
{
    g_autofree char *path = NULL;

    if (!msc_name_is_safe(name)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.80s' is not a peer's name", name);
        return false;
    }
    path = peer_path(config_dir, name);
    if (unlink(path)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "cannot remove peer '%s': %s", name, g_strerror(errno));
        return false;
    }
    return true;
}

bool msc_peer_key_parse(const char *text, uint8_t key[MSC_IDENTITY_KEY_LEN],
                        GError **errp)
{
    g_autoptr(MscPeer) peer = NULL;

    if (key_from_base64(text, key)) {
        return true;
    }
    peer = msc_peer_parse("(given)", text, strlen(text), errp);
    if (peer) {
        memcpy(key, peer->key, MSC_IDENTITY_KEY_LEN);
    }
    return peer != NULL;
}
