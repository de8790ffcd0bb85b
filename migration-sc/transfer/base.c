/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "base.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "error.h"

#define DIRECTORY "base"
#define UNFINISHED ".new"
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
/* A base grows with each migration that begins with it, as what it replaces
 * stays in it.  From here on all is sent once more: the file would be this
 * many times as long as what is in it. */
#define GROWN_MAX 2
#define GROWN_FREE (1024 * 1024)

bool msc_base_prepare(const char *state_dir, GError **errp)
{
    g_autofree char *path = g_build_filename(state_dir, DIRECTORY, NULL);
    g_autoptr(GDir) dir = NULL;
    const char *name;

    if (g_mkdir_with_parents(path, 0700)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot make '%s': %s", path,
                    g_strerror(errno));
        return false;
    }
    dir = g_dir_open(path, 0, errp);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        if (g_str_has_suffix(name, UNFINISHED)) {
            g_unlink(file);
        }
    }
    return dir != NULL;
}

void msc_base_remove(const char *state_dir, const char *vm)
{
    g_autofree char *path = g_build_filename(state_dir, DIRECTORY, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        if (!g_ascii_strncasecmp(name, vm, strlen(vm)) &&
            name[strlen(vm)] == '.') {
            g_unlink(file);
        }
    }
}

static char *path_of(const MscHub *hub, const char *vm, const char *provider,
                     const char *id)
{
    g_autofree char *unfinished =
        id ? g_strconcat(".", id, UNFINISHED, NULL) : g_strdup("");
    g_autofree char *name = g_strconcat(vm, ".", provider, unfinished, NULL);

    return g_build_filename(msc_hub_state_dir(hub), DIRECTORY, name, NULL);
}

static bool boot_id(uint8_t id[16], GError **errp)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(BOOT_ID, &text, NULL, errp) &&
           msc_uuid_parse(g_strchomp(text), id, errp);
}

static bool no_base(GError **errp, const char *why)
{
    g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_STATE, why);
    return false;
}

static bool is_usable(const MscBaseHead *head, const char *vm,
                      const char *provider, GError **errp)
{
    uint8_t boot[16], uuid[MSC_UUID_LEN];

    if (!boot_id(boot, errp) || !msc_uuid_parse(vm, uuid, errp)) {
        return false;
    }
    if (memcmp(head->vm, uuid, sizeof(uuid)) ||
        strcmp(head->provider, provider)) {
        return no_base(errp, "its file is another guest's");
    }
    if (memcmp(head->boot, boot, sizeof(boot)) ||
        head->ended_us > msc_boot_us()) {
        return no_base(errp, "this host was started anew since");
    }
    if (head->bytes > GROWN_MAX * head->whole + GROWN_FREE) {
        return no_base(errp, "it has grown too long; all is sent once more");
    }
    return true;
}

MscBaseReader *msc_base_find(const MscHub *hub, const char *vm,
                             const char *provider, GError **errp)
{
    g_autofree char *path = path_of(hub, vm, provider, NULL);
    FILE *file = fopen(path, "re");
    MscBaseReader *reader;

    if (!file) {
        if (errno == ENOENT) {
            no_base(errp, "no migration of the guest has left one here");
        } else {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot read '%s': %s",
                        path, g_strerror(errno));
        }
        return NULL;
    }
    reader = msc_base_reader_new(file, errp);
    if (reader &&
        !is_usable(msc_base_reader_head(reader), vm, provider, errp)) {
        g_clear_pointer(&reader, msc_base_reader_free);
    }
    return reader;
}

static int read_next(void *opaque, GBytes **batch, uint64_t *age_us,
                     GError **errp)
{
    uint64_t now = msc_boot_us(), when;
    int got = msc_base_reader_next(opaque, batch, &when, errp);

    if (got == 1) {
        *age_us = now > when ? now - when : 0;
    }
    return got;
}

static bool read_again(void *opaque, GError **errp)
{
    return msc_base_reader_rewind(opaque, errp);
}

MscBase msc_base_of(MscBaseReader *reader)
{
    return (MscBase){ read_next, read_again, reader };
}

/* The base of @part with the other host of @t. */
static MscBaseReader *find_with_peer(const MscTransfer *t,
                                     const MscAheadPart *part)
{
    g_autoptr(GError) err = NULL;
    MscBaseReader *reader =
        msc_base_find(t->hub, t->entry->vm, part->provider->name, &err);

    if (reader && strcmp(msc_base_reader_head(reader)->peer, t->entry->peer)) {
        g_set_error(&err, MSC_ERROR, MSC_ERROR_STATE,
                    "it is of a migration from or to '%s'",
                    msc_base_reader_head(reader)->peer);
        g_clear_pointer(&reader, msc_base_reader_free);
    }
    if (err) {
        g_info("%s: %s: no base: %s", t->entry->name, part->provider->name,
               err->message);
    }
    return reader;
}

static void put_name(const MscBaseReader *reader, GByteArray *out)
{
    const MscBaseHead *head = msc_base_reader_head(reader);

    msc_put_bytes(out, head->id, sizeof(head->id));
    msc_put_bytes(out, head->digest, sizeof(head->digest));
}

static char *section_name(const MscAheadPart *part)
{
    return g_strconcat(part->provider->name, MSC_BASE_SECTION_SUFFIX, NULL);
}

void msc_base_offer(MscTransfer *t, MscAheadPart *part, GPtrArray *answers)
{
    g_autoptr(GByteArray) name = g_byte_array_new();
    g_autofree char *section = NULL;
    g_autoptr(GBytes) data = NULL;

    part->base = part->keeps ? find_with_peer(t, part) : NULL;
    if (!part->base) {
        return;
    }
    put_name(part->base, name);
    data = g_byte_array_free_to_bytes(g_steal_pointer(&name));
    section = section_name(part);
    msc_sections_add(answers, section, MSC_BASE_SECTION_VERSION,
                     MSC_BASE_SECTION_VERSION, data);
}

void msc_base_accept(MscTransfer *t, MscAheadPart *part)
{
    g_autofree char *name = section_name(part);
    const MscSection *theirs = msc_sections_find(t->answers, name);
    g_autoptr(GByteArray) ours = g_byte_array_new();
    gsize len;
    const void *data;

    if (!part->keeps || !theirs || theirs->oldest > MSC_BASE_SECTION_VERSION ||
        !(part->base = find_with_peer(t, part))) {
        return;
    }
    put_name(part->base, ours);
    data = g_bytes_get_data(theirs->data, &len);
    if (len != ours->len || memcmp(data, ours->data, len)) {
        g_info("%s: %s: the other host has another base", t->entry->name,
               part->provider->name);
        g_clear_pointer(&part->base, msc_base_reader_free);
    }
}

static MscBaseWriter *begin(MscTransfer *t, const MscAheadPart *part,
                            GError **errp)
{
    g_autofree char *id = msc_entry_id_text(t->entry);
    g_autofree char *path =
        path_of(t->hub, t->entry->vm, part->provider->name, id);
    MscBaseHead head = {
        .provider = (char *)part->provider->name,
        .peer = t->entry->peer,
    };

    memcpy(head.id, t->entry->id, sizeof(head.id));
    if (!boot_id(head.boot, errp) ||
        !msc_uuid_parse(t->entry->vm, head.vm, errp)) {
        return NULL;
    }
    return msc_base_writer_new(path, &head, errp);
}

void msc_base_note(MscTransfer *t, MscAheadPart *part, GBytes *data,
                   uint64_t when_us)
{
    g_autoptr(GError) err = NULL;
    gsize len;
    const void *bytes = g_bytes_get_data(data, &len);

    if (!part->keeps || part->lost) {
        return;
    }
    if (!part->kept) {
        part->kept = begin(t, part, &err);
    }
    if (!part->kept ||
        !msc_base_writer_add(part->kept, bytes, len, when_us, &err)) {
        g_message("%s: %s: the next migration will send all of it: %s",
                  t->entry->name, part->provider->name, err->message);
        g_clear_pointer(&part->kept, msc_base_writer_free);
        part->lost = true;
    }
}

void msc_base_void(MscAheadPart *part)
{
    g_clear_pointer(&part->kept, msc_base_writer_free);
    g_clear_pointer(&part->base, msc_base_reader_free);
    if (part->replaced) {
        g_unlink(part->replaced);
        g_clear_pointer(&part->replaced, g_free);
    }
    part->lost = part->ended = false;
    part->whole = 0;
}

void msc_base_void_all(MscTransfer *t)
{
    for (guint i = 0; i < t->ahead->len; i++) {
        msc_base_void(t->ahead->pdata[i]);
    }
}

static void keep(MscTransfer *t, MscAheadPart *part)
{
    g_autofree char *path =
        path_of(t->hub, t->entry->vm, part->provider->name, NULL);
    g_autoptr(GError) err = NULL;
    uint64_t whole =
        part->whole ? part->whole : msc_base_writer_bytes(part->kept);

    /* The guest may be stopped.  A file that is renamed over another one is
     * written out by ext4 there and then (20 ms with a million flows), and the
     * other's blocks are freed; so that one is put aside, and removed later.
     * After a crash in between there is no base. */
    part->replaced =
        path_of(t->hub, t->entry->vm, part->provider->name, "replaced");
    if (rename(path, part->replaced)) {
        g_clear_pointer(&part->replaced, g_free);
    }
    if (!msc_base_writer_finish(part->kept, path, msc_boot_us(),
                                (uint64_t)g_get_real_time(), whole, &err)) {
        g_message("%s: %s: the next migration will send all of it: %s",
                  t->entry->name, part->provider->name, err->message);
    }
}

void msc_base_keep(MscTransfer *t)
{
    for (guint i = 0; i < t->ahead->len; i++) {
        MscAheadPart *part = t->ahead->pdata[i];

        if (part->kept && part->ended) {
            keep(t, part);
        }
        g_clear_pointer(&part->kept, msc_base_writer_free);
    }
}
