/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "base-lab.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void pair_conntrack(Pair *pair, int host, const char *format, ...)
{
    g_autofree char *arguments = NULL;
    va_list args;

    va_start(args, format);
    arguments = g_strdup_vprintf(format, args);
    va_end(args);
    PAIR_MUST("ip netns exec %s conntrack %s >/dev/null 2>&1",
              pair->netns[host], arguments);
}

/* All at once: conntrack's own file format. */
void pair_load_flows(Pair *pair, int host, guint count, guint mark)
{
    g_autofree char *path = g_strdup_printf("%s/flows", pair->dir);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) err = NULL;

    for (guint i = 0; i < count; i++) {
        g_string_append_printf(text,
                               "-A -p tcp -s 10.20.0.10 -d 192.0.2.5 --sport "
                               "%u --dport 80 --state ESTABLISHED -t 4000 "
                               "-u SEEN_REPLY,ASSURED -m %u\n",
                               PAIR_FIRST + i, mark);
    }
    g_file_set_contents(path, text->str, -1, &err);
    g_assert_no_error(err);
    PAIR_MUST("ip netns exec %s conntrack -R %s >/dev/null 2>&1",
              pair->netns[host], path);
}

void pair_add_many(Pair *pair, int host)
{
    pair_load_flows(pair, host, PAIR_MANY, 0);
    g_assert_cmpint(pair_count_flows(pair, host), ==, PAIR_ALL);
}

void pair_replace_many(Pair *pair, int host, guint mark)
{
    pair_conntrack(pair, host, "-F");
    pair_load_flows(pair, host, PAIR_MANY, mark);
    g_assert_cmpint(pair_count_flows(pair, host), ==, PAIR_MANY);
}

char *pair_table(Pair *pair, int host)
{
    g_autofree char *command = g_strdup_printf(
        "ip netns exec %s conntrack -L 2>/dev/null | "
        "sed -E 's/^(([a-z]+) +[0-9]+) +[0-9]+/\\1/; s/ use=[0-9]+//; "
        "s/(packets|bytes)=[0-9]+ //g; s/ delta-time=.*//' | sort",
        pair->netns[host]);
    FILE *f = popen(command, "r");
    g_autoptr(GString) out = g_string_new(NULL);
    char line[512];

    g_assert_nonnull(f);
    while (fgets(line, sizeof(line), f)) {
        g_string_append(out, line);
    }
    pclose(f);
    return g_strdup(out->str);
}

Move *move_ahead(Pair *pair, int from)
{
    Move *m = move_new(pair, from);

    for (int i = 0; i < 2; i++) {
        g_assert_no_error(m->err[i]);
        g_assert_true(msc_client_offer_precopy(m->client[i], &m->err[i]));
    }
    g_assert_true(move_handshake(m));
    return m;
}

gsize move_send_one(Move *m, MscPrecopyState *state)
{
    g_autoptr(GBytes) chunk = NULL;
    MscPrecopyStatus status;
    uint64_t flows;
    int n = msc_client_batch(m->client[0], &chunk, &status, &m->err[0]);

    g_assert_no_error(m->err[0]);
    *state = status.state;
    if (!n) {
        return 0;
    }
    if (!msc_client_stage_batch(m->client[1], PROOF(chunk), &flows,
                                &m->err[1])) {
        return 0;
    }
    return g_bytes_get_size(chunk);
}

gsize move_send_ahead(Move *m)
{
    MscPrecopyState state;
    gsize sum = 0, sent;

    do {
        sent = move_send_one(m, &state);
        g_assert_no_error(m->err[1]);
        sum += sent;
    } while (sent || state == MSC_PRECOPY_BULK);
    return sum;
}

static gsize bytes_of(const GPtrArray *chunks)
{
    gsize sum = 0;

    for (guint i = 0; i < chunks->len; i++) {
        sum += g_bytes_get_size(chunks->pdata[i]);
    }
    return sum;
}

gsize move_complete(Move *m, guint flows)
{
    g_autoptr(GBytes) ready = NULL;
    gsize sum;

    move_collect_of(m, flows);
    sum = bytes_of(m->chunks);
    g_assert_true(move_stage(m, m->chunks));
    ready = move_validate(m);
    g_assert_no_error(m->err[1]);
    move_finish(m, ready);
    move_free(m);
    return sum;
}

void assert_same_table(const char *before, const char *after)
{
    g_auto(GStrv) a = g_strsplit(before, "\n", -1);
    g_auto(GStrv) b = g_strsplit(after, "\n", -1);

    for (guint i = 0; a[i] || b[i]; i++) {
        g_assert_cmpstr(a[i], ==, b[i]);
    }
}

gsize pair_migrate_ahead(Pair *pair, int from)
{
    g_autofree char *before = pair_table(pair, from);
    g_autofree char *after = NULL;
    int flows = pair_count_flows(pair, from);
    Move *m = move_ahead(pair, from);
    gsize sum = move_send_ahead(m);

    sum += move_complete(m, (guint)flows);
    after = pair_table(pair, 1 - from);
    assert_same_table(before, after);
    g_assert_cmpint(pair_count_flows(pair, from), ==, 0);
    return sum;
}

gsize pair_new_with_base(Pair **pair)
{
    *pair = pair_new();
    pair_add_many(*pair, 0);
    return pair_migrate_ahead(*pair, 0);
}

char *pair_base_path(Pair *pair, int host)
{
    return g_strdup_printf("%s/%d/var/base/" PAIR_VM ".conntrack", pair->dir,
                           host);
}

/* What was replaced goes after the last answer. */
void pair_assert_nothing_unfinished(Pair *pair)
{
    for (int h = 0; h < 2; h++) {
        int gone = 0;

        for (int i = 0; i < 250 && !gone; i++) {
            g_usleep(20 * 1000);
            gone =
                pair_run("ls %s/%d/var/base | grep -q new", pair->dir, h) != 0;
        }
        g_assert_true(gone);
    }
}

void pair_wait_for_flows(Pair *pair, int host, int flows)
{
    int left = -1;

    for (int i = 0; i < 200 && left != flows; i++) {
        left = pair_count_flows(pair, host);
        g_usleep(20 * 1000);
    }
    g_assert_cmpint(left, ==, flows);
}

void base_read_head(const char *path, MscBaseHead *head)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscBaseReader) reader =
        msc_base_reader_new(fopen(path, "re"), &err);

    g_assert_no_error(err);
    *head = *msc_base_reader_head(reader);
    head->provider = g_strdup(head->provider);
    head->peer = g_strdup(head->peer);
}

void base_rewrite(const char *path, const MscBaseHead *head, int skip)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *next = g_strconcat(path, ".rewritten", NULL);
    g_autoptr(MscBaseReader) reader =
        msc_base_reader_new(fopen(path, "re"), &err);
    g_autoptr(MscBaseWriter) writer = NULL;
    GBytes *data = NULL;
    uint64_t when;

    g_assert_no_error(err);
    writer = msc_base_writer_new(next, head, &err);
    g_assert_no_error(err);
    while (msc_base_reader_next(reader, &data, &when, &err) == 1) {
        if (skip-- <= 0) {
            msc_base_writer_add(writer, g_bytes_get_data(data, NULL),
                                g_bytes_get_size(data), when, &err);
        }
        g_bytes_unref(data);
    }
    g_assert_no_error(err);
    msc_base_writer_finish(writer, path, head->ended_us, head->wall_us,
                           head->whole, &err);
    g_assert_no_error(err);
}
