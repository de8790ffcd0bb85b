/*
 * CONFIG/migration-sc.conf: a GKeyFile, strictly read; a missing file means
 * the defaults.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_TRANSFER_CONFIG_H
#define MSC_TRANSFER_CONFIG_H

#include <glib.h>
#include <stdbool.h>

typedef struct {
    /* [transport] suites= and minimum= encrypted: best first, never NULL. */
    char **suites;
    bool post_quantum_only;        /* [transport] post-quantum= preferred */
    unsigned handshake_timeout_ms; /* [transport] handshake-timeout-ms= 5000 */
    bool context_optional;         /* [handoff] context= required */
    unsigned helper_timeout_ms;    /* [handoff] helper-timeout-ms= 10000 */
    unsigned helper_port;          /* [handoff] helper-port= 0: off */
    unsigned precopy_cpu;          /* [handoff] precopy-cpu= 50, percent */
    unsigned precopy_disk_mib;     /* [handoff] precopy-disk-mib= 2048 */
} MscConfig;

MscConfig *msc_config_load(const char *config_dir, GError **errp);
MscConfig *msc_config_parse(const char *data, size_t len, GError **errp);
void msc_config_free(MscConfig *config);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(MscConfig, msc_config_free)

#endif
