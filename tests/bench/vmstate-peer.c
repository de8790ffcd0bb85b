/*
 * The peer of the context in the stream: QEMU's own dbus-vmstate with a
 * helper that dumps the flows when the guest has stopped and loads them before
 * it goes on, as Proxmox VE's does.
 *
 *   bench-vmstate-peer BUS GUEST
 *
 * serves org.qemu.VMState1 on the bus with that address, for flows that begin
 * at the guest's IPv4 address, until it is ended.
 *
 * It makes its best of that interface: one dump, the fewest attributes that
 * make the flow again, batches with one look at the answers each.  QEMU takes
 * 1 MiB from a helper, so it ends with an error at some 5,000 flows.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <gio/gio.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <stdbool.h>

#include "request.h"

#define NAME "org.qemu.VMState1"
#define BATCH 64
/* A message of a flow is about 200 bytes. */
#define MESSAGE_MAX 1024
#define ANSWER_MAX (64 * 1024)
#define QEMU_MAX (1024 * 1024)

static const char interface_xml[] =
    "<node><interface name='" NAME "'>"
    "<property name='Id' type='s' access='read'/>"
    "<method name='Load'><arg type='ay' name='data' direction='in'/></method>"
    "<method name='Save'><arg type='ay' name='data' direction='out'/></method>"
    "</interface></node>";

static struct mnl_socket *open_socket(void)
{
    struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);

    g_assert_nonnull(nl);
    g_assert_cmpint(mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID), ==, 0);
    return nl;
}

/* What the kernel does not take, or makes itself. */
static const enum nf_conntrack_attr useless[] = {
    ATTR_ID,
    ATTR_USE,
    ATTR_ORIG_COUNTER_PACKETS,
    ATTR_ORIG_COUNTER_BYTES,
    ATTR_REPL_COUNTER_PACKETS,
    ATTR_REPL_COUNTER_BYTES,
    ATTR_SYNPROXY_ISN,
    ATTR_SYNPROXY_ITS,
    ATTR_SYNPROXY_TSOFF,
};

static struct in_addr guest;

/* Appends the message that creates the flow of @nlh, if it is the guest's. */
static void remember(GByteArray *data, const struct nlmsghdr *nlh)
{
    char buf[MESSAGE_MAX] __attribute__((aligned(4))) = { 0 };
    struct nlmsghdr *create =
        put(buf, IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
    struct nf_conntrack *ct = nfct_new();

    g_assert_nonnull(ct);
    g_assert_cmpint(nfct_nlmsg_parse(nlh, ct), ==, 0);
    if (nfct_get_attr_u32(ct, ATTR_ORIG_IPV4_SRC) == guest.s_addr) {
        for (size_t i = 0; i < G_N_ELEMENTS(useless); i++) {
            nfct_attr_unset(ct, useless[i]);
        }
        g_assert_cmpint(nfct_nlmsg_build(create, ct), ==, 0);
        g_byte_array_append(data, (const guint8 *)create, create->nlmsg_len);
    }
    nfct_destroy(ct);
}

static GByteArray *save(void)
{
    char request[MESSAGE_MAX] __attribute__((aligned(4))) = { 0 };
    struct nlmsghdr *nlh = put(request, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
    g_autofree char *buf = g_malloc(ANSWER_MAX);
    struct mnl_socket *nl = open_socket();
    GByteArray *data = g_byte_array_new();
    bool done = false;

    g_assert_cmpint(mnl_socket_sendto(nl, nlh, nlh->nlmsg_len), >, 0);
    while (!done) {
        int len = (int)mnl_socket_recvfrom(nl, buf, ANSWER_MAX);

        g_assert_cmpint(len, >, 0);
        for (nlh = (struct nlmsghdr *)buf; mnl_nlmsg_ok(nlh, len);
             nlh = mnl_nlmsg_next(nlh, &len)) {
            done = nlh->nlmsg_type == NLMSG_DONE;
            if (!done) {
                remember(data, nlh);
            }
        }
    }
    mnl_socket_close(nl);
    return data;
}

static void take_answers(struct mnl_socket *nl, char *buf, guint left)
{
    while (left) {
        int len = (int)mnl_socket_recvfrom(nl, buf, ANSWER_MAX);
        const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;

        g_assert_cmpint(len, >, 0);
        for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
            const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

            g_assert_cmpint(e->error, ==, 0);
            left--;
        }
    }
}

static void load(const guint8 *data, gsize size)
{
    g_autofree char *buf = g_malloc(ANSWER_MAX);
    struct mnl_socket *nl = open_socket();

    while (size) {
        const struct nlmsghdr *nlh = (const struct nlmsghdr *)data;
        int left = (int)size;
        guint n = 0;

        for (; n < BATCH && mnl_nlmsg_ok(nlh, left); n++) {
            nlh = mnl_nlmsg_next(nlh, &left);
        }
        g_assert_cmpuint(n, >, 0);
        g_assert_cmpint(mnl_socket_sendto(nl, data, size - (gsize)left), >, 0);
        take_answers(nl, buf, n);
        data += size - (gsize)left;
        size = (gsize)left;
    }
    mnl_socket_close(nl);
}

static void call(GDBusConnection *bus, const gchar *sender, const gchar *path,
                 const gchar *interface, const gchar *method,
                 GVariant *parameters, GDBusMethodInvocation *invocation,
                 gpointer opaque)
{
    (void)bus;
    (void)sender;
    (void)path;
    (void)interface;
    (void)opaque;
    if (g_str_equal(method, "Save")) {
        g_autoptr(GByteArray) data = save();

        if (data->len > QEMU_MAX) {
            g_dbus_method_invocation_return_error(
                invocation, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                "%u bytes of flows: QEMU takes %d", data->len, QEMU_MAX);
            return;
        }
        g_dbus_method_invocation_return_value(
            invocation,
            g_variant_new("(@ay)",
                          g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE,
                                                    data->data, data->len, 1)));
    } else {
        g_autoptr(GVariant) array = g_variant_get_child_value(parameters, 0);
        gsize size;
        const guint8 *data = g_variant_get_fixed_array(array, &size, 1);
        /* Netlink's messages are aligned to 4. */
        g_autofree guint8 *copy = g_memdup2(data, size);

        load(copy, size);
        g_dbus_method_invocation_return_value(invocation, NULL);
    }
}

static GVariant *get_id(GDBusConnection *bus, const gchar *sender,
                        const gchar *path, const gchar *interface,
                        const gchar *property, GError **error, gpointer opaque)
{
    (void)bus;
    (void)sender;
    (void)path;
    (void)interface;
    (void)property;
    (void)error;
    (void)opaque;
    return g_variant_new_string("conntrack");
}

static void ready(GDBusConnection *bus, const gchar *name, gpointer opaque)
{
    (void)bus;
    (void)opaque;
    g_print("%s\n", name);
}

int main(int argc, char **argv)
{
    static const GDBusInterfaceVTable vtable = {
        .method_call = call,
        .get_property = get_id,
    };
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(GError) err = NULL;
    g_autoptr(GDBusNodeInfo) node =
        g_dbus_node_info_new_for_xml(interface_xml, &err);
    g_autoptr(GDBusConnection) bus = NULL;

    g_assert_no_error(err);
    if (argc != 3 || inet_pton(AF_INET, argv[2], &guest) != 1) {
        g_printerr("Usage: bench-vmstate-peer BUS GUEST\n");
        return 2;
    }
    bus = g_dbus_connection_new_for_address_sync(
        argv[1],
        G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
            G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
        NULL, NULL, &err);
    g_assert_no_error(err);
    g_dbus_connection_register_object(bus, "/org/qemu/VMState1",
                                      node->interfaces[0], &vtable, NULL, NULL,
                                      &err);
    g_assert_no_error(err);
    g_bus_own_name_on_connection(bus, NAME, G_BUS_NAME_OWNER_FLAGS_NONE, ready,
                                 NULL, NULL, NULL);
    g_main_loop_run(loop);
    return 0;
}
