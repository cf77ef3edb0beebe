/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What of the kernel's own functions the parser and the printers need, for
 * programs of user space.  They do what the kernel's do in every case that the
 * documentation of those promises something for: ctype knows Latin-1, a
 * seq_file that is full says so.
 */
#ifndef FUZZ_KERNEL_H
#define FUZZ_KERNEL_H

#define _GNU_SOURCE
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef int32_t s32;
typedef unsigned long long u64;
typedef u64 __be64;
typedef long long s64;

#define U32_MAX	      UINT32_MAX
#define TASK_COMM_LEN 16
#define PAGE_SHIFT    12

#define VM_READ	    0x1
#define VM_WRITE    0x2
#define VM_EXEC	    0x4
#define VM_MAYSHARE 0x80

#define noinline      __attribute__((noinline))
#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)
#define BIT(n)	      (1UL << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define min_t(type, a, b)                \
	({                               \
		type _a = (a), _b = (b); \
		_a < _b ? _a : _b;       \
	})
#define max_t(type, a, b)                \
	({                               \
		type _a = (a), _b = (b); \
		_a > _b ? _a : _b;       \
	})
#define DIV_ROUND_UP(n, d) ((n) / (d) + !!((n) % (d)))
#define max(a, b)	   max_t(typeof((a) + (b)), a, b)

/* What has to hold for every input. */
#define must(condition)                                                    \
	do {                                                               \
		if (!(condition)) {                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, \
				#condition);                               \
			abort();                                           \
		}                                                          \
	} while (0)

/* Of each program: what libFuzzer calls, by another name, for every input. */
int fuzz_one(const u8 *data, size_t size);

static inline void cond_resched(void)
{
}

static inline unsigned long __ffs(unsigned long word)
{
	return __builtin_ctzl(word);
}

static inline __be64 cpu_to_be64(u64 x)
{
	return htobe64(x);
}

static inline u32 upper_32_bits(u64 x)
{
	return x >> 32;
}

static inline u32 lower_32_bits(u64 x)
{
	return x & U32_MAX;
}

static inline int fls64(u64 x)
{
	return x ? 64 - __builtin_clzll(x) : 0;
}

/* ---------------------------------------------------------------- strings -- */

static inline bool isdigit(int c)
{
	return c >= '0' && c <= '9';
}

static inline int tolower(unsigned char c)
{
	bool latin = c >= 0xc0 && c <= 0xde && c != 0xd7;

	return (c >= 'A' && c <= 'Z') || latin ? c + 0x20 : c;
}

static inline bool isxdigit(unsigned char c)
{
	return isdigit(c) || (tolower(c) >= 'a' && tolower(c) <= 'f');
}

/* With the no-break space. */
static inline bool isspace(unsigned char c)
{
	return (c >= '\t' && c <= '\r') || c == ' ' || c == 0xa0;
}

static inline size_t str_has_prefix(const char *string, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(string, prefix, len) ? 0 : len;
}

static inline ssize_t strscpy(char *to, const char *from, size_t size)
{
	size_t len = strnlen(from, size);

	if (!size)
		return -E2BIG;
	memmove(to, from, len);
	if (len < size) {
		to[len] = '\0';
		return len;
	}
	to[size - 1] = '\0';
	return -E2BIG;
}

static inline int fuzz_digit(unsigned char c)
{
	return isdigit(c) ? c - '0' : isxdigit(c) ? tolower(c) - 'a' + 10 : 99;
}

/* Like the kernel's it takes a sign, a 0x before hex, and a last newline. */
static inline int kstrtoull(const char *s, unsigned int base, u64 *result)
{
	u64 value = 0;

	if (*s == '+')
		s++;
	if (base == 16 && s[0] == '0' && tolower(s[1]) == 'x')
		s += 2;
	if (fuzz_digit(*s) >= (int)base)
		return -EINVAL;
	for (; fuzz_digit(*s) < (int)base; s++)
		if (__builtin_mul_overflow(value, base, &value) ||
		    __builtin_add_overflow(value, fuzz_digit(*s), &value))
			return -ERANGE;
	if (*s == '\n')
		s++;
	if (*s)
		return -EINVAL;
	*result = value;
	return 0;
}

/* --------------------------------------------------------------- seq_file -- */

/* Full when @count is @size. */
struct seq_file {
	char *buf;
	size_t size;
	size_t count;
};

static inline bool seq_has_overflowed(const struct seq_file *m)
{
	return m->count == m->size;
}

static inline size_t seq_get_buf(struct seq_file *m, char **bufp)
{
	must(m->count <= m->size);
	*bufp = m->count < m->size ? m->buf + m->count : NULL;
	return m->size - m->count;
}

static inline void seq_commit(struct seq_file *m, int num)
{
	must(num <= (ssize_t)(m->size - m->count));
	m->count = num < 0 ? m->size : m->count + num;
}

static inline void seq_putc(struct seq_file *m, char c)
{
	if (m->count < m->size)
		m->buf[m->count++] = c;
}

static inline void seq_puts(struct seq_file *m, const char *string)
{
	size_t len = strlen(string);

	if (m->count + len >= m->size) {
		m->count = m->size;
		return;
	}
	memcpy(m->buf + m->count, string, len);
	m->count += len;
}

__attribute__((format(printf, 2, 3))) static inline void
seq_printf(struct seq_file *m, const char *format, ...)
{
	size_t room = m->size - m->count;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(m->buf + m->count, room, format, args);
	va_end(args);
	m->count = len >= 0 && (size_t)len < room ? m->count + len : m->size;
}

/* ---------------------------------------------------------------- utsname -- */

struct new_utsname {
	char release[65];
};

static inline const struct new_utsname *init_utsname(void)
{
	static const struct new_utsname name = { "7.3.0-fuzz" };

	return &name;
}

/* ------------------------------------------------------------- page flags -- */

struct trace_print_flags {
	unsigned long mask;
	const char *name;
};

#define __def_pageflag_names                \
	{ 1, "locked" }, { 8, "uptodate" }, \
	{                                   \
		32, "lru"                   \
	}

#endif /* FUZZ_KERNEL_H */
