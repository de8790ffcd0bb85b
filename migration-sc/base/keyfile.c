/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "error.h"

static const MscKeyFileGroup *find_group(const MscKeyFileGroup *groups,
                                         const char *name)
{
    for (; groups->group; groups++) {
        if (!strcmp(groups->group, name)) {
            return groups;
        }
    }
    return NULL;
}

/*
 * GKeyFile takes the last of two values and joins two groups of one name in
 * silence: a line that somebody appended would win over the one above it.
 */
static bool refuse_repeats(const char *what, const char *data, size_t len,
                           GError **errp)
{
    g_autofree char *text = g_strndup(data, len);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const char *group = "";

    for (size_t i = 0; lines[i]; i++) {
        char *line = g_strstrip(lines[i]);
        char *equals = strchr(line, '=');
        char *item;

        if (!*line || *line == '#' || (*line != '[' && !equals)) {
            continue; /* nothing, or the parser's to refuse */
        }
        if (*line == '[') {
            group = line;
            item = g_strdup(line);
        } else {
            *equals = '\0';
            item = g_strconcat(group, g_strchomp(line), NULL);
        }
        if (!g_hash_table_add(seen, item)) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                        "%s: line %zu: %s is there twice", what, i + 1, line);
            return false;
        }
    }
    return true;
}

GKeyFile *msc_keyfile_parse(const char *what, const char *data, size_t len,
                            const MscKeyFileGroup *groups, GError **errp)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_auto(GStrv) names = NULL;
    g_autoptr(GError) err = NULL;

    if (!g_utf8_validate(data, (gssize)len, NULL) || memchr(data, 0, len)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "%s: not UTF-8 text",
                    what);
        return NULL;
    }
    if (!refuse_repeats(what, data, len, errp)) {
        return NULL;
    }
    if (!g_key_file_load_from_data(file, data, len, G_KEY_FILE_NONE, &err)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "%s: %s", what,
                    err->message);
        return NULL;
    }
    names = g_key_file_get_groups(file, NULL);
    for (size_t i = 0; names[i]; i++) {
        const MscKeyFileGroup *group = find_group(groups, names[i]);
        g_auto(GStrv) keys = g_key_file_get_keys(file, names[i], NULL, NULL);

        if (!group) {
            g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                        "%s: unknown group [%s]", what, names[i]);
            return NULL;
        }
        for (size_t k = 0; keys && keys[k]; k++) {
            if (!g_strv_contains(group->keys, keys[k])) {
                g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                            "%s: unknown key '%s' in [%s]", what, keys[k],
                            names[i]);
                return NULL;
            }
        }
    }
    return g_steal_pointer(&file);
}

bool msc_keyfile_string(GKeyFile *file, const char *what, const char *group,
                        const char *key, char **text, GError **errp)
{
    g_autoptr(GError) err = NULL;

    /* With a bad escape, GLib up to 2.74 gives a string and an error. */
    *text = g_key_file_get_string(file, group, key, &err);
    if (err && g_key_file_has_key(file, group, key, NULL)) {
        g_clear_pointer(text, g_free);
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: %s= cannot be read: a bad escape?", what, key);
        return false;
    }
    return true;
}

bool msc_keyfile_uint(GKeyFile *file, const char *what, const char *group,
                      const char *key, unsigned min, unsigned max, unsigned *v,
                      GError **errp)
{
    g_autofree char *text = NULL;
    guint64 value;

    if (!msc_keyfile_string(file, what, group, key, &text, errp)) {
        return false;
    }
    if (!text) {
        return true;
    }
    if (!g_ascii_string_to_unsigned(text, 10, min, max, &value, NULL)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: %s=%s must be a number from %u to %u", what, key, text,
                    min, max);
        return false;
    }
    *v = (unsigned)value;
    return true;
}

bool msc_file_replace(const char *path, const char *text, mode_t mode,
                      GError **errp)
{
    g_autofree char *tmp = g_strdup_printf("%s.%d.new", path, getpid());
    g_autofree char *dir = g_path_get_dirname(path);
    size_t len = strlen(text), done = 0;
    int fd;

    if (g_mkdir_with_parents(dir, 0755)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot make '%s': %s", dir,
                    g_strerror(errno));
        return false;
    }
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    while (fd >= 0 && done < len) {
        ssize_t n = write(fd, text + done, len - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        done += (size_t)n;
    }
    if (fd < 0 || done < len || fsync(fd) || rename(tmp, path)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_IO, "cannot write '%s': %s",
                    path, g_strerror(errno));
        if (fd >= 0) {
            unlink(tmp);
            close(fd);
        }
        return false;
    }
    close(fd);
    return true;
}

bool msc_name_is_safe(const char *name)
{
    size_t len = strlen(name);

    return len && len <= 64 && *name != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789._-") == len;
}
