"""rmapviz who: who has a page, from whatever one knows of it."""

from typing import Any, Dict, Iterator, List, NamedTuple, \
    Optional, Tuple

from . import people, place
from .ask import NoPage, Source
from .failure import Failure
from .proc import PAGE, Proc
from .report import Report
from .words import Paper, Progress, columns, count, hexa, size
from .why import title


class Found(NamedTuple):
    """A page, where it was looked for, and what there is."""

    where: str              # what led to it, or nothing
    address: Optional[int]  # there, in the process or the file
    report: Optional[Report]
    gone: str               # why there is no report


class Who:
    """Looks pages up, and says whose they are."""

    def __init__(self, source: Source, proc: Proc, paper: Paper,
                 unfold: bool) -> None:
        self.source, self.proc, self.paper = source, proc, paper
        self._unfold = unfold

    # ------------------------------------------------------------ look-ups --

    def of_pfn(self, pfn: int) -> Found:
        """A page by its frame."""
        return Found('', None, self.source.ask(hexa(pfn)), '')

    def of_address(self, pid: int, address: int) -> Found:
        """The page that a process maps at an address."""
        where = f'process {pid} at {hexa(address)}'
        try:
            report = self.source.ask(f'pid {pid} {hexa(address)}')
        except NoPage:
            if not self.source.live:
                raise
            return Found(where, address, None,
                         place.absent(self.proc, pid, address))
        return Found(where, address, report, '')

    def of_areas(self, pid: int, name: str, limit: int) -> List[Found]:
        """The pages of some VMAs, of which at most so many are asked about."""
        spots = [spot for area in place.areas(self.proc, pid, name)
                 for spot in place.spots(self.proc, pid, area.start,
                                         area.end)]
        return self._of_spots(spots, limit)

    def of_range(self, pid: int, start: int, end: int, limit: int
                 ) -> List[Found]:
        """The pages of a range of addresses."""
        return self._of_spots(place.spots(self.proc, pid, start, end), limit)

    def _of_spots(self, spots: List[place.Spot], limit: int) -> List[Found]:
        there = [spot for spot in spots if spot.entry.present]
        chosen = set(_spread(range(len(there)), limit))
        asked = {there[i].address for i in chosen}
        found = []
        with Progress('asking', len(spots)) as progress:
            for i, spot in enumerate(spots):
                progress.at(i)
                if spot.entry.swapped:
                    found.append(Found('', spot.address, None, 'swapped out'))
                elif not spot.entry.present:
                    found.append(Found('', spot.address, None, 'not there'))
                elif spot.address in asked:
                    found.append(self.of_address(spot.pid, spot.address))
                else:
                    found.append(Found('', spot.address, None, 'not asked'))
        return found

    def of_file(self, path: str, offset: int, length: int, limit: int
                ) -> List[Found]:
        """The pages of a file that are in the page cache."""
        frames = place.frames_of_file(path, offset, length)
        there = [i for i, pfn in enumerate(frames) if pfn is not None]
        asked = {there[i] for i in _spread(range(len(there)), limit)}
        found = []
        for i, pfn in enumerate(frames):
            at = (offset // PAGE + i) * PAGE
            if pfn is None:
                found.append(Found('', at, None, 'not there'))
            elif i in asked:
                found.append(self.of_frame(pfn, at))
            else:
                found.append(Found('', at, None, 'not asked'))
        return found

    def of_frame(self, pfn: int, at: int) -> Found:
        """One of many pages by its frame; that there is none is no failure."""
        try:
            return Found('', at, self.source.ask(hexa(pfn)), '')
        except Failure as failure:
            return Found('', at, None, str(failure))

    # ------------------------------------------------------------- answers --

    def groups(self, report: Report) -> List[people.Group]:
        """Whose a page is."""
        return people.groups(report, self.proc, self.source.live,
                             self._unfold)

    def print_page(self, found: Found) -> None:
        """One page, for the eye."""
        if found.report is None:
            self.paper.line(found.gone)
            return
        if found.where:
            self.paper.line(found.where)
        self.paper.line(self.paper.mark(title(found.report), 'head'))
        rows = people.rows(self.groups(found.report))
        if rows:
            self.paper.lines(columns(rows, indent='  '))
        else:
            self.paper.line('  nobody maps it')
        walk = found.report['walk']
        if walk['unreached']:
            self.paper.line(f"  the kernel's rmap does not reach "
                            f"{count(walk['unreached'], 'more mapping')}")

    def print_pages(self, what: str, pages: List[Found]) -> None:
        """Many pages for the eye, those that are alike on one line."""
        tally = {name: sum(page.gone == name for page in pages)
                 for name in ('swapped out', 'not there', 'not asked')}
        asked = sum(page.report is not None for page in pages)
        self.paper.line(self.paper.mark(
            f'{what}: {count(len(pages), "page")} '
            f'({size(len(pages) * PAGE)})', 'head'))
        notes = [f'{number:,} {name}' for name, number in tally.items()
                 if number]
        self.paper.line(f"  asked about {asked:,}"
                        + (f"; {', '.join(notes)}" if notes else ''))
        for who, same in self._alike(pages):
            first = same[0].address or 0
            more = f' and {count(len(same) - 1, "other page")}' \
                if len(same) > 1 else ''
            self.paper.line(f'  at {hexa(first)}{more}')
            self.paper.lines(f'    {line}' for line in who)
        for page in pages:
            if page.gone and page.gone not in tally:
                self.paper.line(f'  {page.gone}')

    def _alike(self, pages: List[Found]
               ) -> List[Tuple[Tuple[str, ...], List[Found]]]:
        """Pages by whose they are, the most shared first."""
        alike: Dict[Tuple[str, ...], List[Found]] = {}
        weight: Dict[Tuple[str, ...], int] = {}
        for page in pages:
            if page.report is None:
                continue
            groups = self.groups(page.report)
            who = tuple(columns([row[:3] for row in people.rows(groups)])) \
                or ('nobody maps it',)
            alike.setdefault(who, []).append(page)
            weight[who] = sum(group.maps for group in groups)
        return sorted(alike.items(),
                      key=lambda item: (-weight[item[0]], -len(item[1])))

    def as_json(self, found: Found) -> Dict[str, Any]:
        """One page for programs."""
        made: Dict[str, Any] = {
            'rmapviz_who': 1, 'address': None if found.address is None
            else hex(found.address), 'absent': found.gone or None}
        if found.report is not None:
            made.update(page=found.report['page'], walk=found.report['walk'],
                        who=[group.as_json()
                             for group in self.groups(found.report)])
        return made


def _spread(places: range, limit: int) -> Iterator[int]:
    """At most so many of them, evenly spread."""
    step = max(1, -(-len(places) // max(1, limit)))
    return iter(places[::step])
