/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What those share who print a report as text.
 */
#ifndef RMAPVIZ_TEXT_H
#define RMAPVIZ_TEXT_H

#include <linux/bitops.h>
#include <linux/seq_file.h>

#include "rmapviz_emit.h"
#include "rmapviz_snap.h"

static inline void text_escaped(struct seq_file *m, const char *string)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	rv_emit_escaped(&e, string);
	rv_emit_end(&e);
}

static inline const char *text_plural(u64 n)
{
	return n == 1 ? "" : "s";
}

static inline bool text_has_page(const struct rv_snap *s)
{
	return s->query.target != RV_TARGET_PID;
}

/* Of a process that nobody wants all records of there is a table of families. */
static inline bool text_sums_up(const struct rv_snap *s)
{
	return s->query.target == RV_TARGET_PID &&
	       !(s->query.opts & (RV_OPT_BRIEF | RV_OPT_FULL));
}

/* How many records of a table are rows of the text. */
static inline u32 text_records(const struct rv_snap *s, enum rv_table_id id)
{
	if (s->query.opts & RV_OPT_BRIEF || text_sums_up(s))
		return 0;
	return rv_len(s, id);
}

/* The label of a section, or the gutter below it. */
static inline void text_gutter(struct seq_file *m, const char *label)
{
	seq_printf(m, "%-10s", label);
}

/* What is left of most rows: nothing. */
static inline void text_lead(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	text_gutter(m, "");
}

/* A section starts after an empty line. */
static inline void text_section(struct seq_file *m, const char *label)
{
	seq_putc(m, '\n');
	text_gutter(m, label);
}

/* The same for what brief prints too, which is to cost little. */
static inline void text_line(struct rv_emit *e)
{
	rv_emit(e, "          ");
}

/* The next line, below the same label. */
static inline void text_newline(struct rv_emit *e)
{
	rv_emit_char(e, '\n');
	text_line(e);
}

/* A number of something, and that in the singular or in the plural. */
static inline void text_count(struct rv_emit *e, u64 n, const char *one,
			      const char *many)
{
	rv_emit_u64(e, n);
	rv_emit_string(e, n == 1 ? one : many);
}

/* The names of the bits that are set. */
static inline void text_bits(struct rv_emit *e, unsigned long bits,
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

void text_history(struct seq_file *m, const struct rv_snap *s);

static inline pid_t text_pid(const struct rv_mm *mm)
{
	return mm ? mm->pid : 0;
}

#endif /* RMAPVIZ_TEXT_H */
