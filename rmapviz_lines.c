// SPDX-License-Identifier: GPL-2.0
/*
 * Lines of the listings: columns for awk and for the eye.
 */
#include "rmapviz_lines.h"
#include "rmapviz_report.h"

void rv_print_survey_heading(struct rv_emit *e)
{
	rv_emit(e, "         PFN ORDER    KIND MAPCOUNT REFCOUNT DMA_PINS");
	rv_emit(e, " EXTRA_REFS VISITED MAPPED           FAMILY");
	rv_emit(e, " CHAIN_BYTES\n");
}

/* One whose walk was not done has no such numbers. */
static void rv_print_walk(struct rv_emit *e, const struct rv_survey_line *line)
{
	if (line->walked) {
		rv_emit_u64_right(e, line->visited, 8);
		rv_emit_u64_right(e, line->mapped, 7);
	} else {
		rv_emit(e, "       -      -");
	}
	if (line->family)
		rv_emit_id(e, line->family);
	else
		rv_emit(e, "                -");
}

void rv_print_survey_line(struct rv_emit *e, const struct rv_survey_line *line)
{
	const struct rv_page *page = line->page;

	rv_emit_hex_right(e, page->pfn, 12);
	rv_emit_u64_right(e, page->order, 6);
	rv_emit_word_right(e, &rv_kind_words[page->kind], 8);
	rv_emit_s64_right(e, page->folio_mapcount, 9);
	rv_emit_s64_right(e, page->refcount, 9);
	rv_emit_s64_right(e, page->dma_pins, 9);
	rv_emit_s64_right(e, page->extra_refs, 11);
	rv_print_walk(e, line);
	rv_emit_u64_right(e, line->chain_bytes, 12);
	rv_emit_char(e, '\n');
}

void rv_print_family_heading(struct rv_emit *e)
{
	rv_emit(e, "          FAMILY     PID PROCESSES    VMAS     AVS");
	rv_emit(e, "     AVCS DEPTH      BYTES FORK_BYTES COMM\n");
}

/* It is the last column, and may have any byte in it. */
static void rv_print_comm(struct rv_emit *e, const char *comm)
{
	const unsigned char *c;

	rv_emit_char(e, ' ');
	for (c = (const unsigned char *)comm; *c; c++) {
		if (*c > 0x20 && *c < 0x7f && *c != '\\') {
			rv_emit_char(e, *c);
			continue;
		}
		rv_emit_char(e, '\\');
		rv_emit_char(e, '0' + (*c >> 6));
		rv_emit_char(e, '0' + (*c >> 3 & 7));
		rv_emit_char(e, '0' + (*c & 7));
	}
	rv_emit_char(e, '\n');
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
	rv_print_comm(e, line->comm);
}
