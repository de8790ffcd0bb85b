/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "slots.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "fault.h"

#define DIGEST_LEN 16u
#define DIGEST_HEX (2 * DIGEST_LEN)
/* "# ", 20 digits of a generation, a space, the digest, a newline. */
#define HEADER_MAX (2 + 20 + 1 + DIGEST_HEX + 1)

static void digest(const char *generation, size_t generation_len,
                   const void *text, size_t len, char hex[DIGEST_HEX + 1])
{
    crypto_generichash_state state;
    uint8_t hash[DIGEST_LEN];

    crypto_generichash_init(&state, NULL, 0, sizeof(hash));
    crypto_generichash_update(&state, (const uint8_t *)generation,
                              generation_len);
    crypto_generichash_update(&state, text, len);
    crypto_generichash_final(&state, hash, sizeof(hash));
    sodium_bin2hex(hex, DIGEST_HEX + 1, hash, sizeof(hash));
}

static bool encode(uint8_t slot[MSC_SLOT_LEN], uint64_t generation,
                   const char *text, GError **errp)
{
    g_autofree char *start =
        g_strdup_printf("# %" G_GUINT64_FORMAT " ", generation);
    char hex[DIGEST_HEX + 1];
    size_t len = strlen(text);
    size_t room = MSC_SLOT_LEN - HEADER_MAX;

    if (len > room) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                    "an entry of %zu bytes, at most %zu", len, room);
        return false;
    }
    memset(slot, 0, MSC_SLOT_LEN);
    digest(start, strlen(start), text, len, hex);
    g_snprintf((char *)slot, MSC_SLOT_LEN, "%s%s\n%s", start, hex, text);
    return true;
}

/* The text of a slot that is whole, else NULL. */
static const char *decode(const uint8_t slot[MSC_SLOT_LEN],
                          uint64_t *generation)
{
    const char *start = (const char *)slot;
    const char *end = memchr(start, '\0', MSC_SLOT_LEN);
    const char *line = memchr(start, '\n', MSC_SLOT_LEN);
    char hex[DIGEST_HEX + 1];
    char *after;
    size_t used;

    /* At least one zero, and nothing but zeros from there on. */
    if (!end || !line || line > end ||
        !sodium_is_zero((const uint8_t *)end,
                        MSC_SLOT_LEN - (size_t)(end - start)) ||
        !g_str_has_prefix(start, "# ") || !g_ascii_isdigit(start[2])) {
        return NULL;
    }
    *generation = g_ascii_strtoull(start + 2, &after, 10);
    used = (size_t)(after + 1 - start);
    if (*after != ' ' || !*generation || *generation == G_MAXUINT64 ||
        (size_t)(line - start) != used + DIGEST_HEX) {
        return NULL;
    }
    digest(start, used, line + 1, (size_t)(end - line - 1), hex);
    return memcmp(hex, start + used, DIGEST_HEX) ? NULL : line + 1;
}

char *msc_slots_decode(const uint8_t *data, size_t len, MscSlots *slots,
                       GError **errp)
{
    const char *text = NULL;

    *slots = (MscSlots){ 0 };
    for (uint8_t i = 0; len == MSC_SLOTS_LEN && i < 2; i++) {
        uint64_t generation;
        const char *found = decode(data + i * MSC_SLOT_LEN, &generation);

        if (found && generation > slots->generation) {
            *slots = (MscSlots){ generation, i };
            text = found;
        }
    }
    if (!text) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_MALFORMED,
                            "neither of its two slots is whole");
    }
    return g_strdup(text);
}

static bool file_error(GError **errp, const char *verb, const char *path)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot %s '%s': %s", verb, path,
                g_strerror(errno));
    return false;
}

static bool write_at(int fd, const uint8_t *p, size_t len, off_t at)
{
    while (len) {
        ssize_t n = pwrite(fd, p, len, at);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        p += n;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool sync_dir(const char *path, GError **errp)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (!ok) {
        file_error(errp, "flush", dir);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

/* Whole or not at all, through a rename. */
static bool create(const char *path, const uint8_t slot[MSC_SLOT_LEN],
                   GError **errp)
{
    static const uint8_t empty[MSC_SLOT_LEN];
    g_autofree char *tmp = g_strconcat(path, ".new", NULL);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_at(fd, slot, MSC_SLOT_LEN, 0) &&
              write_at(fd, empty, sizeof(empty), MSC_SLOT_LEN) &&
              fsync(fd) == 0;

    if (!ok) {
        file_error(errp, "write", tmp);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (ok && rename(tmp, path)) {
        ok = file_error(errp, "rename to", path);
    }
    return ok && MSC_FAULT_PASSES(JOURNAL_RENAMED, errp) &&
           sync_dir(path, errp);
}

static bool change(const char *path, uint8_t slot[MSC_SLOT_LEN], off_t at,
                   bool durable, GError **errp)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write_at(fd, slot, MSC_SLOT_LEN, at) &&
              (!durable || fdatasync(fd) == 0);

    if (!ok) {
        file_error(errp, "write", path);
    }
    if (!ok && fd >= 0) {
        /* What the caller takes back must not count after a restart. */
        memset(slot, 0, MSC_SLOT_LEN);
        write_at(fd, slot, MSC_SLOT_LEN, at);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

bool msc_slots_write(MscSlots *slots, const char *path, const char *text,
                     bool durable, GError **errp)
{
    uint8_t target = slots->generation ? 1 - slots->durable : 0;
    uint64_t generation = slots->generation + 1;
    uint8_t slot[MSC_SLOT_LEN];
    bool ok =
        MSC_FAULT_PASSES(JOURNAL_WRITE, errp) &&
        encode(slot, generation, text, errp) &&
        (slots->generation
             ? change(path, slot, target * (off_t)MSC_SLOT_LEN, durable, errp)
             : create(path, slot, errp));

    sodium_memzero(slot, sizeof(slot));
    if (ok) {
        slots->durable =
            durable || !slots->generation ? target : slots->durable;
        slots->generation = generation;
    }
    return ok && MSC_FAULT_PASSES(JOURNAL_WRITTEN, errp);
}

char *msc_slots_read(MscSlots *slots, const char *path, GError **errp)
{
    g_autofree char *data = NULL;
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    gsize len;

    if (fd < 0 || fdatasync(fd)) {
        file_error(errp, "read", path);
    } else if (g_file_get_contents(path, &data, &len, errp)) {
        text = msc_slots_decode((const uint8_t *)data, len, slots, errp);
        sodium_memzero(data, len);
    }
    if (fd >= 0) {
        close(fd);
    }
    return text;
}
