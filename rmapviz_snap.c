// SPDX-License-Identifier: GPL-2.0
/*
 * The snapshot: tables of plain records, and the memory for them.
 *
 * Memory is allocated before any lock is taken.  Under a lock records are only
 * appended; what finds no room is counted, and the walk is repeated with room
 * for all of it.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

/* Up to here contiguous memory is tried for, as kvmalloc() does. */
#define RV_CONTIGUOUS_MAX (32 * PAGE_SIZE)

/* kmalloc() gives a power of two of pages, and they are all zeroed. */
static bool rv_wastes_pages(size_t bytes)
{
	return bytes > PAGE_SIZE &&
	       roundup_pow_of_two(bytes) - bytes > PAGE_SIZE;
}

/* Room beyond what a pass has counted, for a family that grows: an eighth. */
#define RV_SLACK(_n) ((_n) / 8 + 8)

/* Every table of a snapshot. */
#define rv_for_each_table(_t, _s) \
	for (_t = (_s)->tables; _t < (_s)->tables + RV_NR_TABLES; _t++)

static const u32 rv_record_sizes[RV_NR_TABLES] = {
	[RV_ROOTS] = sizeof(struct rv_family),
	[RV_AVS] = sizeof(struct rv_av),
	[RV_AVCS] = sizeof(struct rv_avc),
	[RV_MMS] = sizeof(struct rv_mm),
	[RV_TASKS] = sizeof(struct rv_task),
	[RV_FILES] = sizeof(struct rv_file),
	[RV_VMAS] = sizeof(struct rv_vma),
	[RV_PTES] = sizeof(struct rv_pte),
	[RV_MISSING] = sizeof(struct rv_mismatch),
	[RV_EXTRA] = sizeof(struct rv_mismatch),
};

/* --------------------------------------------------------------- memory -- */

/**
 * rv_alloc() - memory for many of something
 * @n: how many
 * @size: bytes of one
 *
 * Like kvmalloc_array(), which cannot be told to leave the OOM killer alone
 * without trying hard for contiguous memory.
 *
 * Context: Process context, may sleep.
 * Return: memory that is not zeroed, to be freed with kvfree(), or NULL.
 */
void *rv_alloc(size_t n, size_t size)
{
	size_t bytes = array_size(max_t(size_t, n, 1), size);
	gfp_t flags = RV_GFP;
	void *p = NULL;

	if (bytes > PAGE_SIZE)
		flags = (flags & ~__GFP_RETRY_MAYFAIL) | __GFP_NORETRY;
	if (bytes <= RV_CONTIGUOUS_MAX && !rv_wastes_pages(bytes))
		p = kmalloc(bytes, flags);
	/* Its page tables it would get at any price, so leave room for them. */
	if (!p && bytes > PAGE_SIZE &&
	    bytes >> PAGE_SHIFT < si_mem_available() / 2)
		p = __vmalloc(bytes, RV_GFP);
	return rv_unset(p, bytes);
}

/**
 * rv_table_init() - a table without room
 * @t: the table, zeroed
 * @size: bytes of one record
 *
 * Context: Any.
 */
void rv_table_init(struct rv_table *t, u32 size)
{
	t->size = size;
}

/**
 * rv_table_reserve() - empty a table, and make room
 * @t: the table; what it has is lost
 * @cap: for that many records; if there is room for more, that stays
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM; then it has no room.
 */
int rv_table_reserve(struct rv_table *t, u32 cap)
{
	t->len = 0;
	t->lost = 0;
	if (t->cap >= cap)
		return 0;
	rv_table_free(t);
	t->rec = rv_alloc(cap, t->size);
	if (!t->rec)
		return -ENOMEM;
	t->cap = cap;
	return 0;
}

/**
 * rv_table_extend() - make room for more, and keep what there is
 * @t: the table; its records are not looked up any more
 * @more: for that many records more
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM, with the table as it was.
 */
int rv_table_extend(struct rv_table *t, u32 more)
{
	void *rec = rv_alloc(t->len + more, t->size);

	if (!rec)
		return -ENOMEM;
	if (t->len)
		memcpy(rec, t->rec, (size_t)t->len * t->size);
	kvfree(t->rec);
	kvfree(t->slot);
	t->rec = rec;
	t->slot = NULL;
	t->cap = t->len + more;
	return 0;
}

/**
 * rv_table_reserve_slots() - let records be looked up as they are added
 * @t: the table, empty, of records that begin with a struct rv_key
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM.
 */
int rv_table_reserve_slots(struct rv_table *t)
{
	u32 slots = roundup_pow_of_two(2 * max(t->cap, 1U));

	kvfree(t->slot);
	t->slot = rv_alloc(slots, sizeof(*t->slot));
	if (!t->slot)
		return -ENOMEM;
	memset(t->slot, 0, slots * sizeof(*t->slot));
	t->slot_mask = slots - 1;
	return 0;
}

/**
 * rv_table_grow() - empty a table; make room for all it had and all it lost
 * @t: the table; if records are looked up, they are from then on too
 *
 * Context: Process context, may sleep.
 * Return: 0, -ENOMEM, or -ENOSPC if it is as large as it may get.
 */
int rv_table_grow(struct rv_table *t)
{
	u64 need = (u64)t->len + t->lost;
	bool has_slots = t->slot;
	int err;

	if (need <= t->cap) {
		t->len = 0;
		t->lost = 0;
		return 0;
	}
	if (t->cap >= RV_RECORDS_MAX)
		return -ENOSPC;
	need = min_t(u64, need + RV_SLACK(need), RV_RECORDS_MAX);
	err = rv_table_reserve(t, need);
	if (!err && has_slots)
		err = rv_table_reserve_slots(t);
	return err;
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

/* -------------------------------------------------------------- records -- */

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
	return rv_unset(t->rec + (size_t)t->size * t->len++, t->size);
}

static u32 *rv_table_slot(const struct rv_table *t, unsigned long ptr,
			  u32 family)
{
	u32 i = rv_first_slot(ptr, t->slot_mask);

	/* At most half of the slots are ever taken, so this ends. */
	for (; t->slot[i]; i = (i + 1) & t->slot_mask) {
		const struct rv_key *key =
			t->rec + (size_t)t->size * (t->slot[i] - 1);

		if (key->ptr == ptr && key->family == family)
			break;
	}
	return &t->slot[i];
}

/**
 * rv_table_find() - the record that stands for an object
 * @t: a table with slots
 * @ptr: the object's address, not dereferenced
 * @family: the family it was seen in
 *
 * Context: Any.
 * Return: the record, or NULL.
 */
struct rv_key *rv_table_find(const struct rv_table *t, unsigned long ptr,
			     u32 family)
{
	u32 slot = t->slot ? *rv_table_slot(t, ptr, family) : 0;

	return slot ? t->rec + (size_t)t->size * (slot - 1) : NULL;
}

/**
 * rv_table_find_or_add() - the record that stands for an object, made if new
 * @t: a table with slots
 * @ptr: the object's address, not dereferenced
 * @family: the family it was seen in
 * @added: set to whether the caller has to fill the record, of which only the
 *	key is set
 *
 * Context: Any, also under spinlocks; allocates nothing.
 * Return: the record, or NULL after counting it as lost.
 */
struct rv_key *rv_table_find_or_add(struct rv_table *t, unsigned long ptr,
				    u32 family, bool *added)
{
	struct rv_key *key;
	u32 *slot;

	*added = false;
	if (!t->slot) {
		t->lost++;
		return NULL;
	}
	slot = rv_table_slot(t, ptr, family);
	if (*slot)
		return t->rec + (size_t)t->size * (*slot - 1);
	key = rv_table_add(t);
	if (!key)
		return NULL;
	*added = true;
	*key = (struct rv_key){ ptr, family, t->len - 1 };
	*slot = t->len;
	return key;
}

/**
 * rv_table_index() - let the records that there are be looked up
 * @t: a table of records that begin with a struct rv_key; one that stands for
 *	the same object as an earlier one goes, and ids are set anew
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM.
 */
int rv_table_index(struct rv_table *t)
{
	struct rv_key *key, *kept;
	u32 i, len = 0, *slot;
	int err;

	err = rv_table_reserve_slots(t);
	if (err)
		return err;
	for (i = 0; i < t->len; i++) {
		rv_give_way(i);
		key = t->rec + (size_t)t->size * i;
		slot = rv_table_slot(t, key->ptr, key->family);
		if (*slot)
			continue;
		kept = t->rec + (size_t)t->size * len;
		if (kept != key)
			memcpy(kept, key, t->size);
		kept->id = len;
		*slot = ++len;
	}
	t->len = len;
	return 0;
}

/* ------------------------------------------------------------- snapshot -- */

/**
 * rv_snap_alloc() - an empty snapshot for a query
 * @q: the query, copied
 *
 * Context: Process context, may sleep.
 * Return: the snapshot, to be freed with rv_snap_free(), or NULL.
 */
struct rv_snap *rv_snap_alloc(const struct rv_query *q)
{
	struct rv_snap *s = kzalloc(sizeof(*s), RV_GFP);
	u32 id;

	if (!s)
		return NULL;
	s->query = *q;
	for (id = 0; id < RV_NR_TABLES; id++)
		rv_table_init(&s->tables[id], rv_record_sizes[id]);
	return s;
}

static void rv_put_files(struct rv_snap *s)
{
	struct rv_file *file;
	u32 n = 0;

	rv_for_each(file, s, RV_FILES) {
		rv_give_way(++n);
		if (file->key.ptr)
			fput((struct file *)file->key.ptr);
		file->key.ptr = 0;
	}
}

static void rv_put_mms(struct rv_snap *s)
{
	struct rv_mm *mm;
	u32 n = 0;

	if (!s->holds_mms)
		return;
	rv_for_each(mm, s, RV_MMS) {
		rv_give_way(++n);
		if (mm->held)
			mmdrop((struct mm_struct *)mm->key.ptr);
		mm->held = false;
	}
	s->holds_mms = false;
}

/**
 * rv_snap_put_files() - let go of the files and the inode of a snapshot
 * @s: the snapshot, after rv_intern()
 *
 * Context: Process context, may sleep; no locks held.
 */
void rv_snap_put_files(struct rv_snap *s)
{
	rv_put_files(s);
	iput(s->inode);
	if (s->sb)
		deactivate_super(s->sb);
	s->inode = NULL;
	s->sb = NULL;
}

/* Before they are interned, each VMA holds its mm and its file. */
static void rv_put_refs_of_vmas(struct rv_snap *s)
{
	struct rv_table *t = &s->tables[RV_VMAS];
	struct rv_vma *vma;
	u32 n = 0;

	rv_for_each(vma, s, RV_VMAS) {
		rv_give_way(++n);
		if (vma->file_ptr)
			fput((struct file *)vma->file_ptr);
		mmdrop((struct mm_struct *)vma->mm_ptr);
	}
	/* They are no more, but as many are to be expected. */
	t->lost += t->len;
	t->len = 0;
}

/**
 * rv_snap_put_refs() - let go of the mms, files and inode of a snapshot
 * @s: the snapshot; after rv_intern() its records stay, as plain data
 *
 * Context: Process context, may sleep; no locks held.
 */
void rv_snap_put_refs(struct rv_snap *s)
{
	if (!s->interned)
		rv_put_refs_of_vmas(s);
	rv_snap_put_files(s);
	rv_put_mms(s);
}

/**
 * rv_snap_forget() - free the records of a snapshot
 * @s: the snapshot, after rv_intern(); its counts and its inode stay
 *
 * Context: Process context, may sleep; no locks held.
 */
void rv_snap_forget(struct rv_snap *s)
{
	struct rv_table *t;

	if (!s->tables[RV_VMAS].cap)
		return;
	rv_put_mms(s);
	rv_put_files(s);
	rv_for_each_table(t, s)
		rv_table_free(t);
}

/**
 * rv_snap_clear() - empty a snapshot for another attempt
 * @s: the snapshot; its room, query and counts of attempts stay
 *
 * Context: Process context, may sleep; no locks held.
 */
void rv_snap_clear(struct rv_snap *s)
{
	struct rv_table *t;

	rv_snap_put_refs(s);
	rv_for_each_table(t, s) {
		t->len = 0;
		t->lost = 0;
		if (t->slot)
			memset(t->slot, 0,
			       (t->slot_mask + 1) * sizeof(*t->slot));
	}
	memset(&s->page, 0, sizeof(s->page));
	memset(&s->reclaim, 0, sizeof(s->reclaim));
	s->visited = 0;
	s->mapped = 0;
	s->entries = 0;
	s->endless_chains = 0;
	s->av_ptr = 0;
	s->treeless = false;
	s->has_files = false;
	s->inconsistent = false;
	s->full = false;
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
 * rv_snap_want() - say how many records are to be expected
 * @s: the snapshot, empty
 * @id: the table
 * @records: their number; if there is no room for as many, the pass is lost
 *
 * Context: Any.
 */
void rv_snap_want(struct rv_snap *s, enum rv_table_id id, u32 records)
{
	struct rv_table *t = &s->tables[id];

	records = min(records, RV_RECORDS_MAX);
	if (t->cap >= records)
		return;
	t->lost = records - t->len;
	s->full = true;
}

/**
 * rv_snap_grow() - empty a snapshot and make room for what it lost
 * @s: the snapshot
 *
 * Where a table is as large as it may get, the next pass takes what fits.
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_snap_grow(struct rv_snap *s)
{
	struct rv_table *t;
	int err = 0;

	s->take_what_fits = false;
	/* What holds references is among what is emptied. */
	rv_snap_put_refs(s);
	rv_for_each_table(t, s) {
		if (!t->lost)
			continue;
		err = rv_table_grow(t);
		if (err == -ENOSPC)
			s->take_what_fits = true;
		else if (err)
			return err;
	}
	err = 0;
	rv_snap_clear(s);
	if (!s->tables[RV_ROOTS].slot)
		err = rv_table_reserve_slots(&s->tables[RV_ROOTS]);
	if (!err && s->lookup_vmas && !s->tables[RV_VMAS].slot)
		err = rv_table_reserve_slots(&s->tables[RV_VMAS]);
	return err;
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
		/* Most tables of most snapshots never had room. */
		if (t->rec || t->slot)
			rv_table_free(t);
	kfree(s->page_file);
	kfree(s->history);
	kfree(s);
}
