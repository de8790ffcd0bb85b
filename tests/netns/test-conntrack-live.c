/*
 * Real connections, while the router that tracks them is exchanged:
 *
 *     guest  eth0 ---- g0  host A  p0 ---- eth0  peer
 *     10.20.0.10       g0  host B  p0            192.0.2.5
 *
 * g0 and p0 are moved from host A to host B, and the guest's conntrack entries
 * are, or in the twin are not.  Both hosts drop what is not established,
 * related, or a first SYN of the guest; a flow in the midst of which they come
 * is not picked up (nf_conntrack_tcp_loose = 0), nor is anything taken
 * leniently (nf_conntrack_tcp_be_liberal = 0).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/tcp.h>
#include <netinet/ip.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conntrack-lab.h"

/* Many windows of a socket's default buffers. */
#define BULK (1024 * 1024)
#define PATIENCE_MS 20000

typedef struct {
    int guest, peer, host[2];
    bool nat;
} Net;

static const MscProvider *const p = &msc_conntrack_provider;

static void configure_end(const char *address, const char *router)
{
    lab_run("ip addr add %s/24 dev eth0 && ip link set eth0 up && "
            "ip route add default via %s",
            address, router);
}

/* The current namespace has g0 and p0. */
static void configure_host(void)
{
    lab_run("ip addr add 10.20.0.1/24 dev g0 && ip link set g0 up && "
            "ip addr add 192.0.2.1/24 dev p0 && ip link set p0 up");
    lab_sysctl("ipv4/ip_forward", "1");
}

static void protect_host(const Net *n)
{
    lab_run("nft 'add table inet t; add counter inet t invalid; "
            "add counter inet t dropped; "
            "add ct helper inet t ftp { type \"ftp\" protocol tcp; }; "
            "add chain inet t h { type filter hook prerouting priority 0; }; "
            "add rule inet t h tcp dport 21 ct helper set ftp; "
            "add chain inet t f { type filter hook forward priority 0; "
            "policy drop; }; "
            "add rule inet t f ct state invalid counter name invalid drop; "
            "add rule inet t f ct state established,related accept; "
            "add rule inet t f iifname g0 tcp flags & (syn|ack) == syn accept; "
            "add rule inet t f counter name dropped drop'");
    lab_run("nft 'add table ip n; add chain ip n p "
            "{ type nat hook postrouting priority 100; }'");
    if (n->nat) {
        lab_run("nft 'add rule ip n p ip saddr " GUEST " meta l4proto tcp "
                "snat to " NAT ":20000-20100'");
    }
    lab_sysctl("netfilter/nf_conntrack_tcp_loose", "0");
    lab_sysctl("netfilter/nf_conntrack_tcp_be_liberal", "0");
}

static Net net_new(bool nat)
{
    Net n = { .nat = nat };

    n.guest = lab_host_new();
    n.peer = lab_host_new();
    n.host[1] = lab_host_new();
    protect_host(&n);
    n.host[0] = lab_host_new();
    lab_run("ip link add g0 type veth peer name eth0 netns /proc/%d/fd/%d",
            getpid(), n.guest);
    lab_run("ip link add p0 type veth peer name eth0 netns /proc/%d/fd/%d",
            getpid(), n.peer);
    configure_host();
    protect_host(&n);
    lab_enter(n.guest);
    configure_end(GUEST, "10.20.0.1");
    lab_enter(n.peer);
    configure_end(PEER, "192.0.2.1");
    return n;
}

static void net_free(Net *n)
{
    lab_host_free(n->guest);
    lab_host_free(n->peer);
    lab_host_free(n->host[0]);
    lab_host_free(n->host[1]);
}

/* The links go to host B, which is the current one then. */
static void net_switch(Net *n)
{
    lab_enter(n->host[0]);
    for (int i = 0; i < 2; i++) {
        lab_run("ip link set %s netns /proc/%d/fd/%d", i ? "p0" : "g0",
                getpid(), n->host[1]);
    }
    lab_enter(n->host[1]);
    configure_host();
}

static GBytes *collect(Net *n)
{
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GError) err = NULL;
    MscProviderStats stats;
    GBytes *payload;

    lab_enter(n->host[0]);
    payload = p->collect(s, NULL, &stats, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(stats.entries, >=, 1);
    return payload;
}

static guint counter(const char *name)
{
    g_autofree char *text =
        lab_output("nft list counter inet t %s | "
                   "sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'",
                   name);

    return (guint)strtoul(text, NULL, 10);
}

/* A socket in the namespace @ns; connects if @to, else listens at @port. */
static int tcp_socket(int ns, const char *from, uint16_t from_port,
                      const char *to, uint16_t port)
{
    struct sockaddr_in local = { .sin_family = AF_INET,
                                 .sin_port = htons(from_port) };
    struct sockaddr_in remote = { .sin_family = AF_INET,
                                  .sin_port = htons(port) };
    int one = 1, fd;

    lab_enter(ns);
    local.sin_addr.s_addr = inet_addr(from);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_assert_cmpint(fd, >=, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&local, sizeof(local)), ==, 0);
    if (!to) {
        g_assert_cmpint(listen(fd, 1), ==, 0);
        return fd;
    }
    remote.sin_addr.s_addr = inet_addr(to);
    g_assert_true(!connect(fd, (struct sockaddr *)&remote, sizeof(remote)) ||
                  errno == EINPROGRESS);
    return fd;
}

static bool wait_for(int fd, short events, int ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = events };

    return poll(&poll_fd, 1, ms) == 1;
}

static int accept_one(int listener)
{
    int fd;

    g_assert_true(wait_for(listener, POLLIN, PATIENCE_MS));
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    g_assert_cmpint(fd, >=, 0);
    close(listener);
    return fd;
}

/* @bytes from one socket to the other. */
static void transfer(int from, int to, size_t bytes)
{
    g_autofree char *buf = g_malloc0(65536);
    size_t sent = 0, got = 0;
    gint64 end = g_get_monotonic_time() + PATIENCE_MS * 1000;

    while (got < bytes) {
        ssize_t n;

        g_assert_cmpint(g_get_monotonic_time(), <, end);
        n = sent < bytes
                ? send(from, buf, MIN(bytes - sent, 65536), MSG_NOSIGNAL)
                : 0;
        sent += n > 0 ? (size_t)n : 0;
        wait_for(to, POLLIN, 10);
        n = recv(to, buf, 65536, 0);
        got += n > 0 ? (size_t)n : 0;
    }
}

typedef struct {
    int guest, peer; /* connected to each other */
} Pair;

static Pair connect_pair(Net *n, uint16_t port)
{
    int listener = tcp_socket(n->peer, PEER, port, NULL, 0);
    Pair pair;

    pair.guest = tcp_socket(n->guest, GUEST, 0, PEER, port);
    pair.peer = accept_one(listener);
    g_assert_true(wait_for(pair.guest, POLLOUT, PATIENCE_MS));
    return pair;
}

static void close_pair(Pair *pair)
{
    close(pair->guest);
    close(pair->peer);
}

static void connection_survives(bool nat)
{
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) payload = NULL;
    Net n = net_new(nat);
    Pair pair = connect_pair(&n, 5001);
    struct sockaddr_in seen;
    socklen_t len = sizeof(seen);

    getpeername(pair.peer, (struct sockaddr *)&seen, &len);
    if (nat) {
        g_assert_cmphex(seen.sin_addr.s_addr, ==, inet_addr(NAT));
        g_assert_cmpuint(ntohs(seen.sin_port), >=, 20000);
        g_assert_cmpuint(ntohs(seen.sin_port), <=, 20100);
    } else {
        g_assert_cmphex(seen.sin_addr.s_addr, ==, inet_addr(GUEST));
    }
    transfer(pair.guest, pair.peer, BULK);
    transfer(pair.peer, pair.guest, BULK);
    payload = collect(&n);
    net_switch(&n);
    lab_restore(s, payload, 0);
    transfer(pair.peer, pair.guest, BULK);
    transfer(pair.guest, pair.peer, BULK);
    g_assert_cmpuint(counter("invalid"), ==, 0);
    g_assert_cmpuint(counter("dropped"), ==, 0);
    close_pair(&pair);
    net_free(&n);
}

static void test_connection_survives(void)
{
    connection_survives(false);
}

static void test_connection_behind_nat_survives(void)
{
    connection_survives(true);
}

/* The twin: the same exchange without the entries. */
static void test_connection_dies_without(void)
{
    Net n = net_new(false);
    Pair pair = connect_pair(&n, 5001);
    char byte = 0;

    transfer(pair.guest, pair.peer, 1000);
    net_switch(&n);
    g_assert_cmpint(send(pair.guest, &byte, 1, 0), ==, 1);
    for (int i = 0; !counter("invalid") && !counter("dropped"); i++) {
        g_assert_cmpint(i, <, 1000);
        g_usleep(20000);
    }
    g_assert_cmpint(recv(pair.peer, &byte, 1, 0), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    close_pair(&pair);
    net_free(&n);
}

static uint32_t queue_seq(int fd, int queue)
{
    socklen_t len = sizeof(uint32_t);
    uint32_t seq;

    g_assert_cmpint(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue,
                               sizeof(queue)),
                    ==, 0);
    g_assert_cmpint(getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, &len), ==,
                    0);
    return seq;
}

static uint16_t checksum(const void *data, size_t len, uint32_t sum)
{
    const uint8_t *b = data;

    for (size_t i = 0; i + 1 < len; i += 2) {
        sum += (uint32_t)(b[i] << 8 | b[i + 1]);
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

/* A segment far outside the window, in the guest's name. */
static void send_out_of_window(Net *n, Pair *pair)
{
    struct {
        struct iphdr ip;
        struct tcphdr tcp;
    } segment = { 0 };
    struct {
        uint32_t src, dst;
        uint8_t zero, protocol;
        uint16_t len;
    } pseudo;
    struct sockaddr_in local, remote;
    socklen_t len = sizeof(local);
    int on = TCP_REPAIR_ON, off = TCP_REPAIR_OFF_NO_WP;
    uint32_t sum = 0;
    int raw;

    getsockname(pair->guest, (struct sockaddr *)&local, &len);
    getpeername(pair->guest, (struct sockaddr *)&remote, &len);
    g_assert_cmpint(setsockopt(pair->guest, IPPROTO_TCP, TCP_REPAIR, &on,
                               sizeof(on)),
                    ==, 0);
    segment.tcp.seq =
        htonl(queue_seq(pair->guest, TCP_SEND_QUEUE) + 0x20000000);
    segment.tcp.ack_seq = htonl(queue_seq(pair->guest, TCP_RECV_QUEUE));
    g_assert_cmpint(setsockopt(pair->guest, IPPROTO_TCP, TCP_REPAIR, &off,
                               sizeof(off)),
                    ==, 0);
    segment.ip.version = 4;
    segment.ip.ihl = 5;
    segment.ip.ttl = 64;
    segment.ip.protocol = IPPROTO_TCP;
    segment.ip.tot_len = htons(sizeof(segment));
    segment.ip.saddr = local.sin_addr.s_addr;
    segment.ip.daddr = remote.sin_addr.s_addr;
    segment.tcp.source = local.sin_port;
    segment.tcp.dest = remote.sin_port;
    segment.tcp.doff = 5;
    segment.tcp.ack = 1;
    segment.tcp.window = htons(500);
    pseudo.src = segment.ip.saddr;
    pseudo.dst = segment.ip.daddr;
    pseudo.zero = 0;
    pseudo.protocol = IPPROTO_TCP;
    pseudo.len = htons(sizeof(segment.tcp));
    sum = (uint16_t)~checksum(&pseudo, sizeof(pseudo), 0);
    segment.tcp.check = htons(checksum(&segment.tcp, sizeof(segment.tcp), sum));
    lab_enter(n->guest);
    raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    g_assert_cmpint(raw, >=, 0);
    g_assert_cmpint(sendto(raw, &segment, sizeof(segment), 0,
                           (struct sockaddr *)&remote, sizeof(remote)),
                    ==, sizeof(segment));
    close(raw);
}

/* A veth hands packets over at once, in the sender's context: what was sent
 * before this returns has been counted. */
static void flush_path(Net *n, Pair *pair)
{
    transfer(pair->guest, pair->peer, 1);
    lab_enter(n->host[1]);
}

static bool is_lenient(void)
{
    g_autoptr(GPtrArray) table = lab_table();

    g_assert_cmpuint(table->len, ==, 1);
    return (nfct_get_attr_u8(table->pdata[0], ATTR_TCP_FLAGS_ORIG) |
            nfct_get_attr_u8(table->pdata[0], ATTR_TCP_FLAGS_REPL)) &
           IP_CT_TCP_FLAG_BE_LIBERAL;
}

static void test_leniency_ends(void)
{
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) payload = NULL;
    Net n = net_new(false);
    Pair pair = connect_pair(&n, 5001);
    gpointer memory = NULL;

    transfer(pair.guest, pair.peer, BULK);
    payload = collect(&n);
    net_switch(&n);
    lab_restore(s, payload, 0);
    /* Quiet so far: it stays lenient, however often one asks. */
    for (int i = 0; i < 3; i++) {
        g_assert_cmpuint(p->settle(s, payload, &memory), ==, 1);
    }
    g_assert_true(is_lenient());
    transfer(pair.peer, pair.guest, BULK);
    transfer(pair.guest, pair.peer, BULK);
    /* As long as it lasts, what comes from far outside the window passes. */
    send_out_of_window(&n, &pair);
    flush_path(&n, &pair);
    g_assert_cmpuint(counter("invalid"), ==, 0);
    g_assert_true(is_lenient());
    /* There was traffic in both directions: it ends. */
    for (int i = 0; p->settle(s, payload, &memory); i++) {
        g_assert_cmpint(i, <, 1000);
        g_usleep(20000);
    }
    p->settle_end(memory);
    g_assert_false(is_lenient());
    send_out_of_window(&n, &pair);
    flush_path(&n, &pair);
    g_assert_cmpuint(counter("invalid"), ==, 1);
    /* The connection itself goes on. */
    transfer(pair.guest, pair.peer, BULK);
    transfer(pair.peer, pair.guest, BULK);
    lab_enter(n.host[1]);
    g_assert_cmpuint(counter("invalid"), ==, 1);
    close_pair(&pair);
    net_free(&n);
}

static guint expectations(void)
{
    g_autofree char *text = lab_output("conntrack -L expect 2>/dev/null | "
                                       "wc -l");

    return (guint)strtoul(text, NULL, 10);
}

/* The guest says @line; what of it reaches the peer, in @got of 64 bytes. */
static void say(const Pair *control, const char *line, char *got)
{
    ssize_t n;

    g_assert_cmpint(send(control->guest, line, strlen(line), 0), ==,
                    (ssize_t)strlen(line));
    g_assert_true(wait_for(control->peer, POLLIN, PATIENCE_MS));
    n = recv(control->peer, got, 63, 0);
    g_assert_cmpint(n, >, 0);
    got[n] = 0;
}

/*
 * FTP: the guest announces a port on its control connection, moves, and only
 * then the server connects to that port.
 */
static void ftp(bool nat, bool with_expectation)
{
    static const char announce[] = "PORT 10,20,0,10,78,32\r\n";
    g_autoptr(MscSelector) s = lab_guest();
    g_autoptr(GBytes) payload = NULL;
    g_autoptr(MscPayload) edited = NULL;
    Net n = net_new(nat);
    Pair control = connect_pair(&n, 21), data;
    unsigned f[6];
    char got[64];
    g_autofree char *address = NULL;
    int listener;

    /* The helper finds the lines' beginnings by the first of them. */
    say(&control, "USER anonymous\r\n", got);
    say(&control, announce, got);
    g_assert_cmpint(sscanf(got, "PORT %u,%u,%u,%u,%u,%u", &f[0], &f[1], &f[2],
                           &f[3], &f[4], &f[5]),
                    ==, 6);
    address = g_strdup_printf("%u.%u.%u.%u", f[0], f[1], f[2], f[3]);
    g_assert_cmpstr(address, ==, nat ? NAT : GUEST);
    lab_enter(n.host[0]);
    g_assert_cmpuint(expectations(), ==, 1);
    payload = collect(&n);
    edited = msc_payload_decode(payload, NULL);
    g_assert_cmpuint(edited->expects->len, ==, 1);
    if (!with_expectation) {
        g_ptr_array_set_size(edited->expects, 0);
        g_bytes_unref(payload);
        payload = msc_payload_encode(edited);
    }
    listener = tcp_socket(n.guest, GUEST, 20000, NULL, 0);
    net_switch(&n);
    lab_restore(s, payload, 0);
    g_assert_cmpuint(expectations(), ==, with_expectation);
    data.peer =
        tcp_socket(n.peer, PEER, 20, address, (uint16_t)(f[4] << 8 | f[5]));
    if (with_expectation) {
        data.guest = accept_one(listener);
        transfer(data.peer, data.guest, BULK);
        lab_enter(n.host[1]);
        g_assert_cmpuint(expectations(), ==, 0);
        {
            /* The new flow knows its master, and is no FTP control. */
            g_autoptr(GPtrArray) table = lab_table();
            guint children = 0;

            for (guint i = 0; i < table->len; i++) {
                bool child = msc_flow_is_child(table->pdata[i]);
                bool helped =
                    nfct_attr_is_set(table->pdata[i], ATTR_HELPER_NAME) > 0;

                children += child;
                g_assert_true(child != helped);
            }
            g_assert_cmpuint(children, ==, 1);
        }
        close_pair(&data);
    } else {
        lab_enter(n.host[1]);
        for (int i = 0; !counter("dropped"); i++) {
            g_assert_cmpint(i, <, 1000);
            g_usleep(20000);
        }
        g_assert_false(wait_for(listener, POLLIN, 0));
        close(data.peer);
        close(listener);
    }
    /* The helper goes on as well. */
    say(&control, "PORT 10,20,0,10,78,33\r\n", got);
    g_assert_nonnull(strstr(got, nat ? "203,0,113,10" : "10,20,0,10"));
    lab_enter(n.host[1]);
    g_assert_cmpuint(expectations(), ==, 1);
    /* Behind NAT the announcement grew on its way: the control connection
     * lives on only if the adjustment of its numbers moved as well. */
    transfer(control.guest, control.peer, 5000);
    transfer(control.peer, control.guest, 5000);
    lab_enter(n.host[1]);
    g_assert_cmpuint(counter("invalid"), ==, 0);
    close_pair(&control);
    net_free(&n);
}

static void test_expected_connection(void)
{
    ftp(false, true);
}

static void test_expected_connection_behind_nat(void)
{
    ftp(true, true);
}

static void test_unexpected_connection(void)
{
    ftp(false, false);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/conntrack-live/" name, function)
    ADD("connection-survives", test_connection_survives);
    ADD("connection-behind-nat-survives", test_connection_behind_nat_survives);
    ADD("connection-dies-without", test_connection_dies_without);
    ADD("leniency-ends", test_leniency_ends);
    ADD("expected-connection", test_expected_connection);
    ADD("expected-connection-behind-nat", test_expected_connection_behind_nat);
    ADD("unexpected-connection", test_unexpected_connection);
#undef ADD
    return g_test_run();
}
