/*
 * The guest writes to its memory while it is sealed.  A race by intent, and so
 * a program of its own: ThreadSanitizer runs the other tests of records.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "record-fixture.h"

#define HAMMERED (128 * 1024)

typedef struct {
    uint8_t *memory;
    gint stop;
} Hammer;

static void *hammer_thread(void *opaque)
{
    Hammer *h = opaque;

    for (uint8_t v = 0; !g_atomic_int_get(&h->stop); v++) {
        memset(h->memory, v, HAMMERED);
    }
    return NULL;
}

/* In one long piece, sealed without a copy, and in pages, which are copied. */
static void test_changing_memory(void)
{
    Hammer h = { g_malloc0(HAMMERED), 0 };
    GThread *thread = g_thread_new("hammer", hammer_thread, &h);
    g_autofree uint8_t *sink = g_malloc(HAMMERED);
    struct iovec whole = { h.memory, HAMMERED }, pages[HAMMERED / 8192];
    struct iovec out = { sink, HAMMERED };

    for (size_t i = 0; i < G_N_ELEMENTS(pages); i++) {
        pages[i] = (struct iovec){ h.memory + i * 8192, 4096 };
    }
    for (const MscSuite *const *s = msc_suites(); *s; s++) {
        MscChannelKeys keys = keys_for(*s, 0);
        Pair p = pair_new(&keys);

        for (int i = 0; i < 400; i++) {
            g_autoptr(GByteArray) record = g_byte_array_new();
            g_autoptr(GError) err = NULL;
            const uint8_t *sealed;
            size_t n;

            g_assert_cmpint(msc_sealer_seal(p.sealer, i % 2 ? pages : &whole,
                                            i % 2 ? G_N_ELEMENTS(pages) : 1,
                                            NULL),
                            >, 0);
            sealed = msc_sealer_pending(p.sealer, &n);
            g_byte_array_append(record, sealed, (guint)n);
            msc_sealer_consume(p.sealer, n);
            g_assert_true(feed(p.opener, record, &err));
            g_assert_no_error(err);
            while (msc_opener_read(p.opener, &out, 1)) {
                /* whatever it was when it was loaded */
            }
        }
        pair_free(&p);
    }
    g_atomic_int_set(&h.stop, 1);
    g_thread_join(thread);
    g_free(h.memory);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/record/memory-that-changes-under-the-seal",
                    test_changing_memory);
    return g_test_run();
}
