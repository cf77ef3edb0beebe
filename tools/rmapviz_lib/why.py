"""rmapviz why: will it move, and if not, because of whom."""

import errno
from collections import Counter
from enum import IntEnum
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, \
    Optional, Sequence, Tuple

from . import holders, people
from . import report as reports
from .ask import Answer, Source
from .failure import Failure
from .proc import KPF_BUDDY, KPF_NOPAGE, KPF_TAIL, Proc
from .report import Report
from .target import Frames, text
from .words import Paper, Progress, columns, count, hexa, kernel_name, plain

# Frames of which kpageflags is read at a time.
CHUNK = 4096

# Reasons of `migrate` that need words of their own.
REASONS = {
    'extra-refs': '{extra} that no mapping explains',
    'dma-pins': '{pins}, for I/O',
    'writeback': 'it is being written; that ends by itself',
    'locked': 'somebody has locked it; that ends by itself as a rule',
    'unevictable': 'it is locked in memory (mlock), and '
                   'vm.compact_unevictable_allowed is 0',
    'missed': "the kernel's own rmap does not reach {missed}",
    'unmapped': 'nothing maps it: only who holds it keeps it',
    'unmovable': "it is the kernel's own, which cannot move at all",
}

# Those that somebody's references are the cause of.
HELD = {'extra-refs', 'dma-pins', 'unmapped'}

OUTCOMES = {'SWAP_SUCCESS': 'yes', 'SWAP_AGAIN': 'not now', 'SWAP_FAIL': 'no'}


class Case(NamedTuple):
    """One page, and what came of it."""

    frames: Frames
    report: Report
    held_by: List[holders.Holder]


# --------------------------------------------------------------- one page --

def answers(source: Source, pfns: Iterable[int], option: str = ''
            ) -> List[Answer]:
    """What is said of pages.

    A Failure among it is of that page alone: one that would be of any other,
    too, is raised.
    """
    found = source.ask_all([f'{hexa(pfn)}{option}' for pfn in pfns])
    for answer in found:
        if isinstance(answer, Failure) and not answer.of_a_page:
            raise answer
    return found


def look(frames: Frames, source: Source, proc: Proc) -> Case:
    """Ask about a page, and look for who holds it."""
    report, = answers(source, [frames.first])
    if isinstance(report, Failure):
        raise report
    return Case(frames, report,
                holders.find(report, proc) if source.live else [])


def reasons(report: Report) -> List[str]:
    """Why it does not move, each in words."""
    page = report['page']
    extra, pins = page['extra_refs'] or 0, page['dma_pins'] or 0
    facts = {'extra': count(extra, 'reference'),
             'pins': count(pins, 'DMA pin'),
             'missed': f"{report['walk']['unreached']} of "
                       f"{count(page['folio_mapcount'], 'mapping')}"}
    return [REASONS[reason].format(**facts) if reason in REASONS
            else plain(reason) for reason in report['migrate']['reasons']]


def verdict(report: Report) -> Optional[str]:
    """yes, not now or no; None of what is no page."""
    migrate = report.get('migrate')
    return plain(migrate['verdict']) if migrate else None


def title(report: Report) -> str:
    """What page it is, on one line."""
    page = report['page']
    part = f", a part of {count(1 << page['order'], 'page')} at " \
        f"{hexa(page['head'])}" if page['order'] else ''
    of_file = f" {kernel_name(page['file'])}" if page['file'] else ''
    return f"PFN {hexa(page['pfn'])} ({page['pfn']}) is " \
        f'{plain(reports.what(page))}{of_file}{part}'


def print_case(case: Case, paper: Paper, proc: Proc, live: bool) -> None:
    """For the eye."""
    report = case.report
    paper.line(paper.mark(title(report), 'head'))
    _print_verdict(report, paper)
    _print_holders(case, paper, live)
    groups = people.groups(report, proc, live)
    if groups:
        paper.line('  who has it')
        paper.lines(people_lines(groups))
    elif report['page']['kind'] in ('anon', 'file', 'shmem', 'ksm', 'hugetlb'):
        paper.line('  who has it   nobody maps it')
    for line in advice(case):
        paper.line(f'  {line}')


def people_lines(groups: List[people.Group]) -> List[str]:
    """A table of who has it, not too long."""
    shown = columns(people.rows(groups[:12]), indent='    ')
    if len(groups) > 12:
        shown.append(f'    and {len(groups) - 12} more groups: rmapviz who '
                     'shows all')
    return shown


def _print_verdict(report: Report, paper: Paper) -> None:
    said = plain(report['migrate']['verdict'])
    why = reasons(report)
    how = {'yes': 'good', 'no': 'bad'}.get(said, 'doubt')
    first = f': {why[0]}' if why else ''
    paper.line(f"  will it move?  {paper.mark(said, how)}{first}")
    for more in why[1:]:
        paper.line(f'                 {more}')
    reclaim = report['reclaim']
    if reclaim:
        facts = plain(', '.join(reclaim['reasons']))
        outcome = reclaim['outcome']
        paper.line('  reclaimed?     '
                   + OUTCOMES.get(outcome, plain(outcome))
                   + (f': {facts}' if facts else ''))


def _print_holders(case: Case, paper: Paper, live: bool) -> None:
    held = HELD.intersection(case.report['migrate']['reasons'])
    if not case.held_by:
        if held:
            paper.line('  held by        ' + (
                'nothing in /proc could be it: a driver, or somebody who has '
                'gone' if live else 'a dump does not tell'))
        return
    paper.line('  held by')
    for text_, certain, names in _by_text(case.held_by):
        mark = paper.mark('holds    ', 'bad') if certain \
            else paper.mark('candidate', 'doubt')
        paper.line(f"    {mark}  {', '.join(names)}{': ' if names else ''}"
                   f'{text_}')


def _by_text(found: Iterable[holders.Holder]) -> List[Any]:
    """Holders, with all processes that have the same thing together."""
    together: Dict[str, List[holders.Holder]] = {}
    for holder in found:
        together.setdefault(holder.text, []).append(holder)
    made = []
    for text_, same in together.items():
        names = [f'{holder.comm} ({holder.pid})' for holder in same
                 if holder.pid]
        if len(names) > 4:
            names[3:] = [f'{len(names) - 3} more']
        made.append((text_, same[0].sure, names))
    return made


def advice(case: Case) -> List[str]:
    """What to do about it, where that is known."""
    said = set(case.report['migrate']['reasons'])
    page = case.report['page']
    if 'missed' in said and page['kind'] == 'ksm':
        return ['what to do     ksmd has not yet reached a child of a process '
                'that exited; wait for its next pass, or echo 2 > '
                '/sys/kernel/mm/ksm/run']
    if case.held_by and said & HELD:
        return ['what to do     let the holder go on or end; then try again']
    return []


def case_json(case: Case, proc: Proc, live: bool) -> Dict[str, Any]:
    """For programs."""
    report = case.report
    return {'rmapviz_why': 1, 'kernel': report['kernel'],
            'page': report['page'], 'migrate': report['migrate'],
            'reclaim': report['reclaim'], 'walk': report['walk'],
            'reasons': reasons(report),
            'holders': [holder.as_json() for holder in case.held_by]
            if live else None,
            'who': [group.as_json()
                    for group in people.groups(report, proc, live)]}


# ---------------------------------------------------------------- a range --

class Fate(IntEnum):
    """What was last said of a frame."""

    UNTOLD = 0
    SILENT = 1      # it did not answer
    FREE = 2        # it need not move
    MOVABLE = 3
    STAYS = 4
    ABSENT = 5      # no such page


class Fates:
    """What becomes of the frames of a range.

    Folios are made, split and freed meanwhile, and then two answers are of the
    same frame; the later one counts, so that no frame counts twice.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._fates = bytearray()   # as far as something was said
        self._beyond = 0            # frames behind the end of memory

    def tell(self, pfn: int, fates: bytes) -> None:
        """Of some frames in a row, a Fate for each."""
        start = pfn - self._frames.first
        self._fates.extend(bytes(max(0, start - len(self._fates))))
        self._fates[start:start + len(fates)] = fates

    def end_at(self, pfn: int) -> None:
        """From there on there is no memory."""
        self._beyond = self._frames.end - pfn

    def count(self, fate: Fate) -> int:
        """How many frames have it."""
        return self._fates.count(fate) \
            + (self._beyond if fate is Fate.ABSENT else 0)

    def unknown(self) -> Iterator[int]:
        """Frames about which to ask again: those that did not answer, and
        those of which nobody spoke, since they were tails and are none.

        Behind a folio that did not answer they may well be its own.
        """
        last = Fate.UNTOLD
        for i, fate in enumerate(self._fates):
            if fate != Fate.UNTOLD:
                last = Fate(fate)
            if fate == Fate.SILENT or last is not Fate.SILENT \
                    and fate == Fate.UNTOLD:
                yield self._frames.first + i


class Block(NamedTuple):
    """Many pages in a row, and those of them that stay."""

    frames: Frames
    free: int           # frames that need not move
    movable: int        # frames of folios that would
    absent: int         # no such page
    unanswered: int     # folios of which there is no answer now
    stay: List[Report]  # brief reports of folios that would not

    @property
    def status(self) -> int:
        """What the command exits with."""
        if self.unanswered:
            return 2
        return 1 if self.stay else 0


def candidates(frames: Frames, proc: Proc, fates: Fates) -> Sequence[int]:
    """The frames of a range about which to ask: heads that are not free.

    Free blocks and tails are told by /proc/kpageflags, so that not every
    frame is asked about; without it, all are.
    """
    if not proc.page_flags(0, 1):
        return range(frames.first, frames.end)
    found: List[int] = []
    for first in range(frames.first, frames.end, CHUNK):
        length = min(CHUNK, frames.end - first)
        flags = proc.page_flags(first, length)
        told = bytes(Fate.ABSENT if word & KPF_NOPAGE else
                     Fate.FREE if word & KPF_BUDDY else Fate.UNTOLD
                     for word in flags)
        fates.tell(first, told)
        found.extend(first + i for i, word in enumerate(flags)
                     if told[i] == Fate.UNTOLD
                     and (not word & KPF_TAIL or first + i == frames.first))
        if len(flags) < length:     # it ends where memory does
            fates.end_at(first + len(flags))
            break
    return found


def look_at_range(frames: Frames, source: Source, proc: Proc) -> Block:
    """Ask about every folio of a range, briefly."""
    fates = Fates(frames)
    # what /proc says is of the running kernel
    asked = candidates(frames, proc, fates) if source.live \
        else range(frames.first, frames.end)
    if not asked:   # kpageflags tells it all, but with the module only
        answers(source, [frames.first])
    with Progress(f'asking about {text(frames)}', len(asked)) as progress:
        stay = _stay(asked, frames, source, fates, progress)
    # processes exit and pages move meanwhile: what stays does so twice
    again = sorted([*(report['page']['pfn'] for report in stay),
                    *fates.unknown()]) if source.live else []
    if again:
        with Progress('asking again', len(again)) as progress:
            stay = _stay(again, frames, source, fates, progress)
    if fates.count(Fate.ABSENT) == frames.pages:
        raise Failure(f'{frames.said}: there is no such memory: it is beyond '
                      'what there is, in a hole, or offline', errno.ENXIO)
    return Block(frames, fates.count(Fate.FREE), fates.count(Fate.MOVABLE),
                 fates.count(Fate.ABSENT), fates.count(Fate.SILENT),
                 sorted(stay, key=_is_let_go))


def _is_let_go(report: Report) -> bool:
    """Whether nobody's references keep it: what somebody holds comes first."""
    return not HELD.intersection(report['migrate']['reasons'])


def _fate(answer: Answer) -> Fate:
    """Of a folio of which that is said."""
    if isinstance(answer, Failure):
        return Fate.ABSENT if answer.no_page else Fate.SILENT
    if answer['page']['kind'] == 'free':
        return Fate.FREE
    return Fate.MOVABLE if verdict(answer) == 'yes' else Fate.STAYS


def _stay(pfns: Sequence[int], frames: Frames, source: Source, fates: Fates,
          progress: Progress) -> List[Report]:
    """Ask about folios, and tell the fates of all: those that would stay."""
    stay: List[Report] = []
    for pfn, pages, answer in _folios(pfns, frames, source, progress):
        fate = _fate(answer)
        fates.tell(pfn, bytes([fate]) * pages)
        if fate is Fate.STAYS and not isinstance(answer, Failure):
            stay.append(answer)
    return stay


def _folios(pfns: Sequence[int], frames: Frames, source: Source,
            progress: Progress) -> Iterator[Tuple[int, int, Answer]]:
    """What is said of frames, and how many of the range are of the folio."""
    covered = frames.first
    step = source.at_once
    for i in range(0, len(pfns), step):
        progress.at(i)
        # what is behind may have become part of a folio counted before
        batch = [pfn for pfn in pfns[i:i + step] if pfn >= covered]
        for pfn, answer in zip(batch, answers(source, batch, ' brief')):
            if pfn < covered:
                continue
            covered = pfn + 1
            if not isinstance(answer, Failure):
                page = answer['page']
                covered = max(covered, min(
                    page['head'] + (1 << page['order']), frames.end))
            yield pfn, covered - pfn, answer


def print_block(block: Block, source: Source, paper: Paper, proc: Proc,
                limit: int) -> None:
    """For the eye: sums, then the pages that stay, the worst first."""
    said, name = plain(block.frames.said), text(block.frames)
    paper.line(paper.mark(
        f"{'' if said == name else said + ': '}{name}, "
        f"{count(block.frames.pages, 'page')}: {_outcome(block)}", 'head'))
    parts = [f"{count(block.free, 'page')} free",
             f'{block.movable:,} would move',
             f'{block.absent:,} not there',
             f'{block.unanswered:,} not answered' if block.unanswered else '']
    paper.line(f"  {', '.join(filter(None, parts))}")
    for kind, number in _kinds(block.stay).most_common():
        paper.line(f'  {number:,} would not: {kind}')
    chosen = worth_a_look(block)
    for report in chosen[:limit]:
        paper.line()
        try:
            print_case(_again(report, source, proc), paper, proc, source.live)
        except Failure as failure:
            if not failure.of_a_page:
                raise
            paper.line(plain(str(failure)))
    if len(chosen) > limit:
        paper.line(f'\nand {len(chosen) - limit} more pages with holders; '
                   '-n shows more')


def _outcome(block: Block) -> str:
    """The whole range, in a few words."""
    if block.stay:
        return f"stays: {count(len(block.stay), 'folio')} would not move"
    if block.unanswered:
        return f"not known: {count(block.unanswered, 'folio')} did not answer"
    return 'could be emptied now'


def _kinds(stay: List[Report]) -> 'Counter[str]':
    return Counter(
        f"{plain(reports.what(report['page']))}, "
        f"{plain(' '.join(report['migrate']['reasons']))}"
        for report in stay)


def worth_a_look(block: Block) -> List[Report]:
    """Those of which more can be found out: not the kernel's own."""
    return [report for report in block.stay if verdict(report) == 'not now']


def _again(report: Report, source: Source, proc: Proc) -> Case:
    """The case of a page of which a brief report is there."""
    pfn = report['page']['pfn']
    frames = Frames(pfn, 1, hexa(pfn))
    if not source.live and not reports.is_brief(report):
        return Case(frames, report, [])     # drgn knows no other
    return look(frames, source, proc)


def block_json(block: Block, source: Source, proc: Proc, limit: int
               ) -> Dict[str, Any]:
    """For programs."""
    cases: List[Dict[str, Any]] = []
    for report in worth_a_look(block)[:limit]:
        try:
            cases.append(case_json(_again(report, source, proc), proc,
                                   source.live))
        except Failure as failure:
            if not failure.of_a_page:
                raise
            cases.append({'rmapviz_why': 1, 'page': report['page'],
                          'error': str(failure)})
    return {'rmapviz_why_range': 1, 'first': block.frames.first,
            'count': block.frames.pages, 'free': block.free,
            'movable': block.movable,
            'absent': block.absent, 'unanswered': block.unanswered,
            'stay': [{'page': report['page'], 'migrate': report['migrate']}
                     for report in block.stay],
            'cases': cases}
