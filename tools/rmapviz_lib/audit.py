"""rmapviz audit: the kernel's reverse maps against all page tables, once.

One pass over the module's survey says for each folio in how many VMAs rmap
finds it; one pass over all pagemaps says in how many VMAs it is.  Both take
time, and the machine goes on meanwhile: what disagrees is looked at again,
page by page, and what still does is asked about with verify.  KSM pages, which
a VMA may have more than once, are asked about each: the kernel's own count of
mappings says whether the walk came to all of them.

Memory is 9 bytes for each frame, whatever is mapped: 150 MB for 64 GB.
"""

from array import array
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from .ask import Module
from .failure import Failure
from .libc import same_memory, scan_present
from .listing import survey
from .proc import PAGE, Proc, words
from .report import Report
from .words import Paper, Progress, count, hexa

# Pages of which pagemap is read at a time.
CHUNK = 1 << 16

# So often what disagrees is looked at again.
LOOKS = 3

# So many doubts are asked about with verify, which scans all memory for each.
MOST = 64

_PRESENT, _FRAME = 1 << 63, (1 << 55) - 1
_UNKNOWN = 0xff     # in place of an order: the survey has no such folio
_BUSY = (1 << 32) - 1

KSM_GAP = "ksmd has not yet reached a child of a process that exited, so " \
    "the kernel's rmap does not reach {}"


class Space(NamedTuple):
    """An address space, by a process that has it."""

    pid: int
    areas: List[Tuple[int, int]]


class Find(NamedTuple):
    """What stands in the end."""

    pfn: int
    explained: bool
    text: str


class Audit:
    """One run over the machine."""

    def __init__(self, source: Module, proc: Proc) -> None:
        self.source, self.proc = source, proc
        frames = last_frame(proc) + 1
        self.order = bytearray(b'\xff') * frames
        self.mapped = array('I', bytes(4 * frames))
        self.seen = array('I', bytes(4 * frames))
        self.ksm: Set[int] = set()
        self.folios = self.spaces = self.entries = 0

    def run(self) -> Iterator[Find]:
        """Everything that stands."""
        self._read_survey()
        spaces = list(address_spaces(self.proc))
        self.spaces = len(spaces)
        with Progress('reading page tables', len(spaces)) as progress:
            for i, space in enumerate(spaces):
                progress.at(i)
                self._count(space)
        doubts = self.doubts()
        for _ in range(LOOKS):
            if doubts:
                doubts = self._look_again(doubts, address_spaces(self.proc))
        for pfn in doubts[:MOST]:
            yield from self._verify(pfn)
        if len(doubts) > MOST:
            yield Find(doubts[MOST], False,
                       f'and {len(doubts) - MOST:,} more that disagree, '
                       'which were not asked about')
        yield from self._ask_ksm()

    def _read_survey(self) -> None:
        frames = len(self.order)
        with Progress('reading the survey', frames) as progress:
            for folio in survey(self.source.listing('survey')):
                progress.at(folio.pfn)
                end = folio.pfn + (1 << folio.order)
                if end > frames:
                    continue
                self.folios += 1
                if folio.kind == 'ksm':
                    self.ksm.add(folio.pfn)
                self.order[folio.pfn:end] = bytes([folio.order]) \
                    * (1 << folio.order)
                self.mapped[folio.pfn] = _BUSY if folio.mapped is None \
                    else folio.mapped

    def _count(self, space: Space) -> None:
        """One more VMA for each folio that an area has."""
        order, seen, frames = self.order, self.seen, len(self.order)
        for start, end in space.areas:
            large: Set[int] = set()
            for _, word in present(self.proc, space.pid, start, end):
                pfn = word & _FRAME
                if pfn >= frames:
                    continue
                self.entries += 1
                size = order[pfn]
                if size == 0 or size == _UNKNOWN:
                    seen[pfn] += 1
                    continue
                head = pfn >> size << size
                if head not in large:
                    large.add(head)
                    seen[head] += 1

    def doubts(self) -> List[int]:
        """Folios that one pass found in more VMAs than the other."""
        return [pfn for pfn, (mapped, seen) in
                enumerate(zip(self.mapped, self.seen))
                if mapped != seen and mapped != _BUSY
                and pfn not in self.ksm]

    # --------------------------------------------------------- second looks --

    def _look_again(self, doubts: List[int], spaces: Iterator[Space]
                    ) -> List[int]:
        """Those of which rmap and pagemaps disagree once more.

        Both sides are read anew, the pagemaps before rmap and after it: what
        was there all the time must be found, and what was found must have
        been there at one of these times.
        """
        listed = list(spaces)
        before = self._places(doubts, listed)
        answers = {pfn: self._ask(self._query(pfn)) for pfn in doubts}
        after = self._places(doubts, listed)
        left = []
        for pfn in doubts:
            answer = answers[pfn]
            if answer is None or answer['page']['kind'] not in (
                    'anon', 'file', 'shmem', 'hugetlb', 'ksm'):
                continue        # the zero page, a device's: rmap has none
            found = set(_mappings_of(answer, pfn, pfn + self._pages(pfn)))
            always = before.get(pfn, set()) & after.get(pfn, set())
            ever = before.get(pfn, set()) | after.get(pfn, set())
            if always - found or not all(
                    self._is_there(pfn, *place) for place in found - ever):
                left.append(pfn)
        return left

    def _pages(self, pfn: int) -> int:
        """How many pages a doubt is about: a folio's, or one that the survey
        has not, whatever folio it is in now."""
        size = self.order[pfn]
        return 1 if size == _UNKNOWN else 1 << size

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
                ) -> Dict[int, Set[Tuple[int, int]]]:
        """Where pagemaps have the pages of some folios: pid and address."""
        heads: Dict[int, int] = {}
        for pfn in doubts:
            for i in range(self._pages(pfn)):
                heads[pfn + i] = pfn
        found: Dict[int, Set[Tuple[int, int]]] = {}
        for space in spaces:
            for start, end in space.areas:
                for address, word in present(self.proc, space.pid, start,
                                             end):
                    head = heads.get(word & _FRAME)
                    if head is not None:
                        found.setdefault(head, set()).add(
                            (space.pid, address))
        return found

    def _ask(self, query: str) -> Optional[Report]:
        try:
            return self.source.ask(query)
        except Failure:
            return None         # it has gone

    def _verify(self, pfn: int) -> Iterator[Find]:
        """The module's own scan has the last word."""
        answer = self._ask(f'{self._query(pfn)} verify')
        if answer is None:
            return
        said = answer.get('verify') or {}
        missing, extra = said.get('missing', []), said.get('extra', [])
        if answer['page']['kind'] == 'ksm' and missing and not extra:
            yield Find(pfn, True, KSM_GAP.format(
                count(len(missing), 'mapping')))
        elif missing or extra:
            yield Find(pfn, False, f'rmap does not find '
                       f"{count(len(missing), 'mapping')}, and finds "
                       f'{len(extra)} that page tables do not have')

    def _ask_ksm(self) -> Iterator[Find]:
        """KSM pages whose mappings the walk does not reach."""
        for pfn in sorted(self.ksm):
            answer = self._ask(f'{hexa(pfn)} brief')
            if answer and answer['walk']['unreached'] > 0:
                yield from self._verify(pfn)


def _mappings_of(report: Report, first: int, end: int
                 ) -> Iterator[Tuple[int, int]]:
    """Pid and address of every entry that maps one of some frames.

    An address space that several processes have is named by one of them.
    """
    for pte in report['ptes']:
        if pte['vma'] is None:
            continue
        mm = report['vmas'][pte['vma']]['mm']
        pid = report['mms'][mm]['pid'] if mm is not None else 0
        for i in range(pte['pages']):
            if first <= pte['pfn'] + i < end:
                yield pid, int(pte['addr'], 16) + i * PAGE


def present(proc: Proc, pid: int, start: int, end: int
            ) -> Iterator[Tuple[int, int]]:
    """Address and word of every page of an area that is there."""
    path = proc.proc / str(pid) / 'pagemap'
    try:
        file = open(path, 'rb', buffering=0)
    except OSError:
        return
    with file:
        for first, last in scan_present(file.fileno(), start, end):
            for at in range(first, last, CHUNK * PAGE):
                pages = min(CHUNK, (last - at) // PAGE)
                try:
                    file.seek(at // PAGE * 8)
                    data = file.read(pages * 8) or b''
                except OSError:
                    return
                if data.count(0) == len(data):
                    continue
                for i, word in enumerate(words(data)):
                    if word & _PRESENT:
                        yield at + i * PAGE, word


def address_spaces(proc: Proc) -> Iterator[Space]:
    """Each once, though several processes have it."""
    known: Dict[str, List[int]] = {}
    for pid in proc.pids():
        text = proc.text(pid, 'maps')
        if not text:
            continue
        twins = known.setdefault(text, [])
        if any(same_memory(pid, twin) for twin in twins):
            continue
        twins.append(pid)
        yield Space(pid, [(area.start, area.end) for area in proc.areas(pid)
                          if area.name != '[vsyscall]'])


def last_frame(proc: Proc) -> int:
    """The last frame of memory, by /proc/iomem or /proc/zoneinfo."""
    end = 0
    for line in proc.text('iomem').splitlines():
        span, _, name = line.strip().partition(' : ')
        if name.startswith('System RAM'):
            end = max(end, int(span.split('-')[1], 16) // PAGE)
    return end or _last_of_zones(proc)


def _last_of_zones(proc: Proc) -> int:
    end, spanned = 0, 0
    for line in proc.text('zoneinfo').splitlines():
        words_ = line.split()
        if words_[:1] == ['spanned']:
            spanned = int(words_[1])
        if words_[:1] == ['start_pfn:'] and spanned:
            end = max(end, int(words_[1]) + spanned - 1)
    if not end:
        raise Failure('/proc/iomem does not say how much memory there is')
    return end


def print_result(audit: Audit, found: List[Find], seconds: float,
                 paper: Paper) -> None:
    """For the eye."""
    for find in found:
        mark = paper.mark('explained', 'doubt') if find.explained \
            else paper.mark('FIND', 'bad')
        paper.line(f'PFN {hexa(find.pfn)}: {mark}: {find.text}')
    real = sum(not find.explained for find in found)
    paper.line(f"{count(audit.folios, 'folio')}, "
               f"{count(audit.entries, 'entry', 'entries')} of "
               f"{count(audit.spaces, 'address space')} compared in "
               f"{seconds:.1f} s: "
               + ('rmap and page tables agree' if not found else
                  f"{count(real, 'find')}, {len(found) - real} explained"))


def as_json(audit: Audit, found: List[Find], seconds: float
            ) -> Dict[str, Any]:
    """For programs."""
    return {'rmapviz_audit': 1, 'folios': audit.folios,
            'entries': audit.entries, 'address_spaces': audit.spaces,
            'seconds': round(seconds, 3),
            'finds': [{'pfn': find.pfn, 'explained': find.explained,
                       'text': find.text} for find in found]}
