// SPDX-License-Identifier: GPL-2.0-only
/*
 * misuse - use the files in every way that a file can be used, by chance
 *
 * "misuse SEED CASES" opens them all several times, and does CASES things with
 * them: reads and writes of any length, from and to any place, in pieces, past
 * bad addresses, by splice and sendfile, by copies of a descriptor, in children
 * that inherited one, and in threads that share one.  Each must end as docs/
 * report.md says: what a read-write descriptor gives are the bytes of the answer
 * to its own last question, what others give begin like an answer to the last
 * question of all, listings are text, and what is refused changes nothing.
 *
 * It prints what was done how often.  What is wrong is told, with status 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "errname.h"

#define RMAPVIZ	  "/sys/kernel/debug/rmapviz"
#define ANSWER	  "/sys/kernel/debug/rmapviz_answer"
#define PARAMETER "/sys/module/rmapviz/parameters/query"
#define SURVEY	  "/sys/kernel/debug/rmapviz_survey"
#define FAMILIES  "/sys/kernel/debug/rmapviz_families"

#define PAGE	  4096UL
#define LARGEST	  (64 * 1024UL)
#define RELATIVES 6
#define THREADS	  4
#define ROUNDS	  8

/* How a file was opened says what it gives. */
enum kind {
	OWN,   /* for reading and writing */
	DEAF,  /* for writing only */
	LAST,  /* for reading only, and rmapviz_answer */
	PARAM, /* the parameter: the last question itself */
	LIST,  /* rmapviz_survey, rmapviz_families: whatever there is */
	KINDS,
};

enum verb {
	READ,
	PREAD,
	READV,
	WRITE,
	PWRITE,
	WRITEV,
	LSEEK,
	SPLICE_FROM,
	SPLICE_TO,
	SENDFILE_FROM,
	SENDFILE_TO,
	READ_ALL,
	SHARE,
	REOPEN,
	COPY,
	VERBS,
};

static const char *const verbs[VERBS] = {
	"read",	       "pread",	   "readv",	  "write",     "pwrite",
	"writev",      "lseek",	   "splice-from", "splice-to", "sendfile-from",
	"sendfile-to", "read-all", "threads",	  "open",      "dup",
};

/* How many of a hundred things are which. */
static const unsigned char odds[VERBS] = {
	[READ] = 26,	     [PREAD] = 14,	[READV] = 6,
	[WRITE] = 18,	     [PWRITE] = 3,	[WRITEV] = 4,
	[LSEEK] = 14,	     [SPLICE_FROM] = 2, [SPLICE_TO] = 2,
	[SENDFILE_FROM] = 2, [SENDFILE_TO] = 2, [READ_ALL] = 3,
	[SHARE] = 1,	     [REOPEN] = 1,	[COPY] = 2,
};

/**
 * struct question - a line to be written
 * @text: the line
 * @head: how an answer begins
 * @err: what the write ends with
 * @parses: whether the parameter takes it
 */
struct question {
	char text[160];
	char head[64];
	int err;
	bool parses;
};

static struct question questions[32];
static int nr_questions;
static const struct question *last; /* of anybody */

/**
 * struct description - an open file, which several descriptors may stand for
 * @kind: how it was opened
 * @fds: descriptors
 * @pos: where a read goes on
 * @end: where the last one ended, perhaps in another answer
 * @asked: the last question that was answered here, or NULL
 * @ref: what all of the answer is, once that was needed
 * @len: its length
 */
struct description {
	enum kind kind;
	int fds[2];
	off_t pos;
	off_t end;
	const struct question *asked;
	char *ref;
	size_t len;
};

#define FILES 14
static struct description files[FILES];

/**
 * struct act - one thing to do, and what came of it
 * @verb: what
 * @d: with which open file
 * @fd: by which descriptor
 * @len: how much to read, or to write of @text
 * @cut: the first of two pieces
 * @off: where, for pread, pwrite and lseek
 * @whence: for lseek
 * @bad: the memory is not there
 * @text: to be written
 * @q: the question that is
 * @more: the question in the second piece, for writev
 * @ret: what the call returned
 * @err: errno, if that is -1
 * @data: what was read
 *
 * It is shared with children.
 */
struct act {
	enum verb verb;
	struct description *d;
	int fd;
	size_t len, cut;
	off_t off;
	int whence;
	bool bad;
	char text[512];
	const struct question *q, *more;
	ssize_t ret;
	int err;
	char data[LARGEST];
};

static struct act *act;
static unsigned long counts[VERBS][2], children, again, cases;
static char *page; /* to ask about */
static int source, ends[2];

/* ------------------------------------------------------------------ chance -- */

static uint64_t state;

static uint64_t chance(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state * 0x2545f4914f6cdd1dULL >> 20) % below;
}

__attribute__((noreturn, format(printf, 1, 2))) static void
wrong(const char *format, ...)
{
	va_list args;

	printf("wrong: case %lu: %s, kind of file %d, %zu bytes at %lld (%lld), ",
	       cases, verbs[act->verb], act->d->kind, act->len,
	       (long long)act->off, (long long)act->d->pos);
	printf("'%.130s': %zd (%s): ", act->text, act->ret, errname(act->err));
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	exit(1);
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* --------------------------------------------------------------- questions -- */

__attribute__((format(printf, 4, 5))) static void
add(const char *head, int err, bool parses, const char *format, ...)
{
	struct question *q = &questions[nr_questions++];
	va_list args;

	va_start(args, format);
	vsnprintf(q->text, sizeof(q->text), format, args);
	va_end(args);
	snprintf(q->head, sizeof(q->head), "%s", head);
	q->err = err;
	q->parses = parses;
}

static unsigned long pfn_of(const void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)addr / PAGE * 8) != 8)
		die("pagemap");
	close(fd);
	return entry & ((1ULL << 55) - 1);
}

static void add_questions(void)
{
	const unsigned long pfn = pfn_of(page), addr = (unsigned long)page;
	const int pid = getpid();
	char head[64], family[64];

	snprintf(head, sizeof(head), "PFN 0x%lx is an anonymous page; ", pfn);
	snprintf(family, sizeof(family), "pid %d: ", pid);
	add("PFN 0x0 is ", 0, true, "0 brief");
	add("PFN 0x1 is ", 0, true, "pfn:1\n");
	add(head, 0, true, "%lu", pfn);
	add(head, 0, true, "0x%lx brief\n", pfn);
	add(head, 0, true, "pid %d 0x%lx full ptrs", pid, addr);
	add("{\"rmapviz\": 1, ", 0, true, "pid %d %lu json", pid, addr);
	add("{\"rmapviz\": 1, ", 0, true, "phys 0x%lx json brief", pfn * PAGE);
	add(family, 0, true, "pid %d", pid);
	add("{\"rmapviz\": 1, ", 0, true, "pid %d json\n", pid);
	add("", EINVAL, false, "frob");
	add("", EINVAL, false, "1 brief full");
	add("", EINVAL, false, "1\n2\n");
	add("", EINVAL, false, "1%127s", "");
	add("", ENXIO, true, "0xffffffffffffff");
	add("", ESRCH, true, "pid 4000000");
	add("", EFAULT, true, "pid %d 0x1000", pid);
}

/* Those who share the page wait for the end. */
static void make_family(void)
{
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || mlock(page, PAGE))
		die("mmap");
	*page = 1;
	for (int i = 0; i < RELATIVES; i++) {
		if (fork())
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
}

/* ------------------------------------------------------------------- files -- */

static const struct {
	const char *name;
	int flags;
	enum kind kind;
} ways[] = {
	{ RMAPVIZ, O_RDWR, OWN },
	{ RMAPVIZ, O_RDWR | O_APPEND, OWN },
	{ RMAPVIZ, O_RDWR | O_NONBLOCK | O_SYNC, OWN },
	{ RMAPVIZ, O_WRONLY, DEAF },
	{ RMAPVIZ, O_WRONLY | O_TRUNC, DEAF },
	{ RMAPVIZ, O_RDONLY, LAST },
	{ ANSWER, O_RDONLY, LAST },
	{ PARAMETER, O_RDWR, PARAM },
	{ SURVEY, O_RDONLY, LIST },
	{ FAMILIES, O_RDONLY | O_NONBLOCK, LIST },
};

static void open_file(struct description *d)
{
	const unsigned int n = sizeof(ways) / sizeof(*ways);
	unsigned int way = d - files;

	/* all at first, then any */
	if (way >= n || d->fds[0])
		way = chance(n);
	if (d->fds[0]) {
		close(d->fds[0]);
		close(d->fds[1]);
		free(d->ref);
	}
	*d = (struct description){ .kind = ways[way].kind };
	d->fds[0] = open(ways[way].name, ways[way].flags | O_CLOEXEC);
	d->fds[1] = dup(d->fds[0]);
	if (d->fds[1] < 0)
		die(ways[way].name);
}

/* --------------------------------------------------------------- to choose -- */

static enum verb choose_verb(void)
{
	int n = chance(100);
	enum verb verb = READ;

	while (n >= odds[verb])
		n -= odds[verb++];
	return verb;
}

static size_t choose_length(void)
{
	switch (chance(6)) {
	case 0:
		return 1;
	case 1:
		return 1 + chance(16);
	case 2:
		return LARGEST;
	default:
		return 1 + chance(3000);
	}
}

/* Near where the last read ended, near the beginning, or far away. */
static off_t choose_offset(const struct description *d)
{
	switch (chance(8)) {
	case 0:
		return 0;
	case 1:
		return 1LL << chance(62);
	case 2:
		return -1 - (off_t)chance(99);
	case 3:
	case 4:
		return d->end;
	default:
		return chance(6000);
	}
}

static void choose_text(struct act *a)
{
	a->q = &questions[chance(nr_questions)];
	a->more = &questions[chance(nr_questions)];
	a->cut = strlen(a->q->text);
	a->len = snprintf(a->text, sizeof(a->text), "%s%s", a->q->text,
			  a->verb == WRITEV ? a->more->text : "");
	/* too long is told before the memory is looked at */
	a->bad = a->verb != WRITEV && a->len < 128 && !chance(20);
}

static void choose(struct act *a)
{
	a->d = &files[chance(FILES)];
	a->fd = a->d->fds[chance(2)];
	a->verb = choose_verb();
	/* the parameter is a file of sysfs, of which this knows only that */
	if (a->d->kind == PARAM && a->verb != READ_ALL && a->verb != REOPEN)
		a->verb = WRITE;
	/* of one that can only be read, and has no places to write to */
	if (a->d->kind == LIST && (a->verb == PWRITE || a->verb == SPLICE_TO ||
				   a->verb == SENDFILE_TO))
		a->verb = WRITE;
	a->off = choose_offset(a->d);
	a->whence = chance(4) ? SEEK_SET : chance(3);
	a->len = choose_length();
	a->cut = chance(a->len + 1);
	a->bad = !chance(40);
	a->text[0] = '\0';
	if (a->verb == WRITE || a->verb == PWRITE || a->verb == WRITEV ||
	    a->verb == SPLICE_TO)
		choose_text(a);
}

/* ------------------------------------------------------------------- to do -- */

static ssize_t read_pieces(const struct act *a, char *to)
{
	struct iovec iov[] = {
		{ to, a->cut },
		{ to + a->cut, a->len - a->cut },
	};
	int first = !a->cut;

	return readv(a->fd, iov + first, a->cut < a->len ? 2 - first : 1);
}

static ssize_t write_pieces(const struct act *a)
{
	struct iovec iov[] = {
		{ (char *)a->text, a->cut },
		{ (char *)a->text + a->cut, a->len - a->cut },
	};

	return writev(a->fd, iov, 2);
}

/* What went into a pipe that splice did not take goes. */
static ssize_t splice_to(const struct act *a)
{
	char rest[512];
	ssize_t n;
	int err;

	if (write(ends[1], a->text, a->len) != (ssize_t)a->len)
		die("pipe");
	n = splice(ends[0], NULL, a->fd, NULL, a->len, 0);
	err = errno;
	if (n < (ssize_t)a->len &&
	    read(ends[0], rest, sizeof(rest)) + (n > 0 ? n : 0) !=
		    (ssize_t)a->len)
		die("pipe");
	errno = err;
	return n;
}

static ssize_t call(const struct act *a, char *data)
{
	char *to = a->bad ? (char *)PAGE : data;
	const char *from = a->bad ? (char *)PAGE : a->text;
	off_t offset = 0;

	switch (a->verb) {
	case READ:
		return read(a->fd, to, a->len);
	case PREAD:
		return pread(a->fd, to, a->len, a->off);
	case READV:
		return read_pieces(a, data);
	case WRITE:
		return write(a->fd, from, a->len);
	case PWRITE:
		return pwrite(a->fd, from, a->len, a->off & 0xffff);
	case WRITEV:
		return write_pieces(a);
	case LSEEK:
		return lseek(a->fd, a->off, a->whence);
	case SPLICE_FROM:
		return splice(a->fd, NULL, ends[1], NULL, a->len, 0);
	case SPLICE_TO:
		return splice_to(a);
	case SENDFILE_FROM:
		return sendfile(ends[1], a->fd, NULL, a->len);
	default:
		return sendfile(a->fd, source, &offset, a->len);
	}
}

static void perform(struct act *a)
{
	errno = 0;
	a->ret = call(a, a->data);
	a->err = errno;
}

/* By a child that has inherited the descriptor. */
static void perform_in_child(struct act *a)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		perform(a);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		die("fork");
	children++;
}

/* ----------------------------------------------------------- what must hold -- */

static void failed(const struct act *a, int err)
{
	if (a->ret != -1 || a->err != err)
		wrong("not %s", errname(err));
}

static void forget(struct description *d)
{
	free(d->ref);
	d->ref = NULL;
}

/* What other reads are held against is read by pread(), which moves nothing. */
static void load(struct description *d)
{
	ssize_t n;

	if (d->ref)
		return;
	d->ref = malloc(4 * LARGEST);
	for (d->len = 0;
	     (n = pread(d->fds[0], d->ref + d->len, LARGEST, d->len)) > 0;
	     d->len += n)
		if (d->len > 2 * LARGEST)
			wrong("an answer without end");
	if (n < 0)
		wrong("pread of the answer: %s", errname(errno));
}

static bool begins(const char *data, size_t len, const struct question *q)
{
	const char *head = q ? q->head : "rmapviz ";
	size_t n = strlen(head);

	return !memcmp(data, head, len < n ? len : n);
}

static void check_own(const struct act *a, off_t off)
{
	struct description *d = a->d;
	size_t left;

	if (a->ret < 0)
		wrong("refused");
	load(d);
	if (!begins(d->ref, d->len, d->asked) || d->ref[d->len - 1] != '\n')
		wrong("not the answer to '%s': %.60s",
		      d->asked ? d->asked->text : "", d->ref);
	left = off < (off_t)d->len ? d->len - off : 0;
	if (!a->ret != !left || (size_t)a->ret > left)
		wrong("%zu bytes are left", left);
	if (memcmp(a->data, d->ref + off, a->ret))
		wrong("'%.40s' is not '%.40s'", a->data, d->ref + off);
}

/* From the start it asks again; that may fail, or find a lock taken. */
static void check_last(const struct act *a, off_t off)
{
	if (a->ret < 0 && (!last || a->err != last->err))
		wrong("refused, though the last question is '%s'",
		      last ? last->text : "");
	if (!off && a->ret >= 0 && last && last->err)
		wrong("not refused with %s", errname(last->err));
	if (!off && !a->ret)
		wrong("nothing was read");
	if (!off && a->ret >= 0 && !begins(a->data, a->ret, last))
		wrong("'%.40s' is no answer to '%s'", a->data, last->text);
}

static void check_read(const struct act *a)
{
	struct description *d = a->d;
	const off_t off = a->verb == PREAD ? a->off : d->pos;

	if (off < 0)
		return failed(a, EINVAL);
	if (d->kind == DEAF)
		return failed(a, EBADF);
	/* at the end there is nothing to copy */
	if (a->ret < 0 && a->err == EFAULT && a->bad && a->verb != READV)
		return;
	if (a->bad && a->verb != READV && a->ret > 0)
		wrong("it went nowhere");
	if (d->kind == OWN)
		check_own(a, off);
	else
		check_last(a, off);
	if (a->ret > 0)
		d->end = off + a->ret;
	if (a->verb != PREAD && a->ret > 0)
		d->pos += a->ret;
}

static void asked(struct description *d, const struct question *q)
{
	forget(d);
	d->asked = q;
	d->pos = 0;
	last = q;
}

static void check_pieces(const struct act *a)
{
	if (a->q->err)
		return failed(a, a->q->err);
	asked(a->d, a->q);
	if (a->ret == (ssize_t)a->cut && !a->more->err) {
		again++; /* or so it must be: there is no errno */
		return;
	}
	if (a->ret != (ssize_t)(a->more->err ? a->cut : a->len))
		wrong("not the length of the questions that are answered");
	if (!a->more->err)
		asked(a->d, a->more);
}

static void check_write(const struct act *a)
{
	struct description *d = a->d;
	const int err = d->kind == PARAM && a->q->parses ? 0 : a->q->err;

	if (d->kind == LAST)
		return failed(a, EBADF);
	if (a->bad)
		return failed(a, EFAULT);
	if (a->verb == WRITEV)
		return check_pieces(a);
	if (err)
		return failed(a, err);
	if (a->ret != (ssize_t)a->len)
		wrong("not the length of the question");
	asked(d, a->q);
}

static void check_lseek(const struct act *a)
{
	struct description *d = a->d;
	const uint64_t from = a->whence == SEEK_CUR ? d->pos : 0;
	const off_t to = from + (uint64_t)a->off;

	if (a->whence == SEEK_END || to < 0)
		return failed(a, EINVAL);
	if (a->ret != to)
		wrong("not %lld", (long long)to);
	d->pos = to;
}

/* There is no way to splice; who has no right to read or write learns that. */
static void check_splice(const struct act *a)
{
	const bool from = a->verb == SPLICE_FROM || a->verb == SENDFILE_FROM;

	if (a->d->kind == (from ? DEAF : LAST))
		failed(a, EBADF);
	else if (a->verb != SENDFILE_FROM || a->err != EOVERFLOW ||
		 a->d->pos < INT32_MAX) /* where no such file ends */
		failed(a, EINVAL);
}

/* What is there changes; where a read has left off is the module's own. */
static void check_list(const struct act *a)
{
	switch (a->verb) {
	case WRITE:
	case WRITEV:
		return failed(a, EBADF);
	case SPLICE_FROM:
	case SENDFILE_FROM:
		return a->err == EOVERFLOW ? (void)0 : failed(a, EINVAL);
	case LSEEK:
		if (a->whence == SEEK_END ||
		    (a->whence == SEEK_SET && a->off < 0))
			return failed(a, EINVAL);
		if (a->whence == SEEK_SET && a->ret != a->off)
			wrong("not where it was to be");
		return;
	default:
		break;
	}
	if (a->verb == PREAD && a->off < 0)
		return failed(a, EINVAL);
	if (a->ret && a->bad && a->verb != READV)
		return failed(a, EFAULT);
	if (a->ret < 0 || a->ret > (ssize_t)a->len)
		wrong("no read");
	for (ssize_t i = 0; i < a->ret; i++)
		if (a->data[i] != '\n' &&
		    (a->data[i] < ' ' || a->data[i] > '~'))
			wrong("byte %zd is %#x", i, a->data[i]);
}

static void check(const struct act *a)
{
	/* somebody had a lock for half a second */
	if (a->ret == -1 && a->err == EAGAIN) {
		again++;
		return;
	}
	if (a->d->kind == LIST)
		return check_list(a);
	switch (a->verb) {
	case READ:
	case PREAD:
	case READV:
		return check_read(a);
	case WRITE:
	case WRITEV:
		return check_write(a);
	case PWRITE:
		/* it is not for what has no places to write to */
		return failed(a, ESPIPE);
	case LSEEK:
		return check_lseek(a);
	default:
		return check_splice(a);
	}
}

/* ------------------------------------------------------- read to the end -- */

static void check_param(const struct act *a)
{
	size_t len = last ? strcspn(last->text, "\n") : 0;

	/* but for the blanks around a question */
	if (a->ret != (ssize_t)len + 1 ||
	    (last && memcmp(a->data, last->text, len)))
		wrong("'%.130s' is not the last question", a->data);
}

/* In pieces of one length, from the start. */
static void read_all(struct act *a)
{
	size_t piece = chance(3) ? choose_length() : 1, len = 0;
	ssize_t n = 0;

	if (a->d->kind == DEAF)
		return;
	/* there is more of it, and each byte takes a call */
	if (a->d->kind == LIST)
		piece += 500;
	if (lseek(a->fd, 0, SEEK_SET))
		wrong("lseek: %s", errname(errno));
	while (len < LARGEST &&
	       (n = read(a->fd, a->data + len,
			 piece < LARGEST - len ? piece : LARGEST - len)) > 0)
		len += n;
	a->ret = n < 0 ? n : (ssize_t)len;
	a->err = errno;
	a->d->pos = 0;
	if (a->d->kind == PARAM)
		return check_param(a);
	a->bad = false;
	a->verb = READ;
	a->len = len > a->len ? len : a->len;
	check(a);
	if (len < LARGEST && a->ret > 0 && a->data[a->ret - 1] != '\n')
		wrong("no newline ends what was read in pieces of %zu", piece);
}

/* ----------------------------------------------------------------- threads -- */

static pthread_barrier_t start;

static const char *foul; /* what a thread saw that must not be */

/* What is read from the start is of one answer. */
static void use_pread(int fd)
{
	char data[LARGEST];
	ssize_t n = pread(fd, data, sizeof(data), 0);
	bool known;

	known = n > 0 && begins(data, n, NULL);
	for (int i = 0; n > 0 && i < nr_questions && !known; i++)
		known = !questions[i].err && begins(data, n, &questions[i]);
	if (!known)
		foul = "what was read is no answer";
}

static void use_write(int fd, const struct question *q)
{
	ssize_t n = write(fd, q->text, strlen(q->text));

	if (n < 0 ? errno != q->err && errno != EAGAIN :
		    q->err || n != (ssize_t)strlen(q->text))
		foul = "a write ended otherwise";
}

static void *use(void *arg)
{
	uintptr_t n = (uintptr_t)arg;
	char data[2048];

	pthread_barrier_wait(&start);
	for (int i = 0; i < ROUNDS; i++) {
		n = (n * 1103515245 + 12345) & INT32_MAX;
		if (n >> 16 & 1)
			use_write(act->fd,
				  &questions[(n >> 20) % nr_questions]);
		else if (n >> 17 & 1)
			use_pread(act->fd);
		else if (n >> 18 & 1)
			lseek(act->fd, (n >> 20) % 3000, SEEK_SET);
		else if (read(act->fd, data, (n >> 20) % sizeof(data)) < 0)
			foul = "read was refused";
	}
	return NULL;
}

/* Lines that are read whole have as many words as the first of them. */
static bool is_table(const char *data, ssize_t len)
{
	int words = 0, wanted = 0;
	bool whole = false;

	for (ssize_t i = 1; i < len; i++) {
		if (data[i] > ' ' && data[i - 1] <= ' ')
			words++;
		if (data[i] != '\n')
			continue;
		if (whole && wanted && words != wanted)
			return false;
		wanted = whole ? words : 0;
		whole = true;
		words = 0;
	}
	return true;
}

/* Where a read begins may be in a line of which another thread had a part. */
static void *use_listing(void *arg)
{
	uintptr_t n = (uintptr_t)arg;
	char data[2048];
	ssize_t got;

	pthread_barrier_wait(&start);
	for (int i = 0; i < ROUNDS; i++) {
		n = (n * 1103515245 + 12345) & INT32_MAX;
		if (n >> 16 & 1) {
			lseek(act->fd, (n >> 20) % 3000, SEEK_SET);
			continue;
		}
		got = n >> 17 & 1 ? pread(act->fd, data, sizeof(data), 0) :
				    read(act->fd, data, (n >> 20) % 2048);
		if (got < 0)
			foul = "read was refused";
		else if (!is_table(data, got))
			foul = "what was read are no lines";
	}
	return NULL;
}

static void share_with(void *(*thread)(void *))
{
	pthread_t threads[THREADS];

	foul = NULL;
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, thread,
				   (void *)(uintptr_t)chance(1 << 20)))
			die("pthread_create");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (foul)
		wrong("%s", foul);
}

/* Afterwards nobody knows what was asked last; so a question is asked. */
static void share(struct act *a)
{
	if (a->d->kind == LIST)
		return share_with(use_listing);
	if (a->d->kind != OWN)
		return;
	share_with(use);
	a->verb = WRITE;
	a->bad = false;
	a->q = &questions[0];
	a->len = strlen(a->q->text);
	strcpy(a->text, a->q->text);
	do
		perform(a);
	while (a->ret < 0 && a->err == EAGAIN);
	check(a);
}

/* -------------------------------------------------------------------- main -- */

static void copy(struct description *d)
{
	int i = chance(2);

	/* what is left of two keeps the file open */
	close(d->fds[i]);
	d->fds[i] = fcntl(d->fds[!i], F_DUPFD_CLOEXEC, 0);
	if (d->fds[i] < 0)
		die("dup");
}

static void one_case(void)
{
	enum verb verb;

	choose(act);
	verb = act->verb;
	if (verb == READ_ALL) {
		read_all(act);
	} else if (verb == SHARE) {
		share(act);
	} else if (verb == REOPEN) {
		open_file(act->d);
	} else if (verb == COPY) {
		copy(act->d);
	} else {
		if (chance(200))
			perform(act);
		else
			perform_in_child(act);
		check(act);
		counts[verb][act->ret < 0]++;
		return;
	}
	counts[verb][0]++;
}

static void set_up(uint64_t seed)
{
	state = seed * 0x9e3779b97f4a7c15ULL + 1;
	make_family();
	add_questions();
	act = mmap(NULL, sizeof(*act), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	source = open("/init", O_RDONLY | O_CLOEXEC);
	if (act == MAP_FAILED || source < 0 || pipe2(ends, O_CLOEXEC) ||
	    pthread_barrier_init(&start, NULL, THREADS))
		die("set up");
	for (int i = 0; i < FILES; i++)
		open_file(&files[i]);
}

int main(int argc, char *argv[])
{
	unsigned long number;

	if (argc != 3) {
		fputs("usage: misuse SEED CASES\n", stderr);
		return 2;
	}
	number = strtoul(argv[2], NULL, 0);
	set_up(strtoull(argv[1], NULL, 0));
	/* nobody has asked yet but whoever was here before */
	if (write(files[0].fds[0], questions[0].text,
		  strlen(questions[0].text)) < 0)
		die(RMAPVIZ);
	asked(&files[0], &questions[0]);
	for (cases = 0; cases < number; cases++)
		one_case();
	for (int i = 0; i < VERBS; i++)
		printf("%s %lu %lu\n", verbs[i], counts[i][0], counts[i][1]);
	printf("in-children %lu 0\nagain %lu 0\n", children, again);
	return 0;
}
