// SPDX-License-Identifier: GPL-2.0
/*
 * A process as text: one line for each of its families, and their sums.
 */
#include <linux/minmax.h>
#include <linux/seq_file.h>

#include "rmapviz_text.h"
#include "rmapviz_report.h"

/* One line for each, and one for all. */
static u32 text_count_families(const struct rv_snap *s)
{
	return text_sums_up(s) && rv_len(s, RV_ROOTS) ?
		       rv_len(s, RV_ROOTS) + 1 :
		       0;
}

static void text_head_families(struct seq_file *m, const struct rv_snap *s)
{
	if (!text_count_families(s))
		return;
	text_section(m, "families");
	seq_puts(m, "ROOT     PROCS  VMAS   AVS    AVCS    DEPTH LARGEST ");
	seq_printf(m, "VMAS OF PID %d\n", s->query.pid);
}

static void text_family_sums(struct seq_file *m, const struct rv_family *sums)
{
	seq_printf(m, "%-6u %-6u %-6u %-7u %-5u ", sums->processes, sums->vmas,
		   sums->avs, sums->avcs, sums->depth);
}

/* The first VMA of the process asked about, and how many more there are. */
static void text_asked_vmas(struct seq_file *m, const struct rv_snap *s,
			    const struct rv_family *family)
{
	const struct rv_vma *vma = rv_vma_at(s, family->first_asked);
	const char *name = rv_vma_name(s, vma);

	seq_printf(m, "%-7u %012llx-%012llx", family->largest, vma->start,
		   vma->end);
	if (family->asked > 1)
		seq_printf(m, " +%u", family->asked - 1);
	if (name) {
		seq_puts(m, "  ");
		text_escaped(m, name);
	}
}

static void text_total(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_family sums = {
		.avs = rv_len(s, RV_AVS),
		.avcs = rv_len(s, RV_AVCS),
		.vmas = rv_len(s, RV_VMAS),
	};
	const struct rv_family *family;
	const struct rv_mm *mm;
	u32 asked = 0;

	rv_for_each(mm, s, RV_MMS)
		sums.processes += mm->nr_tasks;
	rv_for_each(family, s, RV_ROOTS) {
		sums.depth = max(sums.depth, family->depth);
		sums.largest = max(sums.largest, family->largest);
		asked += family->asked;
	}
	text_gutter(m, "");
	seq_puts(m, "total    ");
	text_family_sums(m, &sums);
	seq_printf(m, "%-7u %u VMA%s\n", sums.largest, asked,
		   text_plural(asked));
}

static void text_family(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_family *family = rv_root_at(s, i);

	if (i == rv_len(s, RV_ROOTS)) {
		text_total(m, s);
		return;
	}
	text_gutter(m, "");
	seq_printf(m, "AV%-6u ", family->root);
	text_family_sums(m, family);
	if (family->asked)
		text_asked_vmas(m, s, family);
	else
		seq_printf(m, "%u", family->largest);
	if (s->query.opts & RV_OPT_PTRS)
		seq_printf(m, "  0x%lx", family->key.ptr);
	seq_putc(m, '\n');
}

static u32 text_number_family(const struct rv_snap *s, u32 i)
{
	return rv_root_at(s, i)->root;
}

/* Of the same size, wherever they are. */
static bool text_like_family(const struct rv_snap *s, u32 i, u32 j)
{
	const struct rv_family *a = rv_root_at(s, i), *b = rv_root_at(s, j);

	if (i == rv_len(s, RV_ROOTS))
		return false;
	return a->avs == b->avs && a->avcs == b->avcs && a->vmas == b->vmas &&
	       a->processes == b->processes && a->depth == b->depth &&
	       a->largest == b->largest && a->asked == b->asked;
}

const struct rv_rows rv_text_families = {
	.name = "AV",
	.count = text_count_families,
	.head = text_head_families,
	.line = text_family,
	.lead = text_lead,
	.number = text_number_family,
	.like = text_like_family,
};
