// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz_fail - let rmapviz get no memory, to see what becomes of a question
 *
 * Every allocation that code between two addresses asks for is counted, and the
 * one of the number that is written to nth is refused.  For tests only; kernels
 * of distributions have no fault injection that could do it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/module.h>

static unsigned long from;
module_param(from, ulong, 0);
MODULE_PARM_DESC(from, "the first address of the code that is refused memory");

static unsigned long size;
module_param(size, ulong, 0);
MODULE_PARM_DESC(size, "how many bytes of it there are");

/* Only one process at a time asks. */
static unsigned int nth;
static unsigned int seen;
static unsigned int failed;

module_param(failed, uint, 0600);
MODULE_PARM_DESC(failed, "allocations refused since nth was written");

static int set_nth(const char *val, const struct kernel_param *kp)
{
	seen = 0;
	failed = 0;
	return param_set_uint(val, kp);
}

static const struct kernel_param_ops nth_ops = {
	.set = set_nth,
	.get = param_get_uint,
};

module_param_cb(nth, &nth_ops, &nth, 0600);
MODULE_PARM_DESC(nth, "which allocation is refused; 0 for none");

static noinline void *no_memory(void)
{
	return NULL;
}

/* The function is not called; another one returns in its place. */
static int refuse(struct kprobe *kp, struct pt_regs *regs)
{
	unsigned long caller = *(unsigned long *)regs->sp;

	if (caller - from >= size || !nth || ++seen != nth)
		return 0;
	failed++;
	regs->ip = (unsigned long)no_memory;
	return 1;
}

/* That there is one tells kprobes that regs->ip may change. */
static void nothing(struct kprobe *kp, struct pt_regs *regs,
		    unsigned long flags)
{
}

/* What kernels from 5.10 on call them, each of them some. */
static const char *const allocators[] = {
	"__kmalloc",
	"__kmalloc_noprof",
	"kmem_cache_alloc_trace",
	"kmalloc_trace",
	"__kmalloc_cache_noprof",
	"kmalloc_order_trace",
	"kmalloc_large",
	"__kmalloc_large_noprof",
	"__vmalloc",
	"__vmalloc_noprof",
	"kstrdup",
	"kstrdup_noprof",
	"__seq_open_private",
};

static struct kprobe probes[ARRAY_SIZE(allocators)];

static void unregister_all(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (probes[i].addr)
			unregister_kprobe(&probes[i]);
}

static int __init rmapviz_fail_init(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		probes[i].symbol_name = allocators[i];
		probes[i].pre_handler = refuse;
		probes[i].post_handler = nothing;
		err = register_kprobe(&probes[i]);
		if (!err)
			continue;
		probes[i].addr = NULL;
		if (err == -ENOENT)
			continue;
		unregister_all();
		return err;
	}
	return 0;
}

static void __exit rmapviz_fail_exit(void)
{
	unregister_all();
}

module_init(rmapviz_fail_init);
module_exit(rmapviz_fail_exit);

MODULE_AUTHOR("rmapviz maintainers");
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Refuses rmapviz memory, for tests");
