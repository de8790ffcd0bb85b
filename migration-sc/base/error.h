/*
 * The one error domain of the library.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_BASE_ERROR_H
#define MSC_BASE_ERROR_H

#include <glib.h>

#define MSC_ERROR (msc_error_quark())
GQuark msc_error_quark(void);

typedef enum {
    MSC_ERROR_MALFORMED, /* bytes from outside that break their format */
    MSC_ERROR_REFUSED,   /* policy, ours or the peer's, says no */
    MSC_ERROR_AUTH,      /* not who or what it must be */
    MSC_ERROR_IO,        /* a socket or a file failed, or closed early */
    MSC_ERROR_TIMEOUT,   /* a stated bound passed */
    MSC_ERROR_STATE,     /* a call or message out of order */
    MSC_ERROR_KERNEL,    /* the kernel refused what we asked */
    MSC_ERROR_CONFIG,    /* a configuration file or an argument is wrong */
    MSC_ERROR_CANCELLED, /* the caller gave up */
    MSC_ERROR_INTERNAL,  /* a limit of ours, e.g. locked memory */
} MscErrorCode;

#endif
