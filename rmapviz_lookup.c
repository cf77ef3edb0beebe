// SPDX-License-Identifier: GPL-2.0
/*
 * Forward through page tables: from a process and a virtual address to the page,
 * and for the scan of all memory from one entry to the next.
 */
#include <linux/err.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "rmapviz_collect.h"
#include "rmapviz_compat.h"

/* Looks at an entry that seems empty, since it may be just being changed. */
#define RV_LOOKS 3

/**
 * rv_lookup_mm() - the address space of a process
 * @pid: the process, as the current task's pid namespace numbers it
 *
 * Context: Process context, may sleep.
 * Return: the mm, to be dropped with rv_put_mm(); NULL for a kernel thread or a
 * process that has left its address space; ERR_PTR(-ESRCH).
 */
struct mm_struct *rv_lookup_mm(pid_t pid)
{
	struct task_struct *task, *thread;
	struct mm_struct *mm = NULL;

	rcu_read_lock();
	task = pid_task(find_vpid(pid), PIDTYPE_PID);
	/* The leader of a thread group may have exited before the others. */
	if (task)
		for_each_thread(task, thread) {
			mm = get_task_mm(thread);
			if (mm)
				break;
		}
	rcu_read_unlock();
	return task ? mm : ERR_PTR(-ESRCH);
}

/**
 * rv_put_mm() - let go of an address space
 * @mm: of which the caller is a user
 *
 * Its process may have exited meanwhile.  Then a worker of the kernel takes it
 * apart: in here, its files would stay open, and their file system busy, until
 * the question is answered (see task_work_add() in fput() of fs/file_table.c).
 *
 * Context: Process context; does not sleep.
 */
void rv_put_mm(struct mm_struct *mm)
{
	mmput_async(mm);
}

static void rv_fill_leaf(struct rv_leaf *leaf, unsigned long addr,
			 unsigned long size, pte_t pte)
{
	leaf->addr = addr & ~(size - 1);
	leaf->size = size;
	leaf->special = pte_special(pte);
	/* Large entries have a flag where small ones have the lowest bit. */
	leaf->pfn = pte_pfn(pte) & ~((size >> PAGE_SHIFT) - 1);
}

/*
 * How many bytes from @addr on are empty in its table of PTEs: up to the entry
 * that is then in @leaf, if any.
 */
static unsigned long rv_empty_ptes(pmd_t pmd, unsigned long addr,
				   struct rv_leaf *leaf)
{
	pte_t *ptep = pte_offset_kernel(&pmd, addr), pte;
	unsigned long at = addr;

	do {
		pte = READ_ONCE(*ptep++);
		if (pte_present(pte)) {
			rv_fill_leaf(leaf, at, PAGE_SIZE, pte);
			return at - addr;
		}
		if (at == addr)
			leaf->migrating = rv_pte_migrating(pte);
		at += PAGE_SIZE;
	} while (at & ~PMD_MASK);
	return at - addr;
}

/*
 * The same for any address: as far as one table of PTEs tells, or an entry of a
 * higher level that has none.
 *
 * A shared hugetlb table can be taken away under mmap_lock, so each level is
 * read once and the next is found from what was read.
 */
static unsigned long rv_empty_from(struct mm_struct *mm, unsigned long addr,
				   struct rv_leaf *leaf)
{
	pgd_t *pgdp = pgd_offset(mm, addr), pgd = READ_ONCE(*pgdp);
	p4d_t *p4dp, p4d;
	pud_t *pudp, pud;
	pmd_t *pmdp, pmd;

	lockdep_assert_irqs_disabled();
	if (pgd_none(pgd))
		return PGDIR_SIZE - (addr & ~PGDIR_MASK);
	p4dp = p4d_offset_lockless(pgdp, pgd, addr);
	p4d = READ_ONCE(*p4dp);
	if (!p4d_present(p4d))
		return P4D_SIZE - (addr & ~P4D_MASK);

	pudp = pud_offset_lockless(p4dp, p4d, addr);
	pud = READ_ONCE(*pudp);
	/* pud_present() and pud_leaf() may not know one that forbids access */
	if (!pte_present(__pte(pud_val(pud))))
		return PUD_SIZE - (addr & ~PUD_MASK);
	if (pud_val(pud) & _PAGE_PSE) {
		rv_fill_leaf(leaf, addr, PUD_SIZE, __pte(pud_val(pud)));
		return 0;
	}

	pmdp = pmd_offset_lockless(pudp, pud, addr);
	pmd = READ_ONCE(*pmdp);
	leaf->migrating = rv_pmd_migrating(pmd);
	if (!pmd_present(pmd))
		return PMD_SIZE - (addr & ~PMD_MASK);
	if (pmd_leaf(pmd)) {
		rv_fill_leaf(leaf, addr, PMD_SIZE, __pte(pmd_val(pmd)));
		return 0;
	}

	return rv_empty_ptes(pmd, addr, leaf);
}

/**
 * rv_next_leaf() - the next entry that maps something
 * @mm: the address space, its mmap_lock held for read
 * @addr: where to start looking, in bytes; set to where to go on
 * @end: where to stop
 * @leaf: the entry found; it may begin before where it was looked for
 *
 * What keeps a page table while it is read:
 * - mmap_lock keeps the VMA, and so the tables that munmap() and exit would free.
 * - What may free one beside readers of mmap_lock, such as the collapse to a THP
 *   and newer kernels' zap of an emptied table, frees it after a grace period of
 *   RCU, and that waits for a CPU whose interrupts are off.
 * - Who unshares a table of hugetlb interrupts all CPUs before it is let go
 *   (tlb_remove_table_sync_one()), and so waits for them as well.
 * The last two are so with CONFIG_MMU_GATHER_RCU_TABLE_FREE only; without it, no
 * CPU is waited for but those that run the process.  So Kbuild asks for it.
 * Nothing else is locked: the answer may be old when it is read.
 *
 * Context: Process context, may sleep; interrupts are off for one page table at
 * a time.
 * Return: true if there is one.  If not, @addr is @end; or it is less, because
 * somebody waits for mmap_lock or the task is being killed.
 */
bool rv_next_leaf(struct mm_struct *mm, unsigned long *addr, unsigned long end,
		  struct rv_leaf *leaf)
{
	unsigned long empty;

	rv_assert_mmap_locked(mm);
	leaf->size = 0;
	leaf->migrating = false;
	while (*addr < end) {
		local_irq_disable();
		empty = rv_empty_from(mm, *addr, leaf);
		local_irq_enable();
		if (leaf->size && leaf->addr < end) {
			*addr = leaf->addr + leaf->size;
			return true;
		}
		*addr = empty < end - *addr ? *addr + empty : end;
		if (fatal_signal_pending(current) ||
		    rwsem_is_contended(&mm->mmap_lock))
			break;
		cond_resched();
	}
	return false;
}

/**
 * rv_lookup_leaf() - what an address space maps at an address
 * @mm: the address space, its mmap_lock held for read
 * @addr: the virtual address, in bytes
 * @leaf: the entry
 *
 * An entry that is just being changed can look empty, so look again.
 *
 * Context: Process context.
 * Return: true if there is one; if not, @leaf says whether that is for long.
 */
bool rv_lookup_leaf(struct mm_struct *mm, unsigned long addr,
		    struct rv_leaf *leaf)
{
	struct vm_area_struct *vma;
	unsigned long at;
	int look;

	rv_assert_mmap_locked(mm);
	leaf->migrating = false;
	vma = find_vma(mm, addr);
	if (!vma || vma->vm_start > addr)
		return false;
	addr &= PAGE_MASK;
	for (look = 0; look < RV_LOOKS; look++) {
		at = addr;
		if (rv_next_leaf(mm, &at, addr + PAGE_SIZE, leaf))
			return true;
	}
	return false;
}

/**
 * rv_lookup_pfn() - the page that a process maps at an address
 * @pid: the process, as the current task's pid namespace numbers it
 * @addr: the virtual address, in bytes
 * @pfn: set to the page frame number
 *
 * Never faults a page in.
 *
 * Context: Process context, may sleep.  Takes mmap_lock for read.
 * Return: 0, -ESRCH, -EFAULT if no page is mapped there, -EAGAIN if it is just
 * being migrated, or -EINTR.
 */
int rv_lookup_pfn(pid_t pid, u64 addr, u64 *pfn)
{
	struct mm_struct *mm = rv_lookup_mm(pid);
	struct rv_leaf leaf;
	int err;

	if (IS_ERR(mm))
		return PTR_ERR(mm);
	if (!mm)
		return -EFAULT;
	err = mmap_read_lock_killable(mm);
	if (!err) {
		if (rv_lookup_leaf(mm, addr, &leaf))
			*pfn = leaf.pfn + ((addr - leaf.addr) >> PAGE_SHIFT);
		else
			err = leaf.migrating ? -EAGAIN : -EFAULT;
		mmap_read_unlock(mm);
	}
	rv_put_mm(mm);
	return err;
}
