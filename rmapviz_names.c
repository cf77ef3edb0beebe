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
#include <linux/string.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"

/* ------------------------------------------------------------- processes -- */

/**
 * struct rv_naming - a look for the processes that use the mms
 * @visitor: who shows them
 * @snap: whose mms they are
 * @ns: the pid namespace of who asks
 * @unnamed: mms of which users are still to be found
 */
struct rv_naming {
	struct rv_process_visitor visitor;
	struct rv_snap *snap;
	struct pid_namespace *ns;
	u32 unnamed;
};

/* Everybody who may enter an address space, which is held. */
static u32 rv_users_of(const struct rv_mm *mm)
{
	return atomic_read(&((struct mm_struct *)mm->key.ptr)->mm_users);
}

static void rv_naming_start(struct rv_process_visitor *v)
{
	struct rv_naming *naming = container_of(v, struct rv_naming, visitor);
	struct rv_snap *s = naming->snap;
	struct rv_mm *mm;

	s->tables[RV_TASKS].len = 0;
	s->tables[RV_TASKS].lost = 0;
	naming->unnamed = 0;
	rv_for_each(mm, s, RV_MMS) {
		mm->nr_tasks = 0;
		mm->users = 0;
		mm->pid = 0;
		mm->comm[0] = '\0';
		mm->named = !rv_users_of(mm);
		naming->unnamed += !mm->named;
	}
}

/* Copies pid and comm of a process that uses one of the mms. */
static void rv_name_mm(struct rv_naming *naming, struct rv_mm *mm,
		       struct task_struct *leader)
{
	struct rv_task *task = rv_add(naming->snap, RV_TASKS, struct rv_task);

	if (!task)
		return;
	task->mm = mm->key.id;
	task->pid = task_tgid_nr_ns(leader, naming->ns);
	if (!mm->nr_tasks++) {
		mm->pid = task->pid;
		memcpy(mm->comm, leader->comm, sizeof(mm->comm));
		mm->comm[sizeof(mm->comm) - 1] = '\0';
	}
}

/* Every thread that uses an mm holds it: so it is known when all were met. */
static bool rv_naming_visit(struct rv_process_visitor *v,
			    struct task_struct *leader)
{
	struct rv_naming *naming = container_of(v, struct rv_naming, visitor);
	const struct mm_struct *its;
	struct rv_mm *mm;
	u32 users;

	/* Of those who have all left there is nobody to be found. */
	if (!naming->unnamed)
		return false;
	its = rv_mm_of_process(leader, &users);
	if (!its)
		return true;
	mm = (struct rv_mm *)rv_table_find(&naming->snap->tables[RV_MMS],
					   (unsigned long)its, RV_NONE);
	if (!mm)
		return true;
	rv_name_mm(naming, mm, leader);
	mm->users += users;
	if (!mm->named && mm->users >= rv_users_of(mm)) {
		mm->named = true;
		naming->unnamed--;
	}
	return naming->unnamed;
}

/**
 * rv_name_processes() - name the processes that use the mms of a snapshot
 * @s: the snapshot, which lets go of what it still holds
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0, -ENOMEM or -EINTR.
 */
int rv_name_processes(struct rv_snap *s)
{
	struct rv_naming naming = {
		.visitor = { rv_naming_start, rv_naming_visit },
		.snap = s,
		.ns = task_active_pid_ns(current),
	};
	struct rv_table *tasks = &s->tables[RV_TASKS];
	int err;

	if (!rv_len(s, RV_MMS))
		return 0;
	err = rv_table_reserve(tasks, rv_len(s, RV_MMS));
	while (!err) {
		err = rv_visit_processes(&naming.visitor);
		if (err || !tasks->lost)
			break;
		err = rv_table_grow(tasks);
	}
	rv_snap_put_refs(s);
	if (err && err != -ENOSPC)
		return err;
	return rv_order_tasks(s);
}

/* ----------------------------------------------------------------- files -- */

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

static int rv_copy_names(struct rv_snap *s, char *buf)
{
	struct rv_file *file;
	const char *path;

	rv_for_each(file, s, RV_FILES) {
		path = rv_path_or(file_path((struct file *)file->key.ptr, buf,
					    PATH_MAX),
				  "(name too long)");
		file->name = kstrdup(path, RV_GFP);
		if (!file->name)
			return -ENOMEM;
	}
	if (!s->inode)
		return 0;
	path = rv_page_path(s, buf);
	if (path)
		s->page_file = kstrdup(path, RV_GFP);
	return !path || s->page_file ? 0 : -ENOMEM;
}

/**
 * rv_name_files() - name the files of a snapshot, and let them go
 * @s: the snapshot, as the walk left it; its inode is let go too, so that a file
 *	system can be unmounted while something long goes on
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0 or -ENOMEM.
 */
int rv_name_files(struct rv_snap *s)
{
	int err = 0;
	char *buf;

	if (!rv_len(s, RV_FILES) && !s->inode)
		return 0;
	buf = kmalloc(PATH_MAX, RV_GFP);
	if (buf)
		err = rv_copy_names(s, buf);
	else
		err = -ENOMEM;
	kfree(buf);
	rv_snap_put_files(s);
	return err;
}
