"""rmapviz top: the most shared, the most wasted, the largest of a machine."""

import heapq
import time
from collections import Counter
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set

from . import people
from .ask import Module, Source
from .failure import Failure
from .listing import Family, Folio, families, watched_survey
from .proc import FRAME, Proc, areas_of, paths_of
from .words import Paper, columns, hexa, plain, size

FOLIOS: Dict[str, Callable[[Folio], int]] = {
    'shared': lambda folio: folio.mapped or 0,
    'wasted': lambda folio: folio.wasted,
    'pinned': lambda folio: folio.dma_pins + folio.extra_refs,
    'chains': lambda folio: folio.chain_bytes,
}
TITLES = {
    'shared': 'the pages that most VMAs map',
    'wasted': 'the pages for which most VMAs are visited in vain',
    'pinned': 'the pages that are held most, beyond their mappings',
    'chains': 'the pages that would have the largest pte_chains of 2.6.0',
    'families': 'the largest families of anon_vmas',
}


class Only:
    """Which pages are meant: those of some processes."""

    # Frames of which it is noted together whether they are meant, a byte each.
    _TOGETHER = 1 << 16

    def __init__(self, pids: List[int]) -> None:
        self.pids = pids
        self._noted: Dict[int, bytearray] = {}

    def add(self, pfn: int) -> None:
        """One of them maps that one."""
        index, at = divmod(pfn, self._TOGETHER)
        if index not in self._noted:
            self._noted[index] = bytearray(self._TOGETHER)
        self._noted[index][at] = 1

    def has(self, folio: Folio) -> bool:
        """Whether one of them maps a page of a folio."""
        index, at = divmod(folio.pfn, self._TOGETHER)
        pages = 1 << folio.order
        return any(self._noted[i].find(1, at, at + pages) >= 0
                   for i in range(index, index + -(-pages // self._TOGETHER))
                   if i in self._noted)


def only(proc: Proc, pid: Optional[int], cgroup: Optional[str]
         ) -> Optional[Only]:
    """The pages of a process, or of all in a unit or cgroup."""
    if pid is None and cgroup is None:
        return None
    pids = [pid] if pid is not None else [
        other for other in proc.pids() if in_cgroup(proc, other, cgroup or '')]
    if pid is not None and not proc.exists(pid):
        raise Failure(f'there is no process {pid}')
    if not pids:
        raise Failure(f'no process is in {cgroup}')
    made = Only(pids)
    for one in pids:
        maps, home = proc.maps(one)
        for area in areas_of(maps):
            if area.name != '[vsyscall]':
                for _, word in proc.present(home, area.start, area.end):
                    made.add(word & FRAME)
    return made


def in_cgroup(proc: Proc, pid: int, name: str) -> bool:
    """By the name of a unit or slice, or by the path of a cgroup, that it is
    in or below."""
    paths = paths_of(proc.text(pid, 'cgroup')).values()
    if name and '/' not in name and any(name in path.split('/')
                                        for path in paths):
        return True
    above = f"/{name.strip('/')}".rstrip('/') + '/'
    return any(f'{path}/'.startswith(above) for path in paths)


class Top:
    """Reads the listings once, and says what is on top."""

    def __init__(self, source: Source, proc: Proc, paper: Paper) -> None:
        self.source, self.proc, self.paper = source, proc, paper

    def folios(self, what: str, number: int, chosen: Optional[Only]
               ) -> List[Folio]:
        """The folios with the most of something."""
        key = FOLIOS[what]
        some = (folio for folio in self._survey()
                if key(folio) > 0 and (chosen is None or chosen.has(folio)))
        return heapq.nlargest(number, some, key=key)

    def families(self, number: int, chosen: Optional[Only]) -> List[Family]:
        """The families with the most VMAs."""
        wanted: Optional[Set[str]] = None
        if chosen is not None:
            wanted = {folio.family for folio in self._survey()
                      if folio.kind == 'anon' and chosen.has(folio)}
        some = (family for family in families(self.source.listing('families'))
                if wanted is None or family.family in wanted)
        return heapq.nlargest(number, some, key=lambda family: family.vmas)

    def _survey(self) -> Iterator[Folio]:
        return watched_survey(self.source.listing('survey'),
                              self.proc if self.source.live else None)

    def who(self, folios: List[Folio]) -> Iterator[List[people.Group]]:
        """Who has them now, one after the other; nobody of whom there is no
        answer any more."""
        step = self.source.at_once
        for i in range(0, len(folios), step):
            some = folios[i:i + step]
            try:
                answers = self.source.ask_all(
                    [f'{hexa(folio.pfn)} folio' for folio in some])
            except Failure as failure:
                answers = [failure] * len(some)
            for answer in answers:
                yield [] if isinstance(answer, Failure) else people.groups(
                    answer, self.proc, self.source.live)

    def print_folios(self, what: str, found: List[Folio]) -> None:
        """For the eye, with who has them."""
        self.paper.line(self.paper.mark(TITLES[what], 'head'))
        rows = [['PFN', 'PAGES', 'KIND', 'MAPPED', 'IN VAIN', 'DMA PINS',
                 'OTHERS', 'CHAINS', 'WHO']]
        for folio, groups in zip(found, self.who(found)):
            rows.append([
                hexa(folio.pfn), str(1 << folio.order), folio.kind,
                _shown(folio.mapped), str(folio.wasted), str(folio.dma_pins),
                str(folio.extra_refs), size(folio.chain_bytes),
                _names(groups)])
        self.paper.lines(columns(rows, right=range(3, 8), indent='  '))
        if not found:
            self.paper.line('  none')

    def print_families(self, found: List[Family]) -> None:
        """For the eye."""
        self.paper.line(self.paper.mark(TITLES['families'], 'head'))
        rows = [['FAMILY', 'PROCESSES', 'VMAS', 'AVS', 'AVCS', 'DEPTH',
                 'MEMORY', 'NEXT FORK', 'FOR EXAMPLE']]
        for family in found:
            unit = plain(self.proc.unit(family.pid))
            rows.append([
                family.family, *(f'{value:,}' for value in (
                    family.processes, family.vmas, family.avs, family.avcs,
                    family.depth)),
                size(family.bytes), size(family.fork_bytes),
                f"{family.comm or '?'} ({family.pid})"
                + (f', {unit}' if unit else '')])
        self.paper.lines(columns(rows, right=range(1, 8), indent='  '))


def _shown(number: Optional[int]) -> str:
    return '-' if number is None else f'{number:,}'


def _names(groups: List[people.Group]) -> str:
    shown = [group.title() + (f', {group.unit}' if group.unit else '')
             for group in groups[:3]]
    more = len(groups) - 3
    return '; '.join(shown) + (f'; and {more} more' if more > 0 else '')


# ------------------------------------------------------------- prometheus --

class Totals:
    """Sums over the machine."""

    def __init__(self) -> None:
        self.folios: 'Counter[str]' = Counter()
        self.wasted = self.pins = self.pinned = self.held = 0
        self.busy = self.chain_bytes = 0
        self.ksm: List[int] = []

    def add(self, folio: Folio) -> None:
        """One more."""
        self.folios[folio.kind] += 1
        self.wasted += folio.wasted
        self.pins += folio.dma_pins
        self.pinned += folio.dma_pins > 0
        self.held += folio.extra_refs > 0
        self.busy += folio.visited is None
        self.chain_bytes += folio.chain_bytes
        if folio.kind == 'ksm':
            self.ksm.append(folio.pfn)


def unreached(source: Module, pfns: Iterable[int]) -> int:
    """Mappings of KSM pages that the kernel's rmap does not reach."""
    missed = 0
    for pfn in pfns:
        try:
            missed += source.ask(f'{hexa(pfn)} brief')['walk']['unreached']
        except Failure:
            pass
    return missed


def prometheus(source: Module) -> Iterator[str]:
    """The machine's totals, as node_exporter's textfile collector takes
    them."""
    start = time.monotonic()
    totals = Totals()
    for folio in watched_survey(source.listing('survey'), Proc()):
        totals.add(folio)
    known = list(families(source.listing('families')))
    yield from _metric('mapped_folios', 'Folios that are mapped, by kind.',
                       {f'{{kind="{kind}"}}': number
                        for kind, number in sorted(totals.folios.items())})
    values: Dict[str, Any] = {
        'vmas_visited_in_vain': (
            'VMAs that a walk for each mapped folio would visit in vain.',
            totals.wasted),
        'dma_pins': ('DMA pins of mapped folios.', totals.pins),
        'dma_pinned_folios': ('Mapped folios with a DMA pin.', totals.pinned),
        'held_folios': ('Mapped folios with references that nothing '
                        'explains.', totals.held),
        'busy_folios': ('Folios that stayed locked while they were counted.',
                        totals.busy),
        'pte_chain_bytes': ('What pte_chains of 2.6.0 would take.',
                            totals.chain_bytes),
        'unreached_mappings': (
            "Mappings of KSM pages that the kernel's rmap does not reach.",
            unreached(source, totals.ksm)),
        'families': ('Families of anon_vmas.', len(known)),
        'largest_family_vmas': ('VMAs in the largest family.', max(
            (family.vmas for family in known), default=0)),
        'largest_family_processes': (
            'Processes in the family that has most.', max(
                (family.processes for family in known), default=0)),
        'anon_vma_bytes': ('Memory for anon_vmas and AVCs.', sum(
            family.bytes for family in known)),
        'largest_fork_bytes': (
            'What the next fork would allocate where that is most.', max(
                (family.fork_bytes for family in known), default=0)),
    }
    for name, (text, value) in values.items():
        yield from _metric(name, text, {'': value})
    yield from _metric('survey_seconds', 'How long it took to count this.',
                       {'': round(time.monotonic() - start, 3)})


def _metric(name: str, text: str, values: Dict[str, Any]) -> Iterator[str]:
    yield f'# HELP rmapviz_{name} {text}'
    yield f'# TYPE rmapviz_{name} gauge'
    for labels, value in values.items():
        yield f'rmapviz_{name}{labels} {value}'
