#!/usr/bin/python3
"""Ask for every page frame there is, while a storm goes on.

Actors fork, write, execute, exit, swap and merge, and map and write files;
meanwhile every frame from 0 to beyond the end of memory is asked for, as text
and as JSON:

- each query is answered, or refused with ENXIO or EAGAIN;
- each answer is whole;
- its kind is what /proc/kpageflags makes of the frame, where that said the
  same just before and just after the query;
- the kernel has nothing to complain of.
"""

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap  # noqa: E402
from rvtest import kpage  # noqa: E402
from rvtest.vm import is_debug, some_kernels  # noqa: E402
from rvtest.disk import SETUP, Disks  # noqa: E402
from rvtest.scene import Scene  # noqa: E402

BEYOND = 4096
CHUNK = 16384
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


class Frame(NamedTuple):
    """A line of the sweep."""

    pfn: int
    error: str
    kind: str
    before: int
    after: int


def start_storm(scene: Scene) -> None:
    """Actors and the loops that drive them."""
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
    pause = 5 if is_debug(guest.series) else 0.5
    loops = ' '.join(f'while [ -e /tmp/storm ]; do {loop} {loop}; sleep '
                     f'{pause}; echo >>/tmp/rounds; done >/dev/null 2>&1 &'
                     for loop in LOOPS)
    guest.check(f'touch /tmp/storm; {loops}')


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


def stop_storm(tap: Tap, guest: Guest) -> None:
    """Let the loops come to their ends."""
    guest.check('rm /tmp/storm; wait; echo 0 >/sys/kernel/mm/ksm/run', 300)
    rounds = guest.check('grep -c "" /tmp/rounds').strip()
    swapped = guest.check('grep ^pswpout /proc/vmstat').split()[1]
    merged = guest.check('cat /sys/kernel/mm/ksm/full_scans').strip()
    tap.note(f'the storm: {rounds} rounds, {swapped} pages swapped out, '
             f'{merged} scans of KSM')


def sweep(guest: Guest, last: int) -> List[Frame]:
    """Every frame up to the last."""
    frames: List[Frame] = []
    for first in range(0, last + 1, CHUNK):
        end = min(first + CHUNK - 1, last)
        output = guest.check(f'sweep {first} {end}', 600)
        for line in output.splitlines():
            pfn, error, kind, before, after = line.split()
            frames.append(Frame(int(pfn, 16), error, kind, int(before, 16),
                                int(after, 16)))
    return frames


def agree(flags: kpage.Flags, frame: Frame,
          ksm_told: bool) -> Tuple[bool, str]:
    """Is the answer what kpageflags says?  And what that is."""
    kind = kpage.kind(flags)
    if kind == 'unknown':
        return frame.kind in UNSAID, kind
    if frame.error == 'ENXIO':
        return kind == 'nopage', kind
    return kpage.says(flags, frame.kind, ksm_told), kind


def check_kinds(tap: Tap, frames: List[Frame], ksm_told: bool) -> None:
    """Kinds against kpageflags."""
    flags = kpage.whole([frame.before for frame in frames])
    steady = wrong = 0
    classes: Dict[Tuple[str, str, str], List[int]] = {}
    for frame, some in zip(frames, flags):
        if frame.before != frame.after or frame.error == 'EAGAIN':
            continue
        steady += 1
        fine, kind = agree(some, frame, ksm_told)
        if not fine:
            wrong += 1
            key = (frame.kind, kind, ' '.join(sorted(some)))
            classes.setdefault(key, []).append(frame.pfn)
    for (got, kind, names), pfns in sorted(classes.items()):
        tap.note(f'{len(pfns)} of kind {got}, but kpageflags: {kind} '
                 f'({names}), such as {pfns[0]:#x}')
    tap.ok(steady > 0.9 * len(frames),
           f'{steady} frames that did not change meanwhile')
    tap.ok(wrong <= steady / 1000, f'{wrong} of another kind than kpageflags '
           'says')


def check_sample(tap: Tap, guest: Guest, frames: List[Frame]) -> None:
    """Whole reports of frames that were mapped."""
    mapped = [frame.pfn for frame in frames
              if frame.before >> 11 & 1 and frame.error == 'ok']
    wrong: List[str] = []
    count = 0
    for pfn in random.Random(SEED).sample(mapped, min(SAMPLE, len(mapped))):
        status, output = guest.run(f'ask {pfn} json')
        if status:
            wrong += [] if 'EAGAIN' in output else [output]
            continue
        count += 1
        try:
            report = json.loads(output)
        except ValueError as error:
            wrong.append(f'{pfn}: {error}')
            continue
        if report['page']['pfn'] != pfn or report['walk']['lost']:
            wrong.append(f'{report}')
    tap.is_equal(wrong[:5], [], f'{count} whole reports of mapped pages')


def check_sweep(tap: Tap, guest: Guest) -> None:
    """Every frame, in a storm."""
    last = kpage.memory(guest)[-1][-1] + BEYOND
    with Scene(guest) as scene:
        start_storm(scene)
        start = time.monotonic()
        frames = sweep(guest, last)
        seconds = time.monotonic() - start
        check_sample(tap, guest, frames)
        stop_storm(tap, guest)
    tap.note(f'{len(frames)} frames in {seconds:.0f} s')
    errors = Counter(frame.error for frame in frames)
    tap.note(f'errors: {dict(errors)}')
    kinds = Counter(frame.kind for frame in frames)
    tap.note(f'kinds: {dict(kinds.most_common())}')
    tap.is_equal(sorted(set(errors) - {'ok', 'ENXIO', 'EAGAIN'}), [],
                 f'all of {len(frames)} frames: answered, ENXIO or EAGAIN')
    tap.ok(errors['EAGAIN'] <= len(frames) / 1000,
           f'{errors["EAGAIN"]} gave up')
    check_kinds(tap, frames, kpage.ksm_told(guest))


def check_far(tap: Tap, guest: Guest) -> None:
    """Frames that no machine has."""
    far = [1 << bit for bit in range(24, 64)] + [(1 << 64) - 1]
    with Scene(guest) as scene:
        errors = {error for error, _ in scene.ask_all(f'{pfn:#x}'
                                                      for pfn in far)}
    tap.is_equal(errors, {'ENXIO'}, 'frames that no machine has')


def main() -> None:
    """A sweep on every kernel."""
    with Tap() as tap, Disks() as disks:
        for series in some_kernels(tap):
            tap.prefix = f'{series}: '
            # a frame takes a debug kernel long; it gets twice what is said
            memory = 128 if is_debug(series) else 256
            with Guest(series, memory_mb=memory,
                       extra_args=disks.arguments()) as guest:
                guest.check(SETUP)
                check_far(tap, guest)
                check_sweep(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
