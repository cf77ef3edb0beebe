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

static void count(void)
{
	counter++;
	cond_resched();
}

static int race(void *unused)
{
	while (!kthread_should_stop())
		count();
	return 0;
}

static int __init rmapviz_race_init(void)
{
	struct task_struct *task = kthread_run(race, NULL, "rmapviz_race");
	unsigned long end = jiffies + 5 * HZ;

	if (IS_ERR(task))
		return PTR_ERR(task);
	while (time_before(jiffies, end))
		count();
	return kthread_stop(task);
}

static void __exit rmapviz_race_exit(void)
{
}

module_init(rmapviz_race_init);
module_exit(rmapviz_race_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Has a data race, for tests of rmapviz");
