// SPDX-License-Identifier: GPL-2.0
/*
 * The report as JSON: the contract that programs rely on.
 *
 * 64-bit values that may pass 2^53 are hex strings; counts, ids, PFNs and pids
 * are numbers.  Bytes of names beyond ASCII are escaped one by one.
 */
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/utsname.h>

#include "rmapviz_report.h"

static void json_string(struct seq_file *m, const char *string)
{
	const unsigned char *c;

	seq_putc(m, '"');
	for (c = (const unsigned char *)string; *c; c++) {
		if (*c == '"' || *c == '\\')
			seq_printf(m, "\\%c", *c);
		else if (*c >= 0x20 && *c < 0x7f)
			seq_putc(m, *c);
		else
			seq_printf(m, "\\u%04x", *c);
	}
	seq_putc(m, '"');
}

/* A string, or null. */
static void json_name(struct seq_file *m, const char *name)
{
	if (name)
		json_string(m, name);
	else
		seq_puts(m, "null");
}

static const char *json_bool(bool value)
{
	return value ? "true" : "false";
}

/* An id of another record, or null. */
static void json_ref(struct seq_file *m, const char *name, u32 id)
{
	if (id == RV_NONE)
		seq_printf(m, ", \"%s\": null", name);
	else
		seq_printf(m, ", \"%s\": %u", name, id);
}

static void json_ptr(struct seq_file *m, const struct rv_snap *s,
		     unsigned long ptr)
{
	if (s->query.opts & RV_OPT_PTRS)
		seq_printf(m, ", \"ptr\": \"0x%lx\"", ptr);
}

/* A list of names, which are parted by '|'. */
static void json_names(struct seq_file *m, const char *key, char *names)
{
	const char *name, *comma = "";

	seq_printf(m, ", \"%s\": [", key);
	while ((name = strsep(&names, "|"))) {
		if (*name)
			seq_printf(m, "%s\"%s\"", comma, name);
		comma = ", ";
	}
	seq_putc(m, ']');
}

/* ----------------------------------------------------------------- page -- */

static void json_counts(struct seq_file *m, const struct rv_page *page)
{
	seq_printf(m, ", \"mapcount\": %lld, \"folio_mapcount\": %lld",
		   page->mapcount, page->folio_mapcount);
	seq_printf(m, ", \"refcount\": %lld", page->refcount);
	if (rv_kind_mapped(page->kind))
		seq_printf(m, ", \"expected_refs\": %lld, \"pins\": %lld",
			   page->expected_refs,
			   page->refcount - page->expected_refs);
	else
		seq_puts(m, ", \"expected_refs\": null, \"pins\": null");
}

static void json_page(struct seq_file *m, const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;
	char flags[RV_FLAGS_LEN];

	seq_printf(m, "{\"pfn\": %llu, \"head\": %llu, \"order\": %u",
		   page->pfn, page->head, page->order);
	seq_printf(m, ", \"kind\": \"%s\"", rv_kind_names[page->kind]);
	rv_page_flag_names(flags, sizeof(flags), page);
	json_names(m, "flags", flags);
	if (page->mapping == RV_MAPPING_NONE)
		seq_puts(m, ", \"mapping\": null, \"index\": null");
	else
		seq_printf(m, ", \"mapping\": \"%s\", \"index\": \"0x%llx\"",
			   rv_mapping_names[page->mapping], page->index);
}

/* The rest of the page; a long name has an item of its own. */
static void json_page_file(struct seq_file *m, const struct rv_snap *s)
{
	if (s->query.target == RV_TARGET_PID)
		return;
	seq_puts(m, ", \"file\": ");
	json_name(m, s->page_file);
}

static void json_page_counts(struct seq_file *m, const struct rv_snap *s)
{
	const struct rv_page *page = &s->page;

	if (s->query.target == RV_TARGET_PID)
		return;
	json_counts(m, page);
	json_ptr(m, s, page->ptr);
	if (s->query.opts & RV_OPT_PTRS)
		seq_printf(m, ", \"mapping_ptr\": \"0x%lx\"",
			   page->mapping_ptr);
	seq_putc(m, '}');
}

static void json_head(struct seq_file *m, const struct rv_snap *s)
{
	seq_puts(m, "{\"rmapviz\": 1, \"kernel\": ");
	json_string(m, init_utsname()->release);
	seq_puts(m, ", \"query\": ");
	json_string(m, s->query.text);
	seq_puts(m, ",\n \"page\": ");
	if (s->query.target == RV_TARGET_PID)
		seq_puts(m, "null");
	else
		json_page(m, s);
}

/* -------------------------------------------------------------- records -- */

static u32 json_count(const struct rv_snap *s, enum rv_table_id id)
{
	return s->query.opts & RV_OPT_BRIEF ? 0 : rv_len(s, id);
}

static void json_table(struct seq_file *m, const struct rv_snap *s,
		       enum rv_table_id id, const char *name)
{
	if (s->query.opts & RV_OPT_BRIEF)
		return;
	seq_printf(m, ",\n \"%s\": [%s", name, rv_len(s, id) ? "" : "]");
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

static void json_open(struct seq_file *m, u32 i)
{
	seq_puts(m, i ? ",\n  {" : "\n  {");
}

static void json_close(struct seq_file *m, const struct rv_snap *s,
		       enum rv_table_id id, u32 i)
{
	seq_puts(m, i + 1 == rv_len(s, id) ? "}]" : "}");
}

static void json_av(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_av *av = rv_av_at(s, i);

	json_open(m, i);
	seq_printf(m, "\"id\": %u", i);
	json_ref(m, "root", av->root);
	json_ref(m, "parent", av->parent);
	seq_printf(m, ", \"level\": %u, \"refcount\": %u", av->level,
		   av->refcount);
	seq_printf(m, ", \"children\": %llu, \"active_vmas\": %llu",
		   av->children, av->active_vmas);
	seq_printf(m, ", \"on_page\": %s", json_bool(av->on_page));
	json_ptr(m, s, av->key.ptr);
	json_close(m, s, RV_AVS, i);
}

static void json_avc(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_avc *avc = rv_avc_at(s, i);

	json_open(m, i);
	seq_printf(m, "\"id\": %u", i);
	json_ref(m, "anon_vma", avc->av);
	json_ref(m, "vma", avc->vma);
	seq_printf(m, ", \"role\": \"%s\"", avc->own ? "own" : "bridge");
	json_ptr(m, s, avc->ptr);
	json_close(m, s, RV_AVCS, i);
}

static void json_mm(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_mm *mm = rv_mm_at(s, i);
	u32 t;

	json_open(m, i);
	seq_printf(m, "\"id\": %u, \"pid\": %d, \"comm\": ", i, mm->pid);
	json_string(m, mm->comm);
	seq_puts(m, ", \"tasks\": [");
	for (t = 0; t < mm->nr_tasks; t++)
		seq_printf(m, "%s%d", t ? ", " : "",
			   rv_task_at(s, mm->first_task + t)->pid);
	seq_putc(m, ']');
	json_ptr(m, s, mm->key.ptr);
	json_close(m, s, RV_MMS, i);
}

static void json_vma(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_vma *vma = rv_vma_at(s, i);
	char perms[5];

	json_open(m, i);
	seq_printf(m, "\"id\": %u", i);
	json_ref(m, "mm", vma->mm);
	seq_printf(m, ", \"start\": \"0x%llx\", \"end\": \"0x%llx\"",
		   vma->start, vma->end);
	seq_printf(m, ", \"perms\": \"%s\", \"pgoff\": \"0x%llx\"",
		   rv_vma_perms(vma, perms), vma->pgoff);
	seq_puts(m, ", \"name\": ");
	json_name(m, rv_vma_name(s, vma));
	json_ref(m, "anon_vma", vma->av);
	seq_printf(m, ", \"visited\": %s, \"mapped\": %s",
		   json_bool(vma->visited), json_bool(vma->mapped));
	json_ptr(m, s, vma->key.ptr);
	json_close(m, s, RV_VMAS, i);
}

static void json_pte(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	const struct rv_pte *pte = rv_pte_at(s, i);
	char flags[RV_FLAGS_LEN];

	json_open(m, i);
	seq_printf(m, "\"pfn\": %llu, \"pages\": %u", pte->pfn, pte->pages);
	json_ref(m, "vma", pte->vma);
	seq_printf(m, ", \"addr\": \"0x%llx\", \"level\": \"%s\"", pte->addr,
		   rv_level_names[pte->level]);
	seq_printf(m, ", \"value\": \"0x%llx\"", pte->value);
	rv_pte_flag_names(flags, sizeof(flags), pte->flags);
	json_names(m, "flags", flags);
	seq_printf(m, ", \"pkey\": %u", pte->pkey);
	json_close(m, s, RV_PTES, i);
}

static void json_reclaim(struct seq_file *m, const struct rv_snap *s)
{
	char reasons[RV_FLAGS_LEN];

	seq_puts(m, ",\n \"reclaim\": ");
	if (!rv_has_reclaim(s)) {
		seq_puts(m, "null");
		return;
	}
	seq_printf(m, "{\"outcome\": \"%s\"",
		   rv_outcome_names[s->reclaim.outcome]);
	rv_reason_names(reasons, sizeof(reasons), s->reclaim.reasons);
	json_names(m, "reasons", reasons);
	seq_putc(m, '}');
}

static void json_tail(struct seq_file *m, const struct rv_snap *s)
{
	seq_printf(m, ",\n \"walk\": {\"visited\": %u, \"mapped\": %u",
		   s->visited, s->mapped);
	seq_printf(m, ", \"tree_vmas\": %u, \"lock_ns\": %llu", s->tree_vmas,
		   s->lock_ns);
	seq_printf(m, ", \"retries\": %u, \"lost\": %llu}", s->retries,
		   s->lost);
	json_reclaim(m, s);
	if (!(s->query.opts & RV_OPT_VERIFY))
		seq_puts(m, "}\n");
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
	if (!(s->query.opts & RV_OPT_VERIFY))
		return;
	seq_printf(m, ",\n \"history\": {\"scan\": {\"mms\": %llu",
		   s->scan.mms);
	seq_printf(m, ", \"vmas\": %llu, \"entries\": %llu}}", s->scan.vmas,
		   s->scan.entries);
	seq_printf(m, ",\n \"verify\": {\"found\": %llu, \"changed\": %llu",
		   s->scan.found, s->scan.changed);
	seq_printf(m, ", \"missing\": [%s", rv_len(s, RV_MISSING) ? "" : "]");
}

static void json_head_extra(struct seq_file *m, const struct rv_snap *s)
{
	if (s->query.opts & RV_OPT_VERIFY)
		seq_printf(m, ", \"extra\": [%s",
			   rv_len(s, RV_EXTRA) ? "" : "]");
}

static void json_mismatch(struct seq_file *m,
			  const struct rv_mismatch *mismatch, u32 i)
{
	json_open(m, i);
	seq_printf(m, "\"addr\": \"0x%llx\"", mismatch->addr);
	json_ref(m, "mm", mismatch->mm);
}

static void json_missing(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	json_mismatch(m, rv_missing_at(s, i), i);
	json_close(m, s, RV_MISSING, i);
}

static void json_extra(struct seq_file *m, const struct rv_snap *s, u32 i)
{
	json_mismatch(m, rv_extra_at(s, i), i);
	json_close(m, s, RV_EXTRA, i);
}

static void json_end_verify(struct seq_file *m, const struct rv_snap *s)
{
	if (s->query.opts & RV_OPT_VERIFY)
		seq_puts(m, "}}\n");
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
	{ json_count_missing, json_head_missing, json_missing },
	{ json_count_extra, json_head_extra, json_extra },
	{ .head = json_end_verify },
	{}
};
