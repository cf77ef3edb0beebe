#!/usr/bin/python3
"""Frames that rmap does not map, and one that a PUD maps.

Whatever a frame is, a query for it is answered: free, slab, page table,
reserved, zero, in a balloon, of a driver that can move it, poisoned, of a
device; or refused with ENXIO, where no page is.
"""

import random
import re
import sys
from pathlib import Path
from typing import List, Set, Tuple

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap  # noqa: E402
from rvtest import kpage  # noqa: E402
from rvtest.vm import some_kernels  # noqa: E402
from rvtest.report import page_mappings  # noqa: E402
from rvtest.scene import Scene  # noqa: E402

SEED = 52
SAMPLE = 60
HUGE = 512
GIGANTIC = 512 * 512
ARGUMENTS = ('-device', 'virtio-balloon-pci')
# 64 MB at 512 MB are a persistent memory's, which has a page for each frame,
# and 128 MB at 768 MB, which are a section that nothing else is in; the kernel
# must not sit in the only gigabyte that can be a gigantic page
PMEM = [(512 << 20 >> 12) + 4096, (512 << 20 >> 12) + 16383,
        (768 << 20 >> 12) + 4096, (768 << 20 >> 12) + 32767]
APPEND = ('memmap=64M!512M memmap=128M!768M hugepagesz=1G hugepages=1 '
          'nokaslr')
MODULES = ('virtio_balloon', 'libnvdimm', 'nd_btt', 'nd_pmem', 'nd_e820')
BLOCK = '/sys/devices/system/memory'
# flags that no page of a driver has; "mmap" of 5.10 is none to go by
SAID = {'nopage', 'zero', 'ksm', 'huge', 'slab', 'pgtable', 'buddy',
        'offline', 'reserved', 'anon', 'lru'}


def kinds_of(scene: Scene, pfns: List[int]) -> List[Tuple[str, int]]:
    """What the module calls frames: an errno or a kind; and mappings."""
    found = []
    for error, report in scene.ask_all(f'{pfn}' for pfn in pfns):
        if error == 'ok':
            found.append((report['page']['kind'], len(report['ptes'])))
        else:
            found.append((error, 0))
    return found


def is_disputed(guest: Guest, kind: str, pfn: int) -> bool:
    """Whether a frame stays what kpageflags and the report differ on.

    Programs come and go, so it may have been something else in between.
    """
    for _ in range(3):
        with Scene(guest) as scene:
            before = kpage.kpageflags(guest)[pfn]
            got = kinds_of(scene, [pfn])
            after = kpage.kpageflags(guest)[pfn]
        if (before != after or kpage.kind(before) != kind
                or got == [(kind, 0)]):
            return False
    return True


def check_samples(tap: Tap, guest: Guest) -> None:
    """Frames that kpageflags calls free, slab, and so on, all the while."""
    chance = random.Random(SEED)
    for kind in ('free', 'slab', 'pagetable', 'reserved'):
        with Scene(guest) as scene:
            flags = kpage.kpageflags(guest)
            pfns = [pfn for pfn, some in enumerate(flags)
                    if kpage.kind(some) == kind]
            some = chance.sample(pfns, min(SAMPLE, len(pfns)))
            got = dict(zip(some, kinds_of(scene, some)))
            later = kpage.kpageflags(guest)
        steady = [pfn for pfn in some if flags[pfn] == later[pfn]]
        strange = [f'{pfn:#x}: {got[pfn]}' for pfn in steady
                   if got[pfn] != (kind, 0)
                   and is_disputed(guest, kind, pfn)]
        tap.ok(steady and not strange,
               f'{len(steady)} frames that are {kind}', f'{strange}')


def check_zero(tap: Tap, scene: Scene) -> None:
    """The zero page, and the huge one; nobody owns a mapping of them."""
    scene.play(f'''
        P map Z 1
        P read Z
        P map H {HUGE}
        P madvise H 0 {HUGE} hugepage
        P read H 5
        ''')
    small, huge = scene.pfn('P', 'Z'), scene.pfn('P', 'H', 5)
    tap.is_equal(kinds_of(scene, [small, huge]), [('zero', 0), ('zero', 0)],
                 'the zero page and the huge zero page')


def check_freed(tap: Tap, scene: Scene) -> None:
    """What was just freed waits in a list of the CPU: free, not other."""
    scene.play('P map M 40\nP write M')
    reply, = scene.play('P look M')
    pfns = [int(pfn, 16) for pfn in re.findall(r'pfn=0x([0-9a-f]+)', reply)]
    scene.play('P unmap M 0 40')
    got = kinds_of(scene, pfns)
    waiting = sum('buddy' not in kpage.kpageflags(scene.guest, pfn, 1)[0]
                  for pfn in pfns)
    # others may have taken some
    strange = [kind for kind in got if kind[0] == 'other']
    tap.ok(len(strange) <= 2, f'40 pages that were just freed are free: '
           f'{waiting} of them wait in per-CPU lists', f'{got}')


def check_poison(tap: Tap, scene: Scene) -> None:
    """A page that the hardware, so it seems, has given up."""
    scene.play('P map M 4\nP write M')
    pfn = scene.pfn('P', 'M', 1)
    reply, = scene.guest.tell(['P madvise M 1 1 hwpoison'])
    if not reply.startswith('ok'):
        tap.skip('a poisoned page', f'this kernel cannot: {reply}')
        return
    page = scene.ask(f'{pfn}')
    tap.is_equal(('hwpoison' in page['page']['flags'], page['ptes']),
                 (True, []), f"a poisoned page: {page['page']['kind']}")


def check_balloon(tap: Tap, guest: Guest) -> None:
    """What the host has taken."""
    before = offline(guest)
    memory = guest.qmp('query-balloon')['actual']
    guest.qmp('balloon', value=memory - (172 << 20))
    taken: Set[int] = set()
    for _ in range(50):
        taken = offline(guest) - before
        if len(taken) > 1000:
            break
    some = random.Random(SEED).sample(sorted(taken), min(SAMPLE, len(taken)))
    with Scene(guest) as scene:
        got = kinds_of(scene, some)
    tap.ok(got and got.count(('offline', 0)) >= 0.9 * len(got),
           f'{len(some)} of {len(taken)} pages in the balloon: offline',
           f'{got}')
    guest.qmp('balloon', value=memory)


def check_movable(tap: Tap, guest: Guest) -> None:
    """Pages that their driver can move: where zram keeps what it is given.

    Nothing but the module tells which ones they are, but their number is
    known, and so how many there must be in a sample.
    """
    guest.check('while read -r module; do insmod /lib/$module; done '
                '</lib/zram.order; echo 256M >/sys/block/zram0/disksize; '
                'dd if=/dev/urandom of=/tmp/noise bs=1M count=4 2>/dev/null; '
                'for i in $(seq 32); do cat /tmp/noise; done >/dev/zram0; '
                'sync; echo 1 >/proc/sys/vm/drop_caches')
    flags = kpage.kpageflags(guest)
    unsaid = [pfn for frames in kpage.memory(guest) for pfn in frames
              if not flags[pfn] & SAID]
    zspages = int(guest.check('grep ^nr_zspages /proc/vmstat').split()[1])
    some = random.Random(SEED).sample(unsaid, min(1000, len(unsaid)))
    expected = zspages * len(some) / len(unsaid)
    with Scene(guest) as scene:
        got = kinds_of(scene, some).count(('movable', 0))
    tap.ok(expected > 100 and abs(got - expected) < expected / 5,
           f'{got} movable pages in a sample of {len(some)}, where '
           f'{expected:.0f} must be of zram')


def offline(guest: Guest) -> Set[int]:
    """Frames that kpageflags calls offline."""
    return {pfn for pfn, some in enumerate(kpage.kpageflags(guest))
            if 'offline' in some}


def check_offline(tap: Tap, guest: Guest) -> None:
    """A block of memory that is switched off has no pages."""
    size = int(guest.check(f'cat {BLOCK}/block_size_bytes'), 16) >> 12
    blocks = guest.check(f'cd {BLOCK}; ls -d memory*').split()
    numbers = sorted(int(name[6:]) for name in blocks)
    for number in reversed(numbers):
        if not guest.run(f'echo offline >{BLOCK}/memory{number}/state'
                         ).status:
            break
    else:
        tap.skip('memory that is offline', 'no block lets go')
        return
    with Scene(guest) as scene:
        first = number * size
        got = kinds_of(scene, [first, first + 77, first + size - 1])
    tap.is_equal(got, [('ENXIO', 0)] * 3, 'memory that is offline: ENXIO')
    guest.check(f'echo online >{BLOCK}/memory{number}/state')


def load(guest: Guest, module: str) -> None:
    """Load a driver, if the kernel does not have it built in."""
    guest.check(f'[ ! -e /lib/{module}.ko ] || insmod /lib/{module}.ko')


def check_device(tap: Tap, guest: Guest) -> None:
    """Pages of persistent memory, which is no memory to the kernel."""
    for module in MODULES[1:]:
        load(guest, module)
    if guest.run('until [ -e /dev/pmem0 ] && [ -e /dev/pmem1 ]; '
                 'do sleep 0.1; done', 20).status:
        tap.skip('memory of a device', 'no /dev/pmem0 and pmem1')
        return
    with Scene(guest) as scene:
        got = kinds_of(scene, PMEM)
    tap.is_equal(got, [('device', 0)] * 4, 'memory of a device')


def check_gigantic(tap: Tap, guest: Guest) -> None:
    """A gigantic page: one entry of a PUD."""
    guest.check('mkdir -p /giant; '
                'mount -t hugetlbfs -o pagesize=1G giant /giant')
    with Scene(guest) as scene:
        scene.play(f'''
            P map G {GIGANTIC} shared file /giant/page 0 at 0x20000000000
            P write G 0
            P fork C
            C read G 5
            ''')
        page = GIGANTIC - 5
        pfn = scene.pfn('C', 'G', page)
        report = scene.ask(f'{pfn}')
        tap.is_equal(sorted(page_mappings(report)),
                     sorted(scene.witness_all(pfn, 1)),
                     'a gigantic page: mapped where the pagemaps say')
        tap.is_equal((report['page']['kind'], report['page']['order'],
                      report['page']['index'], report['page']['pins'],
                      [pte['level'] for pte in report['ptes']]),
                     ('hugetlb', 18, f'{page:#x}', 0, ['pud', 'pud']),
                     'a gigantic page: hugetlb, by PUD')
        folio = scene.ask(f'{pfn} folio')
        scene.play(f'C mprotect G 0 {GIGANTIC} none')
        closed = scene.ask(f'{pfn} verify')
        tap.is_equal((['protnone' in pte['flags'] for pte in closed['ptes']],
                      closed['verify'].get('found'),
                      closed['verify']['missing'], closed['verify']['extra']),
                     ([False, True], 2, [], []),
                     'a gigantic page without access: found by verify too')
        where = f"pid {scene.pids['C']} {0x20000000000 + page * 4096:#x}"
        tap.is_equal(scene.ask(where)['page']['pfn'], pfn,
                     'a gigantic page without access: found by its address')
        head = folio['page']['head']
        tap.is_equal([(pte['addr'], pte['pfn'], pte['pages'])
                      for pte in folio['ptes']],
                     [('0x20000000000', head, GIGANTIC)] * 2,
                     'a gigantic page: one record for each of its mappings')
    guest.check('rm /giant/page; umount /giant; echo 0 >/sys/kernel/mm/'
                'hugepages/hugepages-1048576kB/nr_hugepages')


def main() -> None:
    """Strange frames on every kernel."""
    with Tap() as tap:
        for series in some_kernels(tap):
            tap.prefix = f'{series}: '
            with Guest(series, memory_mb=3584, append=APPEND,
                       extra_args=ARGUMENTS) as guest:
                load(guest, MODULES[0])
                check_samples(tap, guest)
                for check in (check_zero, check_freed, check_poison):
                    with Scene(guest) as scene:
                        check(tap, scene)
                check_balloon(tap, guest)
                check_movable(tap, guest)
                check_device(tap, guest)
                check_gigantic(tap, guest)
                # not before: it would take the gigantic page
                check_offline(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
