// SPDX-License-Identifier: GPL-2.0-only
/*
 * ask - put queries to rmapviz and show the answers
 *
 * A query goes out in one write, because it is the write that fails with the
 * reason, and its answer is read from the same descriptor, because that one
 * sees nobody else's queries.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errname.h"

#define RMAPVIZ "/sys/kernel/debug/rmapviz"

enum { ANSWERED, REFUSED, TROUBLE, SPARED };

static const char usage[] =
	"usage: ask QUERY...   ask one question; the words are joined by blanks\n"
	"       ask -          one query a line on standard input\n"
	"       ask -r FILE    write the bytes of FILE as they are\n"
	"       ask -o FILE    only read another file\n"
	"       ask -d CAP ... first drop a capability, by number\n"
	"       ask -f N QUERY let the Nth allocation fail; status 3 if it has fewer\n"
	"       ask -f N -o FILE\n";

static int open_file(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC);

	if (fd < 0) {
		fprintf(stderr, "ask: %s: %s (%s)\n", name, errname(errno),
			strerror(errno));
		exit(TROUBLE);
	}
	return fd;
}

static int open_rmapviz(void)
{
	return open_file(RMAPVIZ, O_RDWR);
}

/* 0 or an errno; a short write is told apart from success */
static int put_query(int fd, const char *query, size_t len)
{
	ssize_t n = write(fd, query, len);

	if (n < 0)
		return errno;
	return (size_t)n == len ? 0 : EIO;
}

/* 0 or an errno, of reading or of writing */
static int copy_answer(int fd)
{
	static char buf[1 << 16];
	ssize_t n;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (fwrite(buf, 1, n, stdout) != (size_t)n)
			return errno;
	if (n < 0 || fflush(stdout))
		return errno;
	return 0;
}

static int ask(const char *query, size_t len)
{
	int fd = open_rmapviz();
	int err = put_query(fd, query, len);

	if (!err)
		err = copy_answer(fd);
	close(fd);
	if (!err)
		return ANSWERED;
	fprintf(stderr, "ask: %.*s: %s (%s)\n", (int)strcspn(query, "\n"),
		query, errname(err), strerror(err));
	return REFUSED;
}

/* The status is the worst of all; the answers say which query it was. */
static int ask_lines(void)
{
	int fd = open_rmapviz(), worst = ANSWERED, err;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	while ((len = getline(&line, &size, stdin)) > 0) {
		len = strcspn(line, "\n");
		line[len] = '\0';
		err = put_query(fd, line, len);
		printf("== %s: %s\n", line, err ? errname(err) : "ok");
		if (!err && copy_answer(fd))
			exit(TROUBLE);
		if (err)
			worst = REFUSED;
	}
	free(line);
	close(fd);
	return fflush(stdout) ? TROUBLE : worst;
}

static int ask_file(const char *name)
{
	static char buf[1 << 16];
	int fd = open(name, O_RDONLY);
	ssize_t len = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (len < 0) {
		fprintf(stderr, "ask: %s: %s\n", name, strerror(errno));
		return TROUBLE;
	}
	close(fd);
	return ask(buf, len);
}

/* What is left to come of those that are counted; none any more after that. */
static int disarm(int control)
{
	char left[16] = "";

	if (pread(control, left, sizeof(left) - 1, 0) <= 0 ||
	    pwrite(control, "0", 1, 0) != 1) {
		perror("ask: fail-nth");
		exit(TROUBLE);
	}
	return atoi(left);
}

/*
 * Only what is done for the question is to fail: no page fault here, and no
 * output.
 */
static int ask_failing(const char *nth, const char *file, const char *query)
{
	static char answer[8 << 20];
	int fd = query ? open_rmapviz() : -1, err, left;
	int control = open_file("/proc/thread-self/fail-nth", O_RDWR);
	size_t len = 0;
	ssize_t n = 0;

	memset(answer, 1, sizeof(answer));
	if (pwrite(control, nth, strlen(nth), 0) < 0) {
		perror("ask: fail-nth");
		return TROUBLE;
	}
	if (query) {
		err = put_query(fd, query, strlen(query));
	} else {
		fd = open(file, O_RDONLY);
		err = fd < 0 ? errno : 0;
	}
	while (!err && (n = read(fd, answer + len, sizeof(answer) - len)) > 0)
		len += n;
	if (n < 0)
		err = errno;
	left = disarm(control);
	close(fd);
	if (err)
		fprintf(stderr, "ask: %s: %s (%s)\n", query ?: file,
			errname(err), strerror(err));
	else if (fwrite(answer, 1, len, stdout) != len)
		return TROUBLE;
	if (left)
		return SPARED;
	return err ? REFUSED : ANSWERED;
}

static int read_file(const char *name)
{
	return copy_answer(open_file(name, O_RDONLY)) ? TROUBLE : ANSWERED;
}

static int ask_words(char *words[])
{
	char query[4096] = "";

	for (; *words; words++) {
		if (strlen(query) + strlen(*words) + 2 > sizeof(query)) {
			fputs("ask: too many words\n", stderr);
			return TROUBLE;
		}
		if (*query)
			strcat(query, " ");
		strcat(query, *words);
	}
	return ask(query, strlen(query));
}

/* Root without a capability, which is not what the mode of a file tells. */
static int drop_capability(int cap)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (cap < 0 || cap > 63 || syscall(SYS_capget, &head, data))
		return -1;
	data[cap / 32].effective &= ~(1U << cap % 32);
	return syscall(SYS_capset, &head, data);
}

int main(int argc, char *argv[])
{
	if (argc > 3 && !strcmp(argv[1], "-d")) {
		if (drop_capability(atoi(argv[2]))) {
			perror("ask: capset");
			return TROUBLE;
		}
		argc -= 2;
		argv += 2;
	}
	if (argc == 2 && !strcmp(argv[1], "-"))
		return ask_lines();
	if (argc == 3 && !strcmp(argv[1], "-r"))
		return ask_file(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "-f"))
		return ask_failing(argv[2], NULL, argv[3]);
	if (argc == 5 && !strcmp(argv[1], "-f") && !strcmp(argv[3], "-o"))
		return ask_failing(argv[2], argv[4], NULL);
	if (argc == 3 && !strcmp(argv[1], "-o"))
		return read_file(argv[2]);
	if (argc > 1 && argv[1][0] != '-')
		return ask_words(argv + 1);
	fputs(usage, stderr);
	return TROUBLE;
}
