/*
 * The host's key and the trust store: what is not clearly allowed is refused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "identity.h"
#include "secret.h"

#define KEY "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="

static char *new_dir(void)
{
    char *dir = g_dir_make_tmp("msc-identity-XXXXXX", NULL);
    g_autofree char *peers = g_build_filename(dir, "peers.d", NULL);

    g_assert_cmpint(g_mkdir(peers, 0700), ==, 0);
    return dir;
}

static void put(const char *dir, const char *file, const char *text)
{
    g_autofree char *path = g_build_filename(dir, file, NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void drop(const char *dir, const char *file)
{
    g_autofree char *path = g_build_filename(dir, file, NULL);

    g_assert_cmpint(g_unlink(path), ==, 0);
}

static void drop_dir(const char *dir)
{
    g_autofree char *peers = g_build_filename(dir, "peers.d", NULL);

    g_assert_cmpint(g_rmdir(peers), ==, 0);
    g_assert_cmpint(g_rmdir(dir), ==, 0);
}

static void assert_not_loaded(const char *dir, const char *why)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(msc_identity_load(dir, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_CONFIG);
    g_assert_nonnull(strstr(err->message, why));
}

static void test_key_file(void)
{
    g_autofree char *dir = new_dir();
    g_autofree char *path = g_build_filename(dir, "identity.key", NULL);
    g_autofree char *pub = g_build_filename(dir, "identity.pub", NULL);
    g_autofree char *text = NULL;
    g_autoptr(MscIdentity) id = NULL;
    g_autoptr(GError) err = NULL;
    uint8_t key[MSC_IDENTITY_KEY_LEN];
    struct stat st;

    assert_not_loaded(dir, "keygen");
    g_assert_false(msc_identity_create(dir, "../a", &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_CONFIG);
    g_clear_error(&err);

    g_assert_true(msc_identity_create(dir, "host-a", &err));
    g_assert_no_error(err);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    id = msc_identity_load(dir, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(msc_identity_name(id), ==, "host-a");
    g_assert_true(g_file_get_contents(pub, &text, NULL, NULL));
    g_assert_true(msc_peer_key_parse(text, key, NULL));
    g_assert_cmpmem(key, sizeof(key), msc_identity_public(id), sizeof(key));

    /* A second key would cut the host off from its peers. */
    g_assert_false(msc_identity_create(dir, "host-a", &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_CONFIG);

    g_assert_cmpint(g_chmod(path, 0640), ==, 0);
    assert_not_loaded(dir, "chmod 600");
    g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    put(dir, "identity.key", "[identity]\nname=a\nseed=AAAA\n");
    g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    assert_not_loaded(dir, "seed=");
    drop(dir, "identity.key");
    drop(dir, "identity.pub");
    drop_dir(dir);
}

/* Both masked, so that the search does not find itself. */
typedef struct {
    char masked[64];
    size_t len;
} Needle;

static bool range_holds(int mem, off_t from, off_t to, const Needle *n)
{
    static char block[1 << 16];
    bool found = false;

    /* Blocks overlap, so that nothing hides on a border. */
    for (off_t at = from; at < to && !found; at += sizeof(block) - n->len) {
        ssize_t got = pread(mem, block, MIN((off_t)sizeof(block), to - at), at);

        for (ssize_t i = 0; i + (ssize_t)n->len <= got && !found; i++) {
            size_t k = 0;

            while (k < n->len && (block[i + k] ^ '\x55') == n->masked[k]) {
                k++;
            }
            found = k == n->len;
        }
    }
    msc_wipe(block, sizeof(block));
    return found;
}

/* Does any writable memory of this process hold it? */
static bool memory_holds(const Needle *n)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY);
    unsigned long from, to;
    bool found = false;
    char line[512], mode[5];

    g_assert_true(maps && mem >= 0);
    while (fgets(line, sizeof(line), maps)) {
        /* A sanitizer's shadow is endless, and holds no text. */
        if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) == 3 &&
            mode[0] == 'r' && mode[1] == 'w' && to - from < 64u << 20) {
            found |= range_holds(mem, (off_t)from, (off_t)to, n);
        }
    }
    fclose(maps);
    close(mem);
    return found;
}

static void test_seed_stays_locked(void)
{
    g_autofree char *dir = new_dir();
    g_autofree char *path = g_build_filename(dir, "identity.key", NULL);
    g_autoptr(MscIdentity) id = NULL;
    g_autofree char *leak = NULL;
    char text[128], *seed;
    Needle n = { .len = 43 };
    int fd;

    g_assert_true(msc_identity_create(dir, "a", NULL));
    fd = open(path, O_RDONLY);
    memset(text, 0, sizeof(text));
    g_assert_cmpint(read(fd, text, sizeof(text) - 1), >, 0);
    close(fd);
    seed = strstr(text, "seed=") + 5;
    for (size_t i = 0; i < n.len; i++) {
        n.masked[i] = seed[i] ^ '\x55';
    }
    msc_wipe(text, sizeof(text));

    id = msc_identity_load(dir, NULL);
    g_assert_nonnull(id);
    g_assert_false(memory_holds(&n));
    /* The control: a copy on the heap is found. */
    leak = g_malloc0(n.len + 1);
    for (size_t i = 0; i < n.len; i++) {
        leak[i] = n.masked[i] ^ '\x55';
    }
    g_assert_true(memory_holds(&n));
    drop(dir, "identity.key");
    drop(dir, "identity.pub");
    drop_dir(dir);
}

/* What it says is never in the error: it may be the seed. */
static void test_key_file_is_strict(void)
{
    static const struct {
        const char *text;
        const char *why; /* NULL: it is good */
    } rows[] = {
        { "[identity]\nname=a\nseed=" KEY "\n", NULL },
        { "# mine\n\n[identity]\nname=a\nseed=" KEY, NULL },
        { "", "name=" },
        { "[identity]\n", "name=" },
        { "[identity]\nname=a\n", "seed=" },
        { "[identity]\nname=a\nseed=\n", "seed=" },
        { "[identity]\nname=a\nseed=AAAA\n", "seed=" },
        { "[identity]\nname=a\nseed=" KEY "AAAA\n", "seed=" },
        { "[identity]\nname=../a\nseed=" KEY "\n", "name=" },
        { "[identity]\nname=\nseed=" KEY "\n", "name=" },
        { "name=a\nseed=" KEY "\n", "line 1" },
        { "[identity]\nseed=" KEY "\nname=a\n", "line 2" },
        { "[identity]\nname=a\nseed=" KEY "\nseed=" KEY "\n", "line 4" },
        { "[identity]\nname=a\nname=b\nseed=" KEY "\n", "line 3" },
        { "[identity]\nname=a\nseed=" KEY "\nmore=1\n", "line 4" },
        { "[identity]\n[identity]\nname=a\nseed=" KEY "\n", "line 2" },
        { "[identity]\r\nname=a\r\nseed=" KEY "\r\n", "line 1" },
        { " [identity]\nname=a\nseed=" KEY "\n", "line 1" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) err = NULL;
        g_autoptr(MscIdentity) id =
            msc_identity_parse("key", rows[i].text, strlen(rows[i].text), &err);

        g_test_message("%s", rows[i].text);
        if (!rows[i].why) {
            g_assert_no_error(err);
            g_assert_nonnull(id);
            continue;
        }
        g_assert_null(id);
        g_assert_error(err, MSC_ERROR, MSC_ERROR_CONFIG);
        g_assert_nonnull(strstr(err->message, rows[i].why));
        g_assert_null(strstr(err->message, "AAAA"));
    }
}

/* RFC 8032, section 7.1, test 2: the public key and signature of 0x72. */
static void test_signature(void)
{
    g_autofree char *dir = new_dir();
    g_autofree char *path = g_build_filename(dir, "identity.key", NULL);
    static const char public_hex[] =
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    static const char sig_hex[] =
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    uint8_t sig[MSC_SIGNATURE_LEN], want[MSC_SIGNATURE_LEN];
    uint8_t key[MSC_IDENTITY_KEY_LEN];
    g_autoptr(MscIdentity) id = NULL;

    put(dir, "identity.key",
        "[identity]\nname=rfc8032\n"
        "seed=TM0Imyj/ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U+4pvs=\n");
    g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    id = msc_identity_load(dir, NULL);
    g_assert_nonnull(id);
    sodium_hex2bin(key, sizeof(key), public_hex, strlen(public_hex), NULL, NULL,
                   NULL);
    sodium_hex2bin(want, sizeof(want), sig_hex, strlen(sig_hex), NULL, NULL,
                   NULL);
    g_assert_cmpmem(key, sizeof(key), msc_identity_public(id), sizeof(key));
    msc_identity_sign(id, "\x72", 1, sig);
    g_assert_cmpmem(sig, sizeof(sig), want, sizeof(want));
    g_assert_true(msc_identity_verify(key, "\x72", 1, sig));
    g_assert_false(msc_identity_verify(key, "\x73", 1, sig));
    for (size_t i = 0; i < sizeof(sig); i++) {
        sig[i] ^= 1;
        g_assert_false(msc_identity_verify(key, "\x72", 1, sig));
        sig[i] ^= 1;
    }
    /* A key of small order would verify for anybody. */
    memset(key, 0, sizeof(key));
    key[0] = 1;
    memset(sig, 0, sizeof(sig));
    sig[0] = 1;
    g_assert_false(msc_identity_verify(key, "\x72", 1, sig));
    drop(dir, "identity.key");
    drop_dir(dir);
}

/* "Any" is what an absent line says, never what a broken one says. */
static void test_lists(void)
{
    static const struct {
        const char *line;
        int addresses, vms; /* -1: refused */
    } rows[] = {
        { "", 0, 0 },
        { "address=10.0.0.1;fd00::1\n", 2, 0 },
        { "vm=a;\n", 0, 1 },
        { "address=\n", -1, -1 },
        { "address=;\n", -1, -1 },
        { "address=\\q\n", -1, -1 },
        { "vm=\n", -1, -1 },
        { "vm=a;;b\n", -1, -1 },
        { "vm=\\q\n", -1, -1 },
        { "role=\n", -1, -1 },
        { "role=\\q\n", -1, -1 },
        { "vm=a\nvm=b\n", -1, -1 },
        { "key=" KEY "\n", -1, -1 },
        { "[peer]\nvm=a\n", -1, -1 },
        { "expires=\n", -1, -1 },
        { "expires=tomorrow\n", -1, -1 },
        { "expires=2027-01-31\n", -1, -1 },
        { "expires=2027-01-31T00:00:00\n", -1, -1 },
        { "expires=2027-01-31T00:00:00+01:00\n", 0, 0 },
        { "revoked=\n", -1, -1 },
        { "revoked=yes\n", -1, -1 },
        { "revoked=false\n", 0, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text =
            g_strconcat("[peer]\nkey=" KEY "\n", rows[i].line, NULL);
        g_autoptr(GError) err = NULL;
        g_autoptr(MscPeer) peer = msc_peer_parse("b", text, strlen(text), &err);

        g_test_message("%s", rows[i].line);
        if (rows[i].vms < 0) {
            g_assert_null(peer);
            g_assert_error(err, MSC_ERROR, MSC_ERROR_CONFIG);
            continue;
        }
        g_assert_no_error(err);
        g_assert_cmpuint(g_strv_length(peer->addresses), ==, rows[i].addresses);
        g_assert_cmpuint(g_strv_length(peer->vms), ==, rows[i].vms);
    }
}

static void test_end_of_trust(void)
{
    static const char until[] = "[peer]\nkey=" KEY "\n"
                                "expires=2027-01-31T00:00:00Z\n";
    static const char revoked[] = "[peer]\nkey=" KEY "\nrevoked=true\n";
    static const char forever[] = "[peer]\nkey=" KEY "\n";
    const int64_t end = 1801353600; /* date -u -d 2027-01-31 +%s */
    g_autoptr(MscPeer) a = msc_peer_parse("a", until, strlen(until), NULL);
    g_autoptr(MscPeer) b = msc_peer_parse("b", revoked, strlen(revoked), NULL);
    g_autoptr(MscPeer) c = msc_peer_parse("c", forever, strlen(forever), NULL);
    g_autofree char *text = msc_peer_format(a);
    g_autoptr(MscPeer) again = msc_peer_parse("a", text, strlen(text), NULL);
    g_autoptr(GError) err = NULL;

    g_assert_true(msc_peer_is_current(a, end - 1, NULL));
    g_assert_false(msc_peer_is_current(a, end, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_AUTH);
    g_assert_nonnull(strstr(err->message, "2027-01-31T00:00:00Z"));
    g_assert_cmpint(again->expires, ==, a->expires);
    g_assert_false(msc_peer_is_current(b, 0, NULL));
    g_assert_true(msc_peer_is_current(c, INT64_MAX - 1, NULL));
}

static void assert_store_refused(const char *dir, const char *why)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(msc_peers_load(dir, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_CONFIG);
    g_assert_nonnull(strstr(err->message, why));
}

static void test_store(void)
{
    g_autofree char *dir = new_dir();
    char *addresses[] = { "10.9.0.2", NULL };
    MscPeer peer = { .name = "host-b",
                     .addresses = addresses,
                     .roles = MSC_PEER_MAY_SEND,
                     .expires = MSC_PEER_FOREVER };
    g_autoptr(GPtrArray) peers = NULL;
    g_autoptr(GError) err = NULL;
    const MscPeer *got;

    peer.key[0] = 9;
    g_assert_true(msc_peer_save(dir, &peer, &err));
    g_assert_no_error(err);
    peers = msc_peers_load(dir, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(peers->len, ==, 1);
    got = peers->pdata[0];
    g_assert_cmpstr(got->name, ==, "host-b");
    g_assert_cmpmem(got->key, sizeof(got->key), peer.key, sizeof(peer.key));
    g_assert_cmpuint(got->roles, ==, MSC_PEER_MAY_SEND);
    g_assert_cmpstr(got->addresses[0], ==, "10.9.0.2");
    g_assert_cmpuint(g_strv_length(got->vms), ==, 0);

    /* Revoked, it does not come back by being added again. */
    peer.revoked = true;
    g_assert_true(msc_peer_save(dir, &peer, NULL));
    peer.revoked = false;
    g_assert_false(msc_peer_save(dir, &peer, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_CONFIG);
    g_clear_error(&err);

    /* The same key under a second name, written by us and by hand. */
    peer.name = "host-c";
    g_assert_false(msc_peer_save(dir, &peer, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_CONFIG);
    g_clear_error(&err);
    put(dir, "peers.d/host-d.pub", "[peer]\nkey=" KEY "\n");
    put(dir, "peers.d/host-e.pub", "[peer]\nkey=" KEY "\n");
    assert_store_refused(dir, "same key");
    drop(dir, "peers.d/host-e.pub");

    put(dir, "peers.d/a b.pub", "[peer]\nkey=" KEY "\n");
    assert_store_refused(dir, "a b");
    drop(dir, "peers.d/a b.pub");
    put(dir, "peers.d/host-f.pub", "[peer]\nkeys=1\n");
    assert_store_refused(dir, "host-f");
    drop(dir, "peers.d/host-f.pub");

    g_assert_true(msc_peer_remove(dir, "host-b", NULL));
    g_assert_false(msc_peer_remove(dir, "host-b", NULL));
    g_assert_false(msc_peer_remove(dir, "../identity", NULL));
    drop(dir, "peers.d/host-d.pub");
    drop_dir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/identity/key-file", test_key_file);
    g_test_add_func("/identity/key-file-is-strict", test_key_file_is_strict);
    g_test_add_func("/identity/seed-stays-in-locked-memory",
                    test_seed_stays_locked);
    g_test_add_func("/identity/signature", test_signature);
    g_test_add_func("/identity/lists-that-say-nothing", test_lists);
    g_test_add_func("/identity/end-of-trust", test_end_of_trust);
    g_test_add_func("/identity/trust-store", test_store);
    return g_test_run();
}
