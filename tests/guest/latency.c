// SPDX-License-Identifier: GPL-2.0-only
/*
 * latency - how long the threads of a process wait for its mmap_lock
 *
 * "latency ENTRIES VMAS SECONDS" is a process of so many page-table entries and
 * VMAs.  One of its threads touches pages, another one maps them, and the worst
 * times of both are printed a line: while nobody else runs, while a child keeps
 * a CPU busy, while that child asks rmapviz to verify a page of the process, and
 * while it asks for all of the process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "errname.h"
#include "program.h"

#define RMAPVIZ "/sys/kernel/debug/rmapviz"
#define PAGE	4096UL
#define TOUCHED 64

/* Between two looks at the clock, so that threads do not wait for a CPU. */
#define PAUSE_US 200

/* An answer to a question that takes long is waited for, but not for ever. */
#define ANSWERS_MIN 2
#define PATIENCE    10

/* No question, but as much to do for the CPU as one. */
#define BUSY "busy"

/* What the child who asks and the threads have in common. */
struct shared {
	int stop;
	unsigned int answers;
	unsigned int refusals;
	int error;
};

struct worst {
	uint64_t ns;
	unsigned long times;
};

static struct shared *shared;
static int question[2], stopped[2];

static void note(struct worst *worst, uint64_t since)
{
	uint64_t ns = now() - since;

	if (ns > worst->ns)
		worst->ns = ns;
	worst->times++;
}

static char *map(size_t pages, int prot, int flags)
{
	char *addr = mmap(NULL, pages * PAGE, prot,
			  MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (addr == MAP_FAILED)
		die("mmap");
	return addr;
}

/* ---- who asks ---- */

static int stops(void)
{
	return __atomic_load_n(&shared->stop, __ATOMIC_SEQ_CST);
}

static void ask(int fd, const char *query)
{
	if (write(fd, query, strlen(query)) > 0) {
		shared->answers++;
		return;
	}
	shared->refusals++;
	shared->error = errno;
}

/* Answers are not read: the walk is done by the write. */
static void ask_until_told(void)
{
	int fd = open(RMAPVIZ, O_RDWR);
	char query[128];
	ssize_t len;

	if (fd < 0)
		die(RMAPVIZ);
	while ((len = read(question[0], query, sizeof(query) - 1)) > 0) {
		query[len] = '\0';
		while (!stops())
			if (strcmp(query, BUSY))
				ask(fd, query);
		if (write(stopped[1], "", 1) != 1)
			die("write");
	}
	exit(0);
}

/* Before there is any memory that it could inherit. */
static void start_asker(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || pipe(question) || pipe(stopped))
		die("asker");
	switch (fork()) {
	case -1:
		die("fork");
		break;
	case 0:
		close(question[1]);
		ask_until_told();
	}
}

/* ---- who waits ---- */

static void *touch_pages(void *arg)
{
	char *pages = map(TOUCHED, PROT_READ | PROT_WRITE, 0);
	struct worst *worst = arg;
	uint64_t start;
	int i;

	while (!stops()) {
		if (madvise(pages, TOUCHED * PAGE, MADV_DONTNEED))
			die("madvise");
		for (i = 0; i < TOUCHED; i++) {
			start = now();
			pages[i * PAGE] = 1;
			note(worst, start);
		}
		usleep(PAUSE_US);
	}
	munmap(pages, TOUCHED * PAGE);
	return NULL;
}

static void *map_pages(void *arg)
{
	struct worst *worst = arg;
	uint64_t start;
	char *page;

	while (!stops()) {
		start = now();
		page = map(1, PROT_READ, 0);
		note(worst, start);
		munmap(page, PAGE);
		usleep(PAUSE_US);
	}
	return NULL;
}

static void wait_until_measured(int seconds, int asks)
{
	uint64_t start = now();

	do {
		sleep(1);
	} while (now() - start < seconds * 1000000000ULL ||
		 (asks && shared->answers < ANSWERS_MIN &&
		  now() - start < PATIENCE * seconds * 1000000000ULL));
}

static void measure(const char *name, int seconds, const char *query)
{
	struct worst touch = {}, maps = {};
	pthread_t toucher, mapper;
	char byte;

	memset(shared, 0, sizeof(*shared));
	if (*query && write(question[1], query, strlen(query)) < 0)
		die("question");
	if (pthread_create(&toucher, NULL, touch_pages, &touch) ||
	    pthread_create(&mapper, NULL, map_pages, &maps))
		die("pthread_create");
	wait_until_measured(seconds, *query && strcmp(query, BUSY));
	__atomic_store_n(&shared->stop, 1, __ATOMIC_SEQ_CST);
	pthread_join(toucher, NULL);
	pthread_join(mapper, NULL);
	if (*query && read(stopped[0], &byte, 1) != 1)
		die("answer");
	printf("%s fault %llu mmap %llu faults %lu mmaps %lu answers %u refusals %u %s\n",
	       name, (unsigned long long)touch.ns / 1000,
	       (unsigned long long)maps.ns / 1000, touch.times, maps.times,
	       shared->answers, shared->refusals,
	       shared->error ? errname(shared->error) : "-");
	fflush(stdout);
}

/* ---- what is asked about ---- */

/* Entries of the zero page, which take no memory but page tables. */
static void add_entries(size_t entries)
{
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		die("prctl");
	map(entries, PROT_READ, MAP_POPULATE);
}

/* Each with an anon_vma of its own, since there are gaps between them. */
static void add_vmas(size_t vmas)
{
	char *addr = map(2 * vmas, PROT_NONE, 0);
	size_t i;

	for (i = 0; i < vmas; i++) {
		char *page = addr + 2 * i * PAGE;

		munmap(page, 2 * PAGE);
		page = mmap(page, PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (page == MAP_FAILED)
			die("mmap");
		*page = 1;
	}
}

int main(int argc, char *argv[])
{
	char query[128];
	char *page;

	if (argc != 4) {
		fputs("usage: latency ENTRIES VMAS SECONDS\n", stderr);
		return 2;
	}
	start_asker();
	page = map(1, PROT_READ | PROT_WRITE, 0);
	*page = 1;
	add_entries(strtoul(argv[1], NULL, 0));
	add_vmas(strtoul(argv[2], NULL, 0));

	measure("quiet", atoi(argv[3]), "");
	measure(BUSY, atoi(argv[3]), BUSY);
	snprintf(query, sizeof(query), "pid %d 0x%lx verify", getpid(),
		 (unsigned long)page);
	measure("verify", atoi(argv[3]), query);
	snprintf(query, sizeof(query), "pid %d", getpid());
	measure("pid", atoi(argv[3]), query);
	close(question[1]);
	wait(NULL);
	return 0;
}
