"""Who holds a page that nobody maps, and would reclaim take it?"""

import random
from contextlib import contextmanager
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from rvtest import kpage, vm
from rvtest.disk import disk_waits, impatient_writeback
from rvtest.guest import Guest
from rvtest.report import Report
from rvtest.scene import Scene
from rvtest.stage import Stage
from stories import HUGE, PREPARED, slug

MACHINE = PREPARED
KERNELS = vm.some_kernels
SECONDS = 20

QUIET = 1000
GONE = 100      # so many may be of a process that came and went
SEED = 6
MAPPED = ('anon', 'ksm', 'file', 'shmem')


# -------------------------------------------------------------- nobody does --

class Quiet(NamedTuple):
    """Mapped pages of all processes, none of which does anything."""

    asked: int
    held: List[Report]


def mapped_frames(guest: Guest) -> List[int]:
    """Frames that kpageflags and kpagecount call mapped."""
    flags = kpage.kpageflags(guest)
    counts = kpage.kpagecount(guest)
    return [pfn for pfn, (some, count) in enumerate(zip(flags, counts))
            if count and kpage.kind(some) in MAPPED]


def ask_quiet(scene: Scene) -> Quiet:
    """About some of them; which of them somebody holds."""
    frames = mapped_frames(scene.guest)
    some = random.Random(SEED).sample(frames, min(QUIET + GONE, len(frames)))
    held: List[Report] = []
    asked = 0
    for error, report in scene.ask_all(f'{pfn}' for pfn in some):
        page = report.get('page') or {'mapcount': 0}
        if error != 'ok' or not page['mapcount']:
            continue
        asked += 1
        if page['dma_pins'] or page['extra_refs']:
            held.append(page)
    return Quiet(asked, held)


@pytest.fixture
def quiet(stage: Stage) -> Quiet:
    """A family of many pages of several kinds, and all others."""
    scene = stage.scene('quiet', lambda new: new.story('''
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
        '''))
    return stage.once('quiet pages', lambda: ask_quiet(scene))


def test_a_thousand_quiet_pages_are_asked_about(
        quiet: Quiet, note: Callable[[str], None]) -> None:
    """Or the next test would show little."""
    note(f'{quiet.asked} quiet pages')
    assert quiet.asked >= QUIET


def test_a_quiet_page_has_no_reference_too_many(quiet: Quiet) -> None:
    """Not one of them."""
    assert (len(quiet.held), quiet.held[:10]) == (0, [])


# ---------------------------------------------------------- somebody does --

class Holder(NamedTuple):
    """Something that holds P's page, and how it lets go."""

    name: str
    told: str       # by its last line the page is held
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


class Held(NamedTuple):
    """What was said before, while and after it was held."""

    before: Report
    held: Report
    after: Report


def hold_it(scene: Scene, holder: Holder) -> Report:
    """Let it be held; the answer."""
    scene.story(holder.told.strip().splitlines()[-1])
    return scene.ask(f"{scene.pfn('P', 'M', holder.page)}")


def ask_held(scene: Scene, holder: Holder) -> Held:
    """Tell the story, and ask three times."""
    scene.story('\n'.join(holder.told.strip().splitlines()[:-1]))
    before = scene.ask(f"{scene.pfn('P', 'M', holder.page)}")
    if holder.reads:
        with disk_waits(scene.guest, 'read'):
            held = hold_it(scene, holder)
    else:
        held = hold_it(scene, holder)
    scene.story(holder.release)
    return Held(before, held, scene.ask(f"{held['page']['pfn']}"))


each_holder = pytest.mark.parametrize(
    'case', [pytest.param(holder, id=slug(holder.name))
             for holder in HOLDERS])


@pytest.fixture
def held(stage: Stage, case: Holder) -> Held:
    """What was said of its page."""
    scene = stage.scene(case, lambda new: None)
    return stage.once(case.name, lambda: ask_held(scene, case))


def holders(report: Report) -> Tuple[int, int]:
    """Pins for DMA, and other references that nothing explains."""
    return report['page']['dma_pins'], report['page']['extra_refs']


@each_holder
def test_nobody_holds_a_page_before_it_is_held(held: Held) -> None:
    """It is mapped, and that is all."""
    assert holders(held.before) == (0, 0)


@each_holder
def test_what_holds_a_page_shows_as_references(held: Held) -> None:
    """Of one kind or of the other, and not of both."""
    pins, others = holders(held.held)
    assert pins > 0 or others > 0
    assert not (pins and others)


@each_holder
def test_nobody_holds_a_page_that_was_let_go(held: Held) -> None:
    """As before."""
    assert holders(held.after) == (0, 0)


@each_holder
def test_reclaim_would_not_take_a_page_that_is_held(held: Held) -> None:
    """Because it is pinned."""
    assert held.held['reclaim']['outcome'] == 'SWAP_FAIL'
    assert 'pinned' in held.held['reclaim']['reasons']


# ------------------------------------------------------ would reclaim take --

class Fate(NamedTuple):
    """A page, and what reclaim would make of it."""

    name: str
    told: str
    outcome: str
    reasons: str = ''
    page: int = 0
    stays: Optional[bool] = None    # when paged out; None: do not try
    ignore: str = ''                # reasons that may be there or not
    swap: bool = True               # is there any?
    unmap: Tuple[str, ...] = ()     # who keeps it and why, VMA by VMA; or P


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

    # MADV_SEQUENTIAL: such accesses say nothing of the next one
    Fate('a page of a file that was just read from one end to the other', '''
        P map M 2 shared file /mnt/data 0
        P madvise M 0 2 sequential
        ! old
        P read M
        ''', 'SWAP_SUCCESS', stays=False),

    Fate('a page of a file that a child reads in another way', '''
        P map M 2 shared file /mnt/data 0
        P madvise M 0 2 sequential
        P read M
        P fork C
        C madvise M 0 2 normal
        ! old
        C read M
        ''', 'SWAP_FAIL', 'referenced', unmap=('P', 'C referenced')),

    Fate('a dirty page of a file', '''
        P map M 2 shared file /mnt/data 0
        P write M
        ! old
        ''', 'SWAP_SUCCESS', 'dirty'),

    Fate('a page that a child has looked at', '''
        P map M 2 shared file /mnt/data 0
        P read M
        P fork C
        ! old
        C read M
        ''', 'SWAP_FAIL', 'referenced', unmap=('P', 'C referenced')),

    Fate('mlock', '''
        P map M 2 shared file /mnt/data 0
        P read M
        P mlock M 0 1
        ! old
        ''', 'SWAP_FAIL', 'mlocked unevictable'),

    Fate('mlock by a child', '''
        P map M 2 shared
        P write M
        P fork C
        C mlock M 0 1
        ! old
        ''', 'SWAP_FAIL', 'mlocked unevictable dirty', ignore='dirty',
         unmap=('P', 'C mlocked')),

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
        P map M 2
        P write M
        ! old
        ''', 'SWAP_FAIL', 'no-swap dirty', stays=True, swap=False),

    Fate('shared memory without swap', '''
        P map M 2 shared
        P write M
        ! old
        ''', 'SWAP_FAIL', 'no-swap dirty', swap=False),

    Fate('memory given up by MADV_FREE, without swap', '''
        P map M 2
        P write M
        ! drain
        P madvise M 0 2 free
        ''', 'SWAP_SUCCESS', stays=False, swap=False),

    Fate('MADV_FREE and written again, without swap', '''
        P map M 2
        P write M
        ! drain
        P madvise M 0 2 free
        ! drain
        P write M
        ! old
        ''', 'SWAP_FAIL', 'no-swap dirty', stays=True, swap=False),

    Fate('shared memory with swap', '''
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
        ''', 'SWAP_FAIL', 'referenced dirty', page=10,
         unmap=('P', 'P', 'P referenced')),
)


class Judged(NamedTuple):
    """What was said, and whether the kernel left it there."""

    reclaim: Report
    unmap: List[str]
    stays: bool


def keepers(scene: Scene, report: Report) -> List[str]:
    """Who has the page, and for what reasons an entry could not go there: VMA
    by VMA, P's first."""
    names = {pid: name for name, pid in scene.pids.items()}
    vmas = [(report['mms'][vma['mm']]['pid'], int(vma['start'], 16),
             vma['unmap']) for vma in report['vmas']
            if vma['unmap'] is not None]
    return [' '.join([names[pid], *reasons])
            for pid, _, reasons in sorted(vmas)]


@contextmanager
def without_swap(guest: Guest) -> Iterator[None]:
    """Until this is left."""
    guest.check('swapoff /dev/vdb')
    try:
        yield
    finally:
        guest.undo('swapon /dev/vdb')


def judge(scene: Scene, fate: Fate) -> Judged:
    """Tell the story, ask, and then try it.

    What others have written to the file is not to count as dirty.  A sync of
    all would return while the flusher goes on, with what the story writes.
    """
    scene.guest.check('sync /mnt/data')
    scene.story(fate.told)
    report = scene.ask(f"{scene.pfn('P', 'M', fate.page)}")
    reply = 'present=1'
    if fate.stays is not None:
        scene.play(f'P madvise M {fate.page} 1 pageout')
        reply, = scene.play(f'P look M {fate.page} 1')
    return Judged(report['reclaim'], keepers(scene, report),
                  'present=1' in reply)


def judge_with(scene: Scene, fate: Fate) -> Judged:
    """With swap or without."""
    if fate.swap:
        return judge(scene, fate)
    with without_swap(scene.guest):
        return judge(scene, fate)


def each_fate(*fates: Fate) -> pytest.MarkDecorator:
    """A test for each of them."""
    return pytest.mark.parametrize(
        'case', [pytest.param(fate, id=slug(fate.name)) for fate in fates])


@pytest.fixture
def judged(stage: Stage, case: Fate) -> Judged:
    """What was said of its page, and what became of it."""
    scene = stage.scene(case, lambda new: None)
    return stage.once(case.name, lambda: judge_with(scene, case))


@each_fate(*FATES)
def test_the_outcome_is_what_reclaim_would_reach(case: Fate, judged: Judged
                                                 ) -> None:
    """As the story has made the page."""
    assert judged.reclaim['outcome'] == case.outcome


@each_fate(*FATES)
def test_the_reasons_are_those_that_the_story_made(case: Fate, judged: Judged
                                                   ) -> None:
    """All of them."""
    ignore = set(case.ignore.split())
    assert set(judged.reclaim['reasons']) - ignore \
        == set(case.reasons.split()) - ignore


@each_fate(*FATES)
def test_what_keeps_a_page_is_told_of_the_vmas_that_do(
        case: Fate, judged: Judged) -> None:
    """And of no other."""
    reasons = {'mlocked', 'referenced'} & set(case.reasons.split())
    want = case.unmap or (' '.join(['P', *sorted(reasons)]),)
    ignore = set(case.ignore.split())
    assert [' '.join(word for word in vma.split() if word not in ignore)
            for vma in judged.unmap] == list(want)


@each_fate(*(fate for fate in FATES if fate.stays is not None))
def test_the_kernel_pages_out_what_it_was_said_to(case: Fate, judged: Judged
                                                  ) -> None:
    """And leaves what it was said to leave."""
    assert judged.stays == case.stays


# ------------------------------------------------- what takes some doing --

def test_a_page_on_its_way_to_the_disk_is_for_later(scene: Scene) -> None:
    """Reclaim does not wait for it."""
    guest = scene.guest
    with disk_waits(guest, 'write'):
        scene.play('P map M 1 shared file /dev/vdc 0\nP write M')
        pfn = scene.pfn('P', 'M')
        guest.check('old')
        with impatient_writeback(guest):
            guest.wait_for('read -r reads writes </sys/block/vdc/inflight; '
                           'test $writes -gt 0')
            reclaim = scene.ask(f'{pfn}')['reclaim']
    assert (reclaim['outcome'], reclaim['reasons']) \
        == ('SWAP_AGAIN', ['writeback'])


@contextmanager
def held_by_a_module(guest: Guest, parameters: str) -> Iterator[None]:
    """Until this is left."""
    guest.check(f'insmod /lib/rmapviz_hold.ko {parameters}')
    try:
        yield
    finally:
        guest.undo('rmmod rmapviz_hold')


def test_a_page_with_a_mapping_that_is_not_to_be_found_is_for_later(
        scene: Scene) -> None:
    """Somebody has raised its mapcount."""
    scene.story('P map A 1\nP write A\n! drain\n! old')
    pfn = scene.pfn('P', 'A')
    with held_by_a_module(scene.guest, f'pfn={pfn} mapcount=1'):
        reclaim = scene.ask(f'{pfn}')['reclaim']
    assert (reclaim['outcome'], reclaim['reasons']) \
        == ('SWAP_AGAIN', ['missed', 'dirty'])


def test_a_page_that_nobody_maps_and_somebody_has_locked_stays(
        scene: Scene) -> None:
    """It is pinned and locked."""
    scene.story('P map F 4 shared file /mnt/data 0\nP read F\n'
                '! sync /mnt/data\n! drain\n! old')
    pfn = scene.pfn('P', 'F', 3)
    scene.play('P unmap F 0 4')
    with held_by_a_module(scene.guest, f'pfn={pfn}'):
        reclaim = scene.ask(f'{pfn}')['reclaim']
    assert (reclaim['outcome'], reclaim['reasons']) \
        == ('SWAP_FAIL', ['pinned', 'locked'])


@pytest.mark.parametrize('kind', ('reserved', 'slab', 'pagetable'))
def test_what_rmap_does_not_map_has_no_pins_and_no_fate(scene: Scene,
                                                        kind: str) -> None:
    """The first such frame."""
    pfn = next(pfn for pfn, some in enumerate(kpage.kpageflags(scene.guest))
               if kpage.kind(some) == kind)
    report = scene.ask(f'{pfn}')
    page = report['page']
    assert (page['kind'], page['dma_pins'], page['extra_refs'],
            report['reclaim']) == (kind, None, None, None)
