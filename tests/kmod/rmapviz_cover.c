// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz_cover - keep what code of rmapviz has run, whatever becomes of rmapviz
 *
 * A byte for each byte of code is in /sys/kernel/debug/rmapviz_cover, where
 * rmapviz comes and goes; rmapviz_cover.h sets them.  For tests only: make
 * coverage tells what they mean.
 */
#include <linux/debugfs.h>
#include <linux/module.h>

#include "rmapviz_cover.h"

u8 rmapviz_covered[2 * RV_REACH];
EXPORT_SYMBOL_GPL(rmapviz_covered);

static struct dentry *file;

static struct debugfs_blob_wrapper blob = {
	.data = rmapviz_covered,
	.size = sizeof(rmapviz_covered),
};

static int __init rmapviz_cover_init(void)
{
	file = debugfs_create_blob("rmapviz_cover", 0400, NULL, &blob);
	return PTR_ERR_OR_ZERO(file);
}

static void __exit rmapviz_cover_exit(void)
{
	debugfs_remove(file);
}

module_init(rmapviz_cover_init);
module_exit(rmapviz_cover_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Keeps what code of rmapviz has run, for tests");
