/*
 * Configuration files: guests, peers, migration-sc.conf.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include <unistd.h>

#include "ahead.h"
#include "config.h"
#include "error.h"
#include "identity.h"
#include "journal.h"
#include "kem.h"
#include "suite.h"
#include "vm.h"

#define UUID "01234567-89ab-cdef-0123-456789abcdef"
#define KEY "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

typedef struct {
    const char *text;
    const char *complaint; /* NULL: it is good */
} Row;

static void check(const Row *row, bool ok, GError *err)
{
    g_assert_true(ok == (row->complaint == NULL));
    if (!ok) {
        g_assert_nonnull(strstr(err->message, row->complaint));
        g_error_free(err);
    }
}

static void test_vm(void)
{
    static const Row rows[] = {
        { "[vm]\naddress=10.0.0.1\n", NULL },
        { "[vm]\nname=a\nzone=7\nmark=0x10/0xf0\naddress=10.0.0.1;fd00::1\n"
          "nat-address=192.0.2.1\nnat-policy=leave-behind\nuid=107\n"
          "cgroup=/machine\npeer=b\n",
          NULL },
        { "[vm]\n", "which flows" },
        { "", "which flows" },
        { "[vm]\naddress=10.0.0.256\n", "address" },
        { "[vm]\nzone=65536\n", "zone" },
        { "[vm]\nzone=-1\n", "zone" },
        { "[vm]\nzone=7\nzoom=1\n", "zoom" },
        { "[vm]\nzone=7\nuid=1\nuid = 2\n", "line 4: uid is there twice" },
        { "[vm]\nzone=7\n\n[vm]\nuid=2\n", "line 4: [vm] is there twice" },
        { "[vm]\nzone=7\n[other]\n", "other" },
        { "[vm]\nzone=7\nmark=0x10/0x0f\n", "mark" },
        { "[vm]\nzone=7\nname=../x\n", "name" },
        { "[vm]\nzone=7\nnat-policy=maybe\n", "nat-policy" },
        { "[vm]\nzone=7\nuid=x\n", "uid" },
        { "[vm]\nzone=7\ncgroup=\n", "cgroup" },
        { "[vm]\nzone=7\ncgroup=machine\n", "cgroup" },
        { "[vm]\nzone=7\ncgroup=/machine/\n", "cgroup" },
        { "[vm]\nzone=7\nname=\xff\n", "UTF-8" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *err = NULL;
        g_autoptr(MscVm) vm =
            msc_vm_parse(UUID, rows[i].text, strlen(rows[i].text), &err);

        check(&rows[i], vm != NULL, err);
        if (vm) {
            g_autofree char *text = msc_vm_format(vm);
            g_autoptr(MscVm) again =
                msc_vm_parse(UUID, text, strlen(text), NULL);
            g_autofree char *text2 = msc_vm_format(again);

            g_assert_cmpstr(text, ==, text2);
        }
    }
}

static void test_who_may_act(void)
{
    const char *text = "[vm]\nzone=1\nuid=107\n";
    const char *strict = "[vm]\nzone=1\ncgroup=/no/such/cgroup\n";
    g_autoptr(MscVm) vm = msc_vm_parse(UUID, text, strlen(text), NULL);
    g_autoptr(MscVm) other = msc_vm_parse(UUID, strict, strlen(strict), NULL);

    g_assert_true(msc_vm_may_act(vm, 107, getpid(), NULL));
    g_assert_false(msc_vm_may_act(vm, 0, getpid(), NULL));
    g_assert_false(msc_vm_may_act(vm, 108, getpid(), NULL));
    g_assert_false(msc_vm_may_act(other, 0, getpid(), NULL));
}

static void test_peer(void)
{
    static const Row rows[] = {
        { "[peer]\nkey=" KEY "\n", NULL },
        { "[peer]\nkey=" KEY "\naddress=10.0.0.1;\nrole=source\n", NULL },
        { "[peer]\nkey=AAAA\n", "key=" },
        { "[peer]\n", "key=" },
        { "[peer]\nkey=" KEY "\nrole=boss\n", "role" },
        { "[peer]\nkey=" KEY "\nkeys=1\n", "keys" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *err = NULL;
        g_autoptr(MscPeer) peer =
            msc_peer_parse("b", rows[i].text, strlen(rows[i].text), &err);

        check(&rows[i], peer != NULL, err);
    }
}

static void test_config(void)
{
    static const Row rows[] = {
        { "", NULL },
        { "[transport]\nsuites=xchacha20-poly1305\n", NULL },
        { "[transport]\nsuites=aegis-128l;xchacha20-poly1305\n", NULL },
        { "[transport]\nsuites=rot13\n", "'rot13', which is no suite" },
        { "[transport]\nsuites=xchacha20-poly1305;rot13\n", "rot13" },
        { "[transport]\nsuites=\n", "none of the suites" },
        { "[transport]\nsuites=\\q\n", "none of the suites" },
        { "[transport]\nsuites=xchacha20-poly1305;xchacha20-poly1305\n",
          "twice" },
        { "[transport]\nminimum=encrypted-256\n", NULL },
        { "[transport]\nminimum=much\n", "minimum=much" },
        { "[transport]\nminimum=\\q\n", "minimum=" },
        { "[transport]\npost-quantum=preferred\n", NULL },
        { "[transport]\npost-quantum=maybe\n", "post-quantum=maybe" },
        { "[transport]\npost-quantum=\\q\n", "post-quantum=" },
        { "[transport]\nhandshake-timeout-ms=0\n", "handshake-timeout-ms" },
        { "[transport]\nhandshake-timeout-ms=\\q\n", "handshake-timeout-ms" },
        { "[transport]\nsuite=x\n", "suite" },
        { "[handoff]\ncontext=required\n", NULL },
        { "[handoff]\ncontext=optional\n", NULL },
        { "[handoff]\ncontext=no\n", "context=no must be" },
        { "[handoff]\ncontext=\n", "context=" },
        { "[handoff]\nprecopy-cpu=100\n", NULL },
        { "[handoff]\nprecopy-cpu=19\n", "precopy-cpu" },
        { "[handoff]\nprecopy-cpu=101\n", "precopy-cpu" },
        { "[handoff]\nprecopy-disk-mib=1\n", NULL },
        { "[handoff]\nprecopy-disk-mib=1048576\n", NULL },
        { "[handoff]\nprecopy-disk-mib=0\n", "precopy-disk-mib" },
        { "[handoff]\nprecopy-disk-mib=1048577\n", "precopy-disk-mib" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *err = NULL;
        g_autoptr(MscConfig) config =
            msc_config_parse(rows[i].text, strlen(rows[i].text), &err);

        check(&rows[i], config != NULL, err);
    }
}

/* What a policy leaves, of what this libsodium and CPU have. */
static void test_suite_policy(void)
{
    static const char floor0[] = "[transport]\nminimum=integrity-only\n";
    static const char floor2[] = "[transport]\nminimum=encrypted-256\n";
    static const char named[] = "[transport]\nsuites=integrity-only\n";
    static const char weak[] = "[transport]\nminimum=encrypted-256\n"
                               "suites=aegis-128l\n";
    static const char order[] = "[transport]\n"
                                "suites=xchacha20-poly1305;aegis-256\n";
    static const char pq[] = "[transport]\npost-quantum=required\n";
    bool aegis = msc_suite_by_id(MSC_SUITE_AEGIS_128L) != NULL;
    g_autoptr(MscConfig) plain = msc_config_parse("", 0, NULL);
    g_autoptr(MscConfig) low = msc_config_parse(floor0, strlen(floor0), NULL);
    g_autoptr(MscConfig) high = msc_config_parse(floor2, strlen(floor2), NULL);
    g_autoptr(MscConfig) mine = msc_config_parse(order, strlen(order), NULL);
    g_autoptr(MscConfig) required = NULL;
    g_autoptr(GError) err = NULL;

#define HAS(config, name) \
    g_strv_contains((const char *const *)(config)->suites, name)
    g_assert_false(plain->context_optional);
    g_assert_false(HAS(plain, "integrity-only"));
    g_assert_true(HAS(plain, "xchacha20-poly1305"));
    g_assert_true(HAS(plain, "aegis-128l") == aegis);
    g_assert_true(HAS(low, "integrity-only") == aegis);
    g_assert_false(HAS(high, "aegis-128l"));
    g_assert_true(HAS(high, "aegis-256") == aegis);
    g_assert_cmpstr(mine->suites[0], ==, "xchacha20-poly1305");
    g_assert_cmpuint(g_strv_length(mine->suites), ==, aegis ? 2 : 1);

    /* Names below the floor are a contradiction, where they mean anything. */
    g_assert_null(msc_config_parse(named, strlen(named), &err));
    g_assert_nonnull(strstr(err->message, aegis ? "below minimum=encrypted"
                                                : "none of the suites"));
    g_clear_error(&err);
    g_assert_null(msc_config_parse(weak, strlen(weak), &err));
    g_assert_nonnull(strstr(err->message, aegis ? "below minimum=encrypted-256"
                                                : "none of the suites"));
    g_clear_error(&err);

    required = msc_config_parse(pq, strlen(pq), &err);
    if (msc_kem_have_post_quantum()) {
        g_assert_true(required->post_quantum_only);
        g_assert_false(plain->post_quantum_only);
    } else {
        g_assert_null(required);
        g_assert_nonnull(strstr(err->message, "X-Wing"));
    }
}

static void test_precopy_share(void)
{
    static const struct {
        uint64_t used;
        unsigned percent;
        uint64_t pause;
    } rows[] = {
        { 2000, 100, 0 },   { 2000, 50, 2000 },
        { 2000, 20, 8000 }, { 3000, 75, 1000 },
        { 0, 20, 0 },       { 1000000, 50, MSC_AHEAD_PAUSE_MAX },
    };
    g_autoptr(MscConfig) config = msc_config_parse("", 0, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_cmpuint(msc_ahead_pause_us(rows[i].used, rows[i].percent), ==,
                         rows[i].pause);
    }
    g_assert_cmpuint(config->precopy_cpu, ==, 50);
    g_assert_cmpuint(config->precopy_disk_mib, ==, 2048);
}

static void test_journal(void)
{
    g_autoptr(MscEntry) entry =
        msc_entry_new(MSC_ROLE_DESTINATION, UUID, "a;b\nc");
    g_autoptr(MscEntry) again = NULL;
    g_autofree char *text = NULL;
    g_autofree char *bad = NULL;

    entry->stage = MSC_STAGE_READY;
    entry->stats.flows = 77;
    entry->token[0][5] = 9;
    text = msc_entry_format(entry);
    again = msc_entry_parse(text, strlen(text), NULL);
    g_assert_nonnull(again);
    g_assert_cmpint(again->stage, ==, MSC_STAGE_READY);
    g_assert_cmpint(again->role, ==, MSC_ROLE_DESTINATION);
    g_assert_cmpstr(again->name, ==, "a;b\nc");
    g_assert_cmpuint(again->stats.flows, ==, 77);
    g_assert_cmpmem(again->token, sizeof(again->token), entry->token,
                    sizeof(entry->token));
    bad = g_strndup(text, strlen(text) / 2);
    g_assert_null(msc_entry_parse(bad, strlen(bad), NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/config/vm", test_vm);
    g_test_add_func("/config/who-may-act", test_who_may_act);
    g_test_add_func("/config/peer", test_peer);
    g_test_add_func("/config/migration-sc.conf", test_config);
    g_test_add_func("/config/suite-policy", test_suite_policy);
    g_test_add_func("/config/precopy-share", test_precopy_share);
    g_test_add_func("/journal/round-trip", test_journal);
    return g_test_run();
}
