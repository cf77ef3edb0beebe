// SPDX-License-Identifier: GPL-2.0
/*
 * Reading of listings, of which no more than a page is kept at a time.
 *
 * The offset of the file is that of the first line of which not all was read,
 * or of where to go on.  What is left of a line is given to who reads on from
 * there; who seeks, even to the same place, gets whole lines.
 */
#include <linux/kernel.h>
#include <linux/once.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "rmapviz_collect.h"
#include "rmapviz_listing.h"

/* No line, nor the heading, is longer. */
#define RV_LINE_MAX 512

/* Objects are told apart by hashes that only this load of the module gives. */
static siphash_key_t rv_listing_key;

/**
 * rv_listing_id() - a number that stands for an object
 * @ptr: its address
 *
 * Context: Any.
 * Return: the number, or 0 for NULL.
 */
u64 rv_listing_id(unsigned long ptr)
{
	get_random_once(&rv_listing_key, sizeof(rv_listing_key));
	return ptr ? siphash_1u64(ptr, &rv_listing_key) ?: 1 : 0;
}

static void rv_listing_seek(struct rv_listing *l, loff_t to)
{
	l->from = 0;
	l->len = 0;
	l->next = to;
	l->told = to;
	if (l->ops->rewind)
		l->ops->rewind(l);
}

/* As many lines as there is room for, or as it takes for so many bytes. */
static int rv_listing_fill(struct rv_listing *l, size_t wanted)
{
	struct rv_emit e = { .start = l->buf, .at = l->buf };
	int more = 1;

	l->from = 0;
	l->len = 0;
	wanted = min_t(size_t, wanted, sizeof(l->buf) - RV_LINE_MAX);
	while (l->len < wanted) {
		loff_t at = l->next;

		e.end = e.at + RV_LINE_MAX;
		more = l->ops->line(l, &e);
		if (more <= 0)
			break;
		l->line_at = at;
		l->len = e.at - e.start;
	}
	return l->len ? 1 : more;
}

/* Into user memory, up to count bytes; how many, or an error. */
static ssize_t rv_listing_copy(struct rv_listing *l, char __user *ubuf,
			       size_t count)
{
	size_t done = 0, n;
	int more;

	while (done < count) {
		if (l->from == l->len) {
			more = rv_listing_fill(l, count - done);
			if (more <= 0)
				return done ?: more;
		}
		n = min(count - done, l->len - l->from);
		if (copy_to_user(ubuf + done, l->buf + l->from, n))
			return done ?: -EFAULT;
		l->from += n;
		done += n;
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	return done;
}

/**
 * rv_listing_read() - read on in a listing
 * @file: the file
 * @ubuf: where to
 * @count: how much at most, in bytes
 * @ppos: the offset
 *
 * Context: Process context, may sleep.
 * Return: bytes read, 0 at the end, or -EFAULT, -EINTR, -ENOMEM.
 */
ssize_t rv_listing_read(struct file *file, char __user *ubuf, size_t count,
			loff_t *ppos)
{
	struct rv_listing *l = file->private_data;
	ssize_t done;

	if (mutex_lock_killable(&l->lock))
		return -EINTR;
	if (*ppos != l->told)
		rv_listing_seek(l, *ppos);
	done = rv_listing_copy(l, ubuf, count);
	l->told = l->from < l->len ? l->line_at : l->next;
	*ppos = l->told;
	mutex_unlock(&l->lock);
	return done;
}

/**
 * rv_listing_llseek() - go on elsewhere
 * @file: the file
 * @offset: where, as @whence says
 * @whence: SEEK_SET or SEEK_CUR
 *
 * Context: Process context, may sleep.
 * Return: the new offset, -EINVAL or -EINTR.
 */
loff_t rv_listing_llseek(struct file *file, loff_t offset, int whence)
{
	struct rv_listing *l = file->private_data;
	loff_t to;

	if (mutex_lock_killable(&l->lock))
		return -EINTR;
	to = no_seek_end_llseek(file, offset, whence);
	if (to >= 0 && (offset || whence == SEEK_SET))
		rv_listing_seek(l, to);
	mutex_unlock(&l->lock);
	return to;
}

/**
 * rv_listing_open() - begin a listing
 * @file: the file
 * @ops: what is listed
 *
 * Context: Process context, may sleep.
 * Return: 0 or -ENOMEM.
 */
int rv_listing_open(struct file *file, const struct rv_listing_ops *ops)
{
	struct rv_listing *l = kzalloc(sizeof(*l), RV_GFP);
	int err;

	if (!l)
		return -ENOMEM;
	l->ops = ops;
	mutex_init(&l->lock);
	err = ops->start(l);
	if (err)
		kfree(l);
	else
		file->private_data = l;
	return err;
}

/**
 * rv_listing_release() - end it
 * @inode: unused
 * @file: the file
 *
 * Context: Process context, may sleep.
 * Return: 0.
 */
int rv_listing_release(struct inode *inode, struct file *file)
{
	struct rv_listing *l = file->private_data;

	l->ops->end(l);
	kfree(l);
	return 0;
}
