"""The building that a report tells of: columns, floors, and what is folded.

A column is a VMA, or many that are alike; a floor has the anon_vmas of a
level.  Columns stand as a walk through the tree of anon_vmas comes to their
owners.  So the tree of an anon_vma, which is what a walk for its pages visits,
is a run of neighbours on its floor, but where a fork used an anon_vma again
whose owner had left: then its column has AVCs to anon_vmas below its own.
"""

from typing import (Any, Dict, Iterator, List, NamedTuple, Optional, Sequence,
                    Set, Tuple)

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
    chain: Tuple[int, ...]      # anon_vmas that it has AVCs to, by level


class Floor(NamedTuple):
    """Anon_vmas of a level, each before the first column of its tree."""

    level: int
    avs: Tuple[Tuple[int, int], ...]    # anon_vma, place: index of a column


class Family:
    """The records of a report, by those that they belong to."""

    def __init__(self, report: Report) -> None:
        self.avs: List[Record] = report['anon_vmas']
        self.vmas: List[Record] = report['vmas']
        self.own: Dict[Optional[int], List[int]] = {}
        for i, vma in enumerate(self.vmas):
            self.own.setdefault(vma['anon_vma'], []).append(i)
        self.children: Dict[Optional[int], List[int]] = {}
        for i in range(len(self.avs)):
            self.children.setdefault(self.parent(i), []).append(i)
        self.entries: Dict[int, List[Record]] = {}
        for pte in report['ptes']:
            if pte['vma'] is not None:
                self.entries.setdefault(pte['vma'], []).append(pte)
        self.joined: Dict[int, Set[int]] = {}
        for avc in report['avcs']:
            if avc['vma'] is not None and avc['anon_vma'] is not None:
                self.joined.setdefault(avc['vma'], set()).add(avc['anon_vma'])

    def parent(self, av: int) -> Optional[int]:
        """The anon_vma above one; None for a root."""
        parent: Optional[int] = self.avs[av]['parent']
        return None if parent == av else parent


class Likeness:
    """What records have in common that are drawn as one: equal numbers."""

    def __init__(self, report: Report, family: Family) -> None:
        self._report = report
        self._family = family
        self._numbers: Dict[Any, int] = {}
        self._first, self._size, self._depth = self._tree()
        # those that a VMA is joined to that is not of their own tree
        self._crossed = {av for vma, avs in family.joined.items()
                         for av in avs if self._steps(vma, av) is None}
        self.vmas = [self._number(self._vma(i))
                     for i in range(len(family.vmas))]
        self.avs = self._subtrees()

    def _number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _tree(self) -> Tuple[List[int], List[int], List[int]]:
        """Of each anon_vma: its place in a walk, how many are in its tree,
        and how many are above it.

        Parents stand before their children in a report.
        """
        parents = [self._family.parent(i)
                   for i in range(len(self._family.avs))]
        size = [1] * len(parents)
        for i in reversed(range(len(parents))):
            parent = parents[i]
            if parent is not None:
                size[parent] += size[i]
        first, depth = [0] * len(parents), [0] * len(parents)
        free = [0] * len(parents)       # the next place in its tree
        roots = 0
        for i, parent in enumerate(parents):
            if parent is None:
                first[i], roots = roots, roots + size[i]
            else:
                first[i], depth[i] = free[parent], depth[parent] + 1
                free[parent] += size[i]
            free[i] = first[i] + 1
        return first, size, depth

    def _steps(self, vma: int, av: int) -> Optional[int]:
        """How far an anon_vma is above that of a VMA, if it is."""
        own = self._family.vmas[vma]['anon_vma']
        if own is None or not 0 <= self._first[own] - self._first[av] \
                < self._size[av]:
            return None
        return self._depth[own] - self._depth[av]

    def _vma(self, index: int) -> Tuple[Any, ...]:
        """All that is said of a VMA, but who and where it is."""
        vma = self._family.vmas[index]
        mm = reports.mm_of(self._report, vma)
        start, end = int(vma['start'], 16), int(vma['end'], 16)
        steps = ((av, self._steps(index, av))
                 for av in self._family.joined.get(index, ()))
        unmap = vma.get('unmap')
        return (stem(reports.comm(mm)) if mm else '', end - start,
                vma['perms'], vma['pgoff'], vma['name'], reports.outcome(vma),
                None if unmap is None else tuple(unmap),
                frozenset((None, up) if up is not None else (av, None)
                          for av, up in steps),
                tuple(_entry(pte, start)
                      for pte in self._family.entries.get(index, ())))

    def _subtrees(self) -> List[int]:
        """Of each anon_vma with all that hangs under it."""
        keys = [0] * len(self._family.avs)
        for i in reversed(range(len(keys))):
            av = self._family.avs[i]
            keys[i] = self._number((
                av['level'], av['on_page'], av['refcount'], av['children'],
                av['active_vmas'], i if i in self._crossed else None,
                tuple(sorted(self.vmas[vma]
                             for vma in self._family.own.get(i, ()))),
                tuple(sorted(keys[child]
                             for child in self._family.children.get(i, ())))))
        return keys


def _entry(pte: Record, start: int) -> Tuple[Any, ...]:
    """All that is said of an entry, in a VMA that starts there."""
    return (int(pte['addr'], 16) - start, pte['level'], pte['pages'],
            pte['pfn'], pte['value'], tuple(pte['flags']))


class Building:
    """What there is to draw."""

    def __init__(self, report: Report, unfold: bool = False) -> None:
        self.report = report
        self._family = Family(report)
        self.entries = self._family.entries
        # nothing is like anything else if nothing is to be folded
        self._like_vmas: Sequence[int] = range(len(report['vmas']))
        self._like_avs: Sequence[int] = range(len(report['anon_vmas']))
        if not unfold and len(report['vmas']) > SMALL:
            like = Likeness(report, self._family)
            self._like_vmas, self._like_avs = like.vmas, like.avs
        self.like_av: Dict[int, List[int]] = {}
        groups = list(self._groups())
        self._stands_for = {av: first for first, alike in self.like_av.items()
                            for av in alike}
        self.columns = [Column(group[0], tuple(group), self._chain(group[0]))
                        for group in groups]
        self.floors = list(self._floors())

    # -------------------------------------------------------------- columns --

    def _groups(self) -> Iterator[List[int]]:
        """VMAs that are alike, in the order of columns."""
        for same in self._alike(self._family.children.get(None, ()),
                                self._like_avs, 1):
            yield from self._tree(same)
        yield from self._alike(self._family.own.get(None, ()),
                               self._like_vmas, 1)

    def _tree(self, same: List[int]) -> Iterator[List[int]]:
        """Of like anon_vmas the VMAs first, then their trees.

        Not by recursion: a chain of forks can be longer than Python's stack.
        """
        todo = [same]
        while todo:
            alike = todo.pop()
            self.like_av[alike[0]] = alike
            yield from self._alike(
                [vma for av in alike for vma in self._family.own.get(av, ())],
                self._like_vmas, len(alike))
            groups = list(self._alike(
                [child for av in alike
                 for child in self._family.children.get(av, ())],
                self._like_avs, len(alike)))
            todo += reversed(groups)

    @staticmethod
    def _alike(items: Sequence[int], keys: Sequence[int], times: int
               ) -> Iterator[List[int]]:
        """Items of equal keys together, if they are many, and always below
        what is folded."""
        groups: Dict[int, List[int]] = {}
        for item in items:
            groups.setdefault(keys[item], []).append(item)
        for group in groups.values():
            if times > 1 or len(group) >= ALIKE:
                yield group
            else:
                for item in group:
                    yield [item]

    def _chain(self, vma: int) -> Tuple[int, ...]:
        """The anon_vmas that a VMA is joined to, the root's floor first."""
        avs = {self._stands_for[av]
               for av in self._family.joined.get(vma, ())}
        return tuple(sorted(avs, key=lambda av: (
            self._family.avs[av]['level'], av)))

    def joined(self, vma: int, av: int) -> List[int]:
        """Those that a VMA is joined to of the anon_vmas that one stands
        for."""
        return sorted(other for other in self._family.joined.get(vma, ())
                      if self._stands_for[other] == av)

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
