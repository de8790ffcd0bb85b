/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "precopy-lab.h"

#define BATCH_MAX (256 * 1024)
#define SUMMARY_MAX (64 * 1024)

static const MscPrecopy *precopy(void)
{
    return msc_conntrack_provider.precopy;
}

LabPrecopy *lab_precopy_new(void)
{
    LabPrecopy *l = g_new0(LabPrecopy, 1);
    g_autoptr(GError) err = NULL;

    l->s = lab_guest();
    l->batches = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    l->when = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    l->replaced = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    l->b = lab_host_new();
    lab_track();
    l->a = lab_host_new();
    lab_track();
    precopy()->prepare(NULL, &err);
    g_assert_no_error(err);
    return l;
}

void lab_precopy_free(LabPrecopy *l)
{
    precopy()->source_end(l->source);
    precopy()->destination_end(l->destination);
    lab_host_free(l->a);
    lab_host_free(l->b);
    g_ptr_array_unref(l->batches);
    g_array_unref(l->when);
    g_ptr_array_unref(l->replaced);
    g_clear_pointer(&l->summary, g_bytes_unref);
    msc_selector_free(l->s);
    g_free(l);
}

void lab_precopy_look(LabPrecopy *l)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) summary = NULL;

    lab_enter(l->a);
    l->began = g_get_monotonic_time();
    l->source = precopy()->source_begin(l->s, &err);
    g_assert_no_error(err);
    summary = precopy()->source_summarize(l->source, SUMMARY_MAX, &err);
    g_assert_no_error(err);
    g_clear_pointer(&l->summary, g_bytes_unref);
    l->summary = g_steal_pointer(&summary);
}

void lab_precopy_begin(LabPrecopy *l)
{
    lab_precopy_look(l);
    l->destination = precopy()->destination_begin(l->s);
}

void lab_precopy_give_up(LabPrecopy *l)
{
    precopy()->source_end(l->source);
    l->source = NULL;
}

static bool replacing(GBytes *replaced, void *opaque, GError **errp)
{
    LabPrecopy *l = opaque;

    (void)errp;
    g_ptr_array_add(l->replaced, g_bytes_ref(replaced));
    return true;
}

void lab_precopy_record(LabPrecopy *l, GBytes *batch)
{
    uint64_t now = (uint64_t)g_get_real_time();

    g_ptr_array_add(l->batches, g_bytes_ref(batch));
    g_array_append_val(l->when, now);
}

bool lab_precopy_stage(LabPrecopy *l, GBytes *batch, GError **err)
{
    bool ok;

    lab_enter(l->b);
    ok = precopy()->validate(l->destination, batch, err);
    if (ok) {
        lab_precopy_record(l, batch);
        ok = precopy()->stage(l->destination, batch, 0, replacing, l,
                              &l->staged, err);
    }
    lab_enter(l->a);
    return ok;
}

void lab_precopy_undo(LabPrecopy *l)
{
    g_autoptr(GError) err = NULL;

    lab_enter(l->b);
    for (guint i = 0; i < l->batches->len; i++) {
        precopy()->unstage(l->s, l->batches->pdata[i],
                           g_array_index(l->when, uint64_t, i), &err);
        g_assert_no_error(err);
    }
    for (guint i = 0; i < l->replaced->len; i++) {
        precopy()->restore(l->s, l->replaced->pdata[i], &err);
        g_assert_no_error(err);
    }
    g_ptr_array_set_size(l->batches, 0);
    g_array_set_size(l->when, 0);
    g_ptr_array_set_size(l->replaced, 0);
    precopy()->destination_end(l->destination);
    l->destination = precopy()->destination_begin(l->s);
    lab_enter(l->a);
}

bool lab_precopy_next(LabPrecopy *l)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) batch =
        precopy()->next(l->source, BATCH_MAX, &l->progress, &err);

    g_assert_no_error(err);
    if (l->progress.anew) {
        lab_precopy_undo(l);
    }
    if (!g_bytes_get_size(batch)) {
        return false;
    }
    lab_precopy_stage(l, batch, &err);
    g_assert_no_error(err);
    return true;
}

void lab_precopy_bulk(LabPrecopy *l)
{
    do {
        lab_precopy_next(l);
    } while (!l->progress.live);
}

gsize lab_precopy_final(LabPrecopy *l)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) batch = NULL;
    MscProviderStats stats = { 0 };
    bool lost;

    batch = precopy()->final(l->source, &stats, &lost, &err);
    g_assert_no_error(err);
    g_assert_false(lost);
    lab_precopy_stage(l, batch, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(stats.entries, ==, l->staged);
    return g_bytes_get_size(batch);
}

void lab_precopy_assert_same(LabPrecopy *l)
{
    g_autoptr(GPtrArray) before = NULL, after = NULL;

    lab_enter(l->a);
    before = lab_table();
    lab_enter(l->b);
    after = lab_table();
    /* On the source they have aged since they were read, and by less than a
     * second that shows in neither. */
    lab_assert_same(before, after, true, 0,
                    1 + (guint)((g_get_monotonic_time() - l->began) /
                                G_USEC_PER_SEC));
    lab_enter(l->a);
}

MscFlow *lab_guest_tcp(uint16_t port, uint16_t dport)
{
    return lab_flow(IPPROTO_TCP, GUEST, port, PEER, dport);
}

void lab_delete(const MscFlow *flow)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscCt) ct = msc_ct_open(&err);
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    int result = 0;

    g_assert_no_error(err);
    g_ptr_array_add(one, (gpointer)flow);
    msc_ct_run(ct, MSC_CT_DELETE, one, &result, NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpint(result, ==, 0);
}
