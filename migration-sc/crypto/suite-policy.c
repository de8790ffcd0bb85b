/*
 * Which suites this host offers and accepts.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <string.h>

#include "error.h"
#include "suite.h"

/* Ordered: each floor admits what the next one admits, and more. */
static const char *const floors[] = { "integrity-only", "encrypted",
                                      "encrypted-256" };

/* The highest floor that @suite still meets. */
static size_t suite_floor(const MscSuite *suite)
{
    return !suite->encrypts ? 0 : suite->key_len < 32 ? 1 : 2;
}

static bool parse_floor(const char *what, const char *minimum, size_t *floor,
                        GError **errp)
{
    for (*floor = 0; *floor < G_N_ELEMENTS(floors); (*floor)++) {
        if (!strcmp(minimum ? minimum : "encrypted", floors[*floor])) {
            return true;
        }
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                "%s: minimum=%s must be integrity-only, encrypted or "
                "encrypted-256",
                what, minimum);
    return false;
}

static bool is_known(const char *name)
{
    const char *known;

    for (unsigned id = 1; (known = msc_suite_name(id)); id++) {
        if (!strcmp(name, known)) {
            return true;
        }
    }
    return false;
}

/* Adds @suite to @list. */
static bool add_named(const char *what, const char *name, size_t floor,
                      GPtrArray *list, GError **errp)
{
    const MscSuite *suite = msc_suite_by_name(name);

    if (!is_known(name)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: suites= names '%s', which is no suite", what, name);
        return false;
    }
    if (suite && suite_floor(suite) < floor) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: suites= names %s, which is below minimum=%s", what,
                    name, floors[floor]);
        return false;
    }
    for (guint i = 0; i < list->len; i++) {
        if (!strcmp(list->pdata[i], name)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                        "%s: suites= names %s twice", what, name);
            return false;
        }
    }
    if (suite) {
        g_ptr_array_add(list, g_strdup(name));
    }
    return true;
}

char **msc_suite_policy(const char *what, char **preference,
                        const char *minimum, GError **errp)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    size_t floor;

    if (!parse_floor(what, minimum, &floor, errp)) {
        return NULL;
    }
    for (char **name = preference; name && *name; name++) {
        if (!add_named(what, *name, floor, list, errp)) {
            return NULL;
        }
    }
    for (const MscSuite *const *s = msc_suites(); !preference && *s; s++) {
        if (suite_floor(*s) >= floor) {
            g_ptr_array_add(list, g_strdup((*s)->name));
        }
    }
    if (!list->len) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: this host's libsodium and CPU have none of the "
                    "suites that suites= and minimum= allow; see "
                    "'migration-sc doctor'",
                    what);
        return NULL;
    }
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&list), FALSE);
}
