// SPDX-License-Identifier: GPL-2.0-only
/*
 * innocent - how long a process waits for what it does while others ask
 *
 * "innocent family|vmas N SECONDS" is a process that shares a page with N - 1
 * others, or has N VMAs of one anon_vma.  It touches a page, maps one, and forks,
 * again and again, and prints for each how long that takes, on average and at
 * worst, in microseconds: while nobody else runs, while another process keeps a
 * CPU busy, and while that one asks about the page and the process instead, or
 * reads what there is of the whole machine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

#define RMAPVIZ	 "/sys/kernel/debug/rmapviz"
#define SURVEY	 "/sys/kernel/debug/rmapviz_survey"
#define FAMILIES "/sys/kernel/debug/rmapviz_families"
#define PAGE	 4096UL

/* Between two deeds, so that they do not wait for a CPU only. */
#define PAUSE_US 200

/* Questions that take longer are waited for, but not for ever. */
#define ANSWERS_MIN 2
#define PATIENCE    20

enum deed { FAULT, MMAP, FORK, DEEDS };

static const char *const names[DEEDS] = { "fault", "mmap", "fork" };

struct spent {
	uint64_t sum;
	uint64_t worst;
	unsigned long times;
};

/* What the process who asks has in common with this one. */
struct shared {
	unsigned int answers;
	unsigned int refusals;
	int error; /* of the last one */
};

static struct shared *shared;
static char *page;

static char *map(size_t pages, int flags)
{
	char *addr = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			  MAP_ANONYMOUS | flags, -1, 0);

	if (addr == MAP_FAILED)
		die("mmap");
	return addr;
}

/* ---- who asks ---- */

/* Zero, or an errno. */
static int read_all(const char *name)
{
	static char buffer[65536];
	int fd = open(name, O_RDONLY), err;
	ssize_t n;

	if (fd < 0)
		return errno;
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		;
	err = n < 0 ? errno : 0;
	close(fd);
	return err;
}

/* Zero, or an errno; without a question it is only busy. */
static int ask(int fd, const char *query)
{
	if (*query == '/')
		return read_all(query);
	return *query && write(fd, query, strlen(query)) < 0 ? errno : 0;
}

static pid_t start_other(const char *query)
{
	pid_t parent = getpid(), child = fork();
	int fd, err;

	if (child < 0)
		die("fork");
	if (child) {
		setpgid(child, child);
		return child;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = *query ? open(RMAPVIZ, O_RDWR) : -1;
	while (getppid() == parent) {
		err = ask(fd, query);
		if (err) {
			shared->refusals++;
			shared->error = err;
		} else {
			shared->answers++;
		}
	}
	exit(0);
}

static void stop_other(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* ---- who waits ---- */

static void do_fault(void)
{
	page[PAGE] = 1;
}

static void do_mmap(void)
{
	char *addr = map(1, MAP_PRIVATE);

	munmap(addr, PAGE);
}

static void do_fork(void)
{
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (!child)
		_exit(0);
}

static void (*const act[DEEDS])(void) = { do_fault, do_mmap, do_fork };

static void time_one(enum deed deed, struct spent *spent)
{
	uint64_t start = now(), ns;

	act[deed]();
	ns = now() - start;
	spent->sum += ns;
	spent->times++;
	if (ns > spent->worst)
		spent->worst = ns;
}

/*
 * The page is given back, so that the next touch is a fault, and a child that
 * was forked is gone before the next one comes; only those are of our group.
 */
static void time_all(struct spent spent[DEEDS])
{
	enum deed deed;

	if (madvise(page + PAGE, PAGE, MADV_DONTNEED))
		die("madvise");
	for (deed = 0; deed < DEEDS; deed++) {
		time_one(deed, &spent[deed]);
		if (deed == FORK)
			while (waitpid(0, NULL, 0) > 0)
				;
		usleep(PAUSE_US);
	}
}

static int go_on(uint64_t start, int seconds, int asks)
{
	uint64_t spent = now() - start, second = 1000000000ULL;

	return spent < seconds * second ||
	       (asks && shared->answers < ANSWERS_MIN &&
		spent < PATIENCE * seconds * second);
}

static void measure(const char *name, int seconds, const char *query)
{
	struct spent spent[DEEDS] = {};
	uint64_t start = now();
	pid_t other = 0;
	enum deed deed;

	memset(shared, 0, sizeof(*shared));
	if (query)
		other = start_other(query);
	while (go_on(start, seconds, query && *query))
		time_all(spent);
	if (query)
		stop_other(other);
	printf("%s", name);
	for (deed = 0; deed < DEEDS; deed++)
		printf(" %s %llu %llu", names[deed],
		       (unsigned long long)spent[deed].sum / spent[deed].times /
			       1000,
		       (unsigned long long)spent[deed].worst / 1000);
	printf(" answers %u refused %u %s\n",
	       query && *query ? shared->answers : 0, shared->refusals,
	       shared->error ? errname(shared->error) : "-");
	fflush(stdout);
}

/* ---- what is asked about ---- */

static void start_family(long n)
{
	while (--n > 0) {
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
		setpgid(child, child);
	}
}

/* Of one region every other page is protected otherwise. */
static void split_vmas(long n)
{
	char *addr = map(n, MAP_PRIVATE);
	long i;

	for (i = 0; i < n; i++)
		addr[i * PAGE] = 1;
	for (i = 0; i < n; i += 2)
		if (mprotect(addr + i * PAGE, PAGE, PROT_READ))
			die("mprotect");
	page = addr + (n - 2) * PAGE;
}

int main(int argc, char *argv[])
{
	static const char *const questions[] = { "brief", "json", "verify" };
	char query[128];
	int seconds;
	size_t i;

	if (argc != 4) {
		fputs("usage: innocent family|vmas N SECONDS\n", stderr);
		return 2;
	}
	shared = (void *)map(1, MAP_SHARED);
	seconds = atoi(argv[3]);
	page = map(2, MAP_PRIVATE);
	page[0] = 1;
	if (!strcmp(argv[1], "vmas"))
		split_vmas(atol(argv[2]));
	else
		start_family(atol(argv[2]));
	measure("quiet", seconds, NULL);
	measure("busy", seconds, "");
	for (i = 0; i < sizeof(questions) / sizeof(*questions); i++) {
		snprintf(query, sizeof(query), "pid %d 0x%lx %s", getpid(),
			 (unsigned long)page, questions[i]);
		measure(questions[i], seconds, query);
	}
	snprintf(query, sizeof(query), "pid %d", getpid());
	measure("pid", seconds, query);
	measure("survey", seconds, SURVEY);
	measure("families", seconds, FAMILIES);
	return 0;
}
