// SPDX-License-Identifier: GPL-2.0
/*
 * The words of a report: what text and JSON call things.
 */
#include <linux/ctype.h>
#include <linux/mm.h>
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
		return rv_file_at(s, vma->file)->name;
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
