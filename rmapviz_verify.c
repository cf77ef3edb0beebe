// SPDX-License-Identifier: GPL-2.0
/*
 * The way of 2.4: look at every entry of every address space for the page, and
 * compare with what rmap found.
 *
 * This shares no code with rmap_walk() and what it calls.  It takes one
 * mmap_lock after another, for read, as long as an address space lasts.
 */
#include <linux/bsearch.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

/* Entries between two looks whether somebody waits, for the CPU or a lock. */
#define RV_SCAN_TURN 256

/* Room for address spaces and places, before it is known how many there are. */
#define RV_SCAN_FIRST 256

/* One place where the page is mapped. */
struct rv_place {
	unsigned long mm;
	u64 addr;
};

/**
 * struct rv_scan - a scan of all memory
 * @visitor: lists the address spaces
 * @snap: what the walk found; the scan's results go there
 * @mms: struct rv_key, all address spaces, each with a reference
 * @found: struct rv_place, where the page was seen
 * @first: the first page that counts
 * @pages: how many count
 * @count_special: entries that rmap leaves out count as well
 * @compare: note where the page was seen, to compare with what the walk found
 * @hits: how often it was seen
 */
struct rv_scan {
	struct rv_process_visitor visitor;
	struct rv_snap *snap;
	struct rv_table mms;
	struct rv_table found;
	u64 first;
	u64 pages;
	bool count_special;
	bool compare;
	u64 hits;
};

/* ------------------------------------------------------ all address spaces -- */

static void rv_put_mms(struct rv_scan *sc)
{
	struct rv_key *key;

	rv_for_each_in(key, &sc->mms)
		mmdrop((struct mm_struct *)key->ptr);
	sc->mms.len = 0;
}

/* Has the thread an address space? */
static bool rv_list_mm(struct rv_scan *sc, struct task_struct *task)
{
	struct mm_struct *mm;
	bool added = false;

	task_lock(task);
	mm = task->flags & PF_KTHREAD ? NULL : task->mm;
	if (mm &&
	    rv_table_find_or_add(&sc->mms, (unsigned long)mm, RV_NONE,
				 &added) &&
	    added)
		mmgrab(mm);
	task_unlock(task);
	return mm;
}

static void rv_list_start(struct rv_process_visitor *v)
{
	struct rv_scan *sc = container_of(v, struct rv_scan, visitor);
	struct rv_table *mms = &sc->mms;

	rv_put_mms(sc);
	mms->lost = 0;
	memset(mms->slot, 0, (mms->slot_mask + 1) * sizeof(*mms->slot));
}

static bool rv_list_visit(struct rv_process_visitor *v,
			  struct task_struct *leader)
{
	struct task_struct *task;

	/* All threads have the same one, but those that have left it. */
	for_each_thread(leader, task)
		if (rv_list_mm(container_of(v, struct rv_scan, visitor), task))
			break;
	return true;
}

static int rv_list_mms(struct rv_scan *sc)
{
	int err;

	err = rv_table_reserve(&sc->mms, RV_SCAN_FIRST) ?:
		      rv_table_reserve_slots(&sc->mms);
	while (!err) {
		err = rv_visit_processes(&sc->visitor);
		if (err || !sc->mms.lost)
			break;
		/* What is thrown away holds references. */
		sc->mms.lost += sc->mms.len;
		rv_put_mms(sc);
		err = rv_table_grow(&sc->mms);
	}
	return err == -ENOSPC ? -ENOMEM : err;
}

/* ---------------------------------------------------------------- the scan -- */

/* Does the entry map a page that counts, and where? */
static bool rv_leaf_hits(const struct rv_scan *sc, const struct rv_leaf *leaf,
			 u64 *addr)
{
	u64 pages = leaf->size >> PAGE_SHIFT;

	if ((leaf->special && !sc->count_special) ||
	    sc->first >= leaf->pfn + pages ||
	    leaf->pfn >= sc->first + sc->pages)
		return false;
	*addr = leaf->addr;
	if (sc->first > leaf->pfn)
		*addr += (sc->first - leaf->pfn) << PAGE_SHIFT;
	return true;
}

static void rv_note_hit(struct rv_scan *sc, struct mm_struct *mm, u64 addr)
{
	struct rv_place *place = sc->compare ? rv_table_add(&sc->found) : NULL;

	sc->hits++;
	sc->snap->scan.until_last = sc->snap->scan.entries;
	if (!place)
		return;
	place->mm = (unsigned long)mm;
	place->addr = addr;
}

/* Is there a reason to let go of mmap_lock? */
static bool rv_somebody_waits(struct mm_struct *mm)
{
	return rwsem_is_contended(&mm->mmap_lock) || need_resched() ||
	       fatal_signal_pending(current);
}

/* From an address on, to the end of the VMA or until somebody waits. */
static void rv_scan_vma(struct rv_scan *sc, struct vm_area_struct *vma,
			unsigned long *addr)
{
	struct mm_struct *mm = vma->vm_mm;
	struct rv_leaf leaf;
	u64 hit;

	*addr = max(*addr, vma->vm_start);
	while (rv_next_leaf(mm, addr, vma->vm_end, &leaf)) {
		sc->snap->scan.entries++;
		if (rv_leaf_hits(sc, &leaf, &hit))
			rv_note_hit(sc, mm, hit);
		if (sc->snap->scan.entries % RV_SCAN_TURN == 0 &&
		    rv_somebody_waits(mm))
			return;
	}
}

/* From an address on, as long as nobody waits for mmap_lock, which is held. */
static void rv_scan_locked_mm(struct rv_scan *sc, struct mm_struct *mm,
			      unsigned long *addr)
{
	struct vm_area_struct *vma;

	while ((vma = find_vma(mm, *addr))) {
		/* One of which a part was seen counts once. */
		sc->snap->scan.vmas += *addr <= vma->vm_start;
		if (vma->vm_flags & (VM_IO | VM_PFNMAP))
			*addr = vma->vm_end;
		else
			rv_scan_vma(sc, vma, addr);
		if (rv_somebody_waits(mm))
			return;
	}
	*addr = ULONG_MAX;
}

/*
 * mmap_lock is given up whenever somebody waits for it, and the scan goes on
 * from where it was.  What is moved meanwhile is found by the second look.
 */
static int rv_scan_mm(struct rv_scan *sc, struct mm_struct *mm)
{
	unsigned long addr = 0;
	int err = 0;

	/* Nobody is left who could map anything. */
	if (!mmget_not_zero(mm))
		return 0;
	sc->snap->scan.mms++;
	while (!err && addr != ULONG_MAX) {
		err = mmap_read_lock_killable(mm);
		if (err)
			break;
		rv_scan_locked_mm(sc, mm, &addr);
		mmap_read_unlock(mm);
		rv_let_waiters_in(addr != ULONG_MAX);
		if (fatal_signal_pending(current))
			err = -EINTR;
		/* Nobody but us is left: let it go rather than look on. */
		if (atomic_read(&mm->mm_users) == 1)
			break;
	}
	rv_put_mm(mm);
	return err;
}

static int rv_scan_all(struct rv_scan *sc)
{
	struct rv_key *key;
	int err;

	for (;;) {
		memset(&sc->snap->scan, 0, sizeof(sc->snap->scan));
		sc->hits = 0;
		rv_for_each_in(key, &sc->mms) {
			err = rv_scan_mm(sc, (struct mm_struct *)key->ptr);
			if (err)
				return err;
		}
		if (!sc->found.lost)
			return 0;
		err = rv_table_grow(&sc->found);
		if (err)
			return err == -ENOSPC ? -ENOMEM : err;
	}
}

/* ----------------------------------------------------------- the comparison -- */

static int rv_cmp_place(const void *a, const void *b)
{
	const struct rv_place *x = a, *y = b;

	if (x->mm != y->mm)
		return x->mm < y->mm ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* The places that a walk found, one for each entry, sorted. */
static int rv_list_walked(const struct rv_snap *s, struct rv_table *places)
{
	const struct rv_pte *pte;
	int err;

	rv_table_init(places, sizeof(struct rv_place));
	err = rv_table_reserve(places, rv_len(s, RV_PTES));
	if (err)
		return err;
	rv_for_each(pte, s, RV_PTES) {
		const struct rv_vma *vma = rv_vma_at(s, pte->vma);
		struct rv_place *place = vma ? rv_table_add(places) : NULL;

		if (!place)
			continue;
		place->mm = vma->mm_ptr;
		place->addr = pte->addr;
	}
	return rv_table_sort(places, rv_cmp_place);
}

static bool rv_has_place(const struct rv_table *places,
			 const struct rv_place *place)
{
	return bsearch(place, places->rec, places->len, sizeof(*place),
		       rv_cmp_place);
}

/* What a second look at a place finds there. */
enum rv_sight {
	RV_ABSENT,
	RV_PRESENT,
	RV_UNSURE, /* it is just being unmapped, or the page migrated */
};

/*
 * munmap() takes a VMA out of the mm, lets mmap_lock go down to read, and only
 * then zaps its entries and unlinks it from rmap.  For that long a walk rightly
 * finds entries where there is no VMA.  The same goes for exit.
 */
static enum rv_sight rv_look_at_locked(const struct rv_scan *sc,
				       struct mm_struct *mm, u64 addr)
{
	struct vm_area_struct *vma = find_vma(mm, addr);
	struct rv_leaf leaf;
	u64 hit;

	if (!vma || vma->vm_start > addr)
		return RV_UNSURE;
	if (rv_lookup_leaf(mm, addr, &leaf) && rv_leaf_hits(sc, &leaf, &hit) &&
	    hit == addr)
		return RV_PRESENT;
	return leaf.migrating ? RV_UNSURE : RV_ABSENT;
}

/* Is a page that counts mapped there now? */
static enum rv_sight rv_look_at(const struct rv_scan *sc,
				const struct rv_mismatch *mismatch)
{
	struct mm_struct *mm = (struct mm_struct *)mismatch->mm_ptr;
	enum rv_sight sight = RV_UNSURE;

	if (!mmget_not_zero(mm))
		return RV_UNSURE;
	if (!mmap_read_lock_killable(mm)) {
		sight = rv_look_at_locked(sc, mm, mismatch->addr);
		mmap_read_unlock(mm);
	}
	rv_put_mm(mm);
	return sight;
}

/*
 * Keeps what both looks have confirmed; the rest has changed meanwhile.  So has
 * all, if the page is another object's by now: ksmd has made it one of its own, or
 * a file has lost it.
 */
static void rv_keep_confirmed(struct rv_scan *sc, struct rv_table *mismatches,
			      const struct rv_snap *again,
			      const struct rv_table *walked,
			      enum rv_sight wanted)
{
	const bool same = again->page.mapping_word ==
			  sc->snap->page.mapping_word;
	const bool walk_has_it = wanted == RV_ABSENT;
	struct rv_mismatch *mismatch, *kept = mismatches->rec;
	u32 len = 0;

	rv_for_each_in(mismatch, mismatches) {
		struct rv_place place = { mismatch->mm_ptr, mismatch->addr };

		if (same && mismatch->confirmed &&
		    rv_has_place(walked, &place) == walk_has_it &&
		    rv_look_at(sc, mismatch) == wanted)
			kept[len++] = *mismatch;
	}
	sc->snap->scan.changed += mismatches->len - len;
	mismatches->len = len;
}

/*
 * A second look at places on which scan and walk disagree.  It counts if the
 * scan's side, what it @wanted to see, stands before and after a second walk,
 * and that walk disagrees as well.
 */
static int rv_confirm_mismatches(struct rv_scan *sc, enum rv_table_id id,
				 enum rv_sight wanted)
{
	struct rv_table *mismatches = &sc->snap->tables[id];
	struct rv_query q = {
		.target = RV_TARGET_PFN,
		.pfn = sc->snap->page.pfn,
		.opts = sc->snap->query.opts & RV_OPT_FOLIO,
	};
	struct rv_table walked = {};
	struct rv_mismatch *mismatch;
	struct rv_snap *again;
	int err;

	if (!mismatches->len)
		return 0;
	rv_for_each_in(mismatch, mismatches)
		mismatch->confirmed = rv_look_at(sc, mismatch) == wanted;
	again = rv_walk(&q);
	if (IS_ERR(again))
		return PTR_ERR(again);
	/* No file system is to wait while mmap_locks are waited for. */
	rv_snap_put_files(again);
	err = rv_snap_lost(again) ? -ENOMEM : rv_list_walked(again, &walked);
	if (!err)
		rv_keep_confirmed(sc, mismatches, again, &walked, wanted);
	rv_table_free(&walked);
	rv_snap_free(again);
	return err;
}

static void rv_add_mismatch(struct rv_snap *s, enum rv_table_id id,
			    const struct rv_place *place)
{
	struct rv_mismatch *mismatch = rv_table_add(&s->tables[id]);

	if (!mismatch)
		return;
	mismatch->mm_ptr = place->mm;
	mismatch->addr = place->addr;
	mismatch->mm = RV_NONE;
}

/* Each place that only one of them has seen; both are sorted alike. */
static void rv_add_mismatches(struct rv_scan *sc, const struct rv_table *walked)
{
	const struct rv_place *a = sc->found.rec, *b = walked->rec;
	u32 i = 0, j = 0;
	int order;

	while (i < sc->found.len || j < walked->len) {
		if (i == sc->found.len)
			order = 1;
		else if (j == walked->len)
			order = -1;
		else
			order = rv_cmp_place(&a[i], &b[j]);
		if (order < 0)
			rv_add_mismatch(sc->snap, RV_MISSING, &a[i]);
		if (order > 0)
			rv_add_mismatch(sc->snap, RV_EXTRA, &b[j]);
		i += order <= 0;
		j += order >= 0;
	}
}

/* Room for exactly as many as there are, which is hardly ever one. */
static int rv_note_mismatches(struct rv_scan *sc, const struct rv_table *walked)
{
	struct rv_table *tables = sc->snap->tables;
	int err;

	/* Without room all are only counted. */
	rv_add_mismatches(sc, walked);
	err = rv_table_reserve(&tables[RV_MISSING], tables[RV_MISSING].lost) ?:
		      rv_table_reserve(&tables[RV_EXTRA],
				       tables[RV_EXTRA].lost);
	if (!err)
		rv_add_mismatches(sc, walked);
	return err;
}

/* The address spaces of what is left are to be named as well. */
static int rv_record_mms_of(struct rv_snap *s, enum rv_table_id id)
{
	struct rv_table *mms = &s->tables[RV_MMS];
	struct rv_mismatch *mismatch;
	struct rv_mm *mm;
	bool added;
	int err;

	if (!s->tables[id].len)
		return 0;
	err = rv_table_extend(mms, s->tables[id].len) ?: rv_table_index(mms);
	if (err)
		return err;
	rv_for_each_in(mismatch, &s->tables[id]) {
		mm = (struct rv_mm *)rv_table_find_or_add(mms, mismatch->mm_ptr,
							  RV_NONE, &added);
		if (added) {
			*mm = (struct rv_mm){ .key = mm->key, .held = true };
			mmgrab((struct mm_struct *)mismatch->mm_ptr);
			s->holds_mms = true;
		}
		mismatch->mm = mm->key.id;
	}
	return 0;
}

/* What the scan found against what the walk did, each doubt looked at again. */
static int rv_compare_with_walk(struct rv_scan *sc)
{
	struct rv_table walked = {};
	int err;

	err = rv_list_walked(sc->snap, &walked)		      ?:
		      rv_table_sort(&sc->found, rv_cmp_place) ?:
		      rv_note_mismatches(sc, &walked);
	rv_table_free(&walked);
	return err							 ?:
		       rv_confirm_mismatches(sc, RV_MISSING, RV_PRESENT) ?:
		       rv_confirm_mismatches(sc, RV_EXTRA, RV_ABSENT)	 ?:
		       rv_record_mms_of(sc->snap, RV_MISSING)		 ?:
		       rv_record_mms_of(sc->snap, RV_EXTRA);
}

/**
 * rv_verify() - compare what rmap found with all that is mapped
 * @s: the snapshot of a page, as rv_walk() left it; what the scan saw and where
 * it disagrees is added
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0, -ENOMEM, -EINTR, or what a second walk met.
 */
int rv_verify(struct rv_snap *s)
{
	struct rv_scan sc = {
		.visitor = { rv_list_start, rv_list_visit },
		.snap = s,
		.first = s->page.pfn,
		.pages = 1,
		.count_special = !rv_kind_mapped(s->page.kind),
		/* What rmap does not map it cannot miss, nor what did not fit. */
		.compare = rv_kind_mapped(s->page.kind) && !rv_snap_lost(s),
	};
	int err;

	if (s->query.opts & RV_OPT_FOLIO) {
		sc.first = s->page.head;
		sc.pages = 1ULL << s->page.order;
	}
	rv_table_init(&sc.mms, sizeof(struct rv_key));
	rv_table_init(&sc.found, sizeof(struct rv_place));
	err = rv_table_reserve(&sc.found, rv_len(s, RV_PTES) + 8) ?:
		      rv_list_mms(&sc)				  ?:
		      rv_scan_all(&sc);
	s->scan.found = sc.hits;
	if (!err && sc.compare)
		err = rv_compare_with_walk(&sc);
	rv_put_mms(&sc);
	rv_table_free(&sc.mms);
	rv_table_free(&sc.found);
	return err;
}
