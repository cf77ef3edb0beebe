"""What is said of a page while it is migrated."""

from typing import Iterator, NamedTuple

import pytest

from rvtest import vm
from rvtest.guest import Guest
from rvtest.machine import Machine, two_nodes
from rvtest.scene import Scene

KERNELS = vm.some_kernels
SECONDS = 15

# Two nodes, so that a page can be moved from the one to the other.
MACHINE = Machine(
    name='nodes', append='numa_balancing=disable',
    arguments=two_nodes(1024))

AT = '0x10000000000'    # where an actor's first region is
PARAMETERS = '/sys/module/rmapviz_migrating/parameters'

each_page = pytest.mark.parametrize('told', (
    pytest.param('P map M 1\nP write M', id='small'),
    pytest.param('P map M 512\nP madvise M 0 512 hugepage\nP write M 0',
                 id='huge')))


class Moved(NamedTuple):
    """A page whose migration has come half way: of its process's page table
    there is left a migration entry."""

    scene: Scene
    query: str
    pfn: int    # where it was


def let_go(guest: Guest) -> str:
    """Let the migration end, if it has not yet; what the process says."""
    return guest.check(f'echo 1 >{PARAMETERS}/go_on; wait $mover 2>/dev/null; '
                       'cat /tmp/moved', 600)


@pytest.fixture
def moved(scene: Scene, told: str) -> Iterator[Moved]:
    """Whatever happens, the migration comes to its end."""
    guest = scene.guest
    scene.story(told)
    pfn = scene.pfn('P', 'M')
    guest.check(f'insmod /lib/rmapviz_migrating.ko pfn={pfn}')
    guest.check('tell -t 10000 P move M 0 1 1 >/tmp/moved 2>&1 & '
                'mover=$!')
    try:
        guest.wait_for(f'grep -q Y {PARAMETERS}/stopped', 120)
        yield Moved(scene, f"pid {scene.pids['P']} {AT}", pfn)
    finally:
        if not guest.broken:
            let_go(guest)
            guest.check('rmmod rmapviz_migrating')


@each_page
def test_eagain_while_a_page_is_migrated(moved: Moved) -> None:
    """It will be somewhere else in a moment."""
    status, output = moved.scene.guest.run(f'ask {moved.query}')
    assert status and 'EAGAIN' in output


@each_page
def test_an_answer_when_a_page_has_been_migrated(moved: Moved) -> None:
    """From where it is now."""
    assert let_go(moved.scene.guest).startswith('ok')
    page = moved.scene.ask(moved.query)['page']
    assert (page['pfn'], page['mapcount']) == (moved.scene.pfn('P', 'M'), 1)
    assert page['pfn'] != moved.pfn
