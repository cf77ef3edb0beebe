// SPDX-License-Identifier: GPL-2.0
/*
 * From a question to the records that answer it.
 *
 * Locks, outermost first; none is ever taken for write:
 *
 *	mmap_lock			for "pid PID", or to look up an address
 *	  folio lock			trylock; keeps ->mapping
 *	    anon_vma root->rwsem	trylock, but waited for under mmap_lock
 *					and, on 5.10, for KSM pages;
 *					or i_mmap_rwsem, trylock too
 *	      page table lock		page_vma_mapped_walk()
 *
 * Under these locks records are appended to tables made before, and nothing
 * else is done: no allocation, no formatting, no copy to user space.  An
 * attempt that meets contention, or a folio that moves, is given up whole and
 * made again; so a family's anon_vmas, AVCs and VMAs are those of one instant.
 * Its page-table entries are not: they are read one after another, and may
 * meanwhile change by COW, zap and fork, which ask for no rmap lock.
 *
 * Locks held for read hold up others as well: who comes to read waits behind a
 * writer that waits for us, and reclaim, which does not always try, is such a
 * reader.
 *
 * An anon_vma is found alive through its folio the way
 * folio_lock_anon_vma_read() does it (mm/rmap.c): under RCU, a folio that is
 * still mapped after its root was locked still has that anon_vma.  Why a
 * VMA's list of AVCs may be read without its mmap_lock is told in
 * rmapviz_record.c.
 */
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"
#include "rmapviz_compat.h"

/* The longest wait between two attempts; RV_ATTEMPTS of them take 0.5 s. */
#define RV_WAIT_MAX_US 10000UL

/* Room for more VMAs than map the page. */
#define RV_VMAS_MORE 8

/* Attempts for a page whose count may be frozen. */
#define RV_FROZEN_LOOKS 3

/* Passes lost for want of room before -EAGAIN: whatever is asked for grows. */
#define RV_GROWS_MAX 32

/**
 * struct rv_walker - one attempt
 * @snap: where records go
 * @page: the page asked for, or NULL
 * @pfn: its number
 * @folio: its folio, while it is locked and walked
 * @whole_folio: every page of the folio is asked for
 * @brief: only count
 * @for_listing: of KSM too, whose walk can come to an entry twice; and nobody
 *	asks for a name or the time
 * @next_vma: the record of the VMA that is to be met next in a family
 * @hugetlb: the folio is one of hugetlb
 * @vma_counts: accesses through the VMA that is visited count as references
 * @any: the bits that any entry has
 * @counted: the same of entries through which accesses count; while a VMA is
 *	recorded, of those in it alone
 * @family: whose lock is held, an index into RV_ROOTS, or RV_NONE
 * @last_attempt: there will be no further attempt
 */
struct rv_walker {
	struct rv_snap *snap;
	struct page *page;
	unsigned long pfn;
	struct folio *folio;
	bool whole_folio;
	bool brief;
	bool for_listing;
	bool hugetlb;
	bool vma_counts;
	u32 next_vma;
	pteval_t any;
	pteval_t counted;
	u32 family;
	bool last_attempt;
};

/* Time that an rmap lock was held, or that was walked under such locks. */
static void rv_note_lock_time(struct rv_snap *s, u64 since)
{
	u64 ns = ktime_get_ns() - since;

	s->lock_ns += ns;
	s->lock_max_ns = max(s->lock_max_ns, ns);
}

/* ------------------------------------------------ callbacks of rmap_walk -- */

/*
 * The entry that page_vma_mapped_walk() hit, and how many bytes it maps; those
 * of all levels have equal bits.
 */
static __always_inline pte_t rv_read_hit(const struct rv_walker *w,
					 const struct page_vma_mapped_walk *pvmw,
					 unsigned long *size)
{
	if (unlikely(!pvmw->pte)) {
		*size = PMD_SIZE;
		return __pte(pmd_val(READ_ONCE(*pvmw->pmd)));
	}
	*size = unlikely(w->hugetlb) ? vma_kernel_pagesize(pvmw->vma) :
				       PAGE_SIZE;
	return READ_ONCE(*pvmw->pte);
}

static u8 rv_level_of_size(unsigned long size)
{
	if (size >= PUD_SIZE)
		return RV_LEVEL_PUD;
	return size >= PMD_SIZE ? RV_LEVEL_PMD : RV_LEVEL_PTE;
}

/* What a hit is: an entry, and which of the pages asked for it maps. */
struct rv_hit {
	pte_t pte;
	unsigned long size;
	unsigned long pfn;    /* the first of these pages */
	unsigned long offset; /* of that in the entry's, in pages */
};

/*
 * One hit, its page table lock held.  Reclaim cares for every page of the
 * folio, the list of entries for those asked for: true if it maps one of these.
 */
static __always_inline bool
rv_count_hit(struct rv_walker *w, const struct page_vma_mapped_walk *pvmw,
	     struct rv_hit *hit)
{
	struct rv_reclaim *reclaim = &w->snap->reclaim;
	unsigned long first, pages;

	hit->pte = rv_read_hit(w, pvmw, &hit->size);
	if (unlikely(!pte_present(hit->pte)))
		return false;
	reclaim->found++;
	/* What the entries have in common is taken apart when all are seen. */
	w->any |= pte_val(hit->pte);
	if (likely(w->vma_counts))
		w->counted |= pte_val(hit->pte);

	pages = hit->size >> PAGE_SHIFT;
	first = pte_pfn(hit->pte) & ~(pages - 1);
	hit->pfn = w->whole_folio ? first : w->pfn;
	hit->offset = hit->pfn - first;
	if (hit->offset >= pages)
		return false;
	w->snap->entries++;
	return true;
}

static void rv_record_hit(struct rv_walker *w, const struct rv_hit *hit,
			  unsigned long address, u32 vma)
{
	struct rv_pte *r = rv_add(w->snap, RV_PTES, struct rv_pte);

	if (!r)
		return;
	r->vma = vma;
	r->addr = (address & ~(hit->size - 1)) + (hit->offset << PAGE_SHIFT);
	r->pfn = hit->pfn;
	r->pages = w->whole_folio ? hit->size >> PAGE_SHIFT : 1;
	r->value = pte_val(hit->pte);
	r->level = rv_level_of_size(hit->size);
}

/* Still the VMA that was recorded, and not another in its place? */
static bool rv_still_describes(const struct rv_vma *v,
			       const struct vm_area_struct *vma)
{
	return v->start == vma->vm_start && v->end == vma->vm_end &&
	       v->mm_ptr == (unsigned long)vma->vm_mm;
}

/*
 * A KSM walk locks one family after another, and the same again: a family is
 * recorded when it is met first, and a VMA that has joined since is added.  The
 * root stays, since the items of the stable node hold their anon_vmas while the
 * folio is locked; but an address within the family may by then name something
 * else.
 */
static struct rv_vma *rv_record_ksm_vma(struct rv_walker *w,
					struct vm_area_struct *vma)
{
	struct anon_vma *own = READ_ONCE(vma->anon_vma);
	struct rv_vma *v;

	/* fork links a VMA before it gives it an anon_vma */
	if (!own) {
		w->snap->inconsistent = true;
		return NULL;
	}
	if (!w->brief) {
		w->family = rv_record_family(w->snap, own->root);
		if (w->family == RV_NONE)
			return NULL;
	}
	v = rv_record_vma(w->snap, vma, w->family);
	if (!v)
		return NULL;
	if (!v->nr_avcs && !w->brief)
		rv_record_avcs(w->snap, vma, v, w->family);
	w->snap->inconsistent |= !rv_still_describes(v, vma);
	return v;
}

/*
 * The record of a VMA of the family whose lock is held.  All trees of a family
 * are in the same order, of offset and then of age, so the walk meets VMAs in the
 * order in which they were recorded.  If not, the pass is made again with a hash.
 */
static struct rv_vma *rv_recorded_vma(struct rv_walker *w,
				      struct vm_area_struct *vma)
{
	struct rv_snap *s = w->snap;
	struct rv_key *key;

	if (s->tables[RV_VMAS].slot) {
		key = rv_table_find(&s->tables[RV_VMAS], (unsigned long)vma,
				    w->family);
		s->inconsistent |= !key && !s->tables[RV_VMAS].lost;
		return (struct rv_vma *)key;
	}
	while (w->next_vma < rv_len(s, RV_VMAS)) {
		struct rv_vma *v = rv_vma_at(s, w->next_vma++);

		if (v->key.ptr == (unsigned long)vma)
			return v;
	}
	s->lookup_vmas = true;
	s->full = true;
	return NULL;
}

/* The record of the VMA that a walk calls back for. */
static struct rv_vma *rv_record_visit(struct rv_walker *w,
				      struct vm_area_struct *vma)
{
	struct rv_vma *v;

	if (folio_test_ksm(w->folio))
		v = rv_record_ksm_vma(w, vma);
	else if (folio_test_anon(w->folio))
		v = rv_recorded_vma(w, vma);
	else
		v = rv_record_vma(w->snap, vma, RV_NONE);
	if (v)
		v->visited = true;
	return v;
}

/* Below the locks of a walk. */
static void rv_assert_walk_locked(const struct rv_walker *w)
{
	rv_assert_folio_locked(w->folio);
	if (!folio_test_anon(w->folio))
		lockdep_assert_held(&w->folio->mapping->i_mmap_rwsem);
}

/* A VMA that is locked in memory keeps the folio there if it maps any of it. */
static __always_inline void rv_note_mlock(struct rv_snap *s,
					  const struct vm_area_struct *vma,
					  u32 found_before)
{
	if (unlikely(vma->vm_flags & VM_LOCKED))
		s->reclaim.mlocked |= s->reclaim.found != found_before;
}

/*
 * For what reasons reclaim would leave the folio to this VMA.  The kernel stops at
 * the first, VM_LOCKED; that the folio was used there as well is told all the same.
 */
static void rv_note_unmap(const struct rv_walker *w, struct rv_vma *v,
			  const struct vm_area_struct *vma, u32 found_before)
{
	struct rv_reclaim *reclaim = &w->snap->reclaim;

	if (reclaim->found == found_before)
		return;
	v->found = true;
	if (unlikely(READ_ONCE(vma->vm_flags) & VM_LOCKED)) {
		v->keeps |= RV_REASON_MLOCKED;
		reclaim->mlocked = true;
	}
	if (pte_young(__pte(w->counted)))
		v->keeps |= RV_REASON_REFERENCED;
}

/* rmap_walk_control.rmap_one(): the rmap lock and the folio lock are held. */
static bool rv_rmap_one(RV_RMAP_OF *unused, struct vm_area_struct *vma,
			unsigned long addr, void *arg)
{
	struct rv_walker *w = arg;
	struct rv_snap *s = w->snap;
	u32 found = s->reclaim.found, entries = s->entries;
	const pteval_t counted = w->counted;
	struct page_vma_mapped_walk pvmw;
	struct rv_hit hit;
	struct rv_vma *v;

	rv_assert_walk_locked(w);
	s->visited++;
	v = rv_record_visit(w, vma);
	/* A pass that has lost something only counts what it would need. */
	if (!v || rv_pass_is_lost(s)) {
		s->tables[RV_PTES].lost++;
		return !fatal_signal_pending(current);
	}
	w->vma_counts = rv_vma_has_recency(vma);
	w->counted = 0;
	rv_pvmw_init(&pvmw, w->folio, vma, addr);
	while (rv_page_vma_mapped_walk(&pvmw))
		if (rv_count_hit(w, &pvmw, &hit))
			rv_record_hit(w, &hit, pvmw.address, v->key.id);
	rv_note_unmap(w, v, vma, found);
	w->counted |= counted;
	v->mapped |= s->entries != entries;
	s->mapped += s->entries != entries;
	return !fatal_signal_pending(current);
}

/* The same for brief, which counts and nothing else. */
static bool rv_rmap_one_brief(RV_RMAP_OF *unused, struct vm_area_struct *vma,
			      unsigned long addr, void *arg)
{
	struct rv_walker *w = arg;
	u32 entries = w->snap->entries, found = w->snap->reclaim.found;
	struct page_vma_mapped_walk pvmw;
	struct rv_hit hit;

	rv_assert_walk_locked(w);
	w->snap->visited++;
	w->vma_counts = rv_vma_has_recency(vma);
	rv_pvmw_init(&pvmw, w->folio, vma, addr);
	while (rv_page_vma_mapped_walk(&pvmw))
		rv_count_hit(w, &pvmw, &hit);
	w->snap->mapped += w->snap->entries != entries;
	rv_note_mlock(w->snap, vma, found);
	return !fatal_signal_pending(current);
}

/* --------------------------------------------------- one attempt, a page -- */

/* What ->mapping of an anonymous folio points to. */
static struct anon_vma *rv_anon_vma_of(const struct folio *folio)
{
	unsigned long mapping = (unsigned long)READ_ONCE(folio->mapping);

	return (void *)(mapping - RV_MAPPING_BIT_ANON);
}

/*
 * Locks the root of an anonymous folio's family, like folio_lock_anon_vma_read()
 * with try_lock set, but without references, for which the kernel exports no
 * put.  Returns the root, NULL if the folio is mapped no more, or -EAGAIN.
 */
static struct anon_vma *rv_lock_root(struct rv_walker *w)
{
	struct anon_vma *av = rv_anon_vma_of(w->folio);
	struct anon_vma *root = NULL;
	bool locked = false, mapped;

	rv_assert_folio_locked(w->folio);
	rcu_read_lock();
	mapped = folio_mapped(w->folio);
	if (mapped) {
		root = READ_ONCE(av->root);
		locked = down_read_trylock(&root->rwsem);
		mapped = folio_mapped(w->folio);
		if (locked && !mapped)
			up_read(&root->rwsem);
	}
	rcu_read_unlock();
	if (!mapped)
		return NULL;
	return locked ? root : ERR_PTR(-EAGAIN);
}

/* Is nothing of the folio to be recorded? */
static bool rv_only_counts(const struct rv_walker *w, struct folio *folio)
{
	return w->brief && (w->for_listing || !folio_test_ksm(folio));
}

/* Hands the root's lock, if there is one, over to the kernel's walk. */
static int rv_walk_under_locks(struct rv_walker *w)
{
	struct rmap_walk_control rwc = {
		.arg = w,
		.rmap_one = rv_only_counts(w, w->folio) ? rv_rmap_one_brief :
							  rv_rmap_one,
		.anon_lock = rv_hand_over_lock,
	};

	w->hugetlb = folio_test_hugetlb(w->folio);
	if (!rv_rmap_walk_try(w->folio, &rwc) || w->snap->inconsistent)
		return -EAGAIN;
	w->snap->reclaim.young = pte_young(__pte(w->counted));
	w->snap->reclaim.dirty = pte_dirty(__pte(w->any));
	if (rv_pass_is_lost(w->snap))
		return -ENOBUFS;
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/* Which offsets the pages asked for have in their object. */
static void rv_note_offsets(const struct rv_walker *w)
{
	struct rv_snap *s = w->snap;

	s->first_index = rv_folio_pgoff(w->folio);
	s->last_index = s->first_index + folio_nr_pages(w->folio) - 1;
	if (w->whole_folio)
		return;
	s->first_index += w->pfn - folio_pfn(w->folio);
	s->last_index = s->first_index;
}

static void rv_record_family_of_page(struct rv_walker *w, struct anon_vma *root)
{
	rv_note_offsets(w);
	w->snap->av_ptr = (unsigned long)rv_anon_vma_of(w->folio);
	w->family = rv_record_family(w->snap, root);
}

/*
 * The folio is locked, referenced and mapped.  The family of an anonymous one is
 * recorded before the walk, under the same lock, so that the walk finds no VMA
 * that was not recorded.
 */
static int rv_walk_rmap(struct rv_walker *w)
{
	struct anon_vma *root = NULL;
	u64 start;
	int err;

	if (folio_test_anon(w->folio) && !folio_test_ksm(w->folio)) {
		root = rv_lock_root(w);
		if (IS_ERR_OR_NULL(root))
			return PTR_ERR_OR_ZERO(root);
	}
	w->snap->root_ptr = (unsigned long)root;
	start = w->for_listing ? 0 : ktime_get_ns();
	if (root && !w->brief)
		rv_record_family_of_page(w, root);
	if (root && rv_pass_is_lost(w->snap)) {
		up_read(&root->rwsem);
		err = -ENOBUFS;
	} else {
		err = rv_walk_under_locks(w);
	}
	if (!w->for_listing)
		rv_note_lock_time(w->snap, start);
	return err;
}

/*
 * One look before any lock is tried for, and another one below the folio lock:
 * there are at least as many VMAs as mappings.  Unlocked, counts can be anything.
 * -ENOBUFS if there is not room for so much.
 */
static int rv_look_for_room(struct rv_walker *w, struct folio *folio)
{
	struct rv_snap *s = w->snap;
	u32 vmas, all;
	bool anon, ksm;

	if (rv_only_counts(w, folio))
		return 0;
	anon = folio_test_anon(folio);
	ksm = folio_test_ksm(folio);
	vmas = max(rv_page_mapcount(folio, w->page), 0) + RV_VMAS_MORE;
	all = max(rv_folio_mapcount(folio), 0) + RV_VMAS_MORE;
	rv_snap_want(s, RV_VMAS, vmas);
	rv_snap_want(s, RV_PTES, w->whole_folio ? all : vmas);
	if (anon) {
		rv_snap_want(s, RV_ROOTS, ksm ? vmas : 1);
		rv_snap_want(s, RV_AVS, vmas);
		rv_snap_want(s, RV_AVCS, 2 * vmas);
	}
	/* KSM's walk meets VMAs again and again. */
	s->lookup_vmas |= ksm;
	if (s->lookup_vmas && !s->tables[RV_VMAS].slot)
		s->full = true;
	return s->full ? -ENOBUFS : 0;
}

/*
 * Nothing may be allocated below the locks of a walk, for reclaim waits for them.
 * Nobody would notice until it does; so let lockdep take us for reclaim, which
 * does not allocate either.  Costs nothing without it.
 */
static void rv_begin_no_alloc(void)
{
	fs_reclaim_acquire(GFP_KERNEL);
}

static void rv_end_no_alloc(void)
{
	fs_reclaim_release(GFP_KERNEL);
}

/* The folio is locked and referenced. */
static int rv_walk_locked_folio(struct rv_walker *w, struct folio *folio)
{
	struct rv_snap *s = w->snap;
	int err = 0;

	rv_assert_folio_locked(folio);
	rv_begin_no_alloc();
	if (rv_page_mappable(folio)) {
		if (!w->for_listing)
			rv_page_hold_inode(folio, s);
		w->folio = folio;
		/* It may have been mapped, or merged, since the first look. */
		if (rv_page_walkable(folio))
			err = rv_look_for_room(w, folio) ?: rv_walk_rmap(w);
	}
	if (!err)
		rv_page_describe(&s->page, w->page, folio, RV_HELD_LOCKED);
	rv_end_no_alloc();
	return err;
}

/* The folio is referenced. */
static int rv_walk_folio(struct rv_walker *w, struct folio *folio)
{
	int err = -EAGAIN;

	if (!rv_page_mappable(folio)) {
		rv_page_describe(&w->snap->page, w->page, folio, RV_HELD_REF);
		return 0;
	}
	if (folio_mapped(folio) && rv_look_for_room(w, folio))
		return -ENOBUFS;
	if (!folio_trylock(folio)) {
		/* Unmapped it has little more to tell, if it stays locked. */
		if (folio_mapped(folio) || !w->last_attempt)
			return -EAGAIN;
		rv_page_describe(&w->snap->page, w->page, folio, RV_HELD_REF);
		return 0;
	}
	if (page_folio(w->page) == folio)
		err = rv_walk_locked_folio(w, folio);
	folio_unlock(folio);
	return err;
}

/* A page of a device's memory; nothing but the device keeps it. */
static int rv_walk_device_page(struct rv_walker *w, u64 pfn)
{
	struct dev_pagemap *pgmap;

	if (!pfn_valid(pfn))
		return -ENXIO;
	pgmap = rv_get_dev_pagemap(pfn);
	if (!pgmap)
		return -ENXIO;
	w->page = pfn_to_page(pfn);
	rv_page_describe(&w->snap->page, w->page, page_folio(w->page),
			 RV_HELD_NOT);
	put_dev_pagemap(pgmap);
	return 0;
}

/*
 * Whoever freezes the count of a folio, to migrate or split it, or to reclaim it,
 * has locked it; and what is counted again is not free.
 */
static bool rv_may_be_frozen(const struct rv_page *page, struct folio *folio)
{
	return page->flags & BIT(PG_locked) || folio_ref_count(folio);
}

/* Pin, then recheck that the pin is on the folio that was looked at. */
static int rv_walk_pfn(struct rv_walker *w, u64 pfn)
{
	struct folio *folio;
	int err = -EAGAIN;

	w->pfn = pfn;
	w->page = pfn_to_online_page(pfn);
	if (!w->page)
		return rv_walk_device_page(w, pfn);
	folio = page_folio(w->page);
	if (!folio_try_get(folio)) {
		/* Free, or of a kind that keeps no count: nothing maps it. */
		rv_page_describe(&w->snap->page, w->page, folio, RV_HELD_NOT);
		if (w->snap->page.kind == RV_KIND_OTHER &&
		    w->snap->retries < RV_FROZEN_LOOKS &&
		    rv_may_be_frozen(&w->snap->page, folio))
			return -EAGAIN;
		return 0;
	}
	if (page_folio(w->page) == folio)
		err = rv_walk_folio(w, folio);
	folio_put(folio);
	return err;
}

/* The page that the process maps there, before the walk and after it. */
static int rv_walk_pid_addr(struct rv_walker *w)
{
	const struct rv_query *q = &w->snap->query;
	u64 pfn, pfn_after;
	int err;

	err = rv_lookup_pfn(q->pid, q->addr, &pfn);
	err = err ?: rv_walk_pfn(w, pfn);
	if (err)
		return err;
	err = rv_lookup_pfn(q->pid, q->addr, &pfn_after);
	return err || pfn_after != pfn ? -EAGAIN : 0;
}

/* ------------------------------------------------ one attempt, a process -- */

/*
 * Is there anything to record of a VMA of the mm?  Its family, if that was not met
 * yet; or itself, if it has joined a family since that was recorded, which takes
 * that mmap_lock was given up.
 */
static bool rv_is_news(struct rv_snap *s, const struct vm_area_struct *vma,
		       const struct anon_vma *root)
{
	const struct rv_key *key,
		*known = rv_table_find(&s->tables[RV_ROOTS],
				       (unsigned long)root, RV_NONE);

	if (!known)
		return true;
	key = rv_table_find(&s->tables[RV_VMAS], (unsigned long)vma, known->id);
	if (!key)
		return true;
	/* What was freed may be another one's now. */
	s->inconsistent |= ((const struct rv_vma *)key)->mm_ptr !=
			   (unsigned long)vma->vm_mm;
	return false;
}

/* The root of the VMA's family is locked. */
static void rv_record_of_mm(struct rv_snap *s, struct vm_area_struct *vma,
			    struct anon_vma *root)
{
	u32 family = rv_record_family(s, root);
	struct rv_vma *v;

	if (family == RV_NONE)
		return;
	v = rv_record_vma(s, vma, family);
	if (v && !v->nr_avcs)
		rv_record_avcs(s, vma, v, family);
}

/* The family of a VMA of the mm; its mmap_lock is held for read. */
static int rv_walk_vma_family(struct rv_walker *w, struct vm_area_struct *vma)
{
	/* A VMA stays linked under mmap_lock, and so its anon_vma and root. */
	struct anon_vma *av = READ_ONCE(vma->anon_vma);
	u64 start;
	int err;

	rv_assert_mmap_locked(vma->vm_mm);
	if (!av || !rv_is_news(w->snap, vma, av->root))
		return w->snap->inconsistent ? -EAGAIN : 0;
	rv_begin_no_alloc();
	err = down_read_killable(&av->root->rwsem);
	if (!err) {
		start = ktime_get_ns();
		rv_record_of_mm(w->snap, vma, av->root);
		rv_note_lock_time(w->snap, start);
		up_read(&av->root->rwsem);
	}
	rv_end_no_alloc();
	return err;
}

/*
 * Every family of the VMAs from an address on, until somebody wants the lock.  A
 * pass that has lost something goes on, and counts what it would need.
 */
static int rv_walk_locked_mm(struct rv_walker *w, struct mm_struct *mm,
			     unsigned long *addr)
{
	struct vm_area_struct *vma;
	int err;

	rv_assert_mmap_locked(mm);
	while ((vma = find_vma(mm, *addr))) {
		/* There can be no more room: what fits has been taken. */
		if (w->snap->take_what_fits && w->snap->full)
			break;
		err = rv_walk_vma_family(w, vma);
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
		*addr = vma->vm_end;
		if (rwsem_is_contended(&mm->mmap_lock))
			return 0;
		cond_resched();
	}
	*addr = ULONG_MAX;
	return rv_pass_is_lost(w->snap) ? -ENOBUFS : 0;
}

static int rv_walk_mm_in_turns(struct rv_walker *w, struct mm_struct *mm)
{
	unsigned long addr = 0;
	int err;

	do {
		err = mmap_read_lock_killable(mm);
		if (err)
			return err;
		err = rv_walk_locked_mm(w, mm, &addr);
		mmap_read_unlock(mm);
		rv_let_waiters_in(addr != ULONG_MAX);
		/* Nobody but us is left: the process need not wait for us to go. */
		if (!err && atomic_read(&mm->mm_users) == 1)
			return -EAGAIN;
	} while (!err && addr != ULONG_MAX);
	return err;
}

static int rv_walk_mm(struct rv_walker *w, pid_t pid)
{
	struct mm_struct *mm = rv_lookup_mm(pid);
	struct rv_snap *s = w->snap;
	u32 vmas;
	int err;

	if (IS_ERR_OR_NULL(mm))
		return PTR_ERR_OR_ZERO(mm);
	s->mm_ptr = (unsigned long)mm;
	vmas = READ_ONCE(mm->map_count) + RV_VMAS_MORE;
	rv_snap_want(s, RV_ROOTS, vmas);
	rv_snap_want(s, RV_VMAS, vmas);
	rv_snap_want(s, RV_AVS, vmas);
	rv_snap_want(s, RV_AVCS, vmas);
	s->lookup_vmas = true;
	err = s->full ? -ENOBUFS : rv_walk_mm_in_turns(w, mm);
	rv_put_mm(mm);
	return err;
}

/* --------------------------------------------------------- all attempts -- */

static int rv_walk_once(struct rv_snap *s)
{
	struct rv_walker w = {
		.snap = s,
		.whole_folio = s->query.opts & RV_OPT_FOLIO,
		.brief = (s->query.opts & (RV_OPT_BRIEF | RV_OPT_VERIFY)) ==
			 RV_OPT_BRIEF,
		.family = RV_NONE,
		.last_attempt = s->retries + 1 == RV_ATTEMPTS,
	};

	s->attempts++;
	switch (s->query.target) {
	case RV_TARGET_PID:
		return rv_walk_mm(&w, s->query.pid);
	case RV_TARGET_PID_ADDR:
		return rv_walk_pid_addr(&w);
	default:
		return rv_walk_pfn(&w, s->query.pfn);
	}
}

/* Short waits first: most contention is over in microseconds. */
static int rv_wait_to_retry(struct rv_snap *s)
{
	unsigned long us;

	if (++s->retries == RV_ATTEMPTS)
		return -EAGAIN;
	if (fatal_signal_pending(current))
		return -EINTR;
	/* Nobody is to miss what is held while this waits. */
	rv_snap_clear(s);
	us = min(10UL << min(s->retries / 4, 10U), RV_WAIT_MAX_US);
	usleep_range(us, 2 * us);
	return 0;
}

/* Room for all that the pass has counted; one that locked nothing is none. */
static int rv_make_room(struct rv_snap *s)
{
	if (!s->visited && !rv_len(s, RV_VMAS))
		s->attempts--;
	if (fatal_signal_pending(current))
		return -EINTR;
	if (++s->grown == RV_GROWS_MAX)
		return -EAGAIN;
	return rv_snap_grow(s);
}

/* Until a pass has met no contention, and had room for all that it found. */
static int rv_walk_until_done(struct rv_snap *s)
{
	int err;

	for (;;) {
		err = rv_walk_once(s);
		if (err == -EAGAIN)
			err = rv_wait_to_retry(s);
		else if (err == -ENOBUFS)
			err = rv_make_room(s);
		else
			return err;
		if (err)
			return err;
	}
}

/**
 * rv_walk() - find what a query asks for
 * @q: the query
 *
 * Walks until one attempt has met no contention and lost no record.  Only a
 * family beyond RV_RECORDS_MAX is answered with records missing, and then
 * rv_snap_lost() says how many.
 *
 * Context: Process context, may sleep; no locks held.
 * Return: the snapshot, to be finished by the other steps and freed by
 * rv_snap_free(); or ERR_PTR of -ENXIO, -ESRCH, -EFAULT, -EAGAIN, -ENOMEM or
 * -EINTR as in the documentation of the query file.
 */
struct rv_snap *rv_walk(const struct rv_query *q)
{
	struct rv_snap *s = rv_snap_alloc(q);
	int err;

	if (!s)
		return ERR_PTR(-ENOMEM);
	err = rv_walk_until_done(s) ?: rv_intern(s);
	if (err) {
		rv_snap_free(s);
		return ERR_PTR(err);
	}
	/* KSM's walk has to know what it has met before, and nobody else has. */
	if (q->target != RV_TARGET_PID && !rv_has_history(s))
		rv_snap_forget(s);
	return s;
}

/**
 * rv_walk_counting() - count who maps a folio, and nothing else
 * @s: the snapshot of a query with RV_OPT_BRIEF and RV_OPT_FOLIO, from which only
 *	the counts of an earlier walk are taken back
 * @folio: the folio, referenced
 *
 * One attempt, which takes no reference and no memory.  Of a KSM page, entries
 * are counted as often as the kernel comes to them.
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0, -EAGAIN if somebody else has the folio or a lock, or -EINTR.
 */
int rv_walk_counting(struct rv_snap *s, struct folio *folio)
{
	struct rv_walker w = {
		.snap = s,
		.page = &folio->page,
		.pfn = folio_pfn(folio),
		.whole_folio = true,
		.brief = true,
		.for_listing = true,
		.family = RV_NONE,
	};

	memset(&s->page, 0, sizeof(s->page));
	s->visited = 0;
	s->mapped = 0;
	s->entries = 0;
	s->root_ptr = 0;
	s->reclaim.found = 0;
	return rv_walk_folio(&w, folio);
}
