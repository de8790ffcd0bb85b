/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "base-file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "error.h"

#define WHAT "base"
#define PIECE (64 * 1024)

typedef crypto_generichash_state Hash;

struct MscBaseWriter {
    FILE *file;
    char *path;
    uint64_t bytes;
    bool failed;
    Hash *digest; /* of the batches */
    Hash *all;    /* of the file */
};

struct MscBaseReader {
    FILE *file;
    MscBaseHead head;
    off_t first; /* batch */
};

void msc_base_head_clear(MscBaseHead *head)
{
    g_clear_pointer(&head->provider, g_free);
    g_clear_pointer(&head->peer, g_free);
}

/* libsodium wants it aligned to 64 bytes. */
static Hash *hash_new(void)
{
    Hash *hash = g_aligned_alloc0(1, crypto_generichash_statebytes(), 64);

    crypto_generichash_init(hash, NULL, 0, MSC_BASE_DIGEST_LEN);
    return hash;
}

static void hash_free(Hash *hash)
{
    g_clear_pointer(&hash, g_aligned_free);
}

/* ---- writing ---- */

static void put(MscBaseWriter *w, const void *data, size_t len)
{
    w->failed = w->failed || fwrite(data, 1, len, w->file) != len;
    crypto_generichash_update(w->all, data, len);
}

static bool was_written(MscBaseWriter *w, GError **errp)
{
    if (w->failed) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot write '%s': %s",
                    w->path, g_strerror(errno));
    }
    return !w->failed;
}

MscBaseWriter *msc_base_writer_new(const char *path, const MscBaseHead *head,
                                   GError **errp)
{
    g_autoptr(MscBaseWriter) w = g_new0(MscBaseWriter, 1);
    g_autoptr(GByteArray) out = g_byte_array_new();
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    w->path = g_strdup(path);
    w->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    w->digest = hash_new();
    w->all = hash_new();
    if (!w->file) {
        w->failed = true;
        was_written(w, errp);
        return NULL;
    }
    msc_put_u32(out, MSC_BASE_MAGIC);
    msc_put_u16(out, MSC_BASE_VERSION);
    msc_put_u16(out, 0);
    msc_put_bytes(out, head->boot, sizeof(head->boot));
    msc_put_bytes(out, head->id, sizeof(head->id));
    msc_put_bytes(out, head->vm, sizeof(head->vm));
    msc_put_string(out, head->provider);
    msc_put_string(out, head->peer);
    put(w, out->data, out->len);
    return was_written(w, errp) ? g_steal_pointer(&w) : NULL;
}

bool msc_base_writer_add(MscBaseWriter *w, const void *data, size_t len,
                         uint64_t when_us, GError **errp)
{
    g_autoptr(GByteArray) head = g_byte_array_new();

    if (!len || len > MSC_BASE_RECORD_MAX || w->bytes + len > MSC_BASE_MAX) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_STATE,
                    "%s: a batch of %zu bytes is too much for it", WHAT, len);
        return false;
    }
    msc_put_u32(head, (uint32_t)len);
    crypto_generichash_update(w->digest, head->data, head->len);
    crypto_generichash_update(w->digest, data, len);
    msc_put_u64(head, when_us);
    put(w, head->data, head->len);
    put(w, data, len);
    w->bytes += len;
    return was_written(w, errp);
}

uint64_t msc_base_writer_bytes(const MscBaseWriter *w)
{
    return w->bytes;
}

bool msc_base_writer_finish(MscBaseWriter *w, const char *path,
                            uint64_t ended_us, uint64_t wall_us, uint64_t whole,
                            GError **errp)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    uint8_t hash[MSC_BASE_DIGEST_LEN];

    msc_put_u32(out, 0);
    msc_put_u64(out, ended_us);
    msc_put_u64(out, wall_us);
    msc_put_u64(out, whole);
    crypto_generichash_final(w->digest, hash, sizeof(hash));
    msc_put_bytes(out, hash, sizeof(hash));
    put(w, out->data, out->len);
    crypto_generichash_final(w->all, hash, sizeof(hash));
    put(w, hash, sizeof(hash));
    if (fclose(w->file)) {
        w->failed = true;
    }
    w->file = NULL;
    if (!was_written(w, errp)) {
        return false;
    }
    if (rename(w->path, path)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot rename to '%s': %s",
                    path, g_strerror(errno));
        return false;
    }
    g_clear_pointer(&w->path, g_free);
    return true;
}

void msc_base_writer_free(MscBaseWriter *w)
{
    if (!w) {
        return;
    }
    if (w->file) {
        fclose(w->file);
    }
    if (w->path) {
        g_unlink(w->path);
        g_free(w->path);
    }
    hash_free(w->digest);
    hash_free(w->all);
    g_free(w);
}

/* ---- reading ---- */

static bool malformed(GError **errp, const char *why)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED, "%s: %s", WHAT, why);
    return false;
}

/* @all: goes on with the file's hash, or NULL. */
static bool get(MscBaseReader *r, Hash *all, void *data, size_t len,
                GError **errp)
{
    if (fread(data, 1, len, r->file) != len) {
        return malformed(errp,
                         ferror(r->file) ? "cannot be read" : "cut short");
    }
    if (all) {
        crypto_generichash_update(all, data, len);
    }
    return true;
}

static bool get_string(MscBaseReader *r, Hash *all, char **text, GError **errp)
{
    uint8_t raw[2 + MSC_NAME_MAX];
    MscReader reader;
    size_t len;

    if (!get(r, all, raw, 2, errp)) {
        return false;
    }
    len = (size_t)raw[0] << 8 | raw[1];
    if (len > MSC_NAME_MAX) {
        return malformed(errp, "name too long");
    }
    if (!get(r, all, raw + 2, len, errp)) {
        return false;
    }
    msc_reader_init(&reader, raw, 2 + len);
    return msc_reader_string(&reader, text, MSC_NAME_MAX) ||
           malformed(errp, "bad name");
}

static bool read_head(MscBaseReader *r, Hash *all, GError **errp)
{
    MscBaseHead *head = &r->head;
    uint8_t raw[4 + 2 + 2];
    uint16_t version, zero;
    uint32_t magic;
    MscReader reader;

    if (!get(r, all, raw, sizeof(raw), errp)) {
        return false;
    }
    msc_reader_init(&reader, raw, sizeof(raw));
    if (!msc_reader_u32(&reader, &magic) || magic != MSC_BASE_MAGIC ||
        !msc_reader_u16(&reader, &version) || version != MSC_BASE_VERSION ||
        !msc_reader_u16(&reader, &zero) || zero) {
        return malformed(errp, "unknown version");
    }
    return get(r, all, head->boot, sizeof(head->boot), errp) &&
           get(r, all, head->id, sizeof(head->id), errp) &&
           get(r, all, head->vm, sizeof(head->vm), errp) &&
           get_string(r, all, &head->provider, errp) &&
           get_string(r, all, &head->peer, errp);
}

static bool read_length(MscBaseReader *r, Hash *all, uint8_t raw[4],
                        uint32_t *len, GError **errp)
{
    MscReader reader;

    if (!get(r, all, raw, 4, errp)) {
        return false;
    }
    msc_reader_init(&reader, raw, 4);
    return (msc_reader_u32(&reader, len) && *len <= MSC_BASE_RECORD_MAX) ||
           malformed(errp, "batch too long");
}

/* One batch; *@len: 0 if there are no more. */
static bool pass_batch(MscBaseReader *r, Hash *all, Hash *digest, uint32_t *len,
                       GError **errp)
{
    uint8_t raw[4], when[8], piece[PIECE];
    uint32_t left;

    if (!read_length(r, all, raw, len, errp)) {
        return false;
    }
    if (!*len) {
        return true;
    }
    crypto_generichash_update(digest, raw, sizeof(raw));
    if (!get(r, all, when, sizeof(when), errp)) {
        return false;
    }
    for (left = *len; left;) {
        uint32_t some = MIN(left, PIECE);

        if (!get(r, all, piece, some, errp)) {
            return false;
        }
        crypto_generichash_update(digest, piece, some);
        left -= some;
    }
    r->head.bytes += *len;
    return r->head.bytes <= MSC_BASE_MAX || malformed(errp, "too long");
}

static bool read_end(MscBaseReader *r, Hash *all, Hash *digest, GError **errp)
{
    MscBaseHead *head = &r->head;
    uint8_t raw[3 * 8], want[MSC_BASE_DIGEST_LEN], got[MSC_BASE_DIGEST_LEN];
    MscReader reader;

    if (!get(r, all, raw, sizeof(raw), errp) ||
        !get(r, all, head->digest, sizeof(head->digest), errp) ||
        !get(r, NULL, got, sizeof(got), errp)) {
        return false;
    }
    msc_reader_init(&reader, raw, sizeof(raw));
    if (!msc_reader_u64(&reader, &head->ended_us) ||
        !msc_reader_u64(&reader, &head->wall_us) ||
        !msc_reader_u64(&reader, &head->whole)) {
        return malformed(errp, "cut short");
    }
    crypto_generichash_final(digest, want, sizeof(want));
    if (memcmp(want, head->digest, sizeof(want))) {
        return malformed(errp, "damaged: another digest");
    }
    crypto_generichash_final(all, want, sizeof(want));
    if (memcmp(want, got, sizeof(want))) {
        return malformed(errp, "damaged: another checksum");
    }
    return fgetc(r->file) == EOF || malformed(errp, "trailing bytes");
}

static bool read_all(MscBaseReader *r, Hash *all, Hash *digest, GError **errp)
{
    uint32_t len = 1;

    if (!read_head(r, all, errp)) {
        return false;
    }
    r->first = ftello(r->file);
    while (len) {
        if (!pass_batch(r, all, digest, &len, errp)) {
            return false;
        }
    }
    return read_end(r, all, digest, errp) && msc_base_reader_rewind(r, errp);
}

MscBaseReader *msc_base_reader_new(FILE *file, GError **errp)
{
    MscBaseReader *r = g_new0(MscBaseReader, 1);
    Hash *all = hash_new(), *digest = hash_new();

    r->file = file;
    if (!read_all(r, all, digest, errp)) {
        g_clear_pointer(&r, msc_base_reader_free);
    }
    hash_free(all);
    hash_free(digest);
    return r;
}

const MscBaseHead *msc_base_reader_head(const MscBaseReader *r)
{
    return &r->head;
}

int msc_base_reader_next(MscBaseReader *r, GBytes **data, uint64_t *when_us,
                         GError **errp)
{
    g_autofree uint8_t *bytes = NULL;
    uint8_t raw[4], when[8];
    MscReader reader;
    uint32_t len;

    if (!read_length(r, NULL, raw, &len, errp)) {
        return -1;
    }
    if (!len) {
        return msc_base_reader_rewind(r, errp) ? 0 : -1;
    }
    bytes = g_malloc(len);
    if (!get(r, NULL, when, sizeof(when), errp) ||
        !get(r, NULL, bytes, len, errp)) {
        return -1;
    }
    msc_reader_init(&reader, when, sizeof(when));
    if (!msc_reader_u64(&reader, when_us)) {
        return -1;
    }
    *data = g_bytes_new_take(g_steal_pointer(&bytes), len);
    return 1;
}

bool msc_base_reader_rewind(MscBaseReader *r, GError **errp)
{
    clearerr(r->file);
    return !fseeko(r->file, r->first, SEEK_SET) ||
           malformed(errp, "cannot be read");
}

void msc_base_reader_free(MscBaseReader *r)
{
    if (r) {
        fclose(r->file);
        msc_base_head_clear(&r->head);
        g_free(r);
    }
}
