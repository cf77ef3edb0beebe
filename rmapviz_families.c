// SPDX-License-Identifier: GPL-2.0
/*
 * Every family of anon_vmas on the machine, one after the other.
 *
 * A family is told at one VMA, the first in the tree of its root: whoever goes
 * through the VMAs of all processes comes to that one once, and no list of what
 * was told is needed.  What is counted of a family is counted below its root's
 * lock; the only memory that takes is a record for each process that has a part
 * in it.
 *
 * The offset is a pid.  As for "pid PID", mmap_lock is given up when somebody
 * waits for it, and the processes of a shared address space are one: that with
 * the lowest pid.
 */
#include <linux/idr.h>
#include <linux/lockdep.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "rmapviz.h"
#include "rmapviz_collect.h"
#include "rmapviz_compat.h"
#include "rmapviz_lines.h"
#include "rmapviz_listing.h"

/* Room for processes, before it is known how many a family has. */
#define RV_FAMILY_FIRST 64

/* A process that has a part in a family. */
struct rv_share {
	struct rv_key key;	       /* its mm */
	const struct anon_vma *reused; /* what fork has given to a child */
	u32 vmas;
	u64 fork_bytes;
};

/**
 * struct rv_families - where a listing is, and what it needs for a family
 * @addr: the address from which VMAs of the current process are still to be seen
 * @shares: struct rv_share, by mm
 * @line: the family
 */
struct rv_families {
	unsigned long addr;
	struct rv_table shares;
	struct rv_family_line line;
};

/* ------------------------------------------------------------- one family -- */

/* Levels between an anon_vma and the root. */
static u32 rv_level_of(const struct anon_vma *av)
{
	u32 level = 0;

	for (; av->parent != av && level < RV_AVCS_MAX; av = av->parent)
		level++;
	return level;
}

/*
 * Would fork give this anon_vma to the child, rather than make one?
 * anon_vma_clone() of mm/rmap.c.
 */
static bool rv_is_reusable(const struct anon_vma *av)
{
	return av->num_children < 2 && !av->num_active_vmas;
}

/* The AVCs of a VMA, and the anon_vmas that are noted by them. */
static u32 rv_count_avcs(struct rv_family_line *line,
			 struct vm_area_struct *vma)
{
	const struct anon_vma_chain *avc;
	u32 n;

	rv_for_each_avc(avc, n, vma) {
		if (!rv_is_first_of_av(avc))
			continue;
		line->avs++;
		line->depth = max(line->depth, rv_level_of(avc->anon_vma));
	}
	line->avcs += n;
	return n;
}

/*
 * The anon_vma that fork would reuse for a VMA, or NULL: the oldest that nobody
 * else has got, so the last on the list.
 */
static const struct anon_vma *rv_reused_av(struct vm_area_struct *vma,
					   const struct anon_vma *taken)
{
	const struct anon_vma *reused = NULL;
	const struct anon_vma_chain *avc;
	u32 n;

	rv_for_each_avc(avc, n, vma)
		if (avc->anon_vma != taken && rv_is_reusable(avc->anon_vma))
			reused = avc->anon_vma;
	return reused;
}

/*
 * What fork would allocate for a VMA: one AVC for each that it has, and an
 * anon_vma with one of its own, unless it reuses one (anon_vma_fork()).
 */
static void rv_count_fork(struct rv_share *share, struct vm_area_struct *vma,
			  u32 avcs)
{
	const struct anon_vma *reused;

	if (vma->vm_flags & (VM_DONTCOPY | VM_WIPEONFORK))
		return;
	reused = rv_reused_av(vma, share->reused);
	share->fork_bytes += avcs * sizeof(struct anon_vma_chain);
	if (reused)
		share->reused = reused;
	else
		share->fork_bytes +=
			sizeof(struct anon_vma) + sizeof(struct anon_vma_chain);
}

static void rv_count_vma(struct rv_families *f, struct vm_area_struct *vma)
{
	u32 avcs = rv_count_avcs(&f->line, vma);
	struct rv_share *share;
	bool added;

	f->line.vmas++;
	share = (struct rv_share *)rv_table_find_or_add(
		&f->shares, (unsigned long)vma->vm_mm, RV_NONE, &added);
	if (!share)
		return;
	if (added)
		*share = (struct rv_share){ .key = share->key };
	share->vmas++;
	rv_count_fork(share, vma, avcs);
}

/* The root's lock is held for read. */
static void rv_count_family(struct rv_families *f, struct anon_vma *root)
{
	struct rb_node *node;

	lockdep_assert_held(&root->rwsem);
	for (node = rb_first_cached(&root->rb_root);
	     node && !fatal_signal_pending(current); node = rb_next(node)) {
		rv_count_vma(f, rb_entry(node, struct anon_vma_chain, rb)->vma);
		if (f->line.vmas % RV_RECORD_TURN == 0)
			cond_resched();
	}
}

/* What is known when all is counted. */
static void rv_sum_family_up(struct rv_families *f)
{
	struct rv_family_line *line = &f->line;
	const struct rv_share *share;
	u32 most = 0;

	line->processes = f->shares.len;
	line->bytes = line->avs * sizeof(struct anon_vma) +
		      line->avcs * sizeof(struct anon_vma_chain);
	rv_for_each_in(share, &f->shares) {
		if (share->vmas <= most)
			continue;
		most = share->vmas;
		line->fork_bytes = share->fork_bytes;
	}
}

static void rv_forget_shares(struct rv_families *f)
{
	struct rv_table *t = &f->shares;

	if (!t->len && !t->lost)
		return;
	t->len = 0;
	t->lost = 0;
	memset(t->slot, 0, (t->slot_mask + 1) * sizeof(*t->slot));
}

/*
 * The family of a VMA, if it is to be told there; mmap_lock keeps the VMA, and so
 * the root.  1, 0, -EINTR, or -ENOBUFS if there are more processes than room.
 */
static int rv_tell_family(struct rv_families *f, struct vm_area_struct *vma)
{
	struct anon_vma *av = READ_ONCE(vma->anon_vma), *root;
	struct rb_node *first;
	int told = 0;

	rv_assert_mmap_locked(vma->vm_mm);
	if (!av)
		return 0;
	root = av->root;
	rv_forget_shares(f);
	if (down_read_killable(&root->rwsem))
		return -EINTR;
	first = rb_first_cached(&root->rb_root);
	if (first && rb_entry(first, struct anon_vma_chain, rb)->vma == vma) {
		memset(&f->line, 0, sizeof(f->line));
		f->line.family = rv_listing_id((unsigned long)root);
		rv_count_family(f, root);
		told = 1;
	}
	up_read(&root->rwsem);
	if (told && f->shares.lost)
		return -ENOBUFS;
	return told;
}

/* ------------------------------------------------------------ one process -- */

/* The next VMA that a family is told at, from @addr on.  1, 0 or an error. */
static int rv_tell_locked_mm(struct rv_families *f, struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	int told;

	rv_assert_mmap_locked(mm);
	while ((vma = find_vma(mm, f->addr))) {
		told = rv_tell_family(f, vma);
		if (told < 0)
			return told;
		f->addr = vma->vm_end;
		if (told)
			return told;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (rwsem_is_contended(&mm->mmap_lock))
			return 0;
		cond_resched();
	}
	f->addr = ULONG_MAX;
	return 0;
}

/*
 * Room for all processes: those who found none have about as many VMAs each as
 * those who did.
 */
static int rv_grow_shares(struct rv_families *f)
{
	struct rv_table *t = &f->shares;
	u32 found = max(f->line.vmas - t->lost, 1U);

	t->lost = max_t(u64, t->len, div_u64((u64)t->lost * t->len, found));
	return rv_table_grow(t) ? -ENOMEM : 0;
}

/* The same until somebody waits for mmap_lock, with room for all processes. */
static int rv_tell_mm_for_a_turn(struct rv_families *f, struct mm_struct *mm)
{
	int told = mmap_read_lock_killable(mm);

	if (told)
		return told;
	told = rv_tell_locked_mm(f, mm);
	mmap_read_unlock(mm);
	if (told == -ENOBUFS)
		return rv_grow_shares(f);
	rv_let_waiters_in(!told && f->addr != ULONG_MAX);
	return told;
}

static int rv_tell_mm(struct rv_families *f, struct mm_struct *mm)
{
	int told = 0;

	while (!told && f->addr != ULONG_MAX) {
		/* Nobody but us is left: let it go. */
		if (atomic_read(&mm->mm_users) == 1)
			break;
		told = rv_tell_mm_for_a_turn(f, mm);
	}
	return told;
}

/* A look for processes with a lower pid that use the same mm. */
struct rv_first_user {
	struct rv_process_visitor visitor;
	const struct mm_struct *mm;
	struct pid_namespace *ns;
	pid_t pid;
	bool first;
};

static void rv_first_user_start(struct rv_process_visitor *v)
{
	container_of(v, struct rv_first_user, visitor)->first = true;
}

static bool rv_first_user_visit(struct rv_process_visitor *v,
				struct task_struct *leader)
{
	struct rv_first_user *look =
		container_of(v, struct rv_first_user, visitor);
	pid_t pid = task_tgid_nr_ns(leader, look->ns);
	u32 users;

	if (pid && pid < look->pid &&
	    rv_mm_of_process(leader, &users) == look->mm)
		look->first = false;
	return look->first;
}

/* Threads of one process share an mm, and seldom others do; 1, 0 or an error. */
static int rv_is_first_user(const struct mm_struct *mm, pid_t pid, u32 threads)
{
	struct rv_first_user look = {
		.visitor = { rv_first_user_start, rv_first_user_visit },
		.mm = mm,
		.ns = task_active_pid_ns(current),
		.pid = pid,
	};
	int err;

	/* One user more are we. */
	if (atomic_read(&mm->mm_users) <= threads + 1)
		return 1;
	err = rv_visit_processes(&look.visitor);
	/* Where processes come and go too fast, rather twice than never. */
	return err == -EAGAIN ? 1 : err ?: look.first;
}

/* Which process that is: its pid, its name, how many threads use its mm. */
static u32 rv_note_process(struct rv_family_line *line, pid_t pid)
{
	struct task_struct *leader;
	u32 threads = 0;

	line->pid = pid;
	line->comm[0] = '\0';
	rcu_read_lock();
	leader = pid_task(find_vpid(pid), PIDTYPE_TGID);
	if (leader) {
		rv_mm_of_process(leader, &threads);
		memcpy(line->comm, leader->comm, sizeof(line->comm));
		line->comm[sizeof(line->comm) - 1] = '\0';
	}
	rcu_read_unlock();
	return threads;
}

/* Room for some; growing leaves none where it fails. */
static int rv_reserve_shares(struct rv_families *f)
{
	if (f->shares.slot)
		return 0;
	return rv_table_reserve(&f->shares, RV_FAMILY_FIRST) ?:
		       rv_table_reserve_slots(&f->shares);
}

/* The next family that is told at a VMA of the process.  1, 0 or an error. */
static int rv_tell_process(struct rv_families *f, pid_t pid)
{
	struct rv_family_line who;
	struct mm_struct *mm;
	int told;

	if (rv_reserve_shares(f))
		return -ENOMEM;
	mm = rv_lookup_mm(pid);
	if (IS_ERR_OR_NULL(mm))
		return 0;
	told = rv_is_first_user(mm, pid, rv_note_process(&who, pid));
	if (told == 1)
		told = rv_tell_mm(f, mm);
	rv_put_mm(mm);
	if (told != 1)
		return told;
	f->line.pid = who.pid;
	memcpy(f->line.comm, who.comm, sizeof(who.comm));
	rv_sum_family_up(f);
	return 1;
}

/* ----------------------------------------------------------- all processes -- */

/* The first process from a pid on, as the asker's namespace numbers it, or 0. */
static pid_t rv_next_pid(pid_t from)
{
	struct pid_namespace *ns = task_active_pid_ns(current);
	int nr = from;
	bool leads;
	void *pid;

	for (;; nr++) {
		rcu_read_lock();
		pid = idr_get_next(&ns->idr, &nr);
		leads = pid && pid_task(pid, PIDTYPE_TGID);
		rcu_read_unlock();
		if (!pid || leads)
			return pid ? nr : 0;
		/* A process may have very many threads. */
		cond_resched();
	}
}

/* All of the process at @next; then on to the next one. */
static int rv_tell_next(struct rv_listing *l)
{
	struct rv_families *f = l->data;
	pid_t pid;
	int told;

	while (l->next < PID_MAX_LIMIT) {
		pid = rv_next_pid(l->next);
		if (!pid)
			return 0;
		if (pid != l->next)
			f->addr = 0;
		l->next = pid;
		told = rv_tell_process(f, pid);
		if (told)
			return told;
		l->next = pid + 1;
		f->addr = 0;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static int rv_family_line(struct rv_listing *l, struct rv_emit *e)
{
	struct rv_families *f = l->data;
	int told;

	if (!l->next) {
		rv_print_family_heading(e);
		l->next = 1;
		return 1;
	}
	told = rv_tell_next(l);
	if (told == 1)
		rv_print_family_line(e, &f->line);
	return told;
}

static void rv_families_rewind(struct rv_listing *l)
{
	((struct rv_families *)l->data)->addr = 0;
}

static void rv_families_end(struct rv_listing *l)
{
	struct rv_families *f = l->data;

	rv_table_free(&f->shares);
	kfree(f);
}

static int rv_families_start(struct rv_listing *l)
{
	struct rv_families *f = kzalloc(sizeof(*f), RV_GFP);

	if (!f)
		return -ENOMEM;
	l->data = f;
	rv_table_init(&f->shares, sizeof(struct rv_share));
	if (!rv_reserve_shares(f))
		return 0;
	rv_families_end(l);
	return -ENOMEM;
}

const struct rv_listing_ops rv_families_ops = {
	.start = rv_families_start,
	.line = rv_family_line,
	.rewind = rv_families_rewind,
	.end = rv_families_end,
};
