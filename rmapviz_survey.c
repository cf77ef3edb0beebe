// SPDX-License-Identifier: GPL-2.0
/*
 * Every mapped folio of the machine, one after the other.
 *
 * Nothing is kept from one folio to the next: no lock, no reference, and no
 * memory but what the first one needed.  A frame that nothing maps costs a look
 * at its struct page.  As in rmapviz_walk.c, what a look without a reference
 * takes for a mapped folio is pinned, and then looked at again.
 */
#include <linux/delay.h>
#include <linux/hugetlb.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"
#include "rmapviz_compat.h"
#include "rmapviz_lines.h"
#include "rmapviz_listing.h"

/* Attempts at a folio that somebody else has just now. */
#define RV_SURVEY_ATTEMPTS 4

/* Frames between two chances to give up the CPU. */
#define RV_SURVEY_TURN 1024

/* Memory comes and goes in pieces of so many frames. */
#define RV_FRAMES_PIECE PAGES_PER_SUBSECTION

/**
 * struct rv_survey - an open survey
 * @snap: what was counted of a folio
 * @end: the first frame behind all memory, when it was opened
 * @last_ptr: what the family of the last folio stands for
 * @last_id: and its id, as text
 */
struct rv_survey {
	struct rv_snap *snap;
	u64 end;
	unsigned long last_ptr;
	char last_id[RV_ID_DIGITS + 1];
};

/* -------------------------------------------------------------- one folio -- */

/* What stands for its family: a root of anon_vmas, or a file. */
static unsigned long rv_family_ptr(const struct rv_snap *s)
{
	return s->page.mapping == RV_MAPPING_FILE ? s->page.mapping_ptr :
						    s->root_ptr;
}

/* The walk, a few times if somebody is in the way; he is not waited for long. */
static int rv_survey_walk(struct rv_snap *s, struct folio *folio)
{
	int err, i;

	for (i = 0; i < RV_SURVEY_ATTEMPTS; i++) {
		if (i)
			usleep_range(20, 100);
		err = rv_walk_counting(s, folio);
		if (err != -EAGAIN)
			return err;
	}
	rv_page_describe(&s->page, &folio->page, folio, RV_HELD_REF);
	return -EAGAIN;
}

/* Its id; neighbours are mostly of one family. */
static const char *rv_family_id(struct rv_survey *survey)
{
	unsigned long ptr = rv_family_ptr(survey->snap);

	if (ptr != survey->last_ptr) {
		survey->last_ptr = ptr;
		snprintf(survey->last_id, sizeof(survey->last_id), "%016llx",
			 rv_listing_id(ptr));
	}
	return ptr ? survey->last_id : NULL;
}

/* A line, if rmap maps it; it is referenced.  1, 0 or an error. */
static int rv_survey_folio(struct rv_survey *survey, struct folio *folio,
			   struct rv_emit *e)
{
	struct rv_snap *s = survey->snap;
	struct rv_survey_line line = { .page = &s->page };
	int err = rv_survey_walk(s, folio);

	if (err && err != -EAGAIN)
		return err;
	if (!rv_kind_mapped(s->page.kind) || !s->page.folio_mapcount)
		return 0;
	line.walked = !err;
	line.visited = s->visited;
	line.mapped = s->mapped;
	line.family = err ? NULL : rv_family_id(survey);
	line.chain_bytes = rv_page_chain_bytes(folio);
	rv_print_survey_line(e, &line);
	return 1;
}

/* ------------------------------------------------------------- all of them -- */

/* The first frame behind all memory. */
static u64 rv_frames_end(void)
{
	u64 end = 0;
	int nid;

	for_each_online_node(nid)
		end = max_t(u64, end, pgdat_end_pfn(NODE_DATA(nid)));
	return end;
}

/*
 * The folio that begins at a frame, if it looks mapped, or large; @next is the frame to go
 * on with.
 */
static struct folio *rv_mapped_folio_at(u64 pfn, u64 *next)
{
	struct page *page = pfn_to_online_page(pfn);
	struct folio *folio;

	*next = pfn + 1;
	if (!page) {
		*next = round_up(pfn + 1, RV_FRAMES_PIECE);
		return NULL;
	}
	if (!page_ref_count(page) || PageTail(page))
		return NULL;
	folio = page_folio(page);
	if (PageSlab(page) ||
	    (page_has_type(page) && !folio_test_hugetlb(folio)))
		return NULL;
	/* Whether any page of a large one is mapped can be asked when it is pinned. */
	return PageHead(page) || atomic_read(&page->_mapcount) >= 0 ? folio :
								      NULL;
}

/* The frame at @next, and if there is a line about it.  1, 0 or an error. */
static int rv_survey_frame(struct rv_listing *l, struct rv_emit *e)
{
	u64 pfn = l->next, next;
	struct folio *folio = rv_mapped_folio_at(pfn, &next);
	int told = 0;

	if (folio && folio_try_get(folio)) {
		if (page_folio(pfn_to_page(pfn)) == folio &&
		    folio_pfn(folio) == pfn && folio_mapped(folio)) {
			next = pfn + folio_nr_pages(folio);
			told = rv_survey_folio(l->data, folio, e);
		}
		folio_put(folio);
	}
	l->next = next;
	return told;
}

static int rv_survey_line(struct rv_listing *l, struct rv_emit *e)
{
	struct rv_survey *survey = l->data;
	const bool heading = !l->next;
	u32 n = 0;
	int told;

	if (heading)
		rv_print_survey_heading(e);
	while (l->next < survey->end) {
		told = rv_survey_frame(l, e);
		if (told || heading)
			return told ?: 1;
		if (++n % RV_SURVEY_TURN)
			continue;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static int rv_survey_start(struct rv_listing *l)
{
	const struct rv_query q = {
		.target = RV_TARGET_PFN,
		.opts = RV_OPT_BRIEF | RV_OPT_FOLIO,
	};

	struct rv_survey *survey = kzalloc(sizeof(*survey), RV_GFP);

	if (!survey)
		return -ENOMEM;
	survey->end = rv_frames_end();
	survey->snap = rv_snap_alloc(&q);
	l->data = survey;
	if (survey->snap)
		return 0;
	kfree(survey);
	return -ENOMEM;
}

static void rv_survey_end(struct rv_listing *l)
{
	struct rv_survey *survey = l->data;

	rv_snap_free(survey->snap);
	kfree(survey);
}

const struct rv_listing_ops rv_survey_ops = {
	.start = rv_survey_start,
	.line = rv_survey_line,
	.end = rv_survey_end,
};
