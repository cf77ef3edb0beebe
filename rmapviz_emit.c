// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers, for text that goes straight into the buffer of a seq_file.
 */
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

static unsigned int rv_count_digits(u64 value)
{
	unsigned int digits = 1;

	for (; value >= 10000; value /= 10000)
		digits += 4;
	return digits + (value >= 10) + (value >= 100) + (value >= 1000);
}

/**
 * rv_emit_u64() - a number in decimal
 * @e: the item
 * @value: the number
 *
 * Context: Any.
 */
void rv_emit_u64(struct rv_emit *e, u64 value)
{
	unsigned int digits = rv_count_digits(value);
	char *at = rv_emit_room(e, digits);

	if (!at)
		return;
	for (at += digits; value >= 100; value /= 100) {
		at -= 2;
		memcpy(at, &rv_two_digits[2 * (value % 100)], 2);
	}
	if (value >= 10)
		memcpy(at - 2, &rv_two_digits[2 * value], 2);
	else
		at[-1] = '0' + value;
}

/**
 * rv_emit_s64() - a number in decimal, with its sign if that is minus
 * @e: the item
 * @value: the number
 *
 * Context: Any.
 */
void rv_emit_s64(struct rv_emit *e, s64 value)
{
	if (value < 0)
		rv_emit_char(e, '-');
	rv_emit_u64(e, value < 0 ? -(u64)value : value);
}

/**
 * rv_emit_hex() - a number as 0x and hex digits, without leading zeros
 * @e: the item
 * @value: the number
 *
 * Context: Any.
 */
void rv_emit_hex(struct rv_emit *e, u64 value)
{
	unsigned int digits = value ? (fls64(value) + 3) / 4 : 1;
	char *at = rv_emit_room(e, 2 + digits);

	if (!at)
		return;
	*at++ = '0';
	*at++ = 'x';
	while (digits--)
		*at++ = rv_hex_digit((value >> (4 * digits)) & 15);
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
	int shift;

	if (!at)
		return;
	*at++ = ' ';
	for (shift = 60; shift >= 0; shift -= 4)
		*at++ = rv_hex_digit((id >> shift) & 15);
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
