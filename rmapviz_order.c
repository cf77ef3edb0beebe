// SPDX-License-Identifier: GPL-2.0
/*
 * The order in which a reader wants the records of a snapshot, and their sums.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

/* ---------------------------------------------------------------- sorting -- */

static void *rv_record(const struct rv_table *t, void *records, u32 i)
{
	return records + (size_t)t->size * i;
}

/* Records are looked up by where they were, so that ends when they move. */
static void rv_replace_records(struct rv_table *t, void *records)
{
	kvfree(t->rec);
	kvfree(t->slot);
	t->rec = records;
	t->slot = NULL;
	t->cap = t->len;
}

/* Merges two sorted runs, from @a to before @b and from there to before @end. */
static void rv_merge(const struct rv_table *t, cmp_func_t cmp, void *from,
		     void *to, u32 a, u32 b, u32 end)
{
	u32 i = a, j = b, k;

	for (k = a; k < end; k++) {
		bool first = j == end ||
			     (i < b && cmp(rv_record(t, from, i),
					   rv_record(t, from, j)) <= 0);

		memcpy(rv_record(t, to, k),
		       rv_record(t, from, first ? i++ : j++), t->size);
		rv_give_way(k);
	}
}

/**
 * rv_table_merge_sort() - put records in order
 * @t: the table
 * @cmp: the order
 *
 * The kernel's sort() would not give up the CPU for a million records.
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM, with the records as they were.
 */
int rv_table_merge_sort(struct rv_table *t, cmp_func_t cmp)
{
	void *from = t->rec, *to;
	u32 run, i;

	to = rv_alloc(t->len, t->size);
	if (!to)
		return -ENOMEM;
	for (run = 1; run < t->len; run *= 2) {
		for (i = 0; i < t->len; i += 2 * run)
			rv_merge(t, cmp, from, to, i, min(i + run, t->len),
				 min(i + 2 * run, t->len));
		swap(from, to);
	}
	/* What was sorted last is in @from, whichever memory that is. */
	if (from == t->rec)
		kvfree(to);
	else
		rv_replace_records(t, from);
	return 0;
}

static u32 rv_group_of(const struct rv_table *t, size_t offset, u32 groups,
		       u32 i)
{
	u32 group = *(u32 *)(rv_record(t, t->rec, i) + offset);

	return min(group, groups);
}

/*
 * Puts records in the order of a small number, a u32 at an offset in each; equal
 * ones stay in the order in which they are, and those without, RV_NONE, come last.
 */
static int rv_table_group(struct rv_table *t, size_t offset, u32 groups)
{
	u32 *start, i;
	void *to;

	start = rv_alloc(groups + 2, sizeof(*start));
	to = rv_alloc(t->len, t->size);
	if (!start || !to) {
		kvfree(start);
		kvfree(to);
		return -ENOMEM;
	}
	memset(start, 0, (groups + 2) * sizeof(*start));
	for (i = 0; i < t->len; i++) {
		start[rv_group_of(t, offset, groups, i) + 1]++;
		rv_give_way(i);
	}
	for (i = 1; i <= groups; i++)
		start[i] += start[i - 1];
	for (i = 0; i < t->len; i++) {
		u32 group = rv_group_of(t, offset, groups, i);

		memcpy(rv_record(t, to, start[group]++),
		       rv_record(t, t->rec, i), t->size);
		rv_give_way(i);
	}
	kvfree(start);
	rv_replace_records(t, to);
	return 0;
}

/* -------------------------------------------------------------- anon_vmas -- */

/* Scratch space for putting n records into another order. */
struct rv_av_order {
	u32 *first; /* first child */
	u32 *last;  /* last child so far */
	u32 *next;  /* next sibling */
	u32 *queue; /* old index at every new place */
	u32 *rank;  /* new place of every old index */
	u32 len;    /* of the queue */
	void *sorted;
};

static int rv_order_alloc(struct rv_av_order *o, u32 n)
{
	u32 i;

	o->first = rv_alloc(n, 5 * sizeof(u32));
	if (!o->first)
		return -ENOMEM;
	o->last = o->first + n;
	o->next = o->last + n;
	o->queue = o->next + n;
	o->rank = o->queue + n;
	for (i = 0; i < n; i++) {
		o->first[i] = RV_NONE;
		o->next[i] = RV_NONE;
		o->rank[i] = RV_NONE;
	}
	return 0;
}

static void rv_order_free(struct rv_av_order *o)
{
	kvfree(o->first);
	kvfree(o->sorted);
}

static u32 rv_new_place(const struct rv_av_order *o, u32 old)
{
	return old == RV_NONE ? RV_NONE : o->rank[old];
}

static void rv_order_append(struct rv_av_order *o, u32 i)
{
	o->rank[i] = o->len;
	o->queue[o->len++] = i;
}

/* Sibling lists, in the order in which the walk met the anon_vmas. */
static void rv_order_siblings(struct rv_av_order *o, const struct rv_av *avs,
			      u32 n)
{
	u32 i, up;

	for (i = 0; i < n; i++) {
		up = avs[i].parent;
		if (up == i || up == RV_NONE)
			continue;
		if (o->first[up] == RV_NONE)
			o->first[up] = i;
		else
			o->next[o->last[up]] = i;
		o->last[up] = i;
	}
}

/* Everything below one root, level by level. */
static void rv_order_family(struct rv_av_order *o, struct rv_av *avs, u32 root)
{
	u32 head = o->len, child;

	rv_order_append(o, root);
	for (; head < o->len; head++) {
		struct rv_av *av = &avs[o->queue[head]];

		child = o->first[o->queue[head]];
		if (child != RV_NONE)
			av->first_child = o->len;
		for (; child != RV_NONE; child = o->next[child]) {
			avs[child].level = av->level + 1;
			avs[child].last_child = o->next[child] == RV_NONE;
			rv_order_append(o, child);
		}
	}
}

static bool rv_order_is_new(const struct rv_av_order *o, u32 n)
{
	u32 i;

	for (i = 0; i < o->len; i++)
		if (o->queue[i] != i)
			return true;
	return o->len != n;
}

/* Parents of children in their order; a root is its own. */
static u32 rv_av_above(const struct rv_av *av, u32 i)
{
	return av->parent == RV_NONE ? i : av->parent;
}

/*
 * Mostly the walk has met them in that order.  Then none comes before its parent,
 * nor a child of one before the children of who comes before that one.
 */
static bool rv_avs_are_in_order(const struct rv_av *avs, u32 n)
{
	u32 last = 0, above, i;

	for (i = 0; i < n; i++) {
		above = rv_av_above(&avs[i], i);
		if (above < last || above > i)
			return false;
		last = above;
		rv_give_way(i);
	}
	return true;
}

/* They are in order: siblings stand in a row. */
static void rv_note_levels(struct rv_av *avs, u32 n)
{
	u32 above, i;

	for (i = 0; i < n; i++) {
		avs[i].first_child = RV_NONE;
		above = rv_av_above(&avs[i], i);
		if (above == i)
			continue;
		avs[i].level = avs[above].level + 1;
		avs[i].last_child = true;
		if (avs[above].first_child == RV_NONE)
			avs[above].first_child = i;
		else
			avs[i - 1].last_child = false;
		rv_give_way(i);
	}
}

/* Puts anon_vmas where they belong, and tells those who refer to them. */
static void rv_apply_order(struct rv_snap *s, const struct rv_av_order *o)
{
	struct rv_av *avs = rv_av_at(s, 0);
	struct rv_avc *avc;
	struct rv_vma *vma;
	u32 i;

	memcpy(o->sorted, avs, rv_len(s, RV_AVS) * sizeof(*avs));
	for (i = 0; i < o->len; i++) {
		avs[i] = ((struct rv_av *)o->sorted)[o->queue[i]];
		avs[i].root = rv_new_place(o, avs[i].root);
		avs[i].parent = rv_new_place(o, avs[i].parent);
		rv_give_way(i);
	}
	/* What hangs on no root is not in the queue; it cannot be, but say so. */
	s->lost += rv_len(s, RV_AVS) - o->len;
	s->tables[RV_AVS].len = o->len;
	rv_for_each(avc, s, RV_AVCS) {
		avc->av = rv_new_place(o, avc->av);
		rv_give_way(++i);
	}
	rv_for_each(vma, s, RV_VMAS) {
		vma->av = rv_new_place(o, vma->av);
		rv_give_way(++i);
	}
}

/*
 * Families in the order in which they were met; in each the root first, then
 * its children, then theirs.
 */
static int rv_order_avs(struct rv_snap *s)
{
	struct rv_av *avs = rv_av_at(s, 0), *av;
	u32 n = rv_len(s, RV_AVS), i;
	struct rv_av_order o = {};
	int err;

	if (rv_avs_are_in_order(avs, n)) {
		rv_note_levels(avs, n);
		return 0;
	}
	err = rv_order_alloc(&o, n);
	if (err)
		goto free;
	rv_for_each(av, s, RV_AVS)
		av->first_child = RV_NONE;
	rv_order_siblings(&o, avs, n);
	for (i = 0; i < n; i++)
		if (avs[i].parent == i || avs[i].parent == RV_NONE)
			rv_order_family(&o, avs, i);
	if (rv_order_is_new(&o, n)) {
		o.sorted = rv_alloc(n, sizeof(*av));
		if (o.sorted)
			rv_apply_order(s, &o);
		else
			err = -ENOMEM;
	}
free:
	rv_order_free(&o);
	return err;
}

/*
 * The order in which a tree is drawn: a child comes right below its parent.
 * Siblings stand in a row, so the next one has the next index.
 */
static void rv_order_lines(struct rv_snap *s)
{
	struct rv_av *avs = rv_av_at(s, 0);
	u32 line, at = 0;

	for (line = 0; line < rv_len(s, RV_AVS); line++) {
		avs[line].at_line = at;
		if (avs[at].first_child != RV_NONE) {
			at = avs[at].first_child;
			continue;
		}
		while (avs[at].level && avs[at].last_child)
			at = avs[at].parent;
		/* After a root comes the next family. */
		at = avs[at].level ? at + 1 : line + 1;
	}
}

/* In order by that number, then by the whole comparison, if not in order already. */
static __always_inline int rv_order_table(struct rv_table *t, size_t offset,
					  u32 groups, cmp_func_t cmp)
{
	if (rv_table_is_sorted(t, cmp))
		return 0;
	return rv_table_group(t, offset, groups) ?: rv_table_sort(t, cmp);
}

/* ------------------------------------------------ what hangs on anon_vmas -- */

static int rv_cmp_vma(const void *a, const void *b)
{
	const struct rv_vma *x = a, *y = b;

	if (x->av != y->av)
		return x->av < y->av ? -1 : 1;
	if (x->mm != y->mm)
		return x->mm < y->mm ? -1 : 1;
	return x->start < y->start ? -1 : x->start > y->start;
}

static int rv_order_vmas(struct rv_snap *s)
{
	struct rv_table *t = &s->tables[RV_VMAS];
	struct rv_avc *avc;
	struct rv_pte *pte;
	u32 *rank, i;
	int err;

	/* Then all are where they were recorded, and known by that. */
	if (rv_table_is_sorted(t, rv_cmp_vma))
		return 0;
	err = rv_table_group(t, offsetof(struct rv_vma, av), rv_len(s, RV_AVS)) ?:
		      rv_table_sort(t, rv_cmp_vma);
	if (err)
		return err;
	rank = rv_alloc(t->len, sizeof(*rank));
	if (!rank)
		return -ENOMEM;
	for (i = 0; i < t->len; i++) {
		rank[rv_vma_at(s, i)->key.id] = i;
		rv_give_way(i);
	}
	rv_for_each(avc, s, RV_AVCS) {
		if (avc->vma != RV_NONE)
			avc->vma = rank[avc->vma];
		rv_give_way(++i);
	}
	rv_for_each(pte, s, RV_PTES) {
		if (pte->vma != RV_NONE)
			pte->vma = rank[pte->vma];
		rv_give_way(++i);
	}
	kvfree(rank);
	return 0;
}

static int rv_cmp_avc(const void *a, const void *b)
{
	const struct rv_avc *x = a, *y = b;

	if (x->vma != y->vma)
		return x->vma < y->vma ? -1 : 1;
	return x->av < y->av ? -1 : x->av > y->av;
}

/* A VMA's list of AVCs goes from its own anon_vma up to the root. */
static void rv_turn_avcs(struct rv_snap *s)
{
	struct rv_avc *avcs = rv_avc_at(s, 0), *own, *last;
	struct rv_vma *vma;

	rv_for_each(vma, s, RV_VMAS) {
		rv_give_way(vma->key.id);
		if (!vma->nr_avcs)
			continue;
		own = avcs + vma->first_avc;
		last = own + vma->nr_avcs - 1;
		for (; own < last; own++, last--)
			swap(*own, *last);
	}
}

static int rv_order_avcs(struct rv_snap *s)
{
	struct rv_table *t = &s->tables[RV_AVCS];

	rv_turn_avcs(s);
	return rv_order_table(t, offsetof(struct rv_avc, vma),
			      rv_len(s, RV_VMAS), rv_cmp_avc);
}

static int rv_cmp_pte(const void *a, const void *b)
{
	const struct rv_pte *x = a, *y = b;

	if (x->vma != y->vma)
		return x->vma < y->vma ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/**
 * rv_order_ptes() - put page-table entries in the order of VMA and address
 * @s: the snapshot
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_order_ptes(struct rv_snap *s)
{
	struct rv_table *t = &s->tables[RV_PTES];

	return rv_order_table(t, offsetof(struct rv_pte, vma),
			      rv_len(s, RV_VMAS), rv_cmp_pte);
}

/**
 * rv_drop_repeated_ptes() - keep one of entries that are of the same place
 * @s: the snapshot of one page; its entries are put in order as well
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_drop_repeated_ptes(struct rv_snap *s)
{
	struct rv_pte *ptes;
	u32 i, len = 0;
	int err;

	err = rv_order_ptes(s);
	if (err)
		return err;
	ptes = rv_pte_at(s, 0);
	for (i = 0; i < rv_len(s, RV_PTES); i++) {
		rv_give_way(i);
		if (!len || ptes[i].vma == RV_NONE ||
		    rv_cmp_pte(&ptes[len - 1], &ptes[i]))
			ptes[len++] = ptes[i];
	}
	s->tables[RV_PTES].len = len;
	s->entries = len;
	s->reclaim.found = len;
	return 0;
}

/* Those of one address space stay in the order of the list: oldest first. */
static int rv_cmp_task(const void *a, const void *b)
{
	const struct rv_task *x = a, *y = b;

	return x->mm < y->mm ? -1 : x->mm > y->mm;
}

/**
 * rv_order_tasks() - put processes in the order of their address spaces
 * @s: the snapshot; where those of an address space begin is set
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_order_tasks(struct rv_snap *s)
{
	struct rv_mm *mm;
	u32 first = 0;
	int err;

	err = rv_order_table(&s->tables[RV_TASKS], offsetof(struct rv_task, mm),
			     rv_len(s, RV_MMS), rv_cmp_task);
	rv_for_each(mm, s, RV_MMS) {
		mm->first_task = first;
		first += mm->nr_tasks;
	}
	return err;
}

/* --------------------------------------------------------------- totals -- */

static void rv_count_avcs(struct rv_snap *s)
{
	const struct rv_avc *avcs = rv_avc_at(s, 0);
	struct rv_vma *vmas = rv_vma_at(s, 0);
	struct rv_av *avs = rv_av_at(s, 0);
	u32 i;

	for (i = 0; i < rv_len(s, RV_AVCS); i++) {
		rv_give_way(i);
		if (avcs[i].av != RV_NONE) {
			avs[avcs[i].av].vmas++;
			s->tree_vmas += avs[avcs[i].av].on_page;
		}
		if (avcs[i].vma != RV_NONE &&
		    (!i || avcs[i - 1].vma != avcs[i].vma))
			vmas[avcs[i].vma].first_avc = i;
	}
}

static void rv_count_processes(struct rv_snap *s)
{
	struct rv_mm *mms = rv_mm_at(s, 0), *mm;
	struct rv_vma *vma;
	u32 i = 0;

	rv_for_each(vma, s, RV_VMAS) {
		if (vma->mapped && vma->mm != RV_NONE)
			mms[vma->mm].mapped = true;
		if (vma->keeps && !s->keepers++)
			s->first_keeper = i;
		rv_give_way(++i);
	}
	rv_for_each(mm, s, RV_MMS)
		if (mm->mapped)
			s->processes += mm->nr_tasks;
}

/* A VMA that fork has not given an anon_vma yet is not counted. */
static void rv_count_in_family(struct rv_snap *s, const struct rv_vma *vma)
{
	struct rv_family *family = rv_root_at(s, vma->key.family);
	struct rv_mm *mm = rv_mm_at(s, vma->mm);

	if (vma->av == RV_NONE)
		return;
	family->vmas++;
	family->avcs += vma->nr_avcs;
	if (vma->mm_ptr == s->mm_ptr && !family->asked++)
		family->first_asked = vma - rv_vma_at(s, 0);
	/* VMAs come family by family. */
	if (!mm || mm->counted == vma->key.family + 1)
		return;
	mm->counted = vma->key.family + 1;
	family->processes += mm->nr_tasks;
}

static void rv_count_families(struct rv_snap *s)
{
	struct rv_family *family;
	const struct rv_av *av;
	const struct rv_vma *vma;

	rv_for_each(family, s, RV_ROOTS) {
		*family = (struct rv_family){ .key = family->key };
	}
	rv_for_each(av, s, RV_AVS) {
		family = rv_root_at(s, av->key.family);
		if (!family->avs++)
			family->root = av - rv_av_at(s, 0);
		family->depth = max(family->depth, av->level);
		family->largest = max(family->largest, av->vmas);
		rv_give_way(family->avs);
	}
	rv_for_each(vma, s, RV_VMAS) {
		rv_count_in_family(s, vma);
		rv_give_way(vma - rv_vma_at(s, 0));
	}
}

/**
 * rv_put_in_order() - put the records of a snapshot in order, and add up
 * @s: the snapshot, to which no more records will be added
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_put_in_order(struct rv_snap *s)
{
	int err;

	s->lost = rv_snap_lost(s);
	err = rv_order_avs(s)	       ?:
		      rv_order_vmas(s) ?:
		      rv_order_avcs(s) ?:
					 rv_order_ptes(s);
	if (err)
		return err;
	if (!(s->query.opts & RV_OPT_JSON))
		rv_order_lines(s);
	rv_count_avcs(s);
	rv_count_processes(s);
	if (s->query.target == RV_TARGET_PID)
		rv_count_families(s);
	return 0;
}
