// SPDX-License-Identifier: GPL-2.0-only
/*
 * gap - make a page of which the kernel's rmap does not find all mappings
 *
 * ksmd merges a page of a parent, another one of it, and one of a neighbour.
 * It finds who maps the merged page through notes that it takes of each process.
 * The parent forks and exits: its notes are freed, and the child, who maps the
 * page twice, has none until ksmd comes to it.  Here it is kept busy before that
 * by 200 pages of another process, of which it looks at one a second.
 *
 * It prints what to ask, and waits for Enter, or for a signal if there is no
 * input.  Then ksmd's settings are as they were.  For root, and a kernel with
 * CONFIG_KSM; gcc -static gap.c will do to build it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KSM  "/sys/kernel/mm/ksm/"
#define PAGE 4096
#define BUSY 200 /* pages */

/* A child lives until nobody has the other end of alive any more. */
static int alive[2], order[2], answer[2];

static const char *const settings[] = { "run", "sleep_millisecs",
					"pages_to_scan" };
static int before[3];

static void die(const char *what)
{
	fprintf(stderr, "gap: %s: %s\n", what, strerror(errno));
	exit(1);
}

static FILE *ksm_file(const char *name, const char *mode)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), KSM "%s", name);
	file = fopen(path, mode);
	if (!file)
		die(path);
	return file;
}

static int ksm_get(const char *name)
{
	FILE *file = ksm_file(name, "r");
	int value;

	if (fscanf(file, "%d", &value) != 1)
		die(name);
	fclose(file);
	return value;
}

static void ksm_set(const char *name, int value)
{
	FILE *file = ksm_file(name, "w");

	fprintf(file, "%d\n", value);
	if (fclose(file))
		die(name);
}

/* Pages of equal content, or of a content each. */
static char *map_mergeable(int pages, int equal)
{
	char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		die("mmap");
	for (int i = 0; i < pages; i++)
		memset(at + i * PAGE, equal ? 7 : i + 8, PAGE);
	if (madvise(at, pages * PAGE, MADV_MERGEABLE))
		die("madvise");
	return at;
}

static void tell(const void *what, size_t size)
{
	if (write(answer[1], what, size) != (ssize_t)size)
		_exit(1);
}

static void hear(void *what, size_t size)
{
	if (read(answer[0], what, size) != (ssize_t)size)
		die("a child has gone");
}

static void live(void)
{
	char none;

	close(alive[1]);
	while (read(alive[0], &none, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

static void be_parent(void)
{
	char *at = map_mergeable(2, 1);
	char now;
	pid_t child;

	tell(&at, sizeof(at));
	close(alive[1]);
	if (read(order[0], &now, 1) != 1)
		_exit(1);
	child = fork();
	if (!child) {
		child = getpid();
		tell(&child, sizeof(child));
		live();
	}
	_exit(child < 0);
}

static void be_other(int pages, int equal)
{
	char *at = map_mergeable(pages, equal);

	tell(&at, sizeof(at));
	live();
}

/* A process that has its pages, and where it has them. */
static pid_t start(int pages, int equal, char **at)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid && pages == 2)
		be_parent();
	if (!pid)
		be_other(pages, equal);
	hear(at, sizeof(*at));
	return pid;
}

/* A page is merged when it was seen unchanged. */
static void merge(void)
{
	int scans = ksm_get("full_scans") + 4;

	ksm_set("sleep_millisecs", 0);
	ksm_set("pages_to_scan", 1000);
	ksm_set("run", 1);
	while (ksm_get("full_scans") < scans)
		usleep(10000);
	ksm_set("run", 0);
}

static void restore(void)
{
	for (int i = 2; i >= 0; i--)
		ksm_set(settings[i], before[i]);
}

static void on_signal(int number)
{
	(void)number;
}

static void wait_for_enter(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	char c;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	fflush(stdout);
	if (!read(STDIN_FILENO, &c, 1))
		pause();
}

int main(void)
{
	pid_t parent, child;
	char *at, *elsewhere;
	int sharing;

	for (int i = 0; i < 3; i++)
		before[i] = ksm_get(settings[i]);
	if (pipe(alive) || pipe(order) || pipe(answer) ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1))
		die("pipe");
	parent = start(2, 1, &at);
	start(1, 1, &elsewhere);
	atexit(restore);
	merge();
	start(BUSY, 0, &elsewhere);
	if (write(order[1], "", 1) != 1)
		die("write");
	hear(&child, sizeof(child));
	waitpid(parent, NULL, 0);

	sharing = ksm_get("pages_sharing");
	ksm_set("sleep_millisecs", 1000);
	ksm_set("pages_to_scan", 1);
	ksm_set("run", 1);
	while (ksm_get("pages_sharing") >= sharing)
		usleep(10000);
	printf("pid %d %p\n", child, (void *)at);
	wait_for_enter();
	return 0;
}
