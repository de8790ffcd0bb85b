/*
 * The handoff as a table: who may do what, when.
 *
 * The point of no return is the row RELEASE: before it the source can always
 * THAW; after it, it never can, and only the other host's DONE, a verdict or
 * the operator ends the migration.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "transfer.h"

#include "error.h"

#define AT(stage) (1u << MSC_STAGE_##stage)

typedef struct {
    uint16_t type;
    MscRole role;
    unsigned allowed; /* stages; a repeat is allowed where it is safe */
    bool (*run)(MscTransfer *t, const GByteArray *in, GByteArray *out,
                GError **errp);
} Row;

static const Row rows[] = {
    { MSC_MSG_PRECOPY, MSC_ROLE_SOURCE, AT(OPEN), msc_transfer_offer_precopy },
    { MSC_MSG_BATCH, MSC_ROLE_SOURCE, AT(ADMITTED), msc_source_batch },
    { MSC_MSG_FREEZE, MSC_ROLE_SOURCE, AT(ADMITTED), msc_source_freeze },
    { MSC_MSG_COLLECT, MSC_ROLE_SOURCE, AT(FROZEN), msc_source_collect },
    { MSC_MSG_RELEASE, MSC_ROLE_SOURCE, AT(FROZEN) | AT(RELEASED),
      msc_source_release },
    { MSC_MSG_FINISH, MSC_ROLE_SOURCE, AT(RELEASED) | AT(FINISHED),
      msc_source_finish },
    { MSC_MSG_THAW, MSC_ROLE_SOURCE,
      AT(OPEN) | AT(ADMITTED) | AT(FROZEN) | AT(THAWED) | AT(TRANSPORT),
      msc_source_thaw },

    { MSC_MSG_PRECOPY, MSC_ROLE_DESTINATION, AT(OPEN),
      msc_transfer_offer_precopy },
    { MSC_MSG_STAGE, MSC_ROLE_DESTINATION, AT(ADMITTED) | AT(STAGED),
      msc_destination_stage },
    { MSC_MSG_VALIDATE, MSC_ROLE_DESTINATION, AT(ADMITTED) | AT(STAGED),
      msc_destination_validate },
    { MSC_MSG_READY, MSC_ROLE_DESTINATION, AT(STAGED), msc_destination_ready },
    { MSC_MSG_COMMIT, MSC_ROLE_DESTINATION, AT(READY) | AT(COMMITTED),
      msc_destination_commit },
    { MSC_MSG_ABORT, MSC_ROLE_DESTINATION,
      AT(OPEN) | AT(ADMITTED) | AT(STAGED) | AT(READY) | AT(ABORTED) |
          AT(TRANSPORT),
      msc_destination_abort },
};

bool msc_transfer_run(MscTransfer *t, uint16_t type, const GByteArray *in,
                      GByteArray *out, GError **errp)
{
    const Row *row = NULL;
    bool ok = false;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].type == type && rows[i].role == t->entry->role) {
            row = &rows[i];
        }
    }
    if (!row) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "%s is not for the %s of a migration",
                    msc_message_name(type),
                    t->entry->role == MSC_ROLE_SOURCE ? "source"
                                                      : "destination");
        return false;
    }
    msc_transfer_lock(t);
    if (row->allowed & (1u << t->entry->stage)) {
        ok = row->run(t, in, out, errp);
    } else if (t->entry->stage == MSC_STAGE_RELEASED ||
               t->entry->stage == MSC_STAGE_READY) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "%s comes too late: the guest may be running on '%s' "
                    "already; 'migration-sc resolve' decides",
                    msc_message_name(type), t->entry->peer);
    } else {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "%s is out of order: the migration is %s%s%s",
                    msc_message_name(type), msc_stage_name(t->entry->stage),
                    *t->entry->error ? ": " : "", t->entry->error);
    }
    msc_transfer_unlock(t);
    return ok;
}
