/*
 * The end of a migration that was cut off, decided by the operator.
 *
 * Two hosts must not decide for themselves at the same time: RELEASE may
 * still be under way when the source takes the guest back.  So the host that
 * shall not have it gives it up first and gets a code; only with that code
 * does the other host take it.  The codes are tokens of the proofs RELEASE
 * and ABANDON (wire/proof.h): nobody but the other helper has them, and it
 * hands one out only once it can no longer take the guest.  tests/model has
 * the search that shows why ("CARELESS").
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include <sodium.h>
#include <string.h>

#include "error.h"
#include "secret.h"

static char *code_text(const uint8_t token[MSC_PROOF_TOKEN_LEN])
{
    char *text = g_malloc0(2 * MSC_PROOF_TOKEN_LEN + 1);

    return sodium_bin2hex(text, 2 * MSC_PROOF_TOKEN_LEN + 1, token,
                          MSC_PROOF_TOKEN_LEN);
}

/* The code is the other host's @kind; an absent one needs @force. */
static bool code_allows(MscTransfer *t, MscProofKind kind, const char *code,
                        bool force, GError **errp)
{
    const uint8_t *commitment = t->entry->commitment[kind - 1];
    uint8_t token[MSC_PROOF_TOKEN_LEN], seen[MSC_COMMITMENT_LEN];
    bool right;
    size_t len;

    if (!code && force) {
        return true;
    }
    if (!code) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                    "'%s' may still take the guest; say 'migration-sc resolve "
                    "%s --there' on it first and give its code here, or "
                    "--force if it will never run again",
                    t->entry->peer, t->entry->vm);
        return false;
    }
    right = !sodium_hex2bin(token, sizeof(token), code, strlen(code), NULL,
                            &len, NULL) &&
            len == sizeof(token) && strlen(code) == 2 * sizeof(token);
    if (right) {
        msc_proof_commit(kind, token, seen);
        right = !sodium_memcmp(seen, commitment, sizeof(seen));
    }
    msc_wipe(token, sizeof(token));
    if (!right) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_AUTH,
                    "this is not the code that '%s' gives for this migration "
                    "of guest %s; nothing was changed",
                    t->entry->peer, t->entry->name);
    }
    return right;
}

static bool take_guest(MscTransfer *t, const char *code, bool force,
                       GError **errp)
{
    if (t->entry->stage == MSC_STAGE_RELEASED) {
        return code_allows(t, MSC_PROOF_ABANDON, code, force, errp) &&
               msc_source_give_up(t, "resolved: the guest stays here", errp);
    }
    return code_allows(t, MSC_PROOF_RELEASE, code, force, errp) &&
           msc_destination_take(t, errp);
}

static bool give_guest_up(MscTransfer *t, GError **errp)
{
    if (t->entry->stage == MSC_STAGE_RELEASED) {
        msc_source_let_go(t, "resolved: the guest is on the other host");
        return true;
    }
    return msc_destination_undo(t,
                                "resolved: the guest stays on the other "
                                "host",
                                errp);
}

static bool resolvable(const MscTransfer *t, bool here)
{
    switch (t->entry->stage) {
    case MSC_STAGE_RELEASED:
    case MSC_STAGE_READY:
        return true;
    case MSC_STAGE_FINISHED:
    case MSC_STAGE_ABORTED:
        /* Given up already: the code may be asked for again. */
        return !here;
    default:
        return false;
    }
}

bool msc_transfer_resolve(MscTransfer *t, bool here, const char *code,
                          bool force, char **given, GError **errp)
{
    bool source = t->entry->role == MSC_ROLE_SOURCE;
    MscProofKind kind = source ? MSC_PROOF_RELEASE : MSC_PROOF_ABANDON;

    *given = NULL;
    if (!resolvable(t, here)) {
        /* It ended while the operator made up their mind. */
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "the migration of guest %s has ended meanwhile: it is %s",
                    t->entry->name, msc_stage_name(t->entry->stage));
        return false;
    }
    if (here) {
        return take_guest(t, code, force, errp);
    }
    if (!msc_stage_is_final(t->entry->stage) && !give_guest_up(t, errp)) {
        return false;
    }
    *given = code_text(t->entry->token[kind - 1]);
    return true;
}
