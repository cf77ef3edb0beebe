// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz_split - split a folio while somebody is about to pin it
 *
 * It has a folio of two pages.  Whoever comes to the instruction that two
 * parameters name for the first time, and has read by then which folio the second
 * page is of, goes on with two folios of one page each.  For tests only.
 */
#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>

static char *symbol;
module_param(symbol, charp, 0);
MODULE_PARM_DESC(symbol, "function that pins");

static ulong offset;
module_param(offset, ulong, 0);
MODULE_PARM_DESC(offset, "where in it, in bytes");

static ulong pfn;
module_param(pfn, ulong, 0444);
MODULE_PARM_DESC(pfn, "second page of the folio");

static bool split;
module_param(split, bool, 0444);
MODULE_PARM_DESC(split, "somebody came");

/* So that the two can be told apart. */
#define HEAD_REFS 5

static struct page *head;
static struct page before[2];

static int split_once(struct kprobe *unused, struct pt_regs *regs)
{
	struct page *tail = head + 1;

	if (split)
		return 0;
	split = true;
	set_page_count(head, HEAD_REFS);
	ClearPageHead(head);
	clear_compound_head(tail);
	tail->mapping = NULL;
	atomic_set(&tail->_mapcount, -1);
	set_page_count(tail, 1);
	return 0;
}

static struct kprobe probe = {
	.pre_handler = split_once,
};

static int __init rmapviz_split_init(void)
{
	int err;

	head = alloc_pages(GFP_KERNEL | __GFP_COMP, 1);
	if (!head)
		return -ENOMEM;
	pfn = page_to_pfn(head + 1);
	memcpy(before, head, sizeof(before));
	probe.symbol_name = symbol;
	probe.offset = offset;
	err = register_kprobe(&probe);
	if (err)
		__free_pages(head, 1);
	return err;
}

/* It was never really split, so give it back as it was. */
static void __exit rmapviz_split_exit(void)
{
	unregister_kprobe(&probe);
	memcpy(head, before, sizeof(before));
	__free_pages(head, 1);
}

module_init(rmapviz_split_init);
module_exit(rmapviz_split_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Splits a folio while it is pinned, for tests of rmapviz");
