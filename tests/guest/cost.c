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
#include <inttypes.h>
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

static uint64_t now(void)
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

static uint64_t ask(int fd, const char *query, size_t len)
{
	uint64_t start = now();

	if (write(fd, query, len) != (ssize_t)len)
		die(query);
	return now() - start;
}

static uint64_t read_all(int fd, size_t *bytes)
{
	uint64_t start;
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
	uint64_t least_write = UINT64_MAX, least_read = UINT64_MAX, cost;
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
	printf("%" PRIu64 " %" PRIu64 " %zu\n", least_write, least_read, bytes);
	return 0;
}

static int cost_sweep(const char *file, uint64_t first, uint64_t count,
		      const char *options)
{
	uint64_t writes = 0, reads = 0, pfn;
	int fd = open(file, O_RDWR);
	char query[100];
	size_t bytes;

	if (fd < 0)
		die(file);
	for (pfn = first; pfn < first + count; pfn++) {
		snprintf(query, sizeof(query), "%" PRIu64 " %s", pfn, options);
		writes += ask(fd, query, strlen(query));
		reads += read_all(fd, &bytes);
	}
	printf("%" PRIu64 " %" PRIu64 "\n", writes, reads);
	return 0;
}

static uint64_t count_in(int pagemap, uint64_t start, uint64_t end,
			 uint64_t pfn)
{
	uint64_t *entries = (uint64_t *)buf, found = 0;
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
static uint64_t count_process(const char *pid, uint64_t pfn, uint64_t address)
{
	char name[300], line[1000];
	uint64_t start, end, found = 0;
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
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 &&
		    !(start >> 63))
			found += count_in(pagemap, start, end, pfn);
	if (maps)
		fclose(maps);
	close(pagemap);
	return found;
}

static int cost_pagemaps(uint64_t pfn, uint64_t address)
{
	uint64_t start = now(), found = 0;
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	if (!proc)
		die("/proc");
	while ((entry = readdir(proc)))
		if (isdigit(entry->d_name[0]))
			found += count_process(entry->d_name, pfn, address);
	closedir(proc);
	printf("%" PRIu64 " %" PRIu64 "\n", now() - start, found);
	return 0;
}

static int cost_kpage(uint64_t first, uint64_t count)
{
	int flags = open("/proc/kpageflags", O_RDONLY);
	int counts = open("/proc/kpagecount", O_RDONLY);
	uint64_t start = now();
	ssize_t n = 0;

	if (flags < 0 || counts < 0 || count * 8 > sizeof(buf))
		die("/proc/kpageflags");
	n += pread(flags, buf, count * 8, first * 8);
	n += pread(counts, buf, count * 8, first * 8);
	printf("%" PRIu64 " %zd\n", now() - start, n / 16);
	return 0;
}

static uint64_t number(const char *word)
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
