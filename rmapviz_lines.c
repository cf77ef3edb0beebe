// SPDX-License-Identifier: GPL-2.0
/*
 * Lines of the listings: columns for awk and for the eye.
 */
#include "rmapviz_lines.h"
#include "rmapviz_report.h"

/*
 * Lines of the survey are many, so each is made empty, and then numbers are
 * written into it, up to the ends of their columns.  Those have room for all that
 * an int can be, of each page of the largest folio.
 */
#define RV_SURVEY_COLUMNS 128

void rv_print_survey_heading(struct rv_emit *e)
{
	rv_emit(e, "         PFN ORDER     KIND   MAPCOUNT   REFCOUNT");
	rv_emit(e, "   DMA_PINS  EXTRA_REFS    VISITED     MAPPED");
	rv_emit(e, "           FAMILY      CHAIN_BYTES\n");
}

/* A few words, for which a call of memset() would be too much. */
static void rv_put_blanks(char *line)
{
	const u64 blanks = 0x2020202020202020ULL;
	u32 i;

	for (i = 0; i < RV_SURVEY_COLUMNS; i += sizeof(blanks))
		memcpy(line + i, &blanks, sizeof(blanks));
	line[RV_SURVEY_COLUMNS] = '\n';
}

static void rv_put_u64(char *end, u64 value)
{
	for (; value >= 10; value /= 10)
		*--end = '0' + value % 10;
	*--end = '0' + value;
}

static void rv_put_s64(char *end, s64 value)
{
	char *sign = end - 1;
	u64 size = abs(value);

	rv_put_u64(end, size);
	if (value >= 0)
		return;
	for (; size; size /= 10)
		sign--;
	*sign = '-';
}

static char *rv_put_hex(char *end, u64 value)
{
	do {
		*--end = rv_hex_digit(value & 15);
		value >>= 4;
	} while (value);
	return end;
}

static void rv_put_page(char *line, const struct rv_page *page)
{
	const struct rv_word *kind = &rv_kind_words[page->kind];
	char *prefix = rv_put_hex(line + 12, page->pfn);
	u32 i;

	*--prefix = 'x';
	*--prefix = '0';
	rv_put_u64(line + 18, page->order);
	for (i = 0; i < kind->len; i++)
		line[27 - kind->len + i] = kind->text[i];
	rv_put_s64(line + 38, page->folio_mapcount);
	rv_put_s64(line + 49, page->refcount);
	rv_put_s64(line + 60, page->dma_pins);
	rv_put_s64(line + 72, page->extra_refs);
}

/* One whose walk was not done has no such numbers. */
static void rv_put_walk(char *line, const struct rv_survey_line *told)
{
	if (told->walked) {
		rv_put_u64(line + 83, told->visited);
		rv_put_u64(line + 94, told->mapped);
	} else {
		line[82] = '-';
		line[93] = '-';
	}
	if (told->family)
		memcpy(line + 111 - RV_ID_DIGITS, told->family, RV_ID_DIGITS);
	else
		line[110] = '-';
}

void rv_print_survey_line(struct rv_emit *e, const struct rv_survey_line *told)
{
	char *line = rv_emit_room(e, RV_SURVEY_COLUMNS + 1);

	if (!line)
		return;
	rv_put_blanks(line);
	rv_put_page(line, told->page);
	rv_put_walk(line, told);
	rv_put_u64(line + RV_SURVEY_COLUMNS, told->chain_bytes);
}

void rv_print_family_heading(struct rv_emit *e)
{
	rv_emit(e, "          FAMILY     PID PROCESSES    VMAS     AVS");
	rv_emit(e, "     AVCS DEPTH      BYTES FORK_BYTES COMM\n");
}

void rv_print_family_line(struct rv_emit *e, const struct rv_family_line *line)
{
	rv_emit_id(e, line->family);
	rv_emit_u64_right(e, line->pid, 8);
	rv_emit_u64_right(e, line->processes, 10);
	rv_emit_u64_right(e, line->vmas, 8);
	rv_emit_u64_right(e, line->avs, 8);
	rv_emit_u64_right(e, line->avcs, 9);
	rv_emit_u64_right(e, line->depth, 6);
	rv_emit_u64_right(e, line->bytes, 11);
	rv_emit_u64_right(e, line->fork_bytes, 11);
	/* It is the last column, and may have any byte in it. */
	rv_emit_char(e, ' ');
	rv_emit_escaped(e, line->comm);
	rv_emit_char(e, '\n');
}
