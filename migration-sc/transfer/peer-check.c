/*
 * Who may be at the other end of a migration.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>

#include "error.h"
#include "identity.h"

typedef struct {
    const MscTransfer *t;
    const char *expected; /* QEMU's wish, or "" */
    const char *address;  /* or NULL: a Unix socket */
} Place;

/* Text of the address at the other end, NULL if it has none. */
char *msc_remote_address(int fd)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t len = sizeof(ss);
    char text[INET6_ADDRSTRLEN];
    const void *addr;

    if (getpeername(fd, (struct sockaddr *)&ss, &len)) {
        return NULL;
    }
    if (ss.ss_family == AF_INET) {
        addr = &((struct sockaddr_in *)&ss)->sin_addr;
    } else if (ss.ss_family == AF_INET6) {
        const struct in6_addr *v6 = &((struct sockaddr_in6 *)&ss)->sin6_addr;

        addr = v6;
        if (IN6_IS_ADDR_V4MAPPED(v6)) {
            ss.ss_family = AF_INET;
            addr = v6->s6_addr + 12;
        }
    } else {
        return NULL;
    }
    inet_ntop(ss.ss_family, addr, text, sizeof(text));
    return g_strdup(text);
}

static const MscPeer *only_receiver(GPtrArray *peers)
{
    const MscPeer *found = NULL;

    for (guint i = 0; i < peers->len; i++) {
        const MscPeer *peer = peers->pdata[i];

        if (peer->roles & MSC_PEER_MAY_RECEIVE) {
            if (found) {
                return NULL;
            }
            found = peer;
        }
    }
    return found;
}

/* Which host must be at the other end, if anything says so. */
static const char *expected_peer(const Place *at, GPtrArray *peers)
{
    if (*at->expected) {
        return at->expected;
    }
    if (at->t->vm->peer) {
        return at->t->vm->peer;
    }
    for (guint i = 0; at->address && i < peers->len; i++) {
        const MscPeer *peer = peers->pdata[i];

        if (g_strv_contains((const char *const *)peer->addresses,
                            at->address)) {
            return peer->name;
        }
    }
    return NULL;
}

static bool peer_refused(GError **errp, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

static bool peer_refused(GError **errp, const char *format, ...)
{
    g_autofree char *why = NULL;
    va_list args;

    va_start(args, format);
    why = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH, why);
    return false;
}

static bool address_fits(const MscPeer *peer, const char *address,
                         GError **errp)
{
    if (*peer->addresses &&
        (!address ||
         !g_strv_contains((const char *const *)peer->addresses, address))) {
        return peer_refused(errp,
                            "host '%s' may not be at %s: see "
                            "'migration-sc peer list'",
                            peer->name,
                            address ? address : "a socket without an address");
    }
    return true;
}

static bool peer_fits(const Place *at, const MscPeer *peer, GPtrArray *peers,
                      GError **errp)
{
    bool source = at->t->entry->role == MSC_ROLE_SOURCE;
    unsigned needed = source ? MSC_PEER_MAY_RECEIVE : MSC_PEER_MAY_SEND;
    const char *expected = expected_peer(at, peers);

    if (!msc_peer_is_current(peer, g_get_real_time() / G_USEC_PER_SEC, errp)) {
        return false;
    }
    if (expected && strcmp(expected, peer->name)) {
        return peer_refused(errp,
                            "the other end is host '%s', but '%s' is "
                            "expected: a trusted host is still the wrong one",
                            peer->name, expected);
    }
    /* QEMU may narrow what root registered, never widen it. */
    if (at->t->vm->peer && strcmp(at->t->vm->peer, peer->name)) {
        return peer_refused(errp,
                            "guest %s is registered for host '%s', not "
                            "'%s'",
                            at->t->vm->name, at->t->vm->peer, peer->name);
    }
    if (!expected && source && only_receiver(peers) != peer) {
        return peer_refused(errp,
                            "nothing says which host is expected at %s: "
                            "give the peer an address, the guest a peer, or "
                            "the migration-sc object a peer property",
                            at->address ? at->address : "a Unix socket");
    }
    if (!address_fits(peer, at->address, errp)) {
        return false;
    }
    if (!(peer->roles & needed)) {
        return peer_refused(errp,
                            "host '%s' may not be the %s of a "
                            "migration: see 'migration-sc peer add --role'",
                            peer->name, source ? "destination" : "source");
    }
    if (*peer->vms &&
        !g_strv_contains((const char *const *)peer->vms, at->t->vm->uuid)) {
        return peer_refused(errp,
                            "host '%s' may not take part in migrations "
                            "of guest %s: see 'migration-sc peer add --vm'",
                            peer->name, at->t->vm->name);
    }
    return true;
}

static const MscPeer *find_key(GPtrArray *peers,
                               const uint8_t key[MSC_IDENTITY_KEY_LEN],
                               GError **errp)
{
    g_autofree char *text = NULL;

    for (guint i = 0; i < peers->len; i++) {
        const MscPeer *peer = peers->pdata[i];

        if (!sodium_memcmp(peer->key, key, MSC_IDENTITY_KEY_LEN)) {
            return peer;
        }
    }
    text = g_base64_encode(key, MSC_IDENTITY_KEY_LEN);
    peer_refused(errp,
                 "unknown host with key %s: add it with 'migration-sc "
                 "peer add NAME %s' if you trust it",
                 text, text);
    return NULL;
}

char *msc_peer_identify(const MscHub *hub, const char *address,
                        const uint8_t key[MSC_IDENTITY_KEY_LEN], GError **errp)
{
    g_autoptr(GPtrArray) peers = msc_peers_load(msc_hub_config_dir(hub), errp);
    const MscPeer *peer = peers ? find_key(peers, key, errp) : NULL;

    return peer &&
                   msc_peer_is_current(peer, g_get_real_time() / G_USEC_PER_SEC,
                                       errp) &&
                   address_fits(peer, address, errp)
               ? g_strdup(peer->name)
               : NULL;
}

char *msc_peer_accept(const MscTransfer *t, const char *expected,
                      const char *address,
                      const uint8_t key[MSC_IDENTITY_KEY_LEN], GError **errp)
{
    const Place at = { t, expected, address };
    /* Read afresh: a removed, revoked or expired peer is refused from now
     * on. */
    g_autoptr(GPtrArray) peers =
        msc_peers_load(msc_hub_config_dir(t->hub), errp);
    const MscPeer *peer = peers ? find_key(peers, key, errp) : NULL;

    return peer && peer_fits(&at, peer, peers, errp) ? g_strdup(peer->name)
                                                     : NULL;
}
