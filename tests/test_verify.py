"""verify: what rmap finds against a scan of all memory, the way of 2.4."""

import os
import random
import re
import time
from collections import Counter
from contextlib import contextmanager
from typing import Callable, Iterator, List, NamedTuple

import pytest

from rvtest import vm
from rvtest.guest import Guest
from rvtest.report import Report
from rvtest.scene import Scene
from rvtest.stage import Stage
from stories import EVERYTHING, PREPARED

MACHINE = PREPARED
KERNELS = vm.some_kernels
SECONDS = 20

PAGES = 1000
QUERIES = 1000

# And a grandchild.
BUILD = EVERYTHING + '''
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
    assert scan['mms'] >= 3 and scan['visits'] > 2000


# ------------------------------------------------------- a scan in pieces --

@contextmanager
def writers(guest: Guest, pid: int) -> Iterator[None]:
    """Others want the mmap_lock of a process for write, again and again."""
    guest.check('touch /tmp/writers; for i in 1 2; do while [ -e /tmp/writers '
                f']; do echo 5 >/proc/{pid}/clear_refs; done & done')
    try:
        yield
    finally:
        guest.undo('rm /tmp/writers; wait', 120)


def test_a_scan_that_is_interrupted_passes_over_no_entry(
        scene: Scene) -> None:
    """The zero page is found as often as it was mapped, wherever else."""
    scene.play('P map M 50000\nP madvise M 0 50000 nohugepage\nP read M')
    query = f"{scene.pfn('P', 'M')} verify"
    with writers(scene.guest, scene.pids['P']):
        answers = [report for error, report in scene.ask_all([query] * 20)
                   if error == 'ok']
    assert len(answers) == 20
    assert min(report['verify']['found'] for report in answers) >= 50000


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


# ------------------------------------------------------ an area is leaving --

# A huge page and then a page that a child has too, which are unmapped as one.
# Z is for 5.10 and 6.1: below a stack they keep mmap_lock for writing.
AREA = '''
    P fork A
    A map M 1024
    A map Z 1
    A unmap M 0 512
    A map H 512 shared hugetlb at {start:#x}
    A write H 0
    A madvise M 512 512 nohugepage
    A write M 1023
    A fork C
    '''
START = 0x10000000000


@contextmanager
def being_unmapped(scene: Scene) -> Iterator[None]:
    """munmap() has taken the area out of the mm, and waits for a lock of the
    huge page before it clears what comes behind; until this is left."""
    guest = scene.guest
    huge = scene.pfn('A', 'H')
    guest.check(f'insmod /lib/rmapviz_hold.ko pfn={huge} rmap=1')
    try:
        guest.check('tell -t 300 A unmap M 0 1024 >/tmp/said & leaves=$!')
        # three times, for maps may be read in the middle of a change
        gone = (f"maps=$(cat /proc/{scene.pids['A']}/maps) && "
                f"! echo \"$maps\" | grep -q '^{START + 0x200000:012x}-'")
        guest.wait_for(f'{gone} && sleep 0.2 && {gone} && sleep 0.2 && '
                       f'{gone}')
        yield
    finally:
        guest.check('rmmod rmapviz_hold; wait $leaves; grep ok /tmp/said')


def test_verify_raises_no_alarm_for_an_area_that_is_being_unmapped(
        scene: Scene) -> None:
    """The walk rightly finds an entry where the scan has no VMA any more."""
    scene.play(AREA.format(start=START))
    pfn = scene.pfn('C', 'M', 1023)
    with being_unmapped(scene):
        report = scene.ask(f'{pfn} verify')
    assert (len(report['ptes']), report['verify']) == (2, {
        'found': 1, 'changed': 1, 'missing': [], 'extra': []})


# ------------------------------------------------------------ all at once --

# Seconds; by hand, an hour of it.
STORM_SECONDS = int(os.environ.get('STORM_SECONDS', '10'))

# What P's children do to what they have of it, over and over.
DEEDS = (
    ('fork {0}', '{0} write M 1', '{0} mprotect M 0 3 r',
     '{0} mremap M 4 2 N', '{0} unmap M 7 1', '{0} fork {0}y',
     '{0} exit', '{0}y write N', '{0}y exit'),
    ('fork {0}', '{0} fill K 0 2 9', '{0} fork {0}y',
     '{0} madvise K 0 8 mergeable', '{0} exit', '{0}y fill K 1 1 9',
     '{0}y exit'),
    ('fork {0}', '{0} read F', '{0} mprotect F 2 2 r', '{0} mremap F 4 2 G',
     '{0} madvise F 0 2 dontneed', '{0} read F 0 2', '{0} exit'),
)


def deeds(actor: str, number: int) -> str:
    """A loop of the shell that has them done."""
    lines = '; '.join(
        f"tell {line.format(actor + 'x')}" if '{' in line.split()[0]
        else f"tell {actor} {line.format(actor + 'x')}"
        for line in DEEDS[number])
    return (f'while [ -e /tmp/storm ]; do {lines}; tell {actor} wait '
            f'{actor}x; done >/dev/null 2>&1 &')


@contextmanager
def great_storm(scene: Scene) -> Iterator[None]:
    """Until this is left."""
    guest = scene.guest
    scene.story('''
        ! cp /mnt/data /mnt/storm
        P map M 8
        P write M
        P map K 8
        P fill K 0 8 9
        P madvise K 0 8 mergeable
        P map F 8 shared file /mnt/storm 0
        P read F
        P fork A
        P fork B
        P fork C
        ''')
    guest.check('cd /sys/kernel/mm/ksm; echo 20 >sleep_millisecs; '
                'echo 50 >pages_to_scan; echo 1 >run; cd /; touch /tmp/storm; '
                + ' '.join(deeds(actor, i) for i, actor in enumerate('ABC'))
                + ' while [ -e /tmp/storm ]; do truncate -s 8192 /mnt/storm; '
                'truncate -s 32768 /mnt/storm; usleep 50000; done &')
    try:
        yield
    finally:
        guest.check('rm /tmp/storm; wait; cd /sys/kernel/mm/ksm; echo 0 >run; '
                    'echo 0 >sleep_millisecs; echo 1000 >pages_to_scan; cd /',
                    300)


def ask_in_great_storm(scene: Scene) -> List[Report]:
    """About what P maps now, again and again."""
    found: List[Report] = []
    with great_storm(scene):
        begin = time.monotonic()
        while time.monotonic() < begin + STORM_SECONDS:
            # truncation splits a large folio, and unmaps all of it
            looks = scene.play('P look M\nP look K\nP read F 0 2\nP look F')
            found += verify_all(scene, [
                int(pfn, 16) for pfn in re.findall(
                    r'pfn=0x([0-9a-f]+),present=1', ' '.join(looks))])
    return found


@pytest.fixture
def very_stormy(stage: Stage) -> List[Report]:
    """Answers in that storm."""
    scene = stage.scene('great storm', lambda new: None)
    return stage.once('verify in a great storm',
                      lambda: ask_in_great_storm(scene))


def test_nothing_is_extra_in_a_storm_of_all_that_moves_mappings(
        very_stormy: List[Report], note: Callable[[str], None]) -> None:
    """fork, exit, COW, mprotect, mremap, munmap, KSM, truncation."""
    kinds = Counter(report['page']['kind'] for report in very_stormy)
    changed = sum(report['verify']['changed'] for report in very_stormy)
    note(f'{changed} mappings changed; asked about {dict(kinds)}')
    assert {'anon', 'ksm', 'file'} <= set(kinds)
    wrong = [report['verify'] for report in very_stormy
             if report['verify']['extra']]
    assert (len(wrong), wrong[:5]) == (0, [])


def test_only_ksm_leaves_mappings_that_are_missing_in_a_storm(
        very_stormy: List[Report], note: Callable[[str], None]) -> None:
    """Of a child that ksmd has not reached: mapcount counts them, too."""
    missing = [report for report in very_stormy
               if report['verify']['missing']]
    note(f'{len(missing)} of {len(very_stormy)} answers miss mappings')
    wrong = [{**report['page'], **report['walk'], **report['verify']}
             for report in missing if report['page']['kind'] != 'ksm'
             or not report['walk']['unreached']]
    for record in wrong[:5]:
        note(f'{record}')
    assert wrong == []
