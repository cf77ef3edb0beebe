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

#include "rmapviz_snap.h"

struct anon_vma;
struct folio;
struct mm_struct;
struct page;
struct page_vma_mapped_walk;
struct rmap_walk_control;
struct vm_area_struct;

/* ----------------------------------------- rmapviz_snap.c: room for records -- */

struct rv_snap *rv_snap_alloc(const struct rv_query *q);
void rv_snap_clear(struct rv_snap *s);
u64 rv_snap_lost(const struct rv_snap *s);
bool rv_snap_lacks_room(const struct rv_snap *s);
int rv_snap_grow(struct rv_snap *s);
void rv_snap_sort_ptes(struct rv_snap *s);
void rv_snap_drop_repeated_ptes(struct rv_snap *s);
void rv_snap_put_refs(struct rv_snap *s);

int rv_table_alloc(struct rv_table *t, u32 size);
int rv_table_alloc_keyed(struct rv_table *t, u32 size);
int rv_table_grow(struct rv_table *t);
void rv_table_free(struct rv_table *t);
void *rv_table_add(struct rv_table *t);
struct rv_key *rv_table_find(const struct rv_table *t, const void *ptr,
			     u32 family);
struct rv_key *rv_table_find_or_add(struct rv_table *t, const void *ptr,
				    u32 family, bool *added);

/* ------------------------------------ rmapviz_record.c: below an rmap lock -- */

struct rv_vma *rv_record_vma(struct rv_snap *s, struct vm_area_struct *vma,
			     u32 family, bool *added);
u32 rv_record_avcs(struct rv_snap *s, struct vm_area_struct *vma, u32 vma_id,
		   u32 family);
u32 rv_record_family(struct rv_snap *s, struct anon_vma *root);

/* ------------------------------------------- rmapviz_page.c: what a page is -- */

/* What a caller holds of a folio. */
enum rv_held {
	RV_HELD_NOT,	/* nothing: it may become another page at any time */
	RV_HELD_REF,	/* one reference */
	RV_HELD_LOCKED, /* and the folio lock */
};

bool rv_page_mappable(struct folio *folio);
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

bool rv_next_leaf(struct mm_struct *mm, unsigned long addr, unsigned long end,
		  struct rv_leaf *leaf);
bool rv_lookup_leaf(struct mm_struct *mm, unsigned long addr,
		    struct rv_leaf *leaf);
int rv_lookup_pfn(pid_t pid, u64 addr, u64 *pfn);
struct mm_struct *rv_lookup_mm(pid_t pid);

/* ---------------------------------- rmapviz_ksym.c: what is not exported -- */

bool rv_rmap_walk_try(struct folio *folio, struct rmap_walk_control *rwc);
bool rv_page_vma_mapped_walk(struct page_vma_mapped_walk *pvmw);
bool rv_is_huge_zero(struct folio *folio);

#endif /* RMAPVIZ_COLLECT_H */
