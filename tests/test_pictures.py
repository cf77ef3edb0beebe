"""Pictures of reports: what Graphviz takes, what is in them, what a page does.

Pages are looked at by Chromium, without a window.
"""

import copy
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import (Any, Callable, Dict, Iterator, List, Optional, Set, Tuple,
                    Union)

import pytest

from rmapviz_lib import changes, dot, page, report
from rmapviz_lib.building import Building
from rmapviz_lib.failure import Failure
from rvtest import schema, vm
from rvtest.picture import complaints

SECONDS = 30
DATA = Path(__file__).parent / 'data'
SAMPLES = sorted(path for directory in ('pictures', 'reports')
                 for path in (DATA / directory).glob('*.json')
                 if path.stem != 'failure' and 'brief' not in path.stem)

each_sample = pytest.mark.parametrize(
    'path', [pytest.param(path, id=path.stem) for path in SAMPLES])

needs_graphviz = pytest.mark.skipif(not shutil.which('dot'),
                                    reason='Graphviz is not installed')
needs_browser = pytest.mark.skipif(
    not (shutil.which('dot') and shutil.which('chromium')),
    reason='Chromium or Graphviz is not installed')

SVG = '{http://www.w3.org/2000/svg}'


def sample(name: str) -> report.Report:
    """A recorded answer."""
    return report.load(str(DATA / 'pictures' / f'{name}.json'))


def read(path: Path) -> Any:
    """What is in a sample, not checked."""
    return json.loads(path.read_bytes())


def crowd_of(number: int) -> report.Report:
    """A page that a parent shares with so many children, each alike."""
    made = sample('crowd')
    family = range(1, number + 1)
    made['anon_vmas'] = made['anon_vmas'][:1] + [
        {**made['anon_vmas'][1], 'id': i} for i in family]
    made['mms'] = made['mms'][:1] + [
        {'id': i, 'pid': 1000 + i, 'comm': f'W{i}', 'tasks': [1000 + i]}
        for i in family]
    made['vmas'] = made['vmas'][:1] + [
        {**made['vmas'][1], 'id': i, 'mm': i, 'anon_vma': i} for i in family]
    made['ptes'] = [{**made['ptes'][0], 'vma': i}
                    for i in range(number + 1)]
    made['avcs'] = [{'id': 0, 'anon_vma': 0, 'vma': 0, 'role': 'own'}]
    for i in family:
        made['avcs'] += [
            {'id': 2 * i - 1, 'anon_vma': 0, 'vma': i, 'role': 'bridge'},
            {'id': 2 * i, 'anon_vma': i, 'vma': i, 'role': 'own'}]
    return report.check(made, 'a crowd')


class Forks:
    """Processes that came from P, each with a VMA, and their anon_vmas.

    It does what anon_vma_fork() and unlink_anon_vmas() do in mm/rmap.c.
    """

    def __init__(self, story: str) -> None:
        self._parents = [0]
        self._own = {'P': 0}
        self._joined = {'P': [0]}
        for line in story.split(','):
            who, what, *children = line.split()
            if what == 'exit':
                del self._own[who], self._joined[who]
            for child in children:
                self._fork(who, child)

    def _is_there(self, av: int) -> bool:
        """It goes when its tree is empty."""
        return any(av in avs for avs in self._joined.values())

    def _children(self, av: int) -> int:
        """A root counts itself."""
        return sum(parent == av and self._is_there(child)
                   for child, parent in enumerate(self._parents))

    def _fork(self, who: str, child: str) -> None:
        """The first anon_vma without an owner and with less than two children
        is used again; else there is a new one."""
        avs = list(self._joined[who])
        free = [av for av in avs if av not in self._own.values()
                and self._children(av) < 2]
        if not free:
            free = [len(self._parents)]
            avs += free
            self._parents.append(self._own[who])
        self._own[child] = free[0]
        self._joined[child] = avs

    def _order(self) -> List[int]:
        """A root, its children, then theirs."""
        order = [0]
        for av in order:
            order += [child for child, parent in enumerate(self._parents)
                      if parent == av != child and self._is_there(child)]
        return order

    def report(self, owner: str) -> report.Report:
        """The answer about a page that points to somebody's anon_vma, and
        that all who are in its tree map."""
        made = sample('reuse')
        order, on_page = self._order(), self._own[owner]
        ids = {av: i for i, av in enumerate(order)}
        level = {0: 0}
        for av in order[1:]:
            level[av] = level[self._parents[av]] + 1
        made['anon_vmas'] = [
            {'id': ids[av], 'root': 0, 'parent': ids[self._parents[av]],
             'level': level[av], 'on_page': av == on_page,
             'refcount': 1 if ids[av] else len(order),
             'children': self._children(av),
             'active_vmas': list(self._own.values()).count(av)}
            for av in order]
        names = sorted(self._own, key=lambda name: ids[self._own[name]])
        made['mms'] = [{'id': i, 'pid': 100 + i, 'comm': name,
                        'tasks': [100 + i]} for i, name in enumerate(names)]
        inside = [on_page in self._joined[name] for name in names]
        made['vmas'] = [
            {**made['vmas'][2 if inside[i] else 0], 'id': i, 'mm': i,
             'anon_vma': ids[self._own[name]]} for i, name in enumerate(names)]
        made['ptes'] = [{**made['ptes'][0], 'vma': i}
                        for i in range(len(names)) if inside[i]]
        made['avcs'] = [
            {'anon_vma': av, 'vma': i,
             'role': 'own' if av == ids[self._own[name]] else 'bridge'}
            for i, name in enumerate(names)
            for av in sorted(ids[av] for av in self._joined[name])]
        for i, avc in enumerate(made['avcs']):
            avc['id'] = i
        made['walk'].update(visited=sum(inside), mapped=sum(inside),
                            tree_vmas=sum(inside))
        return report.check(made, 'forks')


# W's anon_vma was that of C; W is in the tree of Y's, too, but X, whose
# column stands between theirs, is not, nor is Q.
GAP = 'P fork C, C fork X, X fork Y Q, C exit, Y fork W, W fork V'


def many(name: str, number: int) -> str:
    """Names of children."""
    return ' '.join(f'{name}{i}' for i in range(number))


# ------------------------------------------------------------ the building --

@each_sample
def test_every_vma_is_in_one_column(path: Path) -> None:
    """Or drawn by one that is like it."""
    made = report.load(str(path))
    drawn = [vma for column in Building(made).columns
             for vma in column.members]
    assert sorted(drawn) == list(range(len(made['vmas'])))


def drawn_trees(made: report.Report) -> Dict[int, Set[int]]:
    """The VMAs that the line from each anon_vma comes to, in a picture."""
    graph = dot.Graph(made, unfold=True)
    follows = {a: b for a, b in re.findall(
        r'(\w+) -> (\w+) \[[^\n]*class="tree"', graph.text())}
    trees: Dict[int, Set[int]] = {}
    for av in range(len(made['anon_vmas'])):
        trees[av] = set()
        at = follows.get(f'av{av}')
        while at:
            column, joined = map(int, re.findall(r'\d+', at))
            assert joined == av
            trees[av].add(graph.building.columns[column].vma)
            at = follows.get(at)
    return trees


def trees_of(made: report.Report) -> Dict[int, Set[int]]:
    """The VMAs that a report has an AVC for, by anon_vma."""
    return {av: {avc['vma'] for avc in made['avcs']
                 if avc['anon_vma'] == av}
            for av in range(len(made['anon_vmas']))}


@each_sample
def test_a_line_reaches_all_in_the_tree_of_an_anon_vma(path: Path) -> None:
    """Those that the report has AVCs for."""
    made = report.load(str(path))
    assert drawn_trees(made) == trees_of(made)


def test_a_line_reaches_a_tree_beyond_columns_that_are_not_in_it() -> None:
    """Where an anon_vma was used again a tree need be no run of columns."""
    made = Forks(GAP).report('Y')
    columns = Building(made).columns
    assert any(places != list(range(places[0], places[-1] + 1))
               for places in ([i for i, column in enumerate(columns)
                               if av in column.chain] for av in range(6)))
    assert drawn_trees(made) == trees_of(made)


def test_an_avc_to_an_anon_vma_below_its_own_is_drawn() -> None:
    """That of H, who forked from G and uses the anon_vma of G's parent."""
    graph = dot.Graph(sample('reuse'))
    graph.text()
    assert {name: record['look'] for name, record in graph.records.items()
            if name.startswith('avc')} == {
        'avc0_0': 'avc own',
        'avc1_0': 'avc bridge', 'avc1_1': 'avc own', 'avc1_2': 'avc bridge',
        'avc2_0': 'avc bridge', 'avc2_1': 'avc bridge', 'avc2_2': 'avc own'}


def test_a_sample_that_was_made_up_could_be_an_answer() -> None:
    """By the schema."""
    assert schema.faults(read(DATA / 'pictures' / 'reuse.json')) == []


@each_sample
def test_a_tree_is_a_run_of_neighbours(path: Path) -> None:
    """So that a floor can be drawn as one line for each anon_vma."""
    columns = Building(report.load(str(path))).columns
    for av in {av for column in columns for av in column.chain}:
        places = [i for i, column in enumerate(columns) if av in column.chain]
        assert places == list(range(places[0], places[-1] + 1))


def test_a_crowd_is_few_columns() -> None:
    """Its parent, those that are alike, and whoever differs."""
    building = Building(sample('crowd'))
    assert sorted(len(column.members) for column in building.columns) \
        == [1, 1, 1, 1, 1, 97]


@pytest.mark.parametrize('number', [3, 100, 1000])
def test_a_family_is_folded_if_it_is_large(number: int) -> None:
    """A parent and one column for all children."""
    columns = Building(crowd_of(number)).columns
    assert len(columns) == (4 if number == 3 else 2)


def sizes(made: report.Report) -> List[int]:
    """How many VMAs each column stands for."""
    return sorted(len(column.members) for column in Building(made).columns)


def differing(table: str, **fields: Any) -> report.Report:
    """A parent with 60 children, of which 20 differ in a record."""
    made = crowd_of(60)
    for record in made[table][11:31]:
        record.update(fields)
    return report.check(made, 'it')


@pytest.mark.parametrize('table, fields', [
    ('ptes', {'flags': ['present', 'user', 'nx']}), ('ptes', {'pfn': 1}),
    ('ptes', {'value': '0x1'}), ('ptes', {'addr': '0x1'}),
    ('vmas', {'unmap': ['mlocked']}), ('vmas', {'unmap': None}),
    ('vmas', {'perms': 'r--p'}), ('vmas', {'pgoff': '0x1'}),
    ('vmas', {'end': '0x10000009000'}), ('vmas', {'name': '/tmp/data'}),
    ('vmas', {'mapped': False}), ('vmas', {'mm': None}),
    ('mms', {'comm': 'another'}),
    ('anon_vmas', {'refcount': 2}), ('anon_vmas', {'children': 1}),
    ('anon_vmas', {'active_vmas': 2}), ('anon_vmas', {'on_page': True})])
def test_what_differs_is_not_folded(table: str, fields: Dict[str, Any]
                                    ) -> None:
    """Whatever is said of it is true of all that it stands for."""
    assert sizes(differing(table, **fields)) == [1, 20, 40]


def test_one_that_lacks_an_avc_is_not_folded() -> None:
    """Which can be where not all records did fit."""
    made = crowd_of(60)
    del made['avcs'][21]
    assert sizes(made) == [1, 1, 59]


def test_one_that_alone_is_mlocked_is_seen() -> None:
    """In a column of its own that says so."""
    made = crowd_of(60)
    made['vmas'][30]['unmap'] = ['mlocked']
    assert sizes(made) == [1, 1, 59]
    assert 'keeps it: mlocked' in dot.Graph(made).text()


def test_places_of_a_fold_that_differ_count_from_their_start() -> None:
    """An address would be that of one."""
    made = crowd_of(60)
    for i, vma in enumerate(made['vmas'][1:], 1):
        start = 0x7f0000000000 + i * 0x10000
        vma.update(start=hex(start), end=hex(start + 0x4000))
        made['ptes'][i]['addr'] = hex(start + 0x1000)
    text = dot.Graph(report.check(made, 'it')).text()
    assert sizes(made) == [1, 60]
    assert 'PTE at start + 1000' in text
    assert '7f00000' not in text


def test_folds_below_folds_are_children_of_many() -> None:
    """Grandchildren of one name, each with a parent of its own."""
    made = Forks(f'P fork {many("C", 30)}, ' + ', '.join(
        f'C{i} fork G{i * 3} G{i * 3 + 1} G{i * 3 + 2}'
        for i in range(30))).report('P')
    assert sizes(made) == [1, 30, 90]
    assert 'children of AV1 and 29 alike' in dot.Graph(made).text()


def test_a_fold_holds_only_who_are_in_the_same_trees() -> None:
    """Children of W, which uses the anon_vma of C, who exited, again: they
    are in G's tree, and no fold of G with its brothers."""
    made = Forks(
        f'P fork {many("C", 20)}, C3 fork G0, C3 exit, G0 fork W, '
        f'W fork {many("L", 20)}, {", ".join(f"C{i} exit" for i in range(3))}'
    ).report('P')
    assert 20 in sizes(made) and 16 in sizes(made)
    trees = trees_of(made)
    building = Building(made)
    for av, alike in building.like_av.items():
        for column in building.columns:
            joined = {sum(vma in trees[one] for one in alike)
                      for vma in column.members}
            assert joined == {int(av in column.chain)}
    assert any(len(alike) > 1 for alike in building.like_av.values())


def test_nothing_is_folded_if_all_is_asked_for() -> None:
    """Though they be alike."""
    assert len(Building(crowd_of(100), unfold=True).columns) == 101


def test_a_long_chain_of_forks_is_drawn() -> None:
    """Longer than Python's stack."""
    made = crowd_of(3000)
    for i in range(1, 3001):
        made['anon_vmas'][i].update(parent=i - 1, level=i)
    assert len(Building(made, unfold=True).floors) == 3001


# -------------------------------------------------------------------- dot --

def no_vmas() -> report.Report:
    """A page of a family that has gone."""
    made = sample('branch')
    for table in 'avcs', 'mms', 'vmas', 'ptes':
        made[table] = []
    return report.check(made, 'it')


def lost() -> report.Report:
    """Every third record refers to what did not fit."""
    made = Forks(f'P fork {many("C", 20)}').report('P')
    for table, field in (('avcs', 'vma'), ('avcs', 'anon_vma'),
                         ('vmas', 'mm'), ('vmas', 'anon_vma'),
                         ('ptes', 'vma'), ('anon_vmas', 'parent'),
                         ('anon_vmas', 'root')):
        for record in made[table][len(field) % 3::3]:
            record[field] = None
    made['walk']['lost'] = 7
    assert schema.faults(made) == []
    return report.check(made, 'it')


def library(number: int, pages: int) -> report.Report:
    """A file that so many map, each with so many entries of its folio."""
    made = report.load(str(DATA / 'reports' / 'file.json'))
    made['mms'] = [{**made['mms'][0], 'id': i, 'pid': 100 + i}
                   for i in range(number)]
    made['vmas'] = [{**made['vmas'][0], 'id': i, 'mm': i}
                    for i in range(number)]
    made['ptes'] = [
        {**made['ptes'][0], 'vma': i, 'addr': hex(0x10000400000 + 4096 * at)}
        for i in range(number) for at in range(pages)]
    return report.check(made, 'it')


def families(number: int) -> report.Report:
    """A KSM page of as many families."""
    made = sample('ksm')
    made['anon_vmas'] = [{**made['anon_vmas'][0], 'id': i, 'root': i,
                          'parent': i} for i in range(number)]
    made['vmas'] = [{**made['vmas'][0], 'id': i, 'mm': i % 2, 'anon_vma': i}
                    for i in range(number)]
    made['avcs'] = [{'id': i, 'anon_vma': i, 'vma': i, 'role': 'own'}
                    for i in range(number)]
    made['ptes'] = [{**made['ptes'][0], 'vma': i} for i in range(number)]
    return report.check(made, 'it')


def unreached(number: int) -> report.Report:
    """A KSM page with mappings that rmap does not reach."""
    made = sample('ksm')
    made['walk']['unreached'] = number
    made['verify'] = {'found': number, 'changed': 0, 'extra': [], 'missing': [
        {'mm': i % 2 if i % 3 else None, 'addr': hex(0x10000400000 + i * 4096)}
        for i in range(number)]}
    return report.check(made, 'it')


def levels(level: int) -> report.Report:
    """Those of the report contradict its parents."""
    made = sample('branch')
    for av in made['anon_vmas']:
        av['level'] = av['id'] * level % 3
    return report.check(made, 'it')


def chain(number: int) -> report.Report:
    """Each forks the next one."""
    return Forks(', '.join(f'{f"C{i}" if i else "P"} fork C{i + 1}'
                           for i in range(number))).report('P')


# What there can be that no sample has.
MADE_UP: Dict[str, Callable[[], report.Report]] = {
    'a tree with gaps': lambda: Forks(GAP).report('Y'),
    'the same, about another page': lambda: Forks(GAP).report('V'),
    'a fold with a tree of gaps in it': lambda: Forks(
        f'P fork {many("C", 20)}, C3 fork G, C3 exit, G fork W, '
        f'W fork {many("L", 20)}').report('G'),
    'folds below folds': lambda: Forks(
        f'P fork {many("C", 9)}, ' + ', '.join(
            f'C{i} fork G{i * 2} G{i * 2 + 1}' for i in range(9))).report('P'),
    'a thousand alike': lambda: crowd_of(1000),
    'a chain of forks': lambda: chain(40),
    'an owner that has exited': lambda: Forks(
        'P fork C D, C fork E F, C exit').report('E'),
    'no VMA': no_vmas, 'what did not fit': lost,
    'a library': lambda: library(40, 1), 'many entries': lambda: library(3, 9),
    'a fold of many entries': lambda: library(20, 16),
    'many families': lambda: families(20), 'two families': lambda: families(2),
    'one that rmap does not reach': lambda: unreached(1),
    'many that it does not reach': lambda: unreached(9),
    'levels that are none': lambda: levels(2),
    'all on one level': lambda: levels(0),
    'no name': lambda: hostile_report(''),
    'a blank as a name': lambda: hostile_report(' ')}


@needs_graphviz
@each_sample
def test_graphviz_says_nothing_against_it(path: Path) -> None:
    """Neither an error nor a warning."""
    graph = dot.Graph(report.load(str(path))).text()
    assert complaints(graph) == (0, '')


@needs_graphviz
@pytest.mark.parametrize('unfold', [False, True], ids=['', 'all'])
@pytest.mark.parametrize('name', MADE_UP)
def test_graphviz_takes_what_no_sample_has(name: str, unfold: bool) -> None:
    """Folded, and with all there is, as far as that is for people."""
    made = MADE_UP[name]()
    graph = dot.Graph(made, unfold and len(made['vmas']) < 100).text()
    assert complaints(graph) == (0, '')


@pytest.mark.parametrize('name', MADE_UP)
def test_all_trees_are_drawn_of_what_no_sample_has(name: str) -> None:
    """By the AVCs whose VMA and anon_vma did fit."""
    made = MADE_UP[name]()
    assert drawn_trees(made) == {av: vmas - {None}
                                 for av, vmas in trees_of(made).items()}


@needs_graphviz
def test_a_page_is_made_of_what_did_not_fit() -> None:
    """It says how much that was."""
    html = page.make(changes.story([('one', lost()), ('two', lost())]))
    assert '7 records did not fit' in html


def looks(path: Path) -> List[str]:
    """Of the VMAs of a picture."""
    graph = dot.Graph(report.load(str(path)), unfold=True)
    graph.text()
    return [str(record['look']) for name, record in graph.records.items()
            if name.startswith('vma')]


@each_sample
def test_vmas_look_as_the_walk_found_them(path: Path) -> None:
    """Mapped, visited in vain, and not visited are as many as are said."""
    made = report.load(str(path))
    found = looks(path)
    if made['page'] is None:
        assert set(found) == {'vma'}
        return
    wanted = [report.outcome(vma) for vma in made['vmas']]
    assert [found.count(look) for look in
            ('vma maps', 'vma vain', 'vma unvisited')] \
        == [wanted.count(word) for word in ('maps', 'visited', '-')]


@pytest.mark.parametrize('a, b', [
    ('vma maps', 'vma vain'), ('vma vain', 'vma unvisited'),
    ('vma maps', 'vma unvisited'), ('av', 'av onpage'),
    ('avc own', 'avc bridge'), ('pte', 'pte huge')])
def test_looks_differ_without_colour(a: str, b: str) -> None:
    """By shape or border, for who prints it."""
    def shape(look: str) -> str:
        return re.sub(r'(fill|font)color=[^,]*', '', dot.LOOKS[look])
    assert shape(a) != shape(b)


HOSTILE = ['</svg><script>alert(1)</script>', '"]; evil [label="', "a'b\\",
           '\n\x1b[31m', '&amp;<b>', ']]>', '\\N\\G\\L', '--><!--', 'x' * 4096,
           '\xff\xfe', 'gr\xc3\xbc\xc3\x9fe', '\ud800', '\u202e\u2066']

each_hostile = pytest.mark.parametrize(
    'word', [pytest.param(word, id=ascii(word)[1:-1][:20])
             for word in HOSTILE])


def hostile_report(name: str) -> report.Report:
    """With that name wherever names are."""
    made = sample('branch')
    made['page'].update(file=name, kind='file')
    made['kernel'] = made['query'] = name
    for mm in made['mms']:
        mm['comm'] = name
    for vma in made['vmas']:
        vma['name'] = name
    return report.check(made, 'it')


@needs_graphviz
@each_sample
def test_an_svg_is_one_by_the_definition_of_svg(path: Path, tmp_path: Path
                                                ) -> None:
    """That of the W3C, SVG 1.1."""
    definition, *_ = Path('/usr/share/xml/w3c-sgml-lib').glob(
        'schema/dtd/REC-SVG11-*/svg11.dtd')
    drawn = tmp_path / 'drawn.svg'
    drawn.write_bytes(dot.render(
        dot.Graph(report.load(str(path))).text(), 'svg'))
    done = subprocess.run(
        ['xmllint', '--noout', '--nonet', '--dtdvalid', definition, drawn],
        check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


@needs_graphviz
@each_hostile
def test_a_hostile_name_is_only_words_in_a_picture(word: str) -> None:
    """The same nodes and edges as with a harmless one."""
    def shape(called: str) -> List[str]:
        graph = dot.Graph(hostile_report(called)).text()
        tree = ElementTree.fromstring(dot.render(graph, 'svg'))
        return [f"{node.tag} {node.get('id')}" for node in tree.iter()
                if node.tag in (f'{SVG}g', f'{SVG}script', f'{SVG}a')]
    assert shape(word) == shape('harmless')


def places_of_words(value: Any, way: Tuple[Any, ...] = ()
                    ) -> Iterator[Tuple[Any, ...]]:
    """Where strings are in a report."""
    inner = value.items() if isinstance(value, dict) \
        else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places_of_words(one, (*way, key))
    if isinstance(value, str):
        yield way


def put(made: Any, way: Tuple[Any, ...], value: Any) -> None:
    """Change what is there."""
    for key in way[:-1]:
        made = made[key]
    made[way[-1]] = value


def full_of(word: str, path: Path) -> report.Report:
    """A sample with a word in place of every string that can be another."""
    made = read(path)
    if made.get('verify'):
        made['verify']['missing'] = [{'mm': 0, 'addr': '0x1'}]
    for way in list(places_of_words(made)):
        tried = copy.deepcopy(made)
        put(tried, way, word)
        try:
            made = report.check(tried, 'it')
        except Failure:
            pass
    return report.check(made, 'it')


@needs_graphviz
@pytest.mark.parametrize('name', ['anon', 'process', 'verify'])
@each_hostile
def test_no_string_of_a_report_has_an_effect(word: str, name: str) -> None:
    """Neither on a terminal, nor on Graphviz, nor on who reads the SVG."""
    made = full_of(word, DATA / 'reports' / f'{name}.json')
    graph = dot.Graph(made).text()
    assert [c for c in graph if not c.isprintable() and c != '\n'] == []
    assert complaints(graph) == (0, '')
    ElementTree.fromstring(dot.render(graph, 'svg'))
    titles = ''.join(words for _, words in dot.title_lines(made))
    assert titles.isprintable()


def drawn(svg: bytes) -> List[Tuple[object, ...]]:
    """All that is in a picture but places: shapes, looks and words, each with
    the node or edge that it is part of.

    What has no outline has no style of one: Graphviz 2.43 leaves there that
    of the shape before.
    """
    shapes: List[Tuple[object, ...]] = []

    def look_at(element: ElementTree.Element, part: str) -> None:
        part = element.get('id', part)
        looks = {name: 'none' if value == 'transparent' else value
                 for name, value in element.items()
                 if re.match('id$|class$|fill|stroke|font|text-anchor', name)}
        if looks.get('stroke', 'none') == 'none':
            looks = {name: value for name, value in looks.items()
                     if not name.startswith('stroke')}
        shapes.append((part, element.tag, tuple(sorted(looks.items())),
                       ' '.join((element.text or '').split())))
        for inner in element:
            look_at(inner, part)

    look_at(ElementTree.fromstring(svg), '')
    return sorted(shapes)


def layouter(svg: bytes) -> Optional[str]:
    """The version of Graphviz that made a picture."""
    found = re.search(rb'Generated by graphviz version ([\d.]+)', svg)
    return found[1].decode() if found else None


KEPT = vm.TOP / 'docs' / 'building.svg'


@needs_graphviz
def test_the_picture_of_the_readme_is_what_would_be_drawn_now() -> None:
    """To the byte where Graphviz is of the same version; else but for places.
    make picture mends it."""
    now = dot.render(dot.Graph(sample('branch')).text(), 'svg')
    kept = KEPT.read_bytes()
    assert layouter(kept)
    if layouter(kept) == layouter(now):
        assert kept.decode().splitlines() == now.decode().splitlines()
    assert drawn(kept) == drawn(now)


@pytest.mark.parametrize('old, new', [
    ('fill="#d5ecd7"', 'fill="#d5ecd8"'), ('5,2', '1,5'),
    ('stroke-width="2.5"', 'stroke-width="1"'), ('P12 (175)', 'P12 (176)'),
    ('stroke="#2c5c94"', 'stroke="black"'), ('-weight="bold"', '-style="x"'),
    ('ellipse', 'polygon'), ('class="node av"', 'class="node"')])
def test_pictures_are_told_apart_by_their_looks(old: str, new: str) -> None:
    """Where versions of Graphviz differ."""
    kept = KEPT.read_bytes()
    assert drawn(kept.replace(old.encode(), new.encode())) != drawn(kept)


def test_pictures_are_not_told_apart_by_places() -> None:
    """Nor by how a version says that there is no outline."""
    kept = KEPT.read_bytes()
    moved = re.sub(rb'( (?:x|y|d|points|cx|rx|width|viewBox)=")[^"]*"',
                   rb'\g<1>0"', kept)
    assert moved != kept
    assert drawn(moved.replace(b'"transparent"', b'"none"')) == drawn(kept)


@needs_graphviz
def test_a_picture_shows_names_as_they_are() -> None:
    """Those of UTF-8, and what means something to Graphviz or XML."""
    name = 'gr\xc3\xbc\xc3\x9fe <"&'
    graph = dot.Graph(hostile_report(name)).text()
    text = ''.join(ElementTree.fromstring(dot.render(graph, 'svg')).itertext())
    assert 'grüße <"&' in text


def test_a_brief_report_has_nothing_to_draw() -> None:
    """Which is said."""
    with pytest.raises(Failure, match='brief'):
        dot.Graph(report.load(str(DATA / 'reports/brief.json')))


def test_a_mapping_that_rmap_does_not_reach_is_drawn() -> None:
    """With whose it is, where verify has told."""
    made = sample('ksm')
    made['walk']['unreached'] = 1
    made['verify'] = {'missing': [{'mm': 1, 'addr': '0x10000400000'}],
                      'extra': []}
    text = dot.Graph(made).text()
    assert 'class="unreached"' in text
    assert 'at 0x10000400000' in text


# ------------------------------------------------- reports that are none --

NOT_WHOLE: Dict[str, Callable[[Any], object]] = {
    'verify is no object': lambda made: made.update(verify=5),
    'missing of verify is 5': lambda made: made['verify'].update(missing=5),
    'missing[0] of verify is no object': lambda made:
        made['verify'].update(missing=[5]),
    'extra[0] of verify has no addr': lambda made:
        made['verify'].update(extra=[{'mm': 0}]),
    'addr of missing[0] of verify is x': lambda made:
        made['verify'].update(missing=[{'mm': 0, 'addr': 'x'}]),
    'verify leads nowhere': lambda made:
        made['verify'].update(missing=[{'mm': 99, 'addr': '0x1'}]),
    'unmap of vmas[0] is 5': lambda made: made['vmas'][0].update(unmap=5),
    'unmap of vmas[0] is a list': lambda made:
        made['vmas'][0].update(unmap=[1]),
    'refcount of page is 1000': lambda made:
        made['page'].update(refcount=10 ** 4000),
    'pages of ptes[0] is True': lambda made:
        made['ptes'][0].update(pages=True),
    'mm of vmas[0] leads nowhere': lambda made:
        made['vmas'][0].update(mm=99),
    'tasks of mms[0] is a list': lambda made:
        made['mms'][0].update(tasks=[{}]),
    'outcome of reclaim is an object': lambda made:
        made['reclaim'].update(outcome={}),
    'it has no vmas': lambda made: made.pop('vmas')}


@pytest.mark.parametrize('fault', NOT_WHOLE)
def test_a_report_that_is_not_whole_is_refused(fault: str) -> None:
    """It says what is wrong."""
    made = read(DATA / 'reports' / 'verify.json')
    NOT_WHOLE[fault](made)
    with pytest.raises(Failure) as raised:
        report.check(made, 'it')
    assert str(raised.value).startswith('it: not a whole report: ')
    assert fault in str(raised.value)


def test_an_unknown_verdict_is_no_reason_to_fail() -> None:
    """Nor is a field of that name elsewhere."""
    made = sample('branch')
    made['reclaim']['verdict'] = 5
    made['migrate']['verdict'] = 'perhaps'
    assert 'perhaps' in page_of(report.check(made, 'it'))


Done = subprocess.CompletedProcess      # of bytes


def run_command(*words: Union[str, Path], kilobytes: int = 1 << 19,
                given: Optional[int] = None) -> 'Done[bytes]':
    """tools/rmapviz, with so much memory, in a time that has a bound."""
    return subprocess.run(
        ['bash', '-c', 'ulimit -v "$0"; exec "$@"', str(kilobytes),
         sys.executable, str(vm.TOP / 'tools' / 'rmapviz'), *map(str, words)],
        check=False, stdin=subprocess.DEVNULL if given is None else given,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


def refusal(done: 'Done[bytes]') -> str:
    """The one line that a command says where it has no answer."""
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, b'', 1), lines
    assert lines[0].startswith('rmapviz: ') and lines[0].isprintable()
    return lines[0]


WHOLE = (DATA / 'pictures' / 'branch.json').read_bytes()

# What is in a file, and what is said of it.
REFUSED: Dict[str, Tuple[bytes, str]] = {
    'nothing': (b'', 'empty'),
    'blanks': (b' \n\t\r\n', 'empty'),
    'text': (b'migrating pfn 28070 failed ret:1\n', 'not a report'),
    'escapes': (b'\x1b[31m' * 9, 'not a report'),
    'a text report': ('─ page'.encode(), 'not a report'),
    'UTF-16': (WHOLE.decode().encode('utf-16'), 'not a report'),
    'a list': (b'[]', 'not a report'),
    'a picture': (b'\x89PNG\r\n\x1a\n', 'not a report'),
    'another object': (b'{"a": 1}', 'not a report'),
    'half of it': (WHOLE[:len(WHOLE) // 2], 'cut off'),
    'all but its end': (WHOLE.rstrip()[:-1], 'cut off'),
    'one after the other': (WHOLE + WHOLE, 'not JSON'),
    'one too deep': (b'{"a":' * 200000, 'not JSON'),
    'another version': (WHOLE.replace(b'"rmapviz": 1', b'"rmapviz": 2'),
                        'version 2; this command knows version 1'),
    'an odd version': (WHOLE.replace(b'"rmapviz": 1', b'"rmapviz": "\\u001b"'),
                       r'version \x1b'),
    'what drgn_dump.py could not answer': (
        (DATA / 'reports' / 'failure.json').read_bytes(), 'failure.json'),
    'a brief report': ((DATA / 'reports' / 'brief.json').read_bytes(),
                       'brief'),
    'no walk': (WHOLE.replace(b'"walk"', b'"talk"'), 'not a whole report')}


@pytest.mark.parametrize('what', REFUSED)
def test_draw_says_in_a_line_that_it_cannot_draw(what: str, tmp_path: Path
                                                 ) -> None:
    """What is in no file of a report."""
    data, said = REFUSED[what]
    path = tmp_path / 'failure.json'
    path.write_bytes(data)
    assert said in refusal(run_command('draw', path))


@pytest.mark.parametrize('words', [
    ['diff'], ['diff', '--html'], ['story']], ids=' '.join)
def test_diff_and_story_refuse_the_same(words: List[str], tmp_path: Path
                                        ) -> None:
    """Also where only the second is none."""
    path = tmp_path / 'b.json'
    path.write_bytes(WHOLE[:-9])
    assert 'cut off' in refusal(run_command(
        *words, DATA / 'pictures' / 'branch.json', path))


def test_what_is_not_there_is_said() -> None:
    """A file, and a directory in its place."""
    assert 'No such file' in refusal(run_command('draw', 'no/such.json'))
    assert 'directory' in refusal(run_command('draw', DATA))


@pytest.mark.parametrize('name', ['/dev/zero', '/dev/urandom'])
def test_a_file_without_an_end_is_refused_at_once(name: str) -> None:
    """Nothing of it is kept."""
    assert 'not a report' in refusal(run_command('draw', name,
                                                 kilobytes=200 << 10))


@pytest.mark.parametrize('word, megabytes', [(' ', 200), ('{', 1000)])
def test_more_than_any_report_has_is_refused(word: str, megabytes: int
                                             ) -> None:
    """Though it may be one so far; it takes bounded memory."""
    with subprocess.Popen(['yes', word * 1000], stdout=subprocess.PIPE) as yes:
        assert yes.stdout
        said = refusal(run_command('draw', '-', given=yes.stdout.fileno(),
                                   kilobytes=megabytes << 10))
        yes.kill()
    assert 'more than 512 MB' in said


def test_a_report_that_memory_has_no_room_for_is_refused(tmp_path: Path
                                                         ) -> None:
    """JSON of 24 MB that comes to twenty times that."""
    path = tmp_path / 'large.json'
    path.write_bytes(b'{"rmapviz": 1, "a": [' + b'[],' * (8 << 20) + b'1]}')
    assert 'memory' in refusal(run_command('draw', path))


@needs_graphviz
def test_a_report_is_drawn_from_a_pipe() -> None:
    """After blanks, too."""
    with subprocess.Popen(['sh', '-c', 'printf "\\n  "; cat "$0"',
                           DATA / 'pictures' / 'branch.json'],
                          stdout=subprocess.PIPE) as cat:
        assert cat.stdout
        done = run_command('draw', '-', '--dot', given=cat.stdout.fileno())
    assert (done.returncode, done.stderr) == (0, b'')
    assert done.stdout.startswith(b'digraph rmapviz {')


# ---------------------------------------------------------------- the page --

TOOLS = '''
const click = (id) => document.getElementById(id).dispatchEvent(
  new MouseEvent('click', {bubbles: true}));
const lit = () => [...document.querySelectorAll(
  '.picture:not([hidden]) g.node.on')]
  .map(node => node.id).sort();
const text = (id) => document.getElementById(id).textContent;
const type = (words) => { const field = document.getElementById('search');
  field.value = words; field.dispatchEvent(new Event('input')); };
const svg = () => document.querySelector('.picture:not([hidden]) svg');
const box = () => svg().getAttribute('viewBox').split(' ').map(Number);
const focus = () => document.activeElement;
const lines = (id) => [...document.querySelectorAll(`#${id} tr`)]
  .filter(line => !line.hidden);
const middle = (id) => { const at = document.getElementById(id)
  .getBoundingClientRect();
  return [at.x + at.width / 2, at.y + at.height / 2].map(Math.round); };
'''

# Keys that are no letters, by number.
KEYS = {'Tab': 9, 'Enter': 13, 'Escape': 27, 'End': 35, 'Home': 36,
        'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40}


class Browser:
    """Chromium without a window, told what to do by its DevTools protocol."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # it reads from its descriptor 3 and writes to 4
        its, self._to = os.pipe()
        self._from, its_other = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (its, its_other)]
        self._process = subprocess.Popen(
            ['bash', '-c', f'exec "$@" 3<&{high[0]} 4>&{high[1]}', 'bash',
             'chromium', '--headless', '--no-sandbox', '--disable-gpu',
             f'--user-data-dir={directory}/profile', '--remote-debugging-pipe',
             '--window-size=1400,900', 'about:blank'],
            pass_fds=high, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in (its, its_other, *high):
            os.close(fd)
        self._data = b''
        self._number = 0
        self._events: List[Dict[str, Any]] = []
        self._session = ''
        tab = self.do('Target.createTarget', url='about:blank')['targetId']
        self._session = self.do('Target.attachToTarget', targetId=tab,
                                flatten=True)['sessionId']
        for domain in 'Page', 'Runtime', 'Log':
            self.do(f'{domain}.enable')

    def end(self) -> None:
        """Close it."""
        self._session = ''
        try:
            self.do('Browser.close')
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._to)
            os.close(self._from)

    def _message(self) -> Dict[str, Any]:
        """The next one that it sends."""
        limit = time.monotonic() + 60
        while b'\0' not in self._data:
            ready, _, _ = select.select([self._from], [], [], max(
                0, limit - time.monotonic()))
            data = os.read(self._from, 1 << 20) if ready else b''
            assert data, 'Chromium says nothing'
            self._data += data
        line, self._data = self._data.split(b'\0', 1)
        message: Dict[str, Any] = json.loads(line)
        return message

    def do(self, method: str, **words: Any) -> Dict[str, Any]:
        """Have something done, and what came of it."""
        self._number += 1
        asked = {'id': self._number, 'method': method, 'params': words}
        if self._session:
            asked['sessionId'] = self._session
        data = json.dumps(asked).encode() + b'\0'
        while data:
            data = data[os.write(self._to, data):]
        while True:
            message = self._message()
            if message.get('id') == self._number:
                assert 'error' not in message, message['error']
                result: Dict[str, Any] = message['result']
                return result
            self._events.append(message)

    def open(self, html: str, scheme: str = 'light') -> None:
        """A page, for who likes it light or dark; complaints begin anew."""
        self.do('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme', 'value': scheme}])
        path = self._directory / 'page.html'
        path.write_text(html)
        self._events = []
        self.do('Page.navigate', url=path.as_uri())
        while not any(event['method'] == 'Page.loadEventFired'
                      for event in self._events):
            self._events.append(self._message())

    def run(self, script: str) -> Any:
        """What a script in the page returns."""
        done = self.do('Runtime.evaluate', returnByValue=True, expression='('
                       f'() => {{ {TOOLS} {script} }})()')
        assert 'exceptionDetails' not in done, done['exceptionDetails']
        return done['result'].get('value')

    @property
    def complaints(self) -> List[str]:
        """Of the page since it was opened: errors, and what was forbidden."""
        self.run('')
        return [str(event['params']) for event in self._events
                if event['method'] in ('Runtime.exceptionThrown',
                                       'Runtime.consoleAPICalled',
                                       'Log.entryAdded')]

    def press(self, *keys: str) -> None:
        """Keys, one after the other."""
        for key in keys:
            words: Dict[str, Any] = {'key': key}
            if key in KEYS:
                words['windowsVirtualKeyCode'] = KEYS[key]
            text = '\r' if key == 'Enter' else '' if key in KEYS else key
            self.do('Input.dispatchKeyEvent', type='keyDown', **words,
                    **({'text': text} if text else {}))
            self.do('Input.dispatchKeyEvent', type='keyUp', **words)

    def mouse(self, what: str, at: List[float], **words: Any) -> None:
        """Move it, press or let go its button, turn its wheel."""
        self.do('Input.dispatchMouseEvent', type=f'mouse{what}', x=at[0],
                y=at[1], **words)

    def drag(self, start: List[float], end: List[float]) -> None:
        """From here to there, with the button pressed."""
        left = {'button': 'left', 'clickCount': 1}
        self.mouse('Moved', start)
        self.mouse('Pressed', start, **left)
        for part in 0.1, 0.5, 1:
            self.mouse('Moved', [a + (b - a) * part
                                 for a, b in zip(start, end)], buttons=1)
        self.mouse('Released', end, **left)

    def click(self, at: List[float]) -> None:
        """With the left button."""
        left = {'button': 'left', 'clickCount': 1}
        self.mouse('Moved', at)
        self.mouse('Pressed', at, **left)
        self.mouse('Released', at, **left)


@pytest.fixture(name='browser', scope='module')
def browser_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests, which is started for the first of them."""
    running = Browser(tmp_path_factory.mktemp('browser'))
    yield running
    running.end()


def page_of(made: report.Report) -> str:
    """Of one report."""
    return page.make([page.Step(made)])


@needs_browser
@pytest.mark.parametrize('number', [3, 100, 1000])
def test_a_page_opens_without_a_complaint(number: int, browser: Browser
                                          ) -> None:
    """However large the family is; every mapping is in the table."""
    browser.open(page_of(crowd_of(number)))
    assert browser.run("return lines('rows').length;") == number + 1
    assert browser.complaints == []


@needs_browser
def test_a_click_lights_up_what_is_connected(browser: Browser) -> None:
    """The anon_vma of P1: its tree, which are P1 and P12, and the page."""
    made = sample('branch')
    browser.open(page_of(made))
    browser.click(browser.run("return middle('av1');"))
    names, what = browser.run("return [lit(), text('what')];")
    graph = dot.Graph(made)
    columns = {graph.building.columns[int(name[3:])].vma for name in names
               if name.startswith('vma')}
    assert columns == trees_of(made)[1]
    assert {'av1', 'page'} <= set(names)
    assert what == 'AV1'


@needs_browser
def test_what_was_clicked_has_a_frame_of_its_own(browser: Browser) -> None:
    """Beside what it is connected to, which only stays bright."""
    browser.open(page_of(sample('family')))
    before, chosen, other = browser.run('''
        const frame = name => getComputedStyle(document.querySelector(
          `#${name} polygon, #${name} path, #${name} ellipse`)).stroke;
        const before = frame('vma0');
        click('vma0'); return [before, frame('vma0'), frame('vma1')];''')
    assert chosen not in (before, other)


@needs_browser
def test_a_second_click_lets_go(browser: Browser) -> None:
    """And so does Escape."""
    browser.open(page_of(sample('family')))
    found = browser.run('''
        click('vma0'); const first = lit().length; click('vma0');
        const second = lit().length; click('vma1');
        return [first > 0, second, lit().length > 0];''')
    browser.press('Escape')
    assert [*found, browser.run('return lit();')] == [True, 0, True, []]


@needs_browser
def test_the_pointer_lights_up_and_tells_without_a_click(browser: Browser
                                                         ) -> None:
    """As long as it is there."""
    browser.open(page_of(sample('family')))
    browser.mouse('Moved', browser.run("return middle('page');"))
    names, what, facts = browser.run(
        "return [lit(), text('what'), text('facts')];")
    assert what.startswith('PFN 0x')
    assert 'an anonymous page' in facts
    assert {'page', 'av0', 'pte0'} <= set(names)
    browser.mouse('Moved', [5, 890])
    assert browser.run('return lit();') == []


@needs_browser
@pytest.mark.parametrize('words, found', [
    ('w7', 11), ('parent', 1), ('10000000000', 102), ('nobody', 0)])
def test_search_finds_names_and_addresses(words: str, found: int,
                                          browser: Browser) -> None:
    """And hides the other rows."""
    made = sample('crowd')
    for mm in made['mms']:
        mm['comm'] = mm['comm'] + ('' if mm['comm'] != 'P' else 'arent')
    browser.open(page_of(made))
    assert browser.run(f"type('{words}'); return lines('rows').length;") \
        == found


@needs_browser
def test_a_pid_is_found_in_a_fold(browser: Browser) -> None:
    """The node that stands for it is lit."""
    browser.open(page_of(crowd_of(1000)))
    assert browser.run("type('1777'); return [lit(), text('count')];") \
        == [['vma1'], '1 of 1001']


@needs_browser
@pytest.mark.parametrize('node, first, last', [
    ('vma1', 'W1 (1001)', 'W1000 (2000)'),
    ('pte1', 'W1 (1001)', 'W1000 (2000)'),
    ('avc1_0', 'to AV0', 'to AV0'), ('avc1_1', 'to AV1', 'to AV1000'),
    ('av1', 'AV1', 'AV1000')])
def test_a_fold_opens_on_a_click(node: str, first: str, last: str,
                                 browser: Browser) -> None:
    """Into all that it stands for, whatever is folded."""
    browser.open(page_of(crowd_of(1000)))
    hidden, rows = browser.run(f'''click('{node}');
        return [document.getElementById('open').hidden, lines('members')
          .map(line => [...line.children].map(cell => cell.textContent))];''')
    assert (hidden, len(rows)) == (False, 1000)
    assert first in rows[0] and last in rows[-1]
    assert [len(row) for row in rows] == [len(rows[0])] * 1000


@needs_browser
def test_one_of_a_fold_is_told_of_while_all_stay_listed(browser: Browser
                                                        ) -> None:
    """By a click on it in the list, or in the table of all mappings."""
    browser.open(page_of(crowd_of(20)))
    of_list = browser.run('''click('vma1'); lines('members')[6].click();
        return [text('what'), lines('members').length];''')
    of_table = browser.run('''lines('rows')[9].click();
        return [text('what'), lines('members').length, lit().includes('vma1'),
                document.querySelectorAll('#rows tr.on').length];''')
    of_av = browser.run('''click('av1'); lines('members')[6].click();
        return [text('what'), text('facts')];''')
    assert of_list == ['VMA7 of W7 (1007)', 20]
    assert of_table == ['VMA9 of W9 (1009)', 20, True, 1]
    assert of_av[0] == 'AV7' and 'child of AV0' in of_av[1]


@needs_browser
def test_what_is_listed_under_the_pointer_can_be_clicked(browser: Browser
                                                         ) -> None:
    """Though nothing is chosen."""
    browser.open(page_of(crowd_of(20)))
    browser.mouse('Moved', browser.run("return middle('av1');"))
    assert browser.run('''lines('members')[6].click();
        return text('what');''') == 'AV7'
    assert browser.complaints == []


# --------------------------------------------------- the page by keyboard --

def tab_to(browser: Browser, is_there: str) -> None:
    """Press Tab until the focus is where a script says."""
    for _ in range(40):
        browser.press('Tab')
        if browser.run(f'return {is_there};'):
            return
    pytest.fail(f'Tab does not come to {is_there}')


IN_MEMBERS = "document.getElementById('members').contains(focus())"
IN_ROWS = "document.getElementById('rows').contains(focus())"


@needs_browser
def test_tab_and_enter_choose_a_node(browser: Browser) -> None:
    """Of the picture."""
    browser.open(page_of(sample('family')))
    tab_to(browser, "focus().id === 'vma1'")
    browser.press('Enter')
    assert 'vma1' in browser.run('return lit();')


@needs_browser
def test_tab_and_enter_choose_a_row(browser: Browser) -> None:
    """Which arrows choose in a table; of those that a search has left."""
    browser.open(page_of(sample('branch')))
    tab_to(browser, IN_ROWS)
    browser.press('ArrowDown', 'ArrowDown', 'ArrowUp', 'Enter')
    assert browser.run("return [text('what'), lit().includes('vma1')];") \
        == ['VMA1 of P1 (167)', True]
    browser.press('End', ' ')
    assert browser.run("return text('what');") == 'VMA4 of P21 (178)'
    browser.run("type('p2'); focus().blur();")
    tab_to(browser, IN_ROWS)
    browser.press('Home', 'ArrowDown', 'Enter')
    assert browser.run("return text('what');") == 'VMA4 of P21 (178)'


@needs_browser
def test_keys_go_from_a_fold_to_its_list_and_back(browser: Browser) -> None:
    """Enter again goes there, Escape comes back; Tab goes there as well."""
    browser.open(page_of(crowd_of(1000)))
    tab_to(browser, "focus().id === 'avc1_1'")
    browser.press('Enter', 'Enter')
    assert browser.run(f'return {IN_MEMBERS};')
    browser.press('ArrowDown', 'Enter')
    assert browser.run("return text('what');") == 'VMA2 of W2 (1002)'
    browser.press('Escape')
    assert browser.run("return [focus().id, lit()];") == ['avc1_1', []]
    browser.press('Enter')
    tab_to(browser, IN_MEMBERS)
    tab_to(browser, IN_ROWS)


@needs_browser
def test_keys_zoom_and_show_all_again(browser: Browser) -> None:
    """Wherever the focus is, but in the field."""
    browser.open(page_of(sample('family')))
    all_of_it = browser.run('return box();')
    for there in '', "focus().id === 'vma0'", IN_ROWS:
        if there:
            tab_to(browser, there)
        browser.press('+')
        near = browser.run('return box();')
        browser.press('-', '-')
        far = browser.run('return box();')
        browser.press('0')
        assert near[2] < all_of_it[2] < far[2]
        assert browser.run('return box();') == all_of_it


@needs_browser
@pytest.mark.parametrize('key, x, y', [
    ('ArrowLeft', -1, 0), ('ArrowRight', 1, 0), ('ArrowUp', 0, -1),
    ('ArrowDown', 0, 1)])
def test_arrows_move(key: str, x: int, y: int, browser: Browser) -> None:
    """By a tenth."""
    browser.open(page_of(sample('family')))
    before = browser.run('return box();')
    browser.press(key)
    after = browser.run('return box();')
    assert after == pytest.approx([before[0] + x * before[2] / 10,
                                   before[1] + y * before[3] / 10,
                                   *before[2:]])


@needs_browser
def test_a_slash_goes_to_the_field_where_keys_are_letters(browser: Browser
                                                          ) -> None:
    """Enter goes to what was found, Escape lets go."""
    browser.open(page_of(sample('family')))
    before = browser.run('return box();')
    browser.press('/', 'p', '1', '2', '+', '-', '0', '/')
    assert browser.run("return [focus().id, focus().value, box()];") \
        == ['search', 'p12+-0/', before]
    browser.press('Escape', '/', 'p', '1', '2', 'Enter')
    assert browser.run("return text('what');").startswith('VMA3 of P12')
    browser.press('Escape')
    assert browser.run("return [focus().id, text('what')];") \
        == ['', 'Click on anything']


# --------------------------------------------------- the page by the mouse --

AT = '''const at = (x, y) => { const spot = new DOMPoint(x, y)
  .matrixTransform(svg().getScreenCTM().inverse()); return [spot.x, spot.y]; };
'''


@needs_browser
def test_a_drag_moves_what_is_seen_with_the_pointer(browser: Browser) -> None:
    """And chooses nothing, though it begins and ends on something."""
    browser.open(page_of(sample('family')))
    start = browser.run("return middle('vma0');")
    held = browser.run(f'{AT} return at({start[0]}, {start[1]});')
    end = [start[0] + 150, start[1] + 80]
    browser.drag(start, end)
    assert browser.run(f'{AT} return at({end[0]}, {end[1]});') \
        == pytest.approx(held, abs=0.5)
    browser.mouse('Moved', [5, 890])
    assert browser.run('return lit();') == []


@needs_browser
def test_the_wheel_zooms_around_the_pointer(browser: Browser) -> None:
    """In and out."""
    browser.open(page_of(sample('family')))
    place = browser.run("return middle('vma1');")
    look = f'{AT} return [at({place[0]}, {place[1]}), box()[2]];'
    seen = [browser.run(look)]
    for turn in -300, 600:
        browser.mouse('Wheel', place, deltaX=0, deltaY=turn)
        seen.append(browser.run(look))
    spots, widths = zip(*seen)
    assert widths[1] < widths[0] < widths[2]
    assert spots[1] == pytest.approx(spots[0], abs=0.5)
    assert spots[2] == pytest.approx(spots[0], abs=0.5)


# ----------------------------------------------------- the page by the eye --

@needs_browser
def test_the_page_is_dark_or_light(browser: Browser) -> None:
    """As is preferred at first, then by a button."""
    seen = []
    for scheme in 'dark', 'light':
        browser.open(page_of(sample('family')), scheme)
        seen.append(browser.run('''
            const paper = () => getComputedStyle(document.body)
              .backgroundColor;
            const first = paper(); click('theme'); return [first, paper()];
            '''))
    (dark, other), (light, another) = seen
    assert (dark, light) == (another, other)
    assert sum(map(int, re.findall(r'\d+', dark))) < 3 * 64
    assert sum(map(int, re.findall(r'\d+', light))) > 3 * 192


# Contrast as WCAG 2 has it; what text is on; all text that has too little.
CONTRAST = '''
const parts = (colour) => { const found = colour.match(/[\\d.]+/g).map(Number);
  return found.length > 3 ? found : [...found, 1]; };
const over = (front, back) => [0, 1, 2].map(
  i => front[i] * front[3] + back[i] * (1 - front[3])).concat(1);
const light = (colour) => { const [r, g, b] = colour.slice(0, 3).map(part =>
    part / 255 <= 0.03928 ? part / 255 / 12.92
      : ((part / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const contrast = (a, b) => { const [low, high] = [light(a), light(b)]
    .sort((x, y) => x - y); return (high + 0.05) / (low + 0.05); };
const paper = parts(getComputedStyle(document.body).backgroundColor);
const ground = (element) => { let layers = [];
  for (let at = element; at; at = at.parentElement)
    layers.unshift(parts(getComputedStyle(at).backgroundColor));
  return layers.reduce((back, front) => over(front, back), paper); };
const shapes = [...svg().querySelectorAll('polygon, path, ellipse, text')];
const behind = (words) => { const box = words.getBBox();
  const spot = svg().createSVGPoint();
  spot.x = box.x + box.width / 2; spot.y = box.y + box.height / 2;
  return shapes.slice(0, shapes.indexOf(words)).filter(shape =>
    shape.tagName !== 'text' && !shape.closest('.edge')
    && getComputedStyle(shape).fill !== 'none' && shape.isPointInFill(spot))
    .reduce((back, shape) => over(parts(getComputedStyle(shape).fill), back),
      paper); };
'''

UNREADABLE = CONTRAST + '''
const poor = [];
for (const one of document.querySelectorAll('body *')) {
  const shown = [...one.childNodes].some(
    node => node.nodeType === 3 && node.data.trim()) && one.checkVisibility();
  if (one.closest('svg, script, style') || !shown) continue;
  if (contrast(parts(getComputedStyle(one).color), ground(one)) < 4.5)
    poor.push(one.textContent);
}
const hint = getComputedStyle(document.getElementById('search'),
  '::placeholder').color;
if (contrast(parts(hint), paper) < 4.5) poor.push('the hint in the field');
for (const one of shapes)
  if (one.tagName === 'text'
      && contrast(parts(getComputedStyle(one).fill), behind(one)) < 4.5)
    poor.push(one.textContent);
return poor;
'''

UNSEEN = CONTRAST + '''
return shapes.filter(one => one.tagName !== 'text').filter(one => {
  const look = getComputedStyle(one);
  return look.stroke !== 'none' && parts(look.stroke)[3]
    && contrast(parts(look.stroke), paper) < 3; })
  .map(one => one.parentElement.id + ' ' + one.outerHTML.slice(0, 60));
'''

each_scheme = pytest.mark.parametrize('scheme', ['light', 'dark'])
LOOKED_AT: Dict[str, Callable[[], report.Report]] = {
    'a fold': lambda: sample('crowd'), 'KSM': lambda: unreached(3),
    'huge pages': lambda: sample('thp'), 'lost': lost,
    'a file': lambda: library(3, 9),
    'a process': lambda: report.load(str(DATA / 'reports' / 'process.json'))}


@needs_browser
@each_scheme
@pytest.mark.parametrize('what', LOOKED_AT)
def test_all_words_can_be_read(what: str, scheme: str, browser: Browser
                               ) -> None:
    """Dark and light, of the picture and beside it."""
    browser.open(page_of(LOOKED_AT[what]()), scheme)
    assert browser.run("click('title'); click(Object.keys(JSON.parse("
                       "text('data'))[0].nodes)[0]);" + UNREADABLE) == []


@needs_browser
@each_scheme
@pytest.mark.parametrize('what', LOOKED_AT)
def test_all_borders_and_lines_can_be_seen(what: str, scheme: str,
                                           browser: Browser) -> None:
    """Against the paper, for they say what a box is."""
    browser.open(page_of(LOOKED_AT[what]()), scheme)
    assert browser.run(UNSEEN) == []


KINDS_OF_ELEMENTS = '''
    click('vma0');
    const kinds = {};
    for (const one of document.querySelectorAll('*'))
      if (one.tagName !== 'text')
        kinds[one.tagName] = (kinds[one.tagName] || 0) + 1;
    return kinds;'''


@needs_browser
@each_hostile
def test_a_hostile_name_does_nothing_in_a_page(word: str, browser: Browser
                                               ) -> None:
    """No script but ours, no element that is not in every page."""
    found = []
    for name in word, 'harmless':
        browser.open(page_of(hostile_report(name)))
        found.append(browser.run(KINDS_OF_ELEMENTS))
        assert browser.complaints == []
    assert found[0] == found[1]


@needs_graphviz
def test_a_page_fetches_nothing() -> None:
    """It names no other place, and forbids itself to."""
    html = page_of(sample('family'))
    assert "default-src 'none'" in html
    named: Set[str] = set(re.findall(r'https?://[^"\s<]+', html))
    assert all(place.startswith('http://www.w3.org/') for place in named)


@needs_graphviz
def test_the_eras_are_bars_where_the_report_has_them() -> None:
    """Those that say how much was looked at."""
    made = sample('family')
    made['history'] = {
        'scan': None,
        'pte_chain': {'visits': 3, 'hits': 3, 'bytes': 64},
        'objrmap': {'visits': 5, 'hits': 3, 'bytes': 24},
        'av_avc': {'visits': None, 'hits': None, 'bytes': 1}}
    assert [(era['visits'], era['hits']) for era in page.eras(made)] \
        == [(3, 3), (5, 3)]


# --------------------------------------------------------- diff and story --

def exited() -> report.Report:
    """The sample of a family, after P12 has gone and P2 has written."""
    made = sample('family')
    gone = next(i for i, mm in enumerate(made['mms'])
                if mm['comm'] == 'P12')
    writer = next(i for i, mm in enumerate(made['mms'])
                  if mm['comm'] == 'P2')
    made['vmas'][writer]['mapped'] = False
    made['ptes'] = [pte for pte in made['ptes'] if pte['vma'] != writer]
    made['mms'][gone].update(pid=0, comm='', tasks=[])
    made['page']['mapcount'] -= 1
    return report.check(made, 'it')


def test_what_changed_is_told_by_who_it_is() -> None:
    """Not by ids."""
    found = changes.news(sample('family'), exited())
    assert [line for line in found if re.fullmatch(r'P12 \(\d+\) went', line)]
    assert [line for line in found if re.fullmatch(
        r'P2 \(\d+\) is visited in vain now, at 10000000000', line)]
    assert [line for line in found if line.startswith('mapcount: ')]


@each_sample
def test_nothing_has_changed_of_what_is_the_same(path: Path) -> None:
    """In neither words."""
    one, other = (report.load(str(path)) for _ in range(2))
    assert changes.news(one, other) == changes.between(one, other) == []


def test_what_did_not_fit_is_compared_as_far_as_it_did() -> None:
    """VMAs of no address space, and AVCs of no VMA."""
    assert changes.between(lost(), lost()) == []
    other = lost()
    other['vmas'][0]['visited'] = not other['vmas'][0]['visited']
    other['avcs'][1].update(vma=None)
    found = changes.between(lost(), other)
    assert len([line for line in found if 'visited is' in line]) == 1
    assert [line for line in found if line.startswith('AVC between')]
    assert [line for line in found if re.search(
        r'^\d+ AVCs .* the first, \d+ in the second$', line)]


def test_who_has_no_pid_neither_came_nor_went() -> None:
    """It is nobody who can be named."""
    assert [line for line in changes.news(sample('family'), exited())
            if '(0)' in line] == []


@needs_browser
def test_the_slider_shows_one_step_after_the_other(browser: Browser) -> None:
    """Each with its picture, its caption and what changed."""
    browser.open(page.make(changes.story([('before', sample('family')),
                                          ('after', exited())])))
    assert browser.run('''
        const slide = document.getElementById('slider');
        const look = () => [text('step'), document.querySelectorAll(
          '.picture:not([hidden])').length, lit().length,
          document.querySelectorAll('#changes li').length > 0];
        const first = look(); click('vma0');
        slide.value = 1; slide.dispatchEvent(new Event('input'));
        return [first, look()];''') == [['1 of 2: before', 1, 0, False],
                                        ['2 of 2: after', 1, 0, True]]
    assert browser.complaints == []


@needs_browser
def test_keys_work_while_the_slider_has_the_focus(browser: Browser) -> None:
    """Arrows move it, all others do what they do elsewhere."""
    browser.open(page.make(changes.story([('before', sample('family')),
                                          ('after', exited())])))
    tab_to(browser, "focus().id === 'slider'")
    browser.press('ArrowRight')
    step, before = browser.run("return [text('step'), box()];")
    browser.press('+')
    near = browser.run('return box();')
    browser.press('-', '-', '0')
    assert step == '2 of 2: after'
    assert near[2] < before[2]
    assert browser.run('return box();') == before
    browser.press('/')
    assert browser.run('return focus().id;') == 'search'
