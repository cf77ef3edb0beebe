// SPDX-License-Identifier: GPL-2.0-only
/*
 * drain - let no page wait in a batch of some CPU for its place on an LRU list
 *
 * move_pages() sees to that before it moves anything, on every kernel; to drop
 * caches does so on newer ones only.
 */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	void *page = NULL;
	int node = 0, status = 0;

	if (!syscall(SYS_move_pages, 0, 0UL, &page, &node, &status, 0))
		return 0;
	perror("move_pages");
	return 1;
}
