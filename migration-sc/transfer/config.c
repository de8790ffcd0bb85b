/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "config.h"

#include <string.h>

#include "error.h"
#include "kem.h"
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

static bool parse_crypto(GKeyFile *file, MscConfig *config, GError **errp)
{
    g_auto(GStrv) suites = NULL;
    g_autofree char *minimum = NULL;
    g_autofree char *post_quantum = NULL;

    if (!msc_keyfile_string(file, WHAT, "transport", "minimum", &minimum,
                            errp) ||
        !msc_keyfile_string(file, WHAT, "transport", "post-quantum",
                            &post_quantum, errp)) {
        return false;
    }
    if (g_key_file_has_key(file, "transport", "suites", NULL)) {
        suites =
            g_key_file_get_string_list(file, "transport", "suites", NULL, NULL);
        if (!suites) {
            suites = g_new0(char *, 1);
        }
    }
    config->suites = msc_suite_policy(WHAT, suites, minimum, errp);
    if (!config->suites) {
        return false;
    }
    config->post_quantum_only =
        post_quantum && !strcmp(post_quantum, "required");
    if (post_quantum && !config->post_quantum_only &&
        strcmp(post_quantum, "preferred")) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: post-quantum=%s must be preferred or required", WHAT,
                    post_quantum);
        return false;
    }
    if (config->post_quantum_only && !msc_kem_have_post_quantum()) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: post-quantum=required, but this libsodium is older "
                    "than 1.0.22 and has no X-Wing",
                    WHAT);
        return false;
    }
    return true;
}

static bool parse_context(GKeyFile *file, MscConfig *config, GError **errp)
{
    g_autofree char *context = NULL;

    if (!msc_keyfile_string(file, WHAT, "handoff", "context", &context, errp)) {
        return false;
    }
    config->context_optional = context && !strcmp(context, "optional");
    if (context && !config->context_optional && strcmp(context, "required")) {
        g_set_error(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                    "%s: context=%s must be required or optional", WHAT,
                    context);
        return false;
    }
    return true;
}

MscConfig *msc_config_parse(const char *data, size_t len, GError **errp)
{
    static const char *const transport[] = { "suites", "minimum",
                                             "post-quantum",
                                             "handshake-timeout-ms", NULL };
    static const char *const handoff[] = { "helper-timeout-ms", "context",
                                           "helper-port",       "precopy-cpu",
                                           "precopy-disk-mib",  NULL };
    static const MscKeyFileGroup groups[] = { { "transport", transport },
                                              { "handoff", handoff },
                                              { 0 } };
    g_autoptr(GKeyFile) file = msc_keyfile_parse(WHAT, data, len, groups, errp);
    g_autoptr(MscConfig) config = g_new0(MscConfig, 1);

    if (!file) {
        return NULL;
    }
    config->handshake_timeout_ms = 5000;
    config->helper_timeout_ms = 10000;
    config->precopy_cpu = 50;
    config->precopy_disk_mib = 2048;
    if (!msc_keyfile_uint(file, WHAT, "transport", "handshake-timeout-ms", 100,
                          600000, &config->handshake_timeout_ms, errp) ||
        !msc_keyfile_uint(file, WHAT, "handoff", "helper-timeout-ms", 100,
                          600000, &config->helper_timeout_ms, errp) ||
        !msc_keyfile_uint(file, WHAT, "handoff", "helper-port", 0, 65535,
                          &config->helper_port, errp) ||
        !msc_keyfile_uint(file, WHAT, "handoff", "precopy-cpu", 20, 100,
                          &config->precopy_cpu, errp) ||
        !msc_keyfile_uint(file, WHAT, "handoff", "precopy-disk-mib", 1,
                          1024 * 1024, &config->precopy_disk_mib, errp) ||
        !parse_context(file, config, errp) ||
        !parse_crypto(file, config, errp)) {
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
