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

/* A VMA has one AVC per generation of forks; more than this is corruption. */
#define RV_AVCS_MAX 65536

/* Records between two chances to give up the CPU. */
#define RV_RECORD_TURN 256

static u32 rv_id(const struct rv_key *key)
{
	return key ? key->id : RV_NONE;
}

/* The lock of a family is its root's, which is alive as long as it is held. */
static void rv_assert_family_locked(const struct rv_snap *s, u32 family)
{
	struct anon_vma *root = (void *)rv_root_at(s, family)->ptr;

	lockdep_assert_held(&root->rwsem);
}

/* The mm cannot go: a VMA of it is linked in a tree that we hold locked. */
static u32 rv_record_mm(struct rv_snap *s, struct mm_struct *mm)
{
	bool added;
	struct rv_key *key =
		rv_table_find_or_add(&s->tables[RV_MMS], mm, RV_NONE, &added);

	if (key && added)
		mmgrab(mm);
	return rv_id(key);
}

/* Nor can its file: remove_vma() drops it after the VMA was unlinked. */
static u32 rv_record_file(struct rv_snap *s, struct file *file)
{
	struct rv_key *key;
	bool added;

	if (!file)
		return RV_NONE;
	key = rv_table_find_or_add(&s->tables[RV_FILES], file, RV_NONE, &added);
	if (key && added)
		get_file(file);
	return rv_id(key);
}

static u8 rv_area_of(const struct vm_area_struct *vma)
{
	const struct mm_struct *mm = vma->vm_mm;

	if (vma->vm_file)
		return RV_AREA_FILE;
	/* As show_map_vma() of fs/proc/task_mmu.c names them. */
	if (vma->vm_start < READ_ONCE(mm->brk) &&
	    vma->vm_end > READ_ONCE(mm->start_brk))
		return RV_AREA_HEAP;
	if (vma->vm_start <= READ_ONCE(mm->start_stack) &&
	    vma->vm_end >= READ_ONCE(mm->start_stack))
		return RV_AREA_STACK;
	return RV_AREA_PLAIN;
}

/**
 * rv_record_vma() - note a VMA, its mm and its file
 * @s: the snapshot
 * @vma: the VMA, in a tree that is locked
 * @family: the family in whose tree it was met, or RV_NONE for a file's tree
 * @added: set to whether it was not there yet
 *
 * Context: The lock of that tree is held for read.
 * Return: the record, or NULL after counting it as lost.
 */
struct rv_vma *rv_record_vma(struct rv_snap *s, struct vm_area_struct *vma,
			     u32 family, bool *added)
{
	struct rv_key *key =
		rv_table_find_or_add(&s->tables[RV_VMAS], vma, family, added);
	struct rv_vma *v;

	if (family != RV_NONE)
		rv_assert_family_locked(s, family);
	if (!key || !*added)
		return (struct rv_vma *)key;

	v = container_of(key, struct rv_vma, key);
	v->av_ptr = (unsigned long)READ_ONCE(vma->anon_vma);
	v->av = RV_NONE;
	v->start = vma->vm_start;
	v->end = vma->vm_end;
	v->pgoff = vma->vm_pgoff;
	v->vm_flags = READ_ONCE(vma->vm_flags);
	v->area = rv_area_of(vma);
	v->mm = rv_record_mm(s, vma->vm_mm);
	v->file = rv_record_file(s, vma->vm_file);
	return v;
}

static u32 rv_record_av(struct rv_snap *s, const struct anon_vma *av,
			u32 family)
{
	struct rv_av *r;
	bool added;

	r = (struct rv_av *)rv_table_find_or_add(&s->tables[RV_AVS], av, family,
						 &added);
	if (r && added) {
		r->root_ptr = (unsigned long)av->root;
		r->parent_ptr = (unsigned long)av->parent;
		r->refcount = atomic_read(&av->refcount);
		r->children = av->num_children;
		r->active_vmas = av->num_active_vmas;
	} else if (r) {
		s->inconsistent |= r->parent_ptr != (unsigned long)av->parent;
	}
	return r ? r->key.id : RV_NONE;
}

/**
 * rv_record_avcs() - note the AVCs of a VMA, and the anon_vmas that they join
 * @s: the snapshot
 * @vma: the VMA, found in a tree of the root that is locked
 * @vma_id: the index of its record
 * @family: of that root, the index of its record
 *
 * Context: The root's lock is held for read.
 * Return: how many AVCs there are.
 */
u32 rv_record_avcs(struct rv_snap *s, struct vm_area_struct *vma, u32 vma_id,
		   u32 family)
{
	const struct anon_vma *own = READ_ONCE(vma->anon_vma);
	const struct list_head *pos = READ_ONCE(vma->anon_vma_chain.next);
	u32 n;

	rv_assert_family_locked(s, family);
	for (n = 0; pos != &vma->anon_vma_chain && n < RV_AVCS_MAX; n++) {
		const struct anon_vma_chain *avc =
			list_entry(pos, struct anon_vma_chain, same_vma);
		u32 av_id = rv_record_av(s, avc->anon_vma, family);
		struct rv_avc *r = rv_table_add(&s->tables[RV_AVCS]);

		if (r) {
			r->ptr = (unsigned long)avc;
			r->av = av_id;
			r->vma = vma_id;
			r->own = avc->anon_vma == own;
		}
		pos = READ_ONCE(pos->next);
	}
	if (pos != &vma->anon_vma_chain)
		s->endless_chains++;
	return n;
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
	u32 since_resched = 0;

	lockdep_assert_held(&root->rwsem);
	key = rv_table_find_or_add(&s->tables[RV_ROOTS], root, RV_NONE, &added);
	if (!key || !added)
		return rv_id(key);

	rv_record_av(s, root, key->id);
	for (node = rb_first_cached(&root->rb_root);
	     node && !fatal_signal_pending(current); node = rb_next(node)) {
		struct vm_area_struct *vma =
			rb_entry(node, struct anon_vma_chain, rb)->vma;
		struct rv_vma *v = rv_record_vma(s, vma, key->id, &added);

		since_resched += rv_record_avcs(
			s, vma, rv_id((struct rv_key *)v), key->id);
		if (since_resched >= RV_RECORD_TURN) {
			since_resched = 0;
			cond_resched();
		}
	}
	return key->id;
}
