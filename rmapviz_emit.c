// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers, for text that goes straight into the buffer of a seq_file.
 */
#include <linux/bitops.h>
#include <linux/kernel.h>

#include "rmapviz_emit.h"

const char rv_hex_digits[] = "0123456789abcdef";

static const char rv_two_digits[] = "0001020304050607080910111213141516171819"
				    "2021222324252627282930313233343536373839"
				    "4041424344454647484950515253545556575859"
				    "6061626364656667686970717273747576777879"
				    "8081828384858687888990919293949596979899";

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
		*at++ = rv_hex_digits[(value >> (4 * digits)) & 15];
}
