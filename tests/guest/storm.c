// SPDX-License-Identifier: GPL-2.0-only
/*
 * storm - do everything to memory that can be done, while others ask about it
 *
 * "storm SECONDS SEED DIR" has processes that map, write, fork, move, protect,
 * unmap, swap, merge, split, collapse, lock, poison and truncate at random; one
 * that does to the whole system what only root can; and some that ask rmapviz
 * about all of that, and are killed now and then.  DIR is for files.
 *
 * It prints how often each thing was done and how often it failed, and how
 * often questions ended with which errno.  Answers are left in DIR/answers.PID,
 * each with a line "==" after it, and it says how many.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "errname.h"

#define DEBUGFS	 "/sys/kernel/debug/"
#define MEMORY	 "/sys/devices/system/memory/"
#define CPU1	 "/sys/devices/system/cpu/cpu1/online"
#define CGROUP	 "/tmp/cgroup/storm" /* whose limit kills */
#define WORKED	 "/tmp/cgroup/worked"
#define UNPOISON DEBUGFS "hwpoison/unpoison-pfn"
#define SHARING	 "/sys/kernel/mm/ksm/pages_sharing"
#define LAST	 "/sys/module/rmapviz/parameters/query"

#define PAGE	 4096UL
#define HUGE	 (512 * PAGE)
#define BLOCK	 32768UL /* frames in a block of memory */
#define WORKERS	 4
#define ASKERS	 3
#define REGIONS	 6
#define PATIENCE 5 /* seconds for a block to be emptied */

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

enum kind { ANON, PRIVATE, SHARED, SHMEM, LARGE, HUGETLB };

/* What else somebody may ask about is of who works on the system. */
#define SYSTEM WORKERS
enum { MOUNTED, POISONED };

/**
 * struct region - what a worker has mapped
 * @at: where; NULL if it could not be mapped
 * @pages: how many
 */
struct region {
	char *at;
	unsigned long pages;
};

/* What all of them share. */
struct common {
	bool over;
	bool hush; /* the module is to go: no questions */
	pid_t workers[WORKERS + 1];
	char *places[WORKERS + 1][REGIONS];
	unsigned long asked[256];
	unsigned long answers;
	unsigned long done[64];
	unsigned long failed[64];
};

/* What is counted beside the deeds: parts of them, and listings. */
enum more {
	UNPOISONED,
	OFFLINED,
	MERGED,
	SURVEY,
	FAMILIES,
	REMEMBERED,
	ADVICE,
};

/* A deed that is too rare, or harms too much, to be done each time. */
#define NOT_NOW 1

static struct common *common;
static struct region regions[REGIONS];
static const char *dir;
static unsigned long blocks[1024]; /* of memory, as sysfs numbers them */
static unsigned long nr_blocks;
static int file; /* of a file system on a disk, which all workers map */
static unsigned int seed;
static char answer[4 << 20]; /* the last one, and how long it is */
static size_t answered;

static unsigned long pick(unsigned long n)
{
	return n ? rand_r(&seed) % n : 0;
}

static void count(int deed, int err)
{
	if (err == NOT_NOW)
		return;
	__atomic_fetch_add(&common->done[deed], 1, __ATOMIC_RELAXED);
	if (err)
		__atomic_fetch_add(&common->failed[deed], 1, __ATOMIC_RELAXED);
}

static void count_more(int more, int err);

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return n < 0 ? -1 : 0;
}

static unsigned long number_in(const char *path)
{
	char text[24] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return n < 0 ? 0 : strtoul(text, NULL, 10);
}

/* ------------------------------------------------------------ to a region */

static struct region *some_region(void)
{
	return &regions[pick(REGIONS)];
}

static int map_region(int kind)
{
	static const int flags[REGIONS] = {
		[ANON] = MAP_PRIVATE | MAP_ANONYMOUS,
		[PRIVATE] = MAP_PRIVATE,
		[SHARED] = MAP_SHARED,
		[SHMEM] = MAP_SHARED | MAP_ANONYMOUS,
		[LARGE] = MAP_PRIVATE | MAP_ANONYMOUS,
		[HUGETLB] = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
	};
	static const unsigned long pages[REGIONS] = {
		16, 16, 16, 16, 1024, 512
	};
	struct region *r = &regions[kind];
	void *at = mmap(NULL, pages[kind] * PAGE, PROT_READ | PROT_WRITE,
			flags[kind], flags[kind] & MAP_ANONYMOUS ? -1 : file,
			0);

	r->at = at == MAP_FAILED ? NULL : at;
	r->pages = pages[kind];
	if (kind == ANON && pick(2))
		madvise(at, pages[kind] * PAGE, MADV_MERGEABLE);
	return r->at ? 0 : -1;
}

static int map_anew(int kind)
{
	if (regions[kind].at)
		munmap(regions[kind].at, regions[kind].pages * PAGE);
	return map_region(kind);
}

static int do_map(void)
{
	return map_anew(pick(REGIONS));
}

/*
 * Where nothing is mapped, or it is not allowed, the kernel says EFAULT.  Pages of
 * zeros can be merged, but newer kernels do not write them to swap.
 */
static int fill(unsigned long first, unsigned long pages)
{
	struct region *r = some_region();
	int source = open(pick(2) ? "/dev/zero" : "/dev/urandom", O_RDONLY);
	ssize_t n;

	first %= r->pages;
	if (pages > r->pages - first)
		pages = r->pages - first;
	n = read(source, r->at + first * PAGE, pages * PAGE);
	close(source);
	return n > 0 ? 0 : -1;
}

static int do_write(void)
{
	return fill(pick(HUGE / PAGE), 1);
}

static int do_fill(void)
{
	return fill(0, HUGE / PAGE);
}

static int do_read(void)
{
	struct region *r = some_region();
	char byte;
	struct iovec here = { &byte, 1 };
	struct iovec there = { r->at + pick(r->pages) * PAGE, 1 };

	return process_vm_readv(getpid(), &here, 1, &there, 1, 0) > 0 ? 0 : -1;
}

/* A part of a region. */
static char *part(size_t *len)
{
	struct region *r = some_region();
	unsigned long first = pick(r->pages);

	*len = (1 + pick(r->pages - first)) * PAGE;
	return r->at ? r->at + first * PAGE : NULL;
}

/* Old C libraries have no names for the last ones. */
static const struct {
	const char *name;
	int advice;
} advices[] = {
	{ "normal", MADV_NORMAL },
	{ "random", MADV_RANDOM },
	{ "sequential", MADV_SEQUENTIAL },
	{ "dontneed", MADV_DONTNEED },
	{ "free", MADV_FREE },
	{ "remove", MADV_REMOVE },
	{ "mergeable", MADV_MERGEABLE },
	{ "unmergeable", MADV_UNMERGEABLE },
	{ "hugepage", MADV_HUGEPAGE },
	{ "nohugepage", MADV_NOHUGEPAGE },
	{ "cold", 20 },
	{ "pageout", 21 },
	{ "populate-read", 22 },
	{ "populate-write", 23 },
};

static int do_madvise(void)
{
	int i = pick(COUNT(advices)), err;
	size_t len;
	char *at = part(&len);

	err = madvise(at, len, advices[i].advice);
	count_more(ADVICE + i, err);
	return err;
}

/* Of a region with a few small pages. */
static int do_collapse(void)
{
	struct region *r = &regions[LARGE];
	size_t len;

	if (map_anew(LARGE))
		return -1;
	len = r->pages * PAGE;
	madvise(r->at, len, MADV_NOHUGEPAGE);
	for (int n = 0; n < 4; n++)
		r->at[pick(r->pages) * PAGE] = 1;
	madvise(r->at, len, MADV_HUGEPAGE);
	return madvise(r->at, len, 25 /* COLLAPSE */);
}

/* To swap, and back; what was read is thrown away. */
static int do_return(void)
{
	struct iovec here = { .iov_base = answer };
	struct iovec there;

	there.iov_base = part(&there.iov_len);
	here.iov_len = there.iov_len;
	if (madvise(there.iov_base, there.iov_len, 21 /* PAGEOUT */))
		return -1;
	usleep(pick(50000));
	return process_vm_readv(getpid(), &here, 1, &there, 1, 0) > 0 ? 0 : -1;
}

static int do_mprotect(void)
{
	size_t len;
	char *at = part(&len);

	return mprotect(at, len, pick(3) ? PROT_READ | PROT_WRITE : PROT_READ);
}

static int do_mlock(void)
{
	size_t len;
	char *at = part(&len);

	return pick(2) ? mlock(at, len) : munlock(at, len);
}

static int do_munmap(void)
{
	size_t len;
	char *at = part(&len);

	return munmap(at, len);
}

/* All of a region goes to another place. */
static int do_mremap(void)
{
	struct region *r = some_region();
	char *to = mmap(NULL, r->pages * PAGE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *at = mremap(r->at, r->pages * PAGE, r->pages * PAGE,
			  MREMAP_MAYMOVE | MREMAP_FIXED, to);

	if (at == MAP_FAILED) {
		munmap(to, r->pages * PAGE);
		return -1;
	}
	r->at = at;
	return 0;
}

static int do_move_pages(void)
{
	struct region *r = some_region();
	void *page = r->at + pick(r->pages) * PAGE;
	int node = pick(2), status = -1;

	if (syscall(SYS_move_pages, 0, 1, &page, &node, &status, 2))
		return -1;
	return status == node ? 0 : -1;
}

static int do_soft_offline(void)
{
	struct region *r = &regions[ANON];

	if (pick(8))
		return NOT_NOW;
	return madvise(r->at + pick(r->pages) * PAGE, PAGE, 101);
}

/* A pipe keeps pages for a moment. */
static int do_vmsplice(void)
{
	size_t len;
	struct iovec some = { .iov_base = part(&len), .iov_len = 4 * PAGE };
	int ends[2], n;

	if (pipe(ends))
		return -1;
	n = vmsplice(ends[1], &some, 1, SPLICE_F_NONBLOCK);
	usleep(pick(2000));
	close(ends[0]);
	close(ends[1]);
	return n > 0 ? 0 : -1;
}

static int do_direct(void)
{
	int fd = open(dir, O_RDWR | O_TMPFILE | O_DIRECT, 0600);
	size_t len;
	char *at = part(&len);
	ssize_t n = fd < 0 ? -1 : pwrite(fd, at, PAGE, 0);

	if (fd >= 0)
		close(fd);
	return n > 0 ? 0 : -1;
}

static int do_truncate(void)
{
	int err = ftruncate(file, pick(16) * PAGE);

	return ftruncate(file, 16 * PAGE) || err ? -1 : 0;
}

static int do_punch(void)
{
	return fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 pick(16) * PAGE, PAGE);
}

/* Children write some, have children, and end, each in a way of its own. */
static int do_fork(void)
{
	pid_t child = fork();

	if (child < 0)
		return -1;
	if (!child) {
		seed ^= getpid();
		for (int n = pick(6); n--;)
			pick(2) ? do_write() : do_read();
		if (!pick(3) && !fork())
			do_write();
		if (!pick(4))
			execl("/bin/true", "true", NULL);
		_exit(0);
	}
	usleep(pick(1000));
	if (!pick(4))
		kill(child, SIGKILL);
	return waitpid(child, NULL, 0) == child ? 0 : -1;
}

/* More than its cgroup allows, which kills it. */
static int do_exceed(void)
{
	pid_t child;

	if (pick(40))
		return NOT_NOW;
	child = fork();
	if (!child) {
		char *at = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (put(CGROUP "/cgroup.procs", "0") || at == MAP_FAILED)
			_exit(1);
		memset(at, 1, 64 << 20);
		_exit(1);
	}
	int status = 0;

	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? 0 : -1;
}

/* --------------------------------------------------------- to the system */

static int sys_compact(void)
{
	return put("/proc/sys/vm/compact_memory", "1");
}

static int sys_drop(void)
{
	return put("/proc/sys/vm/drop_caches", "3");
}

/* All that workers have is wanted for a moment, and they wait for longer. */
static int sys_reclaim(void)
{
	int err;

	if (pick(2))
		return NOT_NOW;
	err = put(WORKED "/memory.high", "0");
	return put(WORKED "/memory.high", "max") || err ? -1 : 0;
}

static int sys_cpu(void)
{
	int err = put(CPU1, "0");

	usleep(pick(200000));
	return put(CPU1, "1") || err ? -1 : 0;
}

static int sys_hugetlb(void)
{
	char text[16];

	snprintf(text, sizeof(text), "%lu", pick(12));
	return put("/proc/sys/vm/nr_hugepages", text);
}

/*
 * Of the second half of memory, which is for what can be moved.  While somebody
 * holds a page of it the kernel tries again, for ever unless a signal comes.
 */
static int sys_block(void)
{
	char path[80];
	int err;

	snprintf(path, sizeof(path), MEMORY "memory%lu/state",
		 blocks[nr_blocks / 2 + pick(nr_blocks / 2)]);
	alarm(PATIENCE);
	err = put(path, "offline");
	alarm(0);
	count_more(OFFLINED, err);
	usleep(pick(200000));
	return put(path, "online_movable") || err ? -1 : 0;
}

static int sys_mount(void)
{
	char path[80];
	char *at = MAP_FAILED;
	int fd;

	snprintf(path, sizeof(path), "%s/fs", dir);
	mkdir(path, 0700);
	if (mount("storm", path, "tmpfs", 0, NULL))
		return -1;
	strcat(path, "/file");
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd >= 0 && !ftruncate(fd, 64 * PAGE))
		at = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			  fd, 0);
	if (at != MAP_FAILED) {
		memset(at, 1, 64 * PAGE);
		common->places[SYSTEM][MOUNTED] = at;
		usleep(pick(50000));
		munmap(at, 64 * PAGE);
	}
	close(fd);
	*strrchr(path, '/') = '\0';
	return umount(path);
}

/* With "2" all that was merged is parted again. */
static int sys_ksm(void)
{
	return put("/sys/kernel/mm/ksm/run", pick(8) ? "1" : "2");
}

static int run(const char *command)
{
	return system(command) ? -1 : 0;
}

/* Whoever asks keeps it loaded: often this comes in the middle of an answer. */
static int sys_module(void)
{
	int err = -1, tries = pick(2) ? 1 : 300;

	common->hush = tries > 1;
	while (err && tries--) {
		err = run("rmmod rmapviz 2>/dev/null");
		usleep(10000);
	}
	common->hush = false;
	usleep(pick(20000));
	return err ? err : run("insmod /rmapviz.ko");
}

static unsigned long pfn_of(const char *at)
{
	unsigned long entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (pread(fd, &entry, sizeof(entry),
		  (unsigned long)at / PAGE * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry >> 63 ? entry & ((1UL << 55) - 1) : 0;
}

/* A child has the page, too; it is asked about before and after. */
static int sys_poison(void)
{
	char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	unsigned long pfn = at == MAP_FAILED ? 0 : pfn_of(at);
	pid_t child = fork();
	char text[24];
	int err;

	if (!child) {
		usleep(50000);
		_exit(0);
	}
	common->places[SYSTEM][POISONED] = at;
	usleep(pick(20000));
	err = madvise(at, PAGE, 100 /* HWPOISON */);
	usleep(pick(20000));
	munmap(at, PAGE);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	if (!err && pfn && pick(4)) {
		snprintf(text, sizeof(text), "%#lx", pfn);
		count_more(UNPOISONED, put(UNPOISON, text));
	}
	return err;
}

static int sys_swap(void)
{
	if (pick(2))
		return NOT_NOW;
	return run("swapoff /dev/vdb; swapon /dev/vdb");
}

/* ----------------------------------------------------------- the questions */

#define FOR_PROCESSES 8 /* the last ones are no words for a process */
static const char *const words[] = {
	"",
	" json",
	" brief",
	" full",
	" ptrs",
	" json ptrs",
	" json brief",
	" json full",
	" folio",
	" json folio",
	" verify",
	" json verify",
	" brief verify",
	" folio verify",
	" json folio verify",
};

/* The ways to name a page by its frame. */
static const char *const pages[] = {
	"%#lx%s", "%lu%s", "pfn %#lx%s", "pfn:%lx%s", "phys %#lx000%s",
};

static void compose(char *line, size_t size)
{
	int worker = pick(WORKERS + 1);
	char *at = common->places[worker][pick(REGIONS)];
	const char *more = words[pick(sizeof(words) / sizeof(*words))];
	int pid = common->workers[worker];

	switch (pick(4)) {
	case 0:
		snprintf(line, size, pages[pick(COUNT(pages))],
			 blocks[pick(nr_blocks)] * BLOCK + pick(BLOCK), more);
		break;
	case 1:
		more = words[pick(FOR_PROCESSES)];
		snprintf(line, size, "pid %d%s", pid, more);
		break;
	default:
		snprintf(line, size, "pid %d %#lx%s", pid,
			 (unsigned long)at + pick(16) * PAGE, more);
	}
}

/* Each asker has a file.  Who is killed leaves the last one without its end. */
static void keep(void)
{
	static const char end[] = "==\n";
	static int answers = -1;
	char path[80];

	if (answers < 0) {
		snprintf(path, sizeof(path), "%s/answers.%d", dir, getpid());
		answers = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	}
	if (write(answers, answer, answered) == (ssize_t)answered &&
	    write(answers, end, strlen(end)) == (ssize_t)strlen(end))
		__atomic_fetch_add(&common->answers, 1, __ATOMIC_RELAXED);
}

/* Every line of a listing has as many words as its heading. */
static bool is_table(void)
{
	size_t words = 0, wanted = 0;

	for (size_t i = 0; i < answered; i++) {
		if (answer[i] > ' ' && (!i || answer[i - 1] <= ' '))
			words++;
		if (answer[i] != '\n')
			continue;
		wanted = wanted ? wanted : words;
		if (words != wanted)
			return false;
		words = 0;
	}
	return wanted && !words;
}

/* Zero or an errno; the answer is left in answer[]. */
static int ask(const char *name, const char *line)
{
	int fd = open(name, line ? O_RDWR : O_RDONLY), err = 0;
	ssize_t n = 0;

	answered = 0;
	if (fd < 0)
		return errno;
	if (line && write(fd, line, strlen(line)) < 0)
		err = errno;
	while (!err && answered < sizeof(answer) &&
	       (n = read(fd, answer + answered, sizeof(answer) - answered)) > 0)
		answered += n;
	if (n < 0)
		err = errno;
	close(fd);
	return err;
}

/* And leave it to be looked at, if it is all there. */
static int ask_and_keep(const char *name, const char *line)
{
	int err = ask(name, line);

	/* There is always something to say. */
	if (!err && !answered)
		err = EBADMSG;
	if (!err && answered < sizeof(answer))
		keep();
	return err;
}

static int ask_for_listing(const char *name)
{
	int err = ask(name, NULL);

	if (!err && answered < sizeof(answer) && !is_table())
		err = EBADMSG;
	return err;
}

/* Of the parameter and its file; another asker may come in between. */
static int ask_to_remember(const char *line)
{
	if (put(LAST, line))
		return errno;
	return ask_and_keep(DEBUGFS "rmapviz_answer", NULL);
}

static void ask_on(void)
{
	char line[160];
	int err;

	while (!common->over) {
		while (common->hush && !common->over)
			usleep(1000);
		switch (pick(24)) {
		case 0:
			err = ask_for_listing(DEBUGFS "rmapviz_survey");
			count_more(SURVEY, err);
			break;
		case 1:
			err = ask_for_listing(DEBUGFS "rmapviz_families");
			count_more(FAMILIES, err);
			break;
		case 2:
			compose(line, sizeof(line));
			err = ask_to_remember(line);
			count_more(REMEMBERED, err);
			break;
		default:
			compose(line, sizeof(line));
			err = ask_and_keep(DEBUGFS "rmapviz", line);
		}
		__atomic_fetch_add(&common->asked[err & 255], 1,
				   __ATOMIC_RELAXED);
		if (err == ENOENT)
			usleep(20000);
	}
}

/* Where memory is short, and who exceeds it is killed. */
static void ask_in_cgroup(void)
{
	put(CGROUP "/cgroup.procs", "0");
	ask_on();
}

/* -------------------------------------------------------------- the play */

struct deed {
	const char *name;
	int (*act)(void);
};

static const struct deed to_memory[] = {
	{ "map", do_map },
	{ "write", do_write },
	{ "write", do_write },
	{ "fill", do_fill },
	{ "read", do_read },
	{ "fork", do_fork },
	{ "fork", do_fork },
	{ "madvise", do_madvise },
	{ "madvise", do_madvise },
	{ "return", do_return },
	{ "collapse", do_collapse },
	{ "mprotect", do_mprotect },
	{ "mlock", do_mlock },
	{ "munmap", do_munmap },
	{ "mremap", do_mremap },
	{ "move_pages", do_move_pages },
	{ "vmsplice", do_vmsplice },
	{ "direct", do_direct },
	{ "truncate", do_truncate },
	{ "punch", do_punch },
	{ "soft-offline", do_soft_offline },
	{ "exceed", do_exceed },
};

static const struct deed to_system[] = {
	{ "compact", sys_compact }, { "drop", sys_drop },
	{ "cpu", sys_cpu },	    { "hugetlb", sys_hugetlb },
	{ "block", sys_block },	    { "mount", sys_mount },
	{ "ksm", sys_ksm },	    { "module", sys_module },
	{ "poison", sys_poison },   { "swap", sys_swap },
	{ "reclaim", sys_reclaim },
};

static const char *const more_names[ADVICE] = {
	[UNPOISONED] = "unpoison", [OFFLINED] = "offline",
	[MERGED] = "merged",	   [SURVEY] = "survey",
	[FAMILIES] = "families",   [REMEMBERED] = "remembered",
};

static void count_more(int more, int err)
{
	count(COUNT(to_memory) + COUNT(to_system) + more, err);
}

static void work(int self)
{
	common->workers[self] = getpid();
	put(WORKED "/cgroup.procs", "0");
	for (int kind = 0; kind < REGIONS; kind++)
		map_region(kind);
	while (!common->over) {
		int deed = pick(COUNT(to_memory));

		count(deed, to_memory[deed].act());
		for (int kind = 0; kind < REGIONS; kind++)
			common->places[self][kind] = regions[kind].at;
	}
}

static void survive(int signal)
{
	(void)signal;
}

static void work_on_system(void)
{
	/* poisoned memory is its own; what is ignored would be forced on it */
	signal(SIGBUS, survive);
	signal(SIGALRM, survive);
	common->workers[SYSTEM] = getpid();
	while (!common->over) {
		int deed = pick(COUNT(to_system));

		count(COUNT(to_memory) + deed, to_system[deed].act());
		usleep(pick(100000));
	}
}

static pid_t start(int number)
{
	pid_t child = fork();

	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	seed = seed * 31 + number + getpid();
	if (number < WORKERS)
		work(number);
	else if (number < WORKERS + ASKERS - 1)
		ask_on();
	else if (number < WORKERS + ASKERS)
		ask_in_cgroup();
	else
		work_on_system();
	_exit(0);
}

/* Who dies of what was done is replaced; an asker is killed now and then. */
static void watch(int seconds)
{
	const int all = WORKERS + ASKERS + 1;
	pid_t pids[all];
	time_t end = time(NULL) + seconds;

	for (int i = 0; i < all; i++)
		pids[i] = start(i);
	while (time(NULL) < end) {
		usleep(100000);
		count_more(MERGED, number_in(SHARING) ? 0 : -1);
		if (!pick(10))
			kill(pids[WORKERS + pick(ASKERS)], SIGKILL);
		for (int i = 0; i < all; i++)
			if (waitpid(pids[i], NULL, WNOHANG) == pids[i])
				pids[i] = start(i);
	}
	common->over = true;
	while (wait(NULL) > 0)
		;
}

static void say(const char *name, int deed)
{
	printf("did %s %lu %lu\n", name, common->done[deed],
	       common->failed[deed]);
}

static void say_all(void)
{
	int deed = 0;

	for (size_t i = 0; i < COUNT(to_memory); i++)
		say(to_memory[i].name, deed++);
	for (size_t i = 0; i < COUNT(to_system); i++)
		say(to_system[i].name, deed++);
	for (size_t i = 0; i < ADVICE; i++)
		say(more_names[i], deed++);
	for (size_t i = 0; i < COUNT(advices); i++)
		say(advices[i].name, deed++);
}

/* There are none where devices have their place below 4 GB. */
static void find_blocks(void)
{
	char path[80];

	for (unsigned long n = 0; n < COUNT(blocks); n++) {
		snprintf(path, sizeof(path), MEMORY "memory%lu", n);
		if (!access(path, F_OK))
			blocks[nr_blocks++] = n;
	}
}

int main(int argc, char *argv[])
{
	char path[80];

	if (argc != 4) {
		fputs("usage: storm SECONDS SEED DIR\n", stderr);
		return 2;
	}
	seed = atoi(argv[2]);
	dir = argv[3];
	snprintf(path, sizeof(path), "%s/storm", dir);
	file = open(path, O_RDWR | O_CREAT, 0600);
	common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	find_blocks();
	if (file < 0 || ftruncate(file, 16 * PAGE) || common == MAP_FAILED) {
		perror("storm");
		return 1;
	}
	watch(atoi(argv[1]));
	say_all();
	printf("answers %lu\n", common->answers);
	for (int i = 0; i < 256; i++)
		if (common->asked[i])
			printf("asked %s %lu\n", i ? errname(i) : "ok",
			       common->asked[i]);
	return 0;
}
