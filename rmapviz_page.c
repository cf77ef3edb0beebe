// SPDX-License-Identifier: GPL-2.0
/*
 * What a page is, apart from who maps it.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/pagemap.h>

#include "rmapviz.h"
#include "rmapviz_compat.h"

/* No allocation is larger, whatever the kernel calls its limit. */
#define RV_ORDER_MAX 20

static unsigned long rv_mapping_of(const struct folio *folio)
{
	return (unsigned long)READ_ONCE(folio->mapping);
}

/*
 * A free block keeps its order in its first page only.  Nothing is locked, so
 * a block that is being taken apart may be missed.
 */
static bool rv_page_is_free(struct page *page)
{
	unsigned long pfn = page_to_pfn(page);
	unsigned int order;

	if (page_ref_count(page))
		return false;
	for (order = 0; order <= RV_ORDER_MAX; order++) {
		unsigned long head = pfn & ~((1UL << order) - 1);
		struct page *block = pfn_to_online_page(head);

		if (!block)
			return false;
		if (PageBuddy(block)) {
			order = min_t(unsigned long, page_private(block),
				      RV_ORDER_MAX);
			return pfn - head < 1UL << order;
		}
	}
	return false;
}

/* Kinds that rmap knows nothing of. */
static enum rv_kind rv_unmapped_kind(struct page *page, struct folio *folio)
{
	if (is_zero_pfn(page_to_pfn(page)))
		return RV_KIND_ZERO;
	if (PageOffline(page))
		return RV_KIND_OFFLINE;
	if (PageReserved(page))
		return RV_KIND_RESERVED;
	if (PageSlab(&folio->page))
		return RV_KIND_SLAB;
	if (PageTable(page))
		return RV_KIND_PAGETABLE;
	if (rv_page_is_free(page))
		return RV_KIND_FREE;
	if ((rv_mapping_of(folio) & RV_MAPPING_BITS) == RV_MAPPING_BITS_MOVABLE)
		return RV_KIND_MOVABLE;
	return RV_KIND_OTHER;
}

static enum rv_kind rv_kind(struct page *page, struct folio *folio)
{
	if (folio_test_hugetlb(folio))
		return RV_KIND_HUGETLB;
	if (folio_ref_count(folio) && !PageSlab(&folio->page)) {
		if (folio_test_ksm(folio))
			return RV_KIND_KSM;
		if (folio_test_anon(folio))
			return RV_KIND_ANON;
		if (folio_test_lru(folio) && rv_mapping_of(folio))
			return folio_test_swapbacked(folio) ? RV_KIND_SHMEM :
							      RV_KIND_FILE;
	}
	return rv_unmapped_kind(page, folio);
}

static enum rv_mapping rv_mapping(const struct rv_page *facts,
				  struct folio *folio)
{
	unsigned long mapping = rv_mapping_of(folio);

	if (facts->kind >= RV_KIND_ZERO && facts->kind != RV_KIND_MOVABLE)
		return RV_MAPPING_NONE;
	if (mapping < PAGE_SIZE)
		return RV_MAPPING_NONE;
	switch (mapping & RV_MAPPING_BITS) {
	case RV_MAPPING_BIT_ANON:
		return RV_MAPPING_ANON_VMA;
	case RV_MAPPING_BITS_KSM:
		return RV_MAPPING_KSM;
	case RV_MAPPING_BITS_MOVABLE:
		return RV_MAPPING_MOVABLE;
	default:
		return RV_MAPPING_FILE;
	}
}

/*
 * The references that mappings and caches explain, as folio_expected_ref_count()
 * of include/linux/mm.h counts them, and the one that a per-CPU LRU batch or
 * whoever isolated the folio holds while it is on no LRU list.
 */
static s64 rv_expected_refs(struct folio *folio)
{
	s64 nr = folio_nr_pages(folio);
	s64 refs = rv_folio_mapcount(folio);

	if (folio_test_hugetlb(folio))
		return refs + (!folio_test_anon(folio) && folio->mapping);
	if (folio_test_anon(folio)) {
		if (folio_test_swapcache(folio))
			refs += nr;
	} else if (folio->mapping) {
		refs += nr + folio_test_private(folio);
	}
	return refs + !folio_test_lru(folio);
}

/**
 * rv_page_walkable() - may this folio be given to rmap_walk()?
 * @folio: the folio, referenced
 *
 * Anonymous folios need not be on an LRU list: fresh ones wait in a per-CPU
 * batch.  Others must be, or be hugetlb, because drivers keep things of their
 * own in the mapping of pages that they map into processes.
 *
 * Context: Any; the answer holds while the folio is locked.
 */
bool rv_page_walkable(struct folio *folio)
{
	unsigned long mapping = rv_mapping_of(folio);

	if (folio_test_hugetlb(folio))
		return mapping && folio_mapped(folio);
	if (folio_test_slab(folio) || !folio_mapped(folio))
		return false;
	switch (mapping & RV_MAPPING_BITS) {
	case RV_MAPPING_BIT_ANON:
	case RV_MAPPING_BITS_KSM:
		return true;
	case 0:
		return mapping && folio_test_lru(folio);
	default:
		return false;
	}
}

/* Pages of a hugetlb folio have it in the first one. */
static bool rv_page_exclusive(struct page *page, struct folio *folio)
{
	if (!folio_test_anon(folio) || folio_test_ksm(folio))
		return false;
	return PageAnonExclusive(folio_test_hugetlb(folio) ? &folio->page :
							     page);
}

/**
 * rv_page_facts() - describe a page
 * @facts: the description to fill
 * @page: the page
 * @folio: its folio
 * @own_refs: references on the folio that the caller holds: none of a free
 *	page, which is then described as it looks from outside
 * @own_lock: the caller holds the folio lock
 *
 * Context: Any; a consistent description needs the folio lock.
 */
void rv_page_facts(struct rv_page *facts, struct page *page,
		   struct folio *folio, int own_refs, bool own_lock)
{
	facts->pfn = page_to_pfn(page);
	facts->head = folio_pfn(folio);
	facts->ptr = (unsigned long)page;
	facts->flags = rv_folio_flags(folio);
	if (own_lock)
		facts->flags &= ~BIT(PG_locked);
	facts->order = own_refs ? folio_order(folio) : 0;
	facts->refcount = folio_ref_count(folio) - own_refs;
	facts->kind = rv_kind(page, folio);
	facts->mapping = rv_mapping(facts, folio);
	if (facts->mapping != RV_MAPPING_NONE) {
		facts->mapping_ptr = rv_mapping_of(folio) & ~RV_MAPPING_BITS;
		facts->index =
			rv_folio_pgoff(folio) + (facts->pfn - facts->head);
	}
	if (rv_kind_mapped(facts->kind)) {
		facts->mapcount = rv_page_mapcount(folio, page);
		facts->expected_refs = rv_expected_refs(folio);
		facts->exclusive = own_refs && rv_page_exclusive(page, folio);
	} else {
		facts->expected_refs = facts->refcount;
	}
}
