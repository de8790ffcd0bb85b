/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "check.h"

#include "check-message.h"

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
    question = msc_check_question_encode(uuid, admission);
    got = msc_talk_ask(hub, to, question, errp);
    return got && msc_check_answer_decode(got, to, errp);
}

GBytes *msc_check_answer(MscHub *hub, const MscTalkQuestion *question,
                         GError **errp)
{
    g_autoptr(MscTransfer) draft = NULL;
    g_autoptr(GBytes) admission = NULL;
    g_autofree char *peer = NULL;
    char vm[MSC_UUID_STR_LEN + 1];
    uint8_t uuid[MSC_UUID_LEN];

    admission = msc_check_question_decode(question->bytes, uuid, errp);
    if (!admission) {
        return NULL;
    }
    msc_uuid_format(uuid, vm);
    draft = msc_transfer_draft(hub, MSC_ROLE_DESTINATION, vm, errp);
    /* What a migration of this guest would ask of its source. */
    peer = draft ? msc_peer_accept(draft, "", question->address, question->key,
                                   errp)
                 : NULL;
    return peer && msc_destination_check(draft, admission, peer, errp)
               ? msc_check_answer_encode()
               : NULL;
}
