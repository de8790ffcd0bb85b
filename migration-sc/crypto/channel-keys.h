/*
 * The traffic keys of one channel, as the helper hands them to QEMU.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_CHANNEL_KEYS_H
#define MSC_CRYPTO_CHANNEL_KEYS_H

#include <migration-sc/record.h>

#include "suite.h"

/* Lives in locked memory (base/secret.h) wherever it rests. */
typedef struct {
    uint32_t suite; /* MscSuiteId */
    uint32_t kind;  /* MscChannelKind */
    uint32_t number;
    /* The sender's limits; 0, or more than is allowed: MSC_REKEY_BYTES and
     * MSC_REKEY_RECORDS (wire/format.h). */
    uint64_t rekey_bytes;
    uint64_t rekey_records; /* the receiver's as well; lowered by tests */
    uint8_t send[MSC_SUITE_KEY_MAX];
    uint8_t recv[MSC_SUITE_KEY_MAX];
} MscChannelKeys;

MscSealer *msc_sealer_new(const MscChannelKeys *keys, GError **errp);
MscOpener *msc_opener_new(const MscChannelKeys *keys, GError **errp);

#endif
