/*
 * What the destination's files share.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_DESTINATION_PRIVATE_H
#define MSC_TRANSFER_DESTINATION_PRIVATE_H

#include "ahead.h"
#include "transfer.h"

/* In the journal, beside the entry. */
#define MSC_BLOB_CONTEXT "context"
#define MSC_BLOB_REPLACED "replaced"

/* Is @s of a version that @p reads? */
bool msc_destination_reads(const MscSection *s, const MscProvider *p);
/* Who reads @s, of a context; NULL with the reason. */
const MscProvider *msc_destination_provider(MscTransfer *t, const MscSection *s,
                                            GError **errp);
/* Does it end a pre-copy?  Then it was journalled, and is undone, with that. */
bool msc_destination_is_ahead(MscTransfer *t, const MscSection *s);
/* Appends to @reasons each kind of state that this host expects and
 * @sections have not. */
void msc_destination_check_absent(MscTransfer *t, const GPtrArray *sections,
                                  GPtrArray *reasons);

#endif
