"""What is said of a page whose folio is split while it is pinned.

tests/kmod/rmapviz_split.c splits one at the very instruction: between which
folio a page is of and the reference on that there is nothing to stop at.
"""

import re
import subprocess
from typing import Iterator

import pytest

from rvtest import vm
from rvtest.scene import Scene

KERNELS = vm.kernels
SECONDS = 2

PARAMETERS = '/sys/module/rmapviz_split/parameters'
PINS = 'rv_walk_pfn'


def place_of_pin(series: str) -> int:
    """Where in it the count is raised, unless it is 0: the first exchange."""
    listing = subprocess.run(
        [vm.VM / 'in-root', vm.root(series),
         '--ro-bind', vm.build(series), '/src', 'objdump', '--disassemble',
         '--no-show-raw-insn', '/src/rmapviz.ko'], check=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout
    function = re.search(rf'^(\w+) <{PINS}>:\n((?:.+\n)+)', listing,
                         re.MULTILINE)
    assert function
    pin = re.search(r'^ *(\w+):\tlock cmpxchg', function[2], re.MULTILINE)
    assert pin
    return int(pin[1], 16) - int(function[1], 16)


@pytest.fixture
def tail(scene: Scene, series: str) -> Iterator[int]:
    """The second page of a folio that will be split."""
    guest = scene.guest
    guest.check('insmod /lib/rmapviz_split.ko '
                f'symbol={PINS} offset={place_of_pin(series)}')
    try:
        yield int(guest.check(f'cat {PARAMETERS}/pfn'))
    finally:
        guest.undo('rmmod rmapviz_split')


def test_a_page_is_not_told_of_by_the_folio_that_it_was_of(
        scene: Scene, tail: int) -> None:
    """It was split when that was about to be pinned: so look again."""
    page = scene.ask(f'{tail}')['page']
    assert scene.guest.check(f'cat {PARAMETERS}/split') == 'Y\n'
    assert page['head'] == tail
    assert page == scene.ask(f'{tail}')['page']
