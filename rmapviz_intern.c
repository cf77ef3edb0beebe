// SPDX-License-Identifier: GPL-2.0
/*
 * From what was appended under the locks to records that refer to one another
 * by index: each mm, file and anon_vma once.
 *
 * This is what hashing costs, and it is paid when nobody waits for it any more.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "rmapviz_collect.h"
#include "rmapviz_compat.h"

/* ------------------------------------------------------- mms and files -- */

/* A pointer that VMAs have, and the number that it gets: members by offset. */
struct rv_numbering {
	size_t ptr;
	size_t number;
};

static const struct rv_numbering rv_mm_numbering = {
	offsetof(struct rv_vma, mm_ptr),
	offsetof(struct rv_vma, mm),
};

static const struct rv_numbering rv_file_numbering = {
	offsetof(struct rv_vma, file_ptr),
	offsetof(struct rv_vma, file),
};

static unsigned long rv_ptr_of(const struct rv_numbering *how,
			       const struct rv_vma *vma)
{
	return *(unsigned long *)((void *)vma + how->ptr);
}

static u32 *rv_number_of(const struct rv_numbering *how, struct rv_vma *vma)
{
	return (void *)vma + how->number;
}

/*
 * Gives equal pointers of VMAs equal numbers, in the order in which they come.
 * A slot has the index of the first VMA with a pointer, plus 1, or 0, where
 * rv_table_find() would look for it; there are at least twice as many as VMAs.
 * Returns how many numbers were given.
 */
static u32 rv_number_pointers(struct rv_snap *s, const struct rv_numbering *how,
			      u32 *slot, u32 mask)
{
	struct rv_vma *vma, *first;
	u32 count = 0, i;

	memset(slot, 0, (mask + 1) * sizeof(*slot));
	rv_for_each(vma, s, RV_VMAS) {
		unsigned long ptr = rv_ptr_of(how, vma);

		rv_give_way(vma->key.id);
		*rv_number_of(how, vma) = RV_NONE;
		if (!ptr)
			continue;
		i = rv_first_slot(ptr, mask);
		while (slot[i] &&
		       rv_ptr_of(how, rv_vma_at(s, slot[i] - 1)) != ptr)
			i = (i + 1) & mask;
		if (!slot[i]) {
			slot[i] = vma->key.id + 1;
			*rv_number_of(how, vma) = count++;
		} else {
			first = rv_vma_at(s, slot[i] - 1);
			*rv_number_of(how, vma) = *rv_number_of(how, first);
		}
	}
	return count;
}

/* The same slots for the records of mms, whose indexes are their numbers. */
static void rv_look_mms_up_by(struct rv_snap *s, u32 *slot, u32 mask)
{
	struct rv_table *mms = &s->tables[RV_MMS];
	u32 i;

	for (i = 0; i <= mask; i++) {
		rv_give_way(i);
		if (slot[i])
			slot[i] = rv_vma_at(s, slot[i] - 1)->mm + 1;
	}
	kvfree(mms->slot);
	mms->slot = slot;
	mms->slot_mask = mask;
}

/* Numbers, and room for as many records; mms can be looked up by and by. */
static int rv_number_mms_and_files(struct rv_snap *s)
{
	u32 slots = roundup_pow_of_two(2 * rv_len(s, RV_VMAS));
	u32 *slot = rv_alloc(slots, sizeof(*slot));
	u32 mms, files;
	int err;

	if (!slot)
		return -ENOMEM;
	files = s->has_files ? rv_number_pointers(s, &rv_file_numbering, slot,
						  slots - 1) :
			       0;
	mms = rv_number_pointers(s, &rv_mm_numbering, slot, slots - 1);
	err = rv_table_reserve(&s->tables[RV_MMS], mms) ?:
		      rv_table_reserve(&s->tables[RV_FILES], files);
	if (err)
		kvfree(slot);
	else
		rv_look_mms_up_by(s, slot, slots - 1);
	return err;
}

/* As show_map_vma() of fs/proc/task_mmu.c names them; the mm is held. */
static u8 rv_area_of(const struct rv_vma *vma)
{
	const struct mm_struct *mm = (struct mm_struct *)vma->mm_ptr;

	if (vma->file_ptr)
		return RV_AREA_FILE;
	if (vma->start < READ_ONCE(mm->brk) &&
	    vma->end > READ_ONCE(mm->start_brk))
		return RV_AREA_HEAP;
	if (vma->start <= READ_ONCE(mm->start_stack) &&
	    vma->end >= READ_ONCE(mm->start_stack))
		return RV_AREA_STACK;
	return RV_AREA_PLAIN;
}

/* The reference of the first VMA is its record's, those of others are put. */
static void rv_keep_mm(struct rv_snap *s, const struct rv_vma *vma)
{
	struct rv_mm *mm;

	if (vma->mm != rv_len(s, RV_MMS)) {
		mmdrop((struct mm_struct *)vma->mm_ptr);
		return;
	}
	mm = rv_add(s, RV_MMS, struct rv_mm);
	*mm = (struct rv_mm){
		.key = { vma->mm_ptr, RV_NONE, vma->mm },
		.held = true,
	};
}

static void rv_keep_file(struct rv_snap *s, const struct rv_vma *vma)
{
	struct rv_file *file;

	if (vma->file == RV_NONE)
		return;
	if (vma->file != rv_len(s, RV_FILES)) {
		fput((struct file *)vma->file_ptr);
		return;
	}
	file = rv_add(s, RV_FILES, struct rv_file);
	*file = (struct rv_file){
		.key = { vma->file_ptr, RV_NONE, vma->file },
	};
}

static int rv_intern_mms_and_files(struct rv_snap *s)
{
	struct rv_vma *vma;
	int err;

	if (rv_len(s, RV_VMAS)) {
		err = rv_number_mms_and_files(s);
		if (err)
			return err;
	}
	rv_for_each(vma, s, RV_VMAS) {
		rv_give_way(vma->key.id);
		vma->area = rv_area_of(vma);
		rv_keep_mm(s, vma);
		rv_keep_file(s, vma);
	}
	s->interned = true;
	s->holds_mms = true;
	return 0;
}

/* ------------------------------------------------------------ anon_vmas -- */

static bool rv_is_av(const struct rv_snap *s, u32 id, unsigned long ptr,
		     u32 family)
{
	return id < rv_len(s, RV_AVS) && rv_av_at(s, id)->key.ptr == ptr &&
	       rv_av_at(s, id)->key.family == family;
}

/* Mostly it is the one that is expected; else it is looked up, once there is a hash. */
static u32 rv_av_id(const struct rv_snap *s, unsigned long ptr, u32 family,
		    u32 expected)
{
	const struct rv_key *key;

	if (rv_is_av(s, expected, ptr, family))
		return expected;
	key = rv_table_find(&s->tables[RV_AVS], ptr, family);
	return key ? key->id : RV_NONE;
}

/* Siblings come one after the other, and generations do too. */
static bool rv_link_avs(struct rv_snap *s)
{
	u32 parent = RV_NONE, root = RV_NONE;
	bool all = true;
	struct rv_av *av;

	rv_for_each(av, s, RV_AVS) {
		unsigned long root_ptr = rv_root_at(s, av->key.family)->key.ptr;

		rv_give_way(av->key.id);
		if (av->parent_ptr == av->key.ptr)
			parent = av->key.id;
		else if (!rv_is_av(s, parent, av->parent_ptr, av->key.family))
			parent = rv_av_id(s, av->parent_ptr, av->key.family,
					  av->key.id - 1);
		if (av->key.ptr == root_ptr)
			root = av->key.id;
		else if (!rv_is_av(s, root, root_ptr, av->key.family))
			root = rv_av_id(s, root_ptr, av->key.family, RV_NONE);
		av->parent = parent;
		av->root = root;
		all &= parent != RV_NONE && root != RV_NONE;
	}
	return all;
}

/* The list of a VMA goes from its own anon_vma to their parents, one by one. */
static bool rv_link_avcs_of(struct rv_snap *s, const struct rv_vma *vma)
{
	struct rv_avc *avc = rv_avc_at(s, vma->first_avc);
	u32 i, av = vma->av;
	bool all = true;

	for (i = 0; i < vma->nr_avcs; i++, avc++) {
		if (i && av != RV_NONE)
			av = rv_av_at(s, av)->parent;
		av = rv_av_id(s, avc->av_ptr, vma->key.family, av);
		avc->av = av;
		all &= av != RV_NONE;
	}
	return all;
}

/* VMAs were met in about the order in which their own anon_vmas were. */
static bool rv_link_vmas(struct rv_snap *s)
{
	struct rv_vma *vma;
	u32 av = RV_NONE;
	bool all = true;

	rv_for_each(vma, s, RV_VMAS) {
		rv_give_way(vma->key.id);
		if (rv_is_av(s, av + 1, vma->av_ptr, vma->key.family))
			av++;
		else
			av = rv_av_id(s, vma->av_ptr, vma->key.family, av);
		vma->av = av;
		all &= rv_link_avcs_of(s, vma) && av != RV_NONE;
	}
	return all;
}

/*
 * A family that was met again may have noted an anon_vma again, by a VMA that has
 * joined since; and who is in no tree yet is first in it for everybody.
 */
static bool rv_may_repeat_avs(const struct rv_snap *s)
{
	return s->lookup_vmas || s->treeless;
}

static int rv_intern_avs(struct rv_snap *s)
{
	struct rv_vma *vma;
	int err;

	if (!rv_len(s, RV_AVS)) {
		rv_for_each(vma, s, RV_VMAS)
			vma->av = RV_NONE;
		return 0;
	}
	if (!rv_may_repeat_avs(s) && rv_link_avs(s) && rv_link_vmas(s))
		return 0;
	err = rv_table_index(&s->tables[RV_AVS]);
	if (err)
		return err;
	rv_link_avs(s);
	rv_link_vmas(s);
	return 0;
}

/* --------------------------------------------------- page-table entries -- */

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
 * What entries of any level say of themselves; those of a page are mostly alike.
 * KSM has called back twice for some places, which are one entry each.
 */
static int rv_intern_ptes(struct rv_snap *s)
{
	pteval_t last = 0;
	struct rv_pte *r;
	u16 flags = 0;
	u8 pkey = 0;
	u32 n = 0;

	rv_for_each(r, s, RV_PTES) {
		pteval_t bits = r->value & PTE_FLAGS_MASK;

		rv_give_way(++n);
		if (bits != last) {
			flags = rv_pte_flags(__pte(bits));
			pkey = pte_flags_pkey(bits);
		}
		last = bits;
		r->flags = flags;
		r->pkey = pkey;
	}
	return s->page.kind == RV_KIND_KSM ? rv_drop_repeated_ptes(s) : 0;
}

/**
 * rv_intern() - let the records that a walk has appended refer to one another
 * @s: the snapshot, after the last pass
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_intern(struct rv_snap *s)
{
	return rv_intern_mms_and_files(s) ?:
		       rv_intern_avs(s)	  ?:
					    rv_intern_ptes(s);
}
