/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What each block of code calls where -fsanitize-coverage=trace-pc has built it.
 * With COVERAGE=1 tests/vm/build puts this before every source of rmapviz.
 */
#ifndef RMAPVIZ_COVER_H
#define RMAPVIZ_COVER_H

#include <linux/types.h>

/* Bytes of code on either side of __sanitizer_cov_trace_pc(). */
#define RV_REACH (512UL << 10)

/* Without bounds, or they would be looked at in each block. */
extern u8 rmapviz_covered[];

#ifdef RV_COVERAGE
void __sanitizer_cov_trace_pc(void);

/* The linker leaves one of them, so what is counted from it is the same place. */
__weak __attribute__((no_sanitize_coverage)) notrace void
__sanitizer_cov_trace_pc(void)
{
	unsigned long at = (unsigned long)__builtin_return_address(0) -
			   (unsigned long)__sanitizer_cov_trace_pc + RV_REACH;

	if (at < 2 * RV_REACH)
		rmapviz_covered[at] = 1;
}
#endif

#endif
