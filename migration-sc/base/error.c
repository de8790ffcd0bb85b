/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "error.h"

/* clang-format off: these are no minus signs */
G_DEFINE_QUARK(msc - error - quark, msc_error)
/* clang-format on */
