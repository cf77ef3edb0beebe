// SPDX-License-Identifier: GPL-2.0
/*
 * The snapshot: tables of plain records.
 *
 * Memory is allocated before any lock is taken.  Under a lock records are only
 * appended; what finds no room is counted, and the walk is repeated in a
 * snapshot that has room for it.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

#define RV_FIRST_CAP 64

/* Every table of a snapshot. */
#define rv_for_each_table(_t, _s) \
	for (_t = (_s)->tables; _t < (_s)->tables + RV_NR_TABLES; _t++)

/* clang-format off */
static const struct {
	u32 size;
	bool keyed; /* they begin with a struct rv_key */
} rv_record_kinds[RV_NR_TABLES] = {
	[RV_ROOTS] = { .size = sizeof(struct rv_key), .keyed = true },
	[RV_AVS] = { .size = sizeof(struct rv_av), .keyed = true },
	[RV_AVCS] = { .size = sizeof(struct rv_avc) },
	[RV_MMS] = { .size = sizeof(struct rv_mm), .keyed = true },
	[RV_TASKS] = { .size = sizeof(struct rv_task) },
	[RV_FILES] = { .size = sizeof(struct rv_file), .keyed = true },
	[RV_VMAS] = { .size = sizeof(struct rv_vma), .keyed = true },
	[RV_PTES] = { .size = sizeof(struct rv_pte) },
	[RV_MISSING] = { .size = sizeof(struct rv_mismatch) },
	[RV_EXTRA] = { .size = sizeof(struct rv_mismatch) },
};

/* clang-format on */

static u32 rv_table_slots(const struct rv_table *t)
{
	return roundup_pow_of_two(2 * t->cap);
}

static int rv_table_make_room(struct rv_table *t, u32 cap)
{
	t->cap = cap;
	t->rec = kvcalloc(cap, t->size, GFP_KERNEL);
	if (!t->rec)
		return -ENOMEM;
	if (t->keyed) {
		t->slot = kvcalloc(rv_table_slots(t), sizeof(*t->slot),
				   GFP_KERNEL);
		if (!t->slot)
			return -ENOMEM;
	}
	return 0;
}

/**
 * rv_table_alloc() - give a table room for its first records
 * @t: the table, zeroed
 * @size: bytes of one record
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM; in both cases it is to be freed with rv_table_free().
 */
int rv_table_alloc(struct rv_table *t, u32 size)
{
	t->size = size;
	return rv_table_make_room(t, RV_FIRST_CAP);
}

/**
 * rv_table_alloc_keyed() - the same for records that are looked up
 * @t: the table, zeroed
 * @size: bytes of one record, which begins with a struct rv_key
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM; in both cases it is to be freed with rv_table_free().
 */
int rv_table_alloc_keyed(struct rv_table *t, u32 size)
{
	t->keyed = true;
	return rv_table_alloc(t, size);
}

/**
 * rv_table_free() - free the records of a table
 * @t: the table, then empty and without room
 *
 * Context: Process context, may sleep.
 */
void rv_table_free(struct rv_table *t)
{
	kvfree(t->rec);
	kvfree(t->slot);
	t->rec = NULL;
	t->slot = NULL;
	t->len = 0;
	t->cap = 0;
}

static void rv_table_clear(struct rv_table *t)
{
	if (t->slot)
		memset(t->slot, 0, rv_table_slots(t) * sizeof(*t->slot));
	t->len = 0;
	t->lost = 0;
}

/**
 * rv_table_grow() - empty a table; make room for all it had and all it lost
 * @t: the table
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM; the table is then empty and has no room.
 */
int rv_table_grow(struct rv_table *t)
{
	u64 need = (u64)t->len + t->lost;

	rv_table_free(t);
	t->lost = 0;
	need = min_t(u64, need + need / 4, RV_RECORDS_MAX);
	return rv_table_make_room(t, need);
}

/**
 * rv_table_add() - append a record
 * @t: the table
 *
 * Context: Any, also under spinlocks; allocates nothing.
 * Return: the record, with old contents, or NULL after counting it as lost.
 */
void *rv_table_add(struct rv_table *t)
{
	if (t->len == t->cap) {
		t->lost++;
		return NULL;
	}
	return t->rec + (size_t)t->size * t->len++;
}

static u32 *rv_table_slot(const struct rv_table *t, unsigned long ptr,
			  u32 family)
{
	u32 mask = rv_table_slots(t) - 1;
	u32 i = hash_long(ptr, 32) & mask;

	/* At most half of the slots are ever taken, so this ends. */
	for (; t->slot[i]; i = (i + 1) & mask) {
		const struct rv_key *key =
			t->rec + (size_t)t->size * (t->slot[i] - 1);

		if (key->ptr == ptr && key->family == family)
			break;
	}
	return &t->slot[i];
}

/**
 * rv_table_find() - the record that stands for an object
 * @t: a keyed table
 * @ptr: the object's address, not dereferenced
 * @family: the family it was seen in
 *
 * Context: Any.
 * Return: the record, or NULL.
 */
struct rv_key *rv_table_find(const struct rv_table *t, const void *ptr,
			     u32 family)
{
	u32 slot = *rv_table_slot(t, (unsigned long)ptr, family);

	return slot ? t->rec + (size_t)t->size * (slot - 1) : NULL;
}

/**
 * rv_table_find_or_add() - the record that stands for an object, made if new
 * @t: a keyed table
 * @ptr: the object's address, not dereferenced
 * @family: the family it was seen in
 * @added: set to whether the caller has to fill the record
 *
 * Context: Any, also under spinlocks; allocates nothing.
 * Return: the record, or NULL after counting it as lost.
 */
struct rv_key *rv_table_find_or_add(struct rv_table *t, const void *ptr,
				    u32 family, bool *added)
{
	u32 *slot = rv_table_slot(t, (unsigned long)ptr, family);
	struct rv_key *key;

	*added = !*slot;
	if (*slot)
		return t->rec + (size_t)t->size * (*slot - 1);

	key = rv_table_add(t);
	if (!key)
		return NULL;
	memset(key, 0, t->size);
	key->ptr = (unsigned long)ptr;
	key->family = family;
	key->id = t->len - 1;
	*slot = t->len;
	return key;
}

/**
 * rv_snap_alloc() - an empty snapshot for a query
 * @q: the query, copied
 *
 * Context: Process context, may sleep.
 * Return: the snapshot, to be freed with rv_snap_free(), or NULL.
 */
struct rv_snap *rv_snap_alloc(const struct rv_query *q)
{
	struct rv_snap *s = kzalloc(sizeof(*s), GFP_KERNEL);
	u32 id;

	if (!s)
		return NULL;
	s->query = *q;
	for (id = 0; id < RV_NR_TABLES; id++) {
		s->tables[id].keyed = rv_record_kinds[id].keyed;
		if (rv_table_alloc(&s->tables[id], rv_record_kinds[id].size)) {
			rv_snap_free(s);
			return NULL;
		}
	}
	return s;
}

/**
 * rv_snap_put_refs() - let go of the mms, files and inode of a snapshot
 * @s: the snapshot; its records stay, as plain data
 *
 * Context: Process context, may sleep; no locks held.
 */
void rv_snap_put_refs(struct rv_snap *s)
{
	struct rv_file *file;
	struct rv_mm *mm;

	if (s->refs_dropped)
		return;
	rv_for_each(file, s, RV_FILES)
		fput((struct file *)file->key.ptr);
	rv_for_each(mm, s, RV_MMS)
		mmdrop((struct mm_struct *)mm->key.ptr);
	iput(s->inode);
	if (s->sb)
		deactivate_super(s->sb);
	s->inode = NULL;
	s->sb = NULL;
	s->refs_dropped = true;
}

/**
 * rv_snap_clear() - empty a snapshot for another attempt
 * @s: the snapshot; its capacity, query and count of retries stay
 *
 * Context: Process context, may sleep; no locks held.
 */
void rv_snap_clear(struct rv_snap *s)
{
	struct rv_table *t;

	rv_snap_put_refs(s);
	rv_for_each_table(t, s)
		rv_table_clear(t);
	memset(&s->page, 0, sizeof(s->page));
	memset(&s->reclaim, 0, sizeof(s->reclaim));
	s->lock_ns = 0;
	s->endless_chains = 0;
	s->inconsistent = false;
	s->refs_dropped = false;
}

/**
 * rv_snap_lost() - records that found no room so far
 * @s: the snapshot
 *
 * Context: Any.
 * Return: their number; an upper bound where one object was met many times.
 */
u64 rv_snap_lost(const struct rv_snap *s)
{
	const struct rv_table *t;
	u64 lost = s->endless_chains;

	rv_for_each_table(t, s)
		lost += t->lost;
	return lost;
}

/**
 * rv_snap_lacks_room() - did a record find no room?
 * @s: the snapshot
 *
 * Context: Any.
 * Return: true if one did; chains without an end do not count.
 */
bool rv_snap_lacks_room(const struct rv_snap *s)
{
	return rv_snap_lost(s) != s->endless_chains;
}

/**
 * rv_snap_grow() - empty a snapshot and make room for what it lost
 * @s: the snapshot
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0, -ENOMEM, or -ENOSPC if a table is as large as it may get, with
 * its records kept.
 */
int rv_snap_grow(struct rv_snap *s)
{
	struct rv_table *t;

	rv_for_each_table(t, s)
		if (t->lost && t->cap == RV_RECORDS_MAX)
			return -ENOSPC;

	rv_snap_put_refs(s);
	rv_for_each_table(t, s)
		if (t->lost && rv_table_grow(t))
			return -ENOMEM;
	rv_snap_clear(s);
	return 0;
}

static int rv_cmp_pte(const void *a, const void *b)
{
	const struct rv_pte *x = a, *y = b;

	if (x->vma != y->vma)
		return x->vma < y->vma ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/**
 * rv_snap_sort_ptes() - put page-table entries in the order of VMA and address
 * @s: the snapshot
 *
 * Context: Any.
 */
void rv_snap_sort_ptes(struct rv_snap *s)
{
	sort(rv_pte_at(s, 0), rv_len(s, RV_PTES), sizeof(struct rv_pte),
	     rv_cmp_pte, NULL);
}

/**
 * rv_snap_drop_repeated_ptes() - keep one of entries that are of the same place
 * @s: the snapshot of one page; its entries are sorted as well
 *
 * Context: Any.
 */
void rv_snap_drop_repeated_ptes(struct rv_snap *s)
{
	struct rv_pte *ptes = rv_pte_at(s, 0);
	u32 i, len = 0;

	rv_snap_sort_ptes(s);
	for (i = 0; i < rv_len(s, RV_PTES); i++)
		if (!len || ptes[i].vma == RV_NONE ||
		    rv_cmp_pte(&ptes[len - 1], &ptes[i]))
			ptes[len++] = ptes[i];
	s->tables[RV_PTES].len = len;
	s->reclaim.found = len;
}

/**
 * rv_snap_free() - free a snapshot and all that it holds
 * @s: the snapshot, or NULL
 *
 * Context: Process context, may sleep; no locks held.
 */
void rv_snap_free(struct rv_snap *s)
{
	struct rv_table *t;
	struct rv_file *file;

	if (!s)
		return;
	rv_snap_put_refs(s);
	rv_for_each(file, s, RV_FILES)
		kfree(file->name);
	rv_for_each_table(t, s)
		rv_table_free(t);
	kfree(s->page_file);
	kfree(s);
}
