/*
 * A sealed context that was changed anywhere never ends well.
 *
 * The input is a list of (u8 length, bytes), each given to the opener as one
 * chunk; length 0 and 255 stand for the true first chunk and the true END.
 *
 *   clang -fsanitize=fuzzer,address,undefined ... fuzz-seal.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <string.h>

#include "seal.h"

static const char text[] = "tcp established";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    MscSession session = { .suite = MSC_SUITE_XCHACHA20_POLY1305 };
    MscContextSealer *s = msc_context_sealer_new(&session, NULL);
    MscContextOpener *o = msc_context_opener_new(&session, NULL);
    g_autoptr(GBytes) first = NULL;
    g_autoptr(GBytes) end = NULL;
    g_autoptr(GByteArray) plain = g_byte_array_new();
    MscChunkKind kind = MSC_CHUNK_DATA;
    bool ended = false, ok = true;
    size_t at = 0;

    if (!s || !o || !(first = msc_context_seal(s, text, sizeof(text), NULL)) ||
        !(end = msc_context_seal_end(s, NULL))) {
        abort();
    }
    while (ok && at < size) {
        size_t len = data[at++];
        const uint8_t *chunk = data + at;
        g_autoptr(GError) err = NULL;

        if (len == 0 || len == 255) {
            chunk = g_bytes_get_data(len ? end : first, &len);
        } else {
            len = MIN(len, size - at);
            at += len;
        }
        ok = msc_context_open(o, chunk, len, plain, &kind, &err);
        ended = ended || (ok && kind == MSC_CHUNK_END);
        if (ok == (err != NULL)) {
            abort();
        }
    }
    if (plain->len && (plain->len != sizeof(text) ||
                       memcmp(plain->data, text, sizeof(text)))) {
        abort(); /* handed out what nobody sealed */
    }
    if (ended && !plain->len) {
        abort(); /* END without what it covers */
    }
    msc_context_sealer_free(s);
    msc_context_opener_free(o);
    return 0;
}
