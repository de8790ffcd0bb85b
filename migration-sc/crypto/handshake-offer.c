/*
 * Suites and key agreements: what HELLO offers, and what policy takes of it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include <string.h>

#include "error.h"
#include "handshake-private.h"

#define OFFERS_MAX 8

int hs_suite_rank(const MscHandshake *hs, const MscSuite *suite)
{
    if (!hs->suites) {
        return suite->encrypts ? (int)suite->id : -1;
    }
    for (int i = 0; hs->suites[i]; i++) {
        if (!strcmp(hs->suites[i], suite->name)) {
            return i;
        }
    }
    return -1;
}

bool hs_kem_allowed(const MscHandshake *hs, const MscKem *kem)
{
    return kem->post_quantum || !hs->config.post_quantum_only;
}

static void list_add(GString *list, const char *name, unsigned id)
{
    if (list->len) {
        g_string_append(list, ", ");
    }
    if (name && *name) {
        g_string_append(list, name);
    } else {
        g_string_append_printf(list, "unknown %u", id);
    }
}

char *hs_own_suites(const MscHandshake *hs)
{
    GString *list = g_string_new(NULL);

    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        if (hs_suite_rank(hs, *s) >= 0) {
            list_add(list, (*s)->name, (*s)->id);
        }
    }
    return g_string_free(list, FALSE);
}

char *hs_own_kems(const MscHandshake *hs)
{
    GString *list = g_string_new(NULL);

    for (const MscKem *const *k = msc_kems(); *k; k++) {
        if (hs_kem_allowed(hs, *k)) {
            list_add(list, (*k)->name, (*k)->id);
        }
    }
    return g_string_free(list, FALSE);
}

bool hs_put_offers(MscHandshake *hs, GByteArray *out, GError **errp)
{
    const MscKem *const *kems = msc_kems();
    guint count_at = out->len;

    msc_put_u8(out, 0);
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        if (hs_suite_rank(hs, *s) >= 0) {
            msc_put_u8(out, (uint8_t)(*s)->id);
            out->data[count_at]++;
        }
    }
    if (!out->data[count_at]) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                            "handshake: none of the suites that this host's "
                            "policy allows is available; see 'migration-sc "
                            "doctor'");
        return false;
    }
    count_at = out->len;
    msc_put_u8(out, 0);
    for (size_t i = 0; kems[i]; i++) {
        g_assert(i < G_N_ELEMENTS(hs->kem_public));
        if (!hs_kem_allowed(hs, kems[i])) {
            continue;
        }
        if (!kems[i]->keypair(hs->kem_public[i], hs->secret->kem_secret[i])) {
            g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_INTERNAL,
                                "handshake: cannot make a key pair");
            return false;
        }
        msc_put_u8(out, (uint8_t)kems[i]->id);
        msc_put_u16(out, (uint16_t)kems[i]->public_len);
        msc_put_bytes(out, hs->kem_public[i], kems[i]->public_len);
        out->data[count_at]++;
    }
    if (!out->data[count_at]) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_CONFIG,
                            "handshake: policy requires a post-quantum key "
                            "agreement, which libsodium has from 1.0.22 on");
        return false;
    }
    return true;
}

static bool read_count(MscReader *r, uint8_t *count)
{
    return msc_reader_u8(r, count) && *count && *count <= OFFERS_MAX;
}

/* One number of a list in which none may come twice. */
static bool read_id(MscReader *r, uint64_t *seen, uint8_t *id)
{
    if (!msc_reader_u8(r, id) || *id >= 64 || (*seen & (1ull << *id))) {
        return false;
    }
    *seen |= 1ull << *id;
    return true;
}

static bool read_suites(const MscHandshake *hs, MscReader *r,
                        HandshakeChoice *choice, GString *offered)
{
    uint64_t seen = 0;
    uint8_t count, id;

    if (!read_count(r, &count)) {
        return false;
    }
    for (; count; count--) {
        const MscSuite *suite;
        int rank;

        if (!read_id(r, &seen, &id)) {
            return false;
        }
        list_add(offered, msc_suite_name(id), id);
        suite = msc_suite_by_id(id);
        rank = suite ? hs_suite_rank(hs, suite) : -1;
        if (rank >= 0 && (!choice->suite || rank < choice->rank)) {
            choice->suite = suite;
            choice->rank = rank;
        }
    }
    return true;
}

static bool read_kems(const MscHandshake *hs, MscReader *r,
                      HandshakeChoice *choice, GString *offered)
{
    uint64_t seen = 0;
    uint8_t count, id;

    if (!read_count(r, &count)) {
        return false;
    }
    for (; count; count--) {
        const uint8_t *public_key;
        const MscKem *kem;
        uint16_t len;

        if (!read_id(r, &seen, &id) || !msc_reader_u16(r, &len) ||
            !msc_reader_view(r, &public_key, len)) {
            return false;
        }
        list_add(offered, msc_kem_name(id), id);
        kem = msc_kem_by_id(id);
        if (kem && len != kem->public_len) {
            return false;
        }
        /* A greater number is a better one. */
        if (kem && hs_kem_allowed(hs, kem) &&
            (!choice->kem || kem->id > choice->kem->id)) {
            choice->kem = kem;
            choice->kem_public = public_key;
        }
    }
    return true;
}

static bool nothing_in_common(const char *what, const GString *theirs,
                              const char *ours, const char *policy,
                              GError **errp)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                "handshake: no %s in common: the source offers %s; the "
                "destination allows %s; see [transport] %s in "
                "migration-sc.conf",
                what, theirs->str, ours, policy);
    return false;
}

bool hs_read_offers(const MscHandshake *hs, MscReader *r,
                    HandshakeChoice *choice, GError **errp)
{
    g_autoptr(GString) suites = g_string_new(NULL);
    g_autoptr(GString) kems = g_string_new(NULL);
    g_autofree char *own_suites = hs_own_suites(hs);
    g_autofree char *own_kems = hs_own_kems(hs);

    if (!read_suites(hs, r, choice, suites) ||
        !read_kems(hs, r, choice, kems) || msc_reader_left(r)) {
        return msc_reader_error(r, errp, "handshake", "malformed HELLO");
    }
    if (!choice->suite) {
        return nothing_in_common("suite", suites, own_suites,
                                 "suites= and minimum=", errp);
    }
    if (!choice->kem) {
        return nothing_in_common("key agreement", kems,
                                 *own_kems ? own_kems : "none",
                                 "post-quantum=", errp);
    }
    return true;
}
