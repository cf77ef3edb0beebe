#!/usr/bin/python3
"""Compare two reports of rmapviz: say in words where they differ.

    tools/compare.py module.json drgn.json

Records are told by what they are, not by their ids: an anon_vma by its
address, or by the VMAs in its tree where a report has no addresses; a VMA by
its process and place; an entry by the page that it maps there.  So neither
ids nor order matter.  What is measured is not compared (walk.lock_ns,
walk.lock_max_ns, walk.attempts, walk.retries, history.scan), nor the wording
of the question, nor a verification that only one of the two has.

Exits with 0 if they are the same, 1 if they differ, 2 if there is no telling.
"""

import argparse
import json
import sys
from collections import Counter
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

Report = Dict[str, Any]
Facts = Dict[str, object]
Table = Dict[str, Facts]

TABLES = ('anon_vmas', 'avcs', 'mms', 'vmas', 'ptes')
NOT_COMPARED = {'query'}
OPTIONAL = {'verify'}
MEASURED = {'lock_ns', 'lock_max_ns', 'attempts', 'retries', 'scan'}
REFERENCES = {'refcount', 'expected_refs', 'dma_pins', 'extra_refs'}


class Unusable(Exception):
    """What was given is no report; says why."""


class Naming:
    """Names for the records of one report, that do not depend on ids."""

    def __init__(self, report: Report, ptrs: bool) -> None:
        self.report = report
        self.ptrs = ptrs
        self.mms = self._unique(self._mm(mm) for mm in report['mms'])
        self.vmas = self._unique(self._vma(vma) for vma in report['vmas'])
        self.avs = self._unique(self._av(av) for av in report['anon_vmas'])

    @staticmethod
    def _unique(names: Iterator[str]) -> List[str]:
        """Tell apart, by number, what has the same name."""
        seen: 'Counter[str]' = Counter()
        found = []
        for name in names:
            seen[name] += 1
            found.append(name if seen[name] == 1 else f'{name} #{seen[name]}')
        return found

    @staticmethod
    def _mm(mm: Facts) -> str:
        return f"process {mm['pid']}"

    def _vma(self, vma: Dict[str, Any]) -> str:
        return f"VMA {int(vma['start'], 16):x}-{int(vma['end'], 16):x} of " \
            f"{self.mms[vma['mm']]}"

    def _av(self, av: Facts) -> str:
        if self.ptrs:
            return f"anon_vma {av['ptr']}"
        vmas = sorted(self.vmas[avc['vma']] for avc in self.report['avcs']
                      if avc['anon_vma'] == av['id'])
        return f"anon_vma on level {av['level']} of " \
            f"{', '.join(vmas) or 'no VMA'}"

    def av(self, i: Optional[int]) -> str:
        """The name of an anon_vma, by its id."""
        return 'none' if i is None else self.avs[i]

    def vma(self, i: Optional[int]) -> str:
        """The name of a VMA, by its id."""
        return 'none' if i is None else self.vmas[i]


def comparable(record: Dict[str, Any], ptrs: bool) -> Dict[str, Any]:
    """A record with flags in order, and without what is not compared."""
    return {field: sorted(fact) if field == 'flags' else fact
            for field, fact in record.items()
            if field != 'id' and field not in MEASURED
            and (ptrs or field not in ('ptr', 'mapping_ptr'))}


def tables(report: Report, ptrs: bool) -> Dict[str, Table]:
    """All records by name, with names in place of ids."""
    names = Naming(report, ptrs)
    found: Dict[str, Table] = {table: {} for table in TABLES}

    def add(table: str, name: str, record: Dict[str, Any],
            **references: object) -> None:
        facts = {**comparable(record, ptrs), **references}
        if name in found[table]:
            raise Unusable(f'{name} is there twice')
        found[table][name] = facts

    for mm, name in zip(report['mms'], names.mms):
        add('mms', name, mm)
    for vma, name in zip(report['vmas'], names.vmas):
        add('vmas', name, vma, mm=names.mms[vma['mm']],
            anon_vma=names.av(vma['anon_vma']))
    for av, name in zip(report['anon_vmas'], names.avs):
        add('anon_vmas', name, av, root=names.av(av['root']),
            parent=names.av(av['parent']))
    for avc in report['avcs']:
        vma, av = names.vma(avc['vma']), names.av(avc['anon_vma'])
        add('avcs', f'AVC between {vma} and {av}', avc, vma=vma, anon_vma=av)
    for pte in report['ptes']:
        vma = names.vma(pte['vma'])
        add('ptes', f"entry at {pte['addr']} of {vma}", pte, vma=vma)
    return found


def fact_lines(what: str, first: Facts, second: Facts,
               ignored: Set[str]) -> Iterator[str]:
    """Where two descriptions of the same thing differ."""
    for field in [*first, *(field for field in second if field not in first)]:
        if field in ignored or field in OPTIONAL and not (
                field in first and field in second):
            continue
        one, other = (facts.get(field, 'not told')
                      for facts in (first, second))
        if one != other:
            yield f'{what}: {field} is {show(field, one)} in the first, ' \
                f'{show(field, other)} in the second'


def show(field: str, fact: object) -> str:
    """A fact in a sentence; frames in hex, as wherever people read them."""
    if isinstance(fact, list):
        return ' '.join(map(str, fact)) or 'empty'
    if isinstance(fact, bool):
        return 'yes' if fact else 'no'
    if field in ('pfn', 'head') and isinstance(fact, int):
        return f'{fact:#x}'
    return 'none' if fact is None else str(fact)


def table_lines(first: Table, second: Table, ignored: Set[str]
                ) -> Iterator[str]:
    """Where two tables of records differ."""
    for name, facts in first.items():
        if name in second:
            yield from fact_lines(name, facts, second[name], ignored)
        else:
            yield f'{name}: only in the first'
    for name in second:
        if name not in first:
            yield f'{name}: only in the second'


def has_ptrs(report: Report) -> bool:
    """Whether a report tells the addresses of all its records."""
    return all('ptr' in record for table in TABLES[:-1]
               for record in report[table]) and (
        not report['page'] or 'ptr' in report['page'])


def top_lines(first: Report, second: Report, ptrs: bool, ignored: Set[str]
              ) -> Iterator[str]:
    """Where two reports differ in what is in no table."""
    for field in {**first, **second}:
        if field in NOT_COMPARED or field in TABLES:
            continue
        if field in OPTIONAL and not (field in first and field in second):
            continue
        one, other = ({field: report.get(field)}
                      for report in (first, second))
        yield from inner_lines('', one, other, ptrs, ignored)


def inner_lines(what: str, first: Dict[str, Any], second: Dict[str, Any],
                ptrs: bool, ignored: Set[str]) -> Iterator[str]:
    """The same where there may be descriptions inside of them."""
    first, second = comparable(first, ptrs), comparable(second, ptrs)
    for field in [field for field in first if field in second]:
        if isinstance(first[field], dict) and isinstance(second[field], dict):
            yield from inner_lines(f'{what} {field}'.lstrip(),
                                   first.pop(field), second.pop(field), ptrs,
                                   ignored)
    yield from fact_lines(what or 'report', first, second, ignored)


def differences(first: Report, second: Report,
                ignore_refs: bool = False) -> List[str]:
    """All differences, each in a sentence; raises Unusable."""
    ptrs = has_ptrs(first) and has_ptrs(second)
    ignored = REFERENCES if ignore_refs else set()
    try:
        found = list(top_lines(first, second, ptrs, ignored))
        one, other = tables(first, ptrs), tables(second, ptrs)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Unusable(f'not a whole report: {error!r}') from None
    for table in TABLES:
        found += table_lines(one[table], other[table], ignored)
    return found


def counts(report: Report) -> Tuple[int, ...]:
    """How many records of each table there are."""
    return tuple(len(report[table]) for table in TABLES)


def load(path: str) -> Report:
    """A report from a file, or from standard input."""
    try:
        with open(0 if path == '-' else path, encoding='utf-8') as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        raise Unusable(f'{path}: {error}') from None
    if not isinstance(report, dict) or 'rmapviz' not in report:
        raise Unusable(f'{path}: not a report of rmapviz')
    if 'error' in report:
        raise Unusable(f"{path}: {report.get('query')}: {report['error']}")
    missing = {'page', 'walk', 'history', *TABLES} - report.keys()
    if missing:
        raise Unusable(f"{path}: without {', '.join(sorted(missing))} "
                       "(brief?)")
    return report


def main(argv: List[str]) -> int:
    """Compare two files; the status to exit with."""
    parser = argparse.ArgumentParser(
        description='Say where two reports of rmapviz differ.')
    parser.add_argument('first', help='a report as JSON, or -')
    parser.add_argument('second', help='another')
    parser.add_argument('--ignore-refs', action='store_true',
                        help='let refcounts and what they consist of differ')
    parser.add_argument('--max', type=int, default=20, metavar='N',
                        help='tell at most N differences (20)')
    options = parser.parse_args(argv)
    try:
        found = differences(load(options.first), load(options.second),
                            options.ignore_refs)
    except Unusable as error:
        print(f'compare.py: {error}', file=sys.stderr)
        return 2
    print('\n'.join(found[:options.max]), end='\n' if found else '')
    if len(found) > options.max:
        print(f'and {len(found) - options.max} more')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
