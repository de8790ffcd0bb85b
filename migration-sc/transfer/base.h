/*
 * Bases: what both hosts of an earlier migration of a guest keep of it, so
 * that a later one between them sends the difference only.
 *
 * The destination names its base in the admission's answer; the source uses
 * it if it has the same.  Nothing here can fail a migration: without a base,
 * everything is sent.  docs/context.md, "Bases".
 *
 * STATE/base/UUID.PROVIDER is the base of a guest, UUID.PROVIDER.ID.new what
 * a migration under way writes, UUID.PROVIDER.replaced.new the one before until
 * its guest runs.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_BASE_H
#define MSC_TRANSFER_BASE_H

#include "ahead.h"

/* Makes the directory, and removes what a crash left in it. */
bool msc_base_prepare(const char *state_dir, GError **errp);
/* A guest's, when it is not registered any more. */
void msc_base_remove(const char *state_dir, const char *vm);

/* The base of @vm on this host; NULL with the reason if there is none that
 * could be used. */
MscBaseReader *msc_base_find(const MscHub *hub, const char *vm,
                             const char *provider, GError **errp);
/* As a provider reads it; @reader outlives it. */
MscBase msc_base_of(MscBaseReader *reader);

/* Destination: opens what this host has of @part, and names it in @answers. */
void msc_base_offer(MscTransfer *t, MscAheadPart *part, GPtrArray *answers);
/* Source: opens it, if it is what the destination named. */
void msc_base_accept(MscTransfer *t, MscAheadPart *part);

/* @data is on the other host, or here; its time-outs held @when_us on this
 * host's CLOCK_BOOTTIME. */
void msc_base_note(MscTransfer *t, MscAheadPart *part, GBytes *data,
                   uint64_t when_us);
/* What was noted is void, and so is the base; and what msc_base_keep() put
 * aside is removed, which takes milliseconds. */
void msc_base_void(MscAheadPart *part);
void msc_base_void_all(MscTransfer *t);
/* The guest is on the other host, or here: what ended well is its base now.
 * Quick, for the guest may be stopped. */
void msc_base_keep(MscTransfer *t);

#endif
