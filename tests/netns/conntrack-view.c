/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "conntrack-view.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "conntrack-lab.h"

typedef void Parse(const char *text, GPtrArray *entries);

static Parse parse_xml, parse_save, parse_list;

struct ViewForm {
    const char *name, *options;
    Parse *parse;
};

/* XML leaves out ICMP's identifiers, the save form marks and labels, both
 * leave out helpers: only together do they show all that the tool knows. */
static const ViewForm forms[] = {
    { "xml", "-L -o xml,id,labels", parse_xml },
    { "save", "-L -o save", parse_save },
    { "list", "-L -o extended,labels", parse_list },
    { "expect-xml", "-L expect -o xml", parse_xml },
    { "expect-list", "-L expect", parse_list },
};
G_STATIC_ASSERT(G_N_ELEMENTS(forms) == VIEW_FORMS);

typedef enum {
    ANY,     /* whatever the kernel likes */
    AGES,    /* less by the transit and by the time between the two looks */
    RESTARTS /* 0, or not shown at all, on the destination */
} Permission;

/* All that may differ, and why. */
static const struct {
    const char *form, *field;
    Permission how;
} permitted[] = {
    /* A hash over addresses in the kernel's memory. */
    { "xml", "independent/id", ANY },
    /* How many hold a reference at the moment: a master counts its children,
     * packets under way and our own dump count. */
    { "xml", "independent/use", ANY },
    { "list", "use", ANY },
    /* What is left of the time-out, corrected by the time in transit. */
    { "xml", "independent/timeout", AGES },
    { "save", "-t", AGES },
    { "list", "word5", AGES },
    { "expect-xml", "meta/timeout", AGES },
    { "expect-list", "word1", AGES },
    /* Not moved: the destination counts from 0 to see when a TCP flow has
     * had packets both ways (docs/conntrack.md). */
    { "xml", "original/counters/packets", RESTARTS },
    { "xml", "original/counters/bytes", RESTARTS },
    { "xml", "reply/counters/packets", RESTARTS },
    { "xml", "reply/counters/bytes", RESTARTS },
    { "list", "packets", RESTARTS },
    { "list", "bytes", RESTARTS },
    { "list", "packets#2", RESTARTS },
    { "list", "bytes#2", RESTARTS },
    /* When the entry was made on this host: the helper switches time stamps
     * on (conntrack-watch.h). */
    { "list", "delta-time", ANY },
    { "xml", "independent/deltatime", ANY },
};

static const Permission *permission(const char *form, const char *field)
{
    for (size_t i = 0; i < G_N_ELEMENTS(permitted); i++) {
        if (!strcmp(permitted[i].form, form) &&
            !strcmp(permitted[i].field, field)) {
            return &permitted[i].how;
        }
    }
    return NULL;
}

static GHashTable *entry_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

/* A field that is there already gets a number. */
static void entry_add(GHashTable *entry, const char *field, const char *value)
{
    g_autofree char *name = g_strdup(field);

    for (unsigned n = 2; g_hash_table_contains(entry, name); n++) {
        g_free(name);
        name = g_strdup_printf("%s#%u", field, n);
    }
    g_hash_table_insert(entry, g_steal_pointer(&name), g_strdup(value));
}

/* Where in a <flow> the parser is: "original/layer3/src". */
typedef struct {
    GPtrArray *entries;
    GPtrArray *path;
    bool leaf; /* no element has ended inside this one */
    GString *text;
} Xml;

static char *xml_path(const Xml *xml)
{
    g_autoptr(GPtrArray) copy = g_ptr_array_new();

    /* Less the list and its <flow>. */
    for (guint i = 2; i < xml->path->len; i++) {
        g_ptr_array_add(copy, xml->path->pdata[i]);
    }
    g_ptr_array_add(copy, NULL);
    return g_strjoinv("/", (char **)copy->pdata);
}

static GHashTable *xml_entry(const Xml *xml)
{
    return xml->entries->pdata[xml->entries->len - 1];
}

static void xml_start(GMarkupParseContext *context, const char *element,
                      const char **names, const char **values, gpointer opaque,
                      GError **errp)
{
    /* <meta direction="original"> of a flow; that of an expectation has no
     * attributes. */
    bool meta = !strcmp(element, "meta") && names[0];
    Xml *xml = opaque;

    (void)context;
    (void)errp;
    g_ptr_array_add(xml->path, g_strdup(meta ? values[0] : element));
    if (xml->path->len == 2) {
        g_ptr_array_add(xml->entries, entry_new());
    }
    for (int i = 0; !meta && xml->path->len > 2 && names[i]; i++) {
        g_autofree char *path = xml_path(xml);
        g_autofree char *field = g_strconcat(path, "@", names[i], NULL);

        entry_add(xml_entry(xml), field, values[i]);
    }
    g_string_truncate(xml->text, 0);
    xml->leaf = true;
}

static void xml_text(GMarkupParseContext *context, const char *text, gsize len,
                     gpointer opaque, GError **errp)
{
    Xml *xml = opaque;

    (void)context;
    (void)errp;
    g_string_append_len(xml->text, text, (gssize)len);
}

static void xml_end(GMarkupParseContext *context, const char *element,
                    gpointer opaque, GError **errp)
{
    Xml *xml = opaque;

    (void)context;
    (void)element;
    (void)errp;
    if (xml->leaf && xml->path->len > 2) {
        g_autofree char *path = xml_path(xml);

        entry_add(xml_entry(xml), path, xml->text->str);
    }
    xml->leaf = false;
    g_ptr_array_remove_index(xml->path, xml->path->len - 1);
}

static void parse_xml(const char *text, GPtrArray *entries)
{
    static const GMarkupParser parser = { .start_element = xml_start,
                                          .end_element = xml_end,
                                          .text = xml_text };
    Xml xml = { entries, g_ptr_array_new_with_free_func(g_free), false,
                g_string_new(NULL) };
    g_autoptr(GMarkupParseContext) context =
        g_markup_parse_context_new(&parser, 0, &xml, NULL);
    g_autoptr(GError) err = NULL;

    /* Without an entry it prints nothing. */
    if (*text) {
        g_markup_parse_context_parse(context, text, -1, &err);
        g_assert_no_error(err);
        g_markup_parse_context_end_parse(context, &err);
        g_assert_no_error(err);
    }
    g_ptr_array_unref(xml.path);
    g_string_free(xml.text, TRUE);
}

/* Calls @parse for the words of each line. */
static void each_line(const char *text, GPtrArray *entries,
                      void (*parse)(GHashTable *entry, char **words))
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        g_autoptr(GPtrArray) words = g_ptr_array_new();
        g_auto(GStrv) split = g_strsplit(*line, " ", -1);

        for (char **word = split; *word; word++) {
            if (**word) {
                g_ptr_array_add(words, *word);
            }
        }
        if (words->len) {
            g_ptr_array_add(words, NULL);
            g_ptr_array_add(entries, entry_new());
            parse(entries->pdata[entries->len - 1], (char **)words->pdata);
        }
    }
}

/* -A, then an option and its value, and so on. */
static void save_line(GHashTable *entry, char **words)
{
    g_assert_cmpstr(words[0], ==, "-A");
    for (char **word = words + 1; *word; word += 2) {
        g_assert_true(word[0][0] == '-');
        g_assert_nonnull(word[1]);
        entry_add(entry, word[0], word[1]);
    }
}

static void parse_save(const char *text, GPtrArray *entries)
{
    each_line(text, entries, save_line);
}

/* Words by their place, then name=value and [FLAG]. */
static void list_line(GHashTable *entry, char **words)
{
    for (unsigned i = 0; words[i]; i++) {
        g_auto(GStrv) pair = g_strsplit(words[i], "=", 2);
        g_autofree char *place = g_strdup_printf("word%u", i + 1);

        if (pair[1]) {
            entry_add(entry, pair[0], pair[1]);
        } else {
            entry_add(entry, words[i][0] == '[' ? words[i] : place, words[i]);
        }
    }
}

static void parse_list(const char *text, GPtrArray *entries)
{
    each_line(text, entries, list_line);
}

/*
 * conntrack(8) shows labels that /etc/xtables/connlabel.conf names, so it gets
 * an /etc of its own.
 */
static char *label_names(void)
{
    g_autoptr(GError) err = NULL;
    char *etc = g_dir_make_tmp("msc-view-XXXXXX", &err);
    g_autofree char *names = g_strdup_printf("%s/xtables/connlabel.conf", etc);
    GString *text = g_string_new(NULL);

    g_assert_no_error(err);
    lab_run("mkdir %s/xtables", etc);
    for (unsigned i = 0; i < 128; i++) {
        g_string_append_printf(text, "%u bit%u\n", i, i);
    }
    g_file_set_contents(names, text->str, -1, &err);
    g_assert_no_error(err);
    g_string_free(text, TRUE);
    return etc;
}

void view_run(const char *commands)
{
    g_autofree char *etc = label_names();

    lab_run("unshare -m sh -ec 'mount --bind %s /etc; %s' >/dev/null 2>&1", etc,
            commands);
    lab_run("rm -r %s", etc);
}

View *view_take(void)
{
    View *view = g_new0(View, 1);
    g_autofree char *etc = label_names();

    view->taken_us = g_get_monotonic_time();
    for (size_t i = 0; i < VIEW_FORMS; i++) {
        g_autofree char *text =
            lab_output("unshare -m sh -c 'mount --bind %s /etc && "
                       "conntrack %s 2>/dev/null'",
                       etc, forms[i].options);

        view->entries[i] =
            g_ptr_array_new_with_free_func((GDestroyNotify)g_hash_table_unref);
        forms[i].parse(text, view->entries[i]);
    }
    lab_run("rm -r %s", etc);
    return view;
}

void view_free(View *view)
{
    for (size_t i = 0; view && i < VIEW_FORMS; i++) {
        g_ptr_array_unref(view->entries[i]);
    }
    g_free(view);
}

guint view_fields(const View *view)
{
    guint n = 0;

    for (size_t i = 0; i < VIEW_FORMS; i++) {
        for (guint k = 0; k < view->entries[i]->len; k++) {
            n += g_hash_table_size(view->entries[i]->pdata[k]);
        }
    }
    return n;
}

/* One line with what must not differ: equal lines, equal entries. */
static char *fixed_part(const ViewForm *form, GHashTable *entry)
{
    g_autoptr(GList) fields =
        g_list_sort(g_hash_table_get_keys(entry), (GCompareFunc)strcmp);
    GString *line = g_string_new(NULL);

    for (GList *f = fields; f; f = f->next) {
        if (!permission(form->name, f->data)) {
            g_string_append_printf(line, "%s=%s ", (const char *)f->data,
                                   (const char *)g_hash_table_lookup(entry,
                                                                     f->data));
        }
    }
    return g_string_free(line, FALSE);
}

static const char *value(GHashTable *entry, const char *field)
{
    const char *found = g_hash_table_lookup(entry, field);

    return found ? found : "(none)";
}

/* What differs between two entries goes to @out, if there is one. */
static guint differ(const ViewForm *form, GHashTable *a, GHashTable *b,
                    GPtrArray *out)
{
    g_autoptr(GHashTable) all = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GList) fields = NULL;
    guint n = 0;

    for (int i = 0; i < 2; i++) {
        g_autoptr(GList) some = g_hash_table_get_keys(i ? b : a);

        for (GList *f = some; f; f = f->next) {
            g_hash_table_add(all, f->data);
        }
    }
    fields = g_list_sort(g_hash_table_get_keys(all), (GCompareFunc)strcmp);
    for (GList *f = fields; f; f = f->next) {
        if (permission(form->name, f->data) ||
            !strcmp(value(a, f->data), value(b, f->data))) {
            continue;
        }
        n++;
        if (out) {
            g_ptr_array_add(
                out, g_strdup_printf("%s: %s: %s became %s", form->name,
                                     (const char *)f->data, value(a, f->data),
                                     value(b, f->data)));
        }
    }
    return n;
}

/* The fields that may differ, but not in every way. */
static void check_permitted(const ViewForm *form, GHashTable *a, GHashTable *b,
                            guint transit_s, guint elapsed_s, GPtrArray *out)
{
    for (size_t i = 0; i < G_N_ELEMENTS(permitted); i++) {
        const char *field = permitted[i].field;
        const char *was = value(a, field), *is = value(b, field);
        bool ok = true;

        if (strcmp(permitted[i].form, form->name)) {
            continue;
        }
        if (permitted[i].how == AGES) {
            gint64 lost = atoll(was) - atoll(is) - transit_s;

            /* Both numbers were rounded down. */
            ok = lost >= -1 && lost <= (gint64)elapsed_s + 1;
        } else if (permitted[i].how == RESTARTS) {
            ok = !strcmp(is, "0") || !strcmp(is, "(none)");
        }
        if (!ok) {
            g_ptr_array_add(out,
                            g_strdup_printf("%s: %s: %s became %s, %u s later",
                                            form->name, field, was, is,
                                            transit_s + elapsed_s));
        }
    }
}

/* Of those that are left, the one that differs least. */
static GHashTable *nearest(const ViewForm *form, GHashTable *a,
                           const GPtrArray *left)
{
    GHashTable *best = NULL;
    guint least = G_MAXUINT;

    for (guint i = 0; i < left->len; i++) {
        guint n = differ(form, a, left->pdata[i], NULL);

        if (n < least) {
            least = n;
            best = left->pdata[i];
        }
    }
    return best;
}

/* Of one form.  Entries pair off by what must not differ; of several that are
 * equal in it, any does. */
static void compare(const ViewForm *form, const GPtrArray *before,
                    const GPtrArray *after, guint transit_s, guint elapsed_s,
                    GPtrArray *out)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new();
    g_autoptr(GPtrArray) alone = g_ptr_array_new();

    for (guint i = 0; i < after->len; i++) {
        g_ptr_array_add(left, after->pdata[i]);
    }
    for (guint i = 0; i < before->len; i++) {
        g_autofree char *wanted = fixed_part(form, before->pdata[i]);
        guint k;

        for (k = 0; k < left->len; k++) {
            g_autofree char *there = fixed_part(form, left->pdata[k]);

            if (!strcmp(wanted, there)) {
                break;
            }
        }
        if (k == left->len) {
            g_ptr_array_add(alone, before->pdata[i]);
            continue;
        }
        check_permitted(form, before->pdata[i], left->pdata[k], transit_s,
                        elapsed_s, out);
        g_ptr_array_remove_index(left, k);
    }
    for (guint i = 0; i < alone->len; i++) {
        g_autofree char *text = fixed_part(form, alone->pdata[i]);
        GHashTable *other = nearest(form, alone->pdata[i], left);

        if (other) {
            differ(form, alone->pdata[i], other, out);
            g_ptr_array_remove(left, other);
        } else {
            g_ptr_array_add(out,
                            g_strdup_printf("%s: lost %s", form->name, text));
        }
    }
    for (guint i = 0; i < left->len; i++) {
        g_autofree char *text = fixed_part(form, left->pdata[i]);

        g_ptr_array_add(out, g_strdup_printf("%s: new %s", form->name, text));
    }
}

GPtrArray *view_differences(const View *before, const View *after,
                            guint transit_s)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    guint elapsed_s =
        (guint)((g_get_monotonic_time() - before->taken_us) / G_USEC_PER_SEC) +
        1;

    for (size_t i = 0; i < VIEW_FORMS; i++) {
        compare(&forms[i], before->entries[i], after->entries[i], transit_s,
                elapsed_s, out);
    }
    return out;
}
