// SPDX-License-Identifier: GPL-2.0
/*
 * The words of a report: what text and JSON call things.
 */
#include <linux/mm.h>
#include <linux/trace_events.h>
#include <trace/events/mmflags.h>

#include "rmapviz_report.h"

const struct rv_word rv_kind_words[RV_NR_KINDS] = {
	[RV_KIND_ANON] = RV_WORD("anon"),
	[RV_KIND_KSM] = RV_WORD("ksm"),
	[RV_KIND_FILE] = RV_WORD("file"),
	[RV_KIND_SHMEM] = RV_WORD("shmem"),
	[RV_KIND_HUGETLB] = RV_WORD("hugetlb"),
	[RV_KIND_ZERO] = RV_WORD("zero"),
	[RV_KIND_FREE] = RV_WORD("free"),
	[RV_KIND_SLAB] = RV_WORD("slab"),
	[RV_KIND_PAGETABLE] = RV_WORD("pagetable"),
	[RV_KIND_RESERVED] = RV_WORD("reserved"),
	[RV_KIND_MOVABLE] = RV_WORD("movable"),
	[RV_KIND_OFFLINE] = RV_WORD("offline"),
	[RV_KIND_DEVICE] = RV_WORD("device"),
	[RV_KIND_OTHER] = RV_WORD("other"),
};

const struct rv_word rv_mapping_words[RV_NR_MAPPINGS] = {
	[RV_MAPPING_ANON_VMA] = RV_WORD("anon_vma"),
	[RV_MAPPING_KSM] = RV_WORD("ksm"),
	[RV_MAPPING_FILE] = RV_WORD("file"),
};

const struct rv_word rv_level_words[] = {
	[RV_LEVEL_PTE] = RV_WORD("pte"),
	[RV_LEVEL_PMD] = RV_WORD("pmd"),
	[RV_LEVEL_PUD] = RV_WORD("pud"),
};

const struct rv_word rv_outcome_words[] = {
	[RV_SWAP_SUCCESS] = RV_WORD("SWAP_SUCCESS"),
	[RV_SWAP_AGAIN] = RV_WORD("SWAP_AGAIN"),
	[RV_SWAP_FAIL] = RV_WORD("SWAP_FAIL"),
};

/* By bit: RV_PTE_* and RV_REASON_*. */
const struct rv_word rv_pte_flag_words[] = {
	RV_WORD("present"),    RV_WORD("write"),   RV_WORD("user"),
	RV_WORD("accessed"),   RV_WORD("dirty"),   RV_WORD("nx"),
	RV_WORD("soft-dirty"), RV_WORD("uffd-wp"), RV_WORD("special"),
	RV_WORD("protnone"),
};

const struct rv_word rv_reason_words[] = {
	RV_WORD("mlocked"),   RV_WORD("unevictable"), RV_WORD("referenced"),
	RV_WORD("pinned"),    RV_WORD("no-swap"),     RV_WORD("hugetlb"),
	RV_WORD("writeback"), RV_WORD("locked"),      RV_WORD("missed"),
	RV_WORD("dirty"),
};

const struct rv_word rv_verdict_words[] = {
	[RV_MOVES] = RV_WORD("yes"),
	[RV_MOVES_NOT_NOW] = RV_WORD("not now"),
	[RV_MOVES_NEVER] = RV_WORD("no"),
};

const struct rv_word rv_chain_words[] = {
	[RV_CHAIN_NONE] = RV_WORD("none"),
	[RV_CHAIN_DIRECT] = RV_WORD("direct"),
	[RV_CHAINED] = RV_WORD("chained"),
};

/* By bit: RV_STAYS_*. */
const struct rv_word rv_stays_words[] = {
	RV_WORD("extra-refs"), RV_WORD("dma-pins"),    RV_WORD("writeback"),
	RV_WORD("locked"),     RV_WORD("unevictable"), RV_WORD("missed"),
	RV_WORD("unmapped"),   RV_WORD("unmovable"),
};

/* The kernel's own names of a page's flags, as %pGp prints them. */
static const struct trace_print_flags rv_page_flags[] = {
	__def_pageflag_names,
};

/**
 * rv_next_page_flag() - the flags of a page by name, one after the other
 * @page: the page
 * @i: where to go on: 0 at first
 *
 * Context: Any.
 * Return: the name of the next flag, or NULL after the last.
 */
const char *rv_next_page_flag(const struct rv_page *page, u32 *i)
{
	const u32 n = ARRAY_SIZE(rv_page_flags);

	while (*i < n) {
		const struct trace_print_flags *flag = &rv_page_flags[(*i)++];

		if (page->flags & flag->mask)
			return flag->name;
	}
	/* Two that a bit of the flags word does not tell for every page. */
	if (*i == n) {
		++*i;
		if (page->swapcache)
			return "swapcache";
	}
	if (*i == n + 1) {
		++*i;
		if (page->exclusive)
			return "anon-exclusive";
	}
	return NULL;
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
