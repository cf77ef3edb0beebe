// SPDX-License-Identifier: GPL-2.0-only
/*
 * query - a target of libFuzzer: does the parser take what the grammar says?
 *
 * The grammar is one regular expression here, and its numbers are read by
 * strtoull(): another way to the same query.  What is taken must be printed so
 * that it is taken again, as the same.
 */
#include "kernel.h"
#include <regex.h>

#include "../../rmapviz.h"
#include "../../rmapviz_snap.h"

#define NUMBER "(0[xX][0-9a-fA-F]+|[0-9]+)"
#define BLANKS "[ \t]+"
#define OPTION "(text|json|folio|brief|full|ptrs|verify)"
#define GRAMMAR                                                      \
	"^[ \t]*((pfn" BLANKS ")?" NUMBER "|pfn:([0-9a-fA-F]+|0[xX]" \
	"[0-9a-fA-F]+)|phys" BLANKS NUMBER "|pid" BLANKS NUMBER      \
	"(" BLANKS NUMBER ")?)((" BLANKS OPTION ")*)[ \t]*$"

/* Groups of the grammar, as they are counted by their parentheses. */
enum { PFN = 3, HEX, PHYS, PID, BLANK_ADDR, ADDR, OPTIONS, GROUPS = 16 };

static const struct {
	const char *word;
	unsigned int opt;
} options[] = {
	{ "text", RV_OPT_TEXT },     { "json", RV_OPT_JSON },
	{ "folio", RV_OPT_FOLIO },   { "brief", RV_OPT_BRIEF },
	{ "full", RV_OPT_FULL },     { "ptrs", RV_OPT_PTRS },
	{ "verify", RV_OPT_VERIFY },
};

/* Is there that group, and does its number fit?  If not, *fits is false. */
static bool number(const char *line, const regmatch_t *group, int base,
		   u64 *value, bool *fits)
{
	const char *start = line + group->rm_so;
	bool prefix = group->rm_eo - group->rm_so > 2 && start[0] == '0' &&
		      (start[1] | 0x20) == 'x';

	if (group->rm_so < 0)
		return false;
	errno = 0;
	*value = strtoull(start, NULL, prefix ? 16 : base);
	*fits = *fits && errno != ERANGE;
	return true;
}

static bool read_options(const char *line, const regmatch_t *group,
			 unsigned int *opts)
{
	char words[RV_QUERY_MAX + 1] = "", *word;

	memcpy(words, line + group->rm_so, group->rm_eo - group->rm_so);
	for (word = strtok(words, " \t"); word; word = strtok(NULL, " \t"))
		for (size_t i = 0; i < ARRAY_SIZE(options); i++)
			if (!strcmp(word, options[i].word))
				*opts |= options[i].opt;
	return !(*opts & RV_OPT_TEXT && *opts & RV_OPT_JSON) &&
	       !(*opts & RV_OPT_BRIEF && *opts & RV_OPT_FULL);
}

/* What the groups say. */
static bool read_groups(struct rv_query *q, const char *line,
			const regmatch_t *groups)
{
	bool fits = true;
	u64 value;

	q->target = RV_TARGET_PFN;
	if (number(line, &groups[PHYS], 10, &value, &fits))
		q->pfn = value / 4096;
	if (number(line, &groups[PID], 10, &value, &fits)) {
		q->target = RV_TARGET_PID;
		q->pid = value < INT_MAX ? value : INT_MAX;
	}
	if (number(line, &groups[ADDR], 10, &q->addr, &fits))
		q->target = RV_TARGET_PID_ADDR;
	number(line, &groups[PFN], 10, &q->pfn, &fits);
	number(line, &groups[HEX], 16, &q->pfn, &fits);
	if (!read_options(line, &groups[OPTIONS], &q->opts))
		return false;
	return fits && !(q->target == RV_TARGET_PID &&
			 q->opts & (RV_OPT_FOLIO | RV_OPT_VERIFY));
}

/* By the grammar. */
static bool expect(struct rv_query *q, const char *data, size_t size)
{
	static regex_t grammar;
	regmatch_t groups[GROUPS];
	char line[RV_QUERY_MAX + 1] = "";

	if (!grammar.re_nsub)
		must(!regcomp(&grammar, GRAMMAR, REG_EXTENDED));
	memset(q, 0, sizeof(*q));
	if (!size || size > RV_QUERY_MAX)
		return false;
	memcpy(line, data, size - (data[size - 1] == '\n'));
	/* a NUL would end the line for regexec(); no word has a newline */
	if (strlen(line) != size - (data[size - 1] == '\n') ||
	    regexec(&grammar, line, GROUPS, groups, 0))
		return false;
	return read_groups(q, line, groups);
}

static bool same(const struct rv_query *a, const struct rv_query *b)
{
	return a->target == b->target && a->pfn == b->pfn && a->pid == b->pid &&
	       a->addr == b->addr && a->opts == b->opts;
}

/* As it is kept for those who only read, and printed by the parameter. */
static void check_text(const struct rv_query *q, const char *data, size_t size)
{
	size_t len = strnlen(q->text, sizeof(q->text));
	struct rv_query again;

	must(len && len <= size && len <= RV_QUERY_MAX);
	must(memmem(data, size, q->text, len));
	must(strcspn(q->text, " \t\n"));
	must(!strchr(" \t\n", q->text[len - 1]));
	must(!rv_query_parse(&again, q->text, len));
	must(same(q, &again) && !strcmp(q->text, again.text));
}

int fuzz_one(const uint8_t *data, size_t size)
{
	struct rv_query got, want;
	bool wanted = expect(&want, (const char *)data, size);
	int err;

	memset(&got, 0xa5, sizeof(got));
	err = rv_query_parse(&got, (const char *)data, size);
	must(err == (wanted ? 0 : -EINVAL));
	if (err)
		return 0;
	must(same(&got, &want));
	check_text(&got, (const char *)data, size);
	return 0;
}
