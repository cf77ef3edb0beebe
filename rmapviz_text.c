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

#include "rmapviz_text.h"
#include "rmapviz_report.h"

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

/* One thing that keeps the page where it is, by its bit. */
static void text_obstacle(struct rv_emit *e, const struct rv_snap *s,
			  unsigned long reason)
{
	const struct rv_page *page = &s->page;

	switch (reason) {
	case RV_STAYS_EXTRA_REFS:
		text_count(e, page->extra_refs, " other ref", " other refs");
		break;
	case RV_STAYS_DMA_PINS:
		text_count(e, page->dma_pins, " DMA pin", " DMA pins");
		break;
	case RV_STAYS_WRITEBACK:
		rv_emit(e, "it is being written");
		break;
	case RV_STAYS_LOCKED:
		rv_emit(e, "somebody has locked it");
		break;
	case RV_STAYS_UNEVICTABLE:
		rv_emit(e, "compaction may not touch what is unevictable");
		break;
	case RV_STAYS_MISSED:
		rv_emit(e, "rmap finds ");
		rv_emit_u64(e, s->reclaim.found);
		rv_emit(e, " of ");
		text_count(e, page->folio_mapcount, " mapping", " mappings");
		break;
	case RV_STAYS_UNMAPPED:
		rv_emit(e, "it is only kept by who holds it");
		break;
	}
}

/* Will it move?  If so, that needs no words. */
static void text_answer_migrate(struct rv_emit *e, const struct rv_snap *s)
{
	unsigned long reasons = s->migrate.reasons;
	bool first = true;

	if (s->migrate.verdict == RV_MOVES_NEVER)
		rv_emit(e, "; it cannot be moved");
	if (s->migrate.verdict != RV_MOVES_NOT_NOW)
		return;
	rv_emit(e, "; it will not move now: ");
	for (; reasons; reasons &= reasons - 1) {
		if (!first)
			rv_emit(e, ", ");
		first = false;
		text_obstacle(e, s, reasons & -reasons);
	}
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
	text_answer_migrate(e, s);
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

/* What the references are; of nothing there is nothing to say. */
static void text_holders(struct rv_emit *e, const struct rv_page *page)
{
	rv_emit(e, " = ");
	rv_emit_s64(e, page->expected_refs);
	rv_emit(e, " expected");
	if (page->dma_pins) {
		rv_emit(e, " + ");
		text_count(e, page->dma_pins, " DMA pin", " DMA pins");
		if (page->pin_refs > 1) {
			rv_emit(e, " (");
			rv_emit_u64(e, page->dma_pins * page->pin_refs);
			rv_emit_char(e, ')');
		}
	}
	if (page->extra_refs) {
		rv_emit(e, " + ");
		rv_emit_s64(e, page->extra_refs);
		rv_emit(e, " other");
	}
}

static void text_refs(struct rv_emit *e, const struct rv_page *page)
{
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
	if (rv_kind_mapped(page->kind))
		text_holders(e, page);
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

/* What struct page itself has, bits that mean something included. */
static void text_raw(struct rv_emit *e, const struct rv_snap *s)
{
	if (!(s->query.opts & RV_OPT_PTRS) || !rv_kind_mapped(s->page.kind))
		return;
	text_line(e);
	rv_emit(e, "->mapping ");
	rv_emit_hex(e, s->page.mapping_word);
	rv_emit(e, ", _mapcount ");
	rv_emit_s64(e, s->page.raw_mapcount);
	rv_emit_char(e, '\n');
}

static void text_page(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (text_has_page(s)) {
		text_frame(&e, s);
		text_mapping(&e, s);
		text_raw(&e, s);
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

/* -------------------------------------------------------------- reclaim -- */

/* The VMAs because of which it fails, of which one says enough. */
static void text_keepers(struct rv_emit *e, const struct rv_snap *s)
{
	const struct rv_vma *first = rv_vma_at(s, s->first_keeper);

	if (!s->keepers || s->query.opts & RV_OPT_BRIEF)
		return;
	text_newline(e);
	rv_emit_then_u64(e, "kept by VMA", s->first_keeper);
	if (first->mm != RV_NONE)
		rv_emit_then_u64(e, " of ", rv_mm_at(s, first->mm)->pid);
	rv_emit(e, " (");
	text_bits(e, first->keeps, rv_reason_words);
	rv_emit_char(e, ')');
	if (s->keepers > 1) {
		rv_emit(e, " and ");
		text_count(e, s->keepers - 1, " other", " others");
	}
}

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
		text_keepers(&e, s);
		rv_emit_char(&e, '\n');
	}
	rv_emit_end(&e);
}

/* ----------------------------------------------------------------- cost -- */

/* Why the kernel does not find all mappings of a KSM page. */
static const char text_ksm_gap[] =
	"ksmd has not yet reached a child of a process that exited";

/* Where the kernel counts more mappings than its own walk comes to. */
static void text_unreached(struct rv_emit *e, const struct rv_snap *s)
{
	u64 unreached = rv_unreached(s);

	if (!unreached)
		return;
	rv_emit(e, "the kernel's rmap does not reach ");
	rv_emit_u64(e, unreached);
	rv_emit(e, " of ");
	text_count(e, unreached + s->entries, " mapping:", " mappings:");
	text_newline(e);
	if (s->page.kind == RV_KIND_KSM)
		rv_emit_string(e, text_ksm_gap);
	else
		rv_emit(e, "they may have changed meanwhile; verify tells");
	text_newline(e);
}

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
	text_newline(e);
	text_unreached(e, s);
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
	seq_printf(m, "missing %u, extra %u", rv_len(s, RV_MISSING),
		   rv_len(s, RV_EXTRA));
	if (s->scan.changed)
		seq_printf(m, "; %llu changed meanwhile", s->scan.changed);
	if (rv_len(s, RV_MISSING) && s->page.kind == RV_KIND_KSM)
		seq_printf(m, ": %s", text_ksm_gap);
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
	{ .rows = &rv_text_families },
	{ .rows = &rv_text_avs },
	{ .rows = &rv_text_avcs },
	{ .rows = &rv_text_vmas },
	{ .rows = &rv_text_ptes },
	{ .head = text_reclaim },
	{ .head = text_cost },
	{ .head = text_history },
	{ .head = text_head_verify },
	{ text_count_missing, NULL, text_missing },
	{ text_count_extra, NULL, text_extra },
	{}
};

static_assert(ARRAY_SIZE(rv_text_sections) <= RV_SECTIONS_MAX);
