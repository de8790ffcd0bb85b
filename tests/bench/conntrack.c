/*
 * CPU time for a flow: what pre-copy takes on either side, against the bare
 * netlink of the same table in the same run.
 *
 *   bench-conntrack FLOWS   one line: NAME NANOSECONDS-A-FLOW ...
 *
 * Collecting is from the first question to the kernel to the bytes of all
 * batches; looked: with the look at all flows that the admission needs in
 * between, which keeps them for the batches.
 *
 * The bare costs: a dump that is received and not looked at; entries created
 * in batches of 64, each with an acknowledgement, from messages made before.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "conntrack-request.h"
#include "error.h"
#include "precopy-lab.h"
#include "request.h"

#define BATCH 64
#define BATCH_MAX (256 * 1024)
#define ANSWER_MAX (64 * 1024)
#define PORTS 50000

static double cpu_ns(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return ((double)r.ru_utime.tv_sec + (double)r.ru_stime.tv_sec) * 1e9 +
           ((double)r.ru_utime.tv_usec + (double)r.ru_stime.tv_usec) * 1e3;
}

static MscFlow *flow_number(guint i)
{
    g_autofree char *peer = g_strdup_printf("192.0.2.%u", 1 + i / PORTS);

    return lab_flow(IPPROTO_TCP, GUEST, (uint16_t)(1024 + i % PORTS), peer,
                    443);
}

static struct mnl_socket *open_socket(void)
{
    struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);
    int size = 4 * 1024 * 1024;

    g_assert_nonnull(nl);
    g_assert_cmpint(mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID), ==, 0);
    setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVBUFFORCE, &size,
               sizeof(size));
    return nl;
}

/* The messages that create all of them, in batches; *@lens of each. */
static GPtrArray *messages(guint count, GArray *lens)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(g_free);

    for (guint at = 0; at < count; at += BATCH) {
        char *buf = g_malloc0((gsize)BATCH * MSC_REQUEST_MAX);
        size_t used = 0;

        for (guint i = at; i < MIN(at + BATCH, count); i++) {
            struct nlmsghdr *nlh = put(buf + used, IPCTNL_MSG_CT_NEW,
                                       NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
            MscFlow *flow = flow_number(i);
            MscFlow *copy = msc_flow_to_create(flow, 0, true);

            g_assert_true(msc_put_flow(nlh, copy));
            used += MNL_ALIGN(nlh->nlmsg_len);
            nfct_destroy(flow);
            nfct_destroy(copy);
        }
        g_ptr_array_add(all, buf);
        g_array_append_val(lens, used);
    }
    return all;
}

static double bare_create(guint count)
{
    g_autoptr(GArray) lens = g_array_new(FALSE, FALSE, sizeof(size_t));
    g_autoptr(GPtrArray) all = messages(count, lens);
    g_autofree char *buf = g_malloc(ANSWER_MAX);
    struct mnl_socket *nl = open_socket();
    double start = cpu_ns();
    guint left = 0;

    for (guint i = 0; i < all->len; i++) {
        guint batch = MIN(BATCH, count - i * BATCH);

        g_assert_cmpint(mnl_socket_sendto(nl, all->pdata[i],
                                          g_array_index(lens, size_t, i)),
                        >, 0);
        for (left = batch; left;) {
            ssize_t n = mnl_socket_recvfrom(nl, buf, ANSWER_MAX);
            const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
            int len = (int)n;

            g_assert_cmpint(n, >, 0);
            for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
                const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

                g_assert_cmpint(e->error, ==, 0);
                left--;
            }
        }
    }
    mnl_socket_close(nl);
    return (cpu_ns() - start) / count;
}

static double bare_dump(guint count)
{
    char request[MSC_REQUEST_MAX] __attribute__((aligned(4))) = { 0 };
    struct nlmsghdr *nlh = put(request, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
    g_autofree char *buf = g_malloc(ANSWER_MAX);
    struct mnl_socket *nl = open_socket();
    double start = cpu_ns();
    guint seen = 0;
    bool done = false;

    g_assert_cmpint(mnl_socket_sendto(nl, nlh, nlh->nlmsg_len), >, 0);
    while (!done) {
        ssize_t n = mnl_socket_recvfrom(nl, buf, ANSWER_MAX);
        int len = (int)n;

        g_assert_cmpint(n, >, 0);
        for (nlh = (struct nlmsghdr *)buf; mnl_nlmsg_ok(nlh, len);
             nlh = mnl_nlmsg_next(nlh, &len)) {
            done = nlh->nlmsg_type == NLMSG_DONE;
            seen += !done;
        }
    }
    g_assert_cmpuint(seen, ==, count);
    mnl_socket_close(nl);
    return (cpu_ns() - start) / count;
}

static GPtrArray *collect(LabPrecopy *l)
{
    GPtrArray *batches =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GError) err = NULL;

    do {
        GBytes *batch =
            msc_conntrack_provider.precopy->next(l->source, BATCH_MAX,
                                                 &l->progress, &err);

        g_assert_no_error(err);
        g_ptr_array_add(batches, batch);
    } while (!l->progress.live);
    return batches;
}

/* As in a migration, whose admission looks at the flows first. */
static double look_and_collect(LabPrecopy *l)
{
    double start = cpu_ns();
    g_autoptr(GPtrArray) batches = NULL;

    lab_precopy_look(l);
    batches = collect(l);
    lab_precopy_give_up(l);
    return cpu_ns() - start;
}

static void stage(LabPrecopy *l, const GPtrArray *batches)
{
    g_autoptr(GError) err = NULL;

    for (guint i = 0; i < batches->len; i++) {
        if (g_bytes_get_size(batches->pdata[i])) {
            lab_precopy_stage(l, batches->pdata[i], &err);
            g_assert_no_error(err);
        }
    }
}

int main(int argc, char **argv)
{
    guint count = argc > 1 ? (guint)strtoul(argv[1], NULL, 10) : 10000;
    LabPrecopy *l = lab_precopy_new();
    g_autoptr(GPtrArray) batches = NULL;
    int c = lab_host_new();
    double create, dump, start, looked, collected, staged;
    g_autoptr(GError) err = NULL;

    /* With one address, and a table that is as full for both who create. */
    g_array_remove_index(l->s->addresses, 1);
    lab_track();
    lab_enter(l->a);
    bare_create(count);
    dump = bare_dump(count);
    lab_enter(c);
    create = bare_create(count);
    lab_run("conntrack -F 2>/dev/null");
    lab_host_free(c);
    lab_enter(l->a);
    looked = look_and_collect(l) / count;
    start = cpu_ns();
    l->source = msc_conntrack_provider.precopy->source_begin(l->s, &err);
    g_assert_no_error(err);
    batches = collect(l);
    collected = (cpu_ns() - start) / count;
    /* A listener in one namespace slows all of this kernel; a destination is
     * another host. */
    msc_conntrack_provider.precopy->source_end(g_steal_pointer(&l->source));
    l->destination = msc_conntrack_provider.precopy->destination_begin(l->s);
    start = cpu_ns();
    stage(l, batches);
    staged = (cpu_ns() - start) / count;
    g_assert_cmpuint(l->staged, ==, count);
    printf("bare-dump %.0f bare-create %.0f looked %.0f collect %.0f "
           "stage %.0f\n",
           dump, create, looked, collected, staged);
    lab_precopy_free(l);
    return 0;
}
