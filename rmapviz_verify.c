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
#include <linux/sort.h>
#include <linux/string.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

/* Entries, or VMAs, between two chances to give up the CPU or to be killed. */
#define RV_SCAN_TURN 1024

/* One place where the page is mapped. */
struct rv_place {
	unsigned long mm;
	u64 addr;
};

/**
 * struct rv_scan - a scan of all memory
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
}

static void rv_list_mm(struct rv_scan *sc, struct task_struct *task)
{
	struct mm_struct *mm;
	bool added = false;

	task_lock(task);
	mm = task->mm;
	if (mm && !(task->flags & PF_KTHREAD) &&
	    rv_table_find_or_add(&sc->mms, mm, RV_NONE, &added) && added)
		mmgrab(mm);
	task_unlock(task);
}

static int rv_list_mms(struct rv_scan *sc)
{
	struct task_struct *leader, *task;
	int err;

	for (;;) {
		rcu_read_lock();
		for_each_process_thread(leader, task)
			rv_list_mm(sc, task);
		rcu_read_unlock();
		if (!sc->mms.lost)
			return 0;
		if (sc->mms.cap == RV_RECORDS_MAX)
			return -ENOMEM;
		rv_put_mms(sc);
		err = rv_table_grow(&sc->mms);
		if (err)
			return err;
	}
}

/* ---------------------------------------------------------------- the scan -- */

/* Called with each number in turn: gives up the CPU now and then. */
static int rv_give_way(u64 count)
{
	if (count % RV_SCAN_TURN)
		return 0;
	if (fatal_signal_pending(current))
		return -EINTR;
	cond_resched();
	return 0;
}

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

static int rv_scan_vma(struct rv_scan *sc, struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;
	unsigned long addr = vma->vm_start;
	struct rv_place *place;
	struct rv_leaf leaf;
	u64 hit;
	int err;

	for (; rv_next_leaf(mm, addr, vma->vm_end, &leaf);
	     addr = leaf.addr + leaf.size) {
		err = rv_give_way(++sc->snap->scan.entries);
		if (err)
			return err;
		if (!rv_leaf_hits(sc, &leaf, &hit))
			continue;
		sc->hits++;
		place = sc->compare ? rv_table_add(&sc->found) : NULL;
		if (place) {
			place->mm = (unsigned long)mm;
			place->addr = hit;
		}
	}
	return 0;
}

static int rv_scan_mm(struct rv_scan *sc, struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	unsigned long addr = 0;
	int err;

	/* Nobody is left who could map anything. */
	if (!mmget_not_zero(mm))
		return 0;
	sc->snap->scan.mms++;
	err = mmap_read_lock_killable(mm);
	if (err)
		goto put;
	while (!err && (vma = find_vma(mm, addr))) {
		err = rv_give_way(++sc->snap->scan.vmas);
		if (!err && !(vma->vm_flags & (VM_IO | VM_PFNMAP)))
			err = rv_scan_vma(sc, vma);
		addr = vma->vm_end;
	}
	mmap_read_unlock(mm);
put:
	mmput(mm);
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
		if (sc->found.cap == RV_RECORDS_MAX)
			return -ENOMEM;
		err = rv_table_grow(&sc->found);
		if (err)
			return err;
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

/* The places that a walk found, sorted, one for each entry; NULL: no memory. */
static struct rv_place *rv_walked_places(const struct rv_snap *s)
{
	struct rv_place *places;
	const struct rv_pte *pte;
	u32 n = 0;

	places = kvmalloc_array(rv_len(s, RV_PTES) + 1, sizeof(*places),
				GFP_KERNEL);
	if (!places)
		return NULL;
	rv_for_each(pte, s, RV_PTES) {
		const struct rv_vma *vma = rv_vma_at(s, pte->vma);

		places[n].mm = rv_mm_at(s, vma->mm)->key.ptr;
		places[n++].addr = pte->addr;
	}
	sort(places, n, sizeof(*places), rv_cmp_place, NULL);
	return places;
}

static bool rv_has_place(const struct rv_place *places, u32 n,
			 const struct rv_place *place)
{
	return bsearch(place, places, n, sizeof(*place), rv_cmp_place);
}

/* What a second look at a place finds there. */
enum rv_sight {
	RV_ABSENT,
	RV_PRESENT,
	RV_EXITING, /* an address space that nobody can enter any more */
};

/* Is a page that counts mapped there now? */
static enum rv_sight rv_look_at(const struct rv_scan *sc,
				const struct rv_mismatch *mismatch)
{
	struct mm_struct *mm = (struct mm_struct *)mismatch->mm_ptr;
	enum rv_sight sight = RV_EXITING;
	struct rv_leaf leaf;
	u64 addr;

	if (!mmget_not_zero(mm))
		return RV_EXITING;
	if (!mmap_read_lock_killable(mm)) {
		sight = RV_ABSENT;
		if (rv_lookup_leaf(mm, mismatch->addr, &leaf) &&
		    rv_leaf_hits(sc, &leaf, &addr) && addr == mismatch->addr)
			sight = RV_PRESENT;
		mmap_read_unlock(mm);
	}
	mmput(mm);
	return sight;
}

/*
 * Keeps what stood both looks; the rest has changed meanwhile.  @walked are the
 * @n places that the second walk found.
 */
static void rv_keep_confirmed(struct rv_scan *sc, struct rv_table *mismatches,
			      const struct rv_place *walked, u32 n,
			      enum rv_sight wanted)
{
	const bool walk_has_it = wanted == RV_ABSENT;
	struct rv_mismatch *mismatch, *kept = mismatches->rec;
	u32 len = 0;

	rv_for_each_in(mismatch, mismatches) {
		struct rv_place place = { mismatch->mm_ptr, mismatch->addr };

		if (mismatch->confirmed &&
		    rv_has_place(walked, n, &place) == walk_has_it &&
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
	struct rv_place *walked = NULL;
	struct rv_mismatch *mismatch;
	struct rv_snap *again;

	if (!mismatches->len)
		return 0;
	rv_for_each_in(mismatch, mismatches)
		mismatch->confirmed = rv_look_at(sc, mismatch) == wanted;
	again = rv_walk(&q);
	if (IS_ERR(again))
		return PTR_ERR(again);
	if (!rv_snap_lost(again))
		walked = rv_walked_places(again);
	if (walked)
		rv_keep_confirmed(sc, mismatches, walked,
				  rv_len(again, RV_PTES), wanted);
	kvfree(walked);
	rv_snap_free(again);
	return walked ? 0 : -ENOMEM;
}

static void rv_add_mismatch(struct rv_snap *s, enum rv_table_id id,
			    const struct rv_place *place)
{
	struct rv_mismatch *mismatch = rv_table_add(&s->tables[id]);
	struct rv_key *key;
	bool added;

	if (!mismatch)
		return;
	key = rv_table_find_or_add(&s->tables[RV_MMS], (void *)place->mm,
				   RV_NONE, &added);
	if (key && added)
		mmgrab((struct mm_struct *)place->mm);
	mismatch->mm_ptr = place->mm;
	mismatch->mm = key ? key->id : RV_NONE;
	mismatch->addr = place->addr;
}

/*
 * What only one of scan and walk has seen, in one pass over both lists, which
 * are sorted alike; @walked are the @n places that the walk found.
 */
static void rv_note_mismatches(struct rv_scan *sc,
			       const struct rv_place *walked, u32 n)
{
	const struct rv_place *seen = sc->found.rec;
	struct rv_snap *s = sc->snap;
	u32 i = 0, j = 0;
	int order;

	while (i < sc->found.len || j < n) {
		if (i == sc->found.len)
			order = 1;
		else if (j == n)
			order = -1;
		else
			order = rv_cmp_place(&seen[i], &walked[j]);
		if (order < 0)
			rv_add_mismatch(s, RV_MISSING, &seen[i]);
		if (order > 0)
			rv_add_mismatch(s, RV_EXTRA, &walked[j]);
		i += order <= 0;
		j += order >= 0;
	}
}

/* What the scan found against what the walk did, each doubt looked at again. */
static int rv_compare_with_walk(struct rv_scan *sc)
{
	struct rv_place *walked = rv_walked_places(sc->snap);
	int err;

	if (!walked)
		return -ENOMEM;
	sort(sc->found.rec, sc->found.len, sizeof(struct rv_place),
	     rv_cmp_place, NULL);
	rv_note_mismatches(sc, walked, rv_len(sc->snap, RV_PTES));
	kvfree(walked);
	err = rv_confirm_mismatches(sc, RV_MISSING, RV_PRESENT);
	return err ?: rv_confirm_mismatches(sc, RV_EXTRA, RV_ABSENT);
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
	err = rv_table_alloc_keyed(&sc.mms, sizeof(struct rv_key));
	err = err ?: rv_table_alloc(&sc.found, sizeof(struct rv_place));
	err = err ?: rv_list_mms(&sc);
	err = err ?: rv_scan_all(&sc);
	s->scan.found = sc.hits;
	if (!err && sc.compare)
		err = rv_compare_with_walk(&sc);
	rv_put_mms(&sc);
	rv_table_free(&sc.mms);
	rv_table_free(&sc.found);
	return err;
}
