/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the two forms of a report share.
 *
 * What prints has the records and nothing else: it cannot lock, nor walk.  That
 * is why this header comes last in a file.  What was included before it must
 * not be what only collectors need, and whatever is included or written after it
 * may no longer have the names below, which stop the compiler.
 */
#ifndef RMAPVIZ_REPORT_H
#define RMAPVIZ_REPORT_H

#include "rmapviz_emit.h"
#include "rmapviz_snap.h"

#ifdef RMAPVIZ_COLLECT_H
#error "what prints does not collect: what it needs is in rmapviz_snap.h"
#endif
#ifdef _LINUX_RMAP_H
#error "what prints knows no rmap: linux/rmap.h is not for it"
#endif

/* Functions and structures only: gcc warns of a macro that gets poisoned. */
#pragma GCC poison anon_vma anon_vma_chain rmap_walk_control
#pragma GCC poison page_vma_mapped_walk
#pragma GCC poison rv_walk rv_verify rv_ksym_init
#pragma GCC poison rcu_read_lock spin_lock down_read down_read_trylock
#pragma GCC poison mmap_read_lock mmap_read_trylock folio_lock folio_trylock

struct seq_file;

/**
 * struct rv_rows - a table of which rows that are alike need not all be shown
 * @name: what rows are called, by a number
 * @count: number of rows below the heading
 * @head: prints the heading
 * @line: prints row i
 * @lead: prints what is left of a row, for a line in its place
 * @number: the number by which row i is called
 * @like: do two rows differ in nothing but what they are called?
 */
struct rv_rows {
	const char *name;
	u32 (*count)(const struct rv_snap *s);
	void (*head)(struct seq_file *m, const struct rv_snap *s);
	void (*line)(struct seq_file *m, const struct rv_snap *s, u32 i);
	void (*lead)(struct seq_file *m, const struct rv_snap *s, u32 i);
	u32 (*number)(const struct rv_snap *s, u32 i);
	bool (*like)(const struct rv_snap *s, u32 i, u32 j);
};

/**
 * struct rv_section - a heading and its lines
 * @count: number of lines below the heading; NULL for none
 * @head: prints the heading; NULL for none
 * @line: prints line i
 * @rows: a table that has all of these, and is folded; or NULL
 *
 * A report is printed line by line, so that seq_file needs no large buffer.
 */
struct rv_section {
	u32 (*count)(const struct rv_snap *s);
	void (*head)(struct seq_file *m, const struct rv_snap *s);
	void (*line)(struct seq_file *m, const struct rv_snap *s, u32 i);
	const struct rv_rows *rows;
};

u32 rv_fold_length(const struct rv_snap *s, const struct rv_rows *rows, u32 i);
void rv_fold_show(struct seq_file *m, const struct rv_snap *s,
		  const struct rv_rows *rows, u32 i);

/* Both end with an empty section. */
extern const struct rv_section rv_text_sections[];
extern const struct rv_section rv_json_sections[];

/* Of the text. */
extern const struct rv_rows rv_text_families;
extern const struct rv_rows rv_text_avs;
extern const struct rv_rows rv_text_avcs;
extern const struct rv_rows rv_text_vmas;
extern const struct rv_rows rv_text_ptes;

extern const struct rv_word rv_kind_words[RV_NR_KINDS];
extern const struct rv_word rv_mapping_words[RV_NR_MAPPINGS];
extern const struct rv_word rv_level_words[];
extern const struct rv_word rv_outcome_words[];
extern const struct rv_word rv_verdict_words[];
extern const struct rv_word rv_chain_words[];

/* By bit. */
extern const struct rv_word rv_pte_flag_words[];
extern const struct rv_word rv_reason_words[];
extern const struct rv_word rv_stays_words[];

const char *rv_next_page_flag(const struct rv_page *page, u32 *i);

/* Is there a page that reclaim could do something with? */
static inline bool rv_has_reclaim(const struct rv_snap *s)
{
	return s->query.target != RV_TARGET_PID && rv_kind_mapped(s->page.kind);
}

/* What the pte_chains of a usual machine would take, in bytes. */
static inline u64 rv_chain_bytes(const struct rv_history *h)
{
	const struct rv_chain_layout *usual = &h->layouts[RV_CHAIN_USUAL];

	return usual->blocks * usual->line;
}

/* Had 2.6.11 a way to such a page, or to those of a process?  KSM is younger. */
static inline bool rv_has_objrmap(const struct rv_snap *s)
{
	return s->query.target == RV_TARGET_PID ||
	       (rv_kind_mapped(s->page.kind) && s->page.kind != RV_KIND_KSM);
}

static inline bool rv_has_av_avc(const struct rv_snap *s)
{
	return s->query.target == RV_TARGET_PID || rv_kind_mapped(s->page.kind);
}

/* The name of a VMA as /proc/PID/maps would print it, or NULL. */
const char *rv_vma_name(const struct rv_snap *s, const struct rv_vma *vma);

/* rwxp, as in /proc/PID/maps; buf has room for 5 bytes. */
const char *rv_vma_perms(const struct rv_vma *vma, char *buf);

#endif /* RMAPVIZ_REPORT_H */
