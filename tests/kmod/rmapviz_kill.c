// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz_kill - kill who asks, as soon as a function is called
 *
 * Whoever calls the function whose name was written to symbol last is sent a
 * signal that cannot be caught, once.  For tests only.
 */
#include <linux/irq_work.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

static char name[KSYM_NAME_LEN];
static bool killed;

module_param(killed, bool, 0444);
MODULE_PARM_DESC(killed, "somebody called it");

static struct task_struct *asker;

static void kill_asker(struct irq_work *unused)
{
	send_sig(SIGKILL, asker, 1);
	put_task_struct(asker);
}

/*
 * A probe can be an exception at any place, like an NMI, where no lock may be
 * taken; this comes as soon as interrupts may.
 */
static DEFINE_IRQ_WORK(killing, kill_asker);

static int kill_once(struct kprobe *unused, struct pt_regs *regs)
{
	if (killed)
		return 0;
	killed = true;
	asker = get_task_struct(current);
	irq_work_queue(&killing);
	return 0;
}

static struct kprobe probe;

/* What one registration leaves in a probe is not for the next. */
static void unprobe(void)
{
	if (probe.addr)
		unregister_kprobe(&probe);
	irq_work_sync(&killing);
	memset(&probe, 0, sizeof(probe));
}

static int set_symbol(const char *val, const struct kernel_param *kp)
{
	int err;

	unprobe();
	killed = false;
	strscpy(name, val, sizeof(name));
	probe.symbol_name = strim(name);
	if (!*probe.symbol_name)
		return 0;
	probe.pre_handler = kill_once;
	err = register_kprobe(&probe);
	if (err)
		memset(&probe, 0, sizeof(probe));
	return err;
}

static const struct kernel_param_ops symbol_ops = {
	.set = set_symbol,
};

module_param_cb(symbol, &symbol_ops, NULL, 0200);
MODULE_PARM_DESC(symbol, "function, or nothing");

static int __init rmapviz_kill_init(void)
{
	return 0;
}

static void __exit rmapviz_kill_exit(void)
{
	unprobe();
}

module_init(rmapviz_kill_init);
module_exit(rmapviz_kill_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Kills who asks rmapviz, for tests");
