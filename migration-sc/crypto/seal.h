/*
 * Sealing of a security context, end to end between the two helpers.
 *
 * A context is cut into chunks; each is sealed under the session's context
 * key, bound to migration, guest and sequence number.  The last chunk, END,
 * carries the number of chunks and the digest of the whole plain context
 * (BLAKE2b-256).  docs/context.md, "Sealing".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_CRYPTO_SEAL_H
#define MSC_CRYPTO_SEAL_H

#include "handshake.h"

/* On the wire as well. */
typedef enum {
    MSC_CHUNK_DATA = 1,  /* the context, piece by piece */
    MSC_CHUNK_END = 2,   /* how much there was, and its digest */
    MSC_CHUNK_BATCH = 3, /* before the context: a batch, whole in itself */
} MscChunkKind;

typedef struct MscContextSealer MscContextSealer;
typedef struct MscContextOpener MscContextOpener;

/* Once in a session: a second sealer would start its nonces anew under the
 * same key, and is refused. */
MscContextSealer *msc_context_sealer_new(MscSession *session, GError **errp);
/* Plain bytes in, sealed chunk out; @len at most MSC_CHUNK_PLAIN_MAX. */
GBytes *msc_context_seal(MscContextSealer *s, const void *plain, size_t len,
                         GError **errp);
/* The same for a batch.  The END covers it like the rest. */
GBytes *msc_context_seal_batch(MscContextSealer *s, const void *plain,
                               size_t len, GError **errp);
/* The END chunk; nothing can follow. */
GBytes *msc_context_seal_end(MscContextSealer *s, GError **errp);
void msc_context_sealer_free(MscContextSealer *s);

MscContextOpener *msc_context_opener_new(const MscSession *session,
                                         GError **errp);
/* Appends the plain bytes of one chunk to @plain (of END none).  *@kind is
 * MSC_CHUNK_END only if count and digest are right. */
bool msc_context_open(MscContextOpener *o, const void *chunk, size_t len,
                      GByteArray *plain, MscChunkKind *kind, GError **errp);
void msc_context_opener_free(MscContextOpener *o);

#endif
