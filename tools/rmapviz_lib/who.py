"""rmapviz who: who has a page, from whatever one knows of it."""

from typing import Any, Callable, Dict, Iterable, Iterator, List, \
    NamedTuple, Optional, Tuple

from . import people, place
from .ask import Source
from .failure import Failure
from .proc import PAGE, Proc
from .report import Report
from .words import Paper, Progress, columns, count, hexa, plain, size
from .why import title

# So many pages are told one by one; of more, those in a row that are alike are
# one.
ALONE = 1 << 16

# Why there is no report of a page, where that is said by numbers only.
NOT_ASKED = 'not asked'
TALLIED = (place.SWAPPED, place.ABSENT, NOT_ASKED)


class Found(NamedTuple):
    """A page, where it was looked for, and what there is; or several in a row
    of which there is no report, for the same reason."""

    where: str              # what led to it, or nothing
    address: Optional[int]  # there, in the process or the file
    report: Optional[Report]
    gone: str               # why there is no report
    pages: int = 1
    groups: Optional[List[people.Group]] = None     # whose it is, if known


class Who:
    """Looks pages up, and says whose they are."""

    def __init__(self, source: Source, proc: Proc, paper: Paper,
                 unfold: bool) -> None:
        self.source, self.proc, self.paper = source, proc, paper
        self._unfold = unfold

    # ------------------------------------------------------------ look-ups --

    def of_address(self, pid: int, address: int) -> Found:
        """The page that a process maps at an address."""
        where = f'process {pid} at {hexa(address)}'
        try:
            report = self.source.ask(f'pid {pid} {hexa(address)}')
        except Failure as failure:
            if not failure.unmapped:
                raise
            return Found(where, address, None,
                         place.absent(self.proc, pid, address)
                         if self.source.live else place.ABSENT)
        return self._told(where, address, report)

    def of_areas(self, pid: int, name: str, limit: int) -> List[Found]:
        """The pages of some VMAs, of which at most so many are asked about."""
        runs = [run for area in place.areas(self.proc, pid, name)
                for run in place.runs(self.proc, pid, area.start, area.end)]
        return self._of_runs(runs, limit,
                             lambda address: self.of_address(pid, address))

    def of_range(self, pid: int, start: int, end: int, limit: int
                 ) -> List[Found]:
        """The pages of a range of addresses."""
        return self._of_runs(place.runs(self.proc, pid, start, end), limit,
                             lambda address: self.of_address(pid, address))

    def of_file(self, path: str, offset: int, length: int, limit: int
                ) -> List[Found]:
        """The pages of a file that are in the page cache."""

        def ask(at: int) -> Found:
            pfn, = place.frames_of_file(path, at, PAGE)
            if pfn is None:
                return Found('', at, None, place.ABSENT)
            return self._told('', at, self.source.ask(hexa(pfn)))

        return self._of_runs(place.file_runs(path, offset, length), limit,
                             ask)

    def _of_runs(self, runs: List[place.Run], limit: int,
                 ask: Callable[[int], Found]) -> List[Found]:
        """At most so many of those that are there are asked about."""
        found: List[Found] = []
        pages = sum(run.pages for run in runs)
        with Progress('asking', pages) as progress:
            done = 0
            for run in _chosen(runs, limit):
                progress.at(done)
                done += run.pages
                if run.gone:
                    found += _gone(run, pages)
                    continue
                try:
                    found.append(ask(run.address))
                except Failure as failure:
                    if not failure.of_a_page:
                        raise
                    found.append(no_report(run.address, failure))
        return found

    def _told(self, where: str, address: Optional[int], report: Report
              ) -> Found:
        """A page, of whose report only that is kept which will be told: there
        may be many of them, and each may be large."""
        return Found(where, address,
                     {'page': report['page'], 'walk': report['walk']}, '', 1,
                     self._groups_of(report))

    # ------------------------------------------------------------- answers --

    def groups(self, found: Found) -> List[people.Group]:
        """Whose a page is."""
        if found.groups is not None or found.report is None:
            return found.groups or []
        return self._groups_of(found.report)

    def _groups_of(self, report: Report) -> List[people.Group]:
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
        rows = people.rows(self.groups(found))
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
        tally = {name: sum(page.pages for page in pages if page.gone == name)
                 for name in TALLIED}
        asked = sum(page.report is not None for page in pages)
        number = sum(page.pages for page in pages)
        self.paper.line(self.paper.mark(
            f'{what}: {count(number, "page")} ({size(number * PAGE)})',
            'head'))
        notes = [f'{some:,} {name}' for name, some in tally.items() if some]
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
                self.paper.line(f'  {plain(page.gone)}')

    def _alike(self, pages: List[Found]
               ) -> List[Tuple[Tuple[str, ...], List[Found]]]:
        """Pages by whose they are, the most shared first."""
        alike: Dict[Tuple[str, ...], List[Found]] = {}
        weight: Dict[Tuple[str, ...], int] = {}
        for page in pages:
            if page.report is None:
                continue
            groups = self.groups(page)
            who = tuple(columns([row[:3] for row in people.rows(groups)])) \
                or ('nobody maps it',)
            alike.setdefault(who, []).append(page)
            weight[who] = sum(group.maps for group in groups)
        return sorted(alike.items(),
                      key=lambda item: (-weight[item[0]], -len(item[1])))

    def as_json(self, found: Found) -> Dict[str, Any]:
        """One page for programs, or several in a row that are not there."""
        made: Dict[str, Any] = {
            'rmapviz_who': 1, 'address': None if found.address is None
            else hex(found.address), 'pages': found.pages,
            'absent': found.gone or None}
        if found.report is not None:
            made.update(page=found.report['page'], walk=found.report['walk'],
                        who=[group.as_json()
                             for group in self.groups(found)])
        return made


def _gone(run: place.Run, pages: int) -> Iterable[Found]:
    """What is said of a run of which nobody was asked; one by one, unless
    there are too many pages in all."""
    if pages > ALONE:
        return (Found('', run.address, None, run.gone, pages=run.pages),)
    return (Found('', run.address + i * PAGE, None, run.gone)
            for i in range(run.pages))


def no_report(address: int, failure: Failure) -> Found:
    """A page of which there is no answer."""
    return Found('', address, None,
                 place.ABSENT if failure.no_page else str(failure))


def _chosen(runs: Iterable[place.Run], limit: int) -> Iterator[place.Run]:
    """Runs of which those that are there are taken apart: at most so many
    pages to be asked about, evenly spread, and those between them."""
    runs = list(runs)
    there = sum(run.pages for run in runs if not run.gone)
    step = max(1, -(-there // max(1, limit)))
    passed = 0
    for run in runs:
        if run.gone:
            yield run
            continue
        for address, pages, asked in _steps(run, step, passed):
            yield place.Run(address, pages, '' if asked else NOT_ASKED)
        passed += run.pages


def _steps(run: place.Run, step: int, passed: int
           ) -> Iterator[Tuple[int, int, bool]]:
    """Address and number of pages, and whether they are asked about: each
    that is a multiple of step, counted from so many before the run on."""
    at = 0
    while at < run.pages:
        wait = -(passed + at) % step
        pages = min(wait, run.pages - at) or 1
        yield run.address + at * PAGE, pages, not wait
        at += pages
