/*
 * Moved rules and real packets.
 *
 *     guest            host B               peer
 *     10.20.0.10 ---- tap70  eth1 ---- 192.0.2.5
 *
 * The rules come from host A, where the interfaces have other names.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nft-lab.h"

static const MscProvider *const p = &msc_nft_provider;

#define ALLOWED 7
#define FORBIDDEN 9
#define PATIENCE_MS 30000

#define RULES                                                               \
    "table inet g { chain f { type filter hook forward priority 0;\n"       \
    " iifname \"tap7\" udp dport 9 counter packets 100 bytes 1000 drop\n"   \
    " iifname \"tap7\" udp dport 7 counter packets 200 bytes 2000 accept\n" \
    "} }\n"

typedef struct {
    NftLab *lab;
    int guest, peer;      /* namespaces */
    int sender, receiver; /* sockets in them */
    GBytes *payload;
} Fixture;

/* A socket stays in the namespace where it was made. */
static int udp_socket(const char *address, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

    inet_pton(AF_INET, address, &a.sin_addr);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&a, sizeof(a)), ==, 0);
    return fd;
}

static void set_up(Fixture *f, gconstpointer unused)
{
    (void)unused;
    f->lab = nft_lab_new("inet g");
    f->lab->b->nft_scope = MSC_NFT_SCOPE_GUEST;
    nft_load(RULES);
    f->payload = nft_collect(f->lab->a);
    f->guest = lab_host_new();
    f->peer = lab_host_new();
    lab_enter(f->lab->host_b);
    lab_run("ip link del tap70");
    lab_run("ip link add tap70 type veth peer name g0 netns /proc/%d/fd/%d",
            getpid(), f->guest);
    lab_run("ip link add eth1 type veth peer name p0 netns /proc/%d/fd/%d",
            getpid(), f->peer);
    lab_run("ip addr add 10.20.0.1/24 dev tap70; ip link set tap70 up; "
            "ip addr add 192.0.2.1/24 dev eth1; ip link set eth1 up");
    lab_sysctl("ipv4/ip_forward", "1");
    lab_enter(f->guest);
    lab_run("ip addr add 10.20.0.10/24 dev g0; ip link set g0 up; "
            "ip route add default via 10.20.0.1");
    f->sender = udp_socket("10.20.0.10", 5000);
    lab_enter(f->peer);
    lab_run("ip addr add 192.0.2.5/24 dev p0; ip link set p0 up; "
            "ip route add default via 192.0.2.1");
    f->receiver = udp_socket("192.0.2.5", FORBIDDEN);
    lab_enter(f->lab->host_b);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
    (void)unused;
    close(f->sender);
    close(f->receiver);
    lab_host_free(f->guest);
    lab_host_free(f->peer);
    g_bytes_unref(f->payload);
    nft_lab_free(f->lab);
}

static void send_to(const Fixture *f, uint16_t port, char mark)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

    inet_pton(AF_INET, "192.0.2.5", &a.sin_addr);
    g_assert_cmpint(sendto(f->sender, &mark, 1, 0, (struct sockaddr *)&a,
                           sizeof(a)),
                    ==, 1);
}

/* Packets on a veth are there when the send returns, or soon after. */
static bool comes(const Fixture *f, int ms)
{
    struct pollfd packet = { .fd = f->receiver, .events = POLLIN };

    return poll(&packet, 1, ms) == 1;
}

static char next_mark(const Fixture *f)
{
    char mark = 0;

    g_assert_true(comes(f, PATIENCE_MS));
    g_assert_cmpint(recv(f->receiver, &mark, 1, MSG_DONTWAIT), ==, 1);
    return mark;
}

/* How many came by now. */
static guint received(const Fixture *f)
{
    guint n = 0;
    char c;

    while (recv(f->receiver, &c, 1, MSG_DONTWAIT) == 1) {
        n++;
    }
    return n;
}

/* Links are up and neighbours known: no packet waits for ARP, and none is
 * under way. */
static void warm_up(const Fixture *f)
{
    int tries = 0;

    do {
        g_assert_cmpint(tries++, <, 100);
        send_to(f, FORBIDDEN, 'a');
    } while (!comes(f, 100));
    send_to(f, FORBIDDEN, 'w');
    while (next_mark(f) != 'w') {
    }
}

/* How many packets the rules have seen, once that is what is wanted. */
static void assert_counters(const char *wanted)
{
    g_autofree char *is = NULL;
    int tries = 0;

    do {
        g_free(is);
        is = lab_output("nft list table inet g | grep -o 'packets [0-9]*'");
    } while (strcmp(is, wanted) && tries++ < 100);
    g_assert_cmpstr(is, ==, wanted);
}

static void test_active_before_the_first_packet(Fixture *f,
                                                gconstpointer unused)
{
    g_autoptr(GBytes) replaced = NULL;

    (void)unused;
    warm_up(f); /* the twin: without the rules they pass */
    replaced = nft_restore(f->lab->b, f->payload, 0);
    /* The guest runs from here. */
    for (int i = 0; i < 50; i++) {
        send_to(f, FORBIDDEN, 'x');
    }
    for (int i = 0; i < 3; i++) {
        send_to(f, ALLOWED, 'x');
    }
    /* They go on counting where they were. */
    assert_counters("packets 150\npackets 203");
    g_assert_cmpuint(received(f), ==, 0);
}

/* ---- while they are exchanged ---- */

typedef struct {
    const Fixture *f;
    gint stop; /* atomic */
} Flood;

static gpointer flood(gpointer opaque)
{
    Flood *flood_ = opaque;

    while (!g_atomic_int_get(&flood_->stop)) {
        send_to(flood_->f, FORBIDDEN, 'f');
    }
    return NULL;
}

/* How many forbidden packets pass while @change is done again and again. */
static guint leak(const Fixture *f, void (*change)(const Fixture *))
{
    Flood state = { f, 0 };
    GThread *thread = g_thread_new("flood", flood, &state);
    guint n = 0;
    char c;

    for (int i = 0; i < 50; i++) {
        change(f);
        while (recv(f->receiver, &c, 1, MSG_DONTWAIT) == 1) {
            n++;
        }
    }
    g_atomic_int_set(&state.stop, 1);
    g_thread_join(thread);
    g_usleep(20 * 1000); /* some may be under way */
    return n + received(f);
}

static void stage_and_abort(const Fixture *f)
{
    g_autoptr(GBytes) replaced = nft_restore(f->lab->b, f->payload, 0);

    g_assert_true(p->abort(f->lab->b, f->payload, replaced, NULL));
}

static void delete_and_load(const Fixture *f)
{
    g_autofree char *rules = nft_on_b(RULES);

    (void)f;
    lab_run("nft delete table inet g");
    nft_load(rules);
}

static void test_no_gap_while_exchanged(Fixture *f, gconstpointer unused)
{
    g_autofree char *rules = nft_on_b(RULES);

    (void)unused;
    warm_up(f);
    nft_load(rules); /* the guest was here before */
    g_assert_cmpuint(leak(f, stage_and_abort), ==, 0);
    /* The twin: the flood finds a gap where there is one. */
    g_assert_cmpuint(leak(f, delete_and_load), >, 0);
}

/* ---- with the flows ---- */

/* The address and port that the peer sees. */
static char *seen_source(const Fixture *f)
{
    struct sockaddr_in from = { 0 };
    socklen_t len = sizeof(from);
    char c;

    g_assert_true(comes(f, PATIENCE_MS));
    g_assert_cmpint(recvfrom(f->receiver, &c, 1, MSG_DONTWAIT,
                             (struct sockaddr *)&from, &len),
                    ==, 1);
    return g_strdup_printf("%s:%u", inet_ntoa(from.sin_addr),
                           ntohs(from.sin_port));
}

/* The only rules that translate come with the guest, after its flows. */
static void test_flows_are_translated_as_before(Fixture *f,
                                                gconstpointer unused)
{
    g_autoptr(GBytes) rules = NULL, replaced = NULL, flows = NULL;
    g_autofree char *with = NULL, *without = NULL;
    MscFlow *flow = lab_flow(IPPROTO_UDP, GUEST, 5000, PEER, FORBIDDEN);

    (void)unused;
    warm_up(f);
    lab_run("conntrack -F 2>/dev/null");
    g_ptr_array_set_size(f->lab->a->nft_tables, 0);
    msc_selector_add_table(f->lab->a, "ip nat", NULL);
    g_ptr_array_set_size(f->lab->b->nft_tables, 0);
    msc_selector_add_table(f->lab->b, "ip nat", NULL);
    lab_enter(f->lab->host_a);
    nft_load("table ip nat { chain p { type nat hook postrouting priority "
             "100; oifname \"eth0\" ip saddr " GUEST " snat to " NAT "; } }");
    lab_snat(flow, NAT, 40000);
    lab_create(flow);
    flows = lab_collect(f->lab->a, 1);
    rules = nft_collect(f->lab->a);
    lab_enter(f->lab->host_b);
    lab_restore(f->lab->b, flows, 0);
    replaced = nft_restore(f->lab->b, rules, 0);
    send_to(f, FORBIDDEN, 'n');
    with = seen_source(f);
    g_assert_cmpstr(with, ==, NAT ":40000");
    /* The twin: without its flow it gets what the rule gives it. */
    lab_run("conntrack -F 2>/dev/null");
    send_to(f, FORBIDDEN, 'n');
    without = seen_source(f);
    g_assert_cmpstr(without, ==, NAT ":5000");
}

#define ADD(name, test) \
    g_test_add("/nft/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("active-before-the-first-packet", test_active_before_the_first_packet);
    ADD("no-gap-while-exchanged", test_no_gap_while_exchanged);
    ADD("flows-are-translated-as-before", test_flows_are_translated_as_before);
    return g_test_run();
}
