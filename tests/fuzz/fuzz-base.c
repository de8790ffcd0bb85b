/*
 * A base's file: refused with a reason, or read whole and written again as it
 * was.  The checksums at its end are made right first, or nothing but them
 * would be tried.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#include "base-file.h"
#include "fuzz.h"

#define HASH MSC_BASE_DIGEST_LEN

static void write_again(MscBaseReader *r, const char *path)
{
    const MscBaseHead *head = msc_base_reader_head(r);
    g_autofree char *next = g_strconcat(path, ".new", NULL);
    g_autoptr(MscBaseWriter) w = msc_base_writer_new(next, head, NULL);
    uint64_t when;
    int got = 1;

    fuzz_must(w != NULL);
    while (got) {
        g_autoptr(GBytes) data = NULL;
        g_autoptr(GError) err = NULL;

        got = msc_base_reader_next(r, &data, &when, &err);
        fuzz_must(got >= 0 && !err);
        if (got) {
            fuzz_must(msc_base_writer_add(w, g_bytes_get_data(data, NULL),
                                          g_bytes_get_size(data), when, NULL));
        }
    }
    fuzz_must(msc_base_writer_bytes(w) == head->bytes);
    fuzz_must(msc_base_writer_finish(w, path, head->ended_us, head->wall_us,
                                     head->whole, NULL));
}

/* The digest of the batches, as far as @data has any. */
static void put_digest(uint8_t *data, size_t size)
{
    crypto_generichash_state digest;
    size_t at = 4 + 2 + 2 + 3 * 16;

    crypto_generichash_init(&digest, NULL, 0, HASH);
    for (int i = 0; i < 2 && at + 2 <= size; i++) {
        at += 2 + ((size_t)data[at] << 8 | data[at + 1]);
    }
    while (at + 4 <= size) {
        size_t len = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 |
                     (size_t)data[at + 2] << 8 | data[at + 3];

        if (!len || at + 12 + len > size) {
            break;
        }
        crypto_generichash_update(&digest, data + at, 4);
        crypto_generichash_update(&digest, data + at + 12, len);
        at += 12 + len;
    }
    crypto_generichash_final(&digest, data + size - 2 * HASH, HASH);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *file = g_memdup2(data, size);
    g_autofree char *path =
        g_strdup_printf("%s/fuzz-base-%d", g_get_tmp_dir(), getpid());
    g_autoptr(MscBaseReader) r = NULL;
    g_autoptr(GError) err = NULL;
    g_autofree char *again = NULL;
    gsize len;

    if (size < 2 * HASH) {
        return 0;
    }
    put_digest(file, size);
    crypto_generichash(file + size - HASH, HASH, file, size - HASH, NULL, 0);
    r = msc_base_reader_new(fmemopen(file, size, "r"), &err);
    fuzz_must(!r == !!err);
    if (r) {
        write_again(r, path);
        fuzz_must(g_file_get_contents(path, &again, &len, NULL));
        g_unlink(path);
        fuzz_same(again, len, file, size);
    }
    return 0;
}
