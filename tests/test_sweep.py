"""Ask for every page frame there is, while a storm goes on.

Actors fork, write, execute, exit, swap and merge, and map and write files;
meanwhile every frame from 0 to beyond the end of memory is asked for, as text
and as JSON.
"""

import random
import time
from collections import Counter
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

import pytest

from rvtest import kpage, vm
from rvtest.disk import SETUP
from rvtest.guest import Guest
from rvtest.machine import Machine
from rvtest.scene import Scene
from rvtest.stage import Stage


def prepare(guest: Guest) -> None:
    """A file system, and swap."""
    guest.check(SETUP)


KERNELS = vm.some_kernels
# a frame takes a debug kernel long, so it has no more of them
MACHINE = Machine(name='sweep', memory_mb=256, debug_memory_mb=256,
                  disks=True, prepare=prepare)
SECONDS = 100

BEYOND = 4096
CHUNK = 4096
SEED = 60
SAMPLE = 300

# One loop for each sort of trouble; the actor's name is the first argument.
STORM = (
    'forks() { tell $1 fork $1x; tell $1x write M; tell $1x fork $1xx; '
    'tell $1xx exec $1new; tell $1new map M 50; tell $1new write M; '
    'tell $1new exit; tell $1x exit; tell $1 wait $1x; }; '
    'swaps() { tell $1 write M; tell $1 madvise M 0 300 pageout; '
    'tell $1 read M; }; '
    'merges() { tell $1 fill M 0 200 7; tell $1 madvise M 0 200 mergeable; '
    'tell $1 fork $1x; tell $1x write M 0 50; tell $1x exit; '
    'tell $1 wait $1x; tell $1 write M 100 20; }; '
    'files() { tell $1 map F 100 shared file /mnt/storm 0; tell $1 write F; '
    'tell $1 unmap F 0 100; rm /mnt/storm; }; '
    'huge() { tell $1 map H 512; tell $1 madvise H 0 512 hugepage; '
    'tell $1 write H 0; tell $1 fork $1x; tell $1x unmap H 9 30; '
    'tell $1x exit; tell $1 wait $1x; tell $1 unmap H 0 512; }')
LOOPS = ('forks', 'swaps', 'merges', 'files', 'huge')

# What a frame of which kpageflags says nothing may well be.
UNSAID = ('other', 'free', 'movable', 'file', 'shmem')

Note = Callable[[str], None]


# --------------------------------------------------------------- the storm --

def fill_memory(scene: Scene) -> None:
    """Most of memory is something before the storm begins."""
    scene.play('''
        P fork Q
        Q map A 8192
        Q write A
        Q map H 2048
        Q madvise H 0 2048 hugepage
        Q write H
        Q map S 6144 shared
        Q write S
        Q fork R
        R write A 0 2048
        ''')
    scene.guest.check('dd if=/dev/zero of=/mnt/big bs=1M count=24 '
                      '2>/dev/null; cat /mnt/big >/dev/null')


@contextmanager
def storm(scene: Scene) -> Iterator[None]:
    """Actors and the loops that drive them, which come to their ends."""
    guest = scene.guest
    guest.check('echo 100 >/sys/kernel/mm/ksm/sleep_millisecs; '
                'echo 500 >/sys/kernel/mm/ksm/pages_to_scan; '
                'echo 1 >/sys/kernel/mm/ksm/run')
    guest.check(STORM)
    scene.play('P map M 300\nP write M')
    fill_memory(scene)
    for loop in LOOPS:
        scene.play(f'P fork {loop}')
    # with pauses: on an emulated machine they would leave no time to ask
    pause = 5 if vm.is_debug(guest.series) else 0.5
    loops = ' '.join(f'while [ -e /tmp/storm ]; do {loop} {loop}; sleep '
                     f'{pause}; echo >>/tmp/rounds; done >/dev/null 2>&1 &'
                     for loop in LOOPS)
    guest.check(f'touch /tmp/storm; {loops}')
    try:
        yield
    finally:
        guest.undo('rm /tmp/storm; wait; echo 0 >/sys/kernel/mm/ksm/run', 300)


def strength(guest: Guest) -> str:
    """What storms have done in that guest so far."""
    rounds = guest.check('grep -c "" /tmp/rounds').strip()
    swapped = guest.check('grep ^pswpout /proc/vmstat').split()[1]
    merged = guest.check('cat /sys/kernel/mm/ksm/full_scans').strip()
    return (f'{rounds} rounds, {swapped} pages swapped out, {merged} scans '
            'of KSM')


# --------------------------------------------------------------- the sweep --

class Frame(NamedTuple):
    """A line of the sweep."""

    pfn: int
    error: str
    kind: str
    before: int
    after: int


class Sweep(NamedTuple):
    """Every frame up to the last, or with a debug kernel a quarter of them."""

    frames: List[Frame]
    broken: str     # what was answered but is not whole
    seconds: float
    storm: str
    ksm_told: bool

    def errors(self) -> 'Counter[str]':
        """How often queries came to what."""
        return Counter(frame.error for frame in self.frames)


def frames_of(guest: Guest) -> List[Frame]:
    """All of memory, and beyond.

    A debug kernel takes half an hour for so much.
    """
    last = kpage.memory(guest)[-1][-1] + BEYOND
    part = 4 if vm.is_debug(guest.series) else 1
    frames: List[Frame] = []
    for first in range(0, last + 1, CHUNK):
        end = min(first + CHUNK // part - 1, last)
        output = guest.check(f'sweep {first} {end} 2>>/tmp/broken', 600)
        for line in output.splitlines():
            pfn, error, kind, before, after = line.split()
            frames.append(Frame(int(pfn, 16), error, kind, int(before, 16),
                                int(after, 16)))
    return frames


def sweep_in_storm(scene: Scene) -> Sweep:
    """Ask for them one by one."""
    guest = scene.guest
    with storm(scene):
        start = time.monotonic()
        frames = frames_of(guest)
        seconds = time.monotonic() - start
    return Sweep(frames, guest.check('head -c 2000 /tmp/broken'), seconds,
                 strength(guest), kpage.ksm_told(guest))


@pytest.fixture
def sweep(stage: Stage) -> Sweep:
    """Done once, for it takes long."""
    scene = stage.scene('a sweep', lambda new: None)
    return stage.once('a sweep', lambda: sweep_in_storm(scene))


def test_every_frame_in_a_storm_is_answered_or_refused(
        sweep: Sweep, note: Note) -> None:
    """Whole, as text and as JSON; there is no such page, or try again."""
    assert set(sweep.errors()) <= {'ok', 'ENXIO', 'EAGAIN'}, sweep.broken
    note(f'{len(sweep.frames)} frames in {sweep.seconds:.0f} s: '
         f'{dict(sweep.errors())}')
    note(f'the storm: {sweep.storm}')


def test_few_queries_for_frames_in_a_storm_give_up(sweep: Sweep) -> None:
    """One in a thousand at most."""
    assert sweep.errors()['EAGAIN'] <= len(sweep.frames) / 1000


def steady(sweep: Sweep) -> List[Tuple[Frame, kpage.Flags]]:
    """Those whose flags were the same before and after, and what these are.
    """
    flags = kpage.whole([frame.before for frame in sweep.frames])
    return [(frame, some) for frame, some in zip(sweep.frames, flags)
            if frame.before == frame.after and frame.error != 'EAGAIN']


def test_most_frames_in_a_storm_stay_what_they_are_while_asked_for(
        sweep: Sweep) -> None:
    """Or there would be little to compare kinds with."""
    assert len(steady(sweep)) > 0.9 * len(sweep.frames)


def agrees(flags: kpage.Flags, frame: Frame, ksm_told: bool) -> bool:
    """Whether the answer is what kpageflags says."""
    kind = kpage.kind(flags)
    if kind == 'unknown':
        return frame.kind in UNSAID
    if frame.error == 'ENXIO':
        return kind == 'nopage'
    return kpage.says(flags, frame.kind, ksm_told)


def test_kinds_of_frames_in_a_storm_are_those_of_kpageflags(
        sweep: Sweep, note: Note) -> None:
    """But for one in a thousand, which may have changed back and forth."""
    still = steady(sweep)
    wrong: Dict[Tuple[str, str, str], List[int]] = {}
    for frame, some in still:
        if not agrees(some, frame, sweep.ksm_told):
            key = frame.kind, kpage.kind(some), ' '.join(sorted(some))
            wrong.setdefault(key, []).append(frame.pfn)
    kinds = Counter(frame.kind for frame in sweep.frames)
    note(f'kinds: {dict(kinds.most_common())}')
    for (got, kind, names), pfns in sorted(wrong.items()):
        note(f'{len(pfns)} of kind {got}, but kpageflags: {kind} ({names}), '
             f'such as {pfns[0]:#x}')
    assert sum(map(len, wrong.values())) <= len(still) / 1000


# ------------------------------------------------------------- a few frames --

def test_reports_of_mapped_frames_in_a_storm_are_whole(
        scene: Scene, note: Note) -> None:
    """Of the page that was asked for, and nothing is lost."""
    with storm(scene):
        flags = kpage.kpageflags(scene.guest)
        mapped = [pfn for pfn, some in enumerate(flags) if 'mmap' in some]
        pfns = random.Random(SEED).sample(mapped, min(SAMPLE, len(mapped)))
        answers = scene.ask_all(f'{pfn}' for pfn in pfns)
    assert len(pfns) == SAMPLE
    assert {error for error, _ in answers} <= {'ok', 'EAGAIN'}
    reports = [(pfn, report) for pfn, (error, report) in zip(pfns, answers)
               if error == 'ok']
    assert [report for pfn, report in reports
            if report['page']['pfn'] != pfn or report['walk']['lost']] == []
    assert len(reports) > 0.9 * SAMPLE
    note(f'{len(reports)} of {len(pfns)}')


def test_frames_that_no_machine_has_are_refused(scene: Scene) -> None:
    """However far they are."""
    far = [1 << bit for bit in range(24, 64)] + [(1 << 64) - 1]
    assert {error for error, _ in scene.ask_all(f'{pfn:#x}' for pfn in far)} \
        == {'ENXIO'}
