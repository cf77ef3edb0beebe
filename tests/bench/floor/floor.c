// SPDX-License-Identifier: GPL-2.0
/*
 * The floor under what rmapviz costs: it pins a page, tries for its lock, lets
 * the kernel walk, and counts page-table entries.  Nothing is recorded.
 *
 * Write a PFN to /sys/kernel/debug/rmapviz_floor, then read VMAS PTES LOCK_NS.
 * For benchmarks on a guest that is quiet: an anon_vma is not kept alive.
 */
#include <linux/debugfs.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"
#include "rmapviz_compat.h"

static struct {
	struct folio *folio;
	u32 vmas;
	u32 ptes;
	u64 lock_ns;
} floor;

static struct dentry *floor_file;

static bool floor_one(RV_RMAP_OF *unused, struct vm_area_struct *vma,
		      unsigned long addr, void *arg)
{
	struct page_vma_mapped_walk pvmw;

	floor.vmas++;
	rv_pvmw_init(&pvmw, floor.folio, vma, addr);
	while (rv_page_vma_mapped_walk(&pvmw))
		floor.ptes++;
	return true;
}

static int floor_walk(struct folio *folio)
{
	struct rmap_walk_control rwc = { .rmap_one = floor_one };
	u64 start;

	if (!folio_trylock(folio))
		return -EAGAIN;
	floor.folio = folio;
	floor.vmas = 0;
	floor.ptes = 0;
	start = ktime_get_ns();
	if (folio_mapped(folio))
		rv_rmap_walk_try(folio, &rwc);
	floor.lock_ns = ktime_get_ns() - start;
	folio_unlock(folio);
	return 0;
}

static ssize_t floor_write(struct file *file, const char __user *buf,
			   size_t len, loff_t *pos)
{
	struct folio *folio;
	struct page *page;
	u64 pfn;
	int err;

	err = kstrtoull_from_user(buf, len, 0, &pfn);
	if (err)
		return err;
	page = pfn_to_online_page(pfn);
	if (!page)
		return -ENXIO;
	folio = page_folio(page);
	if (!folio_try_get(folio))
		return -EAGAIN;
	err = floor_walk(folio);
	folio_put(folio);
	return err ?: len;
}

static int floor_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%u %u %llu\n", floor.vmas, floor.ptes, floor.lock_ns);
	return 0;
}

static int floor_open(struct inode *inode, struct file *file)
{
	return single_open(file, floor_show, NULL);
}

static const struct file_operations floor_fops = {
	.owner = THIS_MODULE,
	.open = floor_open,
	.read = seq_read,
	.write = floor_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int __init floor_init(void)
{
	int err = rv_ksym_init();

	if (err)
		return err;
	floor_file = debugfs_create_file("rmapviz_floor", 0600, NULL, NULL,
					 &floor_fops);
	return PTR_ERR_OR_ZERO(floor_file);
}
module_init(floor_init);

static void __exit floor_exit(void)
{
	debugfs_remove(floor_file);
}
module_exit(floor_exit);

MODULE_DESCRIPTION("What a reverse-map walk costs at least");
MODULE_LICENSE("GPL");
