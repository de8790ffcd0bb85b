/*
 * The record layer against bare libsodium: seal and open from memory into
 * memory, one core.
 *
 * Bare: the cipher from source to a buffer, and from there to the target.
 * Record layer: the same through MscSealer and MscOpener, and a copy from one
 * to the other, which stands for the network.  Turns alternate; medians.
 *
 * Prints one line of JSON for each suite.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "channel-keys.h"
#include "format.h"

typedef struct {
    const MscSuite *suite;
    size_t record, memory, total;
    uint8_t *from, *to, *buf;
    MscSealer *sealer;
    MscOpener *opener;
} Bench;

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench-record: %s failed\n", what);
        exit(1);
    }
}

static void bare(Bench *b, size_t at)
{
    static const uint8_t key[MSC_SUITE_KEY_MAX] = { 1 };
    static uint8_t nonce[MSC_SUITE_NONCE_MAX];
    uint8_t *payload = b->buf + MSC_RECORD_HEADER;

    sodium_increment(nonce, sizeof(nonce));
    if (!b->suite->encrypts) {
        memcpy(payload, b->from + at, b->record);
    }
    b->suite->seal(payload, b->suite->encrypts ? b->from + at : payload,
                   b->record, b->buf, MSC_RECORD_HEADER, nonce, key);
    must(b->suite->open(b->to + at, payload, b->record + b->suite->tag_len,
                        b->buf, MSC_RECORD_HEADER, nonce, key),
         "libsodium");
}

static void through_records(Bench *b, size_t at)
{
    struct iovec in = { b->from + at, b->record };
    struct iovec out = { b->to + at, b->record };
    size_t pending, space, taken = 0, received = 0;

    must(msc_sealer_seal(b->sealer, &in, 1, NULL) == (ssize_t)b->record,
         "sealing");
    while (received < b->record) {
        const uint8_t *p = msc_sealer_pending(b->sealer, &pending);
        uint8_t *space_at = msc_opener_space(b->opener, &space);

        space = MIN(space, pending);
        memcpy(space_at, p, space);
        msc_sealer_consume(b->sealer, space);
        must(msc_opener_fed_into(b->opener, space, &out, 1, &taken, NULL),
             "opening");
        received += taken ? taken : msc_opener_read(b->opener, &out, 1);
    }
}

static double gbps(Bench *b, void (*work)(Bench *, size_t))
{
    double start = cpu_seconds();

    for (size_t done = 0; done < b->total; done += b->record) {
        work(b, done % b->memory);
    }
    return (double)b->total / (cpu_seconds() - start) / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void run(Bench *b, size_t turns)
{
    MscChannelKeys keys = { .suite = b->suite->id };
    double *v[2] = { g_new(double, turns), g_new(double, turns) };
    double m[2];

    b->sealer = msc_sealer_new(&keys, NULL);
    b->opener = msc_opener_new(&keys, NULL);
    must(b->sealer && b->opener, "locking memory for keys");
    for (size_t i = 0; i < turns; i++) {
        v[0][i] = gbps(b, bare);
        v[1][i] = gbps(b, through_records);
        must(!memcmp(b->from, b->to, b->memory), "comparing");
        memset(b->to, 0, b->memory);
    }
    m[0] = median(v[0], turns);
    m[1] = median(v[1], turns);
    printf("{\"suite\": \"%s\", \"record\": %zu, \"memory\": %zu, "
           "\"turns\": %zu, \"libsodium\": \"%s\", \"bare_gbps\": %.2f, "
           "\"record_gbps\": %.2f, \"record_vs_sodium\": %.3f}\n",
           b->suite->name, b->record, b->memory, turns, sodium_version_string(),
           m[0], m[1], m[1] / m[0]);
    msc_sealer_free(b->sealer);
    msc_opener_free(b->opener);
    g_free(v[0]);
    g_free(v[1]);
}

int main(int argc, char **argv)
{
    int record_kib = 256, memory_mib = 64, turns = 9, total_mib = 512;
    g_autofree char *only = NULL;
    const GOptionEntry entries[] = {
        { "record", 0, 0, G_OPTION_ARG_INT, &record_kib,
          "size of a record (256)", "KIB" },
        { "memory", 0, 0, G_OPTION_ARG_INT, &memory_mib,
          "source and target, each (64)", "MIB" },
        { "total", 0, 0, G_OPTION_ARG_INT, &total_mib,
          "bytes in one turn (512)", "MIB" },
        { "turns", 0, 0, G_OPTION_ARG_INT, &turns, "turns (9)", "N" },
        { "suite", 0, 0, G_OPTION_ARG_STRING, &only, "this suite only",
          "NAME" },
        { 0 }
    };
    g_autoptr(GOptionContext) options = g_option_context_new(NULL);
    g_autoptr(GError) err = NULL;
    Bench b = { 0 };

    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &err) || argc > 1 ||
        record_kib < 1 || record_kib > MSC_RECORD_MAX_PAYLOAD / 1024 ||
        memory_mib < 1 || (memory_mib * 1024) % record_kib || turns < 1 ||
        total_mib < memory_mib) {
        fprintf(stderr, "bench-record: %s\n",
                err ? err->message : "bad arguments; see --help");
        return 2;
    }
    must(sodium_init() >= 0, "sodium_init");
    b.record = (size_t)record_kib << 10;
    b.memory = (size_t)memory_mib << 20;
    b.total = (size_t)total_mib << 20;
    b.from = g_malloc(b.memory);
    b.to = g_malloc0(b.memory);
    b.buf = g_malloc0(MSC_RECORD_HEADER + b.record + MSC_SUITE_TAG_MAX);
    randombytes_buf(b.from, b.memory);
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        b.suite = *s;
        if (!only || !strcmp(only, b.suite->name)) {
            run(&b, (size_t)turns);
        }
    }
    g_free(b.from);
    g_free(b.to);
    g_free(b.buf);
    return 0;
}
