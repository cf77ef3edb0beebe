"""Families of many: chance, a thousand sharers, and a family that moves."""

import random
import re
from contextlib import contextmanager
from typing import (Callable, Dict, Iterator, List, NamedTuple, Optional,
                    Set)

import pytest

from rvtest import vm
from rvtest.cgroup import cgroup
from rvtest.guest import Guest
from rvtest.machine import Machine
from rvtest.report import Mapping, Report, faults, mappings, tree
from rvtest.scene import FILE, Scene
from rvtest.stage import Stage
from rvtest.text import NAMES, looks, misprints, sections

KERNELS = vm.some_kernels
MACHINE = Machine(name='crowd', memory_mb=2048)
SECONDS = 35

SEEDS = (3, 20, 33)     # families of 28, 35 and 48
PAGES = 3
DEPTH = 5
CHILDREN = 3
ADDRESS = 0x10000000000

SHARERS = 1000
EVERYBODY = SHARERS + 1
CROWD = f'''
    P map M 2
    P write M
    P forkmany {SHARERS} C
    C7 write M 1
    C500 read M 0 1
    '''

QUERIES = 200
FORKS = '''
    P map M 2
    P write M
    P fork C
    C fork G
    '''


# ------------------------------------------------------- a family by chance --

class Family:
    """Processes that fork and write at random, and what must come of it.

    A model of the kernel's rules, of which it knows nothing else: a page
    belongs to whoever wrote it last, or inherited it.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._copies = 0
        self.parent: Dict[str, Optional[str]] = {'P': None}
        self.frames: Dict[str, List[str]] = {'P': ['P'] * PAGES}
        self.told = [f'P map M {PAGES}', 'P write M']
        self._grow('P', 1)

    def _grow(self, name: str, level: int) -> None:
        """Children and grandchildren; writes before, between and after."""
        if level == DEPTH:
            return
        # one branch goes all the way down
        fewest = 1 if name.strip('1') == 'P' else 0
        for number in range(1, self._random.randint(fewest, CHILDREN) + 1):
            child = f'{name}{number}'
            self.told.append(f'{name} fork {child}')
            self.parent[child] = name
            self.frames[child] = list(self.frames[name])
            self._maybe_write(child)
            self._grow(child, level + 1)
            self._maybe_write(name)

    def _maybe_write(self, name: str) -> None:
        page = self._random.randrange(2 * PAGES)
        if page < PAGES:
            self.told.append(f'{name} write M {page}')
            self.frames[name][page] = self._owner(name, page)

    def _owner(self, name: str, page: int) -> str:
        """A write makes a copy, unless nobody else has the page."""
        frame = self.frames[name][page]
        alone = sum(frames[page] == frame
                    for frames in self.frames.values()) == 1
        self._copies += 1
        return frame if alone else f'{name}/{self._copies}'

    def sharers(self, page: int, frame: str) -> List[str]:
        """Who maps that frame there."""
        return sorted(name for name, frames in self.frames.items()
                      if frames[page] == frame)

    def drawn(self, owner: str) -> str:
        """The building, as rvtest.report.tree draws it."""
        def draw(name: str) -> str:
            children = sorted((draw(child) for child in self.parent
                               if self.parent[child] == name),
                              key=lambda text: text.lstrip('*'))
            inside = f"({' '.join(children)})" if children else ''
            return f"{'*' if name == owner else ''}{name}{inside}"
        return draw('P')


class Member(NamedTuple):
    """A page of a family, as the model, the module and the processes see it.
    """

    what: str
    sharers: List[str]
    drawn: str
    report: Report
    witness: Set[Mapping]


class Chance(NamedTuple):
    """A random family, and every page of everybody."""

    names: Dict[int, str]
    pages: List[Member]


each_family = pytest.mark.parametrize(
    'case', [pytest.param(Family(seed), id=f'seed-{seed}') for seed in SEEDS])


def look_at_all(scene: Scene, family: Family) -> Chance:
    """Every frame that is not another's too is looked at once."""
    first = {(page, frame): name
             for name, frames in reversed(family.frames.items())
             for page, frame in enumerate(frames)}
    pages = []
    for (page, frame), name in first.items():
        report = scene.ask(f'pid {scene.pids[name]} '
                           f'{ADDRESS + page * 4096:#x}')
        pages.append(Member(f'{name} {page}', family.sharers(page, frame),
                            family.drawn(frame.split('/')[0]), report,
                            scene.witness(report['page']['pfn'])))
    return Chance(scene.names(), pages)


@pytest.fixture
def chance(stage: Stage, case: Family) -> Chance:
    """The family of that seed."""
    scene = stage.scene(case, lambda new: new.play('\n'.join(case.told)))
    return stage.once('a random family', lambda: look_at_all(scene, case))


@each_family
def test_a_random_familys_pages_are_where_the_pagemaps_say(
        chance: Chance) -> None:
    """Every process has looked through its own for each of them."""
    assert [page.what for page in chance.pages
            if mappings(page.report) != page.witness] == []


@each_family
def test_a_random_familys_pages_are_mapped_by_whom_the_model_says(
        chance: Chance, note: Callable[[str], None]) -> None:
    """By all who inherited them and have not written since."""
    assert {page.what: mapped_by(page.report, chance.names)
            for page in chance.pages} \
        == {page.what: page.sharers for page in chance.pages}
    note(f'{len(chance.pages)} pages of {len(chance.names)} processes')


@each_family
def test_a_random_familys_building_is_what_the_model_says(
        chance: Chance) -> None:
    """One anon_vma a process, below its parent's; the owner's has a star."""
    assert {page.what: tree(page.report, chance.names)
            for page in chance.pages} \
        == {page.what: page.drawn for page in chance.pages}


@each_family
def test_reports_of_a_random_family_agree_with_themselves(
        chance: Chance) -> None:
    """Ids, counts, AVCs, order."""
    assert [f'{page.what}: {fault}' for page in chance.pages
            for fault in faults(page.report)] == []


def mapped_by(report: Report, names: Dict[int, str]) -> List[str]:
    """Names for each mapping."""
    return sorted(names[pid] for pid, _ in mappings(report))


# ------------------------------------------------------- a thousand sharers --

class Crowd(NamedTuple):
    """One page, a thousand and one processes."""

    stage: Stage
    scene: Scene
    pfn: int
    report: Report


@pytest.fixture
def crowd(stage: Stage) -> Crowd:
    """They all map it, and the report of it."""
    scene = stage.scene(CROWD, lambda new: new.play(CROWD))
    pfn = stage.once('the PFN', lambda: scene.pfn('P', 'M'))
    return Crowd(stage, scene, pfn, stage.once(
        'the report', lambda: scene.ask(f'pfn {pfn}')))


def test_a_thousand_sharers_are_in_one_snapshot(crowd: Crowd) -> None:
    """Everybody is visited and maps it, and nothing is lost."""
    report = crowd.report
    walk = {key: report['walk'][key]
            for key in ('visited', 'mapped', 'tree_vmas', 'lost')}
    assert (walk, len(report['anon_vmas']), len(report['avcs'])) \
        == ({'visited': EVERYBODY, 'mapped': EVERYBODY,
             'tree_vmas': EVERYBODY, 'lost': 0}, EVERYBODY, 2 * SHARERS + 1)


def test_a_thousand_sharers_are_all_that_holds_the_page(
        crowd: Crowd) -> None:
    """Its mapcount says so, and no reference is left to be explained."""
    page = crowd.report['page']
    assert (page['mapcount'], page['dma_pins'], page['extra_refs']) \
        == (EVERYBODY, 0, 0)


def test_a_thousand_sharers_map_it_where_the_pagemaps_say(
        crowd: Crowd) -> None:
    """Every one of them has looked."""
    assert sorted(mappings(crowd.report)) \
        == sorted(crowd.scene.witness(crowd.pfn))


def test_the_report_of_a_thousand_sharers_agrees_with_itself(
        crowd: Crowd) -> None:
    """Ids, counts, AVCs, order."""
    assert faults(crowd.report)[:10] == []


def page_of_one(crowd: Crowd) -> Report:
    """The report of the copy that one of them has."""
    return crowd.stage.once('the page of one', lambda: crowd.scene.ask(
        f"pfn {crowd.scene.pfn('C7', 'M', 1)}"))


def test_a_page_that_one_of_a_thousand_wrote_takes_one_visit(
        crowd: Crowd) -> None:
    """Though all of the family is shown."""
    own = page_of_one(crowd)
    assert (own['walk']['visited'], own['walk']['mapped'],
            len(own['vmas'])) == (1, 1, EVERYBODY)


def test_a_thousand_sharers_take_one_pass(crowd: Crowd) -> None:
    """The count of its mappings tells beforehand how much room they take."""
    walk = crowd.report['walk']
    assert (walk['attempts'], walk['retries']) == (1, 0)


def test_a_page_that_one_of_a_thousand_wrote_takes_two_passes(crowd: Crowd
                                                              ) -> None:
    """The first one counts how many others there are."""
    walk = page_of_one(crowd)['walk']
    assert (walk['attempts'], walk['retries']) == (2, 0)


def test_locks_are_held_as_long_as_all_passes_take(crowd: Crowd) -> None:
    """Not as long as the last one; and for one pass, as long as that."""
    one, two = crowd.report['walk'], page_of_one(crowd)['walk']
    assert one['lock_ns'] == one['lock_max_ns'] > 0
    assert two['lock_ns'] > two['lock_max_ns'] > 0


def crowd_text(crowd: Crowd, options: str = '') -> str:
    """The report of the page that all map."""
    return crowd.stage.once(f'the text {options}', lambda:
                            crowd.scene.guest.check(
                                f'ask {crowd.pfn} {options}'))


def test_full_text_lists_a_thousand_sharers(crowd: Crowd) -> None:
    """In four lines each, and more."""
    text = crowd_text(crowd, 'full')
    assert f'{EVERYBODY} processes map it' in text
    assert len(text.splitlines()) > 4 * EVERYBODY
    assert 'INCOMPLETE' not in text and ' more like ' not in text
    assert {int(row.split()[1]) for row in sections(text)['VMAs'].rows} \
        == set(crowd.scene.pids.values())


def test_text_of_a_thousand_sharers_is_under_60_lines(crowd: Crowd) -> None:
    """And can be pasted: ASCII, under 100 columns."""
    text = crowd_text(crowd)
    assert f'{EVERYBODY} processes map it' in text
    assert len(text.splitlines()) < 60
    assert misprints(text) == []


def test_text_of_a_thousand_sharers_leaves_out_what_looks_alike(
        crowd: Crowd) -> None:
    """And nothing else."""
    short, full = (sections(crowd_text(crowd, options))
                   for options in ('', 'full'))
    assert {label: looks(label, short[label]) for label in NAMES} \
        == {label: looks(label, full[label]) for label in NAMES}
    assert [label for label in NAMES
            if short[label].length != EVERYBODY] == []


def test_text_shows_the_one_of_a_thousand_whose_entry_differs(
        crowd: Crowd) -> None:
    """It has read the page, and its entry says so."""
    pid = crowd.scene.pids['C500']
    assert [row for row in sections(crowd_text(crowd))['PTEs'].rows
            if row.split()[1] == f'{pid}' and ' accessed ' in row]


def test_text_shows_the_one_of_a_thousand_that_does_not_map_the_page(
        crowd: Crowd) -> None:
    """It has a copy of its own."""
    text = crowd.scene.guest.check(
        f"ask {crowd.scene.pfn('P', 'M', 1)}")
    pid = crowd.scene.pids['C7']
    assert [row.split()[1] for row in sections(text)['VMAs'].rows
            if row.endswith(' visited')] == [f'{pid}']
    assert len(text.splitlines()) < 60


# ---------------------------------------------------- who can read nothing --

@pytest.fixture
def poor(crowd: Crowd) -> Iterator[Callable[[str], str]]:
    """A shell that may have 32 KB more; what it says to a command."""
    guest = crowd.scene.guest
    with cgroup(guest) as group:
        def say(command: str) -> str:
            guest.check(f"echo 'echo $$ >{group}/cgroup.procs; "
                        f'read has <{group}/memory.current; '
                        f'echo $((has + 32768)) >{group}/memory.max; '
                        f"{command}' >/tmp/poor")
            return guest.run('sh /tmp/poor 2>&1').output

        yield say


@pytest.mark.parametrize('options', [
    pytest.param(options, id=options.strip() or 'text')
    for options in ('', ' full', ' json', ' folio', ' verify')])
def test_who_can_read_nothing_pays_for_no_records(
        crowd: Crowd, poor: Callable[[str], str], options: str) -> None:
    """A thousand sharers do not fit where only the count of them does."""
    query = f'{crowd.pfn}{options}'
    assert 'memory' in poor(f'exec 3<>{FILE}; echo {query} >&3').lower()
    assert poor(f'exec 3<>{FILE}; echo {crowd.pfn} brief >&3') == ''
    assert poor(f'echo {query} >{FILE}') == ''


def test_who_can_read_nothing_has_asked_the_whole_question(
        crowd: Crowd) -> None:
    """Whoever reads next gets all of the answer."""
    answer = crowd.scene.guest.check(
        f'echo {crowd.pfn} full >{FILE}; cat {FILE}')
    assert len(answer.splitlines()) > 4 * EVERYBODY


def test_who_can_read_nothing_has_asked_for_a_scan(crowd: Crowd) -> None:
    """Though it was not the write that scanned."""
    answer = crowd.scene.guest.check(
        f'echo {crowd.pfn} verify >{FILE}; cat {FILE}')
    assert re.search(fr'2\.4\.18 +scan +\d+ +{EVERYBODY} ', answer)


# --------------------------------------------------------- a storm of forks --

class Storm(NamedTuple):
    """What queries came to while a family forked and exited all the time."""

    errors: List[str]
    reports: List[Report]


@contextmanager
def forks(guest: Guest) -> Iterator[None]:
    """Everybody has children and grandchildren, again and again."""
    guest.check(
        'storm() { while [ -e /tmp/storm ]; do tell $1 fork $1x; '
        'tell $1x fork $1xx; tell $1x write M; tell $1xx exit; '
        'tell $1x wait $1xx; tell $1x exit; tell $1 wait $1x; done; }; '
        'touch /tmp/storm; for a in P C G; do storm $a >/dev/null & done')
    try:
        yield
    finally:
        guest.undo('rm /tmp/storm; wait', 120)


def ask_in_storm(scene: Scene) -> Storm:
    """One page, again and again."""
    pfn = scene.pfn('P', 'M')
    with forks(scene.guest):
        answers = [answer for _ in range(QUERIES)
                   for answer in scene.ask_all([f'{pfn}'])]
    return Storm([error for error, _ in answers if error != 'ok'],
                 [report for error, report in answers if error == 'ok'])


@pytest.fixture
def storm(stage: Stage) -> Storm:
    """Of a family of three, who have others."""
    scene = stage.scene(FORKS, lambda new: new.play(FORKS))
    return stage.once('a storm of forks', lambda: ask_in_storm(scene))


def storm_faults(report: Report) -> List[str]:
    """What may not be wrong even while the family changes."""
    known = {vma['id'] for vma in report['vmas']}
    found = [f"AVC {avc['id']} joins nothing" for avc in report['avcs']
             if avc['vma'] not in known or avc['anon_vma'] is None]
    found += [f"anon_vma {av['id']} has no parent or root"
              for av in report['anon_vmas']
              if av['parent'] is None or av['root'] is None]
    found += [f"VMA {vma['id']} has no AVC to the root"
              for vma in report['vmas']
              if not any(avc['vma'] == vma['id'] and avc['anon_vma'] == 0
                         for avc in report['avcs'])]
    if report['walk']['visited'] != report['walk']['tree_vmas']:
        found.append('not all of the tree was visited')
    if report['walk']['lost']:
        found.append('records were lost')
    return found


def test_each_answer_in_a_storm_of_forks_is_one_instant(
        storm: Storm) -> None:
    """What refers to something finds it, and nobody is missing."""
    assert [fault for report in storm.reports
            for fault in storm_faults(report)][:10] == []


def test_a_storm_of_forks_changes_the_family(
        storm: Storm, note: Callable[[str], None]) -> None:
    """Or it would be none."""
    sizes = {len(report['anon_vmas']) + len(report['ptes'])
             for report in storm.reports}
    assert len(sizes) > 3
    note(f'families of {len(sizes)} sizes')


def test_queries_in_a_storm_of_forks_only_ever_give_up(
        storm: Storm) -> None:
    """They are told to try again."""
    assert set(storm.errors) <= {'EAGAIN'}


def test_few_queries_in_a_storm_of_forks_give_up(
        storm: Storm, note: Callable[[str], None]) -> None:
    """Not one in ten."""
    assert len(storm.errors) < QUERIES / 10
    note(f'{len(storm.errors)} of {QUERIES} gave up')
