"""What changes from one report to the next, in sentences."""

from typing import Any, Dict, List, Sequence, Tuple

import compare

from . import report as reports
from .failure import Failure
from .page import Step
from .report import Report
from .words import count, hexa, plain


def between(first: Report, second: Report) -> List[str]:
    """Where two reports differ, as tools/compare.py says it.

    Those of different pages have nothing else in common.
    """
    for report in first, second:
        if reports.is_brief(report):
            raise Failure('a report with brief has no records to compare')
    try:
        return [*_left_out(first, second), *compare.differences(
            _comparable(first), _comparable(second))]
    except compare.Unusable as error:
        raise Failure(f'they cannot be compared: {error}') from None


def _is_placed(record: Dict[str, Any]) -> bool:
    """Whether what an AVC or an entry belongs to did fit into the report."""
    return record['vma'] is not None and record.get('anon_vma', 0) is not None


def _comparable(report: Report) -> Report:
    """A report all of whose records can be told by what they belong to.

    A VMA whose address space did not fit is in process ?.
    """
    unknown = len(report['mms'])
    if all(vma['mm'] is not None for vma in report['vmas']):
        mms = report['mms']
    else:
        mms = [*report['mms'], {'pid': '?'}]
    return {**report, 'mms': mms, 'vmas': [
        {**vma, 'mm': unknown if vma['mm'] is None else vma['mm']}
        for vma in report['vmas']],
        **{table: [*filter(_is_placed, report[table])]
           for table in ('avcs', 'ptes')}}


def _left_out(first: Report, second: Report) -> List[str]:
    """How many records cannot be compared, where they are not as many."""
    found = []
    for what, table in ('AVC', 'avcs'), ('entry', 'ptes'):
        old, new = (sum(not _is_placed(record) for record in report[table])
                    for report in (first, second))
        things = 'entries' if what == 'entry' else ''
        if old != new:
            found.append(f'{count(old, what, things)} of what did not fit in '
                         f'the first, {new:,} in the second')
    return found


def story(told: Sequence[Tuple[str, Report]]) -> List[Step]:
    """The steps of a page: each with what changed since the one before."""
    steps: List[Step] = []
    for i, (caption, report) in enumerate(told):
        found = news(told[i - 1][1], report) if i else []
        steps.append(Step(report, plain(caption), found))
    return steps


def news(before: Report, after: Report) -> List[str]:
    """What happened in between, in a few words; records by what they are."""
    for report in before, after:
        if reports.is_brief(report):
            raise Failure('a report with brief has nothing to draw')
    old, new = before['page'], after['page']
    found = []
    if old and new and old['pfn'] != new['pfn']:
        found.append(f"another page: not {hexa(old['pfn'])}, but "
                     f"{hexa(new['pfn'])}")
    found += _came_and_went(before, after)
    found += _outcomes(before, after)
    for what, table in ('anon_vmas', 'anon_vmas'), ('AVCs', 'avcs'):
        found += _count(what, len(before[table]), len(after[table]))
    if old and new:
        for field in 'mapcount', 'refcount', 'dma_pins', 'extra_refs':
            found += _count(field.replace('_', ' '), old[field] or 0,
                            new[field] or 0)
    for field in 'visited', 'mapped':
        found += _count(f'VMAs {field}', before['walk'][field],
                        after['walk'][field])
    return found


def _count(what: str, old: int, new: int) -> List[str]:
    return [f'{what}: {old:,} before, {new:,} now'] if old != new else []


def _came_and_went(before: Report, after: Report) -> List[str]:
    """Address spaces, by pid; 0 is that of those that nobody has now."""
    old, new = ({mm['pid']: mm for mm in report['mms'] if mm['pid']}
                for report in (before, after))
    return [f'{reports.comm(old[pid])} ({pid}) went'
            for pid in sorted(old.keys() - new.keys())] \
        + [f'{reports.comm(new[pid])} ({pid}) came'
           for pid in sorted(new.keys() - old.keys())]


WORDS = {'maps': 'maps the page', 'visited': 'is visited in vain',
         '-': 'is not visited'}


def _outcomes(before: Report, after: Report) -> List[str]:
    """VMAs that are in both, and what the walk found there."""
    def of(report: Report) -> Dict[Tuple[int, str], Tuple[str, str]]:
        return {(mm['pid'], vma['start']):
                (reports.comm(mm), reports.outcome(vma))
                for vma in report['vmas']
                for mm in [reports.mm_of(report, vma)] if mm}
    old, new = of(before), of(after)
    return [f'{new[key][0]} ({key[0]}) {WORDS[new[key][1]]} now, at '
            f'{int(key[1], 16):x}'
            for key in sorted(old.keys() & new.keys())
            if old[key][1] != new[key][1]]
