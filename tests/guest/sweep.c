// SPDX-License-Identifier: GPL-2.0-only
/*
 * sweep - ask rmapviz for every frame of a range, and be brief about it
 *
 * For each it prints the PFN, what came of the query, the kind that the report
 * says, and /proc/kpageflags just before and just after:
 *
 *	1d2f3 ok anon 5868 5868
 *	fffff ENXIO - 100000 100000
 *
 * A report is asked for as text and as JSON.  One that is not whole is shown
 * as the errno EBADMSG, and itself on standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "errname.h"

#define RMAPVIZ	   "/sys/kernel/debug/rmapviz"
#define KPAGEFLAGS "/proc/kpageflags"

struct report {
	char *text;
	size_t len, size;
};

static int open_file(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC);

	if (fd < 0) {
		perror(name);
		exit(2);
	}
	return fd;
}

/* Past the end of memory there is nothing to read. */
static uint64_t flags_of(int fd, uint64_t pfn)
{
	uint64_t flags;

	if (pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)) !=
	    sizeof(flags))
		return 1ULL << 20; /* KPF_NOPAGE */
	return flags;
}

static int read_all(int fd, struct report *r)
{
	ssize_t n;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return errno;
	for (r->len = 0;; r->len += n) {
		if (r->size - r->len < 65536) {
			r->size = 2 * r->size + 65536;
			r->text = realloc(r->text, r->size);
			if (!r->text)
				exit(2);
		}
		n = read(fd, r->text + r->len, r->size - r->len - 1);
		if (n <= 0)
			break;
	}
	r->text[r->len] = '\0';
	return n < 0 ? errno : 0;
}

/* 0 or the errno of the query or of reading the answer */
static int ask(int fd, uint64_t pfn, const char *format, struct report *r)
{
	char query[64];
	int n = snprintf(query, sizeof(query), "0x%lx %s", (unsigned long)pfn,
			 format);

	if (write(fd, query, n) != n)
		return errno;
	return read_all(fd, r);
}

/* One object that is closed with the last character, and a newline. */
static bool is_whole_json(const struct report *r)
{
	bool in_string = false;
	int depth = 0;

	for (size_t i = 0; i + 1 < r->len; i++) {
		char c = r->text[i];

		if (in_string && c == '\\')
			i++;
		else if (c == '"')
			in_string = !in_string;
		else if (!in_string && (c == '{' || c == '['))
			depth++;
		else if (!in_string && (c == '}' || c == ']'))
			depth--;
		if (!depth && i + 2 < r->len)
			return false;
	}
	return !depth && r->len > 2 && r->text[r->len - 1] == '\n';
}

static bool is_whole_text(const struct report *r, uint64_t pfn)
{
	char head[32];
	int n = snprintf(head, sizeof(head), "PFN 0x%lx", (unsigned long)pfn);

	return r->len > (size_t)n && !memcmp(r->text, head, n) &&
	       r->text[r->len - 1] == '\n' && !memchr(r->text, 0, r->len);
}

static void copy_kind(const struct report *r, char kind[16])
{
	static const char key[] = "\"kind\": \"";
	const char *start = strstr(r->text, key);

	snprintf(kind, 16, "-");
	if (!start)
		return;
	start += sizeof(key) - 1;
	snprintf(kind, 16, "%.*s", (int)strcspn(start, "\""), start);
}

static int ask_both(int fd, uint64_t pfn, struct report *r, char kind[16])
{
	int err = ask(fd, pfn, "text", r);

	if (!err && !is_whole_text(r, pfn))
		err = EBADMSG;
	if (!err)
		err = ask(fd, pfn, "json", r);
	if (!err && !is_whole_json(r))
		err = EBADMSG;
	if (!err)
		copy_kind(r, kind);
	return err;
}

static void sweep(uint64_t first, uint64_t last)
{
	int fd = open_file(RMAPVIZ, O_RDWR);
	int flags = open_file(KPAGEFLAGS, O_RDONLY);
	struct report r = {};

	for (uint64_t pfn = first; pfn <= last; pfn++) {
		char kind[16] = "-";
		uint64_t before = flags_of(flags, pfn);
		int err = ask_both(fd, pfn, &r, kind);
		uint64_t after = flags_of(flags, pfn);

		if (err == EBADMSG)
			fprintf(stderr, "%s\n", r.text);
		printf("%lx %s %s %lx %lx\n", (unsigned long)pfn,
		       err ? errname(err) : "ok", kind, (unsigned long)before,
		       (unsigned long)after);
	}
	free(r.text);
	close(flags);
	close(fd);
}

int main(int argc, char *argv[])
{
	if (argc != 3) {
		fputs("usage: sweep FIRST LAST\n", stderr);
		return 2;
	}
	/* ahead of what goes on meanwhile, which would take most of the time */
	setpriority(PRIO_PROCESS, 0, -10);
	sweep(strtoull(argv[1], NULL, 0), strtoull(argv[2], NULL, 0));
	return fflush(stdout) ? 2 : 0;
}
