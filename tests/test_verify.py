"""verify: what rmap finds against a scan of all memory, the way of 2.4."""

import random
import re
from collections import Counter
from contextlib import contextmanager
from typing import Callable, Iterator, List, NamedTuple

import pytest

from rvtest import vm
from rvtest.guest import Guest
from rvtest.report import Report
from rvtest.scene import Scene
from rvtest.stage import Stage
from stories import PREPARED

MACHINE = PREPARED
KERNELS = vm.some_kernels
SECONDS = 20

PAGES = 1000
QUERIES = 1000

# Some of everything that rmap maps, in processes that share it.
BUILD = '''
    P map A 300
    P write A
    P map F 200 shared file /mnt/data 0
    P read F
    P map C 200 file /mnt/data 0
    P write C 0 100
    P read C 100 100
    P map S 100 shared
    P write S
    P map H 1024
    P madvise H 0 1024 hugepage
    P write H
    P fork Q
    Q write A 0 50
    Q unmap H 100 1
    Q read F
    Q read S
    Q fork R
    R mremap A 100 20 B
    R write C 150 20
    '''


def mapped_frames(scene: Scene) -> List[int]:
    """Every frame that the actors find in their regions."""
    replies = scene.play('\n'.join(
        f'{actor} look {region}' for actor in 'PQ' for region in 'AFCSH'))
    return sorted({int(pfn, 16) for reply in replies
                   for pfn in re.findall(r'pfn=0x([0-9a-f]+),present=1',
                                         reply)})


def verify_all(scene: Scene, pfns: List[int]) -> List[Report]:
    """Ask about many, a few at a time; the answers that are reports."""
    found: List[Report] = []
    for first in range(0, len(pfns), 100):
        found += [report for error, report in scene.ask_all(
            f'{pfn} verify' for pfn in pfns[first:first + 100])
            if error == 'ok']
    return found


# ----------------------------------------------------------- nothing moves --

class Quiet(NamedTuple):
    """Pages that were asked about, and the answers."""

    pfns: List[int]
    answers: List[Report]


def ask_quiet(scene: Scene) -> Quiet:
    """About some of the pages of the building."""
    frames = mapped_frames(scene)
    chosen = random.Random(1).sample(frames, min(PAGES, len(frames)))
    return Quiet(chosen, verify_all(scene, chosen))


@pytest.fixture
def quiet(stage: Stage) -> Quiet:
    """Pages of all kinds, with which nothing happens."""
    scene = stage.scene('quiet building', lambda new: new.play(BUILD))
    return stage.once('verify of quiet pages', lambda: ask_quiet(scene))


def test_every_quiet_page_is_verified(quiet: Quiet) -> None:
    """A thousand."""
    assert (len(quiet.pfns), len(quiet.answers)) == (PAGES, PAGES)


def test_quiet_pages_are_of_several_kinds(quiet: Quiet,
                                          note: Callable[[str], None]
                                          ) -> None:
    """Or the next test would show little."""
    kinds = Counter(report['page']['kind'] for report in quiet.answers)
    note(f'pages of these kinds: {dict(kinds)}')
    assert len(kinds) >= 3


def test_rmap_and_the_scan_find_the_same_of_quiet_pages(quiet: Quiet) -> None:
    """Missing 0, extra 0, of every one of them."""
    wrong = [{'pfn': report['page']['pfn'], 'kind': report['page']['kind'],
              'ptes': len(report['ptes']), **report['verify']}
             for report in quiet.answers
             if report['verify'] != {'found': len(report['ptes']),
                                     'changed': 0, 'missing': [],
                                     'extra': []}]
    assert (len(wrong), wrong[:5]) == (0, [])


def test_the_scan_looks_at_the_entries_of_all_processes(
        quiet: Quiet, note: Callable[[str], None]) -> None:
    """And says at how many."""
    scan = quiet.answers[0]['history']['scan']
    note(f'the scan looked at {scan}')
    assert scan['mms'] >= 3 and scan['entries'] > 2000


# --------------------------------------------------------- beyond the rmap --

def test_the_scan_finds_the_zero_page_and_rmap_does_not_miss_it(
        scene: Scene) -> None:
    """Which is mapped everywhere, and has no rmap."""
    scene.play('P map M 5\nP read M')
    report = scene.ask(f"{scene.pfn('P', 'M')} verify")
    assert report['page']['kind'] == 'zero'
    assert report['verify']['found'] >= 5
    assert report['verify']['missing'] == []


# ------------------------------------------------------- everything moves --

@contextmanager
def storm(guest: Guest, actors: str) -> Iterator[None]:
    """Children of these fork, write and exit until this is left."""
    guest.check('storm() { while [ -e /tmp/storm ]; do tell $1 fork $1x; '
                'tell $1x write M 1; tell $1x exit; tell $1 wait $1x; done; }')
    guest.check(f'touch /tmp/storm; for a in {" ".join(actors)}; do '
                'storm $a >/dev/null & done')
    try:
        yield
    finally:
        guest.undo('rm /tmp/storm; wait', 120)


def ask_in_storm(scene: Scene) -> List[Report]:
    """About pages that come and go."""
    pfns = [scene.pfn('P', 'M', page) for page in range(4)]
    with storm(scene.guest, 'PCG'):
        return verify_all(scene, [pfns[i % 4] for i in range(QUERIES)])


@pytest.fixture
def stormy(stage: Stage) -> List[Report]:
    """Answers in a storm."""
    scene = stage.scene('storm', lambda new: new.play(
        'P map M 4\nP write M\nP fork C\nC fork G'))
    return stage.once('verify in a storm', lambda: ask_in_storm(scene))


def test_no_alarm_is_false_in_a_storm_of_forks(
        stormy: List[Report], note: Callable[[str], None]) -> None:
    """What has changed is not missing, and not one too many."""
    changed = sum(report['verify']['changed'] for report in stormy)
    note(f'{changed} mappings changed while {len(stormy)} were asked about')
    wrong = [report['verify'] for report in stormy
             if report['verify']['missing'] or report['verify']['extra']]
    assert (len(wrong), wrong[:5]) == (0, [])


def test_few_give_up_in_a_storm_of_forks(stormy: List[Report]) -> None:
    """Nine in ten have an answer."""
    assert len(stormy) > QUERIES * 9 // 10
