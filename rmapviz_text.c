// SPDX-License-Identifier: GPL-2.0
/*
 * The report as text, for the eye: the answer first, then the page, the
 * building of anon_vmas, AVCs and VMAs, the page-table entries, and the cost.
 *
 * ASCII, a gutter of ten columns for labels, and under 100 columns as long as
 * names allow.
 */
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "rmapviz_report.h"

/* AVCs are drawn as a table of anon_vmas by VMAs while it fits the screen. */
#define TEXT_GRID_VMAS 8

/* Deeper levels of the tree are not indented any further. */
#define TEXT_DEPTH_MAX 12

static void text_escaped(struct seq_file *m, const char *string)
{
	const unsigned char *c;

	for (c = (const unsigned char *)string; *c; c++) {
		if (*c > 0x20 && *c < 0x7f && *c != '\\')
			seq_putc(m, *c);
		else
			seq_printf(m, "\\%03o", *c);
	}
}

static const char *text_plural(u64 n)
{
	return n == 1 ? "" : "s";
}

static bool text_has_page(const struct rv_snap *s)
{
	return s->query.target != RV_TARGET_PID;
}

/* The label of a section, or the gutter below it. */
static void text_gutter(struct seq_file *m, const char *label)
{
	seq_printf(m, "%-10s", label);
}

/* A section starts after an empty line. */
static void text_section(struct seq_file *m, const char *label)
{
	seq_putc(m, '\n');
	text_gutter(m, label);
}

/* The names in flags, which are parted by '|'. */
static void text_flags(struct seq_file *m, char *flags)
{
	strreplace(flags, '|', ' ');
	seq_puts(m, flags);
}

/* ----------------------------------------------------- the answer, first -- */

static const char *const text_kinds[RV_NR_KINDS] = {
	[RV_KIND_ANON] = "an anonymous page",
	[RV_KIND_KSM] = "a KSM page",
	[RV_KIND_FILE] = "a page of a file",
	[RV_KIND_SHMEM] = "a page of shared memory",
	[RV_KIND_HUGETLB] = "a hugetlb page",
	[RV_KIND_ZERO] = "the zero page",
	[RV_KIND_FREE] = "free",
	[RV_KIND_SLAB] = "slab memory of the kernel",
	[RV_KIND_PAGETABLE] = "a page table",
	[RV_KIND_RESERVED] = "reserved",
	[RV_KIND_MOVABLE] = "a movable page of the kernel",
	[RV_KIND_OFFLINE] = "offline",
	[RV_KIND_DEVICE] = "memory of a device",
	[RV_KIND_OTHER] = "kernel memory or of unknown use",
};

static void text_answer(struct seq_file *m, const struct rv_snap *s)
{
	if (!text_has_page(s)) {
		seq_printf(m, "pid %d: %u anon_vma%s in %u famil%s",
			   s->query.pid, rv_len(s, RV_AVS),
			   text_plural(rv_len(s, RV_AVS)), rv_len(s, RV_ROOTS),
			   rv_len(s, RV_ROOTS) == 1 ? "y" : "ies");
	} else {
		seq_printf(m, "PFN 0x%llx is %s; ", s->page.pfn,
			   text_kinds[s->page.kind]);
		if (!rv_kind_mapped(s->page.kind))
			seq_puts(m, "rmap maps no such page");
		else if (!rv_len(s, RV_PTES))
			seq_puts(m, "nothing maps it");
		else
			seq_printf(m, "%u process%s map%s it, at %u address%s",
				   s->processes, s->processes == 1 ? "" : "es",
				   s->processes == 1 ? "s" : "",
				   rv_len(s, RV_PTES),
				   rv_len(s, RV_PTES) == 1 ? "" : "es");
	}
	seq_putc(m, '\n');
	if (s->lost)
		seq_printf(m, "INCOMPLETE: %llu RECORDS DID NOT FIT\n",
			   s->lost);
}

/* ----------------------------------------------------------------- page -- */

static void text_mapping(struct seq_file *m, const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;
	const struct rv_av *av;

	if (page->mapping == RV_MAPPING_NONE)
		return;
	text_gutter(m, "");
	seq_printf(m, "mapping %s", rv_mapping_names[page->mapping]);
	rv_for_each(av, s, RV_AVS)
		if (av->on_page && !(s->query.opts & RV_OPT_BRIEF))
			seq_printf(m, " AV%u", (u32)(av - rv_av_at(s, 0)));
	seq_printf(m, ", index 0x%llx", page->index);
	if (s->query.opts & RV_OPT_PTRS)
		seq_printf(m, ", at 0x%lx", page->mapping_ptr);
	seq_putc(m, '\n');
	if (s->page_file) {
		text_gutter(m, "");
		seq_puts(m, "file ");
		text_escaped(m, s->page_file);
		seq_putc(m, '\n');
	}
}

static void text_page(struct seq_file *m, const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;
	char flags[RV_FLAGS_LEN];

	if (!text_has_page(s))
		return;
	text_section(m, "page");
	seq_printf(m, "pfn %llu (0x%llx), physical 0x%llx", page->pfn,
		   page->pfn, page->pfn << PAGE_SHIFT);
	if (page->order)
		seq_printf(m, ", page %llu of an order-%u folio at 0x%llx",
			   page->pfn - page->head, page->order, page->head);
	if (s->query.opts & RV_OPT_PTRS)
		seq_printf(m, ", struct page 0x%lx", page->ptr);
	seq_putc(m, '\n');
	text_mapping(m, s);
	text_gutter(m, "");
	seq_printf(m, "mapcount %lld", page->mapcount);
	if (page->order)
		seq_printf(m, " (folio %lld)", page->folio_mapcount);
	seq_printf(m, ", refcount %lld", page->refcount);
	if (rv_kind_mapped(page->kind))
		seq_printf(m, " = %lld expected + %lld pin%s",
			   page->expected_refs,
			   page->refcount - page->expected_refs,
			   text_plural(page->refcount - page->expected_refs));
	seq_putc(m, '\n');
	text_gutter(m, "");
	seq_puts(m, "flags ");
	rv_page_flag_names(flags, sizeof(flags), page);
	text_flags(m, flags);
	seq_putc(m, '\n');
}

/* ------------------------------------------------------------ anon_vmas -- */

static u32 text_count_avs(const struct rv_snap *s)
{
	return s->query.opts & RV_OPT_BRIEF ? 0 : rv_len(s, RV_AVS);
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

static void text_av(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	u32 id = rv_av_at(s, i)->at_line;
	const struct rv_av *av = rv_av_at(s, id);
	int width;

	text_gutter(m, "");
	width = text_branches(m, s, av);
	seq_printf(m, "AV%-*u", max(14 - width, 4), id);
	seq_printf(m, " %-6u %-9u %-9llu %-9llu %u", av->level, av->refcount,
		   av->children, av->active_vmas, av->vmas);
	if (av->on_page)
		seq_puts(m, "   <- the page");
	if (s->query.opts & RV_OPT_PTRS)
		seq_printf(m, "  0x%lx", av->key.ptr);
	seq_putc(m, '\n');
}

/* ----------------------------------------------------------------- AVCs -- */

static bool text_fits_grid(const struct rv_snap *s)
{
	return rv_len(s, RV_VMAS) <= TEXT_GRID_VMAS;
}

static u32 text_count_avcs(const struct rv_snap *s)
{
	if (s->query.opts & RV_OPT_BRIEF || !rv_len(s, RV_AVCS))
		return 0;
	return text_fits_grid(s) ? rv_len(s, RV_AVS) : rv_len(s, RV_VMAS);
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
static void text_avc_name(const struct rv_avc *avc, char *buf, size_t size)
{
	if (!avc)
		strscpy(buf, "-", size);
	else if (avc->own)
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
		text_avc_name(text_find_avc(s, av, vma), name, sizeof(name));
		seq_printf(m, i + 1 < rv_len(s, RV_VMAS) ? "%-9s " : "%s\n",
			   name);
	}
}

static void text_chain(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_vma *vma = rv_vma_at(s, i);
	u32 n;

	text_gutter(m, "");
	seq_printf(m, "VMA%-6u", i);
	for (n = 0; n < vma->nr_avcs; n++) {
		const struct rv_avc *avc = rv_avc_at(s, vma->first_avc + n);

		if (n && n % 12 == 0)
			seq_printf(m, "\n%19s", "");
		seq_printf(m, " AV%u%s", avc->av, avc->own ? "*" : "");
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

/* ----------------------------------------------------------------- VMAs -- */

static u32 text_count_vmas(const struct rv_snap *s)
{
	return s->query.opts & RV_OPT_BRIEF ? 0 : rv_len(s, RV_VMAS);
}

static void text_head_vmas(struct seq_file *m, const struct rv_snap *s)
{
	if (!text_count_vmas(s))
		return;
	text_section(m, "VMAs");
	seq_printf(m, "%-7s %-7s %-15s %-25s %-4s %s%s\n", "", "PID", "COMM",
		   "RANGE", "", "OWN AV", text_has_page(s) ? " WALK" : "");
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

static pid_t text_pid(const struct rv_mm *mm)
{
	return mm ? mm->pid : 0;
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
	seq_printf(m, " %012llx-%012llx %s ", vma->start, vma->end,
		   rv_vma_perms(vma, perms));
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

/* ----------------------------------------------------------------- PTEs -- */

static u32 text_count_ptes(const struct rv_snap *s)
{
	return s->query.opts & RV_OPT_BRIEF ? 0 : rv_len(s, RV_PTES);
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
	char flags[RV_FLAGS_LEN];

	text_gutter(m, "");
	seq_printf(m, "VMA%-4d %-7d 0x%012llx %-5s 0x%016llx ", (int)pte->vma,
		   vma ? text_pid(rv_mm_at(s, vma->mm)) : 0, pte->addr,
		   rv_level_names[pte->level], pte->value);
	if (s->query.opts & RV_OPT_FOLIO)
		seq_printf(m, "0x%-7llx %-5u ", pte->pfn, pte->pages);
	/* All that is listed is present. */
	rv_pte_flag_names(flags, sizeof(flags), pte->flags & ~RV_PTE_PRESENT);
	text_flags(m, flags);
	if (pte->pkey)
		seq_printf(m, " pkey%u", pte->pkey);
	seq_putc(m, '\n');
}

/* -------------------------------------------------------------- reclaim -- */

static void text_reclaim(struct seq_file *m, const struct rv_snap *s)
{
	char reasons[RV_FLAGS_LEN];

	if (!rv_has_reclaim(s))
		return;
	text_section(m, "reclaim");
	seq_puts(m, rv_outcome_names[s->reclaim.outcome]);
	rv_reason_names(reasons, sizeof(reasons), s->reclaim.reasons);
	if (*reasons)
		seq_puts(m, ": ");
	text_flags(m, reasons);
	seq_putc(m, '\n');
}

/* ----------------------------------------------------------------- cost -- */

static void text_cost(struct seq_file *m, const struct rv_snap *s)
{
	text_section(m, "cost");
	if (text_has_page(s)) {
		seq_printf(m, "%u VMA%s visited, %u of them map%s the page",
			   s->visited, text_plural(s->visited), s->mapped,
			   s->mapped == 1 ? "s" : "");
		if (s->tree_vmas)
			seq_printf(m, "; %u in the page's AV, %u in the family",
				   s->tree_vmas, rv_len(s, RV_VMAS));
		seq_putc(m, '\n');
		text_gutter(m, "");
	}
	seq_printf(m, "rmap lock held for %llu.%03llu us, %u retr%s\n",
		   s->lock_ns / 1000, s->lock_ns % 1000, s->retries,
		   s->retries == 1 ? "y" : "ies");
}

/* ---------------------------------------------------------------- verify -- */

static u32 text_count_missing(const struct rv_snap *s)
{
	return rv_len(s, RV_MISSING);
}

static u32 text_count_extra(const struct rv_snap *s)
{
	return rv_len(s, RV_EXTRA);
}

static void text_head_verify(struct seq_file *m, const struct rv_snap *s)
{
	if (!(s->query.opts & RV_OPT_VERIFY))
		return;
	text_section(m, "verify");
	seq_printf(m, "2.4 would look at %llu mms, %llu VMAs, %llu entries",
		   s->scan.mms, s->scan.vmas, s->scan.entries);
	seq_printf(m, ", and find it %llu time%s\n", s->scan.found,
		   text_plural(s->scan.found));
	text_gutter(m, "");
	seq_printf(m, "missing %u, extra %u", rv_len(s, RV_MISSING),
		   rv_len(s, RV_EXTRA));
	if (s->scan.changed)
		seq_printf(m, "; %llu changed meanwhile", s->scan.changed);
	seq_putc(m, '\n');
}

static void text_mismatch(struct seq_file *m, const struct rv_snap *s,
			  const struct rv_mismatch *mismatch, const char *what)
{
	const struct rv_mm *mm = rv_mm_at(s, mismatch->mm);

	text_gutter(m, "");
	seq_printf(m, "%s: pid %d at 0x%012llx\n", what, text_pid(mm),
		   mismatch->addr);
}

static void text_missing(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	text_mismatch(m, s, rv_missing_at(s, i), "MISSED BY RMAP");
}

static void text_extra(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	text_mismatch(m, s, rv_extra_at(s, i), "ONLY IN RMAP");
}

const struct rv_section rv_text_sections[] = {
	{ .head = text_answer },
	{ .head = text_page },
	{ text_count_avs, text_head_avs, text_av },
	{ text_count_avcs, text_head_avcs, text_avc },
	{ text_count_vmas, text_head_vmas, text_vma },
	{ text_count_ptes, text_head_ptes, text_pte },
	{ .head = text_reclaim },
	{ .head = text_cost },
	{ .head = text_head_verify },
	{ text_count_missing, NULL, text_missing },
	{ text_count_extra, NULL, text_extra },
	{}
};
