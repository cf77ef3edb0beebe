"""What earlier kernels would have needed to find the mappings of a page.

An account of its own of what a report calls history: chains are built here
entry by entry, as mm/rmap.c of 2.6.0 did it, from what processes find in
their own pagemaps; the rest is counted from the records.  Nothing here
computes with a formula that the module has.
"""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from .guest import Guest
from .report import PAGE, Report

# Where a page is mapped: whose address space, at which address.
Entry = Tuple[object, int]
# The same of one of several frames.
FrameEntry = Tuple[object, int, int]

# Sizes of a cache line and of a pointer, as a report lists them.
LAYOUTS = ((32, 4), (64, 4), (128, 4), (32, 8), (64, 8), (128, 8))
USUAL = (64, 8)

# struct anon_vma of 2.6.11, include/linux/rmap.h, for x86-64 with SMP: a
# spinlock_t of 4 bytes, 4 to align what follows, a list_head.
OLD_ANON_VMA = 4 + 4 + 2 * 8

MAPPED_KINDS = ('anon', 'ksm', 'file', 'shmem', 'hugetlb')


# ---------------------------------------------------------------- 2.6.0 --

class _Block:
    """struct pte_chain: a word, and room for some entries."""

    def __init__(self, nrpte: int) -> None:
        self.next_and_idx = 0
        self.ptes: List[Optional[Entry]] = [None] * nrpte


class Blocks:
    """Where blocks come from: pte_chain_cache, which aligns them to lines."""

    def __init__(self, line: int, pointer: int) -> None:
        self.line = line
        self.nrpte = (line - pointer) // pointer
        self._live: Dict[int, _Block] = {}
        self._next = line

    def __len__(self) -> int:
        return len(self._live)

    def __getitem__(self, address: int) -> _Block:
        return self._live[address]

    def alloc(self) -> int:
        """pte_chain_alloc(): the address of a new one."""
        address, self._next = self._next, self._next + self.line
        self._live[address] = _Block(self.nrpte)
        return address

    def free(self, address: int) -> None:
        """__pte_chain_free()."""
        del self._live[address]


class Page:
    """pte.direct, pte.chain and PG_direct of struct page.

    Free slots are at the start of the first block only.  The low bits of
    next_and_idx have the index of the first used slot; NRPTE is their mask.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.direct: Optional[Entry] = None
        self.chain = 0

    def _next(self, address: int) -> int:
        """pte_chain_next()."""
        return self.blocks[address].next_and_idx & ~self.blocks.nrpte

    def _idx(self, address: int) -> int:
        """pte_chain_idx()."""
        return self.blocks[address].next_and_idx & self.blocks.nrpte

    def add_rmap(self, entry: Entry) -> None:
        """page_add_rmap(): one more entry maps it."""
        blocks, last = self.blocks, self.blocks.nrpte - 1
        if self.direct is None and not self.chain:
            self.direct = entry
        elif self.direct is not None:
            new = blocks.alloc()
            blocks[new].ptes[last] = self.direct
            blocks[new].ptes[last - 1] = entry
            blocks[new].next_and_idx = last - 1
            self.direct, self.chain = None, new
        elif blocks[self.chain].ptes[0] is not None:    # it is full
            new = blocks.alloc()
            blocks[new].next_and_idx = self.chain | last
            blocks[new].ptes[last] = entry
            self.chain = new
        else:
            blocks[self.chain].ptes[self._idx(self.chain) - 1] = entry
            blocks[self.chain].next_and_idx -= 1

    def remove_rmap(self, entry: Entry) -> None:
        """page_remove_rmap(): the head's first entry takes its place."""
        blocks = self.blocks
        if self.direct is not None:
            assert self.direct == entry
            self.direct = None
            return
        start = self.chain
        victim = self._idx(start)
        for address, i in self._slots():
            if blocks[address].ptes[i] != entry:
                continue
            blocks[address].ptes[i] = blocks[start].ptes[victim]
            blocks[start].ptes[victim] = None
            if victim == blocks.nrpte - 1:      # emptied
                self.chain = self._next(start)
                blocks.free(start)
            else:
                blocks[start].next_and_idx += 1
            return
        raise AssertionError(f'{entry} is in no block')

    def _slots(self) -> Iterable[Tuple[int, int]]:
        address = self.chain
        while address:
            for i in range(self._idx(address), self.blocks.nrpte):
                yield address, i
            address = self._next(address)

    def entries(self) -> List[Entry]:
        """What is looked at for it, and in which order."""
        if self.direct is not None:
            return [self.direct]
        found = [self.blocks[address].ptes[i] for address, i in self._slots()]
        return [entry for entry in found if entry is not None]

    def referenced(self) -> None:
        """page_referenced(), which makes a chain of one entry a direct one.

        Nothing else does; reclaim calls it before it unmaps a page.
        """
        entries = self.entries()
        if self.chain and len(entries) == 1:
            self.blocks.free(self.chain)
            self.chain, self.direct = 0, entries[0]

    @property
    def form(self) -> str:
        """Where its entries stand."""
        if self.chain:
            return 'chained'
        return 'none' if self.direct is None else 'direct'


class Memory:
    """Pages that are mapped, each with its chain."""

    def __init__(self, line: int, pointer: int,
                 entries: Iterable[FrameEntry] = ()) -> None:
        self.blocks = Blocks(line, pointer)
        self.pages: Dict[int, Page] = {}
        for space, address, frame in sorted(entries, key=str):
            page = self.pages.setdefault(frame, Page(self.blocks))
            page.add_rmap((space, address))

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        return len(self.blocks) * self.blocks.line

    def looks(self) -> int:
        """Entries that are looked at to find all mappings."""
        return sum(len(page.entries()) for page in self.pages.values())

    def form(self) -> str:
        """What the pages need at most."""
        forms = {page.form for page in self.pages.values()}
        return next((form for form in ('chained', 'direct') if form in forms),
                    'none')

    def fork(self) -> None:
        """Each address space that maps a page gets a child that does, too."""
        for page in self.pages.values():
            for space, address in page.entries():
                page.add_rmap((('child of', space), address))


def _layout(line: int, pointer: int, entries: Set[FrameEntry]
            ) -> Dict[str, int]:
    memory = Memory(line, pointer, entries)
    before = len(memory.blocks)
    found = {'line': line, 'pointer': pointer, 'nrpte': memory.blocks.nrpte,
             'blocks': before, 'bytes': memory.size}
    memory.fork()
    return {**found, 'fork_bytes': (len(memory.blocks) - before) * line}


def pte_chain(entries: Set[FrameEntry]) -> Dict[str, Any]:
    """What 2.6.0 would have had for some pages, by who maps them where."""
    memory = Memory(*USUAL, entries)
    return {'how': 'modelled', 'form': memory.form(),
            'visits': memory.looks(), 'hits': len(entries),
            'waste': memory.looks() - len(entries), 'bytes': memory.size,
            'layouts': [_layout(*sizes, entries) for sizes in LAYOUTS]}


# --------------------------------------------------------------- 2.6.11 --

class Area(NamedTuple):
    """A VMA: whose, where, and which index its first page has."""

    pid: int
    start: int
    end: int
    first: int

    def offsets(self) -> range:
        """Indices that it has room for."""
        return range(self.first,
                     self.first + (self.end - self.start) // PAGE)


def areas(report: Report, kernel: Tuple[int, int],
          entries: Set[FrameEntry]) -> List[Area]:
    """The VMAs of a report, with the indices of their anonymous pages.

    From 7.3 on, those of a private mapping of a file count from the address
    at which it was first touched.  An entry tells which that is; one without
    is taken to be where it always was.
    """
    found = []
    page = report['page']
    for vma in report['vmas']:
        pid = report['mms'][vma['mm']]['pid']
        start, end = int(vma['start'], 16), int(vma['end'], 16)
        first = int(vma['pgoff'], 16)
        if kernel >= (7, 3) and '/' in (vma['name'] or ''):
            inside = [int(page['index'], 16) + frame - page['pfn']
                      - (address - start) // PAGE
                      for mapper, address, frame in entries
                      if mapper == pid and start <= address < end]
            first = inside[0] if inside else start // PAGE
        found.append(Area(pid, start, end, first))
    return found


def hit_areas(found: List[Area], entries: Set[FrameEntry]) -> int:
    """VMAs with an entry in them."""
    return sum(any(area.pid == pid and area.start <= address < area.end
                   for pid, address, _ in entries) for area in found)


def family_areas(report: Report) -> int:
    """VMAs that came from one by fork, mremap and split: all of them would
    have been on one list, that of the root."""
    roots = {av['root'] for av in report['anon_vmas'] if av['on_page']}
    kin = {av['id'] for av in report['anon_vmas'] if av['root'] in roots}
    return len({avc['vma'] for avc in report['avcs']
                if avc['anon_vma'] in kin})


def objrmap(report: Report, kernel: Tuple[int, int],
            entries: Set[FrameEntry], asked: range) -> Dict[str, Any]:
    """What 2.6.11 would have had for some pages of a folio."""
    page = report['page']
    found = areas(report, kernel, entries)
    if page['mapping'] == 'anon_vma':
        index = int(page['index'], 16) - page['pfn']
        wanted = set(range(index + asked.start, index + asked.stop))
        length = family_areas(report)
        near = sum(not wanted.isdisjoint(area.offsets()) for area in found)
        size = OLD_ANON_VMA
    else:
        length = near = sum(vma['visited'] for vma in report['vmas'])
        size = 0
    hits = hit_areas(found, entries)
    return {'how': 'modelled', 'list': length, 'in_range': near,
            'visits': length, 'hits': hits, 'waste': length - hits,
            'bytes': size}


# ------------------------------------------------------------- since then --

class Sizes(NamedTuple):
    """Bytes of an object, by the slab allocator."""

    anon_vma: int
    anon_vma_chain: int


def sizes(guest: Guest) -> Sizes:
    """Those of the running kernel."""
    return Sizes(*(int(guest.check(f'cat /sys/kernel/slab/{name}/object_size'))
                   for name in Sizes._fields))


def av_avc(report: Report, size: Sizes) -> Dict[str, Any]:
    """What there is, by the records; of the walk there is one account."""
    avs, avcs = len(report['anon_vmas']), len(report['avcs'])
    visits, hits = report['walk']['visited'], report['walk']['mapped']
    return {'how': 'measured', 'visits': visits, 'hits': hits,
            'waste': visits - hits, 'avs': avs, 'avcs': avcs,
            'bytes': avs * size.anon_vma + avcs * size.anon_vma_chain}


# ------------------------------------------------------------- all of it --

def history(report: Report, kernel: Tuple[int, int], size: Sizes,
            entries: Set[FrameEntry], asked: range) -> Dict[str, Any]:
    """What a report on some frames must say; entries are the processes' own
    account of them, each address space once, by a pid that uses it."""
    if report['page']['kind'] not in MAPPED_KINDS:
        return dict.fromkeys(('scan', 'pte_chain', 'objrmap', 'av_avc'))
    return {'scan': None, 'pte_chain': pte_chain(entries),
            'objrmap': objrmap(report, kernel, entries, asked)
            if report['page']['kind'] != 'ksm' else None,
            'av_avc': av_avc(report, size)}


def history_of_process(report: Report, size: Sizes) -> Dict[str, Any]:
    """What a report on a process must say."""
    nothing = dict.fromkeys(('visits', 'hits', 'waste'))
    families = {av['root'] for av in report['anon_vmas']}
    return {'scan': None, 'pte_chain': None,
            'objrmap': {'how': 'modelled', 'list': len(report['vmas']),
                        'in_range': None, **nothing,
                        'bytes': len(families) * OLD_ANON_VMA},
            'av_avc': {**av_avc(report, size), **nothing}}
