/*
 * A source that lies about what it sends ahead, and about what the other host
 * has already: refused, and nothing of it stays.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "base-lab.h"
#include "batch.h"
#include "forged-source.h"

#define WHERE "conntrack"
/* A batch of conntrack's without anything in it: three empty lists. */
static const uint8_t nothing[12];

/* What the destination, host 0, has of its own: an old flow of the guest's,
 * which the base's goes in place of, and somebody else's. */
#define OWN_FLOWS 2

static void add_own(Pair *pair)
{
    pair_conntrack(pair, 0,
                   "-I -p tcp -s 10.20.0.10 -d 192.0.2.5 --dport 80 "
                   "--sport 20001 --state CLOSE -t 4000 "
                   "-u SEEN_REPLY,ASSURED");
    pair_conntrack(pair, 0,
                   "-I -p tcp -s 10.20.0.77 -d 192.0.2.5 --dport 80 "
                   "--sport 7 --state ESTABLISHED -t 4000 "
                   "-u SEEN_REPLY,ASSURED");
}

static guint batches_in_base(const Forged *f)
{
    g_autofree char *path = pair_base_path(f->pair, 1 - f->from);
    g_autoptr(GError) err = NULL;
    g_autoptr(MscBaseReader) reader =
        msc_base_reader_new(fopen(path, "re"), &err);
    GBytes *data;
    uint64_t when;
    guint n = 0;

    g_assert_no_error(err);
    for (; msc_base_reader_next(reader, &data, &when, &err) == 1; n++) {
        g_bytes_unref(data);
    }
    return n;
}

/* All that the base has; the twin of what is refused. */
static void step_to_the_end(Forged *f)
{
    guint batches = batches_in_base(f);

    g_assert_cmpuint(batches, >, 1);
    g_assert_cmpuint(batches, <=, MSC_BASE_STEP);
    g_assert_true(forged_step(f, batches));
    g_assert_cmpint(pair_count_flows(f->pair, 0), ==, PAIR_ALL + 1);
}

static bool raw_step(Forged *f, const void *data, size_t len)
{
    return forged_batch(f, MSC_BATCH_BASED, WHERE, 2, data, len);
}

/* The chunks of a context, and READY, which must not be said. */
static void send_context(Forged *f, GPtrArray *chunks)
{
    g_autoptr(GBytes) ready = NULL;

    if (move_stage(&f->move, chunks)) {
        ready = move_validate(&f->move);
        g_assert_null(ready);
    }
    g_ptr_array_unref(chunks);
}

static void more_at_once(Forged *f)
{
    forged_step(f, batches_in_base(f) + 1);
}

static void one_more(Forged *f)
{
    for (guint left = batches_in_base(f); left; left--) {
        g_assert_true(forged_step(f, 1));
    }
    forged_step(f, 1);
}

static void all_twice(Forged *f)
{
    step_to_the_end(f);
    forged_step(f, batches_in_base(f));
}

static void after_an_own_batch(Forged *f)
{
    g_assert_true(forged_step(f, 1));
    g_assert_true(forged_batch(f, 0, WHERE, 2, nothing, sizeof(nothing)));
    forged_step(f, 1);
}

static void after_anew(Forged *f)
{
    g_assert_true(forged_step(f, 1));
    g_assert_true(forged_batch(f, MSC_BATCH_ANEW, WHERE, 2, NULL, 0));
    g_assert_cmpint(pair_count_flows(f->pair, 0), ==, OWN_FLOWS);
    forged_step(f, 1);
}

static void no_batches(Forged *f)
{
    forged_step(f, 0);
}

static void too_many_in_a_step(Forged *f)
{
    forged_step(f, MSC_BASE_STEP + 1);
}

static void most_that_fit(Forged *f)
{
    forged_step(f, UINT32_MAX);
}

static void a_step_cut_short(Forged *f)
{
    raw_step(f, "\0\0\1", 3);
}

static void a_step_that_goes_on(Forged *f)
{
    raw_step(f, "\0\0\0\1\0", 5);
}

static void an_empty_step(Forged *f)
{
    raw_step(f, NULL, 0);
}

static void a_kind_that_is_not_sent_ahead(Forged *f)
{
    forged_batch(f, MSC_BATCH_BASED, "nft", 99, "\0\0\0\1", 4);
}

static void a_kind_that_there_is_not(Forged *f)
{
    forged_batch(f, MSC_BATCH_BASED, "conntrack.base", 1, "\0\0\0\1", 4);
}

/* What the admission says, but no batch is of. */
static void the_version_of_bases(Forged *f)
{
    forged_batch(f, MSC_BATCH_BASED, WHERE, 3, "\0\0\0\1", 4);
}

static void anew_and_based(Forged *f)
{
    forged_batch(f, MSC_BATCH_ANEW | MSC_BATCH_BASED, WHERE, 2, "\0\0\0\1", 4);
}

static void a_step_in_the_context(Forged *f)
{
    g_assert_true(forged_step(f, 1));
    send_context(f, forged_end(f, forged_context(f, 2, "\0\0\0\1", 4)));
}

static void a_step_within_the_context(Forged *f)
{
    g_autoptr(GPtrArray) chunks =
        forged_context(f, 2, nothing, sizeof(nothing));

    g_assert_true(move_stage(&f->move, chunks));
    forged_step(f, 1);
}

/* In the stream that it is the END of, another step stood in this one's
 * place. */
static void an_end_of_something_else(Forged *f)
{
    g_autoptr(GBytes) other = NULL;

    g_assert_true(forged_step(f, 1));
    forged_seal_again(f);
    other = forged_seal_batch(f, MSC_BATCH_BASED, WHERE, 2, "\0\0\0\2", 4);
    send_context(f,
                 forged_end(f, forged_context(f, 2, nothing, sizeof(nothing))));
}

static void no_end(Forged *f)
{
    step_to_the_end(f);
    send_context(f, forged_context(f, 2, nothing, sizeof(nothing)));
}

static void nothing_ends_the_batches(Forged *f)
{
    step_to_the_end(f);
    send_context(f, forged_end(f, forged_context(f, 0, NULL, 0)));
}

static void a_whole_payload_after_steps(Forged *f)
{
    step_to_the_end(f);
    send_context(f, forged_end(f, forged_context(f, 1, nothing, 8)));
}

/* What a QEMU in between can do to a sealed step. */
static void qemu_repeats_a_step(Forged *f)
{
    g_autoptr(GBytes) step =
        forged_seal_batch(f, MSC_BATCH_BASED, WHERE, 2, "\0\0\0\1", 4);

    g_assert_true(forged_deliver(f, step));
    forged_deliver(f, step);
}

static void qemu_leaves_a_step_out(Forged *f)
{
    g_bytes_unref(
        forged_seal_batch(f, MSC_BATCH_BASED, WHERE, 2, "\0\0\0\1", 4));
    forged_step(f, 1);
}

static void qemu_says_abort(Forged *f)
{
    step_to_the_end(f);
    g_assert_true(msc_client_abort(f->move.client[1], "told to", NULL));
    g_assert_false(forged_step(f, 1));
}

static const struct {
    void (*lie)(Forged *f);
    const char *word; /* of the refusal */
} lies[] = {
    { more_at_once, "more of a base than there is" },
    { one_more, "more of a base than there is" },
    { all_twice, "more of a base than there is" },
    { after_an_own_batch, "more of a base than there is" },
    { after_anew, "more of a base than there is" },
    { no_batches, "bad step of a base" },
    { too_many_in_a_step, "bad step of a base" },
    { most_that_fit, "bad step of a base" },
    { a_step_cut_short, "bad step of a base" },
    { a_step_that_goes_on, "bad step of a base" },
    { an_empty_step, "bad step of a base" },
    { a_kind_that_is_not_sent_ahead, "the admission said nothing" },
    { a_kind_that_there_is_not, "the admission said nothing" },
    { the_version_of_bases, "the admission said nothing" },
    { anew_and_based, "unknown flags" },
    { a_step_in_the_context, "conntrack" },
    { a_step_within_the_context, "a batch within the security context" },
    { an_end_of_something_else, "END" },
    { no_end, "no END" },
    { nothing_ends_the_batches, "without an end of the batches" },
    { a_whole_payload_after_steps, "of which batches came" },
    { qemu_repeats_a_step, "not the chunk that must come now" },
    { qemu_leaves_a_step_out, "not the chunk that must come now" },
    { qemu_says_abort, "told to" },
};

static char *base_digest(const char *path)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) err = NULL;
    gsize len;

    g_file_get_contents(path, &data, &len, &err);
    g_assert_no_error(err);
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)data, len);
}

static void assert_refused(const Forged *f, const char *word)
{
    const GError *err = f->move.err[1];

    if (!err || !strstr(err->message, word)) {
        g_error("no '%s' in: %s", word, err ? err->message : "(no error)");
    }
}

/* As before, and the base is still there for who is honest. */
static void assert_nothing_stays(Pair *pair, const char *before,
                                 const char *base)
{
    g_autofree char *path = pair_base_path(pair, 0);
    g_autofree char *after = NULL, *base_after = NULL;

    pair_wait_for_flows(pair, 0, OWN_FLOWS);
    after = pair_table(pair, 0);
    assert_same_table(before, after);
    base_after = base_digest(path);
    g_assert_cmpstr(base_after, ==, base);
    g_assert_cmpint(pair_run("ls %s/0/var/journal | grep -qv entry", pair->dir),
                    !=, 0);
    pair_assert_nothing_unfinished(pair);
}

static void test_lies_are_refused_and_leave_nothing(void)
{
    Pair *pair;
    gsize whole = pair_new_with_base(&pair);
    g_autofree char *path = pair_base_path(pair, 0);
    g_autofree char *base = base_digest(path);
    g_autoptr(GBytes) more = g_bytes_new_static(nothing, sizeof(nothing));
    g_autofree char *before = NULL;

    add_own(pair);
    before = pair_table(pair, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
        Forged *f = forged_new(pair, 1, true);

        lies[i].lie(f);
        assert_refused(f, lies[i].word);
        g_clear_error(&f->move.err[1]);
        /* That was the end of it. */
        g_assert_false(forged_deliver(f, more));
        assert_refused(f, "out of order");
        forged_free(f);
        assert_nothing_stays(pair, before, base);
    }
    g_assert_cmpint(pair_count_flows(pair, 1), ==, PAIR_ALL);
    pair_conntrack(pair, 0, "-D -s 10.20.0.77");
    g_assert_cmpuint(pair_migrate_ahead(pair, 1), <, whole / 50);
    pair_free(pair);
}

/* The twin: the same words in the right order. */
static void test_the_truth_is_taken(void)
{
    Pair *pair;
    gsize whole = pair_new_with_base(&pair);
    g_autoptr(GPtrArray) chunks = NULL;
    g_autoptr(GBytes) ready = NULL;
    Forged *f;

    add_own(pair);
    f = forged_new(pair, 1, true);
    step_to_the_end(f);
    chunks = forged_end(f, forged_context(f, 2, nothing, sizeof(nothing)));
    g_assert_true(move_stage(&f->move, chunks));
    ready = move_validate(&f->move);
    g_assert_no_error(f->move.err[1]);
    g_assert_nonnull(ready);
    g_assert_cmpint(pair_count_flows(pair, 0), ==, PAIR_ALL + 1);
    forged_free(f);
    /* It was not released; the next migration says so. */
    pair_conntrack(pair, 0, "-D -s 10.20.0.77");
    g_assert_cmpuint(pair_migrate_ahead(pair, 1), <, whole / 50);
    pair_free(pair);
}

typedef enum {
    THERE_IS_NONE,
    OF_ANOTHER_PEER,
    OF_ANOTHER_GUEST,
    OF_ANOTHER_BOOT,
    QEMU_DOES_NOT_CARRY,
    WRONGS,
} Wrong;

static void spoil(const char *path, Wrong wrong)
{
    g_auto(MscBaseHead) head = { 0 };

    if (wrong == THERE_IS_NONE) {
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    if (wrong == THERE_IS_NONE || wrong == QEMU_DOES_NOT_CARRY) {
        return;
    }
    base_read_head(path, &head);
    head.boot[0] ^= wrong == OF_ANOTHER_BOOT;
    head.vm[0] ^= wrong == OF_ANOTHER_GUEST;
    if (wrong == OF_ANOTHER_PEER) {
        g_free(head.peer);
        head.peer = g_strdup("host7");
    }
    base_rewrite(path, &head, 0);
}

/* The source has it, and says so, but the destination did not name it. */
static void test_base_that_was_not_named(void)
{
    Pair *pair;

    pair_new_with_base(&pair);
    for (Wrong wrong = 0; wrong < WRONGS; wrong++) {
        g_autofree char *path = pair_base_path(pair, 0);
        g_autofree char *good = NULL;
        gsize len;
        Forged *f;

        g_file_get_contents(path, &good, &len, NULL);
        spoil(path, wrong);
        f = forged_new(pair, 1, wrong != QEMU_DOES_NOT_CARRY);
        g_assert_false(forged_step(f, 1));
        assert_refused(f, wrong == QEMU_DOES_NOT_CARRY
                              ? "the admission said nothing"
                              : "more of a base than there is");
        forged_free(f);
        pair_wait_for_flows(pair, 0, 0);
        pair_assert_nothing_unfinished(pair);
        g_file_set_contents(path, good, (gssize)len, NULL);
    }
    pair_free(pair);
}

#define ADD(name, function) g_test_add_func("/handoff-forged/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("lies-are-refused-and-leave-nothing",
        test_lies_are_refused_and_leave_nothing);
    ADD("the-truth-is-taken", test_the_truth_is_taken);
    ADD("base-that-was-not-named", test_base_that_was_not_named);
    return g_test_run();
}
