/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The records: a query, and the snapshot that answers it.
 *
 * A snapshot is integers and bounded strings that refer to one another by
 * index.  The kernel addresses in it are names for objects, for the user who
 * asked for them; nobody dereferences one after the lock that protected the
 * object is gone, except the mms and files, and the inode and super block of the
 * page, on which rv_snap holds references until their names are known.
 *
 * Everyone may include this; it declares nothing that touches the kernel.
 */
#ifndef RMAPVIZ_SNAP_H
#define RMAPVIZ_SNAP_H

#include <linux/bits.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/sched.h>
#include <linux/types.h>

struct inode;
struct super_block;

/* The longest query, without the terminating NUL but with the newline. */
#define RV_QUERY_MAX 127

/* No report has more sections. */
#define RV_SECTIONS_MAX 20

/* "No such record", where a record refers to another by index. */
#define RV_NONE U32_MAX

/* -------------------------------------------------------------- query -- */

enum rv_target {
	RV_TARGET_NONE,	    /* nothing was asked yet */
	RV_TARGET_PFN,	    /* PFN | pfn PFN | phys ADDR */
	RV_TARGET_PID_ADDR, /* pid PID ADDR */
	RV_TARGET_PID,	    /* pid PID */
};

#define RV_OPT_TEXT   BIT(0)
#define RV_OPT_JSON   BIT(1)
#define RV_OPT_FOLIO  BIT(2)
#define RV_OPT_BRIEF  BIT(3)
#define RV_OPT_PTRS   BIT(4)
#define RV_OPT_VERIFY BIT(5)
#define RV_OPT_FULL   BIT(6)

/**
 * struct rv_query - one parsed question
 * @target: what is asked for
 * @pfn: the page frame number, for RV_TARGET_PFN
 * @pid: the process as the asking task's pid namespace numbers it
 * @addr: the virtual address in bytes, for RV_TARGET_PID_ADDR
 * @opts: RV_OPT_* bits
 * @text: the question as it was written, without surrounding blanks
 */
struct rv_query {
	enum rv_target target;
	u64 pfn;
	pid_t pid;
	u64 addr;
	unsigned int opts;
	char text[RV_QUERY_MAX + 1];
};

/* ----------------------------------------------------------- snapshot -- */

/**
 * struct rv_table - records, with room for more
 * @rec: the records
 * @slot: hash of the records' keys: index + 1, or 0; NULL if nothing is looked
 *	up
 * @slot_mask: slots there are, less one: a power of two, at least twice @cap
 * @size: bytes of one record
 * @len: records in use
 * @cap: records there is room for
 * @lost: records that found no room
 */
struct rv_table {
	void *rec;
	u32 *slot;
	u32 slot_mask;
	u32 size;
	u32 len;
	u32 cap;
	u32 lost;
};

/**
 * struct rv_key - first member of a record that stands for a kernel object
 * @ptr: the object's address
 * @family: the locked family it was seen in, an index into RV_ROOTS; an address
 *	may name another object once that lock was dropped
 * @id: its own index, kept while records are put in order
 */
struct rv_key {
	unsigned long ptr;
	u32 family;
	u32 id;
};

/**
 * struct rv_family - one family of anon_vmas, everything below one root
 * @key: the root, by its address
 * @root: the same by its index
 * @avs: anon_vmas
 * @avcs: AVCs of the VMAs
 * @vmas: VMAs whose own anon_vma is one of them
 * @processes: processes that have these VMAs
 * @depth: levels below the root
 * @largest: VMAs in the largest of their trees
 * @first_asked: the first VMA of the process asked about
 * @asked: how many it has
 *
 * What is not its key is known for RV_TARGET_PID, when all is in order.
 */
struct rv_family {
	struct rv_key key;
	u32 root;
	u32 avs;
	u32 avcs;
	u32 vmas;
	u32 processes;
	u32 depth;
	u32 largest;
	u32 first_asked;
	u32 asked;
};

/* One anon_vma.  Its root and parent are of the same family. */
struct rv_av {
	struct rv_key key;
	unsigned long parent_ptr;
	u32 children;	 /* num_children: a root counts itself */
	u32 active_vmas; /* VMAs whose ->anon_vma it is */
	u32 refcount;
	u32 root;
	u32 parent;
	u32 level;	 /* 0 for a root */
	u32 vmas;	 /* VMAs in its tree */
	u32 first_child; /* the others follow it */
	u32 at_line;	 /* the anon_vma on this line of the drawn tree */
	bool on_page;	 /* page->mapping points here */
	bool last_child; /* of its parent, for drawing */
};

/* One anon_vma_chain: it joins a VMA to an anon_vma. */
struct rv_avc {
	unsigned long ptr;
	unsigned long av_ptr;
	u32 av;
	u32 vma;
};

/* One address space. */
struct rv_mm {
	struct rv_key key;
	pid_t pid; /* 0 where the reader's namespace sees none */
	u32 first_task;
	u32 nr_tasks;
	u32 users;   /* threads that were found to use it */
	u32 counted; /* families whose processes were counted, up to its last */
	bool named;  /* all that use it were found */
	bool mapped; /* it maps a page asked for */
	bool held;   /* a reference on it is */
	char comm[TASK_COMM_LEN];
};

/* One process that uses an mm. */
struct rv_task {
	u32 mm;
	pid_t pid;
};

/* One open file behind VMAs. */
struct rv_file {
	struct rv_key key;
	char *name;
};

enum rv_area {
	RV_AREA_PLAIN,
	RV_AREA_FILE,
	RV_AREA_HEAP,
	RV_AREA_STACK,
};

/* One VMA. */
struct rv_vma {
	struct rv_key key;
	unsigned long av_ptr;
	unsigned long mm_ptr;
	unsigned long file_ptr;
	unsigned long vm_flags;
	u64 start;
	u64 end;
	u64 pgoff;
	u32 mm;
	u32 file;
	u32 av; /* its own anon_vma */
	u32 first_avc;
	u32 nr_avcs;
	u8 area : 2;	 /* enum rv_area */
	u8 in_range : 1; /* it has the offset of a page asked for in an anon_vma */
	u8 keeps : 4;	 /* RV_REASON_* for which its entries would stay */
	bool visited;	 /* the rmap walk called back for it */
	bool found;	 /* and found a page of the folio there */
	bool mapped;	 /* and one that was asked for */
};

enum rv_level {
	RV_LEVEL_PTE,
	RV_LEVEL_PMD,
	RV_LEVEL_PUD,
};

#define RV_PTE_PRESENT	  BIT(0)
#define RV_PTE_WRITE	  BIT(1)
#define RV_PTE_USER	  BIT(2)
#define RV_PTE_ACCESSED	  BIT(3)
#define RV_PTE_DIRTY	  BIT(4)
#define RV_PTE_NX	  BIT(5)
#define RV_PTE_SOFT_DIRTY BIT(6)
#define RV_PTE_UFFD_WP	  BIT(7)
#define RV_PTE_SPECIAL	  BIT(8)
#define RV_PTE_PROTNONE	  BIT(9)

/* One page-table entry that maps a page asked for. */
struct rv_pte {
	u64 addr; /* where that page appears, in bytes */
	u64 value;
	u64 pfn;
	u32 vma;
	u32 pages; /* that it stands for, from pfn on */
	u16 flags; /* RV_PTE_* */
	u8 level;  /* enum rv_level */
	u8 pkey;
};

enum rv_kind {
	RV_KIND_ANON,
	RV_KIND_KSM,
	RV_KIND_FILE,
	RV_KIND_SHMEM,
	RV_KIND_HUGETLB,
	RV_KIND_ZERO,
	RV_KIND_FREE,
	RV_KIND_SLAB,
	RV_KIND_PAGETABLE,
	RV_KIND_RESERVED,
	RV_KIND_MOVABLE,
	RV_KIND_OFFLINE,
	RV_KIND_DEVICE,
	RV_KIND_OTHER,
	RV_NR_KINDS,
};

/* Does rmap map pages of this kind, so that counts mean something? */
static inline bool rv_kind_mapped(enum rv_kind kind)
{
	return kind <= RV_KIND_HUGETLB;
}

enum rv_mapping {
	RV_MAPPING_NONE,
	RV_MAPPING_ANON_VMA,
	RV_MAPPING_KSM,
	RV_MAPPING_FILE,
	RV_NR_MAPPINGS,
};

/**
 * struct rv_page - what the page is, apart from who maps it
 * @pfn: the page asked for
 * @head: the first page of its folio
 * @ptr: address of its struct page
 * @mapping_ptr: what ->mapping points to, without its low bits
 * @mapping_word: its folio's ->mapping, with them
 * @flags: the folio's flags word, but for what @exclusive and @swapcache say
 * @index: the page's offset in its object, in pages
 * @mapcount: page-table entries that map this page
 * @raw_mapcount: its _mapcount, from -1 on and of large folios not the whole
 * @folio_mapcount: page-table entries that map any page of the folio
 * @refcount: references to the folio, less the query's own
 * @expected_refs: references explained by mappings, caches and LRU batches
 * @dma_pins: times that it was pinned for DMA (FOLL_PIN)
 * @pin_refs: references that each of these took
 * @extra_refs: references that nothing explains
 * @order: the folio has 1 << order pages
 * @kind: enum rv_kind
 * @mapping: enum rv_mapping
 * @exclusive: anonymous, and of one process alone (PageAnonExclusive())
 * @swapcache: it is in the swap cache
 * @movable_ops: rmap maps no such page, but its driver can migrate it
 */
struct rv_page {
	u64 pfn;
	u64 head;
	unsigned long ptr;
	unsigned long mapping_ptr;
	unsigned long mapping_word;
	unsigned long flags;
	u64 index;
	s64 mapcount;
	s64 raw_mapcount;
	s64 folio_mapcount;
	s64 refcount;
	s64 expected_refs;
	s64 dma_pins;
	s64 extra_refs;
	u16 pin_refs;
	u8 order;
	u8 kind;
	u8 mapping;
	bool exclusive;
	bool swapcache;
	bool movable_ops;
};

enum rv_outcome {
	RV_SWAP_SUCCESS,
	RV_SWAP_AGAIN,
	RV_SWAP_FAIL,
};

#define RV_REASON_MLOCKED     BIT(0)
#define RV_REASON_UNEVICTABLE BIT(1)
#define RV_REASON_REFERENCED  BIT(2)
#define RV_REASON_PINNED      BIT(3)
#define RV_REASON_NO_SWAP     BIT(4)
#define RV_REASON_HUGETLB     BIT(5)
#define RV_REASON_WRITEBACK   BIT(6)
#define RV_REASON_LOCKED      BIT(7)
#define RV_REASON_MISSED      BIT(8)
#define RV_REASON_DIRTY	      BIT(9)

/**
 * struct rv_reclaim - a dry run of try_to_unmap()
 * @found: page-table entries that map any page of the folio
 * @mlocked: one of them is in a VMA that is locked in memory
 * @young: one of them was accessed lately, in a VMA where that counts
 * @dirty: one of them is dirty
 * @swap_free: free swap slots, all over the system
 * @outcome: enum rv_outcome
 * @reasons: RV_REASON_*
 */
struct rv_reclaim {
	u32 found;
	bool mlocked;
	bool young;
	bool dirty;
	long swap_free;
	u8 outcome;
	u16 reasons;
};

enum rv_verdict {
	RV_MOVES,
	RV_MOVES_NOT_NOW,
	RV_MOVES_NEVER,
};

#define RV_STAYS_EXTRA_REFS  BIT(0)
#define RV_STAYS_DMA_PINS    BIT(1)
#define RV_STAYS_WRITEBACK   BIT(2)
#define RV_STAYS_LOCKED	     BIT(3)
#define RV_STAYS_UNEVICTABLE BIT(4)
#define RV_STAYS_MISSED	     BIT(5)
#define RV_STAYS_UNMAPPED    BIT(6)
#define RV_STAYS_UNMOVABLE   BIT(7)

/**
 * struct rv_migrate - would its folio be migrated?
 * @verdict: enum rv_verdict
 * @reasons: RV_STAYS_*
 */
struct rv_migrate {
	u8 verdict;
	u8 reasons;
};

/* A mapping on which the walk and a scan of all memory disagree. */
struct rv_mismatch {
	unsigned long mm_ptr;
	u64 addr;
	u32 mm;
	bool confirmed; /* a second look saw what the scan saw */
};

/**
 * struct rv_scan_result - a scan of all memory for the page
 * @mms: address spaces looked at
 * @vmas: VMAs looked at
 * @entries: present page-table entries looked at
 * @until_last: of these, up to the last one that maps a page asked for
 * @found: of these, entries that map a page asked for
 * @changed: disagreements with the walk that were gone at a second look
 */
struct rv_scan_result {
	u64 mms;
	u64 vmas;
	u64 entries;
	u64 until_last;
	u64 found;
	u64 changed;
};

enum rv_chain_form {
	RV_CHAIN_NONE,
	RV_CHAIN_DIRECT, /* struct page points to the only entry */
	RV_CHAINED,
};

/* Sizes of a cache line, times sizes of a pointer. */
#define RV_CHAIN_LAYOUTS 6

/* The one of a 64-bit kernel on most machines. */
#define RV_CHAIN_USUAL 4
#define RV_CHAIN_LINE  64
#define RV_CHAIN_NRPTE 7

/*
 * Blocks for a page that is mapped so often: all are full but one, and a page
 * that is mapped once needs none (page_add_rmap() of mm/rmap.c, 2.6.0).
 */
static inline u64 rv_chain_blocks_of(u64 mappings, u32 nrpte)
{
	return mappings > 1 ? DIV_ROUND_UP(mappings, nrpte) : 0;
}

static inline u64 rv_chain_blocks(u64 mappings)
{
	return rv_chain_blocks_of(mappings, RV_CHAIN_NRPTE);
}

/**
 * struct rv_chain_layout - pte_chains of one geometry
 * @line: bytes of a block, which is a cache line
 * @pointer: bytes of a pointer
 * @nrpte: entries in a block, NRPTE of 2.6.0
 * @blocks: blocks there would be
 * @fork_blocks: blocks more, if everybody who maps the pages forked once
 */
struct rv_chain_layout {
	u8 line;
	u8 pointer;
	u8 nrpte;
	u64 blocks;
	u64 fork_blocks;
};

/**
 * struct rv_history - what each era would have had to find the mappings by
 * @layouts: pte_chains of 2.6.0, by geometry
 * @ptes: entries that these would point to
 * @form: enum rv_chain_form, the highest that any page would have
 * @list: VMAs on the list of 2.6.11
 * @in_range: of these, VMAs that have the offset of a page asked for
 * @objrmap_bytes: what the heads of such lists take
 * @av_avc_bytes: what anon_vmas and AVCs take
 */
struct rv_history {
	struct rv_chain_layout layouts[RV_CHAIN_LAYOUTS];
	u64 ptes;
	u8 form;
	u32 list;
	u32 in_range;
	u64 objrmap_bytes;
	u64 av_avc_bytes;
};

/* The tables of a snapshot: what each holds, and in which order at last. */
enum rv_table_id {
	RV_ROOTS,   /* struct rv_family: a root's index is the family's id */
	RV_AVS,	    /* struct rv_av: root first, then by level */
	RV_AVCS,    /* struct rv_avc: by VMA, then by anon_vma */
	RV_MMS,	    /* struct rv_mm */
	RV_TASKS,   /* struct rv_task: by mm */
	RV_FILES,   /* struct rv_file */
	RV_VMAS,    /* struct rv_vma: by own anon_vma, mm and address */
	RV_PTES,    /* struct rv_pte: by VMA, then by address */
	RV_MISSING, /* struct rv_mismatch: found by a scan and not by the walk */
	RV_EXTRA, /* struct rv_mismatch: found by the walk and not by a scan */
	RV_NR_TABLES,
};

/**
 * struct rv_snap - one query's answer
 * @query: the question
 * @page: the page; not valid for RV_TARGET_PID
 * @reclaim: would reclaim succeed with its folio?
 * @migrate: would its folio be migrated?
 * @scan: what RV_OPT_VERIFY looked at
 * @history: what each era would have done; NULL if nobody has asked
 * @sb: of @inode, held as long
 * @inode: of the page cache that the page belongs to, or NULL; held until its
 *	name is known
 * @mm_ptr: the mm asked about, for RV_TARGET_PID
 * @root_ptr: the root of the page's family
 * @av_ptr: its anon_vma, if its family is recorded
 * @page_file: what that file is called, or NULL
 * @tables: the records, by enum rv_table_id
 * @section_ends: items of the report up to the end of each of its sections, once
 *	it is prepared
 * @items: of all of them
 * @first_index: offset of the first page asked for in its object, in pages
 * @last_index: of the last one
 * @tree_vmas: VMAs in the tree of the page's anon_vma
 * @visited: callbacks of the rmap walk; of KSM it can call back for a VMA again
 * @mapped: of these, callbacks that found a page asked for
 * @entries: page-table entries that map a page asked for
 * @processes: distinct processes behind those VMAs
 * @keepers: VMAs for which reclaim would leave the folio where it is
 * @first_keeper: the first of these
 * @attempts: passes, of which the last one is told
 * @retries: of these, passes given up because something was contended or moved
 * @grown: of these, passes for which there was too little room
 * @lost: records that found no room
 * @lock_ns: time that rmap locks were held or walked under, in nanoseconds, in
 *	all passes
 * @lock_max_ns: the longest at a time
 * @endless_chains: lists of AVCs that had no end; they count as lost
 * @full: a record found no room in this pass
 * @take_what_fits: there can be no more room, so go on without
 * @lookup_vmas: VMAs are looked up while they are recorded, for they are met
 *	in no order
 * @treeless: an anon_vma was met that has no VMA in its tree yet
 * @has_files: a VMA was met that has a file
 * @inconsistent: an object recorded earlier was another one when it was met
 *	again
 * @interned: references are held by mm and by file, no more by VMA
 * @holds_mms: some are still held by mm
 */
struct rv_snap {
	struct rv_query query;
	struct rv_page page;
	struct rv_reclaim reclaim;
	struct rv_migrate migrate;
	struct rv_scan_result scan;
	struct rv_history *history;
	struct super_block *sb;
	struct inode *inode;
	unsigned long mm_ptr;
	unsigned long root_ptr;
	unsigned long av_ptr;
	char *page_file;
	struct rv_table tables[RV_NR_TABLES];
	u32 section_ends[RV_SECTIONS_MAX];
	u32 items;
	u64 first_index;
	u64 last_index;
	u32 tree_vmas;
	u32 visited;
	u32 mapped;
	u32 entries;
	u32 processes;
	u32 keepers;
	u32 first_keeper;
	u32 attempts;
	u32 retries;
	u32 grown;
	u64 lost;
	u64 lock_ns;
	u64 lock_max_ns;
	u64 endless_chains;
	bool full;
	bool take_what_fits;
	bool lookup_vmas;
	bool treeless;
	bool has_files;
	bool inconsistent;
	bool interned;
	bool holds_mms;
};

/* ----------------------------------------------------------- listings -- */

/* An id of a family, in hex. */
#define RV_ID_DIGITS 16

/**
 * struct rv_survey_line - one mapped folio
 * @page: its first page
 * @walked: the walk was done; if not, somebody else had the folio or a lock
 * @visited: VMAs that it came to
 * @mapped: of these, VMAs that map any page of it
 * @family: RV_ID_DIGITS that stand for the root of its anon_vmas, or for its file;
 *	NULL for none
 * @chain_bytes: what pte_chains would take for its pages
 */
struct rv_survey_line {
	const struct rv_page *page;
	bool walked;
	u32 visited;
	u32 mapped;
	const char *family;
	u64 chain_bytes;
};

/**
 * struct rv_family_line - one family of anon_vmas
 * @family: stands for its root
 * @pid: a process that has a VMA of it
 * @comm: and what that is called
 * @processes: address spaces that have some
 * @vmas: VMAs, all of them in the tree of the root, and below its lock
 * @avs: anon_vmas
 * @avcs: AVCs of the VMAs
 * @depth: levels below the root
 * @bytes: what anon_vmas and AVCs take
 * @fork_bytes: what the next fork of the process with most of the VMAs would add
 */
struct rv_family_line {
	u64 family;
	pid_t pid;
	char comm[TASK_COMM_LEN];
	u32 processes;
	u32 vmas;
	u32 avs;
	u32 avcs;
	u32 depth;
	u64 bytes;
	u64 fork_bytes;
};

/* ------------------------------------------------ records of a snapshot -- */

/* How many records a table has. */
static inline u32 rv_len(const struct rv_snap *s, enum rv_table_id id)
{
	return s->tables[id].len;
}

static inline void *rv_record_at(const struct rv_snap *s, enum rv_table_id id,
				 size_t size, u32 i)
{
	return i == RV_NONE ? NULL : s->tables[id].rec + size * i;
}

#define RV_RECORD_AT(_s, _id, _type, _i) \
	((struct _type *)rv_record_at(_s, _id, sizeof(struct _type), _i))

/* Record @_i of a table, or NULL for RV_NONE. */
#define rv_root_at(_s, _i)    RV_RECORD_AT(_s, RV_ROOTS, rv_family, _i)
#define rv_av_at(_s, _i)      RV_RECORD_AT(_s, RV_AVS, rv_av, _i)
#define rv_avc_at(_s, _i)     RV_RECORD_AT(_s, RV_AVCS, rv_avc, _i)
#define rv_mm_at(_s, _i)      RV_RECORD_AT(_s, RV_MMS, rv_mm, _i)
#define rv_task_at(_s, _i)    RV_RECORD_AT(_s, RV_TASKS, rv_task, _i)
#define rv_file_at(_s, _i)    RV_RECORD_AT(_s, RV_FILES, rv_file, _i)
#define rv_vma_at(_s, _i)     RV_RECORD_AT(_s, RV_VMAS, rv_vma, _i)
#define rv_pte_at(_s, _i)     RV_RECORD_AT(_s, RV_PTES, rv_pte, _i)
#define rv_missing_at(_s, _i) RV_RECORD_AT(_s, RV_MISSING, rv_mismatch, _i)
#define rv_extra_at(_s, _i)   RV_RECORD_AT(_s, RV_EXTRA, rv_mismatch, _i)

/* Does it join a VMA to its own anon_vma?  Else it is a bridge to an ancestor's. */
static inline bool rv_avc_is_own(const struct rv_snap *s,
				 const struct rv_avc *avc)
{
	return avc->av != RV_NONE && avc->vma != RV_NONE &&
	       avc->av == rv_vma_at(s, avc->vma)->av;
}

/* Is the question about more than what the page is, and what its walk costs? */
static inline bool rv_has_history(const struct rv_snap *s)
{
	return (s->query.opts & (RV_OPT_BRIEF | RV_OPT_VERIFY)) != RV_OPT_BRIEF;
}

/* Mappings of the pages asked for that the kernel counts and rmap does not find. */
static inline u64 rv_unreached(const struct rv_snap *s)
{
	s64 counted = s->query.opts & RV_OPT_FOLIO ? s->page.folio_mapcount :
						     s->page.mapcount;

	return max_t(s64, counted - s->entries, 0);
}

/* Every record of a table in turn; those of a snapshot's by its id. */
#define rv_for_each_in(_record, _table)                                \
	for (_record = (_table)->rec;                                  \
	     _record < (typeof(_record))(_table)->rec + (_table)->len; \
	     _record++)
#define rv_for_each(_record, _snap, _id) \
	rv_for_each_in(_record, &(_snap)->tables[_id])

#endif /* RMAPVIZ_SNAP_H */
