// SPDX-License-Identifier: GPL-2.0
/*
 * The report as JSON: the contract that programs rely on.
 *
 * 64-bit values that may pass 2^53 are hex strings; counts, ids, PFNs and pids
 * are numbers.  Bytes of names beyond ASCII are escaped one by one.
 */
#include <linux/bitops.h>
#include <linux/kernel.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/utsname.h>

#include "rmapviz_report.h"

static void json_string(struct rv_emit *e, const char *string)
{
	const unsigned char *c;

	rv_emit_char(e, '"');
	for (c = (const unsigned char *)string; *c; c++) {
		if (*c == '"' || *c == '\\') {
			rv_emit_char(e, '\\');
			rv_emit_char(e, *c);
		} else if (*c >= 0x20 && *c < 0x7f) {
			rv_emit_char(e, *c);
		} else {
			rv_emit(e, "\\u00");
			rv_emit_char(e, rv_hex_digit(*c >> 4));
			rv_emit_char(e, rv_hex_digit(*c & 15));
		}
	}
	rv_emit_char(e, '"');
}

/* A string, or null. */
static void json_name(struct rv_emit *e, const char *name)
{
	if (name)
		json_string(e, name);
	else
		rv_emit(e, "null");
}

/* The next member of an object: its name, and what it has. */
#define json_u64(_e, _name, _value) \
	rv_emit_then_u64(_e, ", \"" _name "\": ", _value)

#define json_s64(_e, _name, _value)               \
	do {                                      \
		rv_emit(_e, ", \"" _name "\": "); \
		rv_emit_s64(_e, _value);          \
	} while (0)

#define json_hex(_e, _name, _value)                                  \
	do {                                                         \
		rv_emit_then_hex(_e, ", \"" _name "\": \"", _value); \
		rv_emit_char(_e, '"');                               \
	} while (0)

#define json_word(_e, _name, _word)                 \
	do {                                        \
		rv_emit(_e, ", \"" _name "\": \""); \
		rv_emit_word(_e, _word);            \
		rv_emit_char(_e, '"');              \
	} while (0)

#define json_bool(_e, _name, _value)                           \
	do {                                                   \
		if (_value)                                    \
			rv_emit(_e, ", \"" _name "\": true");  \
		else                                           \
			rv_emit(_e, ", \"" _name "\": false"); \
	} while (0)

/* An id of another record, or null. */
#define json_ref(_e, _name, _id)                              \
	do {                                                  \
		if ((_id) == RV_NONE)                         \
			rv_emit(_e, ", \"" _name "\": null"); \
		else                                          \
			json_u64(_e, _name, _id);             \
	} while (0)

static void json_ptr(struct rv_emit *e, const struct rv_snap *s,
		     unsigned long ptr)
{
	if (s->query.opts & RV_OPT_PTRS)
		json_hex(e, "ptr", ptr);
}

/* A list of the names of the bits that are set. */
static __always_inline void json_bits(struct rv_emit *e, unsigned long bits,
				      const struct rv_word *words)
{
	bool first = true;

	rv_emit_char(e, '[');
	for (; bits; bits &= bits - 1) {
		if (first)
			rv_emit_char(e, '"');
		else
			rv_emit(e, ", \"");
		first = false;
		rv_emit_word(e, &words[__ffs(bits)]);
		rv_emit_char(e, '"');
	}
	rv_emit_char(e, ']');
}

/* ----------------------------------------------------------------- page -- */

static void json_counts(struct rv_emit *e, const struct rv_page *page)
{
	json_s64(e, "mapcount", page->mapcount);
	json_s64(e, "folio_mapcount", page->folio_mapcount);
	json_s64(e, "refcount", page->refcount);
	if (rv_kind_mapped(page->kind)) {
		json_s64(e, "expected_refs", page->expected_refs);
		json_s64(e, "dma_pins", page->dma_pins);
		json_s64(e, "extra_refs", page->extra_refs);
	} else {
		rv_emit(e, ", \"expected_refs\": null");
		rv_emit(e, ", \"dma_pins\": null, \"extra_refs\": null");
	}
}

static void json_page_flags(struct rv_emit *e, const struct rv_page *page)
{
	const char *comma = "", *name;
	u32 i = 0;

	rv_emit(e, ", \"flags\": [");
	while ((name = rv_next_page_flag(page, &i))) {
		rv_emit_string(e, comma);
		rv_emit_char(e, '"');
		rv_emit_string(e, name);
		rv_emit_char(e, '"');
		comma = ", ";
	}
	rv_emit_char(e, ']');
}

static void json_page(struct rv_emit *e, const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;

	rv_emit(e, "{\"pfn\": ");
	rv_emit_u64(e, page->pfn);
	json_u64(e, "head", page->head);
	json_u64(e, "order", page->order);
	json_word(e, "kind", &rv_kind_words[page->kind]);
	json_page_flags(e, page);
	if (page->mapping == RV_MAPPING_NONE) {
		rv_emit(e, ", \"mapping\": null, \"index\": null");
	} else {
		json_word(e, "mapping", &rv_mapping_words[page->mapping]);
		json_hex(e, "index", page->index);
	}
}

/* The rest of the page; a long name has an item of its own. */
static void json_page_file(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (s->query.target != RV_TARGET_PID) {
		rv_emit(&e, ", \"file\": ");
		json_name(&e, s->page_file);
	}
	rv_emit_end(&e);
}

static void json_page_counts(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (s->query.target != RV_TARGET_PID) {
		json_counts(&e, &s->page);
		json_ptr(&e, s, s->page.ptr);
		if (s->query.opts & RV_OPT_PTRS)
			json_hex(&e, "mapping_ptr", s->page.mapping_ptr);
		rv_emit_char(&e, '}');
	}
	rv_emit_end(&e);
}

static void json_head(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	rv_emit(&e, "{\"rmapviz\": 1, \"kernel\": ");
	json_string(&e, init_utsname()->release);
	rv_emit(&e, ", \"query\": ");
	json_string(&e, s->query.text);
	rv_emit(&e, ",\n \"page\": ");
	if (s->query.target == RV_TARGET_PID)
		rv_emit(&e, "null");
	else
		json_page(&e, s);
	rv_emit_end(&e);
}

/* -------------------------------------------------------------- records -- */

static u32 json_count(const struct rv_snap *s, enum rv_table_id id)
{
	return s->query.opts & RV_OPT_BRIEF ? 0 : rv_len(s, id);
}

static void json_table(struct seq_file *m, const struct rv_snap *s,
		       enum rv_table_id id, const char *name)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (!(s->query.opts & RV_OPT_BRIEF)) {
		rv_emit(&e, ",\n \"");
		rv_emit_string(&e, name);
		rv_emit_string(&e, rv_len(s, id) ? "\": [" : "\": []");
	}
	rv_emit_end(&e);
}

/* Defines count and heading of the section of a table. */
/* clang-format off */
#define JSON_TABLE(_table, _name, _id)					\
static u32 json_count_##_table(const struct rv_snap *s)			\
{									\
	return json_count(s, _id);					\
}									\
									\
static void json_head_##_table(struct seq_file *m,			\
			       const struct rv_snap *s)			\
{									\
	json_table(m, s, _id, _name);					\
}

/* clang-format on */

JSON_TABLE(avs, "anon_vmas", RV_AVS)
JSON_TABLE(avcs, "avcs", RV_AVCS)
JSON_TABLE(mms, "mms", RV_MMS)
JSON_TABLE(vmas, "vmas", RV_VMAS)
JSON_TABLE(ptes, "ptes", RV_PTES)

/* A record of a table begins; those after the first one follow a comma. */
static __always_inline void json_begin(struct rv_emit *e, struct seq_file *m,
				       u32 i)
{
	rv_emit_begin(e, m);
	if (i)
		rv_emit_char(e, ',');
	rv_emit(e, "\n  {");
}

/* It ends, and with the last one the table. */
static __always_inline void json_end(struct rv_emit *e, const struct rv_snap *s,
				     enum rv_table_id id, u32 i)
{
	rv_emit_char(e, '}');
	if (i + 1 == rv_len(s, id))
		rv_emit_char(e, ']');
	rv_emit_end(e);
}

static __always_inline void json_id(struct rv_emit *e, u32 id)
{
	rv_emit_then_u64(e, "\"id\": ", id);
}

static void json_av(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_av *av = rv_av_at(s, i);
	struct rv_emit e;

	json_begin(&e, m, i);
	json_id(&e, i);
	json_ref(&e, "root", av->root);
	json_ref(&e, "parent", av->parent);
	json_u64(&e, "level", av->level);
	json_u64(&e, "refcount", av->refcount);
	json_u64(&e, "children", av->children);
	json_u64(&e, "active_vmas", av->active_vmas);
	json_bool(&e, "on_page", av->on_page);
	json_ptr(&e, s, av->key.ptr);
	json_end(&e, s, RV_AVS, i);
}

static void json_avc(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_avc *avc = rv_avc_at(s, i);
	struct rv_emit e;

	json_begin(&e, m, i);
	json_id(&e, i);
	json_ref(&e, "anon_vma", avc->av);
	json_ref(&e, "vma", avc->vma);
	if (rv_avc_is_own(s, avc))
		rv_emit(&e, ", \"role\": \"own\"");
	else
		rv_emit(&e, ", \"role\": \"bridge\"");
	json_ptr(&e, s, avc->ptr);
	json_end(&e, s, RV_AVCS, i);
}

static void json_mm(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_mm *mm = rv_mm_at(s, i);
	struct rv_emit e;
	u32 t;

	json_begin(&e, m, i);
	json_id(&e, i);
	json_s64(&e, "pid", mm->pid);
	rv_emit(&e, ", \"comm\": ");
	json_string(&e, mm->comm);
	rv_emit(&e, ", \"tasks\": [");
	for (t = 0; t < mm->nr_tasks; t++) {
		if (t)
			rv_emit(&e, ", ");
		rv_emit_s64(&e, rv_task_at(s, mm->first_task + t)->pid);
	}
	rv_emit_char(&e, ']');
	json_ptr(&e, s, mm->key.ptr);
	json_end(&e, s, RV_MMS, i);
}

static void json_vma(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_vma *vma = rv_vma_at(s, i);
	struct rv_emit e;
	char perms[5];

	json_begin(&e, m, i);
	json_id(&e, i);
	json_ref(&e, "mm", vma->mm);
	json_hex(&e, "start", vma->start);
	json_hex(&e, "end", vma->end);
	rv_emit(&e, ", \"perms\": \"");
	rv_emit_bytes(&e, rv_vma_perms(vma, perms), 4);
	rv_emit_char(&e, '"');
	json_hex(&e, "pgoff", vma->pgoff);
	rv_emit(&e, ", \"name\": ");
	json_name(&e, rv_vma_name(s, vma));
	json_ref(&e, "anon_vma", vma->av);
	json_bool(&e, "visited", vma->visited);
	json_bool(&e, "mapped", vma->mapped);
	rv_emit(&e, ", \"unmap\": ");
	if (vma->found)
		json_bits(&e, vma->keeps, rv_reason_words);
	else
		rv_emit(&e, "null");
	json_ptr(&e, s, vma->key.ptr);
	json_end(&e, s, RV_VMAS, i);
}

static void json_pte(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_pte *pte = rv_pte_at(s, i);
	struct rv_emit e;

	json_begin(&e, m, i);
	rv_emit(&e, "\"pfn\": ");
	rv_emit_u64(&e, pte->pfn);
	json_u64(&e, "pages", pte->pages);
	json_ref(&e, "vma", pte->vma);
	json_hex(&e, "addr", pte->addr);
	json_word(&e, "level", &rv_level_words[pte->level]);
	json_hex(&e, "value", pte->value);
	rv_emit(&e, ", \"flags\": ");
	json_bits(&e, pte->flags, rv_pte_flag_words);
	json_u64(&e, "pkey", pte->pkey);
	json_end(&e, s, RV_PTES, i);
}

static void json_reclaim(struct rv_emit *e, const struct rv_snap *s)
{
	if (!rv_has_reclaim(s)) {
		rv_emit(e, ",\n \"reclaim\": null");
		return;
	}
	rv_emit(e, ",\n \"reclaim\": {\"outcome\": \"");
	rv_emit_word(e, &rv_outcome_words[s->reclaim.outcome]);
	rv_emit(e, "\", \"reasons\": ");
	json_bits(e, s->reclaim.reasons, rv_reason_words);
	rv_emit_char(e, '}');
}

static void json_migrate(struct rv_emit *e, const struct rv_snap *s)
{
	if (s->query.target == RV_TARGET_PID) {
		rv_emit(e, ",\n \"migrate\": null");
		return;
	}
	rv_emit(e, ",\n \"migrate\": {\"verdict\": \"");
	rv_emit_word(e, &rv_verdict_words[s->migrate.verdict]);
	rv_emit(e, "\", \"reasons\": ");
	json_bits(e, s->migrate.reasons, rv_stays_words);
	rv_emit_char(e, '}');
}

static void json_tail(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	rv_emit(&e, ",\n \"walk\": {\"visited\": ");
	rv_emit_u64(&e, s->visited);
	json_u64(&e, "mapped", s->mapped);
	/* brief has not looked at the tree. */
	if (s->query.opts & RV_OPT_BRIEF)
		rv_emit(&e, ", \"tree_vmas\": null");
	else
		json_u64(&e, "tree_vmas", s->tree_vmas);
	json_u64(&e, "lock_ns", s->lock_ns);
	json_u64(&e, "lock_max_ns", s->lock_max_ns);
	json_u64(&e, "attempts", s->attempts);
	json_u64(&e, "retries", s->retries);
	json_u64(&e, "unreached", rv_unreached(s));
	json_u64(&e, "lost", s->lost);
	rv_emit_char(&e, '}');
	json_reclaim(&e, s);
	json_migrate(&e, s);
	if (!rv_has_history(s))
		rv_emit(&e, "}\n");
	rv_emit_end(&e);
}

/* -------------------------------------------------------------- history -- */

/* What it is to look at so many things for so few hits. */
static void json_effort(struct rv_emit *e, u64 visits, u64 hits, u64 bytes)
{
	json_u64(e, "visits", visits);
	json_u64(e, "hits", hits);
	json_u64(e, "waste", visits - hits);
	json_u64(e, "bytes", bytes);
}

/* Of a process, whose pages were not walked, only what it takes is known. */
static void json_effort_of_page(struct rv_emit *e, const struct rv_snap *s,
				u64 visits, u64 bytes)
{
	if (s->query.target != RV_TARGET_PID) {
		json_effort(e, visits, s->mapped, bytes);
		return;
	}
	rv_emit(e, ", \"visits\": null, \"hits\": null, \"waste\": null");
	json_u64(e, "bytes", bytes);
}

static void json_scan(struct rv_emit *e, const struct rv_snap *s)
{
	rv_emit(e, ",\n \"history\": {\"scan\": ");
	if (!(s->query.opts & RV_OPT_VERIFY)) {
		rv_emit(e, "null");
		return;
	}
	rv_emit(e, "{\"how\": \"measured\"");
	json_u64(e, "mms", s->scan.mms);
	json_u64(e, "vmas", s->scan.vmas);
	json_effort(e, s->scan.entries, s->scan.found, 0);
	json_u64(e, "until_last", s->scan.until_last);
	rv_emit_char(e, '}');
}

static void json_chain_layout(struct rv_emit *e,
			      const struct rv_chain_layout *layout)
{
	rv_emit(e, "{\"line\": ");
	rv_emit_u64(e, layout->line);
	json_u64(e, "pointer", layout->pointer);
	json_u64(e, "nrpte", layout->nrpte);
	json_u64(e, "blocks", layout->blocks);
	json_u64(e, "bytes", layout->blocks * layout->line);
	json_u64(e, "fork_bytes", layout->fork_blocks * layout->line);
	rv_emit_char(e, '}');
}

static void json_pte_chain(struct rv_emit *e, const struct rv_snap *s)
{
	const struct rv_history *h = s->history;
	u32 i;

	if (!rv_has_reclaim(s)) {
		rv_emit(e, ",\n  \"pte_chain\": null");
		return;
	}
	rv_emit(e, ",\n  \"pte_chain\": {\"how\": \"modelled\"");
	json_word(e, "form", &rv_chain_words[h->form]);
	json_effort(e, h->ptes, h->ptes, rv_chain_bytes(h));
	rv_emit(e, ",\n   \"layouts\": [");
	for (i = 0; i < RV_CHAIN_LAYOUTS; i++) {
		if (i)
			rv_emit(e, ",\n    ");
		json_chain_layout(e, &h->layouts[i]);
	}
	rv_emit(e, "]}");
}

static void json_objrmap(struct rv_emit *e, const struct rv_snap *s)
{
	const struct rv_history *h = s->history;

	if (!rv_has_objrmap(s)) {
		rv_emit(e, ",\n  \"objrmap\": null");
		return;
	}
	rv_emit(e, ",\n  \"objrmap\": {\"how\": \"modelled\"");
	json_u64(e, "list", h->list);
	if (s->query.target == RV_TARGET_PID)
		rv_emit(e, ", \"in_range\": null");
	else
		json_u64(e, "in_range", h->in_range);
	json_effort_of_page(e, s, h->list, h->objrmap_bytes);
	rv_emit_char(e, '}');
}

static void json_av_avc(struct rv_emit *e, const struct rv_snap *s)
{
	if (!rv_has_av_avc(s)) {
		rv_emit(e, ",\n  \"av_avc\": null");
		return;
	}
	rv_emit(e, ",\n  \"av_avc\": {\"how\": \"measured\"");
	json_effort_of_page(e, s, s->visited, s->history->av_avc_bytes);
	json_u64(e, "avs", rv_len(s, RV_AVS));
	json_u64(e, "avcs", rv_len(s, RV_AVCS));
	rv_emit_char(e, '}');
}

static void json_history(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (rv_has_history(s)) {
		json_scan(&e, s);
		json_pte_chain(&e, s);
		json_objrmap(&e, s);
		json_av_avc(&e, s);
		rv_emit_char(&e, '}');
		if (!(s->query.opts & RV_OPT_VERIFY))
			rv_emit(&e, "}\n");
	}
	rv_emit_end(&e);
}

/* ---------------------------------------------------------------- verify -- */

static u32 json_count_missing(const struct rv_snap *s)
{
	return s->query.opts & RV_OPT_VERIFY ? rv_len(s, RV_MISSING) : 0;
}

static u32 json_count_extra(const struct rv_snap *s)
{
	return s->query.opts & RV_OPT_VERIFY ? rv_len(s, RV_EXTRA) : 0;
}

static void json_head_missing(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (s->query.opts & RV_OPT_VERIFY) {
		rv_emit(&e, ",\n \"verify\": {\"found\": ");
		rv_emit_u64(&e, s->scan.found);
		json_u64(&e, "changed", s->scan.changed);
		rv_emit_string(&e, rv_len(s, RV_MISSING) ? ", \"missing\": [" :
							   ", \"missing\": []");
	}
	rv_emit_end(&e);
}

static void json_head_extra(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (s->query.opts & RV_OPT_VERIFY)
		rv_emit_string(&e, rv_len(s, RV_EXTRA) ? ", \"extra\": [" :
							 ", \"extra\": []");
	rv_emit_end(&e);
}

static void json_mismatch(struct seq_file *m, const struct rv_snap *s,
			  enum rv_table_id id, u32 i)
{
	const struct rv_mismatch *mismatch =
		id == RV_MISSING ? rv_missing_at(s, i) : rv_extra_at(s, i);
	struct rv_emit e;

	json_begin(&e, m, i);
	rv_emit(&e, "\"addr\": \"");
	rv_emit_hex(&e, mismatch->addr);
	rv_emit_char(&e, '"');
	json_ref(&e, "mm", mismatch->mm);
	json_end(&e, s, id, i);
}

static void json_missing(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	json_mismatch(m, s, RV_MISSING, i);
}

static void json_extra(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	json_mismatch(m, s, RV_EXTRA, i);
}

static void json_end_verify(struct seq_file *m, const struct rv_snap *s)
{
	struct rv_emit e;

	rv_emit_begin(&e, m);
	if (s->query.opts & RV_OPT_VERIFY)
		rv_emit(&e, "}}\n");
	rv_emit_end(&e);
}

const struct rv_section rv_json_sections[] = {
	{ .head = json_head },
	{ .head = json_page_file },
	{ .head = json_page_counts },
	{ json_count_avs, json_head_avs, json_av },
	{ json_count_avcs, json_head_avcs, json_avc },
	{ json_count_mms, json_head_mms, json_mm },
	{ json_count_vmas, json_head_vmas, json_vma },
	{ json_count_ptes, json_head_ptes, json_pte },
	{ .head = json_tail },
	{ .head = json_history },
	{ json_count_missing, json_head_missing, json_missing },
	{ json_count_extra, json_head_extra, json_extra },
	{ .head = json_end_verify },
	{}
};

static_assert(ARRAY_SIZE(rv_json_sections) <= RV_SECTIONS_MAX);
