"""rmapviz audit: the kernel's reverse maps against all page tables, once.

One pass over the module's survey says for each folio in how many VMAs rmap
finds it; one pass over all pagemaps says in how many VMAs it is.  Both take
time, and the machine goes on meanwhile: what disagrees is looked at again,
page by page, and what still does is asked about with verify.  KSM pages, which
a VMA may have more than once, are asked about each: the kernel's own count of
mappings says whether the walk came to all of them.

Memory is 9 bytes for each frame, whatever is mapped: 150 MB for 64 GB.  What
disagrees is looked at again some at a time, for which 100 MB are enough.
"""

from array import array
from itertools import islice
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from .ask import Module
from .failure import Failure
from .libc import memory_order
from .listing import watched_survey
from .proc import FRAME, PAGE, Proc, areas_of
from .report import Report
from .words import Paper, Progress, count, hexa, plain

# Folios that are looked at again together, with so many mappings.
TOGETHER, PLACES = 1 << 16, 1 << 20

# So often what disagrees is looked at again; and as long as that settles some,
# where many are left, up to so often.
LOOKS, MOST_LOOKS = 3, 10

# So many doubts are asked about with verify, which scans all memory for each.
MOST = 64

# A page in more places than these that the survey has not, as the zero page,
# is asked about before the places are listed.
MANY = 1 << 12

# In place of an order: the survey has no such folio, or it is of KSM.
_UNKNOWN, _KSM = 0xff, 0xfe
_BUSY = (1 << 32) - 1

# What rmap knows.
MAPPED = {'anon', 'file', 'shmem', 'hugetlb', 'ksm'}

# A place is a number: an address space, and a page in it.
_SPACE, _MOST_SPACES = 44, 1 << 20

KSM_GAP = "ksmd has not yet reached a child of a process that exited, so " \
    "the kernel's rmap does not reach {}"


class Space(NamedTuple):
    """An address space."""

    home: str               # where below /proc it is told of
    pids: List[int]         # processes that have it
    areas: 'array[int]'     # start and end of each VMA


class Find(NamedTuple):
    """What stands in the end."""

    pfn: int
    explained: bool
    text: str


class Doubt(NamedTuple):
    """What could not be settled."""

    pfn: int
    text: str


class Walked(NamedTuple):
    """Where rmap finds a folio."""

    places: 'array[int]'
    others: List[Tuple[int, int]]   # pid and address, of spaces not listed
    twins: Dict[int, int]           # what was listed twice, by its number


class Audit:
    """One run over the machine."""

    def __init__(self, source: Module, proc: Proc) -> None:
        self.source, self.proc = source, proc
        self._survey = source.listing('survey')
        frames = last_frame(proc) + 1
        self.order = bytearray(b'\xff') * frames
        self.mapped = array('I', bytes(4 * frames))
        self.seen = array('I', bytes(4 * frames))
        self.folios = self.spaces = self.entries = self.ksm = 0
        self.busy = self.beyond = 0         # folios that were not compared
        self.unsettled: List[Doubt] = []
        self.more = 0                       # that were not settled, either

    def run(self) -> Iterator[Find]:
        """Everything that stands."""
        self._read_survey()
        self._read_page_tables()
        self._look_again()
        yield from self._verify_doubts()
        yield from self._ask_ksm()

    def _read_survey(self) -> None:
        for folio in watched_survey(self._survey, self.proc):
            end = folio.pfn + (1 << folio.order)
            if end > len(self.order):
                self.beyond += 1
                continue
            order = folio.order
            if folio.kind == 'ksm':
                order = _KSM
                self.ksm += 1
            if folio.mapped is None and order != _KSM:
                self.busy += 1
            else:
                self.folios += 1
            self.order[folio.pfn:end] = bytes([order]) * (end - folio.pfn)
            self.mapped[folio.pfn] = _BUSY if folio.mapped is None \
                else folio.mapped

    def _read_page_tables(self) -> None:
        spaces = address_spaces(self.proc)
        self.spaces = len(spaces)
        with Progress('reading page tables', len(spaces)) as progress:
            for i, space in enumerate(spaces):
                progress.at(i)
                self._count(space)

    def _count(self, space: Space) -> None:
        """One more VMA for each folio that an area has."""
        order, seen, frames = self.order, self.seen, len(self.order)
        for start, end in _areas(space):
            large: Set[int] = set()
            for _, word in present(self.proc, space.home, start, end):
                pfn = word & FRAME
                if pfn >= frames:
                    continue
                self.entries += 1
                size = order[pfn]
                if size == 0 or size >= _KSM:
                    seen[pfn] += 1
                    continue
                head = pfn >> size << size
                if head not in large:
                    large.add(head)
                    seen[head] += 1

    def doubts(self) -> Iterator[int]:
        """Folios that one pass found in more VMAs than the other, but those
        that are settled."""
        for pfn, (mapped, seen) in enumerate(zip(self.mapped, self.seen)):
            if mapped != seen and mapped != _BUSY and self.order[pfn] != _KSM:
                yield pfn

    def _settle(self, pfn: int) -> None:
        """A folio is no doubt any more."""
        self.seen[pfn] = self.mapped[pfn]

    def _leave(self, pfn: int, text: str) -> None:
        """A folio of which it cannot be said whether it is a find."""
        if len(self.unsettled) < MOST:
            self.unsettled.append(Doubt(
                pfn, text.removeprefix(f'PFN {hexa(pfn)}: ')))
        else:
            self.more += 1

    # -------------------------------------------------------- second looks --

    def _look_again(self) -> None:
        """Settle what changes by itself."""
        left = sum(1 for _ in self.doubts())
        for look in range(MOST_LOOKS):
            before = left
            if not before:
                return
            for some in self._together():
                self._look_at(some)
            left = sum(1 for _ in self.doubts())
            if look + 1 >= LOOKS and (left <= MOST or left == before):
                return

    def _together(self) -> Iterator[List[int]]:
        """Doubts, of which as many at a time as there is room for."""
        some: List[int] = []
        places = 0
        for pfn in self.doubts():
            more = max(self.seen[pfn], self.mapped[pfn])
            if more > MANY and self.order[pfn] == _UNKNOWN \
                    and self._report(pfn, ' brief') is None:
                continue
            more *= self._pages(pfn)
            if some and (len(some) == TOGETHER or places + more > PLACES):
                yield some
                some, places = [], 0
            some.append(pfn)
            places += more
        if some:
            yield some

    def _look_at(self, doubts: List[int]) -> None:
        """Settle those of which rmap and pagemaps do not disagree once more.

        Both sides are read anew, the pagemaps before rmap and after it: what
        was there all the time must be found, and what was found must have
        been there at one of these times.
        """
        spaces = address_spaces(self.proc)
        if len(spaces) > _MOST_SPACES:
            raise Failure(f'there are more than {_MOST_SPACES:,} processes')
        before = self._places(doubts, spaces)
        walked = self._walk_all(doubts, spaces)
        after = self._places(doubts, spaces)
        none = array('Q')
        for pfn, found in walked.items():
            if self._agree(pfn, found, before.get(pfn, none),
                           after.get(pfn, none), spaces):
                self._settle(pfn)

    def _agree(self, pfn: int, walked: Walked, before: 'array[int]',
               after: 'array[int]', spaces: List[Space]) -> bool:
        was, then, found = (_by_space(places, walked.twins) for places
                            in (before, after, walked.places))
        if (was & then) - found:
            return False
        places = walked.others + [
            (spaces[place >> _SPACE].pids[0], _address(place))
            for place in found - was - then]
        return all(self._is_there(pfn, *place) for place in places)

    def _walk_all(self, doubts: List[int], spaces: List[Space]
                  ) -> Dict[int, Walked]:
        """Where rmap finds them now; those of which that is told."""
        numbers = {pid: i for i, space in enumerate(spaces)
                   for pid in space.pids}
        found = {}
        with Progress('asking about what disagrees', len(doubts)) as progress:
            for i, pfn in enumerate(doubts):
                progress.at(i)
                report = self._report(pfn)
                if report is not None:
                    found[pfn] = _walked(report, pfn, pfn + self._pages(pfn),
                                         numbers)
        return found

    def _report(self, pfn: int, option: str = '') -> Optional[Report]:
        """What the module says of a doubt, if it does.

        Settled is what is no page any more, or none that rmap knows: the zero
        page, a device's.
        """
        try:
            report = self.source.ask(f'{self._query(pfn)}{option}')
        except Failure as failure:
            if failure.no_page:
                self._settle(pfn)
            return None
        if report['page']['kind'] in MAPPED:
            return report
        self._settle(pfn)
        return None

    def _pages(self, pfn: int) -> int:
        """How many pages a doubt is about: a folio's, or one that the survey
        has not, whatever folio it is in now."""
        size = self.order[pfn]
        return 1 if size >= _KSM else 1 << size

    def _query(self, pfn: int) -> str:
        """The question about a doubt."""
        return f"{hexa(pfn)}{' folio' if self._pages(pfn) > 1 else ''}"

    def _is_there(self, pfn: int, pid: int, address: int) -> bool:
        """Whether a process that was not there before, or has got an area
        since, maps a page of a folio; or is not there any more."""
        if pid == 0 or not self.proc.exists(pid):
            return True
        try:
            found = self.proc.pagemap(pid, address, 1)
        except Failure:
            return True
        return bool(found) and found[0].present \
            and pfn <= found[0].pfn < pfn + self._pages(pfn)

    def _places(self, doubts: List[int], spaces: List[Space]
                ) -> Dict[int, 'array[int]']:
        """Where pagemaps have the pages of some folios."""
        order, frames, wanted = self.order, len(self.order), set(doubts)
        found: Dict[int, 'array[int]'] = {}
        with Progress('looking again', len(spaces)) as progress:
            for i, space in enumerate(spaces):
                progress.at(i)
                for address, word in self._present(space):
                    pfn = word & FRAME
                    if pfn >= frames:
                        continue
                    size = order[pfn]
                    head = pfn if size >= _KSM else pfn >> size << size
                    if head in wanted:
                        if head not in found:
                            found[head] = array('Q')
                        found[head].append(_place(i, address))
        return found

    def _present(self, space: Space) -> Iterator[Tuple[int, int]]:
        for start, end in _areas(space):
            yield from present(self.proc, space.home, start, end)

    # ------------------------------------------------------- the last word --

    def _verify_doubts(self) -> Iterator[Find]:
        """What stands of those that are left."""
        left = sum(1 for _ in self.doubts())
        with Progress('asking with verify', min(left, MOST)) as progress:
            for i, pfn in enumerate(islice(self.doubts(), MOST)):
                progress.at(i)
                yield from self._verify(pfn)
        self.more += max(0, left - MOST)

    def _verify(self, pfn: int) -> Iterator[Find]:
        """The module's own scan has the last word, if it says one."""
        try:
            answer = self.source.ask(f'{self._query(pfn)} verify')
        except Failure as failure:
            if not failure.no_page:
                self._leave(pfn, str(failure))
            return
        said, walk = answer.get('verify'), answer['walk']
        if said is None or walk['lost']:
            self._leave(pfn, 'verify does not tell all of it')
            return
        missing, extra = len(said['missing']), len(said['extra'])
        if answer['page']['kind'] == 'ksm' and not extra \
                and 0 < missing <= walk['unreached']:
            yield Find(pfn, True, KSM_GAP.format(count(missing, 'mapping')))
        elif missing or extra:
            yield Find(pfn, False, f'rmap does not find '
                       f"{count(missing, 'mapping')}, and finds "
                       f'{extra} that page tables do not have')

    def _ask_ksm(self) -> Iterator[Find]:
        """KSM pages whose mappings the walk does not reach."""
        asked = 0
        with Progress('asking about KSM pages', self.ksm) as progress:
            for i, pfn in enumerate(self._ksm_pages()):
                progress.at(i)
                if not self._is_unreached(pfn):
                    continue
                asked += 1
                if asked <= MOST:
                    yield from self._verify(pfn)
                else:
                    self.more += 1

    def _ksm_pages(self) -> Iterator[int]:
        pfn = self.order.find(_KSM)
        while pfn >= 0:
            yield pfn
            pfn = self.order.find(_KSM, pfn + 1)

    def _is_unreached(self, pfn: int) -> bool:
        try:
            report = self.source.ask(f'{hexa(pfn)} brief')
        except Failure as failure:
            if not failure.no_page:
                self._leave(pfn, str(failure))
            return False
        return bool(report['walk']['unreached'] > 0)


# ------------------------------------------------------------------ places --

def _place(space: int, address: int) -> int:
    return space << _SPACE | address // PAGE


def _address(place: int) -> int:
    return (place & (1 << _SPACE) - 1) * PAGE


def _by_space(places: 'array[int]', twins: Dict[int, int]) -> Set[int]:
    """Places as a set; of an address space that was listed twice, by one of
    its numbers."""
    if not twins:
        return set(places)
    return {_place(twins.get(place >> _SPACE, place >> _SPACE),
                   _address(place)) for place in places}


def _walked(report: Report, first: int, end: int, numbers: Dict[int, int]
            ) -> Walked:
    """Where a report has some frames.

    It names an address space by all processes that have it, which may be
    others than that which we know it by.
    """
    found = Walked(array('Q'), [], {})
    known: List[Optional[int]] = []
    for mm in report['mms']:
        mine = sorted({numbers[pid] for pid in mm['tasks'] if pid in numbers})
        known.append(mine[0] if mine else None)
        found.twins.update((twin, mine[0]) for twin in mine[1:])
    for pte in report['ptes']:
        if pte['vma'] is None:
            continue
        mm = report['vmas'][pte['vma']]['mm']
        number = None if mm is None else known[mm]
        for i in range(max(0, first - pte['pfn']),
                       min(pte['pages'], end - pte['pfn'])):
            address = int(pte['addr'], 16) + i * PAGE
            if number is None:
                found.others.append(
                    (0 if mm is None else report['mms'][mm]['pid'], address))
            else:
                found.places.append(_place(number, address))
    return found


# ---------------------------------------------------------- address spaces --

def _areas(space: Space) -> Iterator[Tuple[int, int]]:
    return zip(space.areas[::2], space.areas[1::2])


def present(proc: Proc, home: str, start: int, end: int
            ) -> Iterator[Tuple[int, int]]:
    """Address and word of every page of an area that is there, and that may
    be known."""
    try:
        yield from proc.present(home, start, end)
    except Failure:
        pass


def address_spaces(proc: Proc) -> List[Space]:
    """Each once, though several processes have it."""
    found: List[Space] = []
    twins = _Twins()
    for pid in proc.pids():
        maps, home = proc.maps(pid)
        if not maps:
            continue
        # of another machine's /proc the kernel would tell of others
        twin = twins.find_or_add(int(home.rpartition('/')[2]), len(found)) \
            if proc.is_ours else None
        if twin is not None:
            found[twin].pids.append(pid)
            continue
        areas = array('Q')
        for area in areas_of(maps):
            if area.name != '[vsyscall]':
                areas.extend((area.start, area.end))
        found.append(Space(home, [pid], areas))
    return found


class _Twins:
    """Tasks in the order of their address spaces, so that one more need be
    compared with few of them."""

    def __init__(self) -> None:
        self._sorted: List[Tuple[int, int]] = []    # task, and its number

    def find_or_add(self, task: int, number: int) -> Optional[int]:
        """The number of one with the same memory; or None, and it is added."""
        low, high = 0, len(self._sorted)
        while low < high:
            middle = (low + high) // 2
            order = memory_order(task, self._sorted[middle][0])
            if order == 0:
                return self._sorted[middle][1]
            if order is None:
                if memory_order(task, task) is None:
                    return None     # it has exited, or the kernel cannot tell
                del self._sorted[middle]    # that one has
                high -= 1
            elif order < 0:
                high = middle
            else:
                low = middle + 1
        self._sorted.insert(low, (task, number))
        return None


def last_frame(proc: Proc) -> int:
    """The last frame of memory."""
    end = proc.last_frame()
    if not end:
        raise Failure('/proc/iomem does not say how much memory there is')
    return end


# ------------------------------------------------------------------ result --

def print_result(audit: Audit, found: List[Find], seconds: float,
                 paper: Paper) -> None:
    """For the eye."""
    for find in found:
        mark = paper.mark('explained', 'doubt') if find.explained \
            else paper.mark('FIND', 'bad')
        paper.line(f'PFN {hexa(find.pfn)}: {mark}: {find.text}')
    for doubt in audit.unsettled:
        mark = paper.mark('not settled', 'doubt')
        paper.line(f'PFN {hexa(doubt.pfn)}: {mark}: {plain(doubt.text)}')
    if audit.more:
        paper.line(f"and {count(audit.more, 'more folio')} that disagreed and "
                   'were not settled')
    if audit.busy or audit.beyond:
        paper.line(f'not compared: {audit.busy:,} that somebody else had at '
                   f'the time, {audit.beyond:,} beyond System RAM')
    real = sum(not find.explained for find in found)
    open_ = len(audit.unsettled) + audit.more
    paper.line(f"{count(audit.folios, 'folio')}, "
               f"{count(audit.entries, 'entry', 'entries')} of "
               f"{count(audit.spaces, 'address space')} compared in "
               f"{seconds:.1f} s: "
               + (f"{count(real, 'find')}, {len(found) - real} explained, "
                  f'{open_:,} not settled' if found or open_ else
                  'rmap and page tables agree'))


def as_json(audit: Audit, found: List[Find], seconds: float
            ) -> Dict[str, Any]:
    """For programs."""
    return {'rmapviz_audit': 1, 'folios': audit.folios,
            'entries': audit.entries, 'address_spaces': audit.spaces,
            'seconds': round(seconds, 3), 'busy': audit.busy,
            'beyond_memory': audit.beyond,
            'not_settled': [{'pfn': doubt.pfn, 'text': doubt.text}
                            for doubt in audit.unsettled],
            'not_settled_more': audit.more,
            'finds': [{'pfn': find.pfn, 'explained': find.explained,
                       'text': find.text} for find in found]}
