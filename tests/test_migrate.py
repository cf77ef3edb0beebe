"""Would a page move?  The verdict, and what the kernel does when it is asked.

Every reason is made by the real thing.  FOLL_LONGTERM pins are those of
io_uring's buffers; gup_test, which could make others, is in no kernel here.
"""

import re
from contextlib import contextmanager
from typing import Callable, Iterator, List, NamedTuple, Tuple

import pytest

import stories
from rmapviz_lib import target
from rvtest import blocks, kpage, vm
from rvtest.disk import disk_waits, impatient_writeback
from rvtest.guest import Guest
from rvtest.machine import Machine, two_nodes
from rvtest.report import Report
from rvtest.scene import Scene
from rvtest.stage import Stage
from stories import HUGE, slug

SECONDS = 60
KERNELS = vm.some_kernels

# Two nodes, to move pages from one to the other; half of each is for what can
# be moved, so that a block of it can be taken offline.  The rest, a little
# less than half, is rounded up to whole blocks.
NODE = 1024     # MB
MACHINE = Machine(
    name='movable', append='numa_balancing=disable kernelcore=1022M',
    arguments=two_nodes(NODE),
    disks=True, prepare=stories.prepare)

SYSCTL = '/proc/sys/vm/compact_unevictable_allowed'
Said = Tuple[str, List[str]]
Note = Callable[[str], None]


def verdict(report: Report) -> Said:
    """What a report says of it."""
    return report['migrate']['verdict'], report['migrate']['reasons']


def first_line(scene: Scene, pfn: int) -> str:
    """Of the text."""
    return scene.guest.check(f"ask '{pfn} brief'").splitlines()[0]


# ------------------------------------------------ its memory goes offline --

def state_of(guest: Guest, pfn: int) -> str:
    """The state of the block that a frame is in, if it can be emptied.

    Some have memory that was reserved at boot.  What was emptied is the last
    to be used again, so one node is not enough for all tests.
    """
    number = pfn // blocks.FRAMES
    if blocks.any_reserved(guest, number):
        pytest.skip(f'block {number} has memory reserved at boot')
    return blocks.state_of(number)


def go_offline(guest: Guest, pfn: int, look: Callable[[], object],
               release: str) -> None:
    """Look on while the kernel tries to empty the block of a page; let the
    page go, and see the kernel succeed."""
    try:
        state = state_of(guest, pfn)
    except pytest.skip.Exception:
        guest.check(release)
        raise
    guest.check(f'echo offline >{state} & offliner=$!')
    try:
        try:
            look()
            guest.check('kill -0 $offliner')
        finally:
            guest.check(release)
        guest.check('wait $offliner', 600)
    finally:
        guest.run(f'kill $offliner; wait $offliner; '
                  f'echo online_movable >{state}; '
                  'echo 16 >/proc/sys/vm/nr_hugepages', 600)


def failures(guest: Guest) -> int:
    """Migrations that came to nothing since boot."""
    return int(guest.check(
        "sed -n 's/pgmigrate_fail //p' /proc/vmstat"))


def wait_for_failures(guest: Guest) -> None:
    """Until the kernel has tried in vain to move something, several times."""
    count = failures(guest)
    guest.wait_for("test $(sed -n 's/pgmigrate_fail //p' /proc/vmstat) "
                   f'-ge {count + 20}', 120)


def test_a_page_that_rmap_does_not_reach_keeps_its_block_online(
        scene: Scene) -> None:
    """Until the mapping that is not to be found is gone."""
    guest = scene.guest
    # what was shared once is not exclusive, and may have two mappings
    scene.story('P map M 1\nP write M\nP fork C\nC exit\nP wait C')
    pfn = scene.pfn('P', 'M')
    guest.check(f'insmod /lib/rmapviz_hold.ko pfn={pfn} mapcount=1')
    said, line = verdict(scene.ask(f'{pfn}')), first_line(scene, pfn)
    go_offline(guest, pfn, lambda: wait_for_failures(guest),
               'rmmod rmapviz_hold')
    assert said == ('not now', ['missed'])
    assert line.endswith('not move now: rmap finds 1 of 2 mappings')
    assert scene.pfn('P', 'M') != pfn


@pytest.mark.parametrize('told, ends, reasons', (
    pytest.param('P map M 2\nP write M\nP vmsplice M 1', 'P unmap M 0 2',
                 ['extra-refs', 'unmapped'], id='anonymous'),
    pytest.param('P map M 2 shared file /mnt/gone 0\nP read M\n'
                 'P move M 1 1 1\nP vmsplice M 1',
                 'P unmap M 0 2\n! : >/mnt/gone',
                 ['unmapped'], id='truncated')))
def test_a_page_that_is_only_kept_by_a_pipe_keeps_its_block_online(
        scene: Scene, told: str, ends: str, reasons: List[str]) -> None:
    """Until the pipe is gone, and the page with it."""
    guest = scene.guest
    guest.check('cp /mnt/data /mnt/gone; sync /mnt/gone')
    scene.story(told)
    pfn = scene.pfn('P', 'M', 1)
    scene.story(ends)
    said, line = verdict(scene.ask(f'{pfn}')), first_line(scene, pfn)
    go_offline(guest, pfn, lambda: wait_for_failures(guest),
               'tell P vmspliceend')
    assert said == ('not now', reasons)
    assert line.endswith('it is only kept by who holds it')


SPREAD = 120000     # pages of P, over several blocks


def page_of_a_block_to_empty(scene: Scene) -> Tuple[int, int]:
    """A page of P, and its frame, in a block that can be emptied."""
    scene.play(f'P map M {SPREAD}\nP madvise M 0 {SPREAD} nohugepage\n'
               'P write M')
    for page in range(0, SPREAD, 8000):
        pfn = scene.pfn('P', 'M', page)
        if not blocks.any_reserved(scene.guest, pfn // blocks.FRAMES):
            return page, pfn
    pytest.skip('each block that P has has memory reserved at boot')


def test_the_command_finds_in_the_log_which_page_has_not_moved(
        scene: Scene) -> None:
    """Whatever the lines of this kernel look like."""
    guest = scene.guest
    page, pfn = page_of_a_block_to_empty(scene)
    scene.story(f'P vmsplice M {page}')
    guest.check('dmesg -c >/dev/null')
    go_offline(guest, pfn, lambda: guest.wait_for(
        f'dmesg | grep -q "migrating pfn {pfn:x} "', 120),
        'tell P vmspliceend')
    found = target.of_lines(guest.check('dmesg').splitlines())
    assert pfn in [frames.first for frames in found if frames.pages == 1]


def test_a_page_that_is_locked_keeps_its_block_online(scene: Scene) -> None:
    """Who empties it waits for the lock."""
    guest = scene.guest
    scene.story('P map F 4 shared file /mnt/data 0\nP read F\n'
                '! sync /mnt/data')
    scene.story('P move F 3 1 1')
    pfn = scene.pfn('P', 'F', 3)
    scene.story('P unmap F 0 4')
    said_before = verdict(scene.ask(f'{pfn}'))
    guest.check(f'insmod /lib/rmapviz_hold.ko pfn={pfn}')
    said, line = verdict(scene.ask(f'{pfn}')), first_line(scene, pfn)
    go_offline(guest, pfn, lambda: guest.wait_for(
        'grep -q bit_common /proc/$offliner/stack', 120), 'rmmod rmapviz_hold')
    assert said_before == ('yes', [])
    assert said == ('not now', ['extra-refs', 'locked'])
    assert line.endswith('1 other ref, somebody has locked it')


# --------------------------------------------------- move_pages() is asked --

class Obstacle(NamedTuple):
    """Something that holds P's page, and how it lets go."""

    name: str
    told: str       # by its last line the page is held
    page: int
    release: str
    reasons: str
    says: str
    pinned: int     # times that FOLL_PIN holds it; -1: as often as it likes
    others: int
    reads: bool = False         # it waits for a disk
    before: Tuple[int, int] = (0, 0)    # only on kernels before that
    since: Tuple[int, int] = (0, 0)


OBSTACLES = (
    Obstacle('vmsplice', '''
        P map M 4
        P write M
        P vmsplice M 2
        ''', 2, 'P vmspliceend', 'extra-refs', '1 other ref', 0, 1),

    Obstacle('vmsplice of a part of a huge page', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P vmsplice M 100
        ''', 100, 'P vmspliceend', 'extra-refs', ' other ref', 0, -1),

    Obstacle('buffers of io_uring', '''
        P map M 4
        P write M
        P uring M 1 2
        ''', 2, 'P uringend', 'dma-pins', '1 DMA pin', 1, 0),

    Obstacle('buffers of io_uring in a memfd', '''
        P map M 4 shared memfd buffers
        P write M
        P uring M 1 2
        ''', 2, 'P uringend', 'dma-pins', '1 DMA pin', 1, 0),

    Obstacle('buffers of io_uring in a huge page', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P uring M 0 {HUGE}
        ''', 77, 'P uringend', 'dma-pins', ' DMA pin', -1, 0),

    # which move_pages() takes by the address of its first page only
    Obstacle('vmsplice of hugetlb', f'''
        P map M {HUGE} hugetlb
        P write M 0
        P vmsplice M 0
        ''', 0, 'P vmspliceend', 'extra-refs', ' other ref', 0, -1),

    Obstacle('vmsplice of a buffer of io_uring', '''
        P map M 4
        P write M
        P uring M 1 2
        P vmsplice M 2
        ''', 2, 'P uringend\nP vmspliceend', 'extra-refs dma-pins',
             '1 other ref, 1 DMA pin', 1, 1),

    # FOLL_PIN came to direct I/O with "block: Use iov_iter_extract_pages()
    # and page pinning in direct-io.c" and its like, 6.5
    Obstacle('a direct read of a disk before 6.5', '''
        P map M 4
        P write M
        P dio M 3 1 /dev/vdc
        ''', 3, 'P dioend', 'extra-refs', '1 other ref', 0, 1,
             reads=True, before=(6, 5)),

    Obstacle('a direct read of a disk', '''
        P map M 4
        P write M
        P dio M 3 1 /dev/vdc
        ''', 3, 'P dioend', 'dma-pins', '1 DMA pin', 1, 0,
             reads=True, since=(6, 5)),
)


class Moves(NamedTuple):
    """What was said of a page, and whether the kernel could move it."""

    report: Report
    line: str
    moved: bool
    moved_then: bool    # once it was let go
    said_then: Said


def move(scene: Scene, page: int) -> bool:
    """Ask the kernel to move it to the other node; whether it has.

    What it says does not count: it may say nothing of a page that stayed.
    """
    before = scene.pfn('P', 'M', page)
    node = 1 - before * 4096 // (NODE << 20)
    scene.guest.tell([f'P move M {page} 1 {node}'])
    return scene.pfn('P', 'M', page) != before


def try_held(scene: Scene, case: Obstacle) -> Tuple[Report, str, bool]:
    """Let it be held, ask, and try."""
    scene.story(case.told.strip().splitlines()[-1])
    pfn = scene.pfn('P', 'M', case.page)
    return (scene.ask(f'{pfn}'), first_line(scene, pfn),
            move(scene, case.page))


def try_to_move(scene: Scene, case: Obstacle) -> Moves:
    """While it is held, and when it was let go."""
    scene.story('\n'.join(case.told.strip().splitlines()[:-1]))
    if case.reads:
        with disk_waits(scene.guest, 'read'):
            held = try_held(scene, case)
    else:
        held = try_held(scene, case)
    scene.story(case.release)
    said = verdict(scene.ask(f"{scene.pfn('P', 'M', case.page)}"))
    return Moves(*held, move(scene, case.page), said)


each_obstacle = pytest.mark.parametrize(
    'case', [pytest.param(case, id=slug(case.name)) for case in OBSTACLES])


@pytest.fixture
def moves(series: str, stage: Stage, case: Obstacle) -> Moves:
    """What came of it."""
    version = stories.version(series)
    if version < case.since or (0, 0) < case.before <= version:
        pytest.skip('another kernel holds it in this way')
    scene = stage.scene(case, lambda new: None)
    return stage.once(case.name, lambda: try_to_move(scene, case))


@each_obstacle
def test_a_page_that_is_held_is_said_not_to_move_now(case: Obstacle,
                                                     moves: Moves) -> None:
    """For that reason, and for no other."""
    assert verdict(moves.report) == ('not now', case.reasons.split())


@each_obstacle
def test_the_first_line_says_what_holds_a_page(case: Obstacle, moves: Moves
                                               ) -> None:
    """In words, and if it is one thing the line fits a terminal."""
    _, words = moves.line.split('; it will not move now: ')
    assert case.says in words
    assert len(moves.line) <= 100 or ' ' in case.reasons


@each_obstacle
def test_the_kernel_does_not_move_a_page_that_is_held(moves: Moves) -> None:
    """As was said."""
    assert not moves.moved


@each_obstacle
def test_a_page_that_was_let_go_is_said_to_move(moves: Moves) -> None:
    """Nothing is left."""
    assert moves.said_then == ('yes', [])


@each_obstacle
def test_the_kernel_moves_a_page_that_was_let_go(moves: Moves) -> None:
    """As was said."""
    assert moves.moved_then


@each_obstacle
def test_pins_for_dma_are_told_from_other_references(case: Obstacle,
                                                     moves: Moves) -> None:
    """As many as there are."""
    page = moves.report['page']
    for count, told in ((case.pinned, page['dma_pins']),
                        (case.others, page['extra_refs'])):
        assert told > 0 if count < 0 else told == count, page


def test_text_says_what_the_references_of_a_page_are(scene: Scene) -> None:
    """Of one that is held in two ways, and then in none."""
    scene.story('P map M 4\nP write M\nP uring M 1 2\nP vmsplice M 2')
    query = f"ask '{scene.pfn('P', 'M', 2)}'"
    held = scene.guest.check(query)
    scene.story('P uringend\nP vmspliceend')
    assert 'refcount 1026 = 1 expected + 1 DMA pin (1024) + 1 other\n' in held
    assert 'refcount 1 = 1 expected\n' in scene.guest.check(query)


def test_the_first_line_of_a_page_that_moves_does_not_speak_of_it(
        scene: Scene) -> None:
    """Who maps it is what is to be said."""
    scene.story('P map M 1\nP write M')
    pfn = scene.pfn('P', 'M')
    line = scene.guest.check(f"ask '{pfn}'").splitlines()[0]
    assert line == (f'PFN {pfn:#x} is an anonymous page; '
                    '1 process maps it, at 1 address')


def test_a_question_about_a_process_has_no_verdict(scene: Scene) -> None:
    """It is about no page."""
    scene.play('P map M 1\nP write M')
    assert scene.ask(f"pid {scene.pids['P']}")['migrate'] is None


# ---------------------------------------------- the kernel waits for a disk --

def test_a_page_that_is_being_written_moves_when_it_was(scene: Scene) -> None:
    """Who wants to move it waits for the disk."""
    guest = scene.guest
    with disk_waits(guest, 'write'):
        scene.play('P map M 1 shared file /dev/vdc 0\nP write M')
        pfn = scene.pfn('P', 'M')
        with impatient_writeback(guest):
            guest.wait_for('read -r reads writes </sys/block/vdc/inflight; '
                           'test $writes -gt 0')
        said, line = verdict(scene.ask(f'{pfn}')), first_line(scene, pfn)
        guest.check('tell -t 10000 P move M 0 1 1 >/tmp/moved 2>&1 & mover=$!')
        guest.wait_for(f"grep -q writeback /proc/{scene.pids['P']}/stack")
        waits = guest.check('cat /tmp/moved') == ''
    guest.check('wait $mover', 600)
    assert said == ('not now', ['writeback'])
    assert line.endswith('; it will not move now: it is being written')
    assert waits
    assert scene.pfn('P', 'M') != pfn


# ------------------------------------------------------ compaction is asked --

@contextmanager
def compaction_of_unevictable(guest: Guest, allowed: int) -> Iterator[None]:
    """Is forbidden, or not, until this is left."""
    usual = guest.check(f'cat {SYSCTL}').strip()
    try:
        guest.check(f'echo {allowed} >{SYSCTL}')
        yield
    finally:
        guest.check(f'echo {usual} >{SYSCTL}')


SPREAD = 90000      # pages: most of what of the first node can be moved
APART = 500         # a little less than there are in a block of compaction


def first_movable(guest: Guest) -> int:
    """Where the zone begins of which the first node's pages can be moved."""
    match = re.search(r'Node 0, zone +Movable.*?start_pfn: +([0-9]+)',
                      guest.check('cat /proc/zoneinfo'), re.DOTALL)
    assert match
    return int(match[1])


def lowest_page(scene: Scene) -> int:
    """A page of P, locked in memory, that compaction has reason to move, and
    somewhere to move it to.

    It is below most of the zone, and most blocks above have a page of P, which
    is locked in memory, too: compaction does not break up those that are free.
    """
    scene.play(f'P map M {SPREAD}\nP madvise M 0 {SPREAD} nohugepage\n'
               f'P write M\nP mlock M 0 {SPREAD}')
    kept = range(0, SPREAD, APART)
    scene.play('\n'.join(f'P unmap M {i + 1} {APART - 1}' for i in kept))
    scene.guest.check('drain')
    replies = scene.play('\n'.join(f'P look M {i} 1' for i in kept))
    pfns = [int(re.findall('pfn=0x([0-9a-f]+)', reply)[0], 16)
            for reply in replies]
    zone = range(first_movable(scene.guest), (NODE << 20) // 4096)
    movable = [pfn for pfn in pfns if pfn in zone]
    assert len(movable) > len(pfns) / 2
    return kept[pfns.index(min(movable))]


def compact(scene: Scene, page: int) -> bool:
    """Has compaction of the first node moved it?"""
    before = scene.pfn('P', 'M', page)
    scene.guest.check('echo 1 >/sys/devices/system/node/node0/compact', 300)
    return scene.pfn('P', 'M', page) != before


def test_compaction_moves_a_page_that_is_locked_in_memory_if_it_may(
        scene: Scene) -> None:
    """And only then.  (move_pages() and offlining move it all the same.)"""
    page = lowest_page(scene)
    pfn = scene.pfn('P', 'M', page)
    with compaction_of_unevictable(scene.guest, 0):
        said, line = verdict(scene.ask(f'{pfn}')), first_line(scene, pfn)
        moved = compact(scene, page)
    with compaction_of_unevictable(scene.guest, 1):
        said_then = verdict(scene.ask(f'{pfn}'))
        moved_then = compact(scene, page)
    assert said == ('not now', ['unevictable'])
    assert line.endswith('compaction may not touch what is unevictable')
    assert not moved
    assert said_then == ('yes', [])
    assert moved_then


# ------------------------------------------------- what cannot be moved --

@pytest.mark.parametrize('kind', ('reserved', 'slab', 'pagetable', 'zero'))
def test_what_the_kernel_has_to_itself_cannot_be_moved(scene: Scene, kind: str
                                                       ) -> None:
    """The first such frame, and so says the first line."""
    pfn = next(pfn for pfn, some in enumerate(kpage.kpageflags(scene.guest))
               if kpage.kind(some) == kind)
    assert verdict(scene.ask(f'{pfn}')) == ('no', ['unmovable'])
    assert first_line(scene, pfn).endswith('; it cannot be moved')


def test_free_memory_is_in_nobodys_way(scene: Scene) -> None:
    """The verdict on it is that it moves."""
    free = [pfn for pfn, some in enumerate(kpage.kpageflags(scene.guest))
            if 'buddy' in some]
    answers = scene.ask_all(f'{pfn}' for pfn in free[-100:])
    said = [verdict(report) for _, report in answers
            if report['page']['kind'] == 'free']
    assert len(said) > 50
    assert said == [('yes', [])] * len(said)


TABLES = 40000      # page tables, more than there is room for in one block


def unmovable_ones(scene: Scene) -> List[int]:
    """Pages that the kernel names when it is to empty the blocks that they are
    in: the first of each that it cannot move, and so does not try."""
    guest = scene.guest
    scene.play(f'P map M {TABLES * HUGE} noreserve\n'
               f'P madvise M 0 {TABLES * HUGE} nohugepage')
    scene.play('\n'.join(f'P read M {i * HUGE} 1' for i in range(TABLES)))
    guest.check('dmesg -c >/dev/null')
    for block in range(NODE // 2 // 128):
        if blocks.offline(guest, block):
            guest.check(f'echo online_kernel >{blocks.state_of(block)}')
    dumped = re.findall(r'pfn:(?:0x)?([0-9a-f]+)(?:(?!pfn:).)*?'
                        'page dumped because: unmovable page',
                        guest.check('dmesg'), re.DOTALL)
    return sorted({int(pfn, 16) for pfn in dumped})


def test_pages_that_keep_the_kernel_from_emptying_a_block_cannot_be_moved(
        scene: Scene, note: Note) -> None:
    """It names them itself."""
    pfns = unmovable_ones(scene)
    answers = scene.ask_all(f'{pfn}' for pfn in pfns)
    note(f'{len(pfns)} pages that the kernel calls unmovable')
    assert pfns
    assert [(pfn, verdict(report)) for pfn, (_, report) in zip(pfns, answers)
            if verdict(report) != ('no', ['unmovable'])] == []
