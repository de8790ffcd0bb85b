/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#include "error.h"

G_DEFINE_QUARK(msc-error-quark, msc_error)
