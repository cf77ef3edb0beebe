#!/usr/bin/python3
"""Who holds a page that nobody maps, and would reclaim take it?

- A page that is quiet has no pins: a thousand of all that are mapped.
- Whatever holds a page shows as pins, until it lets go.
- The dry run of reclaim has the outcome and the reasons that the story made,
  and agrees with what the kernel does when it is told to page it out.
"""

import random
import sys
import time
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest import kpage  # noqa: E402
from rvtest.disk import SETUP, Disks, hold, let_go  # noqa: E402
from rvtest.scene import Scene  # noqa: E402

QUIET = 1000
SEED = 6
HUGE = 512
MAPPED = ('anon', 'ksm', 'file', 'shmem')


class Holder(NamedTuple):
    """Something that holds P's page, and how it lets go."""

    name: str
    told: str
    page: int
    release: str
    reads: bool = False     # it waits for a disk


HOLDERS = (
    Holder('vmsplice', '''
        P map M 4
        P write M
        P vmsplice M 2
        ''', 2, 'P vmspliceend'),

    Holder('vmsplice of a page that is shared with a child', '''
        P map M 4
        P write M
        P fork C
        P vmsplice M 2
        ''', 2, 'P vmspliceend'),

    Holder('vmsplice of a page of a file', '''
        P map M 4 shared file /mnt/data 1
        P read M
        P vmsplice M 2
        ''', 2, 'P vmspliceend'),

    Holder('vmsplice of a part of a huge page', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P vmsplice M 100
        ''', 100, 'P vmspliceend'),

    Holder('buffers of io_uring', '''
        P map M 4
        P write M
        P uring M 1 2
        ''', 2, 'P uringend'),

    Holder('buffers of io_uring in a memfd', '''
        P map M 4 shared memfd buffers
        P write M
        P uring M 1 2
        ''', 2, 'P uringend'),

    Holder('buffers of io_uring in a huge page', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P uring M 0 {HUGE}
        ''', 77, 'P uringend'),

    Holder('buffers of io_uring in hugetlb', f'''
        P map M {HUGE} hugetlb
        P write M 0
        P uring M 0 {HUGE}
        ''', 77, 'P uringend'),

    Holder('a direct read of a disk', '''
        P map M 4
        P write M
        P dio M 3 1 /dev/vdc
        ''', 3, 'P dioend', reads=True),
)


class Fate(NamedTuple):
    """A page, and what reclaim would make of it."""

    name: str
    told: str
    outcome: str
    reasons: str = ''
    page: int = 0
    stays: Optional[bool] = None    # when paged out; None: do not try
    ignore: str = ''                # reasons that may be there or not


FATES = (
    Fate('a clean page of a file', '''
        P map M 2 shared file /mnt/data 0
        P read M
        ! old
        ''', 'SWAP_SUCCESS', stays=False),

    Fate('a page of a file that was just read', '''
        P map M 2 shared file /mnt/data 0
        P read M
        ''', 'SWAP_FAIL', 'referenced'),

    Fate('a dirty page of a file', '''
        P map M 2 shared file /mnt/data 0
        P write M
        ! old
        ''', 'SWAP_SUCCESS', 'dirty'),

    Fate('a page that a child has looked at', '''
        P map M 2 shared file /mnt/data 0
        P read M
        P fork C
        ! sync
        ! old
        C read M
        ''', 'SWAP_FAIL', 'referenced'),

    Fate('mlock', '''
        P map M 2 shared file /mnt/data 0
        P read M
        P mlock M 0 1
        ! sync
        ! old
        ''', 'SWAP_FAIL', 'mlocked unevictable'),

    Fate('mlock by a child', '''
        P map M 2 shared
        P write M
        P fork C
        C mlock M 0 1
        ! old
        ''', 'SWAP_FAIL', 'mlocked unevictable dirty', ignore='dirty'),

    Fate('next to a page that is locked', '''
        P map M 2
        P write M
        P mlock M 0 1
        ! old
        ''', 'SWAP_SUCCESS', 'dirty', page=1, stays=False),

    Fate('ramfs', '''
        P map M 2 shared file /ram/file 0
        P write M
        ! old
        ''', 'SWAP_FAIL', 'unevictable', stays=True, ignore='dirty'),

    Fate('anonymous memory', '''
        P map M 2
        P write M
        ! old
        ''', 'SWAP_SUCCESS', 'dirty', stays=False),

    Fate('anonymous memory without swap', '''
        ! swapoff /dev/vdb
        P map M 2
        P write M
        ! old
        ''', 'SWAP_FAIL', 'no-swap dirty', stays=True),

    Fate('shared memory without swap', '''
        P map M 2 shared
        P write M
        ! old
        ''', 'SWAP_FAIL', 'no-swap dirty'),

    Fate('memory given up by MADV_FREE, without swap', '''
        P map M 2
        P write M
        ! drain
        P madvise M 0 2 free
        ''', 'SWAP_SUCCESS', stays=False),

    Fate('MADV_FREE and written again, without swap', '''
        P map M 2
        P write M
        ! drain
        P madvise M 0 2 free
        ! drain
        P write M
        ! old
        ''', 'SWAP_FAIL', 'no-swap dirty', stays=True),

    Fate('shared memory with swap', '''
        ! swapon /dev/vdb
        P map M 2 shared
        P write M
        ! old
        ''', 'SWAP_SUCCESS', 'dirty'),

    Fate('io_uring', '''
        P map M 2
        P write M
        P uring M 0 1
        ! old
        ''', 'SWAP_FAIL', 'pinned dirty', stays=True),

    Fate('hugetlb', f'''
        P map M {HUGE} hugetlb
        P write M 0
        ! old
        ''', 'SWAP_FAIL', 'hugetlb', ignore='dirty referenced'),

    Fate('a huge page of which another part was just used', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P mprotect M 200 1 r
        ! old
        P read M 300
        ''', 'SWAP_FAIL', 'referenced dirty', page=10),
)


def prepare(guest: Guest) -> None:
    """Disks, ramfs, huge pages; "old" lets all pages look unused."""
    guest.check(SETUP)
    guest.check('head -c 262144 </bin/busybox >/mnt/data; sync; '
                'echo 8 >/proc/sys/vm/nr_hugepages; '
                'echo 4096 >/sys/kernel/debug/fault_around_bytes; '
                'mkdir /ram; mount -t ramfs ram /ram')
    guest.check('old() { for pid in $(pidof actor); do '
                'echo 1 >/proc/$pid/clear_refs; done; }')


def mapped_frames(guest: Guest) -> List[int]:
    """Frames that kpageflags and kpagecount call mapped."""
    flags = kpage.kpageflags(guest)
    counts = kpage.kpagecount(guest)
    return [pfn for pfn, (some, count) in enumerate(zip(flags, counts))
            if count and kpage.kind(some) in MAPPED]


def check_quiet(tap: Tap, guest: Guest) -> None:
    """Many pages of many processes, none of which does anything."""
    with Scene(guest) as scene:
        scene.story('''
            P map M 300
            P write M
            P map F 60 shared file /mnt/data 0
            P read F
            P map S 200 shared memfd some
            P write S
            P map T 512
            P madvise T 0 512 hugepage
            P write T 0
            P fork C
            C write M 0 100
            C read F 10 20
            C fork G
            G read S
            ''')
        chance = random.Random(SEED)
        frames = mapped_frames(guest)
        some = chance.sample(frames, min(QUIET, len(frames)))
        held: List[str] = []
        asked = 0
        for error, report in scene.ask_all(f'{pfn}' for pfn in some):
            page = report.get('page') or {'mapcount': 0}
            if error != 'ok' or not page['mapcount']:
                continue    # of a process that came and went
            asked += 1
            if page['pins']:
                held.append(f'{page}')
        tap.note(f'{len(frames)} frames are mapped')
        tap.ok(asked > 0.95 * QUIET, f'{asked} quiet pages of all processes')
        tap.is_equal(held[:10], [], f'{len(held)} of them with pins')


def check_holder(tap: Tap, guest: Guest, holder: Holder) -> None:
    """Pins while it is held, and none before and after."""
    with Scene(guest) as scene:
        *told, last = holder.told.strip().splitlines()
        scene.story('\n'.join(told))
        pfn = scene.pfn('P', 'M', holder.page)
        pins = [scene.ask(f'{pfn}')['page']['pins']]
        if holder.reads:
            hold(guest, 'read')
        scene.story(last)
        pfn = scene.pfn('P', 'M', holder.page)
        report = scene.ask(f'{pfn}')
        pins.append(report['page']['pins'])
        if holder.reads:
            let_go(guest)
        scene.story(holder.release)
        pins.append(scene.ask(f'{pfn}')['page']['pins'])
        tap.ok(pins[0] == 0 < pins[1] and pins[2] == 0,
               f'{holder.name}: {pins[1]} pins, none before and after',
               f'{pins}\n{report["page"]}')
        reclaim = report['reclaim']
        tap.ok(reclaim['outcome'] == 'SWAP_FAIL'
               and 'pinned' in reclaim['reasons'],
               f'{holder.name}: reclaim would not take it', f'{reclaim}')


def check_fate(tap: Tap, guest: Guest, fate: Fate) -> None:
    """Outcome and reasons; then try it."""
    with Scene(guest) as scene:
        scene.story(fate.told)
        pfn = scene.pfn('P', 'M', fate.page)
        report = scene.ask(f'{pfn}')
        reasons = set(report['reclaim']['reasons'])
        ignore = set(fate.ignore.split())
        tap.is_equal((report['reclaim']['outcome'], sorted(reasons - ignore)),
                     (fate.outcome, sorted(set(fate.reasons.split())
                                           - ignore)),
                     f'{fate.name}: {fate.outcome}, {fate.reasons or "free"}')
        if fate.stays is not None:
            scene.play(f'P madvise M {fate.page} 1 pageout')
            reply, = scene.play(f'P look M {fate.page} 1')
            tap.is_equal('present=1' in reply, fate.stays,
                         f'{fate.name}: and so the kernel does')


def check_writeback(tap: Tap, guest: Guest) -> None:
    """A page on its way to a disk, and nobody waits for it."""
    with Scene(guest) as scene:
        hold(guest, 'write')
        scene.play('P map M 1 shared file /dev/vdc 0\nP write M')
        pfn = scene.pfn('P', 'M')
        guest.check('old; cd /proc/sys/vm; echo 1 >dirty_expire_centisecs; '
                    'echo 1 >dirty_writeback_centisecs')
        for _ in range(300):
            if 'writeback' in kpage.kpageflags(guest, pfn, 1)[0]:
                break
            time.sleep(0.1)
        reclaim = scene.ask(f'{pfn}')['reclaim']
        let_go(guest)
        tap.is_equal((reclaim['outcome'], reclaim['reasons']),
                     ('SWAP_AGAIN', ['writeback']),
                     'a page on its way to the disk: SWAP_AGAIN')


def check_busy(tap: Tap, guest: Guest) -> None:
    """A page that another module holds."""
    with Scene(guest) as scene:
        scene.play('P map A 1\nP write A\n'
                   'P map F 4 shared file /mnt/data 0\nP read F')
        guest.check('sync; drain; old')
        anon, file = scene.pfn('P', 'A'), scene.pfn('P', 'F', 3)
        scene.play('P unmap F 0 4')
        for name, pfn, held, outcome, reasons in (
                ('a mapping that is not to be found', anon, 'mapcount=1',
                 'SWAP_AGAIN', ['missed', 'dirty']),
                ('a page that nobody maps, and somebody has locked', file, '',
                 'SWAP_FAIL', ['pinned', 'locked'])):
            guest.check(f'insmod /lib/rmapviz_hold.ko pfn={pfn} {held}')
            reclaim = scene.ask(f'{pfn}')['reclaim']
            guest.check('rmmod rmapviz_hold')
            tap.is_equal((reclaim['outcome'], reclaim['reasons']),
                         (outcome, reasons),
                         f'{name}: {outcome}, {" ".join(reasons)}')


def check_unmapped(tap: Tap, guest: Guest) -> None:
    """What rmap does not map has no pins, and no fate."""
    flags = kpage.kpageflags(guest)
    found: List[Tuple[str, object, object]] = []
    for kind in ('reserved', 'slab', 'pagetable'):
        pfn = next(pfn for pfn, some in enumerate(flags)
                   if kpage.kind(some) == kind)
        with Scene(guest) as scene:
            report = scene.ask(f'{pfn}')
        found.append((report['page']['kind'], report['page']['pins'],
                      report['reclaim']))
    tap.is_equal(found, [('reserved', None, None), ('slab', None, None),
                         ('pagetable', None, None)],
                 'what rmap does not map has no pins, and no fate')


def main() -> None:
    """Pins and fates on every kernel."""
    with Tap() as tap, Disks() as disks:
        for series in kernels():
            tap.prefix = f'{series}: '
            with Guest(series, extra_args=disks.arguments()) as guest:
                prepare(guest)
                check_quiet(tap, guest)
                for holder in HOLDERS:
                    check_holder(tap, guest, holder)
                for fate in FATES:
                    check_fate(tap, guest, fate)
                check_writeback(tap, guest)
                check_busy(tap, guest)
                check_unmapped(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
