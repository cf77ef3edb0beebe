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
 * to become of a row is seen from those before it, and how many go with it from
 * those that follow.  They are then passed over.
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

/*
 * Is the row after one that is left out left out in the same period?  What comes
 * before it is known to repeat.
 */
static bool fold_goes_on(const struct rv_snap *s, const struct rv_rows *rows,
			 u32 i, u32 period)
{
	u32 shorter;

	if (i + 1 == rows->count(s) || !rows->like(s, i + 1, i + 1 - period))
		return false;
	for (shorter = 1; shorter < period; shorter++)
		if (fold_repeats(s, rows, i + 1, shorter))
			return false;
	return true;
}

/* The period of a row that is left out, in a table that is folded, or 0. */
static u32 fold_period_of(const struct rv_snap *s, const struct rv_rows *rows,
			  u32 i)
{
	if (rows->count(s) <= FOLD_ROWS_MAX || s->query.opts & RV_OPT_FULL)
		return 0;
	return fold_period(s, rows, i);
}

/* How many are left out in a row, from this one on. */
static u32 fold_length(const struct rv_snap *s, const struct rv_rows *rows,
		       u32 i, u32 period)
{
	u32 n = 1;

	while (period && fold_goes_on(s, rows, i + n - 1, period)) {
		n++;
		cond_resched();
	}
	return n;
}

/* The first of n rows that are left out stands for all of them. */
static void fold_line(struct seq_file *m, const struct rv_snap *s,
		      const struct rv_rows *rows, u32 i, u32 n, u32 period)
{
	rows->lead(m, s, i + n - 1);
	seq_printf(m, "%u more like ", n);
	if (period > 1)
		seq_printf(m, "%s%u to ", rows->name,
			   rows->number(s, i - period));
	seq_printf(m, "%s%u; full shows all\n", rows->name,
		   rows->number(s, i - 1));
}

/**
 * rv_fold_length() - for how many rows one stands when it is shown
 * @s: the snapshot
 * @rows: the table
 * @i: the row, which is the first or comes after those of another
 *
 * Context: Process context, may sleep.
 * Return: their number, itself included.
 */
u32 rv_fold_length(const struct rv_snap *s, const struct rv_rows *rows, u32 i)
{
	return fold_length(s, rows, i, fold_period_of(s, rows, i));
}

/**
 * rv_fold_show() - print a row, or one line for many
 * @m: where to print
 * @s: the snapshot
 * @rows: the table
 * @i: the row, one that rv_fold_length() leads to
 *
 * Context: Process context, may sleep.
 */
void rv_fold_show(struct seq_file *m, const struct rv_snap *s,
		  const struct rv_rows *rows, u32 i)
{
	u32 period = fold_period_of(s, rows, i);
	u32 n = fold_length(s, rows, i, period);

	/* One row is as short as a line that stands for it. */
	if (n > 1)
		fold_line(m, s, rows, i, n, period);
	else
		rows->line(m, s, i);
}
