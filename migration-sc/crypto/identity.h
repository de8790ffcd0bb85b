/*
 * Who this host is, and whom it trusts.
 *
 * CONFIG/identity.key: mode 0600, [identity], name=, seed= (base64 of the
 * 32-byte Ed25519 seed, RFC 8032), each once and in this order.
 * CONFIG/identity.pub and CONFIG/peers.d/NAME.pub: GKeyFile, [peer] key=
 * (base64 of the Ed25519 public key) and, in peers.d only, address= vm=
 * (lists), role=source|destination|both, expires= (ISO 8601 with a time zone),
 * revoked=true|false.  An unknown or repeated group or key is an error, never
 * ignored.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_IDENTITY_H
#define MSC_CRYPTO_IDENTITY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define MSC_IDENTITY_KEY_LEN 32
#define MSC_SIGNATURE_LEN 64

typedef struct MscIdentity MscIdentity;

/* Makes CONFIG/identity.key and .pub; refuses to replace a key. */
bool msc_identity_create(const char *config_dir, const char *name,
                         GError **errp);
/* Refuses a key file that others may read. */
MscIdentity *msc_identity_load(const char *config_dir, GError **errp);
/* The text of an identity.key. @data stays the caller's to wipe. */
MscIdentity *msc_identity_parse(const char *what, const char *data, size_t len,
                                GError **errp);
/* For tests: in memory only. */
MscIdentity *msc_identity_generate(const char *name, GError **errp);
void msc_identity_free(MscIdentity *identity);
const char *msc_identity_name(const MscIdentity *identity);
const uint8_t *msc_identity_public(const MscIdentity *identity);
void msc_identity_sign(const MscIdentity *identity, const void *msg, size_t len,
                       uint8_t sig[MSC_SIGNATURE_LEN]);
bool msc_identity_verify(const uint8_t key[MSC_IDENTITY_KEY_LEN],
                         const void *msg, size_t len,
                         const uint8_t sig[MSC_SIGNATURE_LEN]);

typedef enum {
    MSC_PEER_MAY_SEND = 1,    /* may be the source */
    MSC_PEER_MAY_RECEIVE = 2, /* may be the destination */
} MscPeerRoles;

typedef struct {
    char *name; /* from the file name */
    uint8_t key[MSC_IDENTITY_KEY_LEN];
    char **addresses; /* empty: any */
    char **vms;       /* UUIDs; empty: any */
    unsigned roles;
    bool revoked;
    int64_t expires; /* seconds since 1970; MSC_PEER_FOREVER */
} MscPeer;

#define MSC_PEER_FOREVER INT64_MAX

void msc_peer_free(MscPeer *peer);
/* Neither revoked nor expired at @now, seconds since 1970? */
bool msc_peer_is_current(const MscPeer *peer, int64_t now, GError **errp);
/* A time as expires= has it. */
bool msc_peer_time_parse(const char *text, int64_t *time);
char *msc_peer_time_format(int64_t time);
/* One file, strictly.  @data need not end in NUL. */
MscPeer *msc_peer_parse(const char *name, const char *data, size_t len,
                        GError **errp);
/* Text of a peers.d file. */
char *msc_peer_format(const MscPeer *peer);
/* All of CONFIG/peers.d, read afresh at each call, so that what is removed,
 * revoked or expired takes effect at once; one bad file, or one key under two
 * names, is an error. */
GPtrArray *msc_peers_load(const char *config_dir, GError **errp);
bool msc_peer_save(const char *config_dir, const MscPeer *peer, GError **errp);
bool msc_peer_remove(const char *config_dir, const char *name, GError **errp);
/* Accepts the text of identity.pub or bare base64. */
bool msc_peer_key_parse(const char *text, uint8_t key[MSC_IDENTITY_KEY_LEN],
                        GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscIdentity, msc_identity_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscPeer, msc_peer_free)

#endif
