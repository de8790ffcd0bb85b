/*
 * What the journal keeps of a migration: its stage, both helpers' words, and
 * what "status" tells.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_JOURNAL_ENTRY_H
#define MSC_TRANSFER_JOURNAL_ENTRY_H

#include <glib.h>
#include <migration-sc/helper-client.h>

#include "proof.h"
#include "slots.h"

typedef enum {
    MSC_STAGE_OPEN,     /* no handshake yet; never on disk */
    MSC_STAGE_ADMITTED, /* both helpers are willing */
    /* source */
    MSC_STAGE_FROZEN,   /* the final snapshot is taken */
    MSC_STAGE_RELEASED, /* the point of no return */
    MSC_STAGE_FINISHED, /* the other host has the guest */
    MSC_STAGE_THAWED,   /* the guest stays; RELEASE will never be given */
    /* destination */
    MSC_STAGE_STAGED,    /* being installed, or installed */
    MSC_STAGE_READY,     /* READY was given out: the source may release */
    MSC_STAGE_COMMITTED, /* the guest is ours */
    MSC_STAGE_ABORTED,   /* undone; the guest will never run here */
    /* without a security context, in place of all that follows ADMITTED */
    MSC_STAGE_TRANSPORT, /* both helpers are willing */
    MSC_STAGE_CLOSED,    /* over; where the guest is, QEMU knows */
} MscStage;

const char *msc_stage_name(MscStage stage);
/* FINISHED, THAWED, COMMITTED, ABORTED, CLOSED: nothing can follow. */
bool msc_stage_is_final(MscStage stage);

typedef struct {
    uint8_t id[MSC_PROOF_ID_LEN];
    MscRole role;
    MscStage stage;
    char *vm;   /* UUID */
    char *name; /* of the guest */
    char *peer;
    char *suite;
    char *kem;
    char *error;             /* why it ended, or "" */
    gint64 started_us;       /* wall clock */
    uint64_t boot_offset_us; /* destination: see transfer.c */
    MscContextStats stats;
    MscPrecopyStatus progress; /* of pre-copy; not on disk */
    /* Own tokens, by MscProofKind - 1, and the peer's commitments. */
    uint8_t token[MSC_PROOF_LAST][MSC_PROOF_TOKEN_LEN];
    uint8_t commitment[MSC_PROOF_LAST][MSC_COMMITMENT_LEN];
    MscSlots slots; /* where its file stands */
} MscEntry;

MscEntry *msc_entry_new(MscRole role, const char *vm, const char *name);
void msc_entry_free(MscEntry *entry);
/* Without the tokens and commitments. */
MscEntry *msc_entry_copy(const MscEntry *entry);
char *msc_entry_id_text(const MscEntry *entry);

/* Its file's text, with the tokens: to be wiped. */
char *msc_entry_format(const MscEntry *entry);
/* Strict; NULL with the reason. */
MscEntry *msc_entry_parse(const char *data, size_t len, GError **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscEntry, msc_entry_free)

#endif
