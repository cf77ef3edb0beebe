"""The building that a report tells of: columns, floors, and what is folded.

A column is a VMA, or many that are alike; a floor has the anon_vmas of a
level.  Columns stand as a walk through the tree of anon_vmas comes to their
owners, so that the tree of an anon_vma, which is what a walk for its pages
visits, is a run of neighbours on its floor.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import report as reports
from .report import PAGE, Record, Report
from .words import stem

# A report with no more VMAs is drawn whole.
SMALL = 12

# So many that are alike are one.
ALIKE = 3


class Column(NamedTuple):
    """VMAs that are alike; the first one stands for all."""

    vma: int
    members: Tuple[int, ...]
    chain: Tuple[int, ...]      # anon_vmas, the root's floor first


class Floor(NamedTuple):
    """Anon_vmas of a level, each before the first column of its tree."""

    level: int
    avs: Tuple[Tuple[int, int], ...]    # anon_vma, place: index of a column


class Building:
    """What there is to draw."""

    def __init__(self, report: Report, unfold: bool = False) -> None:
        self.report = report
        self._own: Dict[Optional[int], List[int]] = {}
        for i, vma in enumerate(report['vmas']):
            self._own.setdefault(vma['anon_vma'], []).append(i)
        self._children: Dict[int, List[int]] = {}
        for i, av in enumerate(report['anon_vmas']):
            if av['parent'] not in (None, i):
                self._children.setdefault(av['parent'], []).append(i)
        self.entries: Dict[int, List[Record]] = {}
        for pte in report['ptes']:
            if pte['vma'] is not None:
                self.entries.setdefault(pte['vma'], []).append(pte)
        self._fold = not unfold and len(report['vmas']) > SMALL
        self._keys = self._subtree_keys() if self._fold else {}
        self.like_av: Dict[int, List[int]] = {}
        self.columns = list(self._columns())
        self.floors = list(self._floors())

    # -------------------------------------------------------- what is alike --

    def _vma_key(self, index: int) -> Tuple[Any, ...]:
        """What two VMAs have in common that are drawn as one."""
        vma = self.report['vmas'][index]
        mm = reports.mm_of(self.report, vma)
        start, end = int(vma['start'], 16), int(vma['end'], 16)
        return (stem(reports.comm(mm)) if mm else '', end - start,
                vma['perms'], vma['name'] or '', reports.outcome(vma),
                tuple((int(pte['addr'], 16) - start, pte['level'],
                       pte['pages']) for pte in self.entries.get(index, ())))

    def _subtree_keys(self) -> Dict[int, Any]:
        """For each anon_vma what it has in common with those alike.

        A key is a number: equal for equal trees.  Parents stand before their
        children in a report.
        """
        numbers: Dict[Any, int] = {}
        keys: Dict[int, int] = {}
        for i in reversed(range(len(self.report['anon_vmas']))):
            key = (self.report['anon_vmas'][i]['on_page'],
                   tuple(sorted(map(self._vma_key, self._own.get(i, ())))),
                   tuple(sorted(keys[child]
                                for child in self._children.get(i, ()))))
            keys[i] = numbers.setdefault(key, len(numbers))
        return keys

    def _grouped(self, items: List[int], keys: List[Any]
                 ) -> Iterator[List[int]]:
        """Items that are alike together, if they are many."""
        groups: Dict[Any, List[int]] = {}
        for item, key in zip(items, keys):
            groups.setdefault(key, []).append(item)
        for group in groups.values():
            if self._fold and len(group) >= ALIKE:
                yield group
            else:
                for item in group:
                    yield [item]

    # -------------------------------------------------------------- columns --

    def _columns(self) -> Iterator[Column]:
        roots = [i for i, av in enumerate(self.report['anon_vmas'])
                 if av['parent'] in (None, i)]
        for same in self._grouped(roots, [self._keys.get(i) for i in roots]):
            yield from self._tree(same, ())
        rest = self._own.get(None, [])
        for same in self._grouped(rest, [self._vma_key(i) for i in rest]):
            yield Column(same[0], tuple(same), ())

    def _tree(self, same: List[int], above: Tuple[int, ...]
              ) -> Iterator[Column]:
        """Columns of like anon_vmas, their VMAs first, then their trees.

        Not by recursion: a chain of forks can be longer than Python's stack.
        """
        todo = [(same, above)]
        while todo:
            alike, path = todo.pop()
            chain = (*path, alike[0])
            self.like_av[alike[0]] = alike
            vmas = [vma for av in alike for vma in self._own.get(av, ())]
            for group in self._together(vmas, len(alike)):
                yield Column(group[0], tuple(group), chain)
            children = [child for av in alike
                        for child in self._children.get(av, ())]
            groups = list(self._together_avs(children, len(alike)))
            todo += [(group, chain) for group in reversed(groups)]

    def _together(self, vmas: List[int], times: int) -> Iterator[List[int]]:
        if times > 1 or self._fold:
            yield from self._all_alike(
                vmas, [self._vma_key(vma) for vma in vmas], times)
        else:
            yield from ([vma] for vma in vmas)

    def _together_avs(self, avs: List[int], times: int
                      ) -> Iterator[List[int]]:
        if self._fold:
            yield from self._all_alike(
                avs, [self._keys[av] for av in avs], times)
        else:
            yield from ([av] for av in avs)

    def _all_alike(self, items: List[int], keys: List[Any], times: int
                   ) -> Iterator[List[int]]:
        """Below what is folded everything is, else what is many."""
        if times == 1:
            yield from self._grouped(items, keys)
            return
        groups: Dict[Any, List[int]] = {}
        for item, key in zip(items, keys):
            groups.setdefault(key, []).append(item)
        yield from groups.values()

    # --------------------------------------------------------------- floors --

    def _floors(self) -> Iterator[Floor]:
        places: Dict[int, int] = {}
        for i, column in enumerate(self.columns):
            for av in column.chain:
                places.setdefault(av, i)
        for av in self.like_av:
            places.setdefault(av, len(self.columns))
        levels: Dict[int, List[Tuple[int, int]]] = {}
        for av, place in places.items():
            level = self.report['anon_vmas'][av]['level']
            levels.setdefault(level, []).append((av, place))
        for level in sorted(levels):
            yield Floor(level, tuple(sorted(levels[level],
                                            key=lambda item: item[1])))

    def hidden(self) -> int:
        """How many VMAs are not drawn by themselves."""
        return len(self.report['vmas']) - len(self.columns)


def range_of(report: Report, column: Column) -> Tuple[int, int, bool]:
    """First and last address of the VMAs of a column; whether all agree."""
    spans = {(int(report['vmas'][i]['start'], 16),
              int(report['vmas'][i]['end'], 16)) for i in column.members}
    start, end = min(spans)
    return start, end, len(spans) == 1


def would_be_at(report: Report, vma: Record) -> Optional[int]:
    """Where a VMA has the page, or would have it, by offset and index."""
    page = report['page']
    if not page or page['index'] is None or page['mapping'] == 'ksm':
        return None
    at = int(vma['start'], 16) + (int(page['index'], 16)
                                  - int(vma['pgoff'], 16)) * PAGE
    return at if int(vma['start'], 16) <= at < int(vma['end'], 16) else None
