/*
 * identity.key: the one file that holds a secret.
 *
 * It is read into locked memory and taken apart there.  GKeyFile would leave
 * copies of the seed on the heap that nobody wipes.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "identity-private.h"
#include "keyfile.h"
#include "secret.h"

#define FILE_MAX 4096
#define NAME_KEY "name="
#define SEED_KEY "seed="

typedef struct {
    const char *text; /* in locked memory, not ended by NUL */
    size_t len;
} Span;

static bool span_is(Span s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.text, text, s.len);
}

/* Is @line KEY and a value?  Then *@value is the value. */
static bool span_value(Span line, const char *key, Span *value)
{
    size_t len = strlen(key);

    if (line.len < len || memcmp(line.text, key, len) != 0) {
        return false;
    }
    *value = (Span){ line.text + len, line.len - len };
    return true;
}

/* The next line of @rest, without its end; false when there is none. */
static bool next_line(Span *rest, Span *line)
{
    const char *end;

    if (!rest->len) {
        return false;
    }
    end = memchr(rest->text, '\n', rest->len);
    *line = (Span){ rest->text, end ? (size_t)(end - rest->text) : rest->len };
    rest->text += line->len + (end != NULL);
    rest->len -= line->len + (end != NULL);
    return true;
}

/* The first line that is not one of [identity], name= and seed=, each once,
 * in this order, or 0. Empty lines and comments are passed over. */
static size_t find_values(Span rest, Span *name, Span *seed)
{
    Span line;
    int step = 0;

    for (size_t number = 1; next_line(&rest, &line); number++) {
        if (!line.len || *line.text == '#') {
            continue;
        }
        if (step == 0   ? !span_is(line, "[identity]")
            : step == 1 ? !span_value(line, NAME_KEY, name)
                        : step > 2 || !span_value(line, SEED_KEY, seed)) {
            return number;
        }
        step++;
    }
    return 0;
}

MscIdentity *msc_identity_parse(const char *what, const char *data, size_t len,
                                GError **errp)
{
    uint8_t *secret = msc_secret_new(crypto_sign_SEEDBYTES, errp);
    Span name = { 0 }, seed = { 0 };
    g_autofree char *text = NULL;
    MscIdentity *id = NULL;
    size_t got, bad;

    if (!secret) {
        return NULL;
    }
    bad = find_values((Span){ data, len }, &name, &seed);
    if (bad) {
        /* Not what stands there: it may be the seed. */
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: line %zu: expected [identity], name= and seed=, each "
                    "once and in this order",
                    what, bad);
        goto out;
    }
    text = g_strndup(name.text, name.len);
    if (!name.len || !msc_name_is_safe(text)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: name= is missing or not a host's name", what);
    } else if (!seed.len ||
               sodium_base642bin(secret, crypto_sign_SEEDBYTES, seed.text,
                                 seed.len, NULL, &got, NULL,
                                 sodium_base64_VARIANT_ORIGINAL) ||
               got != crypto_sign_SEEDBYTES) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: seed= is missing or not %u bytes in base64", what,
                    crypto_sign_SEEDBYTES);
    } else {
        id = msc_identity_from_seed(text, secret, errp);
    }
out:
    msc_secret_free(secret);
    return id;
}

/* All of @fd, at most FILE_MAX bytes, or -1 with errno. */
static ssize_t read_all(int fd, char *buf)
{
    size_t len = 0;

    while (len < FILE_MAX) {
        ssize_t n = read(fd, buf + len, FILE_MAX - len);

        if (n < 0 && errno != EINTR) {
            return -1;
        }
        if (n == 0) {
            return (ssize_t)len;
        }
        len += n > 0 ? (size_t)n : 0;
    }
    errno = EFBIG;
    return -1;
}

static MscIdentity *identity_read(const char *path, int fd, GError **errp)
{
    MscIdentity *id = NULL;
    struct stat st;
    ssize_t len;
    char *buf;

    if (fstat(fd, &st)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "'%s': %s", path,
                    g_strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%s' is not a regular file", path);
        return NULL;
    }
    if (st.st_mode & 077) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "others can read this host's key: chmod 600 '%s'", path);
        return NULL;
    }
    buf = msc_secret_new(FILE_MAX, errp);
    if (!buf) {
        return NULL;
    }
    len = read_all(fd, buf);
    if (len < 0) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "cannot read '%s': %s",
                    path, g_strerror(errno));
    } else {
        id = msc_identity_parse(path, buf, (size_t)len, errp);
    }
    msc_secret_free(buf);
    return id;
}

MscIdentity *msc_identity_load(const char *config_dir, GError **errp)
{
    g_autofree char *path = g_build_filename(config_dir, "identity.key", NULL);
    /* NONBLOCK: a FIFO in its place must not hang the daemon. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    MscIdentity *id;

    if (fd < 0) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "this host has no key, '%s': %s; make one with "
                    "'migration-sc keygen'",
                    path, g_strerror(errno));
        return NULL;
    }
    id = identity_read(path, fd, errp);
    close(fd);
    return id;
}

bool msc_identity_create(const char *config_dir, const char *name,
                         GError **errp)
{
    g_autofree char *key_path =
        g_build_filename(config_dir, "identity.key", NULL);
    g_autofree char *pub_path =
        g_build_filename(config_dir, "identity.pub", NULL);
    g_autofree char *pub_base64 = NULL;
    g_autofree char *pub_text = NULL;
    char *text;
    size_t at;
    MscIdentity *id;
    bool ok;

    if (!msc_name_is_safe(name)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%.80s' cannot be a host's name: use letters, digits, "
                    "'.', '_' and '-'",
                    name);
        return false;
    }
    if (g_file_test(key_path, G_FILE_TEST_EXISTS)) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "'%s' exists; a new key would cut this host off from all "
                    "that trust it, so remove the file yourself if you want "
                    "that",
                    key_path);
        return false;
    }
    id = msc_identity_generate(name, errp);
    text = id ? msc_secret_new(FILE_MAX, errp) : NULL;
    if (!text) {
        msc_identity_free(id);
        return false;
    }
    g_snprintf(text, FILE_MAX, "[identity]\n" NAME_KEY "%s\n" SEED_KEY, name);
    at = strlen(text);
    /* The seed is the first half of libsodium's secret key. */
    sodium_bin2base64(text + at, FILE_MAX - at - 1, id->secret_key,
                      crypto_sign_SEEDBYTES, sodium_base64_VARIANT_ORIGINAL);
    g_strlcat(text, "\n", FILE_MAX);
    pub_base64 = g_base64_encode(id->public_key, sizeof(id->public_key));
    pub_text = g_strdup_printf("[peer]\nkey=%s\n", pub_base64);
    ok = msc_file_replace(key_path, text, 0600, errp) &&
         msc_file_replace(pub_path, pub_text, 0644, errp);
    msc_secret_free(text);
    msc_identity_free(id);
    return ok;
}
