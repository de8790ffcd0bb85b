/*
 * What conntrack-tools shows of a table, and how two of its views differ.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_NETNS_CONNTRACK_VIEW_H
#define TESTS_NETNS_CONNTRACK_VIEW_H

#include <glib.h>

/* One form in which conntrack(8) prints; see the table in conntrack-view.c. */
typedef struct ViewForm ViewForm;

#define VIEW_FORMS 5

/* All forms of the current namespace's table, taken at one time. */
typedef struct {
    GPtrArray *entries[VIEW_FORMS]; /* GHashTable: field -> value */
    gint64 taken_us;                /* monotonic */
} View;

View *view_take(void);
void view_free(View *view);

/* Commands in the current namespace; labels are called bit0 to bit127. */
void view_run(const char *commands);

/* What differs and must not, as texts "FORM: FIELD: ...", and as "FORM: lost
 * ..." or "FORM: new ..." whole entries.  @transit_s: what time-outs lost in
 * transit. */
GPtrArray *view_differences(const View *before, const View *after,
                            guint transit_s);
/* How many fields the forms of a view have together. */
guint view_fields(const View *view);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(View, view_free)

#endif
