"""rmapviz why: will it move, and if not, because of whom."""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from . import holders, people
from . import report as reports
from .ask import Source
from .failure import Failure
from .proc import KPF_BUDDY, KPF_NOPAGE, KPF_TAIL, Proc
from .report import Report
from .target import Frames, text
from .words import Paper, Progress, count, hexa, kernel_name

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

def look(frames: Frames, source: Source, proc: Proc) -> Case:
    """Ask about a page, and look for who holds it."""
    report = source.ask(hexa(frames.first))
    return Case(frames, report,
                holders.find(report, proc) if source.live else [])


def reasons(report: Report) -> List[str]:
    """Why it does not move, each in words."""
    page, migrate = report['page'], report.get('migrate')
    if not migrate:
        return []
    extra, pins = page['extra_refs'] or 0, page['dma_pins'] or 0
    facts = {'extra': count(extra, 'reference'),
             'pins': count(pins, 'DMA pin'),
             'missed': f"{report['walk']['unreached']} of "
                       f"{count(page['folio_mapcount'], 'mapping')}"}
    return [REASONS.get(reason, reason).format(**facts)
            for reason in migrate['reasons']]


def verdict(report: Report) -> Optional[str]:
    """yes, not now or no; None where the report does not say, as a dump's."""
    migrate = report.get('migrate')
    return str(migrate['verdict']) if migrate else None


def title(report: Report) -> str:
    """What page it is, on one line."""
    page = report['page']
    part = f", a part of {count(1 << page['order'], 'page')} at " \
        f"{hexa(page['head'])}" if page['order'] else ''
    of_file = f" {kernel_name(page['file'])}" if page['file'] else ''
    return f"PFN {hexa(page['pfn'])} ({page['pfn']}) is " \
        f'{reports.what(page)}{of_file}{part}'


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
    from .words import columns
    shown = columns(people.rows(groups[:12]), indent='    ')
    if len(groups) > 12:
        shown.append(f'    and {len(groups) - 12} more groups: rmapviz who '
                     'shows all')
    return shown


def _print_verdict(report: Report, paper: Paper) -> None:
    said = verdict(report)
    why = reasons(report)
    if said is None:
        refs = report['page']['extra_refs'], report['page']['dma_pins']
        paper.line('  will it move?  a dump does not tell; '
                   f'{refs[0] or 0} other references, {refs[1] or 0} DMA '
                   'pins')
        return
    how = {'yes': 'good', 'no': 'bad'}.get(said, 'doubt')
    first = f': {why[0]}' if why else ''
    paper.line(f"  will it move?  {paper.mark(said, how)}{first}")
    for more in why[1:]:
        paper.line(f'                 {more}')
    reclaim = report.get('reclaim')
    if reclaim:
        facts = ', '.join(reclaim['reasons'])
        paper.line('  reclaimed?     '
                   + OUTCOMES.get(reclaim['outcome'], reclaim['outcome'])
                   + (f': {facts}' if facts else ''))


def _print_holders(case: Case, paper: Paper, live: bool) -> None:
    held = set((case.report.get('migrate') or {}).get('reasons', ())) & HELD
    if not case.held_by:
        if held and live:
            paper.line('  held by        nothing in /proc could be it: a '
                       'driver, or somebody who has gone')
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
    migrate = case.report.get('migrate') or {'reasons': []}
    said = set(migrate['reasons'])
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
            'page': report['page'], 'migrate': report.get('migrate'),
            'reclaim': report.get('reclaim'), 'walk': report['walk'],
            'reasons': reasons(report),
            'holders': [holder.as_json() for holder in case.held_by],
            'who': [group.as_json()
                    for group in people.groups(report, proc, live)]}


# ---------------------------------------------------------------- a range --

class Block(NamedTuple):
    """Many pages in a row, and those of them that stay."""

    frames: Frames
    free: int           # frames that need not move
    movable: int        # frames of folios that would
    absent: int         # no such page
    stay: List[Report]  # brief reports of folios that would not


def candidates(frames: Frames, proc: Proc, tally: Dict[str, int]
               ) -> List[int]:
    """The frames of a range about which to ask: heads that are not free.

    Free blocks and tails are told by /proc/kpageflags, so that not every
    frame is asked about; without it, all are.
    """
    found = []
    for first in range(frames.first, frames.end, CHUNK):
        length = min(CHUNK, frames.end - first)
        flags = proc.page_flags(first, length)
        if len(flags) < length:
            flags += [0 if not flags and first == frames.first
                      else KPF_NOPAGE] * (length - len(flags))
        for i, word in enumerate(flags):
            if word & KPF_NOPAGE:
                tally['absent'] += 1
            elif word & KPF_BUDDY:
                tally['free'] += 1
            elif not word & KPF_TAIL or first + i == frames.first:
                found.append(first + i)
    return found


def look_at_range(frames: Frames, source: Source, proc: Proc) -> Block:
    """Ask about every folio of a range, briefly."""
    tally = {'free': 0, 'absent': 0, 'movable': 0}
    asked = candidates(frames, proc, tally)
    with Progress(f'asking about {text(frames)}', len(asked)) as progress:
        doubtful = _stay(asked, frames, source, tally, progress)
    # processes exit and pages move meanwhile: what stays does so twice
    stay = _stay([report['page']['pfn'] for report in doubtful], frames,
                 source, tally, Progress('asking again', len(doubtful)))
    return Block(frames, tally['free'], tally['movable'], tally['absent'],
                 sorted(stay, key=lambda report: not HELD.intersection(
                     (report.get('migrate') or {'reasons': ()})['reasons'])))


def _stay(pfns: List[int], frames: Frames, source: Source,
          tally: Dict[str, int], progress: Progress) -> List[Report]:
    """Ask about folios; those that would stay. The others are counted."""
    stay = []
    covered = frames.first
    for i, pfn in enumerate(pfns):
        progress.at(i)
        if pfn < covered:   # it has become part of a folio counted before
            continue
        try:
            report = source.ask(f'{hexa(pfn)} brief')
        except Failure:
            tally['absent'] += 1
            continue
        page = report['page']
        end = min(page['head'] + (1 << page['order']), frames.end)
        covered = max(pfn + 1, end)
        if page['kind'] == 'free':
            tally['free'] += 1
        elif verdict(report) == 'yes':
            tally['movable'] += covered - pfn
        else:
            stay.append(report)
    return stay


def print_block(block: Block, source: Source, paper: Paper, proc: Proc,
                limit: int) -> None:
    """For the eye: sums, then the pages that stay, the worst first."""
    name = text(block.frames)
    goes = 'could be emptied now' if not block.stay else \
        f"stays: {count(len(block.stay), 'folio')} would not move"
    if block.absent == block.frames.pages:
        goes = 'no such memory: a hole, or offline'
    paper.line(paper.mark(f'{block.frames.said}: {name}, '
                          f"{count(block.frames.pages, 'page')}: {goes}",
                          'head'))
    paper.line(f"  {count(block.free, 'page')} free, {block.movable:,} would "
               f'move, {block.absent:,} not there')
    for kind, number in sorted(_kinds(block.stay).items(),
                               key=lambda item: -item[1]):
        paper.line(f'  {number:,} would not: {kind}')
    chosen = worth_a_look(block.stay)
    for report in chosen[:limit]:
        pfn = report['page']['pfn']
        paper.line()
        try:
            case = look(Frames(pfn, 1, hexa(pfn)), source, proc)
        except Failure as failure:
            paper.line(str(failure))
            continue
        print_case(case, paper, proc, source.live)
    if len(chosen) > limit:
        paper.line(f'\nand {len(chosen) - limit} more pages with holders; '
                   '-n shows more')


def _kinds(stay: List[Report]) -> Dict[str, int]:
    found: Dict[str, int] = {}
    for report in stay:
        migrate = report.get('migrate') or {'reasons': ['not told']}
        name = f"{reports.what(report['page'])}, " \
            f"{' '.join(migrate['reasons'])}"
        found[name] = found.get(name, 0) + 1
    return found


def worth_a_look(stay: List[Report]) -> List[Report]:
    """Those of which more can be found out: not the kernel's own."""
    return [report for report in stay
            if (report.get('migrate') or {}).get('verdict') == 'not now']


def block_json(block: Block, source: Source, proc: Proc, limit: int
               ) -> Dict[str, Any]:
    """For programs."""
    cases = []
    for report in worth_a_look(block.stay)[:limit]:
        pfn = report['page']['pfn']
        try:
            cases.append(case_json(look(Frames(pfn, 1, ''), source, proc),
                                   proc, source.live))
        except Failure:
            pass
    return {'rmapviz_why_range': 1, 'first': block.frames.first,
            'count': block.frames.pages, 'free': block.free,
            'movable': block.movable, 'absent': block.absent,
            'stay': [{'page': report['page'],
                      'migrate': report.get('migrate')}
                     for report in block.stay], 'cases': cases}
