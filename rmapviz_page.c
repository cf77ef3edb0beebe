// SPDX-License-Identifier: GPL-2.0
/*
 * What a page is, apart from who maps it.
 */
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "rmapviz_collect.h"
#include "rmapviz_compat.h"

/* No block is larger than a section, as include/linux/mmzone.h makes sure. */
#define RV_ORDER_MAX PFN_SECTION_SHIFT

static unsigned long rv_mapping_word(const struct folio *folio)
{
	return (unsigned long)READ_ONCE(folio->mapping);
}

/*
 * A free block keeps its order in its first page only, which is in the section of
 * the others, and online as they are.  Nothing is locked, so a block that is being
 * taken apart may be missed.
 */
static bool rv_page_is_free(struct page *page)
{
	unsigned long pfn = page_to_pfn(page), before;
	unsigned int order;
	struct page *block;

	if (page_ref_count(page))
		return false;
	for (order = 0; order <= RV_ORDER_MAX; order++) {
		before = pfn & ((1UL << order) - 1);
		block = page - before;
		if (PageBuddy(block)) {
			order = min_t(unsigned long, page_private(block),
				      RV_ORDER_MAX);
			return before < 1UL << order;
		}
	}
	return false;
}

/*
 * Pages on a per-CPU free list have no type.  But they are on a list, and
 * those that were allocated without a type of their own are not: list_del()
 * leaves poison.  Nothing is locked, so follow the link with care.
 */
static bool rv_page_is_on_free_list(struct page *page)
{
	struct list_head *next = READ_ONCE(page->lru.next), *back;

	/* What was never on a list since boot points to itself. */
	if (page_ref_count(page) || PageTail(page) || page->mapping ||
	    next == &page->lru)
		return false;
	return !copy_from_kernel_nofault(&back, &next->prev, sizeof(back)) &&
	       back == &page->lru;
}

/* Kinds that rmap knows nothing of; the page need not be referenced. */
static enum rv_kind rv_unmapped_kind(struct page *page, struct folio *folio)
{
	if (is_zone_device_page(page))
		return RV_KIND_DEVICE;
	if (is_zero_pfn(page_to_pfn(page)) || rv_is_huge_zero(folio))
		return RV_KIND_ZERO;
	if (PageReserved(page))
		return RV_KIND_RESERVED;
	if (PageOffline(page))
		return RV_KIND_OFFLINE;
	if (PageSlab(&folio->page))
		return RV_KIND_SLAB;
	if (PageTable(page))
		return RV_KIND_PAGETABLE;
	if (rv_page_movable_ops(&folio->page))
		return RV_KIND_MOVABLE;
	if (rv_page_is_free(page) || rv_page_is_on_free_list(page))
		return RV_KIND_FREE;
	return RV_KIND_OTHER;
}

/*
 * A folio that was just read waits in a per-CPU batch for its place on an LRU
 * list.  What sets it apart from a driver's page with a mapping of its own is
 * that it really is in that mapping; looking there needs the folio lock.
 */
static bool rv_in_page_cache(struct folio *folio, enum rv_held held)
{
	unsigned long bits = rv_mapping_word(folio);
	struct address_space *mapping = (struct address_space *)bits;

	if (bits & RV_MAPPING_BITS || !mapping)
		return false;
	if (folio_test_lru(folio))
		return true;
	return held == RV_HELD_LOCKED &&
	       xa_load(&mapping->i_pages, folio->index) == folio;
}

static enum rv_kind rv_kind_of(struct page *page, struct folio *folio,
			       enum rv_held held)
{
	if (folio_test_hugetlb(folio))
		return RV_KIND_HUGETLB;
	if (!rv_page_mappable(folio))
		return rv_unmapped_kind(page, folio);
	if (folio_test_ksm(folio))
		return RV_KIND_KSM;
	if (folio_test_anon(folio) || folio_test_swapcache(folio))
		return RV_KIND_ANON;
	if (rv_in_page_cache(folio, held))
		return folio_test_swapbacked(folio) ? RV_KIND_SHMEM :
						      RV_KIND_FILE;
	return rv_unmapped_kind(page, folio);
}

/* Of a kind that rmap maps. */
static enum rv_mapping rv_mapping_kind(struct folio *folio)
{
	unsigned long mapping = rv_mapping_word(folio);

	if (!mapping)
		return RV_MAPPING_NONE;
	switch (mapping & RV_MAPPING_BITS) {
	case RV_MAPPING_BIT_ANON:
		return RV_MAPPING_ANON_VMA;
	case RV_MAPPING_BITS_KSM:
		return RV_MAPPING_KSM;
	default:
		return RV_MAPPING_FILE;
	}
}

/*
 * The references that mappings and caches explain, as folio_expected_ref_count()
 * of include/linux/mm.h counts them, and the one that a per-CPU LRU batch or
 * whoever isolated the folio holds while it is on no LRU list.  (Some batches
 * take a folio that stays on its list, above all on older kernels.)
 */
static s64 rv_expected_refs(struct folio *folio)
{
	s64 refs = rv_folio_mapcount(folio);

	if (folio_test_swapcache(folio))
		refs += folio_nr_pages(folio);
	else if (!folio_test_anon(folio) && folio->mapping)
		refs += rv_page_cache_refs(folio);
	if (folio_test_hugetlb(folio))
		return refs;
	if (!folio_test_anon(folio))
		refs += folio_test_private(folio);
	return refs + !folio_test_lru(folio);
}

/*
 * Who holds the rest: FOLL_PIN, which folio_maybe_dma_pinned() knows, and others.
 * A small folio that somebody holds by a thousand plain references looks as if it
 * were pinned, to the kernel too.
 */
static void rv_tell_holders(struct rv_page *facts, struct folio *folio)
{
	s64 rest = facts->refcount - facts->expected_refs;

	if (rv_folio_has_pincount(folio)) {
		facts->pin_refs = 1;
		facts->dma_pins = rv_folio_pincount(folio);
	} else {
		facts->pin_refs = GUP_PIN_COUNTING_BIAS;
		facts->dma_pins = max(rest, 0LL) / GUP_PIN_COUNTING_BIAS;
	}
	facts->extra_refs = rest - facts->dma_pins * facts->pin_refs;
}

/* What one entry maps, a hugetlb folio or by a PMD, has it in the first page. */
static bool rv_page_exclusive(struct page *page, struct folio *folio)
{
	if (!folio_test_anon(folio) || folio_test_ksm(folio))
		return false;
	if (folio_test_large(folio) && folio_entire_mapcount(folio))
		page = &folio->page;
	return PageAnonExclusive(page);
}

/*
 * Two bits mean something else for some pages than %pGp calls them, and are
 * facts of their own here: PG_anon_exclusive, a matter of each page, and
 * PG_swapcache.
 */
static unsigned long rv_misnamed_flags(const struct rv_page *facts)
{
	return (facts->mapping == RV_MAPPING_ANON_VMA ? BIT(PG_anon_exclusive) :
							0) |
	       (facts->swapcache ? BIT(PG_swapcache) : 0);
}

/**
 * rv_page_mappable() - may ->mapping be an anon_vma, KSM node or page cache?
 * @folio: the folio, referenced
 *
 * If not, it is nothing that rmap_walk() or the folio lock is meant for.
 * Anonymous folios and page cache need not be on an LRU list: fresh ones wait
 * in a per-CPU batch.  Pages of drivers with a mapping can pass as well.  In the
 * swap cache shared memory has no mapping, nor has what was read ahead of who
 * wants it.
 *
 * Context: Any; the answer holds while the folio is locked.
 */
bool rv_page_mappable(struct folio *folio)
{
	unsigned long mapping = rv_mapping_word(folio);

	if (folio_test_hugetlb(folio))
		return mapping;
	if (page_has_type(&folio->page) || folio_test_slab(folio) ||
	    folio_test_reserved(folio))
		return false;
	switch (mapping & RV_MAPPING_BITS) {
	case RV_MAPPING_BIT_ANON:
	case RV_MAPPING_BITS_KSM:
		return true;
	case 0:
		if (!mapping)
			return folio_test_swapcache(folio);
		return folio_test_lru(folio) || folio_test_uptodate(folio);
	default:
		return false;
	}
}

/**
 * rv_page_walkable() - may this folio be given to rmap_walk()?
 * @folio: the folio, locked, one that has a mapping
 *
 * Context: Any.
 * Return: true if it is mapped, and its mapping is what rmap takes it for.
 */
bool rv_page_walkable(struct folio *folio)
{
	rv_assert_folio_locked(folio);
	return folio_mapped(folio) &&
	       (folio_test_hugetlb(folio) || folio_test_anon(folio) ||
		rv_in_page_cache(folio, RV_HELD_LOCKED));
}

/**
 * rv_page_chain_bytes() - what pte_chains would take for the pages of a folio
 * @folio: the folio, referenced
 *
 * By their mapcounts, each of which may change meanwhile; see rmapviz_history.c.
 *
 * Context: Any.
 * Return: bytes, on a machine with the usual cache lines and pointers.
 */
u64 rv_page_chain_bytes(struct folio *folio)
{
	long i, pages = folio_nr_pages(folio);
	u64 blocks = 0;
	int mapcount;

	if (folio_test_hugetlb(folio))
		blocks = pages * rv_chain_blocks(rv_folio_mapcount(folio));
	else
		for (i = 0; i < pages; i++) {
			mapcount =
				rv_page_mapcount(folio, folio_page(folio, i));
			/* It may be just being changed. */
			blocks += rv_chain_blocks(max(mapcount, 0));
		}
	return blocks * RV_CHAIN_LINE;
}

/**
 * rv_page_hold_inode() - hold the inode whose page cache a folio is in
 * @folio: the folio, locked
 * @s: where the references go, to be dropped by rv_snap_put_refs()
 *
 * An inode alone would not outlive umount, so its super block is held too; and
 * first, because nothing may be let go while the folio is locked.
 *
 * Context: Any.
 */
void rv_page_hold_inode(struct folio *folio, struct rv_snap *s)
{
	struct inode *inode;

	rv_assert_folio_locked(folio);
	if (folio_test_anon(folio))
		return;
	if (!folio_test_hugetlb(folio) &&
	    !rv_in_page_cache(folio, RV_HELD_LOCKED))
		return;
	inode = folio->mapping->host;
	if (!inode || !atomic_inc_not_zero(&inode->i_sb->s_active))
		return;
	s->sb = inode->i_sb;
	s->inode = igrab(inode);
}

/* What the page cache or rmap knows of a page; its folio is referenced. */
static void rv_describe_mapped(struct rv_page *facts, struct page *page,
			       struct folio *folio)
{
	facts->mapping = rv_mapping_kind(folio);
	facts->mapping_word = rv_mapping_word(folio);
	facts->mapping_ptr = facts->mapping_word & ~RV_MAPPING_BITS;
	facts->index = rv_folio_pgoff(folio) + (facts->pfn - facts->head);
	facts->mapcount = rv_page_mapcount(folio, page);
	facts->raw_mapcount = atomic_read(&page->_mapcount);
	facts->folio_mapcount = rv_folio_mapcount(folio);
	facts->expected_refs = rv_expected_refs(folio);
	rv_tell_holders(facts, folio);
	facts->swapcache = folio_test_swapcache(folio);
	facts->exclusive = rv_page_exclusive(page, folio);
	facts->flags &= ~rv_misnamed_flags(facts);
}

/* A page in a balloon is offline, and yet its driver migrates it. */
static bool rv_has_movable_ops(const struct rv_page *facts, struct folio *folio)
{
	return facts->kind == RV_KIND_MOVABLE ||
	       (facts->kind == RV_KIND_OFFLINE &&
		rv_page_movable_ops(&folio->page));
}

/**
 * rv_page_describe() - describe a page
 * @facts: the description to fill, zeroed
 * @page: the page
 * @folio: its folio
 * @held: what the caller holds of the folio; a page of which nothing is held is
 *	described as it looks from outside
 *
 * Context: Any; a consistent description needs the folio lock.
 */
void rv_page_describe(struct rv_page *facts, struct page *page,
		      struct folio *folio, enum rv_held held)
{
	facts->pfn = page_to_pfn(page);
	facts->ptr = (unsigned long)page;
	facts->flags = rv_folio_flags(folio);
	facts->refcount = folio_ref_count(folio);
	if (held == RV_HELD_NOT) {
		facts->head = facts->pfn;
		facts->kind = PageHuge(page) ? RV_KIND_HUGETLB :
					       rv_unmapped_kind(page, folio);
		facts->movable_ops = rv_has_movable_ops(facts, folio);
		return;
	}
	/* Less what the query itself adds. */
	facts->refcount--;
	if (held == RV_HELD_LOCKED) {
		rv_assert_folio_locked(folio);
		facts->flags &= ~BIT(PG_locked);
	}
	facts->head = folio_pfn(folio);
	facts->order = folio_order(folio);
	facts->kind = rv_kind_of(page, folio, held);
	facts->movable_ops = rv_has_movable_ops(facts, folio);
	if (rv_kind_mapped(facts->kind))
		rv_describe_mapped(facts, page, folio);
}
