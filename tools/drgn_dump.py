#!/usr/bin/env drgn
"""Who maps a physical page, rebuilt from kernel memory alone.

The same report that the module rmapviz gives, but without the module: on a
live kernel, or on a dump of one that can run no module any more.

    drgn -k tools/drgn_dump.py 0x1d2f3
    drgn -c vmcore -s vmlinux tools/drgn_dump.py --text --pid 91 0x7f8c56e29000

It shares no code and no way of computing with the module: the family of an
anon_vma is read from every anon_vma's own tree, and page tables are walked
here.  What takes a measurement is left out: walk.lock_ns, walk.retries,
history.scan.

A live kernel changes while it is read, and nothing is locked.  What was caught
in the middle of a change is an error, or an inconsistent report: ask again.

Runs with drgn 0.0.22 and later.  Layouts of kernel structures are tried, the
newest first; each names the commit that made it.  x86-64 only.

It takes the kernel's debug information: on Debian, linux-image-RELEASE-dbg.
"""

import argparse
import json
import re
import struct
import sys
from collections import Counter
from functools import partial
from hashlib import blake2b
from typing import (Any, Callable, Dict, Iterable, Iterator, List, NamedTuple,
                    Optional, Set, Tuple)

try:
    from drgn import (FaultError, Object, Program,  # type: ignore[import]
                      SymbolBinding, container_of, offsetof, sizeof)
except ImportError:
    print('drgn_dump.py: it runs in drgn, which is not installed: apt-get '
          'install python3-drgn', file=sys.stderr)
    sys.exit(2)
from drgn.helpers.linux.boot import (  # type: ignore[import]
    pgtable_l5_enabled)
from drgn.helpers.linux.list import (  # type: ignore[import]
    hlist_for_each_entry, list_for_each_entry)
from drgn.helpers.linux.mm import pfn_to_page  # type: ignore[import]
from drgn.helpers.linux.pid import find_task  # type: ignore[import]
from drgn.helpers.linux.radixtree import (  # type: ignore[import]
    radix_tree_lookup)
from drgn.helpers.linux.rbtree import (  # type: ignore[import]
    rbtree_inorder_for_each_entry)

Record = Dict[str, Any]

PAGE_SHIFT = 12
PIN_BIAS = 1024     # GUP_PIN_COUNTING_BIAS
PAGE = 1 << PAGE_SHIFT


class Failure(Exception):
    """There is no answer; says why in one line."""


def either(*layouts: Callable[[], Any]) -> Any:
    """What the first layout gives that this kernel has; newest first."""
    for layout in layouts[:-1]:
        try:
            return layout()
        except (AttributeError, LookupError):
            pass
    return layouts[-1]()


def value(obj: Object) -> int:
    """An integer or an address."""
    return int(obj.value_())


def variable(prog: Program, *names: str) -> Optional[int]:
    """The value of the first kernel variable that there is."""
    for name in names:
        try:
            return value(prog[name])
        except KeyError:
            pass
    return None


def text_of(obj: Object) -> str:
    """A string of the kernel's, byte by byte: it may be of any encoding."""
    return str(obj.string_().decode('latin-1'))


# --------------------------------------------------------------- the page --

# Low bits of page->mapping, the same since KSM came: PAGE_MAPPING_ANON,
# PAGE_MAPPING_MOVABLE and both, PAGE_MAPPING_KSM (include/linux/page-flags.h).
MAPPING_BITS = 3
ANON, MOVABLE, KSM = 1, 2, 3

# Kinds of pages that rmap maps.
MAPPED_KINDS = ('anon', 'ksm', 'file', 'shmem', 'hugetlb')

# A block of free pages is not larger, whatever the kernel calls its limit.
MAX_ORDER = 20


def flags_of(page: Object) -> int:
    """The flags word of one struct page."""
    return int(either(
        # 53fbef56e07d ("mm: introduce memdesc_flags_t"), 6.18
        lambda: value(page.flags.f),
        lambda: value(page.flags)))


def at_address(page: Object, address: int) -> Object:
    """The struct page at another address."""
    return Object(page.prog_, page.type_, value=address)


def head_of(page: Object, prog: Program) -> Object:
    """The first page of the folio that a page belongs to."""
    def by_mask() -> int:
        # 8c846c879e22 ("mm: rework compound_head() for power-of-2
        # sizeof(struct page)"), 7.1, where vmemmap of hugetlb is shared; see
        # compound_info_has_mask() in include/linux/page-flags.h
        info = value(page.compound_info)
        if not prog.type('struct zone').has_member('vmemmap_tails'):
            return info - 1 if info & 1 else value(page)
        return value(page) & (info if info & 1 else -1)

    def by_pointer() -> int:
        info = value(page.compound_head)
        if info & 1:
            return info - 1
        # e7d324850bfc ("mm: hugetlb: free the 2nd vmemmap page associated
        # with each HugeTLB page"), 5.18: a tail page can look like a head
        if flags_of(page) & 1 << prog['PG_head'].value_():
            info = value(page[1].compound_head)
        return info - 1 if info & 1 else value(page)

    return at_address(page, either(by_mask, by_pointer))


class Folio:
    """One page and the folio, or compound page, that it belongs to.

    The structure that describes a large folio has changed more than others;
    all that knows it is here.
    """

    def __init__(self, prog: Program, pfn: int) -> None:
        self.prog = prog
        self.pfn = pfn
        self.page = pfn_to_page(prog, pfn)
        self.first = head_of(self.page, prog)
        self.head = pfn - ((value(self.page) - value(self.first))
                           // sizeof(self.page.type_.type))
        self.flags = flags_of(self.first)
        self.refcount = value(self.first._refcount.counter)
        self.mapping = value(self.first.mapping)
        self.large = self.has('head')
        self.pages = self._count() if self.large else 1

    def has(self, flag: str) -> bool:
        """Whether the folio has a flag, by the name of its PG_ constant."""
        return self._has(self.flags, flag)

    def _has(self, flags: int, flag: str) -> bool:
        try:
            return bool(flags >> self.prog['PG_' + flag].value_() & 1)
        except KeyError:
            return False

    def _folio(self) -> Object:
        return Object(self.prog, self.prog.pointer_type(
            self.prog.type('struct folio')), value=value(self.first))

    def _count(self) -> int:
        return int(either(
            # 4996fc547f5b ("mm: let _folio_nr_pages overlay memcg_data in
            # first tail page"), 6.15
            lambda: value(self._folio()._nr_pages),
            # 379708ffde1b ("mm: add the first tail page to struct folio"),
            # 6.1
            lambda: value(self._folio()._folio_nr_pages),
            lambda: value(self.first[1].compound_nr)))

    def type_is(self, page: Object, name: str, bit: int) -> bool:
        """Whether a page is of a type; bit is what told it before 6.12.

        0 stands for a type that there was not.
        """
        def by_number() -> bool:
            # 4ffca5a96678 ("mm: support only one page_type per page"), 6.12
            kind = self.prog['PGTY_' + name].value_()
            return value(page.page_type) >> 24 == int(kind)

        def by_bit() -> bool:
            # PAGE_TYPE_BASE: a bit is clear in a page of that type
            base = 0xf0000000
            return bool(bit) and value(page.page_type) & (base | bit) == base

        return bool(either(by_number, by_bit))

    def has_type(self) -> bool:
        """Whether the folio has a type, and so is nothing that rmap maps."""
        def by_number() -> bool:
            # 4ffca5a96678 ("mm: support only one page_type per page"), 6.12
            last = int(self.prog['PGTY_mapcount_underflow'].value_())
            return 0x80 <= value(self.first.page_type) >> 24 < last

        def by_bit() -> bool:
            # below PAGE_MAPCOUNT_RESERVE
            kind = value(self.first.page_type)
            return kind >= 1 << 31 and kind - (1 << 32) < -128

        return bool(either(by_number, by_bit))

    def hugetlb(self) -> bool:
        """Whether it is a folio of hugetlb."""
        def by_destructor() -> bool:
            # until 9c5ccf2db04b ("mm: remove HUGETLB_PAGE_DTOR"), 6.6
            mark = self.prog['HUGETLB_PAGE_DTOR'].value_()
            return bool(value(self.first[1].compound_dtor) == mark)

        def by_flag() -> bool:
            # until d99e3140a4d3 ("mm: turn folio_test_hugetlb into a
            # PageType"), 6.9 and stable series
            bit = self.prog['PG_hugetlb'].value_()
            return bool(flags_of(self.first[1]) >> bit & 1)

        return self.large and bool(either(
            lambda: value(self.first.page_type) >> 24
            == self.prog['PGTY_hugetlb'].value_(),
            by_destructor, by_flag,
            lambda: self.type_is(self.first, 'hugetlb', 0x800)))

    def swapcache(self) -> bool:
        """Whether it is in the swap cache; the flag means other things too."""
        return self.has('swapbacked') and self.has('swapcache')

    def anonymous(self) -> bool:
        """Whether its mapping is an anon_vma or a KSM node."""
        return bool(self.mapping & ANON)

    def exclusive(self) -> bool:
        """Whether the page is anonymous, and of one process alone."""
        # what one entry maps has it in its first page
        whole = self.large and self._entire()
        page = self.first if whole else self.page
        # 78fbe906cc90 ("mm/page-flags: reuse PG_mappedtodisk as
        # PG_anon_exclusive for PageAnon() pages"), 5.19
        return self._has(flags_of(page), 'anon_exclusive')

    def _entire(self) -> int:
        """Entries that map the folio as a whole."""
        return int(either(
            # 1c5509be58f6 ("mm: remove 'First tail page' members from struct
            # page"), 6.3
            lambda: value(self._folio()._entire_mapcount.counter) + 1,
            lambda: value(self.first[1].compound_mapcount.counter) + 1))

    def _counts_whole(self) -> bool:
        """Whether pages of file folios count what maps the whole folio too.

        And whether a flag says that pages of an anonymous one do: so it was
        until cb67f4282bf9 ("mm,thp,rmap: simplify compound page mapcount
        handling"), 6.2.
        """
        return 'PG_double_map' in self.prog

    def mapcount(self) -> int:
        """Entries that map the page."""
        own = value(self.page._mapcount.counter)
        own = 0 if own < -1 else own + 1    # a type lives there, too
        if not self.large:
            return own
        if not self._counts_whole():
            return own + self._entire()
        if not self.anonymous() and not self.hugetlb():
            return own
        return own + self._entire() - self._double_map()

    def _double_map(self) -> int:
        return int(self._has(flags_of(self.first[1]), 'double_map'))

    def folio_mapcount(self) -> int:
        """Entries that map any page of the folio."""
        if not self.large:
            return self.mapcount()
        return int(either(
            # 05c5323b2a34 ("mm: track mapcount of large folios in single
            # value"), 6.10
            lambda: value(self._folio()._large_mapcount.counter) + 1,
            self._sum_of_mapcounts))

    def _sum_of_mapcounts(self) -> int:
        if self.hugetlb():
            return self._entire()
        pages = sum(value(self.first[i]._mapcount.counter) + 1
                    for i in range(self.pages))
        if not self._counts_whole():
            return pages + self._entire()
        if not self.anonymous():
            return pages + self._entire() * (1 - self.pages)
        return pages + self._entire() - self.pages * self._double_map()

    def huge_units(self) -> bool:
        """Whether hugetlb counts huge pages and not pages, as indices.

        As long as there is a function for it: until a08c7193e4f1
        ("mm/filemap: remove hugetlb special casing in filemap.c"), 6.7.
        """
        return self.hugetlb() and any(
            known(self.prog, name)
            for name in ('hugetlb_basepage_index', '__basepage_index'))

    def index(self) -> int:
        """Offset of the folio in its object, in pages."""
        index = int(either(
            # acc53a0b4c15 ("mm: rename page->index to page->__folio_index"),
            # 6.16
            lambda: value(self.first.member_('__folio_index')),
            lambda: value(self.first.index)))
        return index * self.pages if self.huge_units() else index

    def cached(self) -> bool:
        """Whether it is where its mapping says, in a page cache."""
        if not self.mapping or self.mapping & MAPPING_BITS:
            return False
        if self.hugetlb():
            return True
        try:
            entry = radix_tree_lookup(
                self.first.mapping.i_pages.address_of_(), self.index())
            return value(entry) == value(self.first)
        except (FaultError, ValueError):
            return False    # of a driver that uses the field for its own

    def expected_refs(self) -> int:
        """References that mappings, caches and LRU batches explain.

        As folio_expected_ref_count() of include/linux/mm.h counts them; what
        is on no LRU list is held by a batch on its way to one.
        """
        refs = self.folio_mapcount()
        if self.swapcache():
            refs += self.pages
        elif not self.anonymous() and self.mapping:
            refs += 1 if self.huge_units() else self.pages
        if self.hugetlb():
            return refs
        if not self.anonymous():
            refs += self.has('private')
        return refs + (not self.has('lru'))

    def counts_pins(self) -> bool:
        """Whether FOLL_PIN has a counter of its own, beside one reference."""
        # two pages have room for it since 5232c63f46fd ("mm: Make
        # compound_pincount always available"), 5.18
        def by_folio() -> bool:
            return self.prog.type('struct folio').size > 0 and self.large

        return bool(either(by_folio, lambda: self.pages > 2))

    def pin_refs(self) -> int:
        """References that FOLL_PIN takes."""
        return 1 if self.counts_pins() else PIN_BIAS

    def dma_pins(self, expected: int) -> int:
        """Times that it was pinned for DMA, as folio_maybe_dma_pinned() of
        include/linux/mm.h tells it."""
        if not self.counts_pins():
            return max(self.refcount - expected, 0) // PIN_BIAS
        return int(either(
            # 379708ffde1b ("mm: add the first tail page to struct folio"),
            # 6.1
            lambda: value(self._folio()._pincount.counter),
            # 5232c63f46fd ("mm: Make compound_pincount always available"),
            # 5.18
            lambda: value(self.first[1].compound_pincount.counter),
            lambda: value(self.first[2].hpage_pinned_refcount.counter)))


def known(prog: Program, symbol: str) -> bool:
    """Whether the kernel has a symbol of that name."""
    try:
        prog.symbol(symbol)
        return True
    except LookupError:
        return False


def is_global(prog: Program, symbol: str) -> bool:
    """Whether that is a function of all of the kernel, not one of many
    copies of what is inline."""
    try:
        return bool(prog.symbol(symbol).binding == SymbolBinding.GLOBAL)
    except LookupError:
        return False


def kind_of(folio: Folio) -> str:
    """What kind of page it is."""
    if folio.hugetlb():
        return 'hugetlb'
    if not folio.refcount or folio.has_type() \
            or folio.has('slab') or folio.has('reserved'):
        return unmapped_kind(folio)
    if folio.mapping & MAPPING_BITS == KSM:
        return 'ksm'
    # in the swap cache, not all have a mapping
    if folio.mapping & MAPPING_BITS == ANON \
            or not folio.mapping and folio.swapcache():
        return 'anon'
    if folio.cached():
        return 'shmem' if folio.has('swapbacked') else 'file'
    return unmapped_kind(folio)


def unmapped_kind(folio: Folio) -> str:
    """The kind of a page that rmap knows nothing of."""
    page, zero = folio.page, is_zero(folio)
    if zero:
        return 'zero'
    if folio._has(flags_of(page), 'reserved'):
        return 'reserved'
    if folio.type_is(page, 'offline', 0x100):
        return 'offline'
    # it has been a type, of the first page, and no flag any more, since
    # 46df8e73a4a3 ("mm: free up PG_slab"), 6.10
    if folio.has('slab') or folio.type_is(folio.first, 'slab', 0):
        return 'slab'
    if folio.type_is(page, 'table', 0x200):
        return 'pagetable'
    if is_movable(folio):
        return 'movable'
    return 'free' if is_free(folio) else 'other'


def is_zero(folio: Folio) -> bool:
    """Whether it is a zero page, small or huge."""
    # the pfn was renamed between 6.12 and 7.3; the huge page became a folio
    # with 5691753d73a2 ("mm: convert huge_zero_page to huge_zero_folio"), 6.10
    small = variable(folio.prog, 'zero_page_pfn', 'zero_pfn')
    huge = variable(folio.prog, 'huge_zero_folio', 'huge_zero_page')
    return folio.pfn == small or value(folio.first) == huge


def is_movable(folio: Folio) -> bool:
    """Whether a driver can migrate it."""
    if 'PG_movable_ops' not in folio.prog:
        return folio.mapping & MAPPING_BITS == MOVABLE
    # page_has_movable_ops() of include/linux/page-flags.h, since 6.17
    return folio.has('movable_ops') and (
        folio.type_is(folio.first, 'offline', 0)
        or folio.type_is(folio.first, 'zsmalloc', 0))


def is_free(folio: Folio) -> bool:
    """Whether it is in a free block, or on a CPU's list of free pages."""
    if folio.refcount:
        return False
    for order in range(MAX_ORDER + 1):
        head = folio.pfn & -1 << order
        page = folio.page - (folio.pfn - head)
        if folio.type_is(page, 'buddy', 0x80) \
                and folio.pfn - head < 1 << value(page.private):
            return True
    lru = folio.page.lru
    here = value(lru.address_of_())
    if value(folio.page) != value(folio.first) or folio.mapping \
            or value(lru.next) == here:
        return False        # that one was never on any list
    try:
        return value(lru.next.prev) == here
    except FaultError:
        return False        # poison: it was taken from its list


def flag_names(folio: Folio, mapping: Optional[str]) -> List[str]:
    """Names of the folio's flags, as the kernel prints them by %pGp.

    pageflag_names of mm/debug.c is what that takes them from.  Two bits are
    named after another meaning: these come last.
    """
    flags = folio.flags
    own = [('swapcache', folio.swapcache()),
           ('anon_exclusive', mapping == 'anon_vma')]
    for name, applies in own:
        if applies and 'PG_' + name in folio.prog:
            flags &= ~(1 << folio.prog['PG_' + name].value_())
    names = []
    for entry in folio.prog['pageflag_names']:
        if not entry.name:
            break
        if flags & value(entry.mask):
            names.append(text_of(entry.name))
    if folio.swapcache():
        names.append('swapcache')
    if mapping == 'anon_vma' and folio.exclusive():
        names.append('anon-exclusive')
    return names


# ---------------------------------------------------------- page tables --

# Bits of x86 entries, the same on all levels (arch/x86/include/asm/
# pgtable_types.h); software bits have not moved, but SAVED_DIRTY came with
# shadow stacks, 6.6.  Before, bit 58 was DEVMAP, of no interest here.
PRESENT = 1 << 0
WRITE = 1 << 1
USER = 1 << 2
ACCESSED = 1 << 5
DIRTY = 1 << 6
LEAF = 1 << 7           # above the last level
PROTNONE = 1 << 8       # not present, but mapped
SPECIAL = 1 << 9
UFFD_WP = 1 << 10
SOFT_DIRTY = 1 << 11
SAVED_DIRTY = 1 << 58
PKEY_SHIFT = 59
NX = 1 << 63

LEVELS = {12: 'pte', 21: 'pmd', 30: 'pud'}


class Entry(NamedTuple):
    """A page-table entry that maps something."""

    bits: int
    shift: int      # of the size that it maps
    frame: int      # the first

    @property
    def pages(self) -> int:
        """How many pages it maps."""
        return 1 << (self.shift - PAGE_SHIFT)


class PageTables:
    """A walk from mm.pgd down, as the hardware does it."""

    def __init__(self, prog: Program) -> None:
        self.prog = prog
        self.shifts = [48] if pgtable_l5_enabled(prog) else []
        self.shifts += [39, 30, 21, 12]
        mask = variable(prog, 'physical_mask')      # without the SEV bit
        self.mask = ((1 << 52) - 1 if mask is None else mask) & -PAGE
        # Saved dirty bits came with shadow stacks, and are there also where
        # these are left out; 6.6, when what was inline became a function
        # (arch/x86/mm/pgtable.c).
        self.saves_dirty = any_type(prog, 'struct thread_shstk') \
            or is_global(prog, 'pte_mkwrite')
        self.shadow_stacks = self.saves_dirty and bool(
            value(prog['boot_cpu_data'].x86_capability[16]) >> 7 & 1)

    def _frame(self, bits: int, shift: int) -> int:
        """What frame an entry maps; without PRESENT it is inverted (L1TF)."""
        if not bits & PRESENT:
            bits = ~bits
        return (bits & self.mask & -1 << shift) >> PAGE_SHIFT

    def find(self, mm: Object, address: int) -> Optional[Entry]:
        """The entry that maps an address, if one does."""
        table, physical = value(mm.pgd), False
        for shift in self.shifts:
            slot = table + (address >> shift & 511) * 8
            bits = int(self.prog.read_u64(slot, physical))
            if shift == PAGE_SHIFT or bits & LEAF:
                if bits & (PRESENT | PROTNONE):
                    return Entry(bits, shift, self._frame(bits, shift))
                return None
            if not bits & PRESENT:
                return None
            table, physical = bits & self.mask, True
        return None

    def flag_names(self, bits: int) -> List[str]:
        """Flags of an entry, by the names that rmapviz has for them."""
        write = bits & WRITE or (
            self.shadow_stacks and bits & (WRITE | DIRTY) == DIRTY)
        dirty = bits & DIRTY or (self.saves_dirty and bits & SAVED_DIRTY)
        names = (('present', bits & (PRESENT | PROTNONE)), ('write', write),
                 ('user', bits & USER), ('accessed', bits & ACCESSED),
                 ('dirty', dirty), ('nx', bits & NX),
                 ('soft-dirty', bits & SOFT_DIRTY),
                 ('uffd-wp', bits & UFFD_WP), ('special', bits & SPECIAL),
                 ('protnone', bits & (PRESENT | PROTNONE) == PROTNONE))
        return [name for name, there in names if there]


# ------------------------------------------------------------ the names --

PF_KTHREAD = 0x00200000


def threads_of(leader: Object) -> Iterator[Object]:
    """All threads of a process; the leader may have exited before others."""
    yield from list_for_each_entry(
        'struct task_struct', leader.signal.thread_head.address_of_(),
        'thread_node')


def mm_of(leader: Object) -> int:
    """The address space that a process uses, or 0."""
    if value(leader.flags) & PF_KTHREAD:
        return 0
    mm = value(leader.mm)
    if not mm:
        mm = max((value(thread.mm) for thread in threads_of(leader)),
                 default=0)
    return mm


def users_of_mms(prog: Program) -> Dict[int, List[Object]]:
    """All processes, oldest first, by address space."""
    users: Dict[int, List[Object]] = {}
    for leader in list_for_each_entry(
            'struct task_struct', prog['init_task'].tasks.address_of_(),
            'tasks'):
        users.setdefault(mm_of(leader), []).append(leader)
    return users


def path_in_fs(dentry: Object) -> str:
    """The path of a dentry in its file system: dentry_path_raw()."""
    names: List[str] = []
    while value(dentry) != value(dentry.d_parent):
        names.insert(0, text_of(dentry.d_name.name))
        dentry = dentry.d_parent
    return '/' + '/'.join(names)


def unlinked(dentry: Object) -> bool:
    """Whether the name is gone: d_unlinked()."""
    return not dentry.d_hash.pprev and dentry != dentry.d_parent


def synthetic_name(dentry: Object) -> Optional[str]:
    """The name of what lies in no directory: dentry_operations.d_dname()."""
    if not dentry.d_op or not dentry.d_op.d_dname:
        return None
    maker = dentry.prog_.symbol(value(dentry.d_op.d_dname)).name
    name = text_of(dentry.d_name.name)
    return {'simple_dname': f'/{name} (deleted)',
            'anon_inodefs_dname': f'anon_inode:{name}'}.get(maker, name)


def path_of(file: Object) -> str:
    """The path of an open file as a process of the first root sees it."""
    dentry = file.f_path.dentry
    mount = container_of(file.f_path.mnt, 'struct mount', 'mnt')
    at_top = dentry == dentry.d_parent and dentry == mount.mnt.mnt_root
    synthetic = None if at_top else synthetic_name(dentry)
    if synthetic is not None:
        return synthetic

    path, gone = '', ' (deleted)' if unlinked(dentry) else ''
    while True:
        while dentry != mount.mnt.mnt_root and dentry != dentry.d_parent:
            path = '/' + text_of(dentry.d_name.name) + path
            dentry = dentry.d_parent
        if mount == mount.mnt_parent:
            return (path or '/') + gone
        dentry, mount = mount.mnt_mountpoint, mount.mnt_parent


def alias_of(inode: Object) -> Optional[str]:
    """Any name that an inode still has: d_find_alias()."""
    aliases = either(
        # 3b7d764a37d0 ("struct dentry: make ->d_u anonymous"), 7.1
        lambda: list(hlist_for_each_entry(
            'struct dentry', inode.i_dentry.address_of_(), 'd_alias')),
        lambda: list(hlist_for_each_entry(
            'struct dentry', inode.i_dentry.address_of_(), 'd_u.d_alias')))
    for dentry in aliases:
        if dentry.d_hash.pprev:
            return path_in_fs(dentry)
    return None


# ---------------------------------------------------------- the records --

VM_READ, VM_WRITE, VM_EXEC, VM_MAYSHARE = 0x1, 0x2, 0x4, 0x80


def page_number(vma: Object) -> int:
    """The offset of a VMA's first page in its file, or its own numbering."""
    return value(vma.vm_pgoff)


def anon_page_number(vma: Object) -> int:
    """The offset of a VMA's first page among anonymous pages."""
    return int(either(
        # vma_start_anon_pgoff() of include/linux/mm.h, 7.3: copies of pages of
        # a private file mapping are numbered by the address of their first
        # fault
        lambda: value(vma.member_('__vm_anon_pgoff_hi')) << 32
        | value(vma.member_('__vm_anon_pgoff_lo')),
        lambda: page_number(vma)))


def pages_of(vma: Object) -> int:
    """The size of a VMA in pages."""
    return (value(vma.vm_end) - value(vma.vm_start)) >> PAGE_SHIFT


def avcs_in_tree(av: Object) -> Iterator[Object]:
    """All the anon_vma_chains in the tree of one anon_vma, in order."""
    yield from rbtree_inorder_for_each_entry(
        'struct anon_vma_chain', av.rb_root.rb_root.address_of_(), 'rb')


def avcs_of_vma(vma: Object) -> Iterator[Object]:
    """All the anon_vma_chains on the list of one VMA."""
    yield from list_for_each_entry(
        'struct anon_vma_chain', vma.anon_vma_chain.address_of_(),
        'same_vma')


class Records:
    """All that was found; by address, so that everything is there once."""

    def __init__(self, tables: PageTables) -> None:
        self.prog = tables.prog
        self.tables = tables
        self.avs: Dict[int, Object] = {}
        self.avcs: Dict[int, Object] = {}
        self.vmas: Dict[int, Object] = {}
        self.visited: Set[int] = set()
        self.callbacks = 0      # of the walk; KSM's comes to a VMA again
        self.hits = 0           # of these, with a page found
        self.entries: Dict[Tuple[int, int], Tuple[int, int, Entry]] = {}

    def add_family(self, root: Object) -> None:
        """All that shares a root: anon_vmas, their trees, the VMAs in them.

        Lists of VMAs tell which anon_vmas there are; what hangs together is
        then read from the tree of each.
        """
        if value(root) in self.avs:
            return
        self.avs[value(root)] = root
        kin = [root]
        for avc in avcs_in_tree(root):
            for link in avcs_of_vma(avc.vma):
                if value(link.anon_vma) not in self.avs:
                    self.avs[value(link.anon_vma)] = link.anon_vma.read_()
                    kin.append(link.anon_vma.read_())
        for av in kin:
            for avc in avcs_in_tree(av):
                self.avcs[value(avc)] = avc
                self.vmas[value(avc.vma)] = avc.vma.read_()

    def visit(self, vma: Object, start: int, index: int, wanted: range,
              frame: int) -> None:
        """Look where a VMA has pages of a folio, if it has them.

        start is the number of the VMA's first page, index that of the first
        page of the folio; of which those wanted are looked for, whose frames
        begin at frame.
        """
        key = value(vma)
        self.vmas.setdefault(key, vma)
        self.visited.add(key)
        self.callbacks += 1
        before = len(self.entries)
        covered = 0
        for i in wanted:
            page = index + i - start
            if i < covered or not 0 <= page < pages_of(vma):
                continue
            address = value(vma.vm_start) + (page << PAGE_SHIFT)
            entry = self.look(vma, address, frame + i, len(wanted) > 1)
            if entry and len(wanted) > 1:
                covered = entry.frame + entry.pages - frame
        self.hits += len(self.entries) > before

    def look(self, vma: Object, address: int, frame: int, whole: bool
             ) -> Optional[Entry]:
        """Record the entry at an address if it maps that frame."""
        entry = self.tables.find(vma.vm_mm, address)
        if not entry or not 0 <= frame - entry.frame < entry.pages:
            return None
        pages = 1
        if whole:
            address &= -1 << entry.shift
            frame, pages = entry.frame, entry.pages
        self.entries[value(vma), address] = frame, pages, entry
        return entry


def walk_anon(found: Records, folio: Folio, wanted: range) -> Object:
    """Everything that may map an anonymous folio; its anon_vma."""
    av = Object(found.prog, 'struct anon_vma *',
                value=folio.mapping & ~MAPPING_BITS)
    found.add_family(av.root.read_())
    for avc in avcs_in_tree(av):
        start = anon_page_number(avc.vma)
        if start < folio.index() + folio.pages \
                and folio.index() < start + pages_of(avc.vma):
            found.visit(avc.vma.read_(), start, folio.index(), wanted,
                        folio.head)
    return av


def walk_ksm(found: Records, folio: Folio) -> None:
    """Every place of a merged page, and of what was forked from it."""
    # 21fbd59136e0 ("ksm: add the ksm prefix to the names of the ksm private
    # structures"), 6.1
    prefix = 'ksm_' if any_type(found.prog, 'struct ksm_rmap_item') else ''
    node = Object(found.prog, f'struct {prefix}stable_node *',
                  value=folio.mapping & ~MAPPING_BITS)
    for item in hlist_for_each_entry(f'struct {prefix}rmap_item',
                                     node.hlist.address_of_(), 'hlist'):
        address = value(item.address) & -PAGE
        for avc in avcs_in_tree(item.anon_vma):
            vma = avc.vma.read_()
            if not value(vma.vm_start) <= address < value(vma.vm_end) \
                    or not searched(item, vma):
                continue
            found.add_family(item.anon_vma.root.read_())
            found.visited.add(value(vma))
            found.callbacks += 1
            found.hits += bool(found.look(vma, address, folio.pfn, False))


def searched(item: Object, vma: Object) -> bool:
    """Whether a KSM walk looks at a VMA in the tree of an item."""
    try:
        # rmap_walk_ksm() of mm/ksm.c, 7.3: not the whole tree any more
        page = value(item.linear_page_index) - anon_page_number(vma)
    except AttributeError:
        return True
    return 0 <= page < pages_of(vma)


def any_type(prog: Program, name: str) -> bool:
    """Whether the kernel has a type of that name."""
    try:
        prog.type(name)
        return True
    except LookupError:
        return False


def walk_file(found: Records, folio: Folio, wanted: range) -> None:
    """Every VMA of the file that has the folio."""
    tree = folio.first.mapping.i_mmap.rb_root
    for vma in rbtree_inorder_for_each_entry(
            'struct vm_area_struct', tree.address_of_(), 'shared.rb'):
        start = page_number(vma)
        if start < folio.index() + folio.pages \
                and folio.index() < start + pages_of(vma):
            found.visit(vma, start, folio.index(), wanted, folio.head)


# ---------------------------------------------------------- the history --

# Sizes of a cache line and of a pointer that kernels of 2.6.0 had.
LAYOUTS = ((32, 4), (64, 4), (128, 4), (32, 8), (64, 8), (128, 8))

# struct anon_vma of 2.6.11 (include/linux/rmap.h): a spinlock, padding, and
# the head of a list.
OLD_ANON_VMA = 24


def chain_blocks(mappings: int, nrpte: int) -> int:
    """What page_add_rmap() of 2.6.0 (mm/rmap.c) had allocated for a page in
    the end: the first entry stands in struct page alone, a second one moves it
    to a block, and only when that is full the next one is put in front."""
    blocks, free = 0, 0
    for _ in range(mappings if mappings > 1 else 0):
        if not free:
            blocks, free = blocks + 1, nrpte
        free -= 1
    return blocks


def chain_layout(counts: Iterable[int], line: int, pointer: int) -> Record:
    """All chains of some pages, by how often each is mapped."""
    nrpte = line // pointer - 1     # a link to the next one takes its place
    pages = Counter(counts)
    blocks, more = (sum(chain_blocks(times * mappings, nrpte) * number
                        for mappings, number in pages.items())
                    for times in (1, 2))
    return {'line': line, 'pointer': pointer, 'nrpte': nrpte,
            'blocks': blocks, 'bytes': blocks * line,
            'fork_bytes': (more - blocks) * line}


def effort(visits: Optional[int], hits: Optional[int]) -> Record:
    """What was looked at, and what of it was in vain."""
    waste = None if visits is None or hits is None else visits - hits
    return {'visits': visits, 'hits': hits, 'waste': waste}


class History:
    """What finding the mappings took, or would have taken."""

    def __init__(self, found: Records, folio: Optional[Folio], wanted: range
                 ) -> None:
        """Of some pages of a folio, or of a process and no folio."""
        self.found = found
        self.folio = folio
        self.wanted = wanted

    def report(self) -> Record:
        """All ways; a scan takes a measurement."""
        kind = kind_of(self.folio) if self.folio else None
        mapped = kind in MAPPED_KINDS
        return {'scan': None,
                'pte_chain': self.pte_chain() if mapped else None,
                'objrmap': self.objrmap()
                if kind is None or mapped and kind != 'ksm' else None,
                'av_avc': self.av_avc() if kind is None or mapped else None}

    def pte_chain(self) -> Record:
        """2.6.0."""
        counts = Counter(frame + i
                         for frame, pages, _ in self.found.entries.values()
                         for i in range(pages))
        entries = sum(counts.values())
        layouts = [chain_layout(counts.values(), *sizes) for sizes in LAYOUTS]
        most = max(counts.values(), default=0)
        return {'how': 'modelled',
                'form': ('none', 'direct', 'chained')[min(most, 2)],
                **effort(entries, entries),
                'bytes': next(layout['bytes'] for layout in layouts
                              if (layout['line'], layout['pointer'])
                              == (64, 8)),
                'layouts': layouts}

    def objrmap(self) -> Record:
        """2.6.11: a list for a family, a tree for a file."""
        roots = {value(av.root) for av in self.found.avs.values()}
        length = len(self.found.vmas) if roots or not self.folio \
            else self.found.callbacks
        near: Optional[int] = length
        if roots or not self.folio:
            near = self.in_range()
        return {'how': 'modelled', 'list': length, 'in_range': near,
                **self.efforts(length), 'bytes': len(roots) * OLD_ANON_VMA}

    def in_range(self) -> Optional[int]:
        """VMAs that have room for a page asked for, mapped there or not."""
        if not self.folio:
            return None
        first = self.folio.index() + self.wanted.start
        starts = [(anon_page_number(vma), pages_of(vma))
                  for vma in self.found.vmas.values()]
        return sum(start < first + len(self.wanted) and first < start + pages
                   for start, pages in starts)

    def av_avc(self) -> Record:
        """What there is."""
        prog, avs, avcs = self.found.prog, self.found.avs, self.found.avcs
        size = len(avs) * prog.type('struct anon_vma').size \
            + len(avcs) * prog.type('struct anon_vma_chain').size
        return {'how': 'measured', **self.efforts(self.found.callbacks),
                'avs': len(avs), 'avcs': len(avcs), 'bytes': size}

    def efforts(self, visits: int) -> Record:
        """The same for a page; for a process nothing was looked at."""
        return effort(visits, self.found.hits) if self.folio \
            else effort(None, None)


# ------------------------------------------------------- the judgements --

VM_LOCKED = 1 << 13
VM_SEQ_READ = 1 << 15
VM_RAND_READ = 1 << 16
FMODE_NOREUSE = 1 << 23     # include/linux/fs.h


def release_of(prog: Program) -> str:
    """What uname -r says."""
    return text_of(prog['init_uts_ns'].name.release)


def knows_recency(prog: Program) -> bool:
    """Whether more than MADV_SEQUENTIAL speaks against accesses.

    Since 8788f6781486 ("mm: add vma_has_recency()") and 17e810229cb3 ("mm:
    support POSIX_FADV_NOREUSE"), 6.3, which no layout tells.
    """
    version = re.match(r'(\d+)\.(\d+)', release_of(prog))
    return not version or (int(version[1]), int(version[2])) >= (6, 3)


def has_recency(vma: Object, more: bool) -> bool:
    """Whether accesses through a VMA count as references to reclaim."""
    flags = value(vma.vm_flags)
    if not more:
        return not flags & VM_SEQ_READ
    return not flags & (VM_SEQ_READ | VM_RAND_READ) and not (
        vma.vm_file and value(vma.vm_file.f_mode) & FMODE_NOREUSE)


class Judgement:
    """What the kernel would do with a folio, by all that maps any of it."""

    def __init__(self, folio: Folio, page: Record, found: Records) -> None:
        self.folio = folio
        self.facts = page
        bits: Dict[int, int] = {}   # of all entries of a VMA
        for (vma, _), (_, _, entry) in found.entries.items():
            bits[vma] = bits.get(vma, 0) | entry.bits
        recency = knows_recency(folio.prog)
        # by VMA that maps it, why reclaim would leave the folio there
        self.unmap = {vma: self._kept_by(found.vmas[vma], some, recency)
                      for vma, some in bits.items()}
        dirty = DIRTY | (SAVED_DIRTY if found.tables.saves_dirty else 0)
        self.dirty = folio.has('dirty') or any(
            some & dirty for some in bits.values())
        self.missed = len(found.entries) < page['folio_mapcount']

    @staticmethod
    def _kept_by(vma: Object, bits: int, recency: bool) -> List[str]:
        told = (('mlocked', value(vma.vm_flags) & VM_LOCKED),
                ('referenced', bits & ACCESSED and has_recency(vma, recency)))
        return [reason for reason, holds in told if holds]

    def _lacks_swap(self) -> bool:
        """Of what is not free for the taking, such as clean MADV_FREE."""
        if self.facts['kind'] in ('file', 'hugetlb') \
                or self.folio.swapcache() \
                or not self.folio.has('swapbacked') and not self.dirty:
            return False
        return self._free_slots() <= 0

    def _free_slots(self) -> int:
        try:
            return value(self.folio.prog['nr_swap_pages'].counter)
        except KeyError:
            return 0    # a kernel that cannot swap

    def reclaim(self) -> Optional[Record]:
        """As shrink_folio_list() and try_to_unmap() decide, in words of 2.6.
        """
        if self.facts['kind'] not in MAPPED_KINDS:
            return None
        kept = {reason for some in self.unmap.values() for reason in some}
        fail = (('mlocked', 'mlocked' in kept),
                ('unevictable', self.folio.has('unevictable')),
                ('referenced', 'referenced' in kept),
                ('pinned',
                 self.folio.refcount > self.facts['expected_refs']),
                ('no-swap', self._lacks_swap()),
                ('hugetlb', self.facts['kind'] == 'hugetlb'))
        again = (('writeback', self.folio.has('writeback')),
                 ('locked', self.folio.has('locked')),
                 ('missed', self.missed))
        outcome = 'SWAP_FAIL' if any(holds for _, holds in fail) \
            else 'SWAP_AGAIN' if any(holds for _, holds in again) \
            else 'SWAP_SUCCESS'
        told = (*fail, *again, ('dirty', self.dirty))
        return {'outcome': outcome,
                'reasons': [reason for reason, holds in told if holds]}

    def _only_held(self) -> bool:
        """Whether it is known to its holder alone, and free after that."""
        if self.facts['kind'] not in MAPPED_KINDS:
            return self.facts['kind'] == 'other' and self.folio.has('lru')
        return self.folio.refcount > 0 and not self.facts['folio_mapcount'] \
            and not self.folio.swapcache() \
            and self.facts['mapping'] != 'file'

    def _keeps_compaction_away(self) -> bool:
        allowed = variable(self.folio.prog,
                           'sysctl_compact_unevictable_allowed')
        return self.folio.has('unevictable') and allowed == 0

    def migrate(self) -> Record:
        """As isolate_migratepages_block() and migrate_pages() decide."""
        kind, held = self.facts['kind'], self._only_held()
        if kind == 'free' or kind in ('movable', 'offline') \
                and is_movable(self.folio):
            return {'verdict': 'yes', 'reasons': []}
        if kind not in MAPPED_KINDS and not held:
            return {'verdict': 'no', 'reasons': ['unmovable']}
        told = (('extra-refs', (self.facts['extra_refs'] or 0) > 0),
                ('dma-pins', (self.facts['dma_pins'] or 0) > 0),
                ('writeback', self.folio.has('writeback')),
                ('locked', self.folio.has('locked')),
                ('unevictable', self._keeps_compaction_away()),
                ('missed', self.missed), ('unmapped', held))
        reasons = [reason for reason, holds in told if holds]
        return {'verdict': 'not now' if reasons else 'yes',
                'reasons': reasons}


# ----------------------------------------------------------- the report --

class Builder:
    """From records to a report: ids, names, and an order."""

    def __init__(self, prog: Program, found: Records, ptrs: bool,
                 users: Dict[int, List[Object]]) -> None:
        self.prog = prog
        self.found = found
        self.ptrs = ptrs
        self.users = users
        self.on_page = 0
        self.unreached = 0
        self.judgement: Optional[Judgement] = None
        self.paths: Dict[int, str] = {}
        self.av_ids = self._rank_avs()
        self.mm_ids = self._rank_mms()
        self.vma_ids = self._rank_vmas()

    # ---- ids ----

    def level(self, av: int) -> int:
        """How far below its root an anon_vma is."""
        level = 0
        while value(self.found.avs[av].parent) != av:
            av = value(self.found.avs[av].parent)
            level += 1
            if av not in self.found.avs or level > len(self.found.avs):
                raise Failure(f'anon_vma {av:#x} hangs on no root')
        return level

    def _rank_avs(self) -> Dict[int, int]:
        """Families as they were met; in each the root first, by level."""
        families: Dict[int, int] = {}
        for av in self.found.avs.values():
            families.setdefault(value(av.root), len(families))
        order = sorted(self.found.avs, key=lambda av: (
            families[value(self.found.avs[av].root)], self.level(av),
            value(self.found.avs[av].parent), av))
        return {av: i for i, av in enumerate(order)}

    def _rank_mms(self) -> Dict[int, int]:
        mms = {value(vma.vm_mm): None for vma in self.found.vmas.values()}
        return {mm: i for i, mm in enumerate(mms)}

    def _rank_vmas(self) -> Dict[int, int]:
        def key(address: int) -> Tuple[int, int, int]:
            vma = self.found.vmas[address]
            own = self.av_ids.get(value(vma.anon_vma), len(self.av_ids))
            return own, self.mm_ids[value(vma.vm_mm)], value(vma.vm_start)

        order = sorted(self.found.vmas, key=key)
        return {vma: i for i, vma in enumerate(order)}

    def pointer(self, address: int, name: str = 'ptr') -> Record:
        """An address, if they are asked for."""
        return {name: f'{address:#x}'} if self.ptrs else {}

    # ---- tables ----

    def anon_vmas(self) -> Iterator[Record]:
        """The anon_vmas."""
        for address, i in self.av_ids.items():
            av = self.found.avs[address]
            yield {'id': i, 'root': self.av_ids.get(value(av.root)),
                   'parent': self.av_ids.get(value(av.parent)),
                   'level': self.level(address),
                   'refcount': value(av.refcount.counter),
                   # 2555283eb40d ("mm/rmap: Fix anon_vma->degree ambiguity
                   # leading to double-reuse"), 6.0 and stable series
                   'children': value(av.num_children),
                   'active_vmas': value(av.num_active_vmas),
                   'on_page': address == self.on_page,
                   **self.pointer(address)}

    def avcs(self) -> Iterator[Record]:
        """The anon_vma_chains, by VMA, then by anon_vma."""
        order = sorted(self.found.avcs.values(), key=lambda avc: (
            self.vma_ids[value(avc.vma)], self.av_ids[value(avc.anon_vma)]))
        for i, avc in enumerate(order):
            own = avc.anon_vma == avc.vma.anon_vma
            yield {'id': i, 'anon_vma': self.av_ids[value(avc.anon_vma)],
                   'vma': self.vma_ids[value(avc.vma)],
                   'role': 'own' if own else 'bridge',
                   **self.pointer(value(avc))}

    def mms(self) -> Iterator[Record]:
        """The address spaces, and who uses them."""
        for address, i in self.mm_ids.items():
            users = self.users.get(address, [])
            yield {'id': i, 'pid': value(users[0].tgid) if users else 0,
                   'comm': text_of(users[0].comm) if users else '',
                   'tasks': [value(user.tgid) for user in users],
                   **self.pointer(address)}

    def vmas(self) -> Iterator[Record]:
        """The VMAs."""
        mapped = {vma for vma, _ in self.found.entries}
        for address, i in self.vma_ids.items():
            vma = self.found.vmas[address]
            yield {'id': i, 'mm': self.mm_ids[value(vma.vm_mm)],
                   'start': f'{value(vma.vm_start):#x}',
                   'end': f'{value(vma.vm_end):#x}',
                   'perms': permissions(vma),
                   'pgoff': f'{page_number(vma):#x}',
                   'name': self.name(vma),
                   'anon_vma': self.av_ids.get(value(vma.anon_vma)),
                   'visited': address in self.found.visited,
                   'mapped': address in mapped,
                   'unmap': self.judgement
                   and self.judgement.unmap.get(address),
                   **self.pointer(address)}

    def ptes(self) -> Iterator[Record]:
        """The page-table entries, by VMA, then by address."""
        order = sorted((self.vma_ids[vma], address, vma)
                       for vma, address in self.found.entries)
        for i, address, vma in order:
            pfn, pages, entry = self.found.entries[vma, address]
            yield {'pfn': pfn, 'pages': pages, 'vma': i,
                   'addr': f'{address:#x}', 'level': LEVELS[entry.shift],
                   'value': f'{entry.bits:#x}',
                   'flags': self.found.tables.flag_names(entry.bits),
                   'pkey': entry.bits >> PKEY_SHIFT & 15}

    # ---- names ----

    def path(self, file: Object) -> str:
        """The path of a file, looked up once."""
        if value(file) not in self.paths:
            self.paths[value(file)] = path_of(file)
        return self.paths[value(file)]

    def name(self, vma: Object) -> Optional[str]:
        """What /proc/PID/maps calls a VMA."""
        if vma.vm_file:
            return self.path(vma.vm_file)
        # is_heap and is_stack of show_map_vma(), fs/proc/task_mmu.c
        start, end, mm = value(vma.vm_start), value(vma.vm_end), vma.vm_mm
        if start < value(mm.brk) and end > value(mm.start_brk):
            return '[heap]'
        if start <= value(mm.start_stack) <= end:
            return '[stack]'
        return None

    def file_of(self, folio: Folio) -> Optional[str]:
        """The file of a page, as who maps it calls it, else by any name."""
        if folio.anonymous() or not folio.cached():
            return None
        inode = folio.first.mapping.host
        for vma in self.found.vmas.values():
            if vma.vm_file and vma.vm_file.f_mapping == inode.i_mapping:
                return self.path(vma.vm_file)
        return alias_of(inode) if inode else None

    # ---- the rest ----

    def page(self, folio: Folio) -> Record:
        """What the page is."""
        kind = kind_of(folio)
        mapped = kind in MAPPED_KINDS and folio.refcount > 0
        mapping = mapping_kind(folio, kind)
        index = folio.index() + folio.pfn - folio.head
        refs = folio.expected_refs() if mapped else 0
        pins = folio.dma_pins(refs) if mapped else 0
        told = kind in MAPPED_KINDS
        return {
            'pfn': folio.pfn,
            'head': folio.head if folio.refcount else folio.pfn,
            'order': folio.pages.bit_length() - 1 if folio.refcount else 0,
            'kind': kind, 'flags': flag_names(folio, mapping),
            'mapping': mapping, 'index': f'{index:#x}' if mapping else None,
            'file': self.file_of(folio) if mapped else None,
            'mapcount': folio.mapcount() if mapped else 0,
            'folio_mapcount': folio.folio_mapcount() if mapped else 0,
            'refcount': folio.refcount,
            'expected_refs': refs if told else None,
            'dma_pins': pins if told else None,
            'extra_refs': folio.refcount - refs - pins * folio.pin_refs()
            if told else None,
            **self.pointer(value(folio.page)),
            **self.pointer(folio.mapping & ~MAPPING_BITS if mapping else 0,
                           'mapping_ptr')}

    def walk(self) -> Record:
        """Counts; what a walk costs is not to be seen in memory."""
        tree = {value(avc.vma) for avc in self.found.avcs.values()
                if value(avc.anon_vma) == self.on_page}
        return {'visited': self.found.callbacks, 'mapped': self.found.hits,
                'tree_vmas': len(tree), 'unreached': self.unreached,
                'lost': 0}

    def report(self, query: str, folio: Optional[Folio],
               wanted: range = range(0), every: Optional[Records] = None
               ) -> Record:
        """The whole report: of some pages of a folio, or of a process.

        every is what was found of all the folio's pages.
        """
        page = self.page(folio) if folio else None
        judge = None
        if folio and page and every:
            judge = self.judgement = Judgement(folio, page, every)
        return {'rmapviz': 1, 'kernel': release_of(self.prog),
                'query': query, 'page': page,
                'anon_vmas': list(self.anon_vmas()),
                'avcs': list(self.avcs()), 'mms': list(self.mms()),
                'vmas': list(self.vmas()), 'ptes': list(self.ptes()),
                'walk': self.walk(),
                'reclaim': judge and judge.reclaim(),
                'migrate': judge and judge.migrate(),
                'history': History(self.found, folio, wanted).report()}


def permissions(vma: Object) -> str:
    """rwxp, as in /proc/PID/maps."""
    flags = value(vma.vm_flags)
    return ''.join((
        'r' if flags & VM_READ else '-', 'w' if flags & VM_WRITE else '-',
        'x' if flags & VM_EXEC else '-', 's' if flags & VM_MAYSHARE else 'p'))


def mapping_kind(folio: Folio, kind: str) -> Optional[str]:
    """What page->mapping points to, or None."""
    if kind not in MAPPED_KINDS or not folio.refcount or not folio.mapping:
        return None
    return {ANON: 'anon_vma', KSM: 'ksm'}.get(folio.mapping & MAPPING_BITS,
                                              'file')


# ---------------------------------------------------------- the questions --

class Asker:
    """Answers questions about one kernel."""

    def __init__(self, prog: Program, ptrs: bool, whole: bool) -> None:
        self.prog = prog
        self.ptrs = ptrs
        self.whole = whole
        self.users = users_of_mms(prog)
        self.tables = PageTables(prog)

    def page(self, pfn: int, query: str) -> Record:
        """Who maps a page."""
        try:
            folio = Folio(self.prog, pfn)
        except (FaultError, OverflowError):
            raise Failure('no such page') from None
        found = Records(self.tables)
        at = pfn - folio.head
        wanted = range(folio.pages) if self.whole else range(at, at + 1)
        av = self.walk(found, folio, wanted)
        builder = Builder(self.prog, found, self.ptrs, self.users)
        builder.on_page = value(av) if av is not None else 0
        builder.unreached = self._unreached(found, folio)
        every = found
        if len(wanted) < folio.pages:
            every = Counted(self.tables)
            self.walk(every, folio, range(folio.pages))
        return builder.report(query, folio, wanted, every)

    def _unreached(self, found: Records, folio: Folio) -> int:
        """Mappings that the kernel counts, and that rmap does not lead to."""
        if kind_of(folio) not in MAPPED_KINDS:
            return 0
        counted = folio.folio_mapcount() if self.whole else folio.mapcount()
        return max(0, counted - len(found.entries))

    @staticmethod
    def walk(found: Records, folio: Folio, wanted: range
             ) -> Optional[Object]:
        """Look where the kernel's walk looks; its anon_vma, if any."""
        kind = kind_of(folio)
        if kind not in MAPPED_KINDS or not folio.mapping \
                or not folio.folio_mapcount():
            return None
        if kind == 'ksm':
            walk_ksm(found, folio)
        elif folio.anonymous():
            return walk_anon(found, folio, wanted)
        else:
            walk_file(found, folio, wanted)
        return None

    def pfn_of(self, pid: int, address: int) -> int:
        """The page that a process maps at an address."""
        entry = self.tables.find(self._mm(pid), address)
        if not entry:
            raise Failure('the process maps no page there')
        return entry.frame + (address >> PAGE_SHIFT) % entry.pages

    def mapped_page(self, pid: int, address: int, query: str) -> Record:
        """Who maps that page."""
        return self.page(self.pfn_of(pid, address), query)

    def _mm(self, pid: int) -> Object:
        task = find_task(self.prog, pid)
        if not task:
            raise Failure('no such process')
        mm = mm_of(task.group_leader)
        if not mm:
            raise Failure('the process has no address space')
        return Object(self.prog, 'struct mm_struct *', value=mm)

    def process(self, pid: int, query: str) -> Record:
        """No page, but every family of anon_vmas of a process."""
        found = Records(self.tables)
        for vma in vmas_of(self._mm(pid)):
            if vma.anon_vma:
                found.add_family(vma.anon_vma.root.read_())
        return Builder(self.prog, found, self.ptrs, self.users).report(
            query, None)


# ----------------------------------------------------------- the survey --

class Counted(Records):
    """Records of a walk that wants no families, but knows whose it was."""

    root = 0

    def add_family(self, root: Object) -> None:
        """Only which it is."""
        self.root = value(root)


class Survey:
    """Every mapped folio, in the columns of rmapviz_survey."""

    COLUMNS = (('PFN', 12), ('ORDER', 6), ('KIND', 9), ('MAPCOUNT', 11),
               ('REFCOUNT', 11), ('DMA_PINS', 11), ('EXTRA_REFS', 12),
               ('VISITED', 11), ('MAPPED', 11), ('FAMILY', 17),
               ('CHAIN_BYTES', 17))
    CHUNK = 512

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.prog = asker.prog
        page = self.prog.type('struct page')
        self.size = page.size
        self.unread = 0     # folios of which nothing can be told
        self.offsets = {name: offsetof(page, name)
                        for name in ('flags', '_mapcount', '_refcount')}

    def lines(self) -> Iterator[str]:
        """The heading, and a line for each."""
        yield self._line([name for name, _ in self.COLUMNS])
        for pfn in self._candidates():
            try:
                told = self._folio(pfn)
            except (FaultError, LookupError, Failure):
                self.unread += 1
                continue
            if told:
                yield self._line(told)

    def _line(self, words: Iterable[object]) -> str:
        return ''.join(f'{word:>{width}}'
                       for word, (_, width) in zip(words, self.COLUMNS))

    def _candidates(self) -> Iterator[int]:
        """Frames whose struct page looks mapped, or like that of a head."""
        head = 1 << self.prog['PG_head'].value_()
        for first in range(0, value(self.prog['max_pfn']), self.CHUNK):
            try:
                data = self.prog.read(value(pfn_to_page(self.prog, first)),
                                      self.CHUNK * self.size)
            except FaultError:
                continue        # no memory there
            for i in range(self.CHUNK):
                flags, = struct.unpack_from(
                    '=Q', data, i * self.size + self.offsets['flags'])
                mapcount, refcount = (struct.unpack_from(
                    '=i', data, i * self.size + self.offsets[name])[0]
                    for name in ('_mapcount', '_refcount'))
                if refcount > 0 and (mapcount >= 0 or flags & head):
                    yield first + i

    def _folio(self, pfn: int) -> Optional[List[object]]:
        """What there is to say of a folio, if it is mapped."""
        folio = Folio(self.prog, pfn)
        kind = kind_of(folio)
        if folio.head != pfn or kind not in MAPPED_KINDS \
                or not folio.folio_mapcount():
            return None
        found = Counted(self.asker.tables)
        every = range(folio.pages)
        self.asker.walk(found, folio, every)
        family = found.root if folio.anonymous() else folio.mapping
        refs = folio.expected_refs()
        pins = folio.dma_pins(refs)
        return [f'{pfn:#x}', folio.pages.bit_length() - 1, kind,
                folio.folio_mapcount(), folio.refcount, pins,
                folio.refcount - refs - pins * folio.pin_refs(),
                found.callbacks, found.hits,
                '-' if kind == 'ksm' else self._id(family),
                History(found, folio, every).pte_chain()['bytes']]

    @staticmethod
    def _id(address: int) -> str:
        """Equal for equal families, and no address."""
        return blake2b(address.to_bytes(8, 'little'),
                       digest_size=8).hexdigest()


def vmas_of(mm: Object) -> Iterable[Object]:
    """All VMAs of an address space."""
    try:
        from drgn.helpers.linux.mm import for_each_vma
    except ImportError:
        raise Failure('it takes drgn 0.0.24 or later to find all VMAs of a '
                      'process') from None
    return list(for_each_vma(mm))


# ------------------------------------------------------------------ text --

def page_lines(page: Record) -> Iterator[str]:
    """The page, for the eye."""
    order = f", order {page['order']}" if page['order'] else ''
    yield f"page {page['pfn']:#x}: {page['kind']}{order}"
    yield f"  flags     {' '.join(page['flags'])}"
    if page['mapping']:
        yield f"  mapping   {page['mapping']}, index {page['index']}" \
            + (f", {page['file']}" if page['file'] else '')
    yield f"  counts    mapcount {page['mapcount']} (folio " \
        f"{page['folio_mapcount']}), refcount {page['refcount']}" \
        + (f", DMA pins {page['dma_pins']}, others {page['extra_refs']}"
           if page['dma_pins'] is not None else '')


def by_vma(records: List[Record]) -> Dict[int, List[Record]]:
    """Records that refer to a VMA, by its id."""
    found: Dict[int, List[Record]] = {}
    for record in records:
        found.setdefault(record['vma'], []).append(record)
    return found


def vma_lines(report: Record) -> Iterator[str]:
    """Every VMA, what joins it to anon_vmas, and its entries."""
    avcs, ptes = by_vma(report['avcs']), by_vma(report['ptes'])
    for vma in report['vmas']:
        mm = report['mms'][vma['mm']]
        joined = [f"AV{avc['anon_vma']}" for avc in avcs.get(vma['id'], ())]
        yield f"VMA{vma['id']} {mm['pid']} {mm['comm']} {vma['start']}-" \
            f"{vma['end']} {vma['perms']} {vma['name'] or ''}".rstrip() \
            + (f": {' '.join(joined)}" if joined else '')
        for pte in ptes.get(vma['id'], ()):
            yield f"  {pte['level']} at {pte['addr']}: {pte['value']} " \
                f"{' '.join(pte['flags'])}"


def history_lines(history: Record) -> Iterator[str]:
    """What other kernels would have looked at, and what this one did."""
    for way, release in (('pte_chain', '2.6.0'), ('objrmap', '2.6.11'),
                         ('av_avc', '2.6.34')):
        told = history[way]
        if told:
            looks = '' if told['visits'] is None else \
                f"{told['visits']} visits, {told['waste']} in vain, "
            yield f"{release} {way}: {looks}{told['bytes']} bytes"


def judgement_lines(report: Record) -> Iterator[str]:
    """What would become of a page."""
    for name, outcome in ('migrate', 'verdict'), ('reclaim', 'outcome'):
        told = report[name]
        if told:
            reasons = ' '.join(told['reasons'])
            yield f'{name}: {told[outcome]}' + (f': {reasons}' if reasons
                                                else '')


def text_lines(report: Record) -> Iterator[str]:
    """A report for the eye: short, but with every record."""
    if report['page']:
        yield from page_lines(report['page'])
    for av in report['anon_vmas']:
        yield f"{'  ' * av['level']}AV{av['id']}" \
            f"{' <- page' if av['on_page'] else ''}: refcount " \
            f"{av['refcount']}, children {av['children']}, " \
            f"active VMAs {av['active_vmas']}"
    yield from vma_lines(report)
    if report['page']:
        walk = report['walk']
        yield f"{walk['visited']} VMAs visited, {walk['mapped']} map it"
        if walk['unreached']:
            yield f"rmap does not reach {walk['unreached']} mappings"
    yield from history_lines(report['history'])
    yield from judgement_lines(report)


# ------------------------------------------------------------------ main --

def number(text: str) -> int:
    """A number as rmapviz takes it: decimal or 0x hex."""
    return int(text, 16 if text.lower().startswith('0x') else 10)


ABOUT = """
Who maps a physical page, from kernel memory alone: the report of rmapviz
without the module.  Run it by drgn: drgn -k drgn_dump.py for the kernel that
runs, drgn -c VMCORE [-s VMLINUX] drgn_dump.py for a dump.
"""

NOTES = """
Questions are answered in turn, PFNs first.  One that has no answer is told on
standard error, and the others are answered all the same; among JSON an object
{"rmapviz": 1, "query": ..., "error": ...} stands in its place.  Exits with 0,
or with 2 if a question had no answer.
"""


def parse(argv: List[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog='drgn_dump.py', description=ABOUT, epilog=NOTES)
    parser.add_argument('pfn', nargs='*', type=number, metavar='PFN',
                        help='page frame numbers, decimal or 0x hex')
    parser.add_argument('--pid', nargs='+', type=number, action='append',
                        default=[], metavar=('PID', 'ADDR'),
                        help='the page that a process maps there; without '
                        'ADDR, no page but all its anon_vmas')
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--json', action='store_true',
                      help='one object a line (default)')
    form.add_argument('--text', action='store_true', help='for the eye')
    parser.add_argument('--ptrs', action='store_true',
                        help='with kernel addresses')
    parser.add_argument('--folio', action='store_true',
                        help='every page of the folio')
    parser.add_argument('--survey', action='store_true',
                        help='every mapped folio, a line each, as '
                        'rmapviz_survey has them')
    options = parser.parse_args(argv)
    if options.survey and (options.pfn or options.pid):
        parser.error('a survey is of all pages')
    if not options.pfn and not options.pid and not options.survey \
            or any(len(words) > 2 for words in options.pid):
        parser.error('name pages, or --pid PID [ADDR], or --survey')
    return options


def check_debug_info(prog: Program) -> None:
    """Whether it is known what the kernel's memory means."""
    try:
        prog.type('struct page')
        prog['init_task']
    except LookupError:
        release = text_of(prog['UTS_RELEASE'])      # drgn's own
        raise Failure(
            f'no debug information of the kernel {release}: apt-get install '
            f'linux-image-{release}-dbg, from the archive that has the '
            "kernel's own package, or name its vmlinux by drgn -s") from None


Question = Tuple[str, Callable[[], Record]]


def questions(asker: Asker, options: argparse.Namespace
              ) -> Iterator[Question]:
    """All that is asked, as rmapviz would be asked, and how to answer it."""
    ptrs = ' ptrs' if options.ptrs else ''
    words = (' folio' if options.folio else '') + ptrs
    for pfn in options.pfn:
        query = f'pfn {pfn:#x}{words}'
        yield query, partial(asker.page, pfn, query)
    for pid, *rest in options.pid:
        if rest:
            query = f'pid {pid} {rest[0]:#x}{words}'
            yield query, partial(asker.mapped_page, pid, rest[0], query)
        else:
            query = f'pid {pid}{ptrs}'
            yield query, partial(asker.process, pid, query)


def complain(what: str) -> None:
    """One line, behind what was answered so far."""
    sys.stdout.flush()
    print(f'drgn_dump.py: {what}', file=sys.stderr)


def trouble(error: Exception) -> str:
    """Why there is no answer."""
    if isinstance(error, FaultError):
        return f'it changed while it was read, or the dump lacks it: {error}'
    if isinstance(error, LookupError):
        return 'it changed while it was read, or this kernel has another ' \
            f'layout: {error!r}'
    return str(error)


def answer(question: Question, text: bool) -> bool:
    """Print the answer to a question; whether there is one."""
    query, find = question
    try:
        report = find()
    except (Failure, FaultError, LookupError) as error:
        complain(f'{query}: {trouble(error)}')
        if not text:
            print(json.dumps({'rmapviz': 1, 'query': query,
                              'error': trouble(error)}))
        return False
    print('\n'.join(text_lines(report)) if text else json.dumps(report))
    return True


def main(prog: Program, argv: List[str]) -> int:
    """Answer the questions of a command line; the status to exit with."""
    options = parse(argv)
    try:
        check_debug_info(prog)
        asker = Asker(prog, options.ptrs, options.folio)
    except (Failure, FaultError, LookupError) as error:
        complain(trouble(error))
        return 2
    if options.survey:
        survey = Survey(asker)
        for line in survey.lines():
            print(line)
        if survey.unread:
            complain(f'{survey.unread} folios changed while they were read, '
                     'or this kernel has another layout')
        return 2 if survey.unread else 0
    found = [answer(question, options.text)
             for question in questions(asker, options)]
    return 0 if all(found) else 2


if __name__ == '__main__':
    if 'prog' not in globals():     # drgn puts it there
        complain('run it by drgn: drgn -k drgn_dump.py ...')
        sys.exit(2)
    sys.exit(main(globals()['prog'], sys.argv[1:]))
