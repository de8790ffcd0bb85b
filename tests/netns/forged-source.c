/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "forged-source.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "batch.h"
#include "format.h"

/* The providers look at the network namespace that their thread is in. */
static void enter(int netns)
{
    g_assert_cmpint(setns(netns, CLONE_NEWNET), ==, 0);
}

static char *directory(const Forged *f, const char *name)
{
    return g_strdup_printf("%s/%d/%s", f->pair->dir, f->from, name);
}

static void open_source(Forged *f)
{
    g_autofree char *config = directory(f, "etc");
    g_autofree char *state = directory(f, "var");
    MscOpenMessage open = { .role = MSC_ROLE_SOURCE, .vm = PAIR_VM };
    g_autoptr(GError) err = NULL;

    f->hub = msc_hub_new(config, state, msc_providers(), &err);
    g_assert_no_error(err);
    g_assert_true(msc_hub_recover(f->hub, &err));
    f->t = msc_hub_open(f->hub, &open, getuid(), getpid(), &err);
    g_assert_no_error(err);
    g_assert_true(msc_transfer_run(f->t, MSC_MSG_PRECOPY, NULL, NULL, &err));
}

static void open_destination(Forged *f, bool carries)
{
    Move *m = &f->move;

    m->sock[1] =
        g_strdup_printf("%s/%d/run/helper.sock", f->pair->dir, 1 - f->from);
    m->client[1] = msc_client_open(m->sock[1], MSC_ROLE_DESTINATION, PAIR_VM, 0,
                                   &m->err[1]);
    g_assert_no_error(m->err[1]);
    if (carries) {
        g_assert_true(msc_client_offer_precopy(m->client[1], &m->err[1]));
    }
}

static void handshake(Forged *f)
{
    Move *m = &f->move;
    MscChannelMessage request = { .kind = MSC_CHANNEL_MAIN,
                                  .expected_peer = (char *)"" };
    g_autoptr(GError) err = NULL;
    MscKeysMessage keys = { 0 };
    GThread *thread;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, m->fd), ==, 0);
    thread = g_thread_new("destination", move_handshake_thread, m);
    msc_transfer_handshake(f->t, m->fd[0], &request, &keys, &err);
    g_assert_no_error(err);
    g_thread_join(thread);
    g_assert_no_error(m->err[1]);
    msc_keys_message_clear(&keys);
}

Forged *forged_new(Pair *pair, int from, bool carries)
{
    g_autofree char *path = g_strdup_printf("/run/netns/%s", pair->netns[from]);
    Forged *f = g_new0(Forged, 1);

    f->pair = pair;
    f->from = from;
    f->own_netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    f->host_netns = open(path, O_RDONLY | O_CLOEXEC);
    pair_stop_daemon(pair, from);
    enter(f->host_netns);
    open_source(f);
    open_destination(f, carries);
    handshake(f);
    return f;
}

void forged_free(Forged *f)
{
    Move *m = &f->move;

    msc_client_unref(m->client[1]);
    msc_channel_free(m->channel[1]);
    close(m->fd[0]);
    close(m->fd[1]);
    g_free(m->sock[1]);
    g_clear_error(&m->err[1]);
    msc_transfer_disconnect(f->t);
    msc_transfer_unref(f->t);
    msc_hub_free(f->hub);
    enter(f->own_netns);
    close(f->own_netns);
    close(f->host_netns);
    pair_start_daemon(f->pair, f->from);
    g_free(f);
}

bool forged_deliver(Forged *f, GBytes *chunk)
{
    Move *m = &f->move;
    uint64_t flows;

    return msc_client_stage_batch(m->client[1], PROOF(chunk), &flows,
                                  &m->err[1]);
}

GBytes *forged_honest(Forged *f, MscPrecopyState *state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    MscPrecopyStatus status;
    GBytes *chunk = NULL;

    msc_transfer_run(f->t, MSC_MSG_BATCH, NULL, out, &err);
    g_assert_no_error(err);
    msc_precopy_decode(out->data, out->len, &status, &chunk, &err);
    g_assert_no_error(err);
    *state = status.state;
    return chunk;
}

gsize forged_honest_freeze(Forged *f)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) err = NULL;
    GQueue chunks = G_QUEUE_INIT;
    MscContextStats stats;
    gsize sum = 0;
    bool more;

    msc_transfer_run(f->t, MSC_MSG_FREEZE, NULL, out, &err);
    g_assert_no_error(err);
    msc_frozen_decode(out->data, out->len, &stats, &chunks, &more, &err);
    g_assert_no_error(err);
    for (GList *l = chunks.head; l; l = l->next) {
        sum += g_bytes_get_size(l->data);
    }
    g_queue_clear_full(&chunks, (GDestroyNotify)g_bytes_unref);
    while (more) {
        g_byte_array_set_size(out, 0);
        msc_transfer_run(f->t, MSC_MSG_COLLECT, NULL, out, &err);
        g_assert_no_error(err);
        sum += out->len;
        more = out->len;
    }
    return sum;
}

static MscContextSealer *sealer(Forged *f)
{
    g_autoptr(GError) err = NULL;
    MscContextSealer *s = msc_source_sealer(f->t, &err);

    g_assert_no_error(err);
    return s;
}

static GPtrArray *one_section(const char *name, uint16_t version,
                              const void *data, size_t len)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, len);
    GPtrArray *sections = msc_sections_new();

    msc_sections_add(sections, name, version, version, bytes);
    return sections;
}

GBytes *forged_seal_batch(Forged *f, uint16_t flags, const char *provider,
                          uint16_t version, const void *data, size_t len)
{
    g_autoptr(GPtrArray) sections = one_section(provider, version, data, len);
    MscBatchMessage batch = { flags, msc_boot_us(), sections };
    g_autoptr(GBytes) plain = msc_batch_message_encode(&batch);

    return msc_context_seal_batch(sealer(f), PROOF(plain), NULL);
}

bool forged_batch(Forged *f, uint16_t flags, const char *provider,
                  uint16_t version, const void *data, size_t len)
{
    g_autoptr(GBytes) chunk =
        forged_seal_batch(f, flags, provider, version, data, len);

    return forged_deliver(f, chunk);
}

bool forged_step(Forged *f, uint32_t batches)
{
    uint32_t count = GUINT32_TO_BE(batches);

    return forged_batch(f, MSC_BATCH_BASED, "conntrack", 2, &count,
                        sizeof(count));
}

void forged_seal_again(Forged *f)
{
    f->t->session->context_sealed = false;
    g_clear_pointer(&f->t->sealer, msc_context_sealer_free);
}

GPtrArray *forged_context(Forged *f, uint16_t version, const void *data,
                          size_t len)
{
    GPtrArray *chunks =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    MscContext context = { .wall_us = (uint64_t)g_get_real_time(),
                           .boot_us = msc_boot_us(),
                           .sections = data ? one_section("conntrack", version,
                                                          data, len)
                                            : msc_sections_new() };
    g_autoptr(GBytes) plain = NULL;

    memcpy(context.vm, f->t->session->vm, sizeof(context.vm));
    plain = msc_context_encode(&context);
    g_ptr_array_add(chunks, msc_context_seal(sealer(f), PROOF(plain), NULL));
    g_ptr_array_unref(context.sections);
    return chunks;
}

GPtrArray *forged_end(Forged *f, GPtrArray *chunks)
{
    g_ptr_array_add(chunks, msc_context_seal_end(sealer(f), NULL));
    return chunks;
}
