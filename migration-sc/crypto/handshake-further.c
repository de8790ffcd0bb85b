/*
 * Further channels of a session: one round trip, no public-key work.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <sodium.h>
#include <string.h>

#include "error.h"
#include "handshake-private.h"

static void derive_keys(MscHandshake *hs, const uint8_t *reply, size_t len)
{
    bool source = hs->config.role == MSC_ROLE_SOURCE;
    MscChannelKeys *keys = &hs->secret->keys;
    const uint8_t *secret = hs->secret->channel_secret;
    g_autoptr(GByteArray) both = g_byte_array_new();

    msc_put_bytes(both, hs->sent->data, hs->sent->len);
    msc_put_bytes(both, reply, len);
    keys->suite = hs->suite;
    keys->kind = hs->kind;
    keys->number = hs->number;
    msc_kdf(source ? keys->send : keys->recv, MSC_SUITE_KEY_MAX, secret,
            "further source traffic", both->data, both->len);
    msc_kdf(source ? keys->recv : keys->send, MSC_SUITE_KEY_MAX, secret,
            "further destination traffic", both->data, both->len);
    hs->state = HS_FINISHED;
}

static void put_nonce(GByteArray *out)
{
    uint8_t nonce[HS_NONCE_LEN];

    randombytes_buf(nonce, sizeof(nonce));
    msc_put_bytes(out, nonce, sizeof(nonce));
}

static bool mac_is(const MscHandshake *hs, const char *label,
                   const GByteArray *covered, const uint8_t *mac)
{
    uint8_t want[HS_MAC_LEN];

    msc_kdf(want, sizeof(want), hs->secret->channel_secret, label,
            covered->data, covered->len);
    return !sodium_memcmp(want, mac, sizeof(want));
}

static void put_mac(const MscHandshake *hs, const char *label,
                    const GByteArray *covered, GByteArray *out)
{
    uint8_t mac[HS_MAC_LEN];

    msc_kdf(mac, sizeof(mac), hs->secret->channel_secret, label, covered->data,
            covered->len);
    msc_put_bytes(out, mac, sizeof(mac));
}

MscStep hs_further_start(MscHandshake *hs, GByteArray *out)
{
    hs_begin(out, HS_FURTHER);
    msc_put_u32(out, MSC_TRANSPORT_MAGIC);
    msc_put_u16(out, MSC_TRANSPORT_VERSION);
    msc_put_bytes(out, hs->migration_id, sizeof(hs->migration_id));
    msc_put_u8(out, (uint8_t)hs->kind);
    msc_put_u32(out, hs->number);
    msc_put_u32(out, hs->epoch);
    put_nonce(out);
    put_mac(hs, "further source", out, out);
    msc_put_bytes(hs->sent, out->data, out->len);
    hs->state = HS_WAIT_FURTHER_OK;
    return MSC_STEP_CONTINUE;
}

MscStep hs_further_request(MscHandshake *hs, const uint8_t *in, size_t len,
                           GByteArray *out, GError **errp)
{
    g_autoptr(GByteArray) covered = g_byte_array_new();
    uint8_t id[MSC_MIGRATION_ID_LEN], kind, head[2];
    const uint8_t *nonce, *mac;
    uint16_t version;
    uint32_t magic;
    MscReader r;

    msc_reader_init(&r, in, len);
    if (!msc_reader_copy(&r, head, sizeof(head)) ||
        !msc_reader_u32(&r, &magic) || magic != MSC_TRANSPORT_MAGIC ||
        !msc_reader_u16(&r, &version) || version != MSC_TRANSPORT_VERSION ||
        !msc_reader_copy(&r, id, sizeof(id)) || !msc_reader_u8(&r, &kind) ||
        kind <= MSC_CHANNEL_MAIN || kind > MSC_CHANNEL_RECOVERED ||
        !msc_reader_u32(&r, &hs->number) || !msc_reader_u32(&r, &hs->epoch) ||
        !msc_reader_view(&r, &nonce, HS_NONCE_LEN) ||
        !msc_reader_view(&r, &mac, HS_MAC_LEN) || msc_reader_left(&r)) {
        msc_reader_error(&r, errp, "handshake", "malformed FURTHER");
        return MSC_STEP_FAILED;
    }
    hs->kind = kind;
    msc_put_bytes(covered, in, len - HS_MAC_LEN);
    if (memcmp(id, hs->migration_id, sizeof(id)) ||
        !mac_is(hs, "further source", covered, mac)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH,
                            "handshake: a channel that belongs to another "
                            "migration, or to nobody");
        return MSC_STEP_FAILED;
    }
    msc_put_bytes(hs->sent, in, len);

    hs_begin(out, HS_FURTHER_OK);
    put_nonce(out);
    g_byte_array_set_size(covered, 0);
    msc_put_bytes(covered, in, len);
    msc_put_bytes(covered, out->data, out->len);
    put_mac(hs, "further destination", covered, out);
    derive_keys(hs, out->data, out->len);
    return MSC_STEP_DONE;
}

MscStep hs_further_reply(MscHandshake *hs, const uint8_t *in, size_t len,
                         GError **errp)
{
    g_autoptr(GByteArray) covered = g_byte_array_new();

    if (len != 2 + HS_NONCE_LEN + HS_MAC_LEN) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "handshake: malformed FURTHER_OK");
        return MSC_STEP_FAILED;
    }
    msc_put_bytes(covered, hs->sent->data, hs->sent->len);
    msc_put_bytes(covered, in, len - HS_MAC_LEN);
    if (!mac_is(hs, "further destination", covered, in + len - HS_MAC_LEN)) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_AUTH,
                            "handshake: the answer for a further channel is "
                            "not from the host of this migration");
        return MSC_STEP_FAILED;
    }
    derive_keys(hs, in, len);
    return MSC_STEP_DONE;
}
