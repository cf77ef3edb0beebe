// SPDX-License-Identifier: GPL-2.0
/*
 * The records of a report as text: anon_vmas, AVCs, VMAs, page-table entries.
 */
#include <linux/bitops.h>
#include <linux/ctype.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "rmapviz_text.h"
#include "rmapviz_report.h"

/* AVCs are drawn as a table of anon_vmas by VMAs while it fits the screen. */
#define TEXT_GRID_VMAS 8

/* Anon_vmas of a VMA that are named, its root's apart, unless all are. */
#define TEXT_CHAIN_AVS 10

/* Deeper levels of the tree are not indented any further. */
#define TEXT_DEPTH_MAX 12

/* Most rows are called by their place. */
static u32 text_number(const struct rv_snap *s, u32 i)
{
	return i;
}

/* ------------------------------------------------------------ anon_vmas -- */

static u32 text_count_avs(const struct rv_snap *s)
{
	return text_records(s, RV_AVS);
}

static void text_head_avs(struct seq_file *m, const struct rv_snap *s)
{
	char size[40];

	if (!text_count_avs(s))
		return;
	text_section(m, "anon_vmas");
	snprintf(size, sizeof(size), "%u in %u famil%s", rv_len(s, RV_AVS),
		 rv_len(s, RV_ROOTS), rv_len(s, RV_ROOTS) == 1 ? "y" : "ies");
	seq_printf(m, "%-16s %-6s %-9s %-9s %-9s %s\n", size, "LEVEL",
		   "REFCOUNT", "CHILDREN", "OWN VMAS", "VMAS IN TREE");
}

/* The branches that lead to an anon_vma: |  |  `- */
static int text_branches(struct seq_file *m, const struct rv_snap *s,
			 const struct rv_av *av)
{
	u32 depth = min_t(u32, av->level, TEXT_DEPTH_MAX), i;
	const struct rv_av *up = av;
	u32 open = 0;

	if (!depth)
		return 0;
	/* Bit i: the ancestor i levels up has younger siblings. */
	for (i = 0; i < depth; i++) {
		open |= up->last_child ? 0 : BIT(i);
		up = rv_av_at(s, up->parent);
	}
	for (i = depth - 1; i; i--)
		seq_puts(m, open & BIT(i) ? "|  " : "   ");
	seq_puts(m, open & BIT(0) ? "|- " : "`- ");
	return 3 * depth;
}

static u32 text_number_av(const struct rv_snap *s, u32 i)
{
	return rv_av_at(s, i)->at_line;
}

/*
 * A tree is told by the levels of its lines, so lines that repeat others level
 * by level stand for subtrees that repeat them.
 */
static bool text_like_av(const struct rv_snap *s, u32 i, u32 j)
{
	const struct rv_av *a = rv_av_at(s, text_number_av(s, i));
	const struct rv_av *b = rv_av_at(s, text_number_av(s, j));

	return a->level == b->level && a->refcount == b->refcount &&
	       a->children == b->children && a->active_vmas == b->active_vmas &&
	       a->vmas == b->vmas && a->on_page == b->on_page;
}

static void text_lead_av(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	text_gutter(m, "");
	text_branches(m, s, rv_av_at(s, text_number_av(s, i)));
}

static void text_av(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	u32 id = text_number_av(s, i);
	const struct rv_av *av = rv_av_at(s, id);
	int width;

	text_gutter(m, "");
	width = text_branches(m, s, av);
	seq_printf(m, "AV%-*u", max(14 - width, 4), id);
	seq_printf(m, " %-6u %-9u %-9u %-9u %u", av->level, av->refcount,
		   av->children, av->active_vmas, av->vmas);
	if (av->on_page)
		seq_puts(m, "   <- the page");
	if (s->query.opts & RV_OPT_PTRS)
		seq_printf(m, "  0x%lx", av->key.ptr);
	seq_putc(m, '\n');
}

const struct rv_rows rv_text_avs = {
	.name = "AV",
	.count = text_count_avs,
	.head = text_head_avs,
	.line = text_av,
	.lead = text_lead_av,
	.number = text_number_av,
	.like = text_like_av,
};

/* ----------------------------------------------------------------- AVCs -- */

static bool text_fits_grid(const struct rv_snap *s)
{
	return rv_len(s, RV_VMAS) <= TEXT_GRID_VMAS;
}

static u32 text_count_avcs(const struct rv_snap *s)
{
	if (!rv_len(s, RV_AVCS))
		return 0;
	return text_records(s, text_fits_grid(s) ? RV_AVS : RV_VMAS);
}

static void text_head_avcs(struct seq_file *m, const struct rv_snap *s)
{
	char name[16];
	u32 i;

	if (!text_count_avcs(s))
		return;
	text_section(m, "AVCs");
	if (!text_fits_grid(s)) {
		seq_printf(m, "%u: a VMA's own anon_vma has a *\n",
			   rv_len(s, RV_AVCS));
		return;
	}
	seq_printf(m, "%-7s", "");
	for (i = 0; i < rv_len(s, RV_VMAS); i++) {
		snprintf(name, sizeof(name), "VMA%u", i);
		seq_printf(m, i + 1 < rv_len(s, RV_VMAS) ? "%-10s" : "%s\n",
			   name);
	}
}

static const struct rv_avc *text_find_avc(const struct rv_snap *s, u32 av,
					  const struct rv_vma *vma)
{
	u32 i;

	for (i = vma->first_avc; i < vma->first_avc + vma->nr_avcs; i++) {
		const struct rv_avc *avc = rv_avc_at(s, i);

		if (avc->av == av)
			return avc;
	}
	return NULL;
}

/* AVC1 joins VMA1 to its own anon_vma, AVC_x01 VMA1 to an ancestor's, AV0. */
static void text_avc_name(const struct rv_snap *s, const struct rv_avc *avc,
			  char *buf, size_t size)
{
	if (!avc)
		strscpy(buf, "-", size);
	else if (rv_avc_is_own(s, avc))
		snprintf(buf, size, "AVC%u", avc->vma);
	else if (avc->av < 10 && avc->vma < 10)
		snprintf(buf, size, "AVC_x%u%u", avc->av, avc->vma);
	else
		snprintf(buf, size, "AVC_x%u.%u", avc->av, avc->vma);
}

static void text_grid_row(struct seq_file *m, const struct rv_snap *s, u32 av)
{
	const struct rv_vma *vma;
	char name[32];
	u32 i;

	text_gutter(m, "");
	seq_printf(m, "AV%-5u", av);
	for (i = 0; i < rv_len(s, RV_VMAS); i++) {
		vma = rv_vma_at(s, i);
		text_avc_name(s, text_find_avc(s, av, vma), name, sizeof(name));
		seq_printf(m, i + 1 < rv_len(s, RV_VMAS) ? "%-9s " : "%s\n",
			   name);
	}
}

static void text_chain(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const bool full = s->query.opts & RV_OPT_FULL;
	const struct rv_vma *vma = rv_vma_at(s, i);
	u32 n;

	text_gutter(m, "");
	seq_printf(m, "VMA%-6u", i);
	for (n = 0; n < vma->nr_avcs; n++) {
		const struct rv_avc *avc;

		if (!full && n == TEXT_CHAIN_AVS && n + 2 < vma->nr_avcs) {
			seq_printf(m, " (%u more; full shows all)",
				   vma->nr_avcs - n - 1);
			n = vma->nr_avcs - 1;
		}
		avc = rv_avc_at(s, vma->first_avc + n);
		if (n && n % 12 == 0 && full)
			seq_printf(m, "\n%19s", "");
		if (avc->av == RV_NONE)
			seq_puts(m, " AV?");
		else
			seq_printf(m, " AV%u%s", avc->av,
				   rv_avc_is_own(s, avc) ? "*" : "");
	}
	seq_putc(m, '\n');
}

static void text_avc(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	if (text_fits_grid(s))
		text_grid_row(m, s, i);
	else
		text_chain(m, s, i);
}

/* The same but for their own anon_vmas; in the grid all are told apart. */
static bool text_like_avcs(const struct rv_snap *s, u32 i, u32 j)
{
	const struct rv_vma *a = rv_vma_at(s, i), *b = rv_vma_at(s, j);
	u32 n;

	if (text_fits_grid(s) || a->nr_avcs != b->nr_avcs)
		return false;
	for (n = 0; n < a->nr_avcs; n++) {
		const struct rv_avc *x = rv_avc_at(s, a->first_avc + n);
		const struct rv_avc *y = rv_avc_at(s, b->first_avc + n);
		bool own = rv_avc_is_own(s, x);

		if (own != rv_avc_is_own(s, y) || (!own && x->av != y->av))
			return false;
	}
	return true;
}

const struct rv_rows rv_text_avcs = {
	.name = "VMA",
	.count = text_count_avcs,
	.head = text_head_avcs,
	.line = text_avc,
	.lead = text_lead,
	.number = text_number,
	.like = text_like_avcs,
};

/* ----------------------------------------------------------------- VMAs -- */

static u32 text_count_vmas(const struct rv_snap *s)
{
	return text_records(s, RV_VMAS);
}

static void text_head_vmas(struct seq_file *m, const struct rv_snap *s)
{
	if (!text_count_vmas(s))
		return;
	text_section(m, "VMAs");
	seq_printf(m, "%-7s %-7s %-15s %-25s %-4s %-11s %s%s\n", "", "PID",
		   "COMM", "RANGE", "", "PGOFF", "OWN AV",
		   text_has_page(s) ? " WALK" : "");
}

static const char *text_visit(const struct rv_vma *vma)
{
	if (vma->mapped)
		return "maps";
	return vma->visited ? "visited" : "-";
}

static void text_comm(struct seq_file *m, const char *comm)
{
	int width = 15;
	const char *c;

	for (c = comm; *c; c++)
		width -= *c > 0x20 && *c < 0x7f && *c != '\\' ? 1 : 4;
	text_escaped(m, comm);
	seq_printf(m, "%*s", max(width, 0), "");
}

/* How many processes use the mm, if not one. */
static void text_sharers(struct seq_file *m, const struct rv_mm *mm)
{
	if (mm && mm->nr_tasks > 1)
		seq_printf(m, "  (mm of %u processes)", mm->nr_tasks);
	else if (mm && !mm->nr_tasks)
		seq_puts(m, "  (exiting)");
}

static void text_vma(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_vma *vma = rv_vma_at(s, i);
	const struct rv_mm *mm = rv_mm_at(s, vma->mm);
	const char *name = rv_vma_name(s, vma);
	char perms[5], own[16] = "-";

	if (vma->av != RV_NONE)
		snprintf(own, sizeof(own), "AV%u", vma->av);
	text_gutter(m, "");
	seq_printf(m, "VMA%-4u %-7d ", i, text_pid(mm));
	text_comm(m, mm ? mm->comm : "");
	seq_printf(m, " %012llx-%012llx %s 0x%-9llx ", vma->start, vma->end,
		   rv_vma_perms(vma, perms), vma->pgoff);
	if (text_has_page(s))
		seq_printf(m, "%-6s %s", own, text_visit(vma));
	else
		seq_puts(m, own);
	if (name) {
		seq_puts(m, "  ");
		text_escaped(m, name);
	}
	text_sharers(m, mm);
	if (s->query.opts & RV_OPT_PTRS)
		seq_printf(m, "  0x%lx", vma->key.ptr);
	seq_putc(m, '\n');
}

/* Without its number, for workers that have one. */
static size_t text_stem(const char *comm)
{
	size_t len = strlen(comm);

	while (len && isdigit(comm[len - 1]))
		len--;
	return len;
}

static bool text_like_mm(const struct rv_mm *a, const struct rv_mm *b)
{
	size_t stem;

	if (!a || !b)
		return a == b;
	stem = text_stem(a->comm);
	return stem == text_stem(b->comm) && !memcmp(a->comm, b->comm, stem) &&
	       a->nr_tasks == b->nr_tasks && !a->pid == !b->pid;
}

/* What tells them apart is the process, and the anon_vma that is its own. */
static bool text_like_vma(const struct rv_snap *s, u32 i, u32 j)
{
	const unsigned long perms = VM_READ | VM_WRITE | VM_EXEC | VM_MAYSHARE;
	const struct rv_vma *a = rv_vma_at(s, i), *b = rv_vma_at(s, j);

	return a->start == b->start && a->end == b->end &&
	       a->pgoff == b->pgoff && a->visited == b->visited &&
	       a->mapped == b->mapped &&
	       !((a->vm_flags ^ b->vm_flags) & perms) &&
	       (a->av == RV_NONE) == (b->av == RV_NONE) &&
	       rv_vma_name(s, a) == rv_vma_name(s, b) &&
	       text_like_mm(rv_mm_at(s, a->mm), rv_mm_at(s, b->mm));
}

const struct rv_rows rv_text_vmas = {
	.name = "VMA",
	.count = text_count_vmas,
	.head = text_head_vmas,
	.line = text_vma,
	.lead = text_lead,
	.number = text_number,
	.like = text_like_vma,
};

/* ----------------------------------------------------------------- PTEs -- */

static u32 text_count_ptes(const struct rv_snap *s)
{
	return text_records(s, RV_PTES);
}

static void text_head_ptes(struct seq_file *m, const struct rv_snap *s)
{
	if (!text_count_ptes(s))
		return;
	text_section(m, "PTEs");
	seq_printf(m, "%-7s %-7s %-14s %-5s %-18s %s%s\n", "", "PID", "ADDRESS",
		   "LEVEL", "VALUE",
		   s->query.opts & RV_OPT_FOLIO ? "PFN       PAGES " : "",
		   "FLAGS");
}

static void text_pte(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_pte *pte = rv_pte_at(s, i);
	const struct rv_vma *vma = rv_vma_at(s, pte->vma);
	struct rv_emit e;

	text_gutter(m, "");
	seq_printf(m, "VMA%-4d %-7d 0x%012llx %-5s 0x%016llx ", (int)pte->vma,
		   vma ? text_pid(rv_mm_at(s, vma->mm)) : 0, pte->addr,
		   rv_level_words[pte->level].text, pte->value);
	if (s->query.opts & RV_OPT_FOLIO)
		seq_printf(m, "0x%-7llx %-5u ", pte->pfn, pte->pages);
	/* All that is listed is present. */
	rv_emit_begin(&e, m);
	text_bits(&e, pte->flags & ~RV_PTE_PRESENT, rv_pte_flag_words);
	rv_emit_end(&e);
	if (pte->pkey)
		seq_printf(m, " pkey%u", pte->pkey);
	seq_putc(m, '\n');
}

/* The VMA that has it. */
static u32 text_number_pte(const struct rv_snap *s, u32 i)
{
	return rv_pte_at(s, i)->vma;
}

static bool text_like_pte(const struct rv_snap *s, u32 i, u32 j)
{
	const struct rv_pte *a = rv_pte_at(s, i), *b = rv_pte_at(s, j);

	return a->level == b->level && a->flags == b->flags &&
	       a->pkey == b->pkey && a->pages == b->pages;
}

const struct rv_rows rv_text_ptes = {
	.name = "VMA",
	.count = text_count_ptes,
	.head = text_head_ptes,
	.line = text_pte,
	.lead = text_lead,
	.number = text_number_pte,
	.like = text_like_pte,
};
