// SPDX-License-Identifier: GPL-2.0
/*
 * Would the kernel migrate the folio, if it were asked now?
 *
 * Compaction, memory offlining, contiguous allocation and move_pages() all come
 * to migrate_pages() of mm/migrate.c, which replaces every entry that maps the
 * folio and then needs to be the only one who still holds it.
 */
#include <linux/mm.h>
#include <linux/page-flags.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

/*
 * Anonymous memory that nothing maps is known to its holder alone, and so is what
 * was truncated, which has no mapping any more, but its place on an LRU list.
 * Neither is movable, and both are free when they are let go.
 */
static bool rv_only_held(const struct rv_page *page)
{
	if (!rv_kind_mapped(page->kind))
		return page->kind == RV_KIND_OTHER && page->flags & BIT(PG_lru);
	return page->refcount && !page->folio_mapcount && !page->swapcache &&
	       page->mapping != RV_MAPPING_FILE;
}

/* What keeps a page of a kind that can be migrated. */
static u8 rv_obstacles(const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;
	u8 reasons = 0;

	if (page->extra_refs > 0)
		reasons |= RV_STAYS_EXTRA_REFS;
	if (page->dma_pins > 0)
		reasons |= RV_STAYS_DMA_PINS;
	if (page->flags & BIT(PG_writeback))
		reasons |= RV_STAYS_WRITEBACK;
	if (page->flags & BIT(PG_locked))
		reasons |= RV_STAYS_LOCKED;
	/* It keeps compaction away; others move such pages all the same. */
	if (page->flags & BIT(PG_unevictable) && !rv_compacts_unevictable())
		reasons |= RV_STAYS_UNEVICTABLE;
	if (s->reclaim.found < page->folio_mapcount)
		reasons |= RV_STAYS_MISSED;
	if (rv_only_held(page))
		reasons |= RV_STAYS_UNMAPPED;
	return reasons;
}

/* Free memory is in nobody's way, and drivers' migrate_page() is not asked. */
static u8 rv_reasons_to_stay(const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;

	if (page->kind == RV_KIND_FREE || page->movable_ops)
		return 0;
	if (rv_kind_mapped(page->kind) || rv_only_held(page))
		return rv_obstacles(s);
	return RV_STAYS_UNMOVABLE;
}

/**
 * rv_judge_migrate() - would the folio of a snapshot be migrated?
 * @s: the snapshot, in order; verdict and reasons are set
 *
 * Follows what isolate_migratepages_block() of mm/compaction.c and migrate_pages()
 * look at, and changes nothing.
 *
 * Context: Any.
 */
void rv_judge_migrate(struct rv_snap *s)
{
	struct rv_migrate *m = &s->migrate;

	if (s->query.target == RV_TARGET_PID)
		return;
	m->reasons = rv_reasons_to_stay(s);
	if (m->reasons & RV_STAYS_UNMOVABLE)
		m->verdict = RV_MOVES_NEVER;
	else if (m->reasons)
		m->verdict = RV_MOVES_NOT_NOW;
	else
		m->verdict = RV_MOVES;
}
