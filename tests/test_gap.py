"""Mappings that the kernel counts and its rmap does not reach.

KSM has such a state of its own: a process shares a merged page with its child
and exits, ksmd frees its notes, and has none yet for the child.
"""

from contextlib import contextmanager
from typing import Iterator, NamedTuple

import pytest

from rvtest.guest import Guest
from rvtest.report import Report, parse
from rvtest.scene import Scene
from rvtest.stage import Stage
from stories import PREPARED

MACHINE = PREPARED
SECONDS = 10

# Of the page P maps two, and so does the child; R, who is no kin, has one.  B
# keeps ksmd busy before it comes to the child, who was the last to register.
# ksmd stands still meanwhile, between two scans.
MERGED = '''
    P fork R
    P fork B
    P map M 2
    P fill M 0 2 7
    P madvise M 0 2 mergeable
    R map N 1
    R fill N 0 1 7
    R madvise N 0 1 mergeable
    ! ksm
    B map Q 200
    B write Q
    B madvise Q 0 200 mergeable
    P fork C
    P exit
    '''
ADDRESSES = {'0x10000000000', '0x10000001000'}
KSM = '/sys/kernel/mm/ksm'
WHY = 'ksmd has not yet reached a child of a process that exited'


class Gap(NamedTuple):
    """What was said before ksmd moved, in the gap, and when it had passed."""

    child: int
    before: Report
    verify: Report
    brief: Report
    text: str
    after: Report


@contextmanager
def slow_ksmd(guest: Guest) -> Iterator[None]:
    """A page a second, until this is left."""
    guest.check(f'echo 1000 >{KSM}/sleep_millisecs; '
                f'echo 1 >{KSM}/pages_to_scan; echo 1 >{KSM}/run')
    try:
        yield
    finally:
        guest.check(f'echo 0 >{KSM}/run; echo 0 >{KSM}/sleep_millisecs; '
                    f'echo 1000 >{KSM}/pages_to_scan')


def tell_of_the_gap(guest: Guest) -> Gap:
    """From two merged pages to the next full scan."""
    with Scene(guest) as scene:
        scene.story(MERGED)
        pfn = scene.pfn('C', 'M')
        before = scene.ask(f'{pfn} verify')
        with slow_ksmd(guest):
            guest.wait_for(f"ask '{pfn}' | grep -q 'does not reach'")
            verify = scene.ask(f'{pfn} verify')
            brief = scene.ask(f'{pfn} brief')
            text = guest.check(f"ask '{pfn} verify'")
        guest.check('ksm')
        return Gap(scene.pids['C'], before, verify, brief, text,
                   scene.ask(f'{pfn} verify'))


@pytest.fixture
def gap(stage: Stage) -> Gap:
    """The story of it, told once."""
    return stage.record('a gap of KSM',
                        lambda: tell_of_the_gap(stage.guest))


def test_rmap_finds_all_of_a_ksm_page_while_ksmd_has_notes(gap: Gap) -> None:
    """Those of a process that has exited lead to its child as well."""
    assert gap.before['page']['kind'] == 'ksm'
    assert (gap.before['page']['mapcount'], gap.before['walk']['unreached'],
            gap.before['verify']['missing']) == (3, 0, [])


def test_verify_finds_the_child_that_ksmd_has_not_reached(gap: Gap) -> None:
    """Both of its mappings are missing, and nothing else is."""
    mms = {mm['id']: mm['pid'] for mm in gap.verify['mms']}
    missing = {(mms[place['mm']], place['addr'])
               for place in gap.verify['verify']['missing']}
    assert missing == {(gap.child, address) for address in ADDRESSES}
    assert gap.verify['verify']['extra'] == []


def test_a_report_counts_what_rmap_does_not_reach(gap: Gap) -> None:
    """Without verify as well, and if it only counts."""
    assert (gap.verify['page']['mapcount'], len(gap.verify['ptes']),
            gap.verify['walk']['unreached']) == (3, 1, 2)
    assert gap.brief['walk']['unreached'] == 2


def test_reclaim_does_not_find_all_of_such_a_page(gap: Gap) -> None:
    """It cannot be unmapped."""
    assert 'missed' in gap.verify['reclaim']['reasons']


def test_text_says_why_rmap_does_not_reach_a_ksm_page(gap: Gap) -> None:
    """In words, with the cost of the walk and with what verify misses."""
    text = ' '.join(gap.text.split())
    assert "the kernel's rmap does not reach 2 of 3 mappings: " + WHY in text
    assert 'missing 2, extra 0: ' + WHY in text


def test_rmap_finds_all_again_when_ksmd_has_passed(gap: Gap) -> None:
    """It has notes of the child then."""
    assert (gap.after['page']['mapcount'], len(gap.after['ptes']),
            gap.after['walk']['unreached'],
            gap.after['verify']['missing']) == (3, 3, 0, [])


# ------------------------------------------------- a program that makes it --

SETTINGS = f'cd {KSM}; cat run sleep_millisecs pages_to_scan; cd /'


class Made(NamedTuple):
    """What it printed, what was said of that, and ksmd's settings before it
    and after it."""

    printed: str
    report: Report
    before: str
    after: str


def run_program(guest: Guest) -> Made:
    """From its start to its end."""
    before = guest.check(SETTINGS)
    guest.check('rm -f /tmp/gap; gap >/tmp/gap & gap=$!')
    try:
        guest.wait_for('[ -s /tmp/gap ]')
        printed = guest.check('cat /tmp/gap').strip()
        report = parse(guest.check(f"ask '{printed} json verify'", 300))
    finally:
        guest.undo('kill $gap; wait $gap')
    return Made(printed, report, before, guest.check(SETTINGS))


@pytest.fixture
def made(stage: Stage) -> Made:
    """A run of it."""
    return stage.record('a gap of a program',
                        lambda: run_program(stage.guest))


def test_gap_prints_who_is_not_found(made: Made) -> None:
    """The child, at two addresses, the first of which it prints."""
    pids = {mm['id']: mm['pid'] for mm in made.report['mms']}
    missing = [(pids[place['mm']], int(place['addr'], 16))
               for place in made.report['verify']['missing']]
    _, pid, address = made.printed.split()
    assert missing == [(int(pid), int(address, 16)),
                       (int(pid), int(address, 16) + 4096)]


def test_gap_makes_a_page_that_is_found_once_and_mapped_three_times(
        made: Made) -> None:
    """As the story above does."""
    assert (made.report['page']['kind'], made.report['page']['mapcount'],
            len(made.report['ptes']), made.report['walk']['unreached']) \
        == ('ksm', 3, 1, 2)


def test_gap_leaves_ksmd_as_it_was(made: Made) -> None:
    """On a machine where others use it."""
    assert made.after == made.before


# ---------------------------------------------------------- of other kinds --

@contextmanager
def counted_too_often(guest: Guest, pfn: int) -> Iterator[None]:
    """A page whose mapcount says one more, until this is left."""
    guest.check(f'insmod /lib/rmapviz_hold.ko pfn={pfn} mapcount=1')
    try:
        yield
    finally:
        guest.check('rmmod rmapviz_hold')


def test_text_says_that_rmap_does_not_reach_a_mapping_of_another_kind(
        scene: Scene) -> None:
    """Without the reason that only KSM has."""
    scene.play('P map A 1\nP write A\nP fork C')
    pfn = scene.pfn('P', 'A')
    with counted_too_often(scene.guest, pfn):
        text = scene.guest.check(f"ask '{pfn}'")
        walk = scene.ask(f'{pfn}')['walk']
    assert walk['unreached'] == 1
    assert "the kernel's rmap does not reach 1 of 3 mappings" in text
    assert 'ksmd' not in text
