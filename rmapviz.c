// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz - who maps this physical page, and what it costs to find out
 *
 * The module, its files in debugfs, what belongs to an open file, and the way
 * from a query to its answer, step by step.
 *
 * Lockdown for integrity leaves of debugfs what nobody may write: there the
 * query goes into a module parameter, which rmapviz_answer then answers.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "rmapviz.h"
#include "rmapviz_listing.h"
#include "rmapviz_snap.h"

/* What a descriptor's reads are about. */
enum rv_reads {
	RV_READS_OWN_ANSWER, /* to the query that it has written last */
	RV_READS_ASK_AGAIN,  /* the last query of anybody, asked anew */
};

/**
 * struct rv_open - an open query file
 * @snap: the answer that reads give, or NULL
 * @reads: what a read from the start does
 *
 * Serialized by the lock of the seq_file whose private data it is, which
 * seq_read() and seq_lseek() hold around all that they call.
 */
struct rv_open {
	struct rv_snap *snap;
	enum rv_reads reads;
};

/* The last query that was answered to a writer, for those who only read. */
static struct rv_query rv_last_query;
static DEFINE_MUTEX(rv_last_query_lock);

static void rv_remember(const struct rv_query *q)
{
	mutex_lock(&rv_last_query_lock);
	rv_last_query = *q;
	mutex_unlock(&rv_last_query_lock);
}

/*
 * A kernel locked down for confidentiality lets nobody use kprobes, by which
 * the functions were found that every answer calls.  This may be said after
 * the module was loaded.
 */
static int rv_locked_down(void)
{
	return security_locked_down(LOCKDOWN_KPROBES);
}

/*
 * Addresses are shown to those whom the kernel would show them.  %pK knows the
 * policy: it prints zeros for kptr_restrict=2, and with 1 for those without
 * CAP_SYSLOG.
 */
static bool rv_may_see_pointers(void)
{
	char shown[2 * sizeof(void *) + 1];

	if (!capable(CAP_SYSLOG))
		return false;
	snprintf(shown, sizeof(shown), "%pK", &rv_last_query);
	return strspn(shown, "0") != strlen(shown);
}

/*
 * From a query to what the report prints: every step, in order.  Answers an
 * ERR_PTR where a step fails.
 */
static struct rv_snap *rv_answer(const struct rv_query *q)
{
	struct rv_snap *s = rv_walk(q);
	int err;

	if (IS_ERR(s))
		return s;
	err = rv_name_files(s);
	if (!err && q->opts & RV_OPT_VERIFY)
		err = rv_verify(s);
	err = err ?: rv_name_processes(s);
	err = err ?: rv_put_in_order(s);
	err = err ?: rv_judge_history(s);
	if (err) {
		rv_snap_free(s);
		return ERR_PTR(err);
	}
	rv_judge_reclaim(s);
	rv_judge_migrate(s);
	return s;
}

/* The same for those who may know; others get -EPERM. */
static struct rv_snap *rv_ask(const struct rv_query *q)
{
	if (rv_locked_down() ||
	    (q->opts & RV_OPT_PTRS && !rv_may_see_pointers()))
		return ERR_PTR(-EPERM);
	return rv_answer(q);
}

/*
 * @snap may be an ERR_PTR: then the old answer stays.  Of that, seq_file may
 * have an item half read, for whoever goes on where the last read has ended.
 */
static int rv_replace_answer(struct seq_file *m, struct rv_snap *snap)
{
	struct rv_open *open = m->private;

	lockdep_assert_held(&m->lock);
	if (IS_ERR(snap))
		return PTR_ERR(snap);
	rv_snap_free(open->snap);
	open->snap = snap;
	m->read_pos = 0;
	m->index = 0;
	m->count = 0;
	return 0;
}

static int rv_ask_last_query(struct seq_file *m)
{
	struct rv_query q;

	mutex_lock(&rv_last_query_lock);
	q = rv_last_query;
	mutex_unlock(&rv_last_query_lock);
	if (q.target == RV_TARGET_NONE)
		return 0;
	return rv_replace_answer(m, rv_ask(&q));
}

/* -------------------------------------------------------------- reading -- */

static bool rv_at_end(const struct rv_open *open, loff_t pos)
{
	return pos >= (open->snap ? rv_report_items(open->snap) : 1);
}

static void *rv_seq_start(struct seq_file *m, loff_t *pos)
{
	const struct rv_open *open = m->private;

	/* Once, and only if somebody reads. */
	if (open->snap && !rv_report_items(open->snap))
		rv_report_prepare(open->snap);
	return rv_at_end(open, *pos) ? NULL : pos;
}

static void *rv_seq_next(struct seq_file *m, void *v, loff_t *pos)
{
	const struct rv_open *open = m->private;

	*pos = open->snap ? rv_report_next(open->snap, *pos) : *pos + 1;
	/* An item may print nothing, and a million of them, too. */
	cond_resched();
	return rv_at_end(open, *pos) ? NULL : pos;
}

static void rv_seq_stop(struct seq_file *m, void *v)
{
}

static int rv_seq_show(struct seq_file *m, void *v)
{
	const struct rv_open *open = m->private;
	const loff_t *item = v;

	if (open->snap)
		rv_report_show(m, open->snap, *item);
	else
		rv_report_usage(m);
	return 0;
}

static const struct seq_operations rv_seq_ops = {
	.start = rv_seq_start,
	.next = rv_seq_next,
	.stop = rv_seq_stop,
	.show = rv_seq_show,
};

/* A read from the start asks again, and so does one that has no answer yet. */
static int rv_ask_to_read(struct seq_file *m, loff_t pos)
{
	const struct rv_open *open = m->private;
	int err;

	err = mutex_lock_killable(&m->lock);
	if (err)
		return err;
	if (open->reads == RV_READS_ASK_AGAIN && (!pos || !open->snap))
		err = rv_ask_last_query(m);
	mutex_unlock(&m->lock);
	return err;
}

/*
 * The question is not for seq_file to ask: it starts anew wherever a read or
 * lseek() goes, and as often as it is told EAGAIN.
 */
static ssize_t rv_read(struct file *file, char __user *ubuf, size_t size,
		       loff_t *ppos)
{
	int err = rv_locked_down();

	if (!err && size)
		err = rv_ask_to_read(file->private_data, *ppos);
	return err ?: seq_read(file, ubuf, size, ppos);
}

/* -------------------------------------------------------------- writing -- */

/* What is answered where nobody can read the answer: is there one? */
static struct rv_query rv_cheapest(const struct rv_query *q)
{
	struct rv_query cheap = *q;

	cheap.opts &= ~(RV_OPT_FULL | RV_OPT_FOLIO | RV_OPT_VERIFY);
	cheap.opts |= RV_OPT_BRIEF;
	return cheap;
}

/* The walk is done by the write, so that whoever asks learns what went wrong. */
static ssize_t rv_write(struct file *file, const char __user *ubuf,
			size_t count, loff_t *ppos)
{
	struct seq_file *m = file->private_data;
	char line[RV_QUERY_MAX];
	struct rv_query q, asked;
	int err;

	if (count > sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, ubuf, count))
		return -EFAULT;
	err = rv_query_parse(&q, line, count);
	if (err)
		return err;

	err = mutex_lock_killable(&m->lock);
	if (err)
		return err;
	asked = file->f_mode & FMODE_READ ? q : rv_cheapest(&q);
	err = rv_replace_answer(m, rv_ask(&asked));
	mutex_unlock(&m->lock);
	if (err)
		return err;

	/* Who reads asks again, what was written. */
	rv_remember(&q);
	/* The answer is read from its beginning. */
	*ppos = 0;
	return count;
}

/* ------------------------------------------------------------ parameter -- */

/* Only remembered: at insmod there is no debugfs file to read an answer from. */
static int rv_set_query(const char *val, const struct kernel_param *kp)
{
	struct rv_query q;
	int err;

	/* What a reader is made to do is not for everybody with uid 0. */
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	err = rv_query_parse(&q, val, strlen(val));
	if (!err)
		rv_remember(&q);
	return err;
}

static int rv_get_query(char *buffer, const struct kernel_param *kp)
{
	int len;

	mutex_lock(&rv_last_query_lock);
	len = scnprintf(buffer, PAGE_SIZE, "%s\n", rv_last_query.text);
	mutex_unlock(&rv_last_query_lock);
	return len;
}

static const struct kernel_param_ops rv_query_ops = {
	.set = rv_set_query,
	.get = rv_get_query,
};

module_param_cb(query, &rv_query_ops, NULL, 0600);
MODULE_PARM_DESC(
	query,
	"what " KBUILD_MODNAME
	"_answer in debugfs answers: \"0x1d2f3\" or \"pfn:1d2f3\" asks who maps that frame, \"pid 91 0x7f8c56e29000 json\" who maps what process 91 has there, as JSON");

/* ---------------------------------------------------------------- files -- */

/* Of any of the files. */
static int rv_check_opener(void)
{
	return !capable(CAP_SYS_ADMIN) || rv_locked_down() ? -EPERM : 0;
}

static int rv_open_any(struct file *file, enum rv_reads reads)
{
	struct rv_open *open;
	int err;

	err = rv_check_opener();
	if (err)
		return err;
	open = __seq_open_private(file, &rv_seq_ops, sizeof(*open));
	if (!open)
		return -ENOMEM;
	open->reads = reads;
	return 0;
}

static int rv_open_query(struct inode *inode, struct file *file)
{
	return rv_open_any(file, file->f_mode & FMODE_WRITE ?
					 RV_READS_OWN_ANSWER :
					 RV_READS_ASK_AGAIN);
}

static int rv_open_answer(struct inode *inode, struct file *file)
{
	return rv_open_any(file, RV_READS_ASK_AGAIN);
}

static int rv_release(struct inode *inode, struct file *file)
{
	struct seq_file *m = file->private_data;
	struct rv_open *open = m->private;

	rv_snap_free(open->snap);
	return seq_release_private(inode, file);
}

static const struct file_operations rv_query_fops = {
	.owner = THIS_MODULE,
	.open = rv_open_query,
	.read = rv_read,
	.write = rv_write,
	.llseek = seq_lseek,
	.release = rv_release,
};

static const struct file_operations rv_answer_fops = {
	.owner = THIS_MODULE,
	.open = rv_open_answer,
	.read = rv_read,
	.llseek = seq_lseek,
	.release = rv_release,
};

/* ------------------------------------------------------------- listings -- */

static int rv_open_listing(struct file *file, const struct rv_listing_ops *ops)
{
	return rv_check_opener() ?: rv_listing_open(file, ops);
}

static int rv_open_survey(struct inode *inode, struct file *file)
{
	return rv_open_listing(file, &rv_survey_ops);
}

static int rv_open_families(struct inode *inode, struct file *file)
{
	return rv_open_listing(file, &rv_families_ops);
}

static ssize_t rv_read_listing(struct file *file, char __user *ubuf,
			       size_t count, loff_t *ppos)
{
	return rv_locked_down() ?: rv_listing_read(file, ubuf, count, ppos);
}

static const struct file_operations rv_survey_fops = {
	.owner = THIS_MODULE,
	.open = rv_open_survey,
	.read = rv_read_listing,
	.llseek = rv_listing_llseek,
	.release = rv_listing_release,
};

static const struct file_operations rv_families_fops = {
	.owner = THIS_MODULE,
	.open = rv_open_families,
	.read = rv_read_listing,
	.llseek = rv_listing_llseek,
	.release = rv_listing_release,
};

/* --------------------------------------------------------------- module -- */

static const struct {
	const char *name;
	umode_t mode;
	const struct file_operations *fops;
} rv_files[] = {
	{ KBUILD_MODNAME, 0600, &rv_query_fops },
	{ KBUILD_MODNAME "_answer", 0400, &rv_answer_fops },
	{ KBUILD_MODNAME "_survey", 0400, &rv_survey_fops },
	{ KBUILD_MODNAME "_families", 0400, &rv_families_fops },
};

static struct dentry *rv_dentries[ARRAY_SIZE(rv_files)];

static void rv_remove_files(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rv_files); i++)
		debugfs_remove(rv_dentries[i]);
}

static int __init rv_create_files(void)
{
	struct dentry *dentry;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rv_files); i++) {
		dentry = debugfs_create_file(rv_files[i].name, rv_files[i].mode,
					     NULL, NULL, rv_files[i].fops);
		if (IS_ERR(dentry)) {
			rv_remove_files();
			return PTR_ERR(dentry);
		}
		rv_dentries[i] = dentry;
	}
	return 0;
}

static int __init rv_init(void)
{
	return rv_locked_down() ?: rv_ksym_init() ?: rv_create_files();
}

static void __exit rv_exit(void)
{
	rv_remove_files();
}

module_init(rv_init);
module_exit(rv_exit);

MODULE_AUTHOR("rmapviz maintainers");
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Shows who maps a physical page, and by what");
MODULE_VERSION(RV_VERSION);
