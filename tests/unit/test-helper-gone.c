/*
 * A helper that is gone: whenever that was, and whoever asks it next, the
 * user reads that it hung up.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib/gstdio.h>
#include <migration-sc/helper-client.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client-private.h"
#include "error.h"

#define VM "6f1f4a0e-93a5-4c9c-9a2b-3f0a3b9f1f01"
/* Long, for nothing here waits for its end. */
#define TIMEOUT_MS 60000

static void pair(int fds[2])
{
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==,
                    0);
}

static void send_request(int fd)
{
    g_autoptr(GError) err = NULL;

    msc_frame_send(fd, MSC_MSG_FREEZE, NULL, -1, msc_deadline(TIMEOUT_MS),
                   MSC_HELPER_WHO, &err);
    g_assert_no_error(err);
}

static MscFrameResult receive(int fd, GError **err)
{
    g_auto(MscFrame) frame;

    msc_frame_init(&frame);
    return msc_frame_recv(fd, &frame, msc_deadline(TIMEOUT_MS), TIMEOUT_MS,
                          MSC_HELPER_WHO, err);
}

/* A request is under way, or there: @read. */
static void pair_asked(int fds[2], bool read)
{
    g_autoptr(GError) err = NULL;

    pair(fds);
    send_request(fds[0]);
    if (read) {
        g_assert_cmpint(receive(fds[1], &err), ==, MSC_FRAME_OK);
        g_assert_no_error(err);
    }
}

/* @unread: with the request still before it. */
static void test_before_the_answer(gconstpointer unread)
{
    g_autoptr(GError) err = NULL;
    int fds[2];

    pair_asked(fds, !unread);
    close(fds[1]);
    g_assert_cmpint(receive(fds[0], &err), ==, MSC_FRAME_CLOSED);
    g_assert_no_error(err);
    close(fds[0]);
}

static void test_in_the_middle(gconstpointer unread)
{
    g_autoptr(GError) err = NULL;
    int fds[2];

    pair_asked(fds, !unread);
    g_assert_cmpint(write(fds[1], "\0\0\0", 3), ==, 3);
    close(fds[1]);
    g_assert_cmpint(receive(fds[0], &err), ==, MSC_FRAME_FAILED);
    g_assert_error(err, MSC_ERROR, MSC_ERROR_IO);
    g_assert_nonnull(strstr(err->message, "the migration helper hung up"));
    close(fds[0]);
}

static void test_before_the_request(void)
{
    g_autoptr(GError) err = NULL;
    g_auto(MscFrame) reply;
    int fds[2];

    msc_frame_init(&reply);
    pair(fds);
    close(fds[1]);
    g_assert_false(msc_client_exchange(fds[0], MSC_MSG_FREEZE, NULL, -1,
                                       TIMEOUT_MS, &reply, &err));
    g_assert_error(err, MSC_ERROR, MSC_ERROR_IO);
    g_assert_cmpstr(err->message, ==, "the migration helper hung up");
    close(fds[0]);
}

/* Takes one connection, answers OPEN, and is gone. */
static gpointer short_lived_helper(gpointer opaque)
{
    int listener = GPOINTER_TO_INT(opaque);
    int fd = accept(listener, NULL, NULL);
    g_autoptr(GByteArray) out = g_byte_array_new();
    MscOpenedMessage opened = { .timeout_ms = TIMEOUT_MS };
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(receive(fd, &err), ==, MSC_FRAME_OK);
    msc_opened_encode(&opened, out);
    msc_frame_send(fd, MSC_MSG_OPEN | MSC_MSG_REPLY, out, -1,
                   msc_deadline(TIMEOUT_MS), "QEMU", &err);
    g_assert_no_error(err);
    close(fd);
    return NULL;
}

/* A second thread of QEMU's asks when the first one has heard it already. */
static void test_whoever_asks(void)
{
    g_autofree char *dir = g_dir_make_tmp("msc-gone-XXXXXX", NULL);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_autoptr(GError) err = NULL;
    MscClient *client;
    GThread *helper;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sock", dir);
    g_assert_cmpint(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), ==,
                    0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    helper =
        g_thread_new("helper", short_lived_helper, GINT_TO_POINTER(listener));
    client =
        msc_client_open(addr.sun_path, MSC_ROLE_SOURCE, VM, TIMEOUT_MS, &err);
    g_assert_no_error(err);
    g_thread_join(helper);
    for (int i = 0; i < 3; i++) {
        MscContextStats stats;

        g_assert_false(msc_client_freeze(client, &stats, &err));
        g_assert_error(err, MSC_ERROR, MSC_ERROR_IO);
        g_assert_nonnull(strstr(err->message, "the migration helper hung up"));
        g_assert_cmpint(i > 0, ==,
                        strstr(err->message, "the connection to") != NULL);
        g_clear_error(&err);
    }
    msc_client_unref(client);
    close(listener);
    g_unlink(addr.sun_path);
    g_rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, test) g_test_add_func("/helper-gone/" name, test)
#define ADD_OF(name, data, test) \
    g_test_add_data_func("/helper-gone/" name, data, test)
    ADD_OF("before-the-answer", NULL, test_before_the_answer);
    ADD_OF("before-it-reads", "unread", test_before_the_answer);
    ADD_OF("in-the-middle-of-the-answer", NULL, test_in_the_middle);
    ADD_OF("in-the-middle-before-it-reads", "unread", test_in_the_middle);
    ADD("before-the-request", test_before_the_request);
    ADD("whoever-asks", test_whoever_asks);
    return g_test_run();
}
