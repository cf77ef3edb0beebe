// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz_race - a data race in a module, for KCSAN to find
 *
 * Loading it takes some seconds, in which two threads count with one counter and
 * no lock.  For tests only: what finds this one would find one of rmapviz.
 */
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>

/* A counter that nobody could read would not be there. */
static ulong counter;
module_param(counter, ulong, 0444);
MODULE_PARM_DESC(counter, "what the two have counted");

static int race(void *unused)
{
	unsigned long end = jiffies + 5 * HZ;

	while (time_before(jiffies, end)) {
		counter++;
		cond_resched();
	}
	return 0;
}

static int other(void *unused)
{
	race(NULL);
	while (!kthread_should_stop())
		schedule_timeout_uninterruptible(1);
	return 0;
}

static int __init rmapviz_race_init(void)
{
	struct task_struct *task = kthread_run(other, NULL, "rmapviz_race");

	if (IS_ERR(task))
		return PTR_ERR(task);
	race(NULL);
	return kthread_stop(task);
}

static void __exit rmapviz_race_exit(void)
{
}

module_init(rmapviz_race_init);
module_exit(rmapviz_race_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Has a data race, for tests of rmapviz");
