// SPDX-License-Identifier: GPL-2.0
/*
 * From a snapshot to a report: what text and JSON have in common.
 */
#include <linux/ctype.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "rmapviz_report.h"

/* clang-format off */
const char *const rv_kind_names[RV_NR_KINDS] = {
	[RV_KIND_ANON] = "anon",
	[RV_KIND_KSM] = "ksm",
	[RV_KIND_FILE] = "file",
	[RV_KIND_SHMEM] = "shmem",
	[RV_KIND_HUGETLB] = "hugetlb",
	[RV_KIND_ZERO] = "zero",
	[RV_KIND_FREE] = "free",
	[RV_KIND_SLAB] = "slab",
	[RV_KIND_PAGETABLE] = "pagetable",
	[RV_KIND_RESERVED] = "reserved",
	[RV_KIND_MOVABLE] = "movable",
	[RV_KIND_OFFLINE] = "offline",
	[RV_KIND_DEVICE] = "device",
	[RV_KIND_OTHER] = "other",
};

/* clang-format on */

const char *const rv_mapping_names[RV_NR_MAPPINGS] = {
	[RV_MAPPING_ANON_VMA] = "anon_vma",
	[RV_MAPPING_KSM] = "ksm",
	[RV_MAPPING_FILE] = "file",
};

const char *const rv_level_names[] = {
	[RV_LEVEL_PTE] = "pte",
	[RV_LEVEL_PMD] = "pmd",
	[RV_LEVEL_PUD] = "pud",
};

const char *const rv_outcome_names[] = {
	[RV_SWAP_SUCCESS] = "SWAP_SUCCESS",
	[RV_SWAP_AGAIN] = "SWAP_AGAIN",
	[RV_SWAP_FAIL] = "SWAP_FAIL",
};

/* The names of the bits that are set. */
static void rv_bit_names(char *buf, size_t size, u16 bits,
			 const char *const *names, size_t nr_names)
{
	size_t len = 0, i;

	buf[0] = '\0';
	for (i = 0; i < nr_names; i++)
		if (bits & BIT(i))
			len += scnprintf(buf + len, size - len, "%s%s",
					 len ? "|" : "", names[i]);
}

void rv_pte_flag_names(char *buf, size_t size, u16 flags)
{
	static const char *const names[] = {
		"present", "write",	 "user",    "accessed", "dirty",
		"nx",	   "soft-dirty", "uffd-wp", "special",	"protnone",
	};

	rv_bit_names(buf, size, flags, names, ARRAY_SIZE(names));
}

void rv_reason_names(char *buf, size_t size, u16 reasons)
{
	static const char *const names[] = {
		"mlocked", "unevictable", "referenced", "pinned", "no-swap",
		"hugetlb", "writeback",	  "locked",	"missed", "dirty",
	};

	rv_bit_names(buf, size, reasons, names, ARRAY_SIZE(names));
}

/*
 * The kernel's own names, by %pGp: 0x...(uptodate|lru|node=0|zone=1), or on
 * 5.10 the names alone.  What is a number or has a value is not a flag.
 */
void rv_page_flag_names(char *buf, size_t size, const struct rv_page *page)
{
	char all[RV_FLAGS_LEN], *at = all, *name;
	size_t len = 0;

	buf[0] = '\0';
	snprintf(all, sizeof(all), "%pGp", &page->flags);
	while ((name = strsep(&at, "(|)"))) {
		if (!isalpha(*name) || strchr(name, '='))
			continue;
		len += scnprintf(buf + len, size - len, "%s%s", len ? "|" : "",
				 name);
	}
	if (page->swapcache)
		len += scnprintf(buf + len, size - len, "%sswapcache",
				 len ? "|" : "");
	if (page->exclusive)
		scnprintf(buf + len, size - len, "%sanon-exclusive",
			  len ? "|" : "");
}

const char *rv_vma_name(const struct rv_snap *s, const struct rv_vma *vma)
{
	switch (vma->area) {
	case RV_AREA_FILE:
		if (vma->file == RV_NONE)
			return NULL;
		return rv_rec(&s->files, rv_file, vma->file)->name;
	case RV_AREA_HEAP:
		return "[heap]";
	case RV_AREA_STACK:
		return "[stack]";
	default:
		return NULL;
	}
}

const char *rv_vma_perms(const struct rv_vma *vma, char *buf)
{
	buf[0] = vma->vm_flags & VM_READ ? 'r' : '-';
	buf[1] = vma->vm_flags & VM_WRITE ? 'w' : '-';
	buf[2] = vma->vm_flags & VM_EXEC ? 'x' : '-';
	buf[3] = vma->vm_flags & VM_MAYSHARE ? 's' : 'p';
	buf[4] = '\0';
	return buf;
}

static const struct rv_section *rv_sections(const struct rv_snap *s)
{
	return s->query.opts & RV_OPT_JSON ? rv_json_sections :
					     rv_text_sections;
}

static u64 rv_section_items(const struct rv_section *section,
			    const struct rv_snap *s)
{
	return !!section->head + (section->count ? section->count(s) : 0);
}

/**
 * rv_report_items() - number of items that a report has
 * @s: the snapshot
 *
 * Context: Any.
 * Return: the number; it does not change while the snapshot lives.
 */
u64 rv_report_items(const struct rv_snap *s)
{
	const struct rv_section *section;
	u64 items = 0;

	for (section = rv_sections(s); section->head || section->line;
	     section++)
		items += rv_section_items(section, s);
	return items;
}

/**
 * rv_report_show() - print one item of a report
 * @m: where to print
 * @s: the snapshot
 * @item: the item, from 0 to below rv_report_items()
 *
 * Context: Process context.
 */
void rv_report_show(struct seq_file *m, const struct rv_snap *s, u64 item)
{
	const struct rv_section *section = rv_sections(s);

	while (item >= rv_section_items(section, s))
		item -= rv_section_items(section++, s);
	if (!section->head)
		section->line(m, s, item);
	else if (item)
		section->line(m, s, item - 1);
	else
		section->head(m, s);
}

/* As it is shown. */
/* clang-format off */
static const char rv_usage[] =
	"rmapviz " RV_VERSION
	": who maps a physical page?  Write one line, then read.\n"
	"\n"
	"  echo 0x1d2f3 > rmapviz            a page frame number; also \"pfn 0x1d2f3\"\n"
	"  echo phys 0x1d2f3000 > rmapviz    the page at a physical address\n"
	"  echo pid 91 0x7f8c56e29000 > rmapviz\n"
	"                                    the page that process 91 maps there\n"
	"  echo pid 91 > rmapviz             no page: all anon_vma trees of process 91\n"
	"\n"
	"options, after the target:\n"
	"  text    for the eye (default)     json    the same facts for programs\n"
	"  folio   every page of the folio   brief   page and cost only\n"
	"  ptrs    with kernel addresses     verify  compare with a scan of all memory\n"
	"\n"
	"Reading asks the last question again, so \"watch cat rmapviz\" works.\n"
	"\n"
	"Where lockdown forbids to write here, ask by a parameter:\n"
	"  echo 0x1d2f3 > /sys/module/rmapviz/parameters/query; cat rmapviz_answer\n";
/* clang-format on */

/**
 * rv_report_usage() - explain the query file
 * @m: where to print
 *
 * Context: Process context.
 */
void rv_report_usage(struct seq_file *m)
{
	seq_puts(m, rv_usage);
}
