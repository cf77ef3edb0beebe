// SPDX-License-Identifier: GPL-2.0-only
/*
 * report - a target of libFuzzer: is a report whole, whatever names are in it?
 *
 * A snapshot of one page, with a question, a process and a file of any names and
 * numbers, is printed as text and as JSON.  Both must be ASCII, give the names
 * back, and be the same for whoever reads with little room.
 */
#include "kernel.h"

#include "../../rmapviz.h"
#include "../../rmapviz_report.h"
#include "../../rmapviz_text.h"

/* The beginning of an input; the names come after it, each up to a NUL. */
struct numbers {
	u64 wide;
	s32 count;
	u8 opts;
	u8 kind;
	u8 room;
	u8 level;
};

struct text {
	char *bytes;
	size_t len;
};

/* ---------------------------------------------------------- the snapshot -- */

static struct rv_av av = { .on_page = true };
static struct rv_avc avc;
static struct rv_mm mm = { .nr_tasks = 1, .users = 1, .named = true };
static struct rv_task task;
static struct rv_file file;
static struct rv_vma vma = { .area = RV_AREA_FILE, .nr_avcs = 1 };
static struct rv_pte pte = { .pages = 1 };
static struct rv_mismatch missing, extra;
static struct rv_history history;
static struct rv_family family = { .avs = 1, .avcs = 1, .vmas = 1, .asked = 1 };

static struct rv_snap snap = {
	.history = &history,
	.tables = {
		[RV_ROOTS] = { .rec = &family, .len = 1 },
		[RV_AVS] = { .rec = &av, .len = 1 },
		[RV_AVCS] = { .rec = &avc, .len = 1 },
		[RV_MMS] = { .rec = &mm, .len = 1 },
		[RV_TASKS] = { .rec = &task, .len = 1 },
		[RV_FILES] = { .rec = &file, .len = 1 },
		[RV_VMAS] = { .rec = &vma, .len = 1 },
		[RV_PTES] = { .rec = &pte, .len = 1 },
		[RV_MISSING] = { .rec = &missing },
		[RV_EXTRA] = { .rec = &extra },
	},
};

/* The next name, in memory of its own and no longer than what it goes to. */
static char *take_name(const uint8_t **data, size_t *size, size_t max)
{
	size_t len = strnlen((const char *)*data, *size);
	char *name = strndup((const char *)*data, len < max ? len : max);

	len += len < *size;
	*data += len;
	*size -= len;
	return name;
}

static void fill_page(const struct numbers *n)
{
	snap.page = (struct rv_page){
		.pfn = n->wide,
		.head = n->wide,
		.mapping_word = n->wide,
		.flags = n->wide,
		.index = n->wide,
		.mapcount = n->count,
		.folio_mapcount = n->count,
		.raw_mapcount = n->count,
		.refcount = n->count,
		.expected_refs = n->count,
		.dma_pins = n->count & INT_MAX,
		.extra_refs = n->count,
		.pin_refs = n->level,
		.kind = n->kind % RV_NR_KINDS,
		.mapping = n->kind % RV_NR_MAPPINGS,
		.exclusive = n->kind & 1,
		.swapcache = n->kind & 2,
	};
	snap.migrate.verdict = n->level % (RV_MOVES_NEVER + 1);
	snap.migrate.reasons = n->room;
	snap.reclaim.outcome = n->level % (RV_SWAP_FAIL + 1);
	snap.reclaim.reasons = n->wide & (2 * RV_REASON_DIRTY - 1);
	snap.keepers = n->level & 2 ? n->count : 0;
	snap.lost = n->level & 1 ? n->wide : 0;
}

/* What verify has to tell; it need not know whose a mapping is. */
static void fill_scan(const struct numbers *n)
{
	snap.scan = (struct rv_scan_result){
		.mms = n->level,
		.vmas = n->count,
		.entries = n->wide,
		.until_last = n->wide,
		.found = n->count,
		.changed = n->room,
	};
	missing.addr = n->wide;
	missing.mm = n->level & 4 ? RV_NONE : 0;
	extra.addr = n->wide;
	extra.mm = n->level & 8 ? RV_NONE : 0;
	snap.tables[RV_MISSING].len = n->level >> 4 & 1;
	snap.tables[RV_EXTRA].len = n->level >> 5 & 1;
}

static void fill_records(const struct numbers *n)
{
	vma.start = n->wide;
	vma.end = n->wide;
	vma.pgoff = n->wide;
	vma.vm_flags = n->opts;
	vma.visited = n->kind & 4;
	vma.mapped = n->kind & 8;
	vma.found = n->kind & 16;
	vma.keeps = (n->opts & RV_REASON_MLOCKED) | RV_REASON_REFERENCED;
	av.key.ptr = n->wide;
	avc.ptr = n->wide;
	vma.key.ptr = n->wide;
	mm.pid = n->count;
	task.pid = n->count;
	pte.value = n->wide;
	pte.pfn = n->wide;
	pte.level = n->level % (RV_LEVEL_PUD + 1);
	pte.flags = n->wide & (2 * RV_PTE_PROTNONE - 1);
	history.ptes = n->wide;
	history.objrmap_bytes = n->wide;
	history.av_avc_bytes = n->wide;
	history.list = n->level;
	snap.processes = n->level;
	snap.visited = n->level;
	snap.mapped = n->level;
	snap.entries = n->level;
}

/* ------------------------------------------------------------ as it reads -- */

static void append(struct text *to, const struct seq_file *m)
{
	to->bytes = realloc(to->bytes, to->len + m->count + 1);
	memcpy(to->bytes + to->len, m->buf, m->count);
	to->len += m->count;
	to->bytes[to->len] = '\0';
}

/* seq_read() asks again with twice the room if an item does not fit. */
static struct text print(size_t room)
{
	struct text whole = {};

	rv_report_prepare(&snap);
	for (u64 item = 0; item < rv_report_items(&snap);) {
		struct seq_file m = { .buf = malloc(room), .size = room };

		rv_report_show(&m, &snap, item);
		must(m.count <= m.size);
		if (seq_has_overflowed(&m)) {
			room *= 2;
		} else {
			append(&whole, &m);
			item++;
		}
		free(m.buf);
	}
	return whole;
}

static struct text print_both(size_t room)
{
	struct text large = print(8192), small = print(room);

	must(large.len && large.bytes[large.len - 1] == '\n');
	must(large.len == small.len);
	must(!memcmp(large.bytes, small.bytes, large.len));
	for (size_t i = 0; i < large.len; i++)
		must(large.bytes[i] == '\n' ||
		     (large.bytes[i] >= 0x20 && large.bytes[i] < 0x7f));
	free(small.bytes);
	return large;
}

/* ------------------------------------------------------------------- JSON -- */

/* The bytes of a string, and where it ends. */
static const char *unquote(const char *at, char *to)
{
	must(*at == '"');
	for (at++; *at != '"'; to++) {
		must(*at >= 0x20);
		if (*at != '\\') {
			*to = *at++;
		} else if (at[1] == 'u') {
			char digits[5] = { at[2], at[3], at[4], at[5] };

			*to = (char)strtoul(digits, NULL, 16);
			at += 6;
		} else {
			must(at[1] == '"' || at[1] == '\\');
			*to = at[1];
			at += 2;
		}
	}
	*to = '\0';
	return at + 1;
}

/* All strings end, and all that opens closes, at the very end. */
static void check_whole(const struct text *json)
{
	char *scratch = malloc(json->len + 1);
	const char *at = json->bytes;
	int depth = 0;

	do {
		if (*at == '"') {
			at = unquote(at, scratch);
			continue;
		}
		depth +=
			(*at == '{' || *at == '[') - (*at == '}' || *at == ']');
		at++;
	} while (depth > 0 && *at);
	must(!depth && !strcmp(at, "\n"));
	free(scratch);
}

static void check_name(const struct text *json, const char *key,
		       const char *name)
{
	char *at = strstr(json->bytes, key), *scratch = malloc(json->len + 1);

	must(at);
	unquote(at + strlen(key), scratch);
	must(!strcmp(scratch, name));
	free(scratch);
}

static void check_numbers(const struct text *json, const struct numbers *n)
{
	const long long count = n->count;
	char want[256];

	snprintf(want, sizeof(want),
		 "\"page\": {\"pfn\": %llu, \"head\": %llu,", n->wide, n->wide);
	must(strstr(json->bytes, want));
	snprintf(
		want, sizeof(want),
		"\"mapcount\": %lld, \"folio_mapcount\": %lld, \"refcount\": %lld",
		count, count, count);
	must(strstr(json->bytes, want));
}

static void check_json(const struct numbers *n)
{
	struct text json;

	snap.query.opts |= RV_OPT_JSON;
	json = print_both(1 + n->room);
	check_whole(&json);
	check_name(&json, "\"query\": ", snap.query.text);
	if (!(snap.query.opts & RV_OPT_BRIEF)) {
		check_name(&json, "\"comm\": ", mm.comm);
		check_name(&json, "\"name\": ", file.name);
		must(snap.query.opts & RV_OPT_PTRS ||
		     !strstr(json.bytes, "\"ptr\": "));
	}
	must(!(snap.query.opts & RV_OPT_VERIFY) ==
	     !strstr(json.bytes, "\"missing\": ["));
	if (snap.query.target == RV_TARGET_PFN) {
		check_name(&json, "\"file\": ", snap.page_file);
		check_numbers(&json, n);
	}
	free(json.bytes);
}

/* ------------------------------------------------------------------- text -- */

/* A name between blanks, as it is escaped; an empty one leaves no trace. */
static void check_word(const struct text *text, const char *name)
{
	char want[8 * 1024], *to = want;

	for (const u8 *c = (const u8 *)name; *c; c++)
		to += sprintf(to,
			      *c > ' ' && *c < 0x7f && *c != '\\' ? "%c" :
								    "\\%03o",
			      *c);
	*to = '\0';
	must(strstr(text->bytes, want));
}

static void check_text(const struct numbers *n)
{
	struct text text;

	snap.query.opts &= ~RV_OPT_JSON;
	text = print_both(1 + n->room);
	if (snap.query.target == RV_TARGET_PFN)
		check_word(&text, snap.page_file);
	if (snap.query.target == RV_TARGET_PFN &&
	    !(snap.query.opts & RV_OPT_BRIEF)) {
		check_word(&text, mm.comm);
		check_word(&text, file.name);
	}
	free(text.bytes);
}

/* ---------------------------------------------------------------- numbers -- */

static void check_emitted(u64 value, size_t room)
{
	struct seq_file m = { .buf = malloc(room), .size = room };
	struct rv_emit e;
	char want[128];
	int len = snprintf(want, sizeof(want), "%llu %lld 0x%llx", value,
			   (s64)value, value);

	rv_emit_begin(&e, &m);
	rv_emit_u64(&e, value);
	rv_emit_char(&e, ' ');
	rv_emit_s64(&e, value);
	rv_emit_char(&e, ' ');
	rv_emit_hex(&e, value);
	rv_emit_end(&e);
	/* Room for the longest number is wanted, whatever the number. */
	if (m.count == room)
		must(room < (size_t)len + RV_U64_ROOM);
	else
		must(m.count == (size_t)len && !memcmp(m.buf, want, len));
	free(m.buf);
}

int fuzz_one(const uint8_t *data, size_t size)
{
	struct numbers n;
	char *query, *comm;

	if (size < sizeof(n))
		return 0;
	memcpy(&n, data, sizeof(n));
	data += sizeof(n);
	size -= sizeof(n);
	check_emitted(n.wide, n.room);
	query = take_name(&data, &size, RV_QUERY_MAX);
	comm = take_name(&data, &size, TASK_COMM_LEN - 1);
	file.name = take_name(&data, &size, 1024);
	snap.page_file = take_name(&data, &size, 1024);
	strcpy(snap.query.text, query);
	strcpy(mm.comm, comm);
	snap.query.opts = n.opts;
	snap.query.target = n.kind & 0x80 ? RV_TARGET_PID : RV_TARGET_PFN;
	fill_page(&n);
	fill_records(&n);
	fill_scan(&n);
	check_json(&n);
	check_text(&n);
	free(query);
	free(comm);
	free(file.name);
	free(snap.page_file);
	return 0;
}
