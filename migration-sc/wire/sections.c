/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "sections.h"

#include <string.h>

#include "format.h"

static void section_free(gpointer p)
{
    MscSection *s = p;

    g_free(s->name);
    g_bytes_unref(s->data);
    g_free(s);
}

GPtrArray *msc_sections_new(void)
{
    return g_ptr_array_new_with_free_func(section_free);
}

void msc_sections_add(GPtrArray *sections, const char *name, uint16_t version,
                      uint16_t oldest, GBytes *data)
{
    MscSection *s = g_new0(MscSection, 1);

    s->name = g_strdup(name);
    s->version = version;
    s->oldest = oldest;
    s->data = g_bytes_ref(data);
    g_ptr_array_add(sections, s);
}

const MscSection *msc_sections_find(const GPtrArray *sections, const char *name)
{
    for (guint i = 0; i < sections->len; i++) {
        const MscSection *s = sections->pdata[i];

        if (!strcmp(s->name, name)) {
            return s;
        }
    }
    return NULL;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    const MscSection *const *x = a;
    const MscSection *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

void msc_sections_encode(GPtrArray *sections, GByteArray *out)
{
    g_assert(sections->len <= MSC_SECTIONS_MAX);
    g_ptr_array_sort(sections, by_name);
    msc_put_u16(out, (uint16_t)sections->len);
    for (guint i = 0; i < sections->len; i++) {
        const MscSection *s = sections->pdata[i];
        gsize len;
        const void *data = g_bytes_get_data(s->data, &len);

        msc_put_string(out, s->name);
        msc_put_u16(out, s->version);
        msc_put_u16(out, s->oldest);
        msc_put_u32(out, (uint32_t)len);
        msc_put_bytes(out, data, len);
    }
}

static bool section_decode(MscReader *r, GPtrArray *sections, const char *what,
                           GError **errp)
{
    g_autofree char *name = NULL;
    g_autoptr(GBytes) data = NULL;
    uint16_t version, oldest;
    const uint8_t *bytes;
    uint32_t len;

    if (!msc_reader_string(r, &name, MSC_NAME_MAX) || !*name) {
        return msc_reader_error(r, errp, what, "no section name");
    }
    if (sections->len) {
        const MscSection *last = sections->pdata[sections->len - 1];

        if (strcmp(last->name, name) >= 0) {
            return msc_reader_error(r, errp, what,
                                    "sections twice or out of order");
        }
    }
    if (!msc_reader_u16(r, &version) || !msc_reader_u16(r, &oldest) ||
        oldest > version) {
        return msc_reader_error(r, errp, what, "bad section version");
    }
    if (!msc_reader_u32(r, &len) || !msc_reader_view(r, &bytes, len)) {
        return msc_reader_error(r, errp, what, "section cut short");
    }
    data = g_bytes_new(bytes, len);
    msc_sections_add(sections, name, version, oldest, data);
    return true;
}

GPtrArray *msc_sections_decode(MscReader *r, const char *what, GError **errp)
{
    g_autoptr(GPtrArray) sections = msc_sections_new();
    uint16_t count;

    if (!msc_reader_u16(r, &count) || count > MSC_SECTIONS_MAX) {
        msc_reader_error(r, errp, what, "bad count of sections");
        return NULL;
    }
    for (; count; count--) {
        if (!section_decode(r, sections, what, errp)) {
            return NULL;
        }
    }
    return msc_reader_end(r, errp, what) ? g_steal_pointer(&sections) : NULL;
}
