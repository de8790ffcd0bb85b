/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "check.h"

#include <string.h>

#include "error.h"
#include "talk.h"

#define CHECK_MAGIC 0x4d534343u /* "MSCC" */
#define CHECK_VERSION 1
#define WILLING 1

static GBytes *question_encode(const uint8_t vm[MSC_UUID_LEN],
                               GBytes *admission)
{
    GByteArray *out = g_byte_array_new();

    msc_put_u32(out, CHECK_MAGIC);
    msc_put_u8(out, CHECK_VERSION);
    for (int i = 0; i < 3; i++) {
        msc_put_u8(out, 0);
    }
    msc_put_bytes(out, vm, MSC_UUID_LEN);
    msc_put_bytes(out, g_bytes_get_data(admission, NULL),
                  g_bytes_get_size(admission));
    return g_byte_array_free_to_bytes(out);
}

bool msc_check_is_question(GBytes *request)
{
    uint32_t magic;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(request, NULL),
                    g_bytes_get_size(request));
    return msc_reader_u32(&r, &magic) && magic == CHECK_MAGIC;
}

/* The admission request; @vm: the guest's UUID as text. */
static GBytes *question_decode(GBytes *request, char vm[MSC_UUID_STR_LEN + 1],
                               GError **errp)
{
    static const uint8_t zero[3];
    const uint8_t *uuid, *got, *admission;
    uint8_t version;
    uint32_t magic;
    size_t len;
    MscReader r;

    msc_reader_init(&r, g_bytes_get_data(request, NULL),
                    g_bytes_get_size(request));
    if (!msc_reader_u32(&r, &magic) || magic != CHECK_MAGIC ||
        !msc_reader_u8(&r, &version) || version != CHECK_VERSION ||
        !msc_reader_view(&r, &got, sizeof(zero)) ||
        memcmp(got, zero, sizeof(zero)) ||
        !msc_reader_view(&r, &uuid, MSC_UUID_LEN)) {
        msc_reader_error(&r, errp, "check", "malformed question");
        return NULL;
    }
    msc_uuid_format(uuid, vm);
    len = msc_reader_left(&r);
    msc_reader_view(&r, &admission, len);
    return g_bytes_new(admission, len);
}

bool msc_check_ask(MscHub *hub, const char *vm, const char *to, GError **errp)
{
    g_autoptr(MscTransfer) draft =
        msc_transfer_draft(hub, MSC_ROLE_SOURCE, vm, errp);
    g_autoptr(GBytes) admission = NULL;
    g_autoptr(GBytes) question = NULL;
    g_autoptr(GBytes) got = NULL;
    uint8_t uuid[MSC_UUID_LEN];

    if (!draft || !msc_uuid_parse(vm, uuid, errp) ||
        !(admission = msc_source_admission(draft, errp))) {
        return false;
    }
    question = question_encode(uuid, admission);
    got = msc_talk_ask(hub, to, question, errp);
    if (got && (g_bytes_get_size(got) != 1 ||
                *(const uint8_t *)g_bytes_get_data(got, NULL) != WILLING)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                    "check: malformed answer of '%s'", to);
        return false;
    }
    return got != NULL;
}

GBytes *msc_check_answer(MscHub *hub, GBytes *request, const char *address,
                         const uint8_t key[MSC_IDENTITY_KEY_LEN], GError **errp)
{
    static const uint8_t willing = WILLING;
    g_autoptr(MscTransfer) draft = NULL;
    g_autoptr(GBytes) admission = NULL;
    g_autofree char *peer = NULL;
    char vm[MSC_UUID_STR_LEN + 1];

    admission = question_decode(request, vm, errp);
    draft = admission ? msc_transfer_draft(hub, MSC_ROLE_DESTINATION, vm, errp)
                      : NULL;
    /* What a migration of this guest would ask of its source. */
    peer = draft ? msc_peer_accept(draft, "", address, key, errp) : NULL;
    return peer && msc_destination_check(draft, admission, peer, errp)
               ? g_bytes_new(&willing, sizeof(willing))
               : NULL;
}
