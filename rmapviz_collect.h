/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What those share who collect: tables to fill, records, pages, look-ups, and
 * the functions that the kernel does not export.
 *
 * What prints cannot include this, and so cannot lock: see rmapviz_report.h.
 */
#ifndef RMAPVIZ_COLLECT_H
#define RMAPVIZ_COLLECT_H

#ifdef RMAPVIZ_REPORT_H
#error "what prints does not collect: this header is not for it"
#endif

#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/hash.h>
#include <linux/poison.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/types.h>

#include "rmapviz_snap.h"

struct anon_vma;
struct anon_vma_chain;
struct folio;
struct mm_struct;
struct page;
struct page_vma_mapped_walk;
struct rmap_walk_control;
struct task_struct;
struct vm_area_struct;

/* ----------------------------------------- rmapviz_snap.c: room for records -- */

/* Fails rather than invoke the OOM killer, and is the asker's to pay for. */
#define RV_GFP (GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* Records between two chances to give up the CPU. */
#define RV_TURN 4096

static __always_inline void rv_give_way(u32 n)
{
	if (n % RV_TURN == 0)
		cond_resched();
}

/*
 * After a lock was given up for others: who takes it again at once may get it
 * before them, and cond_resched() does nothing where preemption is lazy.
 */
static inline void rv_let_waiters_in(bool there_are)
{
	if (there_are)
		usleep_range(20, 100);
	else
		cond_resched();
}

struct rv_snap *rv_snap_alloc(const struct rv_query *q);
void rv_snap_clear(struct rv_snap *s);
void rv_snap_forget(struct rv_snap *s);
u64 rv_snap_lost(const struct rv_snap *s);
void rv_snap_want(struct rv_snap *s, enum rv_table_id id, u32 records);
int rv_snap_grow(struct rv_snap *s);
void rv_snap_put_refs(struct rv_snap *s);
void rv_snap_put_files(struct rv_snap *s);

void *rv_alloc(size_t n, size_t size);
void rv_table_init(struct rv_table *t, u32 size);
int rv_table_reserve(struct rv_table *t, u32 cap);
int rv_table_extend(struct rv_table *t, u32 more);
int rv_table_reserve_slots(struct rv_table *t);
int rv_table_index(struct rv_table *t);
int rv_table_grow(struct rv_table *t);
void rv_table_free(struct rv_table *t);
void *rv_table_add(struct rv_table *t);
struct rv_key *rv_table_find(const struct rv_table *t, unsigned long ptr,
			     u32 family);
struct rv_key *rv_table_find_or_add(struct rv_table *t, unsigned long ptr,
				    u32 family, bool *added);

/*
 * With a kernel that looks for mistakes, what nobody sets is seen in a report,
 * and not what the memory was for before.
 */
static __always_inline void *rv_unset(void *p, size_t bytes)
{
	if (IS_ENABLED(CONFIG_KASAN) && p)
		memset(p, POISON_INUSE, bytes);
	return p;
}

/* Room for one record more, with old contents, or NULL after counting it as lost. */
static __always_inline void *rv_snap_add(struct rv_snap *s, enum rv_table_id id,
					 u32 size)
{
	struct rv_table *t = &s->tables[id];

	if (likely(t->len < t->cap))
		return rv_unset(t->rec + (size_t)size * t->len++, size);
	t->lost++;
	s->full = true;
	return NULL;
}

/* The same by the type of the record, whose size is then a constant. */
#define rv_add(_s, _id, _type) ((_type *)rv_snap_add(_s, _id, sizeof(_type)))

/* Where an object is looked up first; then in the slots that follow. */
static inline u32 rv_first_slot(unsigned long ptr, u32 slot_mask)
{
	return hash_long(ptr, 32) & slot_mask;
}

/* Nothing more is recorded in this pass: what follows is only counted. */
static inline bool rv_pass_is_lost(const struct rv_snap *s)
{
	return s->full && !s->take_what_fits;
}

/* ------------------------------------------- rmapviz_walk.c: only counts -- */

int rv_walk_counting(struct rv_snap *s, struct folio *folio);

/* ------------------------------------ rmapviz_record.c: below an rmap lock -- */

/* A VMA has one AVC per generation of forks; more than this is corruption. */
#define RV_AVCS_MAX 65536

/* VMAs between two chances to give up the CPU. */
#define RV_RECORD_TURN 256

/* The AVC that a link of a VMA's list leads to, or NULL at its end. */
#define rv_avc_at_link(_link, _vma)                                       \
	({                                                                \
		const struct list_head *_at = (_link);                    \
		_at == &(_vma)->anon_vma_chain ?                          \
			NULL :                                            \
			list_entry(_at, struct anon_vma_chain, same_vma); \
	})

/*
 * Every AVC of a VMA that was found in a tree of a root that is locked: forward,
 * each link loaded once, and bounded; see rmapviz_record.c.  Behind the last one
 * @_avc is NULL.
 */
#define rv_for_each_avc(_avc, _n, _vma)                                     \
	for (_n = 0, _avc = rv_avc_at_link(                                 \
			     READ_ONCE((_vma)->anon_vma_chain.next), _vma); \
	     _avc && _n < RV_AVCS_MAX; _n++,                                \
	    _avc = rv_avc_at_link(READ_ONCE((_avc)->same_vma.next), _vma))

bool rv_is_first_of_av(const struct anon_vma_chain *avc);
struct rv_vma *rv_record_vma(struct rv_snap *s, struct vm_area_struct *vma,
			     u32 family);
void rv_record_avcs(struct rv_snap *s, struct vm_area_struct *vma,
		    struct rv_vma *v, u32 family);
u32 rv_record_family(struct rv_snap *s, struct anon_vma *root);

/* ------------------------------ rmapviz_intern.c: from tuples to records -- */

int rv_intern(struct rv_snap *s);

/* ---------------------------------------- rmapviz_order.c: orders of records -- */

int rv_table_merge_sort(struct rv_table *t, cmp_func_t cmp);

/* Inline, so that @cmp is not called by pointer for thousands of records. */
static __always_inline bool rv_table_is_sorted(const struct rv_table *t,
					       cmp_func_t cmp)
{
	const size_t size = t->size;
	const void *at = t->rec;
	u32 i;

	for (i = 1; i < t->len; i++, at += size) {
		rv_give_way(i);
		if (cmp(at, at + size) > 0)
			return false;
	}
	return true;
}

/* Puts records in order, which they mostly are in already. */
static __always_inline int rv_table_sort(struct rv_table *t, cmp_func_t cmp)
{
	return rv_table_is_sorted(t, cmp) ? 0 : rv_table_merge_sort(t, cmp);
}

int rv_order_ptes(struct rv_snap *s);
int rv_order_tasks(struct rv_snap *s);
int rv_drop_repeated_ptes(struct rv_snap *s);

/* ------------------------- rmapviz_tasks.c: one process after the other -- */

struct rv_process_visitor {
	void (*start)(struct rv_process_visitor *v);
	bool (*visit)(struct rv_process_visitor *v, struct task_struct *leader);
};

int rv_visit_processes(struct rv_process_visitor *v);
const struct mm_struct *rv_mm_of_process(struct task_struct *leader,
					 u32 *users);

/* ------------------------------------------- rmapviz_page.c: what a page is -- */

/* What a caller holds of a folio. */
enum rv_held {
	RV_HELD_NOT,	/* nothing: it may become another page at any time */
	RV_HELD_REF,	/* one reference */
	RV_HELD_LOCKED, /* and the folio lock */
};

bool rv_page_mappable(struct folio *folio);
u64 rv_page_chain_bytes(struct folio *folio);
bool rv_page_walkable(struct folio *folio);
void rv_page_hold_inode(struct folio *folio, struct rv_snap *s);
void rv_page_describe(struct rv_page *facts, struct page *page,
		      struct folio *folio, enum rv_held held);

/* -------------------------------- rmapviz_lookup.c: forward, by page tables -- */

/**
 * struct rv_leaf - a page-table entry that maps something
 * @addr: the first address that it maps, in bytes
 * @size: how much it maps, in bytes
 * @pfn: the first page
 * @special: nothing that rmap knows of (pte_special())
 * @migrating: there is none, because the page is just being migrated
 */
struct rv_leaf {
	unsigned long addr;
	unsigned long size;
	u64 pfn;
	bool special;
	bool migrating;
};

bool rv_next_leaf(struct mm_struct *mm, unsigned long *addr, unsigned long end,
		  struct rv_leaf *leaf);
bool rv_lookup_leaf(struct mm_struct *mm, unsigned long addr,
		    struct rv_leaf *leaf);
int rv_lookup_pfn(pid_t pid, u64 addr, u64 *pfn);
struct mm_struct *rv_lookup_mm(pid_t pid);
void rv_put_mm(struct mm_struct *mm);

/* ---------------------------------- rmapviz_ksym.c: what is not exported -- */

bool rv_rmap_walk_try(struct folio *folio, struct rmap_walk_control *rwc);
bool rv_page_vma_mapped_walk(struct page_vma_mapped_walk *pvmw);
bool rv_is_huge_zero(struct folio *folio);
bool rv_compacts_unevictable(void);

#endif /* RMAPVIZ_COLLECT_H */
