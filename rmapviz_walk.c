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

/* Attempts for a page without a count of which nothing else is known. */
#define RV_FROZEN_LOOKS 3

/**
 * struct rv_walker - one attempt
 * @snap: where records go
 * @page: the page asked for, or NULL
 * @folio: its folio, while it is locked and walked
 * @whole_folio: record every page of the folio
 * @family: whose lock is held, an index into RV_ROOTS, or RV_NONE
 * @last_attempt: there will be no further attempt
 * @locked_at: when the rmap lock was taken, ktime_get_ns(); 0 if it was not
 */
struct rv_walker {
	struct rv_snap *snap;
	struct page *page;
	struct folio *folio;
	bool whole_folio;
	u32 family;
	bool last_attempt;
	u64 locked_at;
};

/* ------------------------------------------------ callbacks of rmap_walk -- */

/* pte_protnone() is always false on a kernel without NUMA balancing. */
static bool rv_pte_protnone(pte_t pte)
{
	return (pte_flags(pte) & (_PAGE_PROTNONE | _PAGE_PRESENT)) ==
	       _PAGE_PROTNONE;
}

static u16 rv_pte_flags(pte_t pte)
{
	return (pte_present(pte) ? RV_PTE_PRESENT : 0) |
	       (pte_write(pte) ? RV_PTE_WRITE : 0) |
	       (pte_flags(pte) & _PAGE_USER ? RV_PTE_USER : 0) |
	       (pte_young(pte) ? RV_PTE_ACCESSED : 0) |
	       (pte_dirty(pte) ? RV_PTE_DIRTY : 0) |
	       (pte_flags(pte) & _PAGE_NX ? RV_PTE_NX : 0) |
	       (pte_soft_dirty(pte) ? RV_PTE_SOFT_DIRTY : 0) |
	       (rv_pte_uffd_wp(pte) ? RV_PTE_UFFD_WP : 0) |
	       (pte_special(pte) ? RV_PTE_SPECIAL : 0) |
	       (rv_pte_protnone(pte) ? RV_PTE_PROTNONE : 0);
}

/*
 * The entry that page_vma_mapped_walk() hit, and how many bytes it maps; those
 * of all levels have equal bits.
 */
static pte_t rv_read_hit(const struct page_vma_mapped_walk *pvmw,
			 unsigned long *size)
{
	if (!pvmw->pte) {
		*size = PMD_SIZE;
		return __pte(pmd_val(READ_ONCE(*pvmw->pmd)));
	}
	*size = is_vm_hugetlb_page(pvmw->vma) ? vma_kernel_pagesize(pvmw->vma) :
						PAGE_SIZE;
	return READ_ONCE(*pvmw->pte);
}

static u8 rv_level_of_size(unsigned long size)
{
	if (size >= PUD_SIZE)
		return RV_LEVEL_PUD;
	return size >= PMD_SIZE ? RV_LEVEL_PMD : RV_LEVEL_PTE;
}

/*
 * One hit, its page table lock held.  Reclaim cares for every page of the
 * folio, the list of entries for those asked for: true if it maps one of these.
 */
static bool rv_record_hit(struct rv_walker *w,
			  const struct page_vma_mapped_walk *pvmw,
			  struct rv_vma *v)
{
	unsigned long pfn = page_to_pfn(w->page), first, pages, size;
	pte_t pte = rv_read_hit(pvmw, &size);
	struct rv_pte *r;

	if (!pte_present(pte))
		return false;
	w->snap->reclaim.found++;
	w->snap->reclaim.young |= pte_young(pte);
	w->snap->reclaim.dirty |= pte_dirty(pte);
	if (v)
		v->holds_folio = true;

	pages = size >> PAGE_SHIFT;
	first = pte_pfn(pte) & ~(pages - 1);
	if (w->whole_folio)
		pfn = first;
	else if (pfn - first >= pages)
		return false;

	r = rv_table_add(&w->snap->tables[RV_PTES]);
	if (r) {
		r->vma = v ? v->key.id : RV_NONE;
		r->addr = (pvmw->address & ~(size - 1)) +
			  ((pfn - first) << PAGE_SHIFT);
		r->pfn = pfn;
		r->pages = w->whole_folio ? pages : 1;
		r->value = pte_val(pte);
		r->flags = rv_pte_flags(pte);
		r->pkey = pte_flags_pkey(pte_flags(pte));
		r->level = rv_level_of_size(size);
	}
	return true;
}

/* Still the VMA that was recorded, and not another in its place? */
static bool rv_still_describes(const struct rv_snap *s, const struct rv_vma *v,
			       const struct vm_area_struct *vma)
{
	return v->start == vma->vm_start && v->end == vma->vm_end &&
	       (v->mm == RV_NONE ||
		rv_mm_at(s, v->mm)->key.ptr == (unsigned long)vma->vm_mm);
}

/*
 * The record of the VMA that a walk calls back for.
 *
 * A walk of an anonymous folio finds it recorded.  A KSM walk locks one family
 * after another, and the same again: a family is recorded when it is met
 * first, and a VMA that has joined since is added.  The root stays, since the
 * items of the stable node hold their anon_vmas while the folio is locked; but
 * an address within the family may by then name something else.
 */
static struct rv_vma *rv_record_visit(struct rv_walker *w,
				      struct vm_area_struct *vma)
{
	struct anon_vma *own = READ_ONCE(vma->anon_vma);
	struct rv_vma *v;
	bool added;

	if (folio_test_ksm(w->folio)) {
		/* fork links a VMA before it gives it an anon_vma */
		w->snap->inconsistent |= !own;
		w->family = own ? rv_record_family(w->snap, own->root) :
				  RV_NONE;
	}
	v = rv_record_vma(w->snap, vma, w->family, &added);
	if (!v)
		return NULL;
	v->visited = true;
	if (!added)
		w->snap->inconsistent |= !rv_still_describes(w->snap, v, vma);
	else if (w->family != RV_NONE)
		rv_record_avcs(w->snap, vma, v->key.id, w->family);
	return v;
}

/*
 * rmap_walk_control.rmap_one(): the rmap lock and the folio lock are held.  The
 * lock of a family is asserted where its VMAs are recorded.
 */
static bool rv_rmap_one(RV_RMAP_OF *unused, struct vm_area_struct *vma,
			unsigned long addr, void *arg)
{
	struct rv_walker *w = arg;
	struct page_vma_mapped_walk pvmw;
	struct rv_vma *v;
	bool mapped = false;

	rv_assert_folio_locked(w->folio);
	if (!folio_test_anon(w->folio))
		lockdep_assert_held(&w->folio->mapping->i_mmap_rwsem);
	v = rv_record_visit(w, vma);
	rv_pvmw_init(&pvmw, w->folio, vma, addr);
	while (rv_page_vma_mapped_walk(&pvmw))
		mapped |= rv_record_hit(w, &pvmw, v);
	if (v)
		v->mapped |= mapped;
	return !fatal_signal_pending(current);
}

/* --------------------------------------------------- one attempt, a page -- */

/*
 * Locks the root of an anonymous folio's family, like folio_lock_anon_vma_read()
 * with try_lock set, but without references, for which the kernel exports no
 * put.  The family is recorded before the walk goes on, under the same lock, so
 * that the walk finds no VMA that was not recorded.
 */
static int rv_lock_and_record_family(struct rv_walker *w)
{
	unsigned long mapping = (unsigned long)READ_ONCE(w->folio->mapping);
	struct anon_vma *av = (void *)(mapping - RV_MAPPING_BIT_ANON), *root;
	bool locked = false, mapped;
	struct rv_key *key;

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
		return -ENOENT;
	if (!locked)
		return -EAGAIN;

	w->locked_at = ktime_get_ns();
	w->family = rv_record_family(w->snap, root);
	key = rv_table_find(&w->snap->tables[RV_AVS], av, w->family);
	if (key)
		container_of(key, struct rv_av, key)->on_page = true;
	return 0;
}

/* The folio is locked, referenced and mapped. */
static int rv_walk_rmap(struct rv_walker *w)
{
	struct rmap_walk_control rwc = {
		.arg = w,
		.rmap_one = rv_rmap_one,
		.anon_lock = rv_hand_over_lock,
	};
	u64 start = ktime_get_ns();
	int err;

	if (folio_test_anon(w->folio) && !folio_test_ksm(w->folio)) {
		err = rv_lock_and_record_family(w);
		if (err)
			return err == -ENOENT ? 0 : err;
	}
	if (!rv_rmap_walk_try(w->folio, &rwc) || w->snap->inconsistent)
		return -EAGAIN;
	if (fatal_signal_pending(current))
		return -EINTR;
	w->snap->lock_ns = ktime_get_ns() - (w->locked_at ?: start);
	return 0;
}

/* The folio is locked and referenced. */
static int rv_walk_locked_folio(struct rv_walker *w, struct folio *folio)
{
	struct rv_snap *s = w->snap;
	int err = 0;

	rv_assert_folio_locked(folio);
	if (rv_page_mappable(folio)) {
		rv_page_hold_inode(folio, s);
		w->folio = folio;
		if (rv_page_walkable(folio))
			err = rv_walk_rmap(w);
	}
	if (!err)
		rv_page_describe(&s->page, w->page, folio, RV_HELD_LOCKED);
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

/* Pin, then recheck that the pin is on the folio that was looked at. */
static int rv_walk_pfn(struct rv_walker *w, u64 pfn)
{
	struct folio *folio;
	int err = -EAGAIN;

	w->page = pfn_to_online_page(pfn);
	if (!w->page)
		return rv_walk_device_page(w, pfn);
	folio = page_folio(w->page);
	if (!folio_try_get(folio)) {
		/* Free, or of a kind that keeps no count: nothing maps it. */
		rv_page_describe(&w->snap->page, w->page, folio, RV_HELD_NOT);
		/* Or just frozen, to be migrated or split. */
		if (w->snap->page.kind == RV_KIND_OTHER &&
		    w->snap->retries < RV_FROZEN_LOOKS)
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

/* The family of a VMA of the mm; its mmap_lock is held for read. */
static int rv_walk_vma_family(struct rv_walker *w, struct vm_area_struct *vma)
{
	/* A VMA stays linked under mmap_lock, and so its anon_vma and root. */
	struct anon_vma *av = READ_ONCE(vma->anon_vma);
	u64 start;
	int err;

	rv_assert_mmap_locked(vma->vm_mm);
	if (!av || rv_table_find(&w->snap->tables[RV_ROOTS], av->root, RV_NONE))
		return 0;
	err = down_read_killable(&av->root->rwsem);
	if (err)
		return err;
	start = ktime_get_ns();
	rv_record_family(w->snap, av->root);
	w->snap->lock_ns += ktime_get_ns() - start;
	up_read(&av->root->rwsem);
	return 0;
}

/* Every family that a VMA of the mm belongs to; mmap_lock is held for read. */
static int rv_walk_locked_mm(struct rv_walker *w, struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	unsigned long addr = 0;
	int err;

	rv_assert_mmap_locked(mm);
	while ((vma = find_vma(mm, addr))) {
		err = rv_walk_vma_family(w, vma);
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		addr = vma->vm_end;
	}
	return 0;
}

static int rv_walk_mm(struct rv_walker *w, pid_t pid)
{
	struct mm_struct *mm = rv_lookup_mm(pid);
	int err;

	if (IS_ERR_OR_NULL(mm))
		return PTR_ERR_OR_ZERO(mm);
	err = mmap_read_lock_killable(mm);
	if (!err) {
		err = rv_walk_locked_mm(w, mm);
		mmap_read_unlock(mm);
	}
	mmput(mm);
	return err;
}

/* --------------------------------------------------------- all attempts -- */

static int rv_walk_once(struct rv_snap *s)
{
	struct rv_walker w = {
		.snap = s,
		.whole_folio = s->query.opts & RV_OPT_FOLIO,
		.family = RV_NONE,
		.last_attempt = s->retries + 1 == RV_ATTEMPTS,
	};

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
static int rv_walk_wait(u32 retries)
{
	unsigned long us = min(10UL << min(retries / 4, 10U), RV_WAIT_MAX_US);

	if (fatal_signal_pending(current))
		return -EINTR;
	usleep_range(us, 2 * us);
	return 0;
}

/* Attempts until one meets no contention, in a snapshot that was cleared. */
static int rv_walk_uncontended(struct rv_snap *s)
{
	int err = rv_walk_once(s);

	while (err == -EAGAIN && ++s->retries < RV_ATTEMPTS) {
		rv_snap_clear(s);
		err = rv_walk_wait(s->retries);
		err = err ?: rv_walk_once(s);
	}
	return err;
}

/* The same, until all records found room, or until there can be no more. */
static int rv_walk_completely(struct rv_snap *s)
{
	int err = rv_walk_uncontended(s);

	while (!err && rv_snap_lacks_room(s)) {
		err = rv_snap_grow(s);
		if (err == -ENOSPC)
			return 0;
		err = err ?: rv_walk_uncontended(s);
	}
	return err;
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
 * Return: the snapshot, to be finished by rv_find_names() and
 * rv_put_in_order(), and freed by rv_snap_free(); or ERR_PTR of -ENXIO, -ESRCH,
 * -EFAULT, -EAGAIN, -ENOMEM or -EINTR as in the documentation of the query file.
 */
struct rv_snap *rv_walk(const struct rv_query *q)
{
	struct rv_snap *s = rv_snap_alloc(q);
	int err;

	if (!s)
		return ERR_PTR(-ENOMEM);
	err = rv_walk_completely(s);
	if (err) {
		rv_snap_free(s);
		return ERR_PTR(err);
	}
	/* Twice called back for some places, which are one entry each. */
	if (s->page.kind == RV_KIND_KSM)
		rv_snap_drop_repeated_ptes(s);
	return s;
}
