"""Frames that rmap does not map, and one that a PUD maps.

Whatever a frame is, a query for it is answered: free, slab, page table,
reserved, zero, in a balloon, of a driver that can move it, poisoned, of a
device; or refused with ENXIO, where no page is.
"""

import random
import re
from contextlib import contextmanager
from typing import Callable, Iterator, List, NamedTuple, Set, Tuple

import pytest

from rvtest import blocks, kpage, vm
from rvtest.guest import Guest
from rvtest.machine import Machine
from rvtest.report import PageMapping, Report, page_mappings
from rvtest.scene import Scene
from rvtest.stage import Stage

SEED = 52
SAMPLE = 60
HUGE = 512
GIGANTIC = 512 * 512
# 64 MB at 512 MB are a persistent memory's, which has a page for each frame,
# and 128 MB at 768 MB, which are a section that nothing else is in
PMEM = [(512 << 20 >> 12) + 4096, (512 << 20 >> 12) + 16383,
        (768 << 20 >> 12) + 4096, (768 << 20 >> 12) + 32767]
PMEM_DRIVERS = ('libnvdimm', 'nd_btt', 'nd_pmem', 'nd_e820')
# flags that no page of a driver has; "mmap" of 5.10 is none to go by
SAID = {'nopage', 'zero', 'ksm', 'huge', 'slab', 'pgtable', 'buddy',
        'offline', 'reserved', 'anon', 'lru'}


def prepare(guest: Guest) -> None:
    """Where gigantic pages can be mapped from."""
    guest.check('mkdir /giant; '
                'mount -t hugetlbfs -o pagesize=1G giant /giant')


KERNELS = vm.some_kernels
# the kernel must not sit in the only gigabyte that can be a gigantic page
MACHINE = Machine(name='frames', memory_mb=3584, prepare=prepare,
                  append='memmap=64M!512M memmap=128M!768M hugepagesz=1G '
                         'hugepages=1 nokaslr',
                  arguments=('-device', 'virtio-balloon-pci'))
SECONDS = 60

Note = Callable[[str], None]


def kinds_of(scene: Scene, pfns: List[int]) -> List[Tuple[str, int]]:
    """What the module calls frames: an errno or a kind; and mappings."""
    return [(report['page']['kind'], len(report['ptes']))
            if error == 'ok' else (error, 0)
            for error, report in scene.ask_all(f'{pfn}' for pfn in pfns)]


def load(guest: Guest, *modules: str) -> None:
    """Load drivers, if the kernel does not have them built in."""
    for module in modules:
        guest.check(f'[ ! -e /lib/{module}.ko ] || insmod /lib/{module}.ko')


# -------------------------------------------------------- the kernel's own --

def is_disputed(scene: Scene, kind: str, pfn: int) -> bool:
    """Whether a frame stays what kpageflags and the report differ on.

    Programs come and go, so it may have been something else in between.
    """
    for _ in range(3):
        before = kpage.kpageflags(scene.guest)[pfn]
        got = kinds_of(scene, [pfn])
        after = kpage.kpageflags(scene.guest)[pfn]
        if (before != after or kpage.kind(before) != kind
                or got == [(kind, 0)]):
            return False
    return True


@pytest.mark.parametrize('kind', ('free', 'slab', 'pagetable', 'reserved'))
def test_sampled_frames_are_of_the_kind_that_kpageflags_says(
        scene: Scene, kind: str, note: Note) -> None:
    """Those of which it says so all the while."""
    flags = kpage.kpageflags(scene.guest)
    pfns = [pfn for pfn, some in enumerate(flags) if kpage.kind(some) == kind]
    some = random.Random(SEED).sample(pfns, min(SAMPLE, len(pfns)))
    got = dict(zip(some, kinds_of(scene, some)))
    later = kpage.kpageflags(scene.guest)
    steady = [pfn for pfn in some if flags[pfn] == later[pfn]]
    assert steady
    assert [f'{pfn:#x}: {got[pfn]}' for pfn in steady
            if got[pfn] != (kind, 0) and is_disputed(scene, kind, pfn)] == []
    note(f'{len(steady)} of {len(some)} frames kept their flags')


@pytest.mark.parametrize('told, region, page', (
    pytest.param('P map Z 1\nP read Z', 'Z', 0, id='small'),
    pytest.param(f'P map H {HUGE}\nP madvise H 0 {HUGE} hugepage\n'
                 'P read H 5', 'H', 5, id='huge')))
def test_a_zero_page_has_no_owner_and_no_mapping(
        scene: Scene, told: str, region: str, page: int) -> None:
    """Though processes do map it."""
    scene.play(told)
    assert kinds_of(scene, [scene.pfn('P', region, page)]) == [('zero', 0)]


def test_pages_that_were_just_freed_are_free(scene: Scene,
                                             note: Note) -> None:
    """Though they wait in a list of the CPU, where no flag tells."""
    scene.play('P map M 40\nP write M')
    reply, = scene.play('P look M')
    pfns = [int(pfn, 16) for pfn in re.findall(r'pfn=0x([0-9a-f]+)', reply)]
    scene.play('P unmap M 0 40')
    got = kinds_of(scene, pfns)
    waiting = sum('buddy' not in kpage.kpageflags(scene.guest, pfn, 1)[0]
                  for pfn in pfns)
    # others may have taken some
    assert [kind for kind, _ in got].count('other') <= 2
    note(f'{waiting} of {len(got)} wait in per-CPU lists')


def test_a_frame_that_is_nobodys_to_count_is_not_waited_for(
        scene: Scene, note: Note) -> None:
    """It is none that will be counted again in a moment."""
    flags = kpage.kpageflags(scene.guest)
    silent = [pfn for pfn, some in enumerate(flags)
              if kpage.kind(some) == 'unknown']
    some = random.Random(SEED).sample(silent, min(10 * SAMPLE, len(silent)))
    reports = [report for error, report
               in scene.ask_all(f'{pfn} brief' for pfn in some)
               if error == 'ok' and report['page']['kind'] == 'other'
               and report['page']['refcount'] == 0]
    assert [report for report in reports if report['walk']['retries']] == []
    note(f'{len(reports)} such frames')


def test_a_page_whose_count_is_frozen_is_looked_at_again(scene: Scene
                                                         ) -> None:
    """For it is frozen only while it is moved or split."""
    scene.story('P map M 1\nP write M')
    pfn = scene.pfn('P', 'M')
    scene.guest.check(f'insmod /lib/rmapviz_hold.ko pfn={pfn} frozen=1')
    try:
        report = scene.ask(f'{pfn} brief')
    finally:
        scene.guest.undo('rmmod rmapviz_hold')
    assert (report['page']['refcount'], report['walk']['retries']) == (0, 3)
    assert scene.ask(f'{pfn}')['page']['kind'] == 'anon'


def test_a_poisoned_page_is_said_to_be_poisoned(scene: Scene,
                                                note: Note) -> None:
    """One that the hardware, so it seems, has given up."""
    scene.play('P map M 4\nP write M')
    pfn = scene.pfn('P', 'M', 1)
    reply, = scene.guest.tell(['P madvise M 1 1 hwpoison'])
    if not reply.startswith('ok'):
        pytest.skip(f'this kernel cannot poison: {reply}')
    report = scene.ask(f'{pfn}')
    assert 'hwpoison' in report['page']['flags']
    assert report['ptes'] == []
    note(f"its kind is {report['page']['kind']}")


# ------------------------------------------------------------- of drivers --

def offline(guest: Guest) -> Set[int]:
    """Frames that kpageflags calls offline."""
    return {pfn for pfn, some in enumerate(kpage.kpageflags(guest))
            if 'offline' in some}


@contextmanager
def balloon(guest: Guest, megabytes: int) -> Iterator[None]:
    """The host takes memory, and gives it back."""
    def count(what: str) -> str:
        return f'$(sed -n "s/^balloon_{what} //p" /proc/vmstat)'

    memory = guest.qmp('query-balloon')['actual']
    guest.qmp('balloon', value=memory - (megabytes << 20))
    try:
        guest.wait_for(f'[ {count("inflate")} -gt 1000 ]')
        yield
    finally:
        guest.qmp('balloon', value=memory)
        guest.wait_for(f'[ {count("deflate")} -ge {count("inflate")} ]')


def test_pages_in_a_balloon_are_offline(scene: Scene, note: Note) -> None:
    """What the host has taken; a few it may have given back meanwhile."""
    load(scene.guest, 'virtio_balloon')
    before = offline(scene.guest)
    with balloon(scene.guest, 172):
        taken = offline(scene.guest) - before
        some = random.Random(SEED).sample(sorted(taken),
                                          min(SAMPLE, len(taken)))
        got = kinds_of(scene, some)
    assert got
    assert got.count(('offline', 0)) >= 0.9 * len(got), got
    note(f'{len(some)} of {len(taken)} pages')


def test_a_sample_has_as_many_movable_pages_as_zram_has(
        scene: Scene, note: Note) -> None:
    """Pages that their driver can move: where zram keeps what it is given.

    Nothing but the module tells which ones they are, but their number is
    known, and so how many there must be in a sample.
    """
    guest = scene.guest
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
    got = kinds_of(scene, some).count(('movable', 0))
    assert expected > 100
    assert abs(got - expected) < expected / 5
    note(f'{got} of {len(some)}, where {expected:.0f} must be')


def test_persistent_memory_is_a_devices(scene: Scene) -> None:
    """It has pages, and is no memory to the kernel."""
    load(scene.guest, *PMEM_DRIVERS)
    scene.guest.wait_for('[ -e /dev/pmem0 ] && [ -e /dev/pmem1 ]')
    assert kinds_of(scene, PMEM) == [('device', 0)] * len(PMEM)


# -------------------------------------------------------- a gigantic page --

ADDRESS = 0x20000000000
OWN = GIGANTIC - 5      # the page of it that is asked for
GIANT = f'''
    P map G {GIGANTIC} shared file /giant/page 0 at {ADDRESS:#x}
    P write G 0
    P fork C
    C read G 5
    '''


class Giant(NamedTuple):
    """A page of a gigantic one, one entry of a PUD for each of two."""

    scene: Scene
    pfn: int
    report: Report
    folio: Report
    witness: Set[PageMapping]


def look_at_giant(scene: Scene) -> Giant:
    """While both may read it."""
    pfn = scene.pfn('C', 'G', OWN)
    return Giant(scene, pfn, scene.ask(f'{pfn}'), scene.ask(f'{pfn} folio'),
                 scene.witness_all(pfn, 1))


@pytest.fixture
def giant(stage: Stage) -> Giant:
    """As it is at first."""
    scene = stage.scene(GIANT, lambda new: new.play(GIANT))
    return stage.once('a gigantic page', lambda: look_at_giant(scene))


@pytest.fixture
def closed(stage: Stage, giant: Giant) -> Giant:
    """After the child has forbidden itself to look at it."""
    stage.once('mprotect', lambda: giant.scene.play(
        f'C mprotect G 0 {GIGANTIC} none'))
    return giant


def test_a_gigantic_page_is_where_the_pagemaps_say(giant: Giant) -> None:
    """Both processes have looked."""
    assert sorted(page_mappings(giant.report)) == sorted(giant.witness)


def test_a_gigantic_page_is_hugetlb_by_pud(giant: Giant) -> None:
    """With an index in pages, and nothing else holds it."""
    page = giant.report['page']
    assert (page['kind'], page['order'], page['index'], page['dma_pins'],
            page['extra_refs'],
            [pte['level'] for pte in giant.report['ptes']]) \
        == ('hugetlb', 18, f'{OWN:#x}', 0, 0, ['pud', 'pud'])


def test_a_gigantic_folio_has_one_record_for_each_mapping(
        giant: Giant) -> None:
    """Which is of all its pages."""
    head = giant.folio['page']['head']
    assert [(pte['addr'], pte['pfn'], pte['pages'])
            for pte in giant.folio['ptes']] \
        == [(f'{ADDRESS:#x}', head, GIGANTIC)] * 2


def test_a_gigantic_page_without_access_is_found_by_verify_too(
        closed: Giant) -> None:
    """Its entry forbids access, yet it is one."""
    report = closed.scene.ask(f'{closed.pfn} verify')
    verify = report['verify']
    assert (['protnone' in pte['flags'] for pte in report['ptes']],
            verify.get('found'), verify['missing'], verify['extra']) \
        == ([False, True], 2, [], [])


def test_a_gigantic_page_without_access_is_found_by_its_address(
        closed: Giant) -> None:
    """That of whoever may not look at it."""
    where = f"pid {closed.scene.pids['C']} {ADDRESS + OWN * 4096:#x}"
    assert closed.scene.ask(where)['page']['pfn'] == closed.pfn


# ------------------------------------------------------- no memory at all --

@pytest.fixture
def block(guest: Guest) -> Iterator[range]:
    """The frames of a block of memory that is switched off.

    No test of a gigantic page can come after this one: a block takes a free
    one with it, and cannot be emptied of one that is in use.
    """
    guest.check('rm -f /giant/page; echo 0 >/sys/kernel/mm/hugepages/'
                'hugepages-1048576kB/nr_hugepages')
    assert int(guest.check(f'cat {blocks.BLOCKS}/block_size_bytes'), 16) \
        == blocks.FRAMES * 4096
    names = guest.check(f'cd {blocks.BLOCKS}; ls -d memory*').split()
    for number in sorted((int(name[6:]) for name in names), reverse=True):
        if blocks.offline(guest, number):
            yield range(number * blocks.FRAMES, (number + 1) * blocks.FRAMES)
            guest.check(f'echo online >{blocks.state_of(number)}')
            return
    pytest.fail('no block of memory could be switched off')


def test_memory_that_is_offline_has_no_pages(block: range,
                                             scene: Scene) -> None:
    """Neither at its ends nor within."""
    assert kinds_of(scene, [block[0], block[77], block[-1]]) \
        == [('ENXIO', 0)] * 3
