/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Listings: files that are read line by line from anywhere, where the offset
 * is not a byte but what the line is about.
 */
#ifndef RMAPVIZ_LISTING_H
#define RMAPVIZ_LISTING_H

#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/types.h>

#include "rmapviz_emit.h"

struct rv_listing;

/**
 * struct rv_listing_ops - what is listed
 * @start: gets what @next needs into the listing's @data; 0 or -ENOMEM
 * @line: emits what there is at @next, and goes on to the next one.  1; 0 at
 *	the end, or an error
 * @rewind: forgets where it was within what @next is about; may be NULL
 * @end: lets go of @data
 */
struct rv_listing_ops {
	int (*start)(struct rv_listing *l);
	int (*line)(struct rv_listing *l, struct rv_emit *e);
	void (*rewind)(struct rv_listing *l);
	void (*end)(struct rv_listing *l);
};

/**
 * struct rv_listing - an open listing
 * @ops: what it lists
 * @lock: of all below
 * @data: of @ops
 * @next: the offset from which the next line is looked for
 * @line_at: the offset of the last line in @buf
 * @told: the offset that the file has been left at
 * @from: the first byte in @buf that was not read yet
 * @len: bytes in @buf
 * @buf: lines, the last of which may be read in part
 */
struct rv_listing {
	const struct rv_listing_ops *ops;
	struct mutex lock; /* one read at a time */
	void *data;
	loff_t next;
	loff_t line_at;
	loff_t told;
	size_t from;
	size_t len;
	char buf[3584]; /* with the rest, a page */
};

int rv_listing_open(struct file *file, const struct rv_listing_ops *ops);
ssize_t rv_listing_read(struct file *file, char __user *ubuf, size_t count,
			loff_t *ppos);
loff_t rv_listing_llseek(struct file *file, loff_t offset, int whence);
int rv_listing_release(struct inode *inode, struct file *file);

u64 rv_listing_id(unsigned long ptr);

extern const struct rv_listing_ops rv_survey_ops;
extern const struct rv_listing_ops rv_families_ops;

#endif /* RMAPVIZ_LISTING_H */
