/*
 * One side of one migration, and the hub that holds all of them.
 *
 * The verbs follow the handoff: admission, freeze, collect, release, finish
 * or thaw on the source; admit, stage, validate, commit or abort on the
 * destination.  transfer/stages.c has the table that says which verb is
 * allowed when.  A verb blocks as long as its providers do; verbs of one
 * transfer are serialized by its lock, which callers hold (msc_transfer_run,
 * msc_hub_resolve and so on take it).  Role, guest and token never change.
 * Which file calls which: docs/tour.md.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_TRANSFER_H
#define MSC_TRANSFER_TRANSFER_H

#include "admission.h"
#include "config.h"
#include "context.h"
#include "handshake.h"
#include "helper-messages.h"
#include "journal.h"
#include "provider.h"
#include "seal.h"
#include "sections.h"
#include "vm.h"

typedef struct MscHub MscHub;

typedef struct {
    gint refs;
    MscHub *hub;
    GMutex lock;
    MscEntry *entry;
    MscVm *vm;
    uint8_t token[MSC_TOKEN_LEN]; /* what QEMU shows for further channels */
    bool transport_only;          /* no context; never changes */
    gint connected;               /* atomic: a QEMU is behind it */
    gint64 asked_us;              /* monotonic: its QEMU's last question */
    gint64 alone_us;              /* monotonic: no connection since then */
    bool unwanted;                /* its QEMU cannot run the guest */
    /* Copies of *entry, and atomic ones of entry->stage and of
     * (context != NULL), as of the last msc_transfer_unlock(): for the hub,
     * which must not wait for a verb. */
    GMutex seen_lock;
    MscEntry *seen_entry;
    gint seen_stage;
    gint seen_context;

    /* After the full handshake. */
    MscSession *session;
    GHashTable *epochs; /* channel kind and number -> last epoch */

    /* Pre-copy (ahead.h). */
    bool carries_batches; /* its QEMU does */
    GPtrArray *ahead;     /* of MscAheadPart: what both ends can send ahead */

    /* Source. */
    guint turn;        /* which part is asked for a batch next */
    bool retire_later; /* DONE came; msc_transfer_after_reply() is due */
    MscContextSealer *sealer;
    GPtrArray *answers;  /* sections: the destination's checks */
    GPtrArray *sections; /* what was collected */
    GQueue *chunks;      /* sealed, to be given to QEMU */

    /* Destination. */
    MscContextOpener *opener;
    GByteArray *plain;
    bool ended;                          /* END came, and was right */
    bool validated;                      /* all of it is installed */
    MscContext *context;                 /* after validate, until settled */
    gpointer settling[MSC_SECTIONS_MAX]; /* the providers' memories */
    GArray *unsettled; /* of gint64: batches in the log, or NULL */
    guint settle_next; /* of these */
    gint64 settle_pause, settle_wake; /* microseconds, monotonic */
} MscTransfer;

/* hub.c */
/* To be recovered before it is used.  @providers outlives it. */
MscHub *msc_hub_new(const char *config_dir, const char *state_dir,
                    const MscProvider *const *providers, GError **errp);
void msc_hub_free(MscHub *hub);
const char *msc_hub_config_dir(const MscHub *hub);
const char *msc_hub_state_dir(const MscHub *hub);
const MscConfig *msc_hub_config(const MscHub *hub);
const MscProvider *const *msc_hub_providers(const MscHub *hub);
MscJournal *msc_hub_journal(const MscHub *hub);

/* A new transfer for the process with these credentials. */
MscTransfer *msc_hub_open(MscHub *hub, const MscOpenMessage *open, uid_t uid,
                          pid_t pid, GError **errp);
/* Takes @t. */
void msc_hub_add(MscHub *hub, MscTransfer *t);
MscTransfer *msc_hub_find_token(MscHub *hub,
                                const uint8_t token[MSC_TOKEN_LEN]);
/* By migration id, for a QEMU that comes back after a crash of the helper. */
MscTransfer *msc_hub_attach(MscHub *hub, const MscAttachMessage *attach,
                            uid_t uid, pid_t pid, GError **errp);
/* An id is good for one migration; the entry's must not have been used. */
bool msc_hub_claim_id(MscHub *hub, const MscEntry *entry, GError **errp);
/* The newest transfer for which @match holds, with a reference.  @match may
 * use what never changes and the atomic copies only. */
MscTransfer *msc_hub_find(MscHub *hub,
                          bool (*match)(MscTransfer *, const void *),
                          const void *key);

/* All for which @match holds, with references. */
GPtrArray *msc_hub_select(MscHub *hub, bool (*match)(MscTransfer *));

/* Copies of all entries, newest last; of MscEntry*.  Waits for nothing: a verb
 * that is under way shows when it is done. */
GPtrArray *msc_hub_status(MscHub *hub);
/* Ended ones that nobody uses; the journal remembers them. */
void msc_hub_forget_old(MscHub *hub);

/* upkeep.c */
/* Reads the journal and brings every open migration to a safe end, or keeps
 * it for a verdict. */
bool msc_hub_recover(MscHub *hub, GError **errp);
/* Every second or so: tighten what was restored leniently.  Thousands of
 * flows may be asked for: to be put off for a while if guests move. */
void msc_hub_settle(MscHub *hub);
bool msc_hub_is_moving(MscHub *hub);
/* QEMU hung up: what has not reached the point of no return is undone. */
void msc_transfer_disconnect(MscTransfer *t);

/* undecided.c */
/* All past the point of no return whose end is unknown. */
GPtrArray *msc_hub_undecided(MscHub *hub);
/* On record, so that "status" can tell; the lock is held. */
void msc_transfer_note_undecided(MscTransfer *t);
bool msc_hub_verdict(MscHub *hub, const MscAttachMessage *attach, uid_t uid,
                     pid_t pid, MscVerdict *verdict, GError **errp);
/* What the operator's word led to. */
typedef struct {
    bool already; /* it was so before; nothing changed */
    char *text;   /* what the migration is now, and why: a sentence's end */
    char *code;   /* for the other host, or NULL */
} MscResolved;

void msc_resolved_clear(MscResolved *resolved);
/* The operator's word on a migration whose end was cut off; see resolve.c.  It
 * may be repeated, but not taken back.  @code: what the other host gave, or
 * NULL.  @resolved: filled, to be cleared. */
bool msc_hub_resolve(MscHub *hub, const char *vm, bool here, const char *code,
                     bool force, MscResolved *resolved, GError **errp);
typedef enum {
    MSC_QEMU_WAITS,    /* it asks for the verdict */
    MSC_QEMU_MAY_COME, /* nobody asks yet, and there is time */
    MSC_QEMU_IS_GONE,
} MscQemuPresence;

/* Does a QEMU still wait for the guest?  The lock is held. */
MscQemuPresence msc_transfer_qemu(const MscTransfer *t);
/* Host @peer, authenticated, is the source of a new migration of @vm. */
bool msc_hub_supersede(MscHub *hub, const char *vm, const char *peer,
                       GError **errp);

/* transfer.c */
/* Takes @entry and @vm; in no hub yet. */
MscTransfer *msc_transfer_new(MscHub *hub, MscEntry *entry, MscVm *vm);
/* One that is neither in the hub nor on record, to ask "what if". */
MscTransfer *msc_transfer_draft(MscHub *hub, MscRole role, const char *uuid,
                                GError **errp);
void msc_transfer_lock(MscTransfer *t);
void msc_transfer_unlock(MscTransfer *t);
MscTransfer *msc_transfer_ref(MscTransfer *t);
void msc_transfer_unref(MscTransfer *t);
/* As of the last msc_transfer_unlock(). */
MscStage msc_transfer_seen_stage(MscTransfer *t);
/* Past the point of no return, and guest @vm's end unknown. */
bool msc_transfer_undecided(MscTransfer *t, const void *vm);
/* Drops the context; nothing is left to do with it. */
void msc_transfer_forget_context(MscTransfer *t);

/* The answer to a request was sent: what nobody waits for. */
void msc_transfer_after_reply(MscTransfer *t);

/* stages.c: runs the verb that @type stands for, if the stage allows it. */
bool msc_transfer_run(MscTransfer *t, uint16_t type, const GByteArray *in,
                      GByteArray *out, GError **errp);

/* channel.c: the handshake of one channel on @fd; fills @keys. */
bool msc_transfer_handshake(MscTransfer *t, int fd,
                            const MscChannelMessage *request,
                            MscKeysMessage *keys, GError **errp);

/* peer-check.c */
/* Text of the address at the other end, NULL if it has none. */
char *msc_remote_address(int fd);
/* The name of the trusted host with @key, if it may be at @address. */
char *msc_peer_identify(const MscHub *hub, const char *address,
                        const uint8_t key[MSC_IDENTITY_KEY_LEN], GError **errp);
/* The name of the host with @key, if it may be there.  @expected: QEMU's
 * wish, or "". */
char *msc_peer_accept(const MscTransfer *t, const char *expected,
                      const char *address,
                      const uint8_t key[MSC_IDENTITY_KEY_LEN], GError **errp);

/* The new stage, on record; false (stage unchanged) if it cannot be kept. */
bool msc_transfer_set_stage(MscTransfer *t, MscStage stage, bool durable,
                            GError **errp);
/* As above for an end that has to be taken even if the disk is full. */
void msc_transfer_end(MscTransfer *t, MscStage stage, const char *why);
/* What a finished handshake leads to. */
static inline MscStage msc_admitted_stage(const MscTransfer *t)
{
    return t->transport_only ? MSC_STAGE_TRANSPORT : MSC_STAGE_ADMITTED;
}

/* Transport only: over.  Anything else: false, nothing done. */
bool msc_transfer_close(MscTransfer *t, const char *why);
uint64_t msc_boot_us(void);

/* Its QEMU can carry batches while the guest runs (ahead.c). */
bool msc_transfer_offer_precopy(MscTransfer *t, const GByteArray *in,
                                GByteArray *out, GError **errp);

/* source.c; the lock is held. */
GBytes *msc_source_admission(MscTransfer *t, GError **errp);
bool msc_source_admitted(MscTransfer *t, GBytes *answer, GError **errp);
/* ahead-source.c: the next batch of pre-copy. */
bool msc_source_batch(MscTransfer *t, const GByteArray *in, GByteArray *out,
                      GError **errp);
bool msc_source_freeze(MscTransfer *t, const GByteArray *in, GByteArray *out,
                       GError **errp);
bool msc_source_collect(MscTransfer *t, const GByteArray *in, GByteArray *out,
                        GError **errp);
bool msc_source_release(MscTransfer *t, const GByteArray *in, GByteArray *out,
                        GError **errp);
bool msc_source_finish(MscTransfer *t, const GByteArray *in, GByteArray *out,
                       GError **errp);
bool msc_source_thaw(MscTransfer *t, const GByteArray *in, GByteArray *out,
                     GError **errp);
/* The undo itself; @why for the journal. */
bool msc_source_give_up(MscTransfer *t, const char *why, GError **errp);
/* Removes the guest's entries, by payload or (after a crash) by selector. */
bool msc_source_retire(MscTransfer *t, GError **errp);
/* The guest is the other host's: retires, and ends the transfer. */
void msc_source_let_go(MscTransfer *t, const char *why);

/* destination-admit.c, -stage.c, destination.c; the lock is held. */
/* Would it be admitted?  Nothing changes. */
bool msc_destination_check(MscTransfer *t, GBytes *bytes, const char *peer,
                           GError **errp);
GBytes *msc_destination_admit(MscTransfer *t, GBytes *bytes, GError **errp);
bool msc_destination_stage(MscTransfer *t, const GByteArray *in,
                           GByteArray *out, GError **errp);
bool msc_destination_validate(MscTransfer *t, const GByteArray *in,
                              GByteArray *out, GError **errp);
bool msc_destination_ready(MscTransfer *t, const GByteArray *in,
                           GByteArray *out, GError **errp);
bool msc_destination_commit(MscTransfer *t, const GByteArray *in,
                            GByteArray *out, GError **errp);
bool msc_destination_abort(MscTransfer *t, const GByteArray *in,
                           GByteArray *out, GError **errp);
/* RELEASE came, one way or another: the guest may run here.  @why: for the
 * journal, "" if all went well. */
bool msc_destination_take(MscTransfer *t, const char *why, GError **errp);
bool msc_destination_undo(MscTransfer *t, const char *why, GError **errp);
/* True while there is something left to settle. */
bool msc_destination_settle(MscTransfer *t);

const MscProvider *msc_provider_find(const MscProvider *const *providers,
                                     const char *name);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscTransfer, msc_transfer_unref)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MscResolved, msc_resolved_clear)

#endif
