// SPDX-License-Identifier: GPL-2.0
/*
 * The report as text, for the eye: the answer first, then the page, the
 * building of anon_vmas, AVCs and VMAs, the page-table entries, and the cost.
 *
 * ASCII, a gutter of ten columns for labels, and under 100 columns as long as
 * names allow.
 */
#include <linux/bitops.h>
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

/* The same for what brief prints too, which is to cost little. */
static void text_line(struct rv_emit *e)
{
	rv_emit(e, "          ");
}

/* A number of something, and that in the singular or in the plural. */
static void text_count(struct rv_emit *e, u64 n, const char *one,
		       const char *many)
{
	rv_emit_u64(e, n);
	rv_emit_string(e, n == 1 ? one : many);
}

/* The names of the bits that are set. */
static void text_bits(struct rv_emit *e, unsigned long bits,
		      const struct rv_word *words)
{
	bool first = true;

	for (; bits; bits &= bits - 1) {
		if (!first)
			rv_emit_char(e, ' ');
		first = false;
		rv_emit_word(e, &words[__ffs(bits)]);
	}
}

static void text_page_flags(struct rv_emit *e, const struct rv_page *page)
{
	const char *name;
	u32 i = 0;

	text_line(e);
	rv_emit(e, "flags");
	while ((name = rv_next_page_flag(page, &i))) {
		rv_emit_char(e, ' ');
		rv_emit_string(e, name);
	}
	rv_emit_char(e, '\n');
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

/* Who maps it; brief has not asked which processes the VMAs are of. */
static void text_mappers(struct rv_emit *e, const struct rv_snap *s)
{
	const bool brief = s->query.opts & RV_OPT_BRIEF;
	const u32 n = brief ? s->mapped : s->processes;

	if (brief)
		text_count(e, n, " VMA", " VMAs");
	else
		text_count(e, n, " process", " processes");
	rv_emit_string(e, n == 1 ? " maps it, at " : " map it, at ");
	text_count(e, s->entries, " address", " addresses");
}

static void text_answer_page(struct rv_emit *e, const struct rv_snap *s)
{
	rv_emit(e, "PFN ");
	rv_emit_hex(e, s->page.pfn);
	rv_emit(e, " is ");
	rv_emit_string(e, text_kinds[s->page.kind]);
	rv_emit(e, "; ");
	if (!rv_kind_mapped(s->page.kind))
		rv_emit(e, "rmap maps no such page");
	else if (!s->entries)
		rv_emit(e, "nothing maps it");
	else
		text_mappers(e, s);
}

static void text_answer(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (text_has_page(s)) {
		text_answer_page(&e, s);
	} else {
		rv_emit(&e, "pid ");
		rv_emit_u64(&e, s->query.pid);
		rv_emit(&e, ": ");
		text_count(&e, rv_len(s, RV_AVS), " anon_vma", " anon_vmas");
		rv_emit(&e, " in ");
		text_count(&e, rv_len(s, RV_ROOTS), " family", " families");
	}
	rv_emit_char(&e, '\n');
	if (s->lost) {
		rv_emit(&e, "INCOMPLETE: ");
		rv_emit_u64(&e, s->lost);
		rv_emit(&e, " RECORDS DID NOT FIT\n");
	}
	rv_emit_end(&e);
}

/* ----------------------------------------------------------------- page -- */

static void text_mapping(struct rv_emit *e, const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;
	const struct rv_av *av;

	if (page->mapping == RV_MAPPING_NONE)
		return;
	text_line(e);
	rv_emit(e, "mapping ");
	rv_emit_word(e, &rv_mapping_words[page->mapping]);
	rv_for_each(av, s, RV_AVS) {
		if (!av->on_page || s->query.opts & RV_OPT_BRIEF)
			continue;
		rv_emit(e, " AV");
		rv_emit_u64(e, av - rv_av_at(s, 0));
	}
	rv_emit(e, ", index ");
	rv_emit_hex(e, page->index);
	if (s->query.opts & RV_OPT_PTRS) {
		rv_emit(e, ", at ");
		rv_emit_hex(e, page->mapping_ptr);
	}
	rv_emit_char(e, '\n');
}

static void text_refs(struct rv_emit *e, const struct rv_page *page)
{
	s64 pins = page->refcount - page->expected_refs;

	text_line(e);
	rv_emit(e, "mapcount ");
	rv_emit_s64(e, page->mapcount);
	if (page->order) {
		rv_emit(e, " (folio ");
		rv_emit_s64(e, page->folio_mapcount);
		rv_emit_char(e, ')');
	}
	rv_emit(e, ", refcount ");
	rv_emit_s64(e, page->refcount);
	if (rv_kind_mapped(page->kind)) {
		rv_emit(e, " = ");
		rv_emit_s64(e, page->expected_refs);
		rv_emit(e, " expected + ");
		rv_emit_s64(e, pins);
		rv_emit_string(e, pins == 1 ? " pin" : " pins");
	}
	rv_emit_char(e, '\n');
}

static void text_frame(struct rv_emit *e, const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;

	rv_emit(e, "\npage      pfn ");
	rv_emit_u64(e, page->pfn);
	rv_emit(e, " (");
	rv_emit_hex(e, page->pfn);
	rv_emit(e, "), physical ");
	rv_emit_hex(e, page->pfn << PAGE_SHIFT);
	if (page->order) {
		rv_emit(e, ", page ");
		rv_emit_u64(e, page->pfn - page->head);
		rv_emit(e, " of an order-");
		rv_emit_u64(e, page->order);
		rv_emit(e, " folio at ");
		rv_emit_hex(e, page->head);
	}
	if (s->query.opts & RV_OPT_PTRS) {
		rv_emit(e, ", struct page ");
		rv_emit_hex(e, page->ptr);
	}
	rv_emit_char(e, '\n');
}

static void text_page(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (text_has_page(s)) {
		text_frame(&e, s);
		text_mapping(&e, s);
	}
	rv_emit_end(&e);
}

/* A long name has an item of its own. */
static void text_page_file(struct seq_file *m, const struct rv_snap *s)
{
	if (!s->page_file)
		return;
	text_gutter(m, "");
	seq_puts(m, "file ");
	text_escaped(m, s->page_file);
	seq_putc(m, '\n');
}

static void text_page_counts(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (text_has_page(s)) {
		text_refs(&e, &s->page);
		text_page_flags(&e, &s->page);
	}
	rv_emit_end(&e);
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
	seq_printf(m, " %-6u %-9u %-9u %-9u %u", av->level, av->refcount,
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
	const struct rv_vma *vma = rv_vma_at(s, i);
	u32 n;

	text_gutter(m, "");
	seq_printf(m, "VMA%-6u", i);
	for (n = 0; n < vma->nr_avcs; n++) {
		const struct rv_avc *avc = rv_avc_at(s, vma->first_avc + n);

		if (n && n % 12 == 0)
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

/* -------------------------------------------------------------- reclaim -- */

static void text_reclaim(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (rv_has_reclaim(s)) {
		rv_emit(&e, "\nreclaim   ");
		rv_emit_word(&e, &rv_outcome_words[s->reclaim.outcome]);
		if (s->reclaim.reasons)
			rv_emit(&e, ": ");
		text_bits(&e, s->reclaim.reasons, rv_reason_words);
		rv_emit_char(&e, '\n');
	}
	rv_emit_end(&e);
}

/* ----------------------------------------------------------------- cost -- */

static void text_visits(struct rv_emit *e, const struct rv_snap *s)
{
	text_count(e, s->visited, " VMA visited, ", " VMAs visited, ");
	text_count(e, s->mapped, " of them maps the page",
		   " of them map the page");
	if (s->tree_vmas) {
		rv_emit(e, "; ");
		rv_emit_u64(e, s->tree_vmas);
		rv_emit(e, " in the page's AV, ");
		rv_emit_u64(e, rv_len(s, RV_VMAS));
		rv_emit(e, " in the family");
	}
	rv_emit_char(e, '\n');
	text_line(e);
}

static void text_us(struct rv_emit *e, u64 ns)
{
	rv_emit_u64(e, ns / 1000);
	rv_emit_char(e, '.');
	rv_emit_u64(e, ns / 100 % 10);
	rv_emit(e, " us");
}

static void text_cost(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	rv_emit(&e, "\ncost      ");
	if (text_has_page(s))
		text_visits(&e, s);
	rv_emit(&e, "rmap locks held for ");
	text_us(&e, s->lock_ns);
	rv_emit(&e, ", at most ");
	text_us(&e, s->lock_max_ns);
	rv_emit(&e, " at a time; ");
	text_count(&e, s->attempts, " attempt, ", " attempts, ");
	text_count(&e, s->retries, " retry\n", " retries\n");
	rv_emit_end(&e);
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
	{ .head = text_page_file },
	{ .head = text_page_counts },
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

static_assert(ARRAY_SIZE(rv_text_sections) <= RV_SECTIONS_MAX);
