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
#include "fault.h"
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
           msc_destination_take(t, "resolved: the guest is here", errp);
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

/* "its migration to 'host1' is thawed: resolved: the guest stays here" */
static char *describe(const MscEntry *entry)
{
    return g_strdup_printf("its migration %s '%s' is %s%s%s",
                           entry->role == MSC_ROLE_SOURCE ? "to" : "from",
                           entry->peer, msc_stage_name(entry->stage),
                           *entry->error ? ": " : "", entry->error);
}

static bool decide(MscTransfer *t, bool here, const char *code, bool force,
                   GError **errp)
{
    return here ? take_guest(t, code, force, errp) : give_guest_up(t, errp);
}

/* Nothing to decide: is it so already? */
static bool is_so(MscTransfer *t, bool here, GError **errp)
{
    g_autofree char *text = describe(t->entry);

    switch (t->entry->stage) {
    case MSC_STAGE_COMMITTED:
    case MSC_STAGE_THAWED:
        if (!here) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                        "guest %s is this host's, which cannot give it up: %s",
                        t->entry->name, text);
        }
        return here;
    case MSC_STAGE_FINISHED:
    case MSC_STAGE_ABORTED:
        if (here) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                        "this host has given guest %s up, and cannot take it "
                        "back: %s",
                        t->entry->name, text);
        }
        return !here;
    default:
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "there is nothing to decide for guest %s: %s",
                    t->entry->name, text);
        return false;
    }
}

static bool resolve(MscTransfer *t, bool here, const char *code, bool force,
                    MscResolved *resolved, GError **errp)
{
    bool source = t->entry->role == MSC_ROLE_SOURCE;
    MscProofKind kind = source ? MSC_PROOF_RELEASE : MSC_PROOF_ABANDON;
    bool open = t->entry->stage == MSC_STAGE_RELEASED ||
                t->entry->stage == MSC_STAGE_READY;

    /* A helper may die once it has decided, and be asked again. */
    if (open ? !decide(t, here, code, force, errp) : !is_so(t, here, errp)) {
        return false;
    }
    resolved->already = !open;
    resolved->text = describe(t->entry);
    resolved->code = here ? NULL : code_text(t->entry->token[kind - 1]);
    return true;
}

/* Says whose the guest is, or will; tokens that are there do not change. */
static bool match_telling(MscTransfer *t, const void *vm)
{
    switch (msc_transfer_seen_stage(t)) {
    case MSC_STAGE_OPEN:
    case MSC_STAGE_TRANSPORT:
    case MSC_STAGE_CLOSED:
        return false;
    case MSC_STAGE_ABORTED:
        /* One that ended in its handshake says nothing of an older one, whose
         * code may be asked for again. */
        if (sodium_is_zero(t->entry->token[MSC_PROOF_ABANDON - 1],
                           MSC_PROOF_TOKEN_LEN)) {
            return false;
        }
        break;
    default:
        break;
    }
    return !strcmp(t->entry->vm, vm);
}

bool msc_hub_resolve(MscHub *hub, const char *vm, bool here, const char *code,
                     bool force, MscResolved *resolved, GError **errp)
{
    g_autoptr(MscTransfer) t = msc_hub_find(hub, msc_transfer_undecided, vm);
    bool ok;

    if (!t) {
        t = msc_hub_find(hub, match_telling, vm);
    }
    if (!t) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "this host knows no migration of guest %s", vm);
        return false;
    }
    msc_transfer_lock(t);
    ok = MSC_FAULT_PASSES(RESOLVE, errp) &&
         resolve(t, here, code, force, resolved, errp);
    MSC_FAULT(RESOLVED);
    msc_transfer_unlock(t);
    return ok;
}

void msc_resolved_clear(MscResolved *resolved)
{
    g_clear_pointer(&resolved->text, g_free);
    g_clear_pointer(&resolved->code, g_free);
}
