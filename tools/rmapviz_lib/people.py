"""Processes that are alike, as one line."""

from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Tuple

from . import report as reports
from .proc import Proc
from .report import Record, Report
from .words import count, kernel_name, plain, stem


class Group(NamedTuple):
    """Processes of one command in one unit."""

    name: str
    unit: str
    pids: Tuple[int, ...]
    mappers: Tuple[int, ...]        # pids of those that map the page
    maps: int           # address spaces that map it
    in_vain: int        # were visited in vain
    not_visited: int
    addresses: Tuple[int, ...]      # where it appears

    def title(self) -> str:
        """Who."""
        if len(self.pids) == 1:
            return f'{self.name} ({self.pids[0]})'
        return f'{self.name} x{len(self.pids)}'

    def result(self) -> str:
        """What the walk found in them."""
        parts = []
        if self.maps:
            parts.append(f'maps {self.maps}')
        if self.in_vain:
            parts.append(f'visited in vain {self.in_vain}')
        if self.not_visited:
            parts.append(f'not visited {self.not_visited}')
        return ', '.join(parts)

    def as_json(self) -> Dict[str, Any]:
        """For programs."""
        return {'comm': self.name, 'unit': self.unit or None,
                'pids': list(self.pids),
                'mapping_pids': list(self.mappers), 'maps': self.maps,
                'visited_in_vain': self.in_vain,
                'not_visited': self.not_visited,
                'addresses': [hex(address) for address in self.addresses]}


class _Seen(NamedTuple):
    """One address space, and what the walk found in it."""

    mm: Record
    outcome: str
    addresses: Tuple[int, ...]


def _address_spaces(report: Report) -> List[_Seen]:
    outcomes: Dict[int, str] = {}
    places: Dict[int, List[int]] = {}
    ranks = ('-', 'visited', 'maps')
    for vma in report['vmas']:
        if vma['mm'] is not None:
            outcomes[vma['mm']] = max(outcomes.get(vma['mm'], '-'),
                                      reports.outcome(vma), key=ranks.index)
    for pte in report['ptes']:
        mm = None if pte['vma'] is None else report['vmas'][pte['vma']]['mm']
        if mm is not None:
            places.setdefault(mm, []).append(int(pte['addr'], 16))
    return [_Seen(mm, outcomes.get(i, '-'), tuple(places.get(i, ())))
            for i, mm in enumerate(report['mms'])]


def groups(report: Report, proc: Proc, live: bool = True,
           unfold: bool = False) -> List[Group]:
    """Everybody, those who map the page first.

    The unit of a process is known only where it runs.
    """
    found: Dict[Tuple[object, ...], List[_Seen]] = {}
    units = _units(proc) if live else lambda pid: ''
    for seen in _address_spaces(report):
        pid = seen.mm['pid']
        name = kernel_name(seen.mm['comm']) or '?'
        unit = units(pid) if pid else ''
        key = (pid, name, unit) if unfold else (0, stem(name), unit)
        found.setdefault(key, []).append(seen)
    made = [_group(str(key[1]), str(key[2]), members)
            for key, members in found.items()]
    return sorted(made, key=lambda group: (-group.maps, -group.in_vain,
                                           group.name, group.pids))


def _units(proc: Proc) -> Callable[[int], str]:
    return lambda pid: plain(proc.unit(pid))


def _group(name: str, unit: str, members: List[_Seen]) -> Group:
    names = {kernel_name(seen.mm['comm']) for seen in members}
    pids = sorted(pid for seen in members for pid in seen.mm['tasks'])
    addresses = sorted({place for seen in members
                        for place in seen.addresses})
    tally = [sum(seen.outcome == outcome for seen in members)
             for outcome in ('maps', 'visited', '-')]
    mappers = sorted(pid for seen in members if seen.outcome == 'maps'
                     for pid in seen.mm['tasks'])
    return Group(names.pop() or '?' if len(names) == 1 else name, unit,
                 tuple(pids) or (0,), tuple(mappers), tally[0], tally[1],
                 tally[2], tuple(addresses))


def rows(found: Iterable[Group]) -> List[List[str]]:
    """Groups as rows of a table."""
    return [[group.title(), group.unit or '-', group.result(),
             _places(group)] for group in found]


def _places(group: Group) -> str:
    if not group.addresses:
        return ''
    first = f'at {group.addresses[0]:#x}'
    more = len(group.addresses) - 1
    return f'{first} and {count(more, "other address", "other addresses")}' \
        if more else first
