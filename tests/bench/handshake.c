/*
 * CPU of the handshakes, both ends together, without network and disk: the
 * full one of a migration's first channel, and that of a further channel.
 *
 * Prints one line of JSON, times in milliseconds: one value a turn, each the
 * mean of many handshakes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <time.h>

#include "../unit/handshake-fixture.h"

#define TURNS 9
#define FULL_A_TURN 40
#define FURTHER_A_TURN 2000

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static MscSession *full(Fixture *f, char **kem)
{
    MscSession *session;

    start(f, NULL, NULL);
    converse(f);
    g_assert_true(f->done[0] && f->done[1]);
    session = msc_handshake_take_session(f->hs[0]);
    g_free(*kem);
    *kem = g_strdup(msc_kem_name(session->kem));
    for (int i = 0; i < 2; i++) {
        msc_handshake_free(g_steal_pointer(&f->hs[i]));
        f->done[i] = false;
    }
    g_byte_array_set_size(f->wire, 0);
    return session;
}

static void further(const MscSession *session, uint32_t number)
{
    g_autoptr(MscHandshake) source =
        msc_handshake_new_further(MSC_ROLE_SOURCE, session, MSC_CHANNEL_MULTIFD,
                                  number, 1, NULL);
    g_autoptr(MscHandshake) destination =
        msc_handshake_new_further(MSC_ROLE_DESTINATION, session, 0, 0, 0, NULL);
    g_autoptr(GByteArray) message = g_byte_array_new();
    g_autoptr(GByteArray) reply = g_byte_array_new();

    g_assert_cmpint(msc_handshake_step(source, NULL, 0, message, NULL), ==,
                    MSC_STEP_CONTINUE);
    g_assert_cmpint(msc_handshake_step(destination, message->data, message->len,
                                       reply, NULL),
                    ==, MSC_STEP_DONE);
    g_assert_cmpint(msc_handshake_step(source, reply->data, reply->len, message,
                                       NULL),
                    ==, MSC_STEP_DONE);
}

static void print(const char *name, const double *values)
{
    printf("\"%s\": [", name);
    for (int i = 0; i < TURNS; i++) {
        printf("%s%.5f", i ? ", " : "", values[i]);
    }
    printf("]");
}

int main(void)
{
    double first[TURNS], more[TURNS];
    g_autoptr(MscSession) session = NULL;
    g_autofree char *kem = NULL;
    Fixture f;

    setup(&f);
    session = full(&f, &kem);
    for (int turn = 0; turn < TURNS; turn++) {
        double begin = cpu_ms();

        for (int i = 0; i < FULL_A_TURN; i++) {
            msc_session_free(full(&f, &kem));
        }
        first[turn] = (cpu_ms() - begin) / FULL_A_TURN;
        begin = cpu_ms();
        for (uint32_t i = 0; i < FURTHER_A_TURN; i++) {
            further(session, i);
        }
        more[turn] = (cpu_ms() - begin) / FURTHER_A_TURN;
    }
    printf("{\"kem\": \"%s\", ", kem);
    print("first_ms", first);
    printf(", ");
    print("further_ms", more);
    printf("}\n");
    teardown(&f);
    return 0;
}
