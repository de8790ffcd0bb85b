/*
 * An entry of the journal is refused with a reason, or read and written back
 * the same: a restart of the helper must not change what a migration is.  The
 * file that it stands in has at most one text that counts.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fuzz.h"
#include "journal.h"

static void read_slots(const uint8_t *data, size_t size)
{
    g_autoptr(GError) err = NULL;
    MscSlots slots;
    g_autofree char *text = msc_slots_decode(data, size, &slots, &err);

    fuzz_must(!text == !!err && !text == !slots.generation);
    fuzz_must(!text || (slots.durable < 2 && strlen(text) < MSC_SLOT_LEN));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(MscEntry) entry = msc_entry_parse((const char *)data, size, &err);
    g_autoptr(MscEntry) again = NULL;
    g_autofree char *text = NULL, *same = NULL;

    read_slots(data, size);
    fuzz_must(!entry == !!err);
    if (!entry) {
        return 0;
    }
    text = msc_entry_format(entry);
    again = msc_entry_parse(text, strlen(text), NULL);
    fuzz_must(again != NULL);
    fuzz_must(!memcmp(again->id, entry->id, sizeof(entry->id)) &&
              !memcmp(again->token, entry->token, sizeof(entry->token)) &&
              !memcmp(again->commitment, entry->commitment,
                      sizeof(entry->commitment)) &&
              again->role == entry->role && again->stage == entry->stage);
    same = msc_entry_format(again);
    fuzz_same(same, strlen(same), text, strlen(text));
    return 0;
}
