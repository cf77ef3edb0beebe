/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Text that goes straight into the buffer of a seq_file.
 *
 * seq_printf() takes 50 instructions a byte, of which a report of a thousand
 * processes has half a million.  One item of a report is begun, put together,
 * and ended; if it did not fit, seq_file asks for it again with more room.
 */
#ifndef RMAPVIZ_EMIT_H
#define RMAPVIZ_EMIT_H

#include <linux/compiler.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/types.h>

/**
 * struct rv_emit - an item on its way into a seq_file
 * @m: the seq_file
 * @start: where the item begins
 * @at: where its next byte goes
 * @end: the end of the buffer, or @at once something did not fit
 * @full: something did not fit
 */
struct rv_emit {
	struct seq_file *m;
	char *start;
	char *at;
	char *end;
	bool full;
};

/* Begin an item. */
static __always_inline void rv_emit_begin(struct rv_emit *e, struct seq_file *m)
{
	size_t room = seq_get_buf(m, &e->start);

	e->m = m;
	e->at = e->start;
	e->end = e->start + room;
	e->full = false;
}

/* End it: it counts as printed, or as what found no room. */
static __always_inline void rv_emit_end(struct rv_emit *e)
{
	seq_commit(e->m, e->full ? -1 : (int)(e->at - e->start));
}

/* Room for that many bytes, or NULL. */
static __always_inline char *rv_emit_room(struct rv_emit *e, size_t size)
{
	char *at = e->at;

	if (unlikely(size > (size_t)(e->end - at))) {
		e->full = true;
		e->end = at;
		return NULL;
	}
	e->at = at + size;
	return at;
}

static __always_inline void rv_emit_bytes(struct rv_emit *e, const char *bytes,
					  size_t size)
{
	char *at = rv_emit_room(e, size);

	if (likely(at))
		memcpy(at, bytes, size);
}

/* A string that the compiler knows. */
#define rv_emit(_e, _literal) \
	rv_emit_bytes(_e, "" _literal, sizeof(_literal) - 1)

static inline void rv_emit_char(struct rv_emit *e, char c)
{
	char *at = rv_emit_room(e, 1);

	if (likely(at))
		*at = c;
}

/* A string of a few bytes, for which a call of memcpy() would be too much. */
static inline void rv_emit_string(struct rv_emit *e, const char *string)
{
	while (*string)
		rv_emit_char(e, *string++);
}

/**
 * struct rv_word - a word of a report, to be copied as a whole
 * @text: the word
 * @len: its length
 */
struct rv_word {
	char text[15];
	u8 len;
};

/* Defines one; gcc finds those that are too long. */
#define RV_WORD(_text)                                  \
	{                                               \
		.text = _text, .len = sizeof(_text) - 1 \
	}

static inline void rv_emit_word(struct rv_emit *e, const struct rv_word *word)
{
	char *at = rv_emit_room(e, sizeof(word->text));

	if (likely(at)) {
		memcpy(at, word->text, sizeof(word->text));
		e->at = at + word->len;
	}
}

static inline char rv_hex_digit(unsigned int value)
{
	return "0123456789abcdef"[value];
}

/* Bytes that a number may take. */
#define RV_U64_ROOM 20
#define RV_HEX_ROOM 18

char *rv_write_u64(char *at, u64 value);
char *rv_write_hex(char *at, u64 value);

/* Always inline, so that @write is a function that is called, and no pointer. */
static __always_inline void
rv_emit_bytes_then(struct rv_emit *e, const char *bytes, size_t size,
		   char *(*write)(char *at, u64 value), size_t room, u64 value)
{
	char *at = rv_emit_room(e, size + room);

	if (unlikely(!at))
		return;
	memcpy(at, bytes, size);
	e->at = write(at + size, value);
}

/* A string that the compiler knows, and a number in decimal. */
#define rv_emit_then_u64(_e, _literal, _value)                    \
	rv_emit_bytes_then(_e, "" _literal, sizeof(_literal) - 1, \
			   rv_write_u64, RV_U64_ROOM, _value)

/* A number in decimal. */
static __always_inline void rv_emit_u64(struct rv_emit *e, u64 value)
{
	rv_emit_then_u64(e, "", value);
}

/* A number in decimal, with its sign if that is minus. */
static inline void rv_emit_s64(struct rv_emit *e, s64 value)
{
	if (value < 0)
		rv_emit_char(e, '-');
	rv_emit_u64(e, value < 0 ? -(u64)value : value);
}

/* A string that the compiler knows, and a number as 0x and hex digits. */
#define rv_emit_then_hex(_e, _literal, _value)                    \
	rv_emit_bytes_then(_e, "" _literal, sizeof(_literal) - 1, \
			   rv_write_hex, RV_HEX_ROOM, _value)

/* A number as 0x and hex digits, without leading zeros. */
static __always_inline void rv_emit_hex(struct rv_emit *e, u64 value)
{
	rv_emit_then_hex(e, "", value);
}

void rv_emit_escaped(struct rv_emit *e, const char *string);
void rv_emit_id(struct rv_emit *e, u64 id);

/*
 * At the right end of a column, that begins with a blank at least: what is too
 * wide for it makes it wider.
 */
void rv_emit_u64_right(struct rv_emit *e, u64 value, int width);

#endif /* RMAPVIZ_EMIT_H */
