/*
 * Configuration files: guests, peers, migration-sc.conf.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "error.h"
#include "identity.h"
#include "journal.h"
#include "vm.h"

#define UUID "01234567-89ab-cdef-0123-456789abcdef"
#define KEY "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

typedef struct {
    const char *text;
    const char *complaint;      /* NULL: it is good */
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
          "cgroup=/machine\npeer=b\n", NULL },
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
        g_autoptr(MscVm) vm = msc_vm_parse(UUID, rows[i].text,
                                           strlen(rows[i].text), &err);

        check(&rows[i], vm != NULL, err);
        if (vm) {
            g_autofree char *text = msc_vm_format(vm);
            g_autoptr(MscVm) again = msc_vm_parse(UUID, text, strlen(text),
                                                  NULL);
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
        g_autoptr(MscPeer) peer = msc_peer_parse("b", rows[i].text,
                                                 strlen(rows[i].text), &err);

        check(&rows[i], peer != NULL, err);
    }
}

static void test_config(void)
{
    static const Row rows[] = {
        { "", NULL },
        { "[transport]\nsuites=xchacha20-poly1305\n", NULL },
        { "[transport]\nsuites=rot13\n", "suites" },
        { "[transport]\nhandshake-timeout-ms=0\n", "handshake-timeout-ms" },
        { "[transport]\nsuite=x\n", "suite" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *err = NULL;
        g_autoptr(MscConfig) config = msc_config_parse(
            rows[i].text, strlen(rows[i].text), &err);

        check(&rows[i], config != NULL, err);
    }
}

static void test_journal(void)
{
    g_autoptr(MscEntry) entry = msc_entry_new(MSC_ROLE_DESTINATION, UUID,
                                              "a;b\nc");
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
    g_test_add_func("/journal/round-trip", test_journal);
    return g_test_run();
}
