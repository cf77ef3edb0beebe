// SPDX-License-Identifier: GPL-2.0
/*
 * Long tables in which many rows are alike, made short for the eye.
 *
 * A row that differs from another in nothing but what it is called need not be
 * read.  What repeats may be several rows, as where each process of a family has
 * two VMAs in it: a period.  After three of them the next are left out, and a
 * line in their place says how many.  So whatever is left out looks like a row
 * that is shown.
 *
 * Nothing is kept between two rows, which seq_file may ask for again: what is
 * to become of a row is seen from those before it, and from the next one.
 */
#include <linux/sched.h>
#include <linux/seq_file.h>

#include "rmapviz_report.h"

/* No longer table is folded. */
#define FOLD_ROWS_MAX 20U

/* Periods that are shown, and the rows in the longest. */
#define FOLD_SHOWN	3U
#define FOLD_PERIOD_MAX 8U

/* Does a row repeat three others, and all between them repeat, too? */
static bool fold_repeats(const struct rv_snap *s, const struct rv_rows *rows,
			 u32 i, u32 period)
{
	u32 n;

	if (i < FOLD_SHOWN * period)
		return false;
	for (n = 0; n <= (FOLD_SHOWN - 1) * period; n++)
		if (!rows->like(s, i - n, i - n - period))
			return false;
	return true;
}

/* The period in which a row is one too many, or 0 for one that is shown. */
static u32 fold_period(const struct rv_snap *s, const struct rv_rows *rows,
		       u32 i)
{
	u32 period;

	for (period = 1; period <= FOLD_PERIOD_MAX; period++)
		if (fold_repeats(s, rows, i, period))
			return period;
	return 0;
}

/* How many are left out in a row, up to this one. */
static u32 fold_length(const struct rv_snap *s, const struct rv_rows *rows,
		       u32 i, u32 period)
{
	u32 n = 1;

	while (n <= i && fold_period(s, rows, i - n) == period) {
		n++;
		cond_resched();
	}
	return n;
}

/* The last of n rows that are left out stands for all of them. */
static void fold_line(struct seq_file *m, const struct rv_snap *s,
		      const struct rv_rows *rows, u32 i, u32 n, u32 period)
{
	rows->lead(m, s, i);
	seq_printf(m, "%u more like ", n);
	if (period > 1)
		seq_printf(m, "%s%u to ", rows->name,
			   rows->number(s, i - n - period + 1));
	seq_printf(m, "%s%u; full shows all\n", rows->name,
		   rows->number(s, i - n));
}

/**
 * rv_fold_show() - print a row, or nothing, or one line for many
 * @m: where to print
 * @s: the snapshot
 * @rows: the table
 * @i: the row
 *
 * Context: Process context, may sleep.
 */
void rv_fold_show(struct seq_file *m, const struct rv_snap *s,
		  const struct rv_rows *rows, u32 i)
{
	u32 len = rows->count(s), period = 0, n = 1;

	if (len > FOLD_ROWS_MAX && !(s->query.opts & RV_OPT_FULL))
		period = fold_period(s, rows, i);
	if (period) {
		if (i + 1 < len && fold_period(s, rows, i + 1) == period)
			return;
		n = fold_length(s, rows, i, period);
	}
	/* One row is as short as a line that stands for it. */
	if (n > 1)
		fold_line(m, s, rows, i, n, period);
	else
		rows->line(m, s, i);
}
