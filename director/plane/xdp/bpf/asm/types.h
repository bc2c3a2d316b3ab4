/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The kernel's <linux/types.h> wants one of these; clang's bpf target has no architecture that would bring it. */
#pragma once
#include <asm-generic/int-ll64.h>
