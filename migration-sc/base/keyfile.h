/*
 * Configuration files: GKeyFiles, read strictly.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_BASE_KEYFILE_H
#define MSC_BASE_KEYFILE_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* What a file may hold. */
typedef struct {
    const char *group;
    const char *const *keys; /* NULL-terminated */
} MscKeyFileGroup;

/*
 * Parses @data; any group or key that @groups (ended by a NULL group) does
 * not list, or that is there twice, is an error that names it and @what.
 */
GKeyFile *msc_keyfile_parse(const char *what, const char *data, size_t len,
                            const MscKeyFileGroup *groups, GError **errp);
/* A string; *@text becomes NULL if the key is absent, while a value that cannot
 * be read (a bad escape) is an error and not the same as none. */
bool msc_keyfile_string(GKeyFile *file, const char *what, const char *group,
                        const char *key, char **text, GError **errp);
/* An unsigned number in [min, max]; *@v is left alone if the key is absent. */
bool msc_keyfile_uint(GKeyFile *file, const char *what, const char *group,
                      const char *key, unsigned min, unsigned max, unsigned *v,
                      GError **errp);
/* Whole or not at all: a new file, fsynced and renamed over @path. */
bool msc_file_replace(const char *path, const char *text, mode_t mode,
                      GError **errp);
/* A name that can be a file's: letters, digits, '.', '_', '-'; no '.' first. */
bool msc_name_is_safe(const char *name);

#endif
