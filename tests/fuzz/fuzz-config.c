/*
 * migration-sc.conf is refused with a reason, or gives values within their
 * stated limits and at least one suite.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscConfig) config =
        msc_config_parse((const char *)data, size, &err);

    fuzz_must(!config == !!err);
    if (config) {
        fuzz_must(config->suites && config->suites[0]);
        fuzz_must(config->handshake_timeout_ms >= 100 &&
                  config->handshake_timeout_ms <= 600000);
        fuzz_must(config->helper_timeout_ms >= 100 &&
                  config->helper_timeout_ms <= 600000);
    }
    return 0;
}
