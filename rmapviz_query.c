// SPDX-License-Identifier: GPL-2.0
/*
 * The grammar of the query file.
 *
 *	query  := target option*
 *	target := PFN | "pfn" PFN | "pfn:"HEX | "phys" ADDR | "pid" PID ADDR | "pid" PID
 *	option := "text" | "json" | "folio" | "brief" | "full" | "ptrs" | "verify"
 */
#include <linux/ctype.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/mm.h>
#include <linux/string.h>

#include "rmapviz.h"
#include "rmapviz_snap.h"

static const struct {
	const char *word;
	unsigned int opt;
} rv_options[] = {
	{ "text", RV_OPT_TEXT },     { "json", RV_OPT_JSON },
	{ "folio", RV_OPT_FOLIO },   { "brief", RV_OPT_BRIEF },
	{ "full", RV_OPT_FULL },     { "ptrs", RV_OPT_PTRS },
	{ "verify", RV_OPT_VERIFY },
};

/* What parts words, and surrounds them; strim() would take more for a blank. */
static bool rv_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static char *rv_trim(char *line)
{
	size_t len;

	while (rv_is_blank(*line))
		line++;
	len = strlen(line);
	while (len && rv_is_blank(line[len - 1]))
		len--;
	line[len] = '\0';
	return line;
}

/* The next word, or NULL. */
static char *rv_next_word(char **at)
{
	char *word = *at, *end;

	while (rv_is_blank(*word))
		word++;
	if (!*word)
		return NULL;
	for (end = word; *end && !rv_is_blank(*end); end++)
		;
	*at = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

/* Decimal, or hex with 0x: a leading zero alone does not mean octal. */
static int rv_parse_number(const char *word, u64 *value)
{
	bool hex = word && word[0] == '0' && tolower(word[1]) == 'x';

	/* kstrtoull() would also take a sign. */
	if (!word || !isdigit(*word))
		return -EINVAL;
	return kstrtoull(word, hex ? 16 : 10, value) ? -EINVAL : 0;
}

/* Hex, whatever it looks like, as the kernel prints it; 0x may precede it. */
static int rv_parse_hex(const char *word, u64 *value)
{
	if (!isxdigit(*word))
		return -EINVAL;
	return kstrtoull(word, 16, value) ? -EINVAL : 0;
}

static int rv_parse_option(struct rv_query *q, const char *word)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rv_options); i++) {
		if (strcmp(word, rv_options[i].word))
			continue;
		q->opts |= rv_options[i].opt;
		return 0;
	}
	return -EINVAL;
}

/* A pid beyond what a pid can be is one that no process has. */
static int rv_parse_pid(struct rv_query *q, const char *word)
{
	u64 pid;

	if (rv_parse_number(word, &pid))
		return -EINVAL;
	q->target = RV_TARGET_PID;
	q->pid = min_t(u64, pid, INT_MAX);
	return 0;
}

/* Sets *at behind the target. */
static int rv_parse_target(struct rv_query *q, char **at)
{
	char *word = rv_next_word(at);
	size_t prefix;
	u64 addr;

	if (!word)
		return -EINVAL;
	if (!strcmp(word, "pid"))
		return rv_parse_pid(q, rv_next_word(at));

	q->target = RV_TARGET_PFN;
	prefix = str_has_prefix(word, "pfn:");
	if (prefix)
		return rv_parse_hex(word + prefix, &q->pfn);
	if (!strcmp(word, "phys")) {
		if (rv_parse_number(rv_next_word(at), &addr))
			return -EINVAL;
		q->pfn = addr >> PAGE_SHIFT;
		return 0;
	}
	if (!strcmp(word, "pfn"))
		word = rv_next_word(at);
	return rv_parse_number(word, &q->pfn);
}

/* "pid PID" may be followed by an address before the options. */
static int rv_parse_rest(struct rv_query *q, char **at)
{
	char *word = rv_next_word(at);

	if (q->target == RV_TARGET_PID && word && isdigit(*word)) {
		if (rv_parse_number(word, &q->addr))
			return -EINVAL;
		q->target = RV_TARGET_PID_ADDR;
		word = rv_next_word(at);
	}
	for (; word; word = rv_next_word(at))
		if (rv_parse_option(q, word))
			return -EINVAL;
	return 0;
}

static bool rv_contradicts(const struct rv_query *q)
{
	const unsigned int forms = RV_OPT_TEXT | RV_OPT_JSON;
	const unsigned int sizes = RV_OPT_BRIEF | RV_OPT_FULL;

	if ((q->opts & forms) == forms || (q->opts & sizes) == sizes)
		return true;
	/* These are about a page. */
	return q->target == RV_TARGET_PID &&
	       q->opts & (RV_OPT_FOLIO | RV_OPT_VERIFY);
}

/* And no more; kstrtoull() would take a newline of its own. */
static bool rv_is_one_line(const char *line, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (!line[i] || line[i] == '\n')
			return false;
	return true;
}

/**
 * rv_query_parse() - parse one line
 * @q: the query to fill
 * @buf: the bytes that were written; a newline may end them
 * @len: their number
 *
 * Context: Any.
 * Return: 0, or -EINVAL with @q of no use.
 */
int rv_query_parse(struct rv_query *q, const char *buf, size_t len)
{
	char line[RV_QUERY_MAX + 1];
	char *at;
	int err;

	memset(q, 0, sizeof(*q));
	if (!len || len > RV_QUERY_MAX)
		return -EINVAL;
	memcpy(line, buf, len);
	if (line[len - 1] == '\n')
		len--;
	line[len] = '\0';
	if (!rv_is_one_line(line, len))
		return -EINVAL;
	at = rv_trim(line);
	/* Words will be cut out of the line. */
	memcpy(q->text, at, strlen(at) + 1);

	err = rv_parse_target(q, &at) ?: rv_parse_rest(q, &at);
	if (!err && rv_contradicts(q))
		err = -EINVAL;
	return err;
}
