// SPDX-License-Identifier: GPL-2.0
/*
 * From a process and a virtual address forward to the page.
 */
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>

#include "rmapviz.h"
#include "rmapviz_compat.h"

/* Looks at an entry that may be just being changed. */
#define RV_LOOKS 3

/**
 * rv_lookup_mm() - the address space of a process
 * @pid: the process, as the current task's pid namespace numbers it
 *
 * Context: Process context, may sleep.
 * Return: the mm, to be dropped with mmput(); NULL for a kernel thread or a
 * process that has left its address space; ERR_PTR(-ESRCH).
 */
struct mm_struct *rv_lookup_mm(pid_t pid)
{
	struct task_struct *task;
	struct mm_struct *mm;

	rcu_read_lock();
	task = get_pid_task(find_vpid(pid), PIDTYPE_PID);
	rcu_read_unlock();
	if (!task)
		return ERR_PTR(-ESRCH);
	mm = get_task_mm(task);
	put_task_struct(task);
	return mm;
}

/*
 * With interrupts off no page table can be freed, as in perf_get_pgtable_size()
 * of kernel/events/core.c.  Nothing is locked: the answer may be old when it is
 * read, and whoever uses the PFN pins the page and rechecks.
 */
static bool rv_lookup_entry(struct mm_struct *mm, unsigned long addr, u64 *pfn)
{
	pgd_t pgd, *pgdp = pgd_offset(mm, addr);
	p4d_t p4d, *p4dp;
	pud_t pud, *pudp;
	pmd_t pmd, *pmdp;
	pte_t pte;

	pgd = READ_ONCE(*pgdp);
	if (pgd_none(pgd))
		return false;
	p4dp = p4d_offset(pgdp, addr);
	p4d = READ_ONCE(*p4dp);
	if (!p4d_present(p4d))
		return false;

	pudp = pud_offset(p4dp, addr);
	pud = READ_ONCE(*pudp);
	if (!pud_present(pud))
		return false;
	if (pud_leaf(pud)) {
		*pfn = pud_pfn(pud) + ((addr & ~PUD_MASK) >> PAGE_SHIFT);
		return true;
	}

	pmdp = pmd_offset(pudp, addr);
	pmd = READ_ONCE(*pmdp);
	if (!pmd_present(pmd))
		return false;
	if (pmd_leaf(pmd)) {
		*pfn = pmd_pfn(pmd) + ((addr & ~PMD_MASK) >> PAGE_SHIFT);
		return true;
	}

	pte = READ_ONCE(*pte_offset_kernel(&pmd, addr));
	if (!pte_present(pte))
		return false;
	*pfn = pte_pfn(pte);
	return true;
}

static bool rv_lookup_locked(struct mm_struct *mm, unsigned long addr, u64 *pfn)
{
	struct vm_area_struct *vma = find_vma(mm, addr);
	bool found = false;
	int look;

	if (!vma || vma->vm_start > addr)
		return false;
	for (look = 0; look < RV_LOOKS && !found; look++) {
		local_irq_disable();
		found = rv_lookup_entry(mm, addr, pfn);
		local_irq_enable();
	}
	return found;
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
 * Return: 0, -ESRCH, -EFAULT if no page is mapped there, or -EINTR.
 */
int rv_lookup_pfn(pid_t pid, u64 addr, u64 *pfn)
{
	struct mm_struct *mm = rv_lookup_mm(pid);
	int err;

	if (IS_ERR(mm))
		return PTR_ERR(mm);
	if (!mm)
		return -EFAULT;
	err = mmap_read_lock_killable(mm);
	if (!err) {
		if (!rv_lookup_locked(mm, addr, pfn))
			err = -EFAULT;
		mmap_read_unlock(mm);
	}
	mmput(mm);
	return err;
}
