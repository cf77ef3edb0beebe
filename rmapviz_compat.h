/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The only place that knows that kernels differ.
 *
 * The .c files read as if only the newest supported kernel existed.  What the
 * preprocessor cannot see of a kernel, Kbuild asks its headers for: RV_HAS_*.
 * Every shim says what changed and from which kernel on it can go.
 */
#ifndef RMAPVIZ_COMPAT_H
#define RMAPVIZ_COMPAT_H

#include <linux/lockdep.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/page-flags.h>
#include <linux/pgtable.h>
#include <linux/rmap.h>
#include <linux/version.h>
#include <linux/swap.h> /* before the next, which does not include it */
#ifdef RV_HAS_SOFTLEAF
#include <linux/leafops.h>
#else
#include <linux/swapops.h>
#endif

/* tests/kernels lists the kernels that are tested. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 10, 0)
#error "rmapviz supports Linux 5.10 and later"
#endif
/*
 * Children and VMAs of an anon_vma are counted apart since 2555283eb40d
 * ("mm/rmap: Fix anon_vma->degree ambiguity leading to double-reuse"), 6.0,
 * and in older series as long as those were cared for.
 */
#ifndef RV_HAS_NUM_CHILDREN
#error "rmapviz needs a kernel with the fix of CVE-2022-42703 in anon_vma"
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 4, 0) && defined(RV_SAY_UNTESTED)
#pragma message("rmapviz was not tested with a kernel as new as this")
#endif
#ifdef CONFIG_NO_PAGE_MAPCOUNT
#error "rmapviz needs to know how often each page of a folio is mapped"
#endif
#ifndef CONFIG_X86_64
#error "rmapviz knows the page tables of x86-64 only"
#endif

/*
 * Low bits of folio->mapping.  PAGE_MAPPING_* became FOLIO_MAPPING_*, and 2 lost
 * its meaning of a movable_ops page, between 6.12 and 7.2
 * (include/linux/page-flags.h).
 */
#ifdef FOLIO_MAPPING_FLAGS
#define RV_MAPPING_BITS	    FOLIO_MAPPING_FLAGS
#define RV_MAPPING_BIT_ANON FOLIO_MAPPING_ANON
#define RV_MAPPING_BITS_KSM FOLIO_MAPPING_KSM
#else
#define RV_MAPPING_BITS		PAGE_MAPPING_FLAGS
#define RV_MAPPING_BIT_ANON	PAGE_MAPPING_ANON
#define RV_MAPPING_BITS_KSM	PAGE_MAPPING_KSM
#define RV_MAPPING_BITS_MOVABLE PAGE_MAPPING_MOVABLE
#endif

/*
 * ------------------------------------------------ before struct folio, 5.10 --
 *
 * Folios came with 7b230db3b8d3 ("mm: Introduce struct folio"), 5.16.  A folio
 * is the first page of a compound page, seen as that.
 */
#ifndef RV_HAS_FOLIO
struct folio {
	union {
		struct {
			unsigned long flags;
			struct list_head lru;
			struct address_space *mapping;
			pgoff_t index;
		};
		struct page page;
	};
};

static_assert(offsetof(struct folio, flags) == offsetof(struct page, flags));
static_assert(offsetof(struct folio, mapping) ==
	      offsetof(struct page, mapping));
static_assert(offsetof(struct folio, index) == offsetof(struct page, index));

#define RV_FOLIO_TEST(_name, _page_test)                           \
	static inline bool folio_test_##_name(struct folio *folio) \
	{                                                          \
		return _page_test(&folio->page);                   \
	}

RV_FOLIO_TEST(anon, PageAnon)
RV_FOLIO_TEST(double_map, PageDoubleMap)
RV_FOLIO_TEST(hugetlb, PageHuge)
RV_FOLIO_TEST(ksm, PageKsm)
RV_FOLIO_TEST(large, PageHead)
RV_FOLIO_TEST(locked, PageLocked)
RV_FOLIO_TEST(lru, PageLRU)
RV_FOLIO_TEST(private, PagePrivate)
RV_FOLIO_TEST(reserved, PageReserved)
RV_FOLIO_TEST(slab, PageSlab)
RV_FOLIO_TEST(swapbacked, PageSwapBacked)
RV_FOLIO_TEST(swapcache, PageSwapCache)
RV_FOLIO_TEST(uptodate, PageUptodate)

static inline struct folio *page_folio(struct page *page)
{
	return (struct folio *)compound_head(page);
}

static inline struct page *folio_page(struct folio *folio, unsigned long n)
{
	return nth_page(&folio->page, n);
}

static inline unsigned long folio_pfn(struct folio *folio)
{
	return page_to_pfn(&folio->page);
}

static inline unsigned int folio_order(struct folio *folio)
{
	return compound_order(&folio->page);
}

static inline long folio_nr_pages(struct folio *folio)
{
	return compound_nr(&folio->page);
}

static inline int folio_ref_count(struct folio *folio)
{
	return page_ref_count(&folio->page);
}

static inline bool folio_mapped(struct folio *folio)
{
	return page_mapped(&folio->page);
}

static inline bool folio_try_get(struct folio *folio)
{
	return get_page_unless_zero(&folio->page);
}

static inline void folio_put(struct folio *folio)
{
	put_page(&folio->page);
}

static inline bool folio_trylock(struct folio *folio)
{
	return trylock_page(&folio->page);
}

static inline void folio_unlock(struct folio *folio)
{
	unlock_page(&folio->page);
}
#endif /* RV_HAS_FOLIO */

/* Folios have it since they came to rmap, 5.18; pages had it before. */
#ifndef RV_HAS_FOLIO_RMAP
static inline int folio_entire_mapcount(struct folio *folio)
{
	return compound_mapcount(&folio->page);
}
#endif

/*
 * Pages of no other process: 6c287605fd56 ("mm: remember exclusively mapped
 * anonymous pages with PG_anon_exclusive"), 5.19.
 */
#ifndef RV_HAS_ANON_EXCLUSIVE
#define PG_anon_exclusive PG_mappedtodisk

static inline bool PageAnonExclusive(struct page *page)
{
	return false;
}
#endif

/* ------------------------------------------------- locks that must be held -- */

/* VM_WARN_ON_ONCE_FOLIO() came with folios.  Costs nothing without DEBUG_VM. */
static inline void rv_assert_folio_locked(struct folio *folio)
{
	VM_WARN_ON_ONCE(!folio_test_locked(folio));
}

/*
 * mmap_assert_locked() calls dump_mm() with DEBUG_VM, which modules can do since
 * 6.3 only ("mm: export dump_mm()").
 */
static inline void rv_assert_mmap_locked(const struct mm_struct *mm)
{
	lockdep_assert_held(&mm->mmap_lock);
}

/* --------------------------------------------------------------- rmap_walk -- */

/*
 * What rmap_walk() is given, and gives its callbacks: folios since 2f031c6f042c
 * ("mm/rmap: Convert rmap_walk() to take a folio"), 5.18.  Before it is a page;
 * the walk of a tail would find that one only, so it gets heads.
 */
#ifdef RV_HAS_FOLIO_RMAP
#define RV_RMAP_OF struct folio
#else
#define RV_RMAP_OF struct page
#endif

/*
 * rmap_walk_control.anon_lock() for a lock that is held already, on a folio
 * that points to an anon_vma; rmap_walk_anon() will unlock.  It got its second
 * parameter with try_lock, in 5.19; the first is const from between 6.12 and
 * 7.2 on (include/linux/rmap.h).
 */
#if defined(RV_HAS_CONST_ANON_LOCK)
static inline struct anon_vma *
rv_hand_over_lock(const struct folio *folio, struct rmap_walk_control *unused)
#elif defined(RV_HAS_TRY_LOCK)
static inline struct anon_vma *
rv_hand_over_lock(struct folio *folio, struct rmap_walk_control *unused)
#elif defined(RV_HAS_FOLIO_RMAP)
static inline struct anon_vma *rv_hand_over_lock(struct folio *folio)
#else
static inline struct anon_vma *rv_hand_over_lock(struct page *folio)
#endif
{
	return (void *)((unsigned long)folio->mapping - RV_MAPPING_BIT_ANON);
}

/*
 * try_lock, for a walk that does not wait for the locks of files and KSM pages,
 * came with 6d4675e60135 ("mm: don't be stuck to rmap lock on reclaim path"),
 * 5.19.  Before, one more function is needed, to which a file's lock is handed.
 */
#ifndef RV_HAS_TRY_LOCK
#define RV_NEEDS_RMAP_WALK_LOCKED
#endif

/*
 * page and folio flags became a memdesc_flags_t between 6.12 and 7.2
 * (include/linux/mm_types.h).
 */
static inline unsigned long rv_folio_flags(const struct folio *folio)
{
#ifdef RV_HAS_MEMDESC_FLAGS
	return READ_ONCE(folio->flags.f);
#else
	return READ_ONCE(folio->flags);
#endif
}

/*
 * The index of a hugetlb folio counts huge pages where this function exists,
 * base pages later: it went with commit a08c7193e4f1 ("mm/filemap: remove
 * hugetlb special casing in filemap.c"), 6.7.
 */
static inline pgoff_t rv_folio_pgoff(struct folio *folio)
{
#ifdef RV_HAS_HUGE_INDEX_UNITS
	if (folio_test_hugetlb(folio))
		return folio->index << folio_order(folio);
#endif
	return folio->index;
}

/*
 * A page until 5.18 (2aff7a4755be, "mm: Convert page_vma_mapped_walk to work on
 * PFNs").  DEFINE_FOLIO_VMA_WALK() refers to a function that is not exported on
 * 6.1; pgoff_is_anon came between 7.2 and 7.3, with anonymous offsets of their own
 * for private file mappings.  The macro serves from 7.3 on.
 */
static inline void rv_pvmw_init(struct page_vma_mapped_walk *pvmw,
				struct folio *folio, struct vm_area_struct *vma,
				unsigned long addr)
{
	*pvmw = (struct page_vma_mapped_walk){
#ifdef RV_HAS_FOLIO_RMAP
		.pfn = folio_pfn(folio),
		.nr_pages = folio_nr_pages(folio),
		.pgoff = rv_folio_pgoff(folio),
#else
		.page = &folio->page,
#endif
		.vma = vma,
		.address = addr,
		.flags = PVMW_SYNC,
#ifdef RV_HAS_PVMW_ANON_PGOFF
		.pgoff_is_anon = folio_test_anon(folio),
#endif
	};
}

/*
 * The offset by which anonymous pages of a VMA are known.  It is that of the
 * VMA's file, if there is one, until 7.3.
 */
static inline pgoff_t rv_vma_anon_pgoff(struct vm_area_struct *vma)
{
#ifdef RV_HAS_ANON_PGOFF
	return vma_start_anon_pgoff(vma);
#else
	return vma->vm_pgoff;
#endif
}

/*
 * Page-table entries that map one page.  page_mapcount() went between 6.1 and
 * 6.12; what follows it is folio_precise_page_mapcount() of
 * fs/proc/internal.h, which answers for /proc/kpagecount.
 */
static inline int rv_page_mapcount(struct folio *folio, struct page *page)
{
#ifdef RV_HAS_PAGE_MAPCOUNT
	/* It has a type before page_mapcount() goes, and is counted all the same. */
	if (folio_test_hugetlb(folio))
		return folio_entire_mapcount(folio);
	return page_has_type(page) ? 0 : page_mapcount(page);
#else
	int mapcount = atomic_read(&page->_mapcount) + 1;

	if (page_mapcount_is_type(mapcount))
		mapcount = 0;
	if (folio_test_large(folio))
		mapcount += folio_entire_mapcount(folio);
	return mapcount;
#endif
}

/*
 * What the pages of a large folio count of the entries that map it as a whole:
 * those of a file all, those of an anonymous one a single one, for a flag.  No
 * more since cb67f4282bf9 ("mm,thp,rmap: simplify compound page mapcount
 * handling"), 6.2.
 */
static inline int rv_counted_by_pages(struct folio *folio, int entire)
{
#ifdef RV_HAS_DOUBLE_MAP
	if (!folio_test_anon(folio))
		return entire * folio_nr_pages(folio);
	return folio_test_double_map(folio) ? folio_nr_pages(folio) : 0;
#else
	return 0;
#endif
}

/*
 * Page-table entries that map any page of a folio.  Of a large one the kernel
 * had to sum them up, by a function that it does not export, until 05c5323b2a34
 * ("mm: track mapcount of large folios in single value"), 6.10.
 */
static inline int rv_folio_mapcount(struct folio *folio)
{
#ifdef RV_HAS_LARGE_MAPCOUNT
	return folio_mapcount(folio);
#else
	int entire, sum;
	long i, nr = folio_nr_pages(folio);

	if (!folio_test_large(folio))
		return rv_page_mapcount(folio, &folio->page);
	entire = folio_entire_mapcount(folio);
	if (folio_test_hugetlb(folio))
		return entire;
	for (sum = entire, i = 0; i < nr; i++)
		sum += atomic_read(&folio_page(folio, i)->_mapcount) + 1;
	return sum - rv_counted_by_pages(folio, entire);
#endif
}

/*
 * References that the page cache holds on a folio: one for each page.  Of
 * hugetlb it held one for all, as long as their index counted huge pages.
 */
static inline long rv_page_cache_refs(struct folio *folio)
{
#ifdef RV_HAS_HUGE_INDEX_UNITS
	if (folio_test_hugetlb(folio))
		return 1;
#endif
	return folio_nr_pages(folio);
}

/*
 * Does FOLL_PIN count in a counter of its own, beside one reference, as for
 * large folios?  Else it takes GUP_PIN_COUNTING_BIAS references.  Two pages have
 * room for it since 5232c63f46fd ("mm: Make compound_pincount always available"),
 * 5.18.
 */
static inline bool rv_folio_has_pincount(struct folio *folio)
{
#ifdef RV_HAS_FOLIO_RMAP
	return folio_test_large(folio);
#else
	return hpage_pincount_available(&folio->page);
#endif
}

/*
 * What that counter says, of a folio that has one.  It is _pincount since
 * 379708ffde1b ("mm: add the first tail page to struct folio"), 6.1.
 */
static inline int rv_folio_pincount(struct folio *folio)
{
#if defined(RV_HAS_FOLIO_PINCOUNT)
	return atomic_read(&folio->_pincount);
#elif defined(RV_HAS_FOLIO_RMAP)
	return atomic_read(folio_pincount_ptr(folio));
#else
	return head_compound_pincount(&folio->page);
#endif
}

/*
 * Pages that a driver can migrate: told by bits of ->mapping until they got a
 * flag, which counts for some page types only, between 6.12 and 7.2.
 */
static inline bool rv_page_movable_ops(struct page *page)
{
#ifdef RV_HAS_PAGE_MOVABLE_OPS
	return page_has_movable_ops(page);
#else
	return ((unsigned long)READ_ONCE(page->mapping) & RV_MAPPING_BITS) ==
	       RV_MAPPING_BITS_MOVABLE;
#endif
}

/*
 * get_dev_pagemap() lost its second argument, a reference to reuse, between
 * 6.12 and 7.2.
 */
static inline struct dev_pagemap *rv_get_dev_pagemap(unsigned long pfn)
{
#ifdef RV_HAS_DEV_PAGEMAP_REUSE
	return get_dev_pagemap(pfn, NULL);
#else
	return get_dev_pagemap(pfn);
#endif
}

/*
 * Entries of pages that are just being migrated: is_migration_entry() became
 * softleaf_is_migration() between 6.12 and 7.2 (include/linux/leafops.h).
 */
static inline bool rv_pte_migrating(pte_t pte)
{
#ifdef RV_HAS_SOFTLEAF
	return softleaf_is_migration(softleaf_from_pte(pte));
#else
	return is_swap_pte(pte) && is_migration_entry(pte_to_swp_entry(pte));
#endif
}

static inline bool rv_pmd_migrating(pmd_t pmd)
{
#ifdef RV_HAS_SOFTLEAF
	return pmd_is_migration_entry(pmd);
#else
	return is_pmd_migration_entry(pmd);
#endif
}

/*
 * Do accesses through a VMA count as references to reclaim?  Before 6.3 only
 * MADV_SEQUENTIAL spoke against it (8788f6781486, "mm: add vma_has_recency()").
 */
static inline bool rv_vma_has_recency(struct vm_area_struct *vma)
{
#ifdef RV_HAS_VMA_RECENCY
	return vma_has_recency(vma);
#else
	return !(vma->vm_flags & VM_SEQ_READ);
#endif
}

/* pte_uffd_wp() was renamed between 7.2 and 7.3; the bit stayed. */
static inline bool rv_pte_uffd_wp(pte_t pte)
{
#ifdef _PAGE_UFFD
	return pte_flags(pte) & _PAGE_UFFD;
#else
	return pte_flags(pte) & _PAGE_UFFD_WP;
#endif
}

#endif /* RMAPVIZ_COMPAT_H */
