// SPDX-License-Identifier: GPL-2.0
/*
 * The functions that the kernel does not export, two or on old kernels three,
 * and two variables.
 *
 * Each function is found once, by a kprobe that is never armed, and called
 * through a static call: that is a direct call instruction, patched at init.
 * An indirect call would be a kernel BUG on hardware with indirect branch
 * tracking, where the kernel seals the entries of functions whose address it
 * never takes (arch/x86/kernel/alternative.c, apply_seal_endbr()).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/rmap.h>
#include <linux/static_call.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"
#include "rmapviz_compat.h"

DEFINE_STATIC_CALL_NULL(rmapviz_rmap_walk, rmap_walk);
DEFINE_STATIC_CALL_NULL(rmapviz_page_vma_mapped_walk, page_vma_mapped_walk);

/* Points to the kernel's pointer to the huge zero page, or is NULL. */
static void **rv_huge_zero;

/* Points to what compact_unevictable_allowed of sysctl sets, or is NULL. */
static int *rv_compact_unevictable;

/*
 * The kprobe's address may lie behind the ENDBR or its poison, so the symbol
 * table has the last word on where the function begins.
 */
static void *rv_ksym_start(void *addr)
{
	char where[KSYM_SYMBOL_LEN];
	unsigned long offset;
	char *plus;

	sprint_symbol(where, (unsigned long)addr);
	plus = strchr(where, '+');
	if (!plus || sscanf(plus, "+0x%lx/", &offset) != 1)
		return NULL;
	return addr - offset;
}

static void *rv_ksym_find(const char *name)
{
	struct kprobe kp = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	void *start = NULL;

	if (!register_kprobe(&kp)) {
		start = rv_ksym_start(kp.addr);
		unregister_kprobe(&kp);
	}
	if (!start)
		pr_err("this kernel has no function %s\n", name);
	return start;
}

/*
 * A variable: no kprobe can be put there, which is what -EINVAL says, but it
 * has been looked up by then.
 */
static void *rv_ksym_find_data(const char *name)
{
	struct kprobe kp = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	int err = register_kprobe(&kp);

	/* Code then, of another kind of kernel, and nothing to read. */
	if (!err)
		unregister_kprobe(&kp);
	return err == -EINVAL ? kp.addr : NULL;
}

#ifdef RV_NEEDS_RMAP_WALK_LOCKED
DEFINE_STATIC_CALL_NULL(rmapviz_rmap_walk_locked, rmap_walk_locked);

static int rv_ksym_init_locked(void)
{
	void *walk = rv_ksym_find("rmap_walk_locked");

	if (!walk)
		return -ENOENT;
	static_call_update(rmapviz_rmap_walk_locked,
			   (typeof(rmap_walk_locked) *)walk);
	return 0;
}

/*
 * The lock of a file is tried here, for a walk that finds it locked.  Also
 * hugetlb wants that: its i_mmap_rwsem comes before the page lock, which is held
 * here (mm/rmap.c, the comment on lock order).  For KSM there is the wait, which
 * is in order: rmap_walk_ksm() takes one anon_vma at a time.
 */
static bool rv_walk_if_unlocked(struct folio *folio,
				struct rmap_walk_control *rwc)
{
	struct address_space *mapping = folio->mapping;

	if (folio_test_anon(folio)) {
		static_call(rmapviz_rmap_walk)((RV_RMAP_OF *)folio, rwc);
		return true;
	}
	if (!down_read_trylock(&mapping->i_mmap_rwsem))
		return false;
	static_call(rmapviz_rmap_walk_locked)((RV_RMAP_OF *)folio, rwc);
	up_read(&mapping->i_mmap_rwsem);
	return true;
}
#else
static int rv_ksym_init_locked(void)
{
	return 0;
}

static bool rv_walk_if_unlocked(struct folio *folio,
				struct rmap_walk_control *rwc)
{
	rwc->try_lock = true;
	static_call(rmapviz_rmap_walk)((RV_RMAP_OF *)folio, rwc);
	return !rwc->contended;
}
#endif

/**
 * rv_ksym_init() - find the functions and patch the calls to them
 *
 * Context: Process context, may sleep; once, before anything else here.
 * Return: 0, or -ENOENT after one line in the log that names the function.
 */
int rv_ksym_init(void)
{
	void *walk = rv_ksym_find("rmap_walk");
	void *mapped_walk = rv_ksym_find("page_vma_mapped_walk");

	if (!walk || !mapped_walk || rv_ksym_init_locked())
		return -ENOENT;
	/* A folio since 6.10.  CONFIG_KALLSYMS_ALL finds it, if there is one. */
	rv_huge_zero = rv_ksym_find_data("huge_zero_folio");
	if (!rv_huge_zero)
		rv_huge_zero = rv_ksym_find_data("huge_zero_page");
	rv_compact_unevictable =
		rv_ksym_find_data("sysctl_compact_unevictable_allowed");
	static_call_update(rmapviz_rmap_walk, (typeof(rmap_walk) *)walk);
	static_call_update(rmapviz_page_vma_mapped_walk,
			   (typeof(page_vma_mapped_walk) *)mapped_walk);
	return 0;
}

/**
 * rv_rmap_walk_try() - rmap_walk() of mm/rmap.c, if nobody is to be waited for
 * @folio: the folio, locked, with a reference
 * @rwc: the callbacks
 *
 * Context: Process context, may sleep.  Takes the folio's rmap locks for read;
 * waits for those of a KSM page where the kernel cannot try them.
 * Return: true if the walk was done, false if a lock was contended: then any
 * number of callbacks may have been made.
 */
bool rv_rmap_walk_try(struct folio *folio, struct rmap_walk_control *rwc)
{
	rv_assert_folio_locked(folio);
	return rv_walk_if_unlocked(folio, rwc);
}

/**
 * rv_page_vma_mapped_walk() - page_vma_mapped_walk() of mm/page_vma_mapped.c
 * @pvmw: the state of the walk
 *
 * Context: In a rmap_one() callback.
 * Return: true with a page-table entry found and its lock held, or false.
 */
bool rv_page_vma_mapped_walk(struct page_vma_mapped_walk *pvmw)
{
	return static_call(rmapviz_page_vma_mapped_walk)(pvmw);
}

/**
 * rv_is_huge_zero() - is this the huge zero page?
 * @folio: the folio
 *
 * Context: Any.
 * Return: true if it is.
 */
bool rv_is_huge_zero(struct folio *folio)
{
	return rv_huge_zero && READ_ONCE(*rv_huge_zero) == folio;
}

/**
 * rv_compacts_unevictable() - may compaction move what is unevictable?
 *
 * Context: Any.
 * Return: true if it may, or if this kernel has nothing to forbid it.
 */
bool rv_compacts_unevictable(void)
{
	return !rv_compact_unevictable || READ_ONCE(*rv_compact_unevictable);
}
