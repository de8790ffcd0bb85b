/*
 * A request on the control socket is refused with a reason, or is one whole
 * command.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "control.h"
#include "fuzz.h"

/* How often a member's name stands there; the names cannot occur in values
 * that are accepted, but for the code's. */
static unsigned times(const char *text, size_t size, const char *name)
{
    unsigned n = 0;
    const char *at;

    while ((at = memmem(text, size, name, strlen(name)))) {
        n++;
        size -= (size_t)(at - text) + strlen(name);
        text = at + strlen(name);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    MscControlRequest request = { 0 };
    g_autoptr(GError) err = NULL;
    bool ok;

    if (size > MSC_CONTROL_REQUEST_MAX) {
        return 0;
    }
    ok = msc_control_request_parse((const char *)data, size, &request, &err);
    fuzz_must(ok == !err);
    if (ok && !request.code) {
        fuzz_must(times((const char *)data, size, "\"command\"") <= 1);
        fuzz_must(times((const char *)data, size, "\"here\"") <= 1);
    }
    if (ok) {
        fuzz_must(!request.vm == (request.command == MSC_CONTROL_STATUS));
        fuzz_must(!request.vm || g_uuid_string_is_valid(request.vm));
        fuzz_must(!request.to == (request.command != MSC_CONTROL_CHECK));
    }
    if (ok && request.command != MSC_CONTROL_RESOLVE) {
        fuzz_must(!request.code && !request.here && !request.force);
    }
    msc_control_request_clear(&request);
    return 0;
}
