/*
 * Part of the build with -Dfault-points=true only; clang-tidy reads it always.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_FAULT_POINTS
#define MSC_FAULT_POINTS
#endif
#include "fault.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "error.h"

typedef enum { NOTHING, CRASH, FAIL, HANG } Action;

static const char *const actions[] = { "nothing", "crash", "error", "hang" };

static const char *const names[] = {
#define X(name) [MSC_FAULT_##name] = #name,
    MSC_FAULT_POINTS_LIST(X)
#undef X
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == MSC_FAULT_LAST);

typedef struct {
    Action action;
    gint countdown; /* atomic: 1 when it is this one's turn */
} Plan;

static Plan plans[MSC_FAULT_LAST];

/* The index of @text, or an end with a word: only tests set MSC_FAULT. */
static guint find(const char *text, const char *const *list, guint len)
{
    for (guint i = 0; i < len; i++) {
        if (!strcmp(list[i], text)) {
            return i;
        }
    }
    g_error("MSC_FAULT: no '%s'", text);
}

/* NAME[@N][:ACTION] */
static void parse_one(const char *text)
{
    g_auto(GStrv) halves = g_strsplit(text, ":", 2);
    g_auto(GStrv) point = g_strsplit(halves[0], "@", 2);
    Plan *plan = &plans[find(point[0], names, MSC_FAULT_LAST)];
    guint64 times = 1;

    if (point[1] &&
        !g_ascii_string_to_unsigned(point[1], 10, 1, 1000, &times, NULL)) {
        g_error("MSC_FAULT: '%s' is no count", point[1]);
    }
    plan->countdown = (gint)times;
    plan->action = (Action)find(halves[1] ? halves[1] : "crash", actions,
                                G_N_ELEMENTS(actions));
}

static void read_environment(void)
{
    static gsize once;

    if (g_once_init_enter(&once)) {
        g_auto(GStrv) list =
            g_strsplit(g_getenv("MSC_FAULT") ? g_getenv("MSC_FAULT") : "", ",",
                       -1);

        for (char **one = list; *one; one++) {
            parse_one(*one);
        }
        g_once_init_leave(&once, 1);
    }
}

/* What shall happen here and now. */
static Action reached(MscFaultPoint point)
{
    Plan *plan = &plans[point];

    read_environment();
    if (plan->action == NOTHING ||
        g_atomic_int_add(&plan->countdown, -1) != 1) {
        return NOTHING;
    }
    g_printerr("fault: %s\n", names[point]);
    if (plan->action == CRASH) {
        kill(getpid(), SIGKILL);
    }
    while (plan->action != FAIL) {
        pause();
    }
    return FAIL;
}

void msc_fault(MscFaultPoint point)
{
    if (reached(point) == FAIL) {
        g_error("MSC_FAULT: %s cannot fail", names[point]);
    }
}

bool msc_fault_passes(MscFaultPoint point, GError **errp)
{
    if (reached(point) == NOTHING) {
        return true;
    }
    g_set_error(errp, MSC_ERROR, MSC_ERROR_INTERNAL, "fault point %s",
                names[point]);
    return false;
}
