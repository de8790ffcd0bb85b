/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "config.h"

#include "error.h"
#include "keyfile.h"
#include "suite.h"

#define WHAT "migration-sc.conf"

void msc_config_free(MscConfig *config)
{
    if (config) {
        g_strfreev(config->suites);
        g_free(config);
    }
}

MscConfig *msc_config_parse(const char *data, size_t len, GError **errp)
{
    static const char *const transport[] = { "suites", "handshake-timeout-ms",
                                             NULL };
    static const char *const handoff[] = { "helper-timeout-ms", NULL };
    static const MscKeyFileGroup groups[] = {
        { "transport", transport }, { "handoff", handoff }, { 0 }
    };
    g_autoptr(GKeyFile) file = msc_keyfile_parse(WHAT, data, len, groups,
                                                 errp);
    g_autoptr(MscConfig) config = g_new0(MscConfig, 1);
    bool any = false;

    if (!file) {
        return NULL;
    }
    config->handshake_timeout_ms = 5000;
    config->helper_timeout_ms = 10000;
    if (!msc_keyfile_uint(file, WHAT, "transport", "handshake-timeout-ms", 100,
                          600000, &config->handshake_timeout_ms, errp) ||
        !msc_keyfile_uint(file, WHAT, "handoff", "helper-timeout-ms", 100,
                          600000, &config->helper_timeout_ms, errp)) {
        return NULL;
    }
    config->suites = g_key_file_get_string_list(file, "transport", "suites",
                                                NULL, NULL);
    for (char **s = config->suites; s && *s; s++) {
        any |= msc_suite_by_name(*s) != NULL;
    }
    if (config->suites && !any) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: none of suites= is available on this host; see "
                    "'migration-sc doctor'", WHAT);
        return NULL;
    }
    return g_steal_pointer(&config);
}

MscConfig *msc_config_load(const char *config_dir, GError **errp)
{
    g_autofree char *path = g_build_filename(config_dir, WHAT, NULL);
    g_autofree char *data = NULL;
    g_autoptr(GError) err = NULL;
    gsize len;

    if (!g_file_get_contents(path, &data, &len, &err)) {
        if (g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
            return msc_config_parse("", 0, errp);
        }
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG, "%s", err->message);
        return NULL;
    }
    return msc_config_parse(data, len, errp);
}
