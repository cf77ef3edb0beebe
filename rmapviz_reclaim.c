// SPDX-License-Identifier: GPL-2.0
/*
 * Would reclaim succeed?  A dry run of try_to_unmap() over what was found.
 *
 * The outcome is named in the terms of the 2.6 API.  SWAP_FAIL: reclaim would
 * leave the page where it is.  SWAP_AGAIN: it would come back later.
 * SWAP_SUCCESS: all mappings would go; a dirty page would then be written.
 */
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/swap.h>

#include "rmapviz.h"
#include "rmapviz_snap.h"

#define RV_REASONS_FAIL                                                     \
	(RV_REASON_MLOCKED | RV_REASON_UNEVICTABLE | RV_REASON_REFERENCED | \
	 RV_REASON_PINNED | RV_REASON_NO_SWAP | RV_REASON_HUGETLB)

#define RV_REASONS_AGAIN \
	(RV_REASON_WRITEBACK | RV_REASON_LOCKED | RV_REASON_MISSED)

/* Swap is what anonymous and shared memory goes to, unless it has gone. */
static bool rv_lacks_swap(const struct rv_snap *s, bool dirty)
{
	const struct rv_page *page = &s->page;
	bool swapbacked = page->flags & BIT(PG_swapbacked);

	if (page->kind == RV_KIND_FILE || page->swapcache)
		return false;
	/* MADV_FREE: what is still clean is dropped. */
	if (!swapbacked && !dirty)
		return false;
	return s->reclaim.swap_free <= 0;
}

static u16 rv_reasons(const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;
	const struct rv_reclaim *r = &s->reclaim;
	bool dirty = r->dirty || page->flags & BIT(PG_dirty);
	u16 reasons = 0;

	if (page->kind == RV_KIND_HUGETLB)
		reasons |= RV_REASON_HUGETLB;
	else if (rv_lacks_swap(s, dirty))
		reasons |= RV_REASON_NO_SWAP;
	if (r->mlocked)
		reasons |= RV_REASON_MLOCKED;
	if (page->flags & BIT(PG_unevictable))
		reasons |= RV_REASON_UNEVICTABLE;
	if (r->young)
		reasons |= RV_REASON_REFERENCED;
	if (page->refcount > page->expected_refs)
		reasons |= RV_REASON_PINNED;
	if (page->flags & BIT(PG_writeback))
		reasons |= RV_REASON_WRITEBACK;
	if (page->flags & BIT(PG_locked))
		reasons |= RV_REASON_LOCKED;
	if (r->found < page->folio_mapcount)
		reasons |= RV_REASON_MISSED;
	if (dirty)
		reasons |= RV_REASON_DIRTY;
	return reasons;
}

/**
 * rv_judge_reclaim() - would reclaim succeed with the folio of a snapshot?
 * @s: the snapshot, in order; outcome and reasons are set
 *
 * Follows what shrink_folio_list() and try_to_unmap_one() look at (mm/vmscan.c,
 * mm/rmap.c), and changes nothing.
 *
 * Context: Any.
 */
void rv_judge_reclaim(struct rv_snap *s)
{
	struct rv_reclaim *r = &s->reclaim;

	r->swap_free = get_nr_swap_pages();
	r->reasons = rv_reasons(s);
	if (r->reasons & RV_REASONS_FAIL)
		r->outcome = RV_SWAP_FAIL;
	else if (r->reasons & RV_REASONS_AGAIN)
		r->outcome = RV_SWAP_AGAIN;
	else
		r->outcome = RV_SWAP_SUCCESS;
}
