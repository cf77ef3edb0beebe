// SPDX-License-Identifier: GPL-2.0-only
/*
 * crowd - many processes around one page, for benchmarks
 *
 * "crowd SCENE N" builds it, prints "PFN PID ADDRESS" of the page to ask about,
 * and leaves the processes asleep in a process group of their own, in the
 * background.  An actor (see actor.c) listens and answers, of which ten thousand
 * would take a benchmark longer than what it is to measure.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

#define PAGE	4096UL
#define HUGE	(512 * PAGE)
#define ADDRESS ((char *)0x10000000000)

/* A page of this many generations: each forks the next. */
static int generations;

/* Of scenes that have many. */
static long pages = 1000;

static const char usage[] =
	"usage: crowd SCENE N [PAGES]\n"
	"  share     one anonymous page of N processes\n"
	"  pages     PAGES of them, 1000 if it is not said\n"
	"  classic   N children write PAGES that they have from their parent: one's\n"
	"            page, then the parent's\n"
	"  own       one of a family of N has written: its page\n"
	"  orphan    all of a family of N but the parent have given it back\n"
	"  chain     N generations share a page\n"
	"  file      a page of /tmp/crowd that N processes map\n"
	"  ksm-vma   N equal pages in one VMA\n"
	"  ksm-many  a page of each of N processes, all equal\n"
	"  thp       a huge page of N processes, by PMD\n"
	"  split     a huge page of N processes, by PTE\n"
	"  idle      N processes that have nothing to do with the page\n"
	"  vmas      N VMAs of one anon_vma, in one process\n"
	"  families  the same in three processes: N VMAs in all\n"
	"  entries   a process with N entries of the zero page\n"
	"  full      all memory but N MB is taken\n";

static uint64_t pfn_of(const char *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)addr / PAGE * 8) != 8)
		die("pagemap");
	close(fd);
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

static void tell(const char *addr)
{
	printf("0x%llx %d 0x%lx\n", (unsigned long long)pfn_of(addr), getpid(),
	       (unsigned long)addr);
	fflush(stdout);
	/* whoever reads this waits for the end of it */
	fclose(stdout);
}

static void sleep_for_ever(void)
{
	fclose(stdin);
	fclose(stdout);
	fclose(stderr);
	for (;;)
		pause();
}

static char *map(size_t size, int flags, int fd)
{
	char *addr = mmap(ADDRESS, size, PROT_READ | PROT_WRITE,
			  MAP_FIXED | flags, fd, 0);

	if (addr == MAP_FAILED)
		die("mmap");
	return addr;
}

static char *map_anon(size_t size)
{
	return map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* Forks n - 1 children, who do something and say by a pipe that it is done. */
static void fork_others(int n, void (*act)(char *addr), char *addr)
{
	int done[2], i;
	char byte;

	if (pipe(done))
		die("pipe");
	for (i = 1; i < n; i++) {
		switch (fork()) {
		case -1:
			die("fork");
			break;
		case 0:
			if (act)
				act(addr);
			if (write(done[1], "", 1) != 1)
				die("write");
			close(done[0]);
			close(done[1]);
			sleep_for_ever();
		}
	}
	for (i = 1; i < n; i++)
		if (read(done[0], &byte, 1) != 1)
			die("read");
	close(done[0]);
	close(done[1]);
}

static void give_back(char *addr)
{
	if (madvise(addr, PAGE, MADV_DONTNEED))
		die("madvise");
}

static void look(char *addr)
{
	(void)*(volatile char *)addr;
}

/* One page of it made read-only takes an entry of its own. */
static void split(char *addr)
{
	if (mprotect(addr + PAGE, PAGE, PROT_READ))
		die("mprotect");
}

static void fill_and_merge(char *addr)
{
	memset(addr, 7, PAGE);
	if (madvise(addr, PAGE, MADV_MERGEABLE))
		die("mergeable");
}

static char *map_small_pages(void)
{
	char *addr = map_anon(pages * PAGE);

	if (madvise(addr, pages * PAGE, MADV_NOHUGEPAGE))
		die("madvise");
	return addr;
}

static void write_all(char *addr)
{
	long i;

	for (i = 0; i < pages; i++)
		addr[i * PAGE] = 3;
}

static void scene_share(int n)
{
	char *addr = map_anon(PAGE);

	*addr = 1;
	fork_others(n, NULL, addr);
	tell(addr);
}

static void write_and_tell(char *addr)
{
	*addr = 2;
	tell(addr);
}

/* Many pages of N processes. */
static void scene_pages(int n)
{
	char *addr = map_small_pages();

	write_all(addr);
	fork_others(n, NULL, addr);
	tell(addr);
}

static void write_all_and_tell(char *addr)
{
	write_all(addr);
	tell(addr);
}

/*
 * The experiment for which anon_vmas were split: every child writes all pages
 * that it has from its parent.  One child's page is told, then the parent's.
 */
static void scene_classic(int n)
{
	char *addr = map_small_pages();

	write_all(addr);
	fork_others(n, write_all, addr);
	fork_others(2, write_all_and_tell, addr);
	tell(addr);
}

static void scene_own(int n)
{
	char *addr = map_anon(PAGE);

	*addr = 1;
	fork_others(n - 1, NULL, addr);
	fork_others(2, write_and_tell, addr);
}

static void scene_orphan(int n)
{
	char *addr = map_anon(PAGE);

	*addr = 1;
	fork_others(n, give_back, addr);
	tell(addr);
}

static void next_generation(char *addr)
{
	if (--generations)
		fork_others(2, next_generation, addr);
}

static void scene_chain(int n)
{
	char *addr = map_anon(PAGE);

	*addr = 1;
	generations = n;
	next_generation(addr);
	tell(addr);
}

static void scene_file(int n)
{
	int fd = open("/tmp/crowd", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *addr;

	if (fd < 0 || ftruncate(fd, PAGE))
		die("/tmp/crowd");
	addr = map(PAGE, MAP_SHARED, fd);
	*addr = 1;
	fork_others(n, look, addr);
	tell(addr);
}

static void scene_ksm_vma(int n)
{
	char *addr = map_anon(n * PAGE);

	memset(addr, 7, n * PAGE);
	if (madvise(addr, n * PAGE, MADV_MERGEABLE))
		die("mergeable");
	tell(addr);
}

static void scene_ksm_many(int n)
{
	char *addr = map_anon(PAGE);

	fork_others(n, fill_and_merge, addr);
	fill_and_merge(addr);
	tell(addr);
}

static void scene_thp(int n)
{
	char *addr = map_anon(HUGE);

	if (madvise(addr, HUGE, MADV_HUGEPAGE))
		die("hugepage");
	*addr = 1;
	fork_others(n, NULL, addr);
	tell(addr);
}

static void scene_split(int n)
{
	char *addr = map_anon(HUGE);

	if (madvise(addr, HUGE, MADV_HUGEPAGE))
		die("hugepage");
	*addr = 1;
	fork_others(n, split, addr);
	split(addr);
	tell(addr);
}

static void scene_idle(int n)
{
	char *addr;

	fork_others(n, NULL, NULL);
	addr = map_anon(PAGE);
	*addr = 1;
	tell(addr);
}

static char *map_vmas(int n)
{
	char *addr = map_anon(n * PAGE);
	int i;

	memset(addr, 1, n * PAGE);
	for (i = 1; i < n; i += 2)
		if (mprotect(addr + i * PAGE, PAGE, PROT_READ))
			die("mprotect");
	return addr;
}

static void scene_vmas(int n)
{
	tell(map_vmas(n));
}

static void scene_families(int n)
{
	char *addr = map_vmas(n / 3);

	fork_others(3, NULL, addr);
	tell(addr);
}

static void scene_entries(int n)
{
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		die("prctl");
	tell(mmap(ADDRESS, n * PAGE, PROT_READ,
		  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
		  0));
}

/* As free, without what the kernel keeps back, counts what can be reclaimed. */
static long available_kb(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	char line[128];
	long kb = -1;

	while (kb < 0 && fgets(line, sizeof(line), file))
		sscanf(line, "MemAvailable: %ld kB", &kb);
	fclose(file);
	return kb;
}

/* In small steps, so that it does not take too much. */
static void scene_full(int mb)
{
	const size_t step = 16 * PAGE;
	char *addr = NULL;

	while (available_kb() > mb * 1024L) {
		addr = mmap(NULL, step, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (addr == MAP_FAILED)
			die("mmap");
	}
	tell(addr);
}

static const struct {
	const char *name;
	void (*build)(int n);
} scenes[] = {
	{ "pages", scene_pages },	{ "classic", scene_classic },
	{ "share", scene_share },	{ "own", scene_own },
	{ "orphan", scene_orphan },	{ "chain", scene_chain },
	{ "file", scene_file },		{ "ksm-vma", scene_ksm_vma },
	{ "ksm-many", scene_ksm_many }, { "thp", scene_thp },
	{ "split", scene_split },	{ "idle", scene_idle },
	{ "vmas", scene_vmas },		{ "families", scene_families },
	{ "entries", scene_entries },	{ "full", scene_full },
};

int main(int argc, char *argv[])
{
	size_t i;

	if (argc == 4)
		pages = atol(argv[--argc]);
	for (i = 0; argc == 3 && i < sizeof(scenes) / sizeof(*scenes); i++) {
		if (strcmp(scenes[i].name, argv[1]))
			continue;
		setpgid(0, 0);
		scenes[i].build(atoi(argv[2]));
		sleep_for_ever();
	}
	fputs(usage, stderr);
	return 2;
}
