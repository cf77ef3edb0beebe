// SPDX-License-Identifier: GPL-2.0
/*
 * What is written down while an rmap lock is held.
 *
 * Nothing here allocates or sleeps, but for cond_resched() where rmap_walk()
 * itself has it; what finds no room is counted.
 *
 * The AVCs of a VMA are a list that belongs to its mmap_lock, which must not be
 * taken below an rmap lock.  For a VMA found in a tree of a root that is locked,
 * reading the list is safe all the same: unlink_anon_vmas() takes every AVC of a
 * VMA out of its tree under the root's lock before it frees the first one that
 * matters here, and additions are list_add() of a whole AVC at the head.  So
 * walk forward only, load each link once, and bound it.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "rmapviz_collect.h"
#include "rmapviz_compat.h"

/* The lock of a family is its root's, which is alive as long as it is held. */
static void rv_assert_family_locked(const struct rv_snap *s, u32 family)
{
	struct anon_vma *root;

	if (IS_ENABLED(CONFIG_LOCKDEP) && family != RV_NONE) {
		root = (void *)rv_root_at(s, family)->key.ptr;
		lockdep_assert_held(&root->rwsem);
	}
}

/* The record to fill, or NULL: there is no room, or it is there already. */
static struct rv_vma *rv_new_vma(struct rv_snap *s, struct vm_area_struct *vma,
				 u32 family, struct rv_vma **known)
{
	struct rv_table *t = &s->tables[RV_VMAS];
	struct rv_vma *v;
	bool added;

	*known = NULL;
	if (rv_pass_is_lost(s) && !t->slot) {
		t->lost++;
		return NULL;
	}
	if (!t->slot) {
		v = rv_add(s, RV_VMAS, struct rv_vma);
		if (v)
			v->key = (struct rv_key){ (unsigned long)vma, family,
						  t->len - 1 };
		return v;
	}
	v = (struct rv_vma *)rv_table_find_or_add(t, (unsigned long)vma, family,
						  &added);
	s->full |= !v;
	if (v && added)
		return v;
	*known = v;
	return NULL;
}

/* Could a page asked for be in the VMA, if that is of its family? */
static bool rv_has_offset(const struct rv_snap *s, struct vm_area_struct *vma)
{
	u64 first = rv_vma_anon_pgoff(vma);

	return s->last_index >= first &&
	       s->first_index < first + vma_pages(vma);
}

/**
 * rv_record_vma() - note a VMA, and hold its mm and its file
 * @s: the snapshot
 * @vma: the VMA, in a tree that is locked
 * @family: the family in whose tree it was met, or RV_NONE for a file's tree
 *
 * Neither can go: the mm because a VMA of it is linked in a tree that is locked,
 * the file because remove_vma() drops it after the VMA was unlinked.
 *
 * Context: The lock of that tree is held for read.
 * Return: the record, which is an old one with @nr_avcs set if records are looked
 * up and it was there; or NULL after counting it as lost.
 */
struct rv_vma *rv_record_vma(struct rv_snap *s, struct vm_area_struct *vma,
			     u32 family)
{
	struct rv_vma *known, *v = rv_new_vma(s, vma, family, &known);

	rv_assert_family_locked(s, family);
	if (!v)
		return known;
	v->av_ptr = (unsigned long)READ_ONCE(vma->anon_vma);
	v->mm_ptr = (unsigned long)vma->vm_mm;
	v->file_ptr = (unsigned long)vma->vm_file;
	v->vm_flags = READ_ONCE(vma->vm_flags);
	v->start = vma->vm_start;
	v->end = vma->vm_end;
	v->pgoff = vma->vm_pgoff;
	v->in_range = rv_has_offset(s, vma);
	v->file = RV_NONE;
	v->first_avc = RV_NONE;
	v->nr_avcs = 0;
	v->keeps = 0;
	v->visited = false;
	v->found = false;
	v->mapped = false;
	mmgrab(vma->vm_mm);
	if (vma->vm_file) {
		get_file(vma->vm_file);
		s->has_files = true;
	}
	return v;
}

static void rv_record_av(struct rv_snap *s, const struct anon_vma *av,
			 u32 family)
{
	struct rv_av *r = rv_add(s, RV_AVS, struct rv_av);

	if (!r)
		return;
	s->treeless |= !READ_ONCE(av->rb_root.rb_leftmost);
	*r = (struct rv_av){
		.key = { (unsigned long)av, family, rv_len(s, RV_AVS) - 1 },
		.on_page = (unsigned long)av == s->av_ptr,
		.parent_ptr = (unsigned long)av->parent,
		.refcount = atomic_read(&av->refcount),
		.children = av->num_children,
		.active_vmas = av->num_active_vmas,
	};
}

/**
 * rv_is_first_of_av() - is it the AVC by which its anon_vma is noted?
 * @avc: the AVC, met on the list of a VMA
 *
 * Every AVC is in the tree of its anon_vma, and one is the first there; so each
 * anon_vma is noted once.  An AVC that fork has just put on the list is in no tree
 * yet (mm/rmap.c, anon_vma_fork()), and its anon_vma may have an empty one.
 *
 * Context: The root's lock is held for read.
 * Return: true for one AVC of each anon_vma.
 */
bool rv_is_first_of_av(const struct anon_vma_chain *avc)
{
	const struct rb_node *first =
		READ_ONCE(avc->anon_vma->rb_root.rb_leftmost);

	return !first || first == &avc->rb;
}

/**
 * rv_record_avcs() - note the AVCs of a VMA, and the anon_vmas that they join
 * @s: the snapshot
 * @vma: the VMA, found in a tree of the root that is locked
 * @v: its record; NULL to count only
 * @family: of that root, the index of its record
 *
 * Context: The root's lock is held for read.
 */
void rv_record_avcs(struct rv_snap *s, struct vm_area_struct *vma,
		    struct rv_vma *v, u32 family)
{
	const struct anon_vma_chain *avc;
	u32 first = rv_len(s, RV_AVCS), n;

	rv_assert_family_locked(s, family);
	rv_for_each_avc(avc, n, vma) {
		struct rv_avc *r = rv_add(s, RV_AVCS, struct rv_avc);

		if (rv_is_first_of_av(avc))
			rv_record_av(s, avc->anon_vma, family);
		if (r) {
			r->ptr = (unsigned long)avc;
			r->av_ptr = (unsigned long)avc->anon_vma;
			r->vma = v ? v->key.id : RV_NONE;
			r->av = RV_NONE;
		}
	}
	if (avc)
		s->endless_chains++;
	if (v) {
		v->first_avc = first;
		v->nr_avcs = rv_len(s, RV_AVCS) - first;
	}
}

/**
 * rv_record_family() - note the whole family of a root, unless it is there
 * @s: the snapshot
 * @root: the root; the caller keeps it alive for the whole attempt, so its
 *	address names it
 *
 * Every VMA that descends from a root is in its tree, since fork and split copy
 * all the AVCs of a VMA (anon_vma_clone()).
 *
 * Context: root->rwsem is held for read; may give up the CPU, as
 * rmap_walk_anon() does.
 * Return: the index of the family's record, or RV_NONE after counting it as
 * lost.
 */
u32 rv_record_family(struct rv_snap *s, struct anon_vma *root)
{
	struct rb_node *node;
	struct rv_key *key;
	bool added;
	u32 n = 0;

	lockdep_assert_held(&root->rwsem);
	key = rv_table_find_or_add(&s->tables[RV_ROOTS], (unsigned long)root,
				   RV_NONE, &added);
	if (!key) {
		s->full = true;
		return RV_NONE;
	}
	if (!added)
		return key->id;

	for (node = rb_first_cached(&root->rb_root);
	     node && !fatal_signal_pending(current); node = rb_next(node)) {
		struct vm_area_struct *vma =
			rb_entry(node, struct anon_vma_chain, rb)->vma;
		struct rv_vma *v = rv_record_vma(s, vma, key->id);

		rv_record_avcs(s, vma, v, key->id);
		if (++n % RV_RECORD_TURN == 0)
			cond_resched();
	}
	return key->id;
}
