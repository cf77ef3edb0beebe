// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz_migrating - stop a migration half way, to see what is said of the page
 *
 * Whoever migrates the folio that a parameter names stops where its page-table
 * entries are migration entries, until another parameter lets it go on.  For
 * tests only: do not unload it before.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/static_call.h>

static unsigned long pfn;
module_param(pfn, ulong, 0);
MODULE_PARM_DESC(pfn, "first page of the folio");

static bool stopped;
module_param(stopped, bool, 0444);
MODULE_PARM_DESC(stopped, "its migration has come half way");

static bool go_on;
module_param(go_on, bool, 0644);
MODULE_PARM_DESC(go_on, "let it go on");

static void half_way(void *old, void *new);
DEFINE_STATIC_CALL_NULL(rmapviz_mem_cgroup_migrate, half_way);

/* In place of mem_cgroup_migrate(), which has such arguments on every kernel. */
static void half_way(void *old, void *new)
{
	WRITE_ONCE(stopped, true);
	while (!READ_ONCE(go_on))
		msleep(20);
	static_call(rmapviz_mem_cgroup_migrate)(old, new);
}

/* A probe must not sleep, but it may send the caller elsewhere. */
static int divert(struct kprobe *unused, struct pt_regs *regs)
{
	if (regs_get_kernel_argument(regs, 0) !=
		    (unsigned long)pfn_to_page(pfn) ||
	    READ_ONCE(go_on))
		return 0;
	instruction_pointer_set(regs, (unsigned long)half_way);
	return 1;
}

/* Without a post_handler the probe may become a jump, which cannot divert. */
static void diverted(struct kprobe *unused, struct pt_regs *regs,
		     unsigned long flags)
{
}

static struct kprobe probe = {
	.symbol_name = "mem_cgroup_migrate",
	.pre_handler = divert,
	.post_handler = diverted,
	.flags = KPROBE_FLAG_DISABLED,
};

static int __init rmapviz_migrating_init(void)
{
	int err = register_kprobe(&probe);

	if (err)
		return err;
	static_call_update(rmapviz_mem_cgroup_migrate,
			   (typeof(half_way) *)probe.addr);
	err = enable_kprobe(&probe);
	if (err)
		unregister_kprobe(&probe);
	return err;
}

static void __exit rmapviz_migrating_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(rmapviz_migrating_init);
module_exit(rmapviz_migrating_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stops a migration half way, for tests of rmapviz");
