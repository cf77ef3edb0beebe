// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers, for text that goes straight into the buffer of a seq_file.
 */
#include <asm/byteorder.h>
#include <linux/bitops.h>
#include <linux/kernel.h>

#include "rmapviz_emit.h"

/* Numbers from 00 to 99, two digits each. */
#define RV_TEN(_tens)                                                     \
	_tens "0" _tens "1" _tens "2" _tens "3" _tens "4" _tens "5" _tens \
	      "6" _tens "7" _tens "8" _tens "9"

static const char rv_two_digits[] = RV_TEN("0") RV_TEN("1") RV_TEN("2")
	RV_TEN("3") RV_TEN("4") RV_TEN("5") RV_TEN("6") RV_TEN("7") RV_TEN("8")
		RV_TEN("9");

static __always_inline char *rv_write_two_digits(char *at, u32 value)
{
	const char *digits = rv_two_digits + 2 * value;

	/* memcpy() would be guarded against a value beyond 99. */
	at[0] = digits[0];
	at[1] = digits[1];
	return at + 2;
}

/* Up to four digits: what most numbers have. */
static __always_inline char *rv_write_small(char *at, u32 value)
{
	u32 hundreds;

	if (value < 10) {
		*at = '0' + value;
		return at + 1;
	}
	if (value < 100)
		return rv_write_two_digits(at, value);
	hundreds = value / 100;
	if (hundreds >= 10)
		at = rv_write_two_digits(at, hundreds);
	else
		*at++ = '0' + hundreds;
	return rv_write_two_digits(at, value % 100);
}

static noinline char *rv_write_large(char *at, u64 value)
{
	u32 groups[RV_U64_ROOM / 4], n = 0;

	for (; value >= 10000; value /= 10000)
		groups[n++] = value % 10000;
	at = rv_write_small(at, value);
	while (n--) {
		at = rv_write_two_digits(at, groups[n] / 100);
		at = rv_write_two_digits(at, groups[n] % 100);
	}
	return at;
}

static unsigned int rv_count_digits(u64 value)
{
	unsigned int digits = 1;

	for (; value >= 10000; value /= 10000)
		digits += 4;
	return digits + (value >= 10) + (value >= 100) + (value >= 1000);
}

/**
 * rv_write_u64() - a number in decimal
 * @at: where, with room for RV_U64_ROOM bytes
 * @value: the number
 *
 * Context: Any.
 * Return: behind its last digit.
 */
char *rv_write_u64(char *at, u64 value)
{
	/* What is larger needs a stack, which is guarded. */
	return value < 10000 ? rv_write_small(at, value) :
			       rv_write_large(at, value);
}

/*
 * Eight hex digits at once: each nibble gets a byte of its own, and becomes a
 * digit there, or from 10 on a letter, which are 39 further on.
 */
static void rv_write_eight_digits(char *at, u32 value)
{
	u64 nibbles = value, letters;
	__be64 digits;

	nibbles = (nibbles | nibbles << 16) & 0x0000ffff0000ffffULL;
	nibbles = (nibbles | nibbles << 8) & 0x00ff00ff00ff00ffULL;
	nibbles = (nibbles | nibbles << 4) & 0x0f0f0f0f0f0f0f0fULL;
	letters = ((nibbles + 0x0606060606060606ULL) >> 4) &
		  0x0101010101010101ULL;
	digits = cpu_to_be64(nibbles + 0x3030303030303030ULL + letters * 39);
	memcpy(at, &digits, sizeof(digits));
}

/**
 * rv_write_hex() - a number as 0x and hex digits, without leading zeros
 * @at: where, with room for RV_HEX_ROOM bytes
 * @value: the number
 *
 * Context: Any.
 * Return: behind its last digit.
 */
char *rv_write_hex(char *at, u64 value)
{
	unsigned int digits = (fls64(value | 1) + 3) / 4;

	value <<= 64 - 4 * digits;
	memcpy(at, "0x", 2);
	rv_write_eight_digits(at + 2, upper_32_bits(value));
	if (digits > 8)
		rv_write_eight_digits(at + 10, lower_32_bits(value));
	return at + 2 + digits;
}

/**
 * rv_emit_escaped() - a string as one word of text
 * @e: the item
 * @string: the string; what is no printable character, or a backslash, is three
 *	octal digits behind one
 *
 * Context: Any.
 */
void rv_emit_escaped(struct rv_emit *e, const char *string)
{
	const unsigned char *c;

	for (c = (const unsigned char *)string; *c; c++) {
		if (*c > 0x20 && *c < 0x7f && *c != '\\') {
			rv_emit_char(e, *c);
			continue;
		}
		rv_emit_char(e, '\\');
		rv_emit_char(e, '0' + (*c >> 6));
		rv_emit_char(e, '0' + (*c >> 3 & 7));
		rv_emit_char(e, '0' + (*c & 7));
	}
}

/**
 * rv_emit_id() - a blank, and 16 hex digits
 * @e: the item
 * @id: the number
 *
 * Context: Any.
 */
void rv_emit_id(struct rv_emit *e, u64 id)
{
	char *at = rv_emit_room(e, 17);

	if (!at)
		return;
	*at = ' ';
	rv_write_eight_digits(at + 1, upper_32_bits(id));
	rv_write_eight_digits(at + 9, lower_32_bits(id));
}

/**
 * rv_emit_u64_right() - a number in decimal, in a column
 * @e: the item
 * @value: the number
 * @width: of the column
 *
 * Context: Any.
 */
void rv_emit_u64_right(struct rv_emit *e, u64 value, int width)
{
	int blanks = width - rv_count_digits(value);

	do
		rv_emit_char(e, ' ');
	while (--blanks > 0);
	rv_emit_u64(e, value);
}
