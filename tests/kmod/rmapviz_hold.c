// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz_hold - keep a page busy, to see what happens to who asks for it
 *
 * While it is loaded, it holds the folio lock or the rmap lock (for write) of
 * the page that its parameters name, or counts a mapping that is not there, or
 * lets its count be frozen, as it is for a moment while it is migrated or split.
 * For tests only: reclaim, migration and exit wait as long as it stays.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>

static unsigned long pfn;
module_param(pfn, ulong, 0);
MODULE_PARM_DESC(pfn, "page to keep busy");

static bool rmap;
module_param(rmap, bool, 0);
MODULE_PARM_DESC(rmap, "hold its rmap lock instead of the folio lock");

static bool mapcount;
module_param(mapcount, bool, 0);
MODULE_PARM_DESC(mapcount, "hold no lock, but let it be mapped once too often");

static bool frozen;
module_param(frozen, bool, 0);
MODULE_PARM_DESC(frozen, "hold the folio lock, and freeze its count as well");

static struct page *head;
static struct task_struct *holder;
static DECLARE_COMPLETION(held);

/* That of its anon_vma's root or of its file; a mapping keeps either alive. */
static struct rw_semaphore *rmap_lock(void)
{
	unsigned long mapping = (unsigned long)head->mapping;

	if (PageAnon(head))
		return &((struct anon_vma *)(mapping & ~3UL))->root->rwsem;
	return &head->mapping->i_mmap_rwsem;
}

/* An rwsem is to be released by the task that took it, so a thread does both. */
static int hold(void *unused)
{
	struct rw_semaphore *lock = rmap_lock();
	int count = page_count(head);

	if (mapcount)
		atomic_inc(&head->_mapcount);
	else if (rmap)
		down_write(lock);
	else
		lock_page(head);
	if (frozen && !page_ref_freeze(head, count))
		frozen = false;
	complete(&held);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ);
	if (frozen)
		page_ref_unfreeze(head, count);
	if (mapcount)
		atomic_dec(&head->_mapcount);
	else if (rmap)
		up_write(lock);
	else
		unlock_page(head);
	return 0;
}

static int __init rmapviz_hold_init(void)
{
	struct page *page = pfn_to_online_page(pfn);

	if (!page)
		return -EINVAL;
	head = compound_head(page);
	if (!head->mapping)
		return -EINVAL;
	if (!get_page_unless_zero(head))
		return -EBUSY;
	holder = kthread_run(hold, NULL, "rmapviz_hold");
	if (IS_ERR(holder)) {
		put_page(head);
		return PTR_ERR(holder);
	}
	wait_for_completion(&held);
	return 0;
}

static void __exit rmapviz_hold_exit(void)
{
	kthread_stop(holder);
	put_page(head);
}

module_init(rmapviz_hold_init);
module_exit(rmapviz_hold_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Keeps a page busy, for tests of rmapviz");
