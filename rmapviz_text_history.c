// SPDX-License-Identifier: GPL-2.0
/*
 * What each era of Linux would have done, as text: a line for each.
 */
#include <linux/seq_file.h>

#include "rmapviz_text.h"
#include "rmapviz_report.h"

/* Digits of a number in its column; larger ones make it wider. */
#define TEXT_COLUMN "%9llu "

static void text_era(struct seq_file *m, const char *release, const char *way)
{
	text_gutter(m, "");
	seq_printf(m, "%-7s %-9s ", release, way);
}

static void text_effort(struct seq_file *m, u64 visits, u64 hits, u64 bytes)
{
	seq_printf(m, TEXT_COLUMN TEXT_COLUMN TEXT_COLUMN TEXT_COLUMN " ",
		   visits, hits, visits - hits, bytes);
}

/* Of a process no page was walked. */
static void text_effort_of_page(struct seq_file *m, const struct rv_snap *s,
				u64 visits, u64 bytes)
{
	if (text_has_page(s))
		text_effort(m, visits, s->mapped, bytes);
	else
		seq_printf(m, "%9s %9s %9s " TEXT_COLUMN " ", "-", "-", "-",
			   bytes);
}

static void text_scan(struct seq_file *m, const struct rv_snap *s)
{
	if (!(s->query.opts & RV_OPT_VERIFY))
		return;
	text_era(m, "2.4.18", "scan");
	text_effort(m, s->scan.entries, s->scan.found, 0);
	seq_printf(m, "%llu mms, the last hit after %llu\n", s->scan.mms,
		   s->scan.until_last);
}

static void text_pte_chain(struct seq_file *m, const struct rv_snap *s)
{
	const struct rv_history *h = s->history;
	const struct rv_chain_layout *usual = &h->layouts[RV_CHAIN_USUAL];

	if (!rv_has_reclaim(s))
		return;
	text_era(m, "2.6.0", "pte_chain");
	text_effort(m, h->ptes, h->ptes, rv_chain_bytes(h));
	seq_printf(m, "model: %s, forks add %llu\n",
		   rv_chain_words[h->form].text,
		   usual->fork_blocks * usual->line);
}

static void text_objrmap(struct seq_file *m, const struct rv_snap *s)
{
	const struct rv_history *h = s->history;

	if (!rv_has_objrmap(s))
		return;
	text_era(m, "2.6.11", "objrmap");
	text_effort_of_page(m, s, h->list, h->objrmap_bytes);
	seq_printf(m, "model: %u listed", h->list);
	if (text_has_page(s))
		seq_printf(m, ", %u in range", h->in_range);
	seq_putc(m, '\n');
}

static void text_av_avc(struct seq_file *m, const struct rv_snap *s)
{
	if (!rv_has_av_avc(s))
		return;
	text_era(m, "2.6.34", "av_avc");
	text_effort_of_page(m, s, s->visited, s->history->av_avc_bytes);
	seq_printf(m, "%u AV%s, %u AVC%s\n", rv_len(s, RV_AVS),
		   text_plural(rv_len(s, RV_AVS)), rv_len(s, RV_AVCS),
		   text_plural(rv_len(s, RV_AVCS)));
}

/* Is there anything to tell? */
static bool text_tells_history(const struct rv_snap *s)
{
	if (!text_has_page(s))
		return rv_has_history(s) && rv_len(s, RV_ROOTS);
	return rv_has_history(s) &&
	       (rv_has_av_avc(s) || s->query.opts & RV_OPT_VERIFY);
}

/**
 * text_history() - print what each era would have had to do
 * @m: where to print
 * @s: the snapshot
 *
 * Context: Process context.
 */
void text_history(struct seq_file *m, const struct rv_snap *s)
{
	if (!text_tells_history(s))
		return;
	text_section(m, "history");
	seq_printf(m, "%-7s %-9s %9s %9s %9s %9s\n", "SINCE", "WAY", "VISITS",
		   "HITS", "WASTE", "BYTES");
	text_scan(m, s);
	text_pte_chain(m, s);
	text_objrmap(m, s);
	text_av_avc(m, s);
}
