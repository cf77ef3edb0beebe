// SPDX-License-Identifier: GPL-2.0
/*
 * The order in which a reader wants the records of a snapshot, and their sums.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/string.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

static u32 rv_av_id(const struct rv_snap *s, unsigned long ptr, u32 family)
{
	const struct rv_key *key =
		rv_table_find(&s->tables[RV_AVS], (void *)ptr, family);

	return key ? key->id : RV_NONE;
}

/* anon_vmas are referred to by address until here. */
static void rv_link_avs(struct rv_snap *s)
{
	struct rv_av *av;
	struct rv_vma *vma;

	rv_for_each(av, s, RV_AVS) {
		av->root = rv_av_id(s, av->root_ptr, av->key.family);
		av->parent = rv_av_id(s, av->parent_ptr, av->key.family);
	}
	rv_for_each(vma, s, RV_VMAS)
		vma->av = rv_av_id(s, vma->av_ptr, vma->key.family);
}

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

static int rv_order_alloc(struct rv_av_order *o, u32 n, size_t size)
{
	u32 i;

	o->first = kvmalloc_array(n, 5 * sizeof(u32), GFP_KERNEL);
	o->sorted = kvmalloc_array(n, size, GFP_KERNEL);
	if (!o->first || !o->sorted)
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

/*
 * Families in the order in which they were met; in each the root first, then
 * its children, then theirs.
 */
static int rv_order_avs(struct rv_snap *s)
{
	struct rv_av *avs = rv_av_at(s, 0), *av;
	u32 n = rv_len(s, RV_AVS), i;
	struct rv_av_order o = {};
	struct rv_avc *avc;
	struct rv_vma *vma;
	int err;

	if (!n)
		return 0;
	err = rv_order_alloc(&o, n, sizeof(*av));
	if (err)
		goto free;

	rv_for_each(av, s, RV_AVS)
		av->first_child = RV_NONE;
	rv_order_siblings(&o, avs, n);
	for (i = 0; i < n; i++)
		if (avs[i].parent == i || avs[i].parent == RV_NONE)
			rv_order_family(&o, avs, i);

	memcpy(o.sorted, avs, n * sizeof(*av));
	for (i = 0; i < o.len; i++) {
		avs[i] = ((struct rv_av *)o.sorted)[o.queue[i]];
		avs[i].root = rv_new_place(&o, avs[i].root);
		avs[i].parent = rv_new_place(&o, avs[i].parent);
	}
	/* What hangs on no root is not in the queue; it cannot be, but say so. */
	s->lost += n - o.len;
	s->tables[RV_AVS].len = o.len;
	rv_for_each(avc, s, RV_AVCS)
		avc->av = rv_new_place(&o, avc->av);
	rv_for_each(vma, s, RV_VMAS)
		vma->av = rv_new_place(&o, vma->av);
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
	struct rv_vma *vmas = rv_vma_at(s, 0);
	u32 n = rv_len(s, RV_VMAS), i;
	struct rv_avc *avc;
	struct rv_pte *pte;
	u32 *rank;

	if (!n)
		return 0;
	rank = kvmalloc_array(n, sizeof(*rank), GFP_KERNEL);
	if (!rank)
		return -ENOMEM;
	sort(vmas, n, sizeof(*vmas), rv_cmp_vma, NULL);
	for (i = 0; i < n; i++)
		rank[vmas[i].key.id] = i;
	rv_for_each(avc, s, RV_AVCS)
		if (avc->vma != RV_NONE)
			avc->vma = rank[avc->vma];
	rv_for_each(pte, s, RV_PTES)
		if (pte->vma != RV_NONE)
			pte->vma = rank[pte->vma];
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

/* --------------------------------------------------------------- totals -- */

static void rv_count_avcs(struct rv_snap *s)
{
	struct rv_avc *avcs = rv_avc_at(s, 0);
	u32 i;

	for (i = 0; i < rv_len(s, RV_AVCS); i++) {
		if (avcs[i].av != RV_NONE) {
			struct rv_av *av = rv_av_at(s, avcs[i].av);

			av->vmas++;
			s->tree_vmas += av->on_page;
		}
		if (avcs[i].vma != RV_NONE) {
			struct rv_vma *v = rv_vma_at(s, avcs[i].vma);

			if (!v->nr_avcs++)
				v->first_avc = i;
		}
	}
}

static void rv_count_vmas(struct rv_snap *s)
{
	struct rv_vma *vma;
	struct rv_mm *mm;

	rv_for_each(vma, s, RV_VMAS) {
		s->visited += vma->visited;
		s->mapped += vma->mapped;
		if (vma->mapped && vma->mm != RV_NONE)
			rv_mm_at(s, vma->mm)->mapped = true;
	}
	rv_for_each(mm, s, RV_MMS)
		if (mm->mapped)
			s->processes += mm->nr_tasks;
}

/**
 * rv_put_in_order() - link, sort and count the records of a snapshot
 * @s: the snapshot, to which no more records will be added
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_put_in_order(struct rv_snap *s)
{
	int err;

	s->lost = rv_snap_lost(s);
	rv_link_avs(s);
	err = rv_order_avs(s) ?: rv_order_vmas(s);
	if (err)
		return err;
	rv_order_lines(s);
	sort(rv_avc_at(s, 0), rv_len(s, RV_AVCS), sizeof(struct rv_avc),
	     rv_cmp_avc, NULL);
	rv_snap_sort_ptes(s);
	rv_count_avcs(s);
	rv_count_vmas(s);
	return 0;
}
