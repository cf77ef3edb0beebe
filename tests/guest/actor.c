// SPDX-License-Identifier: GPL-2.0-only
/*
 * actor - a process under test, which does to its memory what it is told
 *
 * "actor NAME" leaves a process in the background that obeys commands, one line
 * a datagram, sent to the abstract address actor.NAME (see tell.c), and answers
 * each with one line: "ok ..." or "error ERRNO ...".  The children it is told
 * to make are actors of their own, with names of their own, and are listening
 * before the reply says ok.
 *
 * Memory under test is a region: a mapping of its own, with a name, that is
 * touched by nothing but commands.  Regions start at fixed addresses, far
 * enough apart that the kernel does not merge them.
 *
 * Actors that share an address space (thread, clone_vm, vfork) also share the
 * table of regions, the buffers below and errno: tell one of them at a time.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "errname.h"

#define PAGE	      4096UL
#define FIRST_ADDRESS 0x10000000000UL
#define GAP	      (2UL << 20) /* also what a huge page is aligned to */
#define STACK	      (256UL << 10)
#define REPLY_SIZE    (128 * 1024)
#define MAX_WORDS     8192
#define MAX_READS     16
#define MPOL_MF_MOVE  2

/* What old headers do not have. */
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA	     0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup    425
#define SYS_io_uring_register 427
#endif
#define URING_PARAMS_SIZE	 120
#define URING_REGISTER_BUFFERS	 0
#define URING_UNREGISTER_BUFFERS 1

/* What a command returns when the reply is somebody else's business. */
#define SILENT 1

struct actor {
	int sock;
	bool is_thread;
	int pipe[2];	   /* holds pages for vmsplice */
	int uring;	   /* and for io_uring */
	aio_context_t aio; /* and while they are read into */
	size_t nr_reads;
	struct sockaddr_un from; /* who gets the reply */
	socklen_t from_len;
	size_t len;
	char reply[REPLY_SIZE];
};

struct region {
	char name[32];
	char *addr;
	size_t pages;
};

struct child {
	char name[32];
	pid_t pid;
};

struct range {
	char *addr;
	size_t pages;
};

static struct region regions[256];
static struct child children[4096];
static size_t nr_regions, nr_children;
static char *next_address = (char *)FIRST_ADDRESS;
static sigjmp_buf on_fault;
static uint64_t touches;

/* ---- replies ---- */

static void say(struct actor *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void say(struct actor *a, const char *fmt, ...)
{
	size_t room = sizeof(a->reply) - a->len;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(a->reply + a->len, room, fmt, args);
	va_end(args);
	/* what does not fit is remembered, and told by send_reply() */
	a->len += (size_t)n < room ? (size_t)n : room;
}

static int fail(struct actor *a, int err, const char *text)
{
	a->len = 0;
	say(a, "%s", text);
	return -err;
}

static void send_reply(struct actor *a, int status)
{
	static char line[REPLY_SIZE + 64];
	int n;

	if (a->len >= sizeof(a->reply)) {
		status = -E2BIG;
		a->len = 0;
	}
	a->reply[a->len] = '\0';
	if (status < 0)
		n = snprintf(line, sizeof(line), "error %s %s",
			     errname(-status),
			     a->len ? a->reply : strerror(-status));
	else
		n = snprintf(line, sizeof(line), "ok%s%s", a->len ? " " : "",
			     a->reply);
	sendto(a->sock, line, n, 0, (void *)&a->from, a->from_len);
}

/* ---- names and numbers ---- */

static struct region *find_region(const char *name)
{
	for (size_t i = 0; i < nr_regions; i++)
		if (!strcmp(regions[i].name, name))
			return &regions[i];
	return NULL;
}

static int set_region(const char *name, char *addr, size_t pages)
{
	struct region *r = find_region(name);

	if (!r) {
		if (nr_regions == sizeof(regions) / sizeof(*regions))
			return -ENOSPC;
		r = &regions[nr_regions++];
	}
	snprintf(r->name, sizeof(r->name), "%s", name);
	r->addr = addr;
	r->pages = pages;
	return 0;
}

static char *reserve_address(size_t pages)
{
	char *addr = next_address;

	next_address += (pages * PAGE + GAP - 1) / GAP * GAP + GAP;
	return addr;
}

static bool number(const char *word, size_t *value)
{
	char *end;

	if (!word || !isdigit((unsigned char)*word))
		return false;
	*value = strtoul(word, &end, 0);
	return !*end;
}

/* VAR [PAGE [COUNT]]: without PAGE all of VAR, without COUNT one page */
static int get_range(struct actor *a, char **words, struct range *range)
{
	struct region *r = words[0] ? find_region(words[0]) : NULL;
	size_t page = 0, count;

	if (!r)
		return fail(a, EINVAL, "no such region");
	count = words[1] ? 1 : r->pages;
	if (words[1] && !number(words[1], &page))
		return fail(a, EINVAL, "PAGE is not a number");
	if (words[1] && words[2] && !number(words[2], &count))
		return fail(a, EINVAL, "COUNT is not a number");
	if (page > r->pages || count > r->pages - page)
		return fail(a, ERANGE, "the region is shorter");
	range->addr = r->addr + page * PAGE;
	range->pages = count;
	return 0;
}

/* VAR PAGE COUNT and whatever follows */
static int get_full_range(struct actor *a, char **words, struct range *range)
{
	if (!words[0] || !words[1] || !words[2])
		return fail(a, EINVAL, "VAR PAGE COUNT expected");
	return get_range(a, words, range);
}

static int result(int ret)
{
	return ret < 0 ? -errno : 0;
}

/* ---- commands: mappings ---- */

/* What is mapped: anonymous memory if none of path, memfd and sysv is set */
struct map_request {
	size_t pages, offset;
	int flags;
	const char *path, *memfd;
	bool sysv;
	char *addr;
};

/* How many words tell of what is mapped; 0 if the first does not */
static int parse_object(char **words, struct map_request *req)
{
	if (!strcmp(words[0], "sysv")) {
		req->sysv = true;
		return 1;
	}
	if (!strcmp(words[0], "memfd") && words[1]) {
		req->memfd = words[1];
		req->flags &= ~MAP_ANONYMOUS;
		return 2;
	}
	if (!strcmp(words[0], "file") && words[1] &&
	    number(words[2], &req->offset)) {
		req->path = words[1];
		req->flags &= ~MAP_ANONYMOUS;
		return 3;
	}
	return 0;
}

static int parse_map(struct actor *a, char **words, struct map_request *req)
{
	size_t addr;
	int n;

	if (!words[0] || !number(words[1], &req->pages) || !req->pages)
		return fail(a, EINVAL, "VAR PAGES expected");
	for (words += 2; *words; words++) {
		n = parse_object(words, req);
		if (n) {
			words += n - 1;
		} else if (!strcmp(*words, "shared")) {
			req->flags = (req->flags & ~MAP_PRIVATE) | MAP_SHARED;
		} else if (!strcmp(*words, "hugetlb")) {
			req->flags |= MAP_HUGETLB;
		} else if (!strcmp(*words, "noreserve")) {
			req->flags |= MAP_NORESERVE;
		} else if (!strcmp(*words, "at") && words[1]) {
			addr = strtoul(words[1], NULL, 16);
			req->addr = (char *)addr;
			words++;
		} else {
			return fail(a, EINVAL, *words);
		}
	}
	return 0;
}

/* A file that is too short for the mapping is made longer. */
static int open_file(const struct map_request *req)
{
	off_t end = (req->offset + req->pages) * PAGE;
	struct stat st;
	int fd;

	if (req->memfd)
		fd = memfd_create(req->memfd, MFD_CLOEXEC);
	else
		fd = open(req->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
	    st.st_size < end && ftruncate(fd, end)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Nobody else finds a segment that is removed, and it lives while attached. */
static char *map_sysv(const struct map_request *req)
{
	int id = shmget(IPC_PRIVATE, req->pages * PAGE, IPC_CREAT | 0600);
	char *addr;

	if (id < 0)
		return MAP_FAILED;
	addr = shmat(id, req->addr, 0);
	shmctl(id, IPC_RMID, NULL);
	return addr;
}

static char *map_request(const struct map_request *req)
{
	char *addr;
	int fd = -1, err;

	if (req->sysv)
		return map_sysv(req);
	if (req->path || req->memfd) {
		fd = open_file(req);
		if (fd < 0)
			return MAP_FAILED;
	}
	addr = mmap(req->addr, req->pages * PAGE, PROT_READ | PROT_WRITE,
		    req->flags, fd, req->offset * PAGE);
	err = errno;
	if (fd >= 0)
		close(fd);
	errno = err;
	return addr;
}

static int cmd_map(struct actor *a, char **words)
{
	struct map_request req = {
		.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
	};
	int err = parse_map(a, words, &req);
	char *addr;

	if (err)
		return err;
	if (!req.addr)
		req.addr = reserve_address(req.pages);
	addr = map_request(&req);
	if (addr == MAP_FAILED)
		return -errno;
	say(a, "0x%lx", (unsigned long)addr);
	return set_region(words[0], addr, req.pages);
}

/* Pages that a process has without asking; some are shared with the actor. */
static int cmd_own(struct actor *a, char **words)
{
	unsigned long addr;

	if (!words[0] || !words[1])
		return fail(a, EINVAL, "VAR heap, stack or text expected");
	if (!strcmp(words[1], "heap")) {
		addr = ((unsigned long)sbrk(2 * PAGE) + PAGE - 1) & ~(PAGE - 1);
		*(volatile char *)addr = 1;
	} else if (!strcmp(words[1], "stack")) {
		addr = (unsigned long)&addr & ~(PAGE - 1);
	} else if (!strcmp(words[1], "text")) {
		addr = (unsigned long)cmd_own & ~(PAGE - 1);
	} else {
		return fail(a, EINVAL, words[1]);
	}
	return set_region(words[0], (char *)addr, 1);
}

static int cmd_unmap(struct actor *a, char **words)
{
	struct range r;
	int err = get_full_range(a, words, &r);

	return err ? err : result(munmap(r.addr, r.pages * PAGE));
}

static int cmd_mprotect(struct actor *a, char **words)
{
	struct range r;
	int err = get_full_range(a, words, &r), prot;

	if (err)
		return err;
	if (!words[3])
		return fail(a, EINVAL, "r, rw or none expected");
	else if (!strcmp(words[3], "r"))
		prot = PROT_READ;
	else if (!strcmp(words[3], "rw"))
		prot = PROT_READ | PROT_WRITE;
	else if (!strcmp(words[3], "none"))
		prot = PROT_NONE;
	else
		return fail(a, EINVAL, "r, rw or none expected");
	return result(mprotect(r.addr, r.pages * PAGE, prot));
}

/* The first key that nobody has; the pages can be read and written as before. */
static int cmd_pkey(struct actor *a, char **words)
{
	struct range r;
	int err = get_full_range(a, words, &r), key;

	if (err)
		return err;
	key = pkey_alloc(0, 0);
	if (key < 0)
		return -errno;
	say(a, "%d", key);
	return result(pkey_mprotect(r.addr, r.pages * PAGE,
				    PROT_READ | PROT_WRITE, key));
}

static int cmd_mremap(struct actor *a, char **words)
{
	struct range r;
	int err = get_full_range(a, words, &r);
	char *addr;

	if (err)
		return err;
	if (!words[3])
		return fail(a, EINVAL, "name of the new region expected");
	addr = reserve_address(r.pages);
	if (words[4] && words[5] && !strcmp(words[4], "at"))
		addr = (char *)strtoul(words[5], NULL, 16);
	addr = mremap(r.addr, r.pages * PAGE, r.pages * PAGE,
		      MREMAP_MAYMOVE | MREMAP_FIXED, addr);
	if (addr == MAP_FAILED)
		return -errno;
	say(a, "0x%lx", (unsigned long)addr);
	return set_region(words[3], addr, r.pages);
}

static int cmd_madvise(struct actor *a, char **words)
{
	/* Numbers, because old headers do not have all the names. */
	static const struct {
		const char *name;
		int advice;
	} advices[] = {
		{ "normal", 0 },	  { "random", 1 },
		{ "sequential", 2 },	  { "willneed", 3 },
		{ "dontneed", 4 },	  { "free", 8 },
		{ "remove", 9 },	  { "dontfork", 10 },
		{ "dofork", 11 },	  { "mergeable", 12 },
		{ "unmergeable", 13 },	  { "hugepage", 14 },
		{ "nohugepage", 15 },	  { "wipeonfork", 18 },
		{ "keeponfork", 19 },	  { "cold", 20 },
		{ "pageout", 21 },	  { "populate_read", 22 },
		{ "populate_write", 23 }, { "dontneed_locked", 24 },
		{ "collapse", 25 },	  { "hwpoison", 100 },
		{ "soft_offline", 101 },
	};
	struct range r;
	int err = get_full_range(a, words, &r);

	if (err)
		return err;
	/* who has a page poisoned gets the signal of whoever touches it */
	if (sigsetjmp(on_fault, 1))
		return 0;
	for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++)
		if (words[3] && !strcmp(words[3], advices[i].name))
			return result(madvise(r.addr, r.pages * PAGE,
					      advices[i].advice));
	return fail(a, EINVAL, "unknown advice");
}

static int cmd_prctlname(struct actor *a, char **words)
{
	struct range r;
	int err = get_full_range(a, words, &r);

	if (err)
		return err;
	return result(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, r.addr,
			    r.pages * PAGE, words[3]));
}

static int cmd_move(struct actor *a, char **words)
{
	struct range r;
	size_t node;
	int err = get_full_range(a, words, &r), to, status;

	if (err)
		return err;
	if (!number(words[3], &node))
		return fail(a, EINVAL, "NODE expected");
	to = node;
	for (size_t i = 0; i < r.pages && !err; i++) {
		char *page = r.addr + i * PAGE;

		err = result(syscall(SYS_move_pages, 0, 1UL, &page, &to,
				     &status, MPOL_MF_MOVE));
		if (!err && status < 0)
			err = status;
	}
	return err;
}

static int cmd_mlock(struct actor *a, char **words)
{
	struct range r;
	int err = get_full_range(a, words, &r);

	return err ? err : result(mlock(r.addr, r.pages * PAGE));
}

static int cmd_munlock(struct actor *a, char **words)
{
	struct range r;
	int err = get_full_range(a, words, &r);

	return err ? err : result(munlock(r.addr, r.pages * PAGE));
}

/* ---- commands: touching ---- */

static void fault(int sig)
{
	(void)sig;
	siglongjmp(on_fault, 1);
}

static int cmd_write(struct actor *a, char **words)
{
	struct range r;
	int err = get_range(a, words, &r);

	if (err)
		return err;
	if (sigsetjmp(on_fault, 1))
		return -EFAULT;
	for (size_t i = 0; i < r.pages; i++)
		*(volatile uint64_t *)(r.addr + i * PAGE) = ++touches;
	return 0;
}

static int cmd_read(struct actor *a, char **words)
{
	struct range r;
	int err = get_range(a, words, &r);

	if (err)
		return err;
	if (sigsetjmp(on_fault, 1))
		return -EFAULT;
	for (size_t i = 0; i < r.pages; i++)
		(void)*(volatile uint64_t *)(r.addr + i * PAGE);
	return 0;
}

static int cmd_fill(struct actor *a, char **words)
{
	struct range r;
	size_t byte;
	int err = get_full_range(a, words, &r);

	if (err)
		return err;
	if (!number(words[3], &byte) || byte > 255)
		return fail(a, EINVAL, "BYTE expected");
	if (sigsetjmp(on_fault, 1))
		return -EFAULT;
	memset(r.addr, byte, r.pages * PAGE);
	return 0;
}

static int cmd_vmsplice(struct actor *a, char **words)
{
	struct range r;
	struct iovec iov;
	int err = get_range(a, words, &r);

	if (err)
		return err;
	iov = (struct iovec){ r.addr, r.pages * PAGE };
	if (a->pipe[0] < 0 && pipe2(a->pipe, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	return result(vmsplice(a->pipe[1], &iov, 1, SPLICE_F_NONBLOCK));
}

static int cmd_vmspliceend(struct actor *a, char **words)
{
	(void)words;
	if (a->pipe[0] < 0)
		return fail(a, EINVAL, "nothing is spliced");
	close(a->pipe[0]);
	close(a->pipe[1]);
	a->pipe[0] = -1;
	a->pipe[1] = -1;
	return 0;
}

/*
 * io_uring keeps the pages of registered buffers pinned, without a single
 * request.  By number, because old headers do not have it.
 */
static int cmd_uring(struct actor *a, char **words)
{
	char params[URING_PARAMS_SIZE] = "";
	struct iovec iov;
	struct range r;
	int err = get_full_range(a, words, &r);

	if (err)
		return err;
	iov = (struct iovec){ r.addr, r.pages * PAGE };
	if (a->uring >= 0)
		return fail(a, EBUSY, "buffers are registered");
	a->uring = syscall(SYS_io_uring_setup, 1, params);
	if (a->uring < 0)
		return -errno;
	return result(syscall(SYS_io_uring_register, a->uring,
			      URING_REGISTER_BUFFERS, &iov, 1));
}

static int cmd_uringend(struct actor *a, char **words)
{
	int err;

	(void)words;
	err = result(syscall(SYS_io_uring_register, a->uring,
			     URING_UNREGISTER_BUFFERS, NULL, 0));
	close(a->uring);
	a->uring = -1;
	return err;
}

/* Past the page cache: the device writes to the page when it comes to it. */
static int cmd_dio(struct actor *a, char **words)
{
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PREAD }, *list = &cb;
	struct range r;
	int err = get_full_range(a, words, &r), fd;

	if (err)
		return err;
	if (!words[3])
		return fail(a, EINVAL, "PATH expected");
	if (!a->aio && syscall(SYS_io_setup, MAX_READS, &a->aio))
		return -errno;
	fd = open(words[3], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	cb.aio_fildes = fd;
	cb.aio_buf = (uint64_t)r.addr;
	cb.aio_nbytes = r.pages * PAGE;
	err = result(syscall(SYS_io_submit, a->aio, 1, &list));
	close(fd);
	if (!err)
		a->nr_reads++;
	return err;
}

static int cmd_dioend(struct actor *a, char **words)
{
	struct io_event events[MAX_READS];
	long done;

	(void)words;
	done = syscall(SYS_io_getevents, a->aio, a->nr_reads, a->nr_reads,
		       events, NULL);
	if (done < 0)
		return -errno;
	for (long i = 0; i < done; i++)
		if (events[i].res < 0)
			return events[i].res;
	a->nr_reads = 0;
	return 0;
}

/* ---- commands: witnesses ---- */

static int open_proc(const char *name)
{
	return open(name, O_RDONLY | O_CLOEXEC);
}

static uint64_t entry_of(int fd, uint64_t index)
{
	uint64_t entry = 0;

	if (fd < 0 ||
	    pread(fd, &entry, sizeof(entry), index * sizeof(entry)) < 0)
		return 0;
	return entry;
}

#define PM_PFN		   ((1ULL << 55) - 1)
#define PM_BIT(entry, bit) ((unsigned int)(((entry) >> (bit)) & 1))
#define PM_PRESENT(entry)  PM_BIT(entry, 63)

static int cmd_look(struct actor *a, char **words)
{
	int pagemap, kpagecount, kpageflags, err;
	struct range r;

	err = get_range(a, words, &r);
	if (err)
		return err;
	pagemap = open_proc("/proc/self/pagemap");
	kpagecount = open_proc("/proc/kpagecount");
	kpageflags = open_proc("/proc/kpageflags");
	for (size_t i = 0; i < r.pages; i++) {
		unsigned long addr = (unsigned long)r.addr + i * PAGE;
		uint64_t e = entry_of(pagemap, addr / PAGE), pfn = 0;

		if (PM_PRESENT(e))
			pfn = e & PM_PFN;
		say(a,
		    "%s0x%lx:pfn=0x%lx,present=%u,swap=%u,file=%u,softdirty=%u,excl=%u",
		    i ? " " : "", addr, (unsigned long)pfn, PM_PRESENT(e),
		    PM_BIT(e, 62), PM_BIT(e, 61), PM_BIT(e, 55), PM_BIT(e, 56));
		if (pfn)
			say(a, ",kcount=%lu,kflags=0x%lx",
			    (unsigned long)entry_of(kpagecount, pfn),
			    (unsigned long)entry_of(kpageflags, pfn));
	}
	close(pagemap);
	close(kpagecount);
	close(kpageflags);
	return 0;
}

/* The text of /proc/self/maps, all of it, or NULL with errno */
static char *read_maps(void)
{
	static char maps[4 << 20];
	size_t len = 0;
	ssize_t n;
	int fd = open_proc("/proc/self/maps");

	if (fd < 0)
		return NULL;
	while ((n = read(fd, maps + len, sizeof(maps) - 1 - len)) > 0)
		len += n;
	close(fd);
	if (n < 0)
		return NULL;
	if (len == sizeof(maps) - 1) {
		errno = E2BIG;
		return NULL;
	}
	maps[len] = '\0';
	return maps;
}

struct wanted {
	struct {
		size_t pfn, pages;
	} runs[MAX_WORDS];
	size_t count;
};

static bool is_wanted(const struct wanted *w, uint64_t pfn)
{
	for (size_t i = 0; i < w->count; i++)
		if (pfn - w->runs[i].pfn < w->runs[i].pages)
			return true;
	return false;
}

/* PFN or PFN+PAGES */
static bool parse_run(struct wanted *w, char *word)
{
	char *pfn = strsep(&word, "+");

	w->runs[w->count].pages = 1;
	return number(pfn, &w->runs[w->count].pfn) &&
	       (!word || number(word, &w->runs[w->count].pages));
}

static int find_in_vma(struct actor *a, int pagemap, unsigned long addr,
		       unsigned long end, const struct wanted *w)
{
	static uint64_t entries[8192];
	const size_t max = sizeof(entries) / sizeof(*entries);
	ssize_t n;

	while (addr < end) {
		size_t pages = (end - addr) / PAGE;

		n = pread(pagemap, entries, (pages < max ? pages : max) * 8,
			  addr / PAGE * 8);
		if (n <= 0) /* 0: vsyscall lies beyond user addresses */
			return n < 0 ? -errno : 0;
		for (ssize_t i = 0; i < n / 8; i++, addr += PAGE)
			if (PM_PRESENT(entries[i]) &&
			    is_wanted(w, entries[i] & PM_PFN))
				say(a, "%s0x%lx:pfn=0x%lx", a->len ? " " : "",
				    addr, (unsigned long)(entries[i] & PM_PFN));
	}
	return 0;
}

static int cmd_find(struct actor *a, char **words)
{
	static struct wanted w;
	unsigned long start, end;
	char *line, *rest;
	int pagemap, err = 0;

	for (w.count = 0; *words; words++, w.count++)
		if (!parse_run(&w, *words))
			return fail(a, EINVAL, "PFN expected");
	rest = read_maps();
	pagemap = open_proc("/proc/self/pagemap");
	if (!rest || pagemap < 0)
		return -errno;
	while (!err && (line = strsep(&rest, "\n")))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2)
			err = find_in_vma(a, pagemap, start, end, &w);
	close(pagemap);
	return err;
}

static int cmd_maps(struct actor *a, char **words)
{
	struct range r;
	unsigned long start, end;
	char *line, *rest;
	int err = get_range(a, words, &r);

	if (err)
		return err;
	rest = read_maps();
	if (!rest)
		return -errno;
	while ((line = strsep(&rest, "\n")))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 &&
		    start < (unsigned long)r.addr + r.pages * PAGE &&
		    end > (unsigned long)r.addr)
			say(a, "%s%s", a->len ? "; " : "", line);
	return 0;
}

static int cmd_pid(struct actor *a, char **words)
{
	(void)words;
	say(a, "%d", getpid());
	return 0;
}

/* ---- commands: families ---- */

/* Listen under this name; 0 or -errno */
static int take_name(struct actor *a, const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int n;

	n = snprintf(sun.sun_path + 1, sizeof(sun.sun_path) - 1, "actor.%s",
		     name);
	a->pipe[0] = -1;
	a->pipe[1] = -1;
	a->uring = -1;
	a->aio = 0;
	a->nr_reads = 0;
	a->sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (a->sock < 0)
		return -errno;
	prctl(PR_SET_NAME, name);
	return result(bind(a->sock, (void *)&sun, sizeof(sa_family_t) + 1 + n));
}

/* The child's end of wait_ready(): report 0 or an error, die of an error. */
static void tell_ready(const int ready[2], int err)
{
	if (write(ready[1], &err, sizeof(err)) != sizeof(err) || err)
		_exit(1);
	close(ready[0]);
	close(ready[1]);
}

static int wait_ready(const int ready[2])
{
	int err;

	close(ready[1]);
	if (read(ready[0], &err, sizeof(err)) != sizeof(err))
		err = -ECHILD;
	close(ready[0]);
	return err;
}

static void remember_child(const char *name, pid_t pid)
{
	const size_t max = sizeof(children) / sizeof(*children);
	struct child *c = &children[nr_children++ % max];

	snprintf(c->name, sizeof(c->name), "%s", name);
	c->pid = pid;
}

/* A child that could not become an actor is gone already. */
static int welcome(struct actor *a, const char *name, pid_t pid, int err)
{
	if (err) {
		waitpid(pid, NULL, __WALL);
		a->len = 0;
		return err;
	}
	remember_child(name, pid);
	say(a, "%s%d", a->len ? " " : "", pid);
	return 0;
}

/* Returns SILENT in the child, which goes on in the parent's loop. */
static int fork_actor(struct actor *a, const char *name)
{
	int ready[2];
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0) {
		pid = -errno;
		close(ready[0]);
		close(ready[1]);
		return pid;
	}
	if (!pid) {
		nr_children = 0;
		a->is_thread = false;
		close(a->sock);
		close(a->pipe[0]);
		close(a->pipe[1]);
		close(a->uring);
		tell_ready(ready, take_name(a, name));
		return SILENT;
	}
	return welcome(a, name, pid, wait_ready(ready));
}

static int cmd_fork(struct actor *a, char **words)
{
	if (!words[0])
		return fail(a, EINVAL, "CHILD expected");
	return fork_actor(a, words[0]);
}

static int cmd_forkmany(struct actor *a, char **words)
{
	char name[64];
	size_t count;
	int ret = 0;

	if (!number(words[0], &count) || !words[1])
		return fail(a, EINVAL, "COUNT PREFIX expected");
	for (size_t i = 0; i < count && !ret; i++) {
		snprintf(name, sizeof(name), "%s%zu", words[1], i);
		ret = fork_actor(a, name);
	}
	return ret;
}

/* What an actor that shares its parent's memory is started with */
struct sharer {
	struct actor actor;
	char name[32];
	int ready[2];
	struct actor *vforking; /* the parent that cannot answer */
	char stack[STACK] __attribute__((aligned(16)));
};

static void serve(struct actor *a) __attribute__((noreturn));

static struct sharer *new_sharer(const char *name)
{
	struct sharer *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return NULL;
	snprintf(s->name, sizeof(s->name), "%s", name);
	if (pipe2(s->ready, O_CLOEXEC))
		return NULL;
	return s;
}

static int sharer_main(void *arg)
{
	struct sharer *s = arg;
	struct actor *parent = s->vforking;
	int err = take_name(&s->actor, s->name);

	if (parent) {
		say(parent, "%d", getpid());
		send_reply(parent, err);
		if (err)
			_exit(1);
	} else {
		tell_ready(s->ready, err);
	}
	serve(&s->actor);
}

static int clone_actor(struct actor *a, char **words, int flags)
{
	struct sharer *s;
	pid_t pid;

	if (!words[0])
		return fail(a, EINVAL, "CHILD expected");
	s = new_sharer(words[0]);
	if (!s)
		return -errno;
	s->vforking = flags & CLONE_VFORK ? a : NULL;
	pid = clone(sharer_main, s->stack + sizeof(s->stack), flags | SIGCHLD,
		    s);
	if (pid < 0)
		return -errno;
	if (s->vforking) {
		remember_child(words[0], pid);
		close(s->ready[0]);
		close(s->ready[1]);
		return SILENT;
	}
	return welcome(a, words[0], pid, wait_ready(s->ready));
}

static int cmd_clone_vm(struct actor *a, char **words)
{
	return clone_actor(a, words, CLONE_VM);
}

/* The child replies in its parent's name: the parent sleeps until it exits. */
static int cmd_vfork(struct actor *a, char **words)
{
	return clone_actor(a, words, CLONE_VM | CLONE_VFORK);
}

static void *thread_main(void *arg)
{
	struct sharer *s = arg;
	int err = take_name(&s->actor, s->name);

	s->actor.is_thread = true;
	/* the descriptors are shared too: the maker closes both */
	if (write(s->ready[1], &err, sizeof(err)) != sizeof(err) || err)
		return NULL;
	serve(&s->actor);
}

static int cmd_thread(struct actor *a, char **words)
{
	struct sharer *s;
	pthread_t thread;
	int err, status;

	if (!words[0])
		return fail(a, EINVAL, "NAME expected");
	s = new_sharer(words[0]);
	if (!s)
		return -errno;
	err = pthread_create(&thread, NULL, thread_main, s);
	if (err)
		return -err;
	pthread_detach(thread);
	if (read(s->ready[0], &status, sizeof(status)) != sizeof(status))
		status = -EIO;
	close(s->ready[0]);
	close(s->ready[1]);
	return status;
}

/* The new image gets the address to reply to as an argument (see main). */
static int cmd_exec(struct actor *a, char **words)
{
	if (!words[0])
		return fail(a, EINVAL, "NAME expected");
	execl("/proc/self/exe", "actor", "-e", a->from.sun_path + 1, words[0],
	      NULL);
	return -errno;
}

static int cmd_wait(struct actor *a, char **words)
{
	const size_t max = sizeof(children) / sizeof(*children);

	for (size_t i = 0; words[0] && i < nr_children && i < max; i++)
		if (!strcmp(children[i].name, words[0]) && children[i].pid) {
			pid_t pid = children[i].pid;

			children[i].pid = 0;
			return result(waitpid(pid, NULL, __WALL));
		}
	return fail(a, ECHILD, "no such child");
}

static int cmd_exit(struct actor *a, char **words)
{
	(void)words;
	send_reply(a, 0);
	close(a->sock);
	if (a->is_thread)
		pthread_exit(NULL);
	_exit(0);
}

/* ---- the table ---- */

static const struct command {
	const char *name;
	int (*run)(struct actor *a, char **words); /* 0, -errno or SILENT */
	const char *help;
} commands[] = {
	{ "map", cmd_map,
	  "VAR PAGES [shared] [file PATH OFFSET|memfd NAME|sysv] [at ADDR] [hugetlb] [noreserve]" },
	{ "own", cmd_own, "VAR heap|stack|text: call a page of that VAR" },
	{ "unmap", cmd_unmap, "VAR PAGE COUNT" },
	{ "mprotect", cmd_mprotect, "VAR PAGE COUNT r|rw|none" },
	{ "pkey", cmd_pkey, "VAR PAGE COUNT: give them a new protection key" },
	{ "mremap", cmd_mremap,
	  "VAR PAGE COUNT NEWVAR [at ADDR]: move those pages" },
	{ "madvise", cmd_madvise,
	  "VAR PAGE COUNT ADVICE: dontneed, pageout, hugepage, mergeable..." },
	{ "prctlname", cmd_prctlname,
	  "VAR PAGE COUNT NAME: name anonymous memory" },
	{ "move", cmd_move, "VAR PAGE COUNT NODE: move pages to that node" },
	{ "mlock", cmd_mlock, "VAR PAGE COUNT" },
	{ "munlock", cmd_munlock, "VAR PAGE COUNT" },
	{ "write", cmd_write,
	  "VAR [PAGE [COUNT]]: store something new in every page" },
	{ "read", cmd_read, "VAR [PAGE [COUNT]]: load from every page" },
	{ "fill", cmd_fill, "VAR PAGE COUNT BYTE: fill whole pages" },
	{ "vmsplice", cmd_vmsplice, "VAR PAGE: hold the page in a pipe" },
	{ "vmspliceend", cmd_vmspliceend, ": let it go" },
	{ "uring", cmd_uring,
	  "VAR PAGE COUNT: register the pages as a buffer of io_uring" },
	{ "uringend", cmd_uringend, ": let them go" },
	{ "dio", cmd_dio,
	  "VAR PAGE COUNT PATH: begin to read into them, past the page cache" },
	{ "dioend", cmd_dioend, ": wait for all that was begun" },
	{ "look", cmd_look,
	  "VAR [PAGE [COUNT]]: pagemap, kpagecount and kpageflags" },
	{ "find", cmd_find,
	  "PFN[+PAGES]...: every address of this process where one is present" },
	{ "maps", cmd_maps, "VAR [PAGE [COUNT]]: lines of /proc/self/maps" },
	{ "pid", cmd_pid, "" },
	{ "fork", cmd_fork, "CHILD" },
	{ "forkmany", cmd_forkmany,
	  "COUNT PREFIX: children PREFIX0, PREFIX1..." },
	{ "vfork", cmd_vfork, "CHILD: be deaf until it exits or execs" },
	{ "clone_vm", cmd_clone_vm,
	  "CHILD: a process that shares the address space" },
	{ "thread", cmd_thread, "NAME" },
	{ "exec", cmd_exec, "NAME: start over as actor NAME" },
	{ "wait", cmd_wait, "CHILD: reap it" },
	{ "exit", cmd_exit, "" },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(*commands))

static int obey(struct actor *a, char *line)
{
	static char *words[MAX_WORDS + 2];
	size_t n = 0;
	char *word;

	while (n < MAX_WORDS && (word = strsep(&line, " \n")))
		if (*word)
			words[n++] = word;
	words[n] = NULL;
	if (!n)
		return fail(a, EINVAL, "no command");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(commands[i].name, words[0]))
			return commands[i].run(a, words + 1);
	return fail(a, EINVAL, "unknown command");
}

static void serve(struct actor *a)
{
	static char line[REPLY_SIZE];
	ssize_t n;
	int status;

	for (;;) {
		a->from_len = sizeof(a->from);
		n = recvfrom(a->sock, line, sizeof(line) - 1, 0,
			     (void *)&a->from, &a->from_len);
		if (n < 0)
			continue;
		line[n] = '\0';
		a->len = 0;
		status = obey(a, line);
		if (status != SILENT)
			send_reply(a, status);
	}
}

static void catch_faults(void)
{
	struct sigaction sa = { .sa_handler = fault };

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
}

/* After exec: the command came to the image before this one. */
static void answer_exec(struct actor *a, const char *address)
{
	a->from.sun_family = AF_UNIX;
	strncpy(a->from.sun_path + 1, address, sizeof(a->from.sun_path) - 2);
	a->from_len = sizeof(sa_family_t) + 1 + strlen(address);
	send_reply(a, 0);
}

/* Whoever started the first actor must not wait for the last to let go. */
static void leave_terminal(void)
{
	int fd = open("/dev/null", O_RDWR);

	setsid();
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static int usage(void)
{
	fputs("usage: actor NAME\nThen: tell NAME COMMAND, where COMMAND is\n",
	      stderr);
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(stderr, "  %s %s\n", commands[i].name,
			commands[i].help);
	return 2;
}

int main(int argc, char *argv[])
{
	static struct actor actor = { .pipe = { -1, -1 },
				      .uring = -1,
				      .sock = -1 };
	int err;

	catch_faults();
	if (argc == 4 && !strcmp(argv[1], "-e")) {
		err = take_name(&actor, argv[3]);
		answer_exec(&actor, argv[2]);
		if (err)
			return 1;
		serve(&actor);
	}
	if (argc != 2 || argv[1][0] == '-')
		return usage();
	err = fork_actor(&actor, argv[1]);
	if (err == SILENT) {
		leave_terminal();
		serve(&actor);
	}
	if (err)
		fprintf(stderr, "actor: %s: %s\n", argv[1], strerror(-err));
	return err ? 1 : 0;
}
