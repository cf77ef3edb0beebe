// SPDX-License-Identifier: GPL-2.0
/*
 * From a snapshot to a report, which is printed item by item.
 */
#include <linux/seq_file.h>

#include "rmapviz.h"
#include "rmapviz_report.h"

static const struct rv_section *rv_sections(const struct rv_snap *s)
{
	return s->query.opts & RV_OPT_JSON ? rv_json_sections :
					     rv_text_sections;
}

/* Items are numbered with 32 bits. */
static_assert(1ULL * RV_SECTIONS_MAX * RV_RECORDS_MAX < U32_MAX);

static u32 rv_section_items(const struct rv_section *section,
			    const struct rv_snap *s)
{
	if (section->rows)
		return 1 + section->rows->count(s);
	return !!section->head + (section->count ? section->count(s) : 0);
}

/**
 * rv_report_prepare() - find out of how many items a report consists
 * @s: the snapshot, finished
 *
 * Context: Any.
 */
void rv_report_prepare(struct rv_snap *s)
{
	const struct rv_section *section = rv_sections(s);
	u32 items = 0;
	u32 i;

	for (i = 0; section[i].head || section[i].line || section[i].rows;
	     i++) {
		items += rv_section_items(&section[i], s);
		s->section_ends[i] = items;
	}
	s->items = items;
}

/**
 * rv_report_items() - number of items that a report has, once it is prepared
 * @s: the snapshot
 *
 * Context: Any.
 * Return: the number.
 */
u32 rv_report_items(const struct rv_snap *s)
{
	return s->items;
}

/* The section that an item is of; the item is then one of that. */
static const struct rv_section *rv_section_of(const struct rv_snap *s,
					      u32 *item)
{
	const u32 *end = s->section_ends;

	while (*item >= *end)
		end++;
	if (end > s->section_ends)
		*item -= end[-1];
	return rv_sections(s) + (end - s->section_ends);
}

static void rv_section_show(struct seq_file *m, const struct rv_snap *s,
			    const struct rv_section *section, u32 item)
{
	if (section->rows && item)
		rv_fold_show(m, s, section->rows, item - 1);
	else if (section->rows)
		section->rows->head(m, s);
	else if (!section->head)
		section->line(m, s, item);
	else if (item)
		section->line(m, s, item - 1);
	else
		section->head(m, s);
}

/**
 * rv_report_show() - print one item of a report
 * @m: where to print
 * @s: the snapshot
 * @item: the item, from 0 to below rv_report_items()
 *
 * Context: Process context.
 */
void rv_report_show(struct seq_file *m, const struct rv_snap *s, u32 item)
{
	const struct rv_section *section = rv_section_of(s, &item);

	rv_section_show(m, s, section, item);
}

/**
 * rv_report_next() - the item to print after another
 * @s: the snapshot
 * @item: the item that was printed
 *
 * Context: Process context, may sleep.
 * Return: the next one that prints something, or rv_report_items().
 */
u32 rv_report_next(const struct rv_snap *s, u32 item)
{
	const struct rv_section *section;
	u32 row = item;

	/* It lists everything. */
	if (s->query.opts & RV_OPT_JSON)
		return item + 1;
	section = rv_section_of(s, &row);
	if (!section->rows || !row)
		return item + 1;
	return item + rv_fold_length(s, section->rows, row - 1);
}

/* As it is shown. */
/* clang-format off */
static const char rv_usage[] =
	"rmapviz " RV_VERSION
	": who maps a physical page?  Write one line, then read.\n"
	"\n"
	"  echo 0x1d2f3 > rmapviz            a page frame number; also \"pfn 0x1d2f3\"\n"
	"  echo pfn:1d2f3 > rmapviz          the same as the kernel prints it, in hex\n"
	"  echo phys 0x1d2f3000 > rmapviz    the page at a physical address\n"
	"  echo pid 91 0x7f8c56e29000 > rmapviz\n"
	"                                    the page that process 91 maps there\n"
	"  echo pid 91 > rmapviz             no page: all anon_vma trees of process 91\n"
	"\n"
	"options, after the target:\n"
	"  text    for the eye (default)     json    the same facts for programs\n"
	"  brief   page and cost only        full    every record, though rows be alike\n"
	"  folio   every page of the folio   ptrs    with kernel addresses\n"
	"  verify  compare with a scan of all memory\n"
	"\n"
	"Reading asks the last question again, so \"watch cat rmapviz\" works.\n"
	"\n"
	"Where lockdown forbids to write here, ask by a parameter:\n"
	"  echo 0x1d2f3 > /sys/module/rmapviz/parameters/query; cat rmapviz_answer\n";
/* clang-format on */

/**
 * rv_report_usage() - explain the query file
 * @m: where to print
 *
 * Context: Process context.
 */
void rv_report_usage(struct seq_file *m)
{
	seq_puts(m, rv_usage);
}
