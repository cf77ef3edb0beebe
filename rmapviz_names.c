// SPDX-License-Identifier: GPL-2.0
/*
 * Who the processes of a snapshot are, and what its files are called: after the
 * locks are gone, and as long as its mms and files are held.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pid_namespace.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/string.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

/* Under RCU.  A thread group leader may have exited before its threads. */
static const struct mm_struct *rv_mm_of_process(struct task_struct *leader)
{
	struct task_struct *t;

	if (leader->flags & PF_KTHREAD)
		return NULL;
	for_each_thread(leader, t) {
		const struct mm_struct *mm = READ_ONCE(t->mm);

		if (mm)
			return mm;
	}
	return NULL;
}

/* Copies pid and comm of every process that uses one of the mms. */
static void rv_collect_tasks(struct rv_snap *s)
{
	struct pid_namespace *ns = task_active_pid_ns(current);
	struct task_struct *leader;
	u32 order = 0;

	rcu_read_lock();
	for_each_process(leader) {
		const struct mm_struct *mm = rv_mm_of_process(leader);
		struct rv_key *key =
			mm ? rv_table_find(&s->tables[RV_MMS], mm, RV_NONE) :
			     NULL;
		struct rv_task *task =
			key ? rv_table_add(&s->tables[RV_TASKS]) : NULL;
		struct rv_mm *user = (struct rv_mm *)key;

		if (!task)
			continue;
		task->mm = key->id;
		task->order = order++;
		task->pid = task_tgid_nr_ns(leader, ns);
		if (!user->nr_tasks++) {
			user->pid = task->pid;
			strscpy(user->comm, leader->comm, sizeof(user->comm));
		}
	}
	rcu_read_unlock();
}

static int rv_cmp_task(const void *a, const void *b)
{
	const struct rv_task *x = a, *y = b;

	if (x->mm != y->mm)
		return x->mm < y->mm ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

static int rv_find_tasks(struct rv_snap *s)
{
	struct rv_mm *mm;
	u32 first = 0;
	int err;

	for (;;) {
		rv_collect_tasks(s);
		if (!s->tables[RV_TASKS].lost ||
		    s->tables[RV_TASKS].cap == RV_RECORDS_MAX)
			break;
		err = rv_table_grow(&s->tables[RV_TASKS]);
		if (err)
			return err;
		rv_for_each(mm, s, RV_MMS)
			mm->nr_tasks = 0;
	}
	sort(rv_task_at(s, 0), rv_len(s, RV_TASKS), sizeof(struct rv_task),
	     rv_cmp_task, NULL);
	rv_for_each(mm, s, RV_MMS) {
		mm->first_task = first;
		first += mm->nr_tasks;
	}
	return 0;
}

static const char *rv_path_or(char *path, const char *otherwise)
{
	return IS_ERR(path) ? otherwise : path;
}

/*
 * What the page's file is called: as a process that maps it sees it, else by
 * any name that it has in its file system.
 */
static const char *rv_page_path(struct rv_snap *s, char *buf)
{
	const struct rv_file *file;
	struct dentry *dentry;
	const char *path;

	rv_for_each(file, s, RV_FILES)
		if (((struct file *)file->key.ptr)->f_mapping ==
		    s->inode->i_mapping)
			return file->name;
	dentry = d_find_alias(s->inode);
	if (!dentry)
		return NULL;
	path = rv_path_or(dentry_path_raw(dentry, buf, PATH_MAX), NULL);
	dput(dentry);
	return path;
}

static int rv_name_files(struct rv_snap *s, char *buf)
{
	struct rv_file *file;
	const char *path;

	rv_for_each(file, s, RV_FILES) {
		path = rv_path_or(file_path((struct file *)file->key.ptr, buf,
					    PATH_MAX),
				  "(name too long)");
		file->name = kstrdup(path, GFP_KERNEL);
		if (!file->name)
			return -ENOMEM;
	}
	if (!s->inode)
		return 0;
	path = rv_page_path(s, buf);
	if (path)
		s->page_file = kstrdup(path, GFP_KERNEL);
	return !path || s->page_file ? 0 : -ENOMEM;
}

static int rv_find_file_names(struct rv_snap *s)
{
	char *buf;
	int err;

	if (!rv_len(s, RV_FILES) && !s->inode)
		return 0;
	buf = kmalloc(PATH_MAX, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	err = rv_name_files(s, buf);
	kfree(buf);
	return err;
}

/**
 * rv_find_names() - name the processes and files of a snapshot
 * @s: the snapshot, as the walk left it; its references are dropped
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_find_names(struct rv_snap *s)
{
	int err = rv_find_tasks(s) ?: rv_find_file_names(s);

	rv_snap_put_refs(s);
	return err;
}
