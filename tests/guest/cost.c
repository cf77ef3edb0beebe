// SPDX-License-Identifier: GPL-2.0-only
/*
 * cost - what a question costs, to ask and to read the answer, and to keep it
 *
 * Time is that of the guest's clock, which counts instructions where QEMU is
 * told to (-icount).  The least of several runs is what is printed: an interrupt
 * in between belongs to somebody else.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "program.h"

#define PAGE 4096UL

/* How often each frame of a sweep is asked for. */
#define SWEEP_RUNS 3

static const char usage[] =
	"usage: cost ask FILE QUERY RUNS    write the query, read the answer:\n"
	"                                   prints WRITE READ BYTES\n"
	"       cost sweep FILE FIRST COUNT OPTIONS  one question a frame: prints\n"
	"                                   FRAMES WRITE READ of those that were\n"
	"                                   answered at once, then of those that\n"
	"                                   were waited for\n"
	"       cost memory FILE QUERY N STAT   as many open answers: prints BYTES\n"
	"                                   of one, by the memory.stat of a group\n"
	"       cost pagemaps PFN           look for it in all pagemaps\n"
	"       cost address PFN ADDRESS    only at that address of each process\n"
	"       cost list FILE RUNS         read it all: prints READ LINES BYTES\n"
	"       cost kpage FIRST COUNT      kpageflags and kpagecount of frames\n"
	"                                   print COST FOUND\n";

static char buf[1 << 20];

static unsigned long long ask(int fd, const char *query, size_t len)
{
	unsigned long long start = now();

	if (write(fd, query, len) != (ssize_t)len)
		die(query);
	return now() - start;
}

static unsigned long long read_all(int fd, size_t *bytes)
{
	unsigned long long start;
	ssize_t n;

	*bytes = 0;
	if (lseek(fd, 0, SEEK_SET) < 0)
		die("lseek");
	start = now();
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		*bytes += n;
	if (n < 0)
		die("read");
	return now() - start;
}

static int cost_ask(const char *file, const char *query, int runs)
{
	unsigned long long least_write = ~0ULL, least_read = ~0ULL, cost;
	int fd = open(file, O_RDWR);
	size_t bytes = 0;

	if (fd < 0)
		die(file);
	while (runs--) {
		cost = ask(fd, query, strlen(query));
		least_write = cost < least_write ? cost : least_write;
		cost = read_all(fd, &bytes);
		least_read = cost < least_read ? cost : least_read;
	}
	printf("%llu %llu %zu\n", least_write, least_read, bytes);
	return 0;
}

/* What was slept while a page was busy is no instruction, but looks like some. */
static int was_waited_for(size_t bytes)
{
	static const char retries[] = "\"retries\": ";
	const char *found;

	buf[bytes < sizeof(buf) ? bytes : sizeof(buf) - 1] = '\0';
	found = strstr(buf, retries);
	return found && atoi(found + strlen(retries));
}

struct frames {
	unsigned long long frames, write, read;
};

/* The least of several runs, as for one question. */
static void ask_frame(int fd, const char *query, struct frames of[2])
{
	unsigned long long least_write = ~0ULL, least_read = ~0ULL, cost;
	int run, waited = 0;
	size_t bytes;

	for (run = 0; run < SWEEP_RUNS; run++) {
		cost = ask(fd, query, strlen(query));
		least_write = cost < least_write ? cost : least_write;
		cost = read_all(fd, &bytes);
		least_read = cost < least_read ? cost : least_read;
		waited |= was_waited_for(bytes);
	}
	of[waited].frames++;
	of[waited].write += least_write;
	of[waited].read += least_read;
}

static int cost_sweep(const char *file, unsigned long long first,
		      unsigned long long count, const char *options)
{
	struct frames of[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
	int fd = open(file, O_RDWR), i;
	unsigned long long pfn;
	char query[100];

	if (fd < 0)
		die(file);
	for (pfn = first; pfn < first + count; pfn++) {
		snprintf(query, sizeof(query), "%llu %s", pfn, options);
		ask_frame(fd, query, of);
	}
	for (i = 0; i < 2; i++)
		printf("%llu %llu %llu\n", of[i].frames, of[i].write,
		       of[i].read);
	return 0;
}

/*
 * What the kernel has for this process's group, in bytes.  It adds up its books
 * every two seconds, and when they are read only if much has come together.
 */
static long long kernel_memory(const char *stat)
{
	long long bytes = -1;
	char line[200];
	FILE *file;

	sleep(5);
	file = fopen(stat, "r");
	while (file && bytes < 0 && fgets(line, sizeof(line), file))
		sscanf(line, "kernel %lld", &bytes);
	if (bytes < 0)
		die(stat);
	fclose(file);
	return bytes;
}

/* Only asked: a buffer to read by is seq_file's, and the file's own. */
static int cost_memory(const char *file, const char *query, int n,
		       const char *stat)
{
	struct rlimit files = { n + 10, n + 10 };
	int *fds = calloc(n, sizeof(*fds)), i;
	long long before;

	if (!fds || setrlimit(RLIMIT_NOFILE, &files))
		die("setrlimit");
	for (i = 0; i < n; i++) {
		fds[i] = open(file, O_RDWR);
		if (fds[i] < 0)
			die(file);
	}
	before = kernel_memory(stat);
	for (i = 0; i < n; i++)
		ask(fds[i], query, strlen(query));
	printf("%lld\n", (kernel_memory(stat) - before) / n);
	return 0;
}

static unsigned long long count_in(int pagemap, unsigned long long start,
				   unsigned long long end,
				   unsigned long long pfn)
{
	unsigned long long *entries = (unsigned long long *)buf, found = 0;
	size_t want, i;
	ssize_t n;

	for (; start < end; start += n / 8 * PAGE) {
		want = (end - start) / PAGE * 8;
		if (want > sizeof(buf))
			want = sizeof(buf);
		n = pread(pagemap, buf, want, start / PAGE * 8);
		if (n <= 0)
			break;
		for (i = 0; i < n / sizeof(*entries); i++)
			found += entries[i] >> 63 &&
				 (entries[i] & ((1ULL << 55) - 1)) == pfn;
	}
	return found;
}

/* All of what a process maps, as its maps say. */
static unsigned long long count_process(const char *pid, unsigned long long pfn,
					unsigned long long address)
{
	char name[300], line[1000];
	unsigned long long start, end, found = 0;
	FILE *maps;
	int pagemap;

	snprintf(name, sizeof(name), "/proc/%s/pagemap", pid);
	pagemap = open(name, O_RDONLY);
	if (pagemap < 0)
		return 0;
	if (address) {
		found = count_in(pagemap, address, address + PAGE, pfn);
		close(pagemap);
		return found;
	}
	snprintf(name, sizeof(name), "/proc/%s/maps", pid);
	maps = fopen(name, "r");
	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%llx-%llx", &start, &end) == 2 &&
		    !(start >> 63))
			found += count_in(pagemap, start, end, pfn);
	if (maps)
		fclose(maps);
	close(pagemap);
	return found;
}

static int cost_pagemaps(unsigned long long pfn, unsigned long long address)
{
	unsigned long long start = now(), found = 0;
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	if (!proc)
		die("/proc");
	while ((entry = readdir(proc)))
		if (isdigit(entry->d_name[0]))
			found += count_process(entry->d_name, pfn, address);
	closedir(proc);
	printf("%llu %llu\n", now() - start, found);
	return 0;
}

static int cost_kpage(unsigned long long first, unsigned long long count)
{
	int flags = open("/proc/kpageflags", O_RDONLY);
	int counts = open("/proc/kpagecount", O_RDONLY);
	unsigned long long start = now();
	ssize_t n = 0;

	if (flags < 0 || counts < 0 || count * 8 > sizeof(buf))
		die("/proc/kpageflags");
	n += pread(flags, buf, count * 8, first * 8);
	n += pread(counts, buf, count * 8, first * 8);
	printf("%llu %zd\n", now() - start, n / 16);
	return 0;
}

/* All of a file: what it costs, how many lines and bytes it has. */
static unsigned long long list(const char *file, unsigned long long *lines,
			       unsigned long long *bytes)
{
	unsigned long long start = now(), spent;
	int fd = open(file, O_RDONLY);
	ssize_t n, i;

	*lines = 0;
	*bytes = 0;
	spent = now() - start;
	for (;;) {
		start = now();
		n = read(fd, buf, 1 << 16);
		spent += now() - start;
		if (n <= 0)
			break;
		*bytes += n;
		for (i = 0; i < n; i++)
			*lines += buf[i] == '\n';
	}
	if (fd < 0 || n < 0)
		die(file);
	close(fd);
	return spent;
}

static int cost_list(const char *file, int runs)
{
	unsigned long long least = 0, cost, lines = 0, bytes = 0;

	while (runs--) {
		cost = list(file, &lines, &bytes);
		if (!least || cost < least)
			least = cost;
	}
	printf("%llu %llu %llu\n", least, lines, bytes);
	return 0;
}

static unsigned long long number(const char *word)
{
	return strtoull(word, NULL, 0);
}

int main(int argc, char *argv[])
{
	if (argc == 5 && !strcmp(argv[1], "ask"))
		return cost_ask(argv[2], argv[3], atoi(argv[4]));
	if (argc == 6 && !strcmp(argv[1], "sweep"))
		return cost_sweep(argv[2], number(argv[3]), number(argv[4]),
				  argv[5]);
	if (argc == 6 && !strcmp(argv[1], "memory"))
		return cost_memory(argv[2], argv[3], atoi(argv[4]), argv[5]);
	if (argc == 4 && !strcmp(argv[1], "list"))
		return cost_list(argv[2], atoi(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "pagemaps"))
		return cost_pagemaps(number(argv[2]), 0);
	if (argc == 4 && !strcmp(argv[1], "address"))
		return cost_pagemaps(number(argv[2]), number(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "kpage"))
		return cost_kpage(number(argv[2]), number(argv[3]));
	fputs(usage, stderr);
	return 2;
}
