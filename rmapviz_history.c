// SPDX-License-Identifier: GPL-2.0
/*
 * What finding the page's mappings would have cost in each era of Linux.
 *
 * Measured is what the walk and the scan have counted: rmap as it is since
 * 2.6.34 (mm/rmap.c, anon_vma_clone()), and the search of 2.4 (mm/vmscan.c of
 * 2.4.18, swap_out()).  Modelled from the records are:
 *
 * - pte_chains, mm/rmap.c of 2.6.0, page_add_rmap(): a page that is mapped once
 *   points to the entry (PG_direct); one mapped more often points to a list of
 *   struct pte_chain, each as large as a cache line, all full but the first.
 *   So n entries take DIV_ROUND_UP(n, NRPTE) of them.
 * - objects, mm/rmap.c of 2.6.11: page_referenced_anon() goes through one list
 *   of all the VMAs of a family, and vma_address() tells those apart that do not
 *   have the page's offset; page_referenced_file() finds the right ones in
 *   i_mmap, a tree already.
 */
#include <linux/bits.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/rmap.h>
#include <linux/slab.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

/* struct anon_vma of 2.6.11 on 64 bits: a spinlock and the head of a list. */
#define RV_OBJRMAP_ANON_VMA 24

/* By line size and size of a pointer, in bytes; L1_CACHE_BYTES was all three. */
static const struct {
	u8 line;
	u8 pointer;
} rv_chain_geometries[RV_CHAIN_LAYOUTS] = {
	{ 32, 4 }, { 64, 4 }, { 128, 4 }, { 32, 8 }, { 64, 8 }, { 128, 8 },
};

/* Adds pages that are mapped so often; fork would double each mapping. */
static void rv_add_chains(struct rv_history *h, u64 mappings, u64 pages)
{
	struct rv_chain_layout *layout = h->layouts;
	u32 i;

	h->ptes += mappings * pages;
	if (mappings && pages)
		h->form = max_t(u8, h->form,
				mappings > 1 ? RV_CHAINED : RV_CHAIN_DIRECT);
	for (i = 0; i < RV_CHAIN_LAYOUTS; i++, layout++) {
		u64 now = rv_chain_blocks_of(mappings, layout->nrpte);

		layout->blocks += now * pages;
		layout->fork_blocks +=
			(rv_chain_blocks_of(2 * mappings, layout->nrpte) -
			 now) *
			pages;
	}
}

/*
 * How often each page of the folio is mapped: an entry adds one where its pages
 * begin, and takes it away behind them.
 */
static int rv_chain_folio(struct rv_snap *s)
{
	const u64 pages = 1ULL << s->page.order;
	s32 *change = rv_alloc(pages + 1, sizeof(*change));
	const struct rv_pte *pte;
	u64 i, mappings = 0, run = 0;

	if (!change)
		return -ENOMEM;
	memset(change, 0, (pages + 1) * sizeof(*change));
	rv_for_each(pte, s, RV_PTES) {
		u64 first = pte->pfn - s->page.head;

		change[min(first, pages)]++;
		change[min(first + pte->pages, pages)]--;
	}
	for (i = 0; i < pages; i++, run++) {
		rv_give_way(i);
		if (!change[i])
			continue;
		rv_add_chains(s->history, mappings, run);
		mappings += change[i];
		run = 0;
	}
	rv_add_chains(s->history, mappings, run);
	kvfree(change);
	return 0;
}

static void rv_lay_out_chains(struct rv_history *h)
{
	u32 i;

	for (i = 0; i < RV_CHAIN_LAYOUTS; i++) {
		u32 line = rv_chain_geometries[i].line;
		u32 pointer = rv_chain_geometries[i].pointer;

		/* NRPTE: what is left of a line by the link to the next one. */
		h->layouts[i] = (struct rv_chain_layout){
			.line = line,
			.pointer = pointer,
			.nrpte = (line - pointer) / pointer,
		};
	}
}

/* VMAs of the family that have the offset of a page asked for. */
static u32 rv_count_in_range(const struct rv_snap *s)
{
	const struct rv_vma *vma;
	u32 n = 0;

	rv_for_each(vma, s, RV_VMAS)
		n += vma->in_range;
	return n;
}

/* One list a family; files have a tree, in which each visit is in range. */
static void rv_model_objrmap(struct rv_snap *s)
{
	struct rv_history *h = s->history;

	h->objrmap_bytes = rv_len(s, RV_ROOTS) * RV_OBJRMAP_ANON_VMA;
	h->list = rv_len(s, RV_ROOTS) ? rv_len(s, RV_VMAS) : s->visited;
	h->in_range = rv_len(s, RV_ROOTS) ? rv_count_in_range(s) : s->visited;
}

/**
 * rv_judge_history() - what would each era have had to do?
 * @s: the snapshot, in order; what was not measured is added
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_judge_history(struct rv_snap *s)
{
	struct rv_history *h;

	if (!rv_has_history(s))
		return 0;
	h = kzalloc(sizeof(*h), RV_GFP);
	if (!h)
		return -ENOMEM;
	s->history = h;
	rv_lay_out_chains(h);
	rv_model_objrmap(s);
	h->av_avc_bytes = rv_len(s, RV_AVS) * sizeof(struct anon_vma) +
			  rv_len(s, RV_AVCS) * sizeof(struct anon_vma_chain);
	if (s->query.opts & RV_OPT_FOLIO)
		return rv_chain_folio(s);
	rv_add_chains(h, rv_len(s, RV_PTES), 1);
	return 0;
}
