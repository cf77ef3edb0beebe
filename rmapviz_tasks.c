// SPDX-License-Identifier: GPL-2.0
/*
 * One process after the other, without keeping RCU from everybody meanwhile.
 */
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "rmapviz_collect.h"

/* Threads between two chances to give up the CPU. */
#define RV_TASKS_TURN 512

/* Walks of the list that may lose their place before we give up. */
#define RV_TASKS_TRIES 16

/*
 * Lets RCU go for a moment.  False if the process has left the list meanwhile,
 * by exit or by execve() of another thread: then there is no going on from it
 * (as in kernel/hung_task.c, rcu_lock_break()).
 */
static bool rv_let_others_run(struct task_struct *leader)
{
	bool listed;

	get_task_struct(leader);
	rcu_read_unlock();
	cond_resched();
	rcu_read_lock();
	listed = pid_alive(leader) && thread_group_leader(leader);
	put_task_struct(leader);
	return listed;
}

/* -EAGAIN if the list was lost. */
static int rv_try_each_process(struct rv_process_visitor *v)
{
	struct task_struct *leader;
	u32 n = 0;
	int err = 0;

	rcu_read_lock();
	for_each_process(leader) {
		if (!v->visit(v, leader))
			break;
		n += get_nr_threads(leader);
		if (n < RV_TASKS_TURN)
			continue;
		n = 0;
		if (fatal_signal_pending(current))
			err = -EINTR;
		else if (!rv_let_others_run(leader))
			err = -EAGAIN;
		if (err)
			break;
	}
	rcu_read_unlock();
	return err;
}

/**
 * rv_visit_processes() - show every process to a visitor
 * @v: the visitor: @start is called before the first one, and again if it has to
 *	begin anew; @visit under RCU for each thread group leader, until it says
 *	false
 *
 * Context: Process context, may sleep; no locks held.
 * Return: 0, -EINTR, or -EAGAIN if processes come and go too fast.
 */
int rv_visit_processes(struct rv_process_visitor *v)
{
	int err, tries = 0;

	do {
		v->start(v);
		err = rv_try_each_process(v);
	} while (err == -EAGAIN && ++tries < RV_TASKS_TRIES);
	return err;
}

/**
 * rv_mm_of_process() - the address space of a process
 * @leader: its thread group leader, which may have exited before the others
 * @users: set to the number of its threads that use it
 *
 * Context: Under RCU.
 * Return: the mm, on which nothing is held; NULL for a kernel thread, or if all
 * have left it.
 */
const struct mm_struct *rv_mm_of_process(struct task_struct *leader, u32 *users)
{
	const struct mm_struct *mm = NULL, *its;
	struct task_struct *t;

	*users = 0;
	if (leader->flags & PF_KTHREAD)
		return NULL;
	for_each_thread(leader, t) {
		its = READ_ONCE(t->mm);
		mm = mm ?: its;
		*users += its && its == mm;
	}
	return mm;
}
