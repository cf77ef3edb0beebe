// SPDX-License-Identifier: GPL-2.0-only
/*
 * cost - what a question costs, to ask and to read the answer
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
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL

static const char usage[] =
	"usage: cost ask FILE QUERY RUNS    write the query, read the answer:\n"
	"                                   prints WRITE READ BYTES\n"
	"       cost sweep FILE FIRST COUNT OPTIONS  one question a frame: prints\n"
	"                                   WRITE READ of all together\n"
	"       cost pagemaps PFN           look for it in all pagemaps\n"
	"       cost address PFN ADDRESS    only at that address of each process\n"
	"       cost kpage FIRST COUNT      kpageflags and kpagecount of frames\n"
	"                                   print COST FOUND\n";

static char buf[1 << 20];

static unsigned long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

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

static int cost_sweep(const char *file, unsigned long long first,
		      unsigned long long count, const char *options)
{
	unsigned long long writes = 0, reads = 0, pfn;
	int fd = open(file, O_RDWR);
	char query[100];
	size_t bytes;

	if (fd < 0)
		die(file);
	for (pfn = first; pfn < first + count; pfn++) {
		snprintf(query, sizeof(query), "%llu %s", pfn, options);
		writes += ask(fd, query, strlen(query));
		reads += read_all(fd, &bytes);
	}
	printf("%llu %llu\n", writes, reads);
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
	if (argc == 3 && !strcmp(argv[1], "pagemaps"))
		return cost_pagemaps(number(argv[2]), 0);
	if (argc == 4 && !strcmp(argv[1], "address"))
		return cost_pagemaps(number(argv[2]), number(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "kpage"))
		return cost_kpage(number(argv[2]), number(argv[3]));
	fputs(usage, stderr);
	return 2;
}
