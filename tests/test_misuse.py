"""The files, used in every way that files can be used, by chance.

tests/guest/misuse.c knows what each must end with.  `make misuse` does a
million things.
"""

import os
from typing import Callable, Dict

import pytest

from rvtest.guest import Guest
from rvtest.stage import Stage
from rvtest.vm import some_kernels

SEED = int(os.environ.get('MISUSE_SEED', 14))
CASES = int(os.environ.get('MISUSE_CASES', 20000))
KERNELS = some_kernels
SECONDS = 20

Note = Callable[[str], None]


class Used(Dict[str, int]):
    """How often each thing was done; those refused have a minus before."""


def use(guest: Guest) -> Used:
    """All that was done; what is wrong fails."""
    status, output = guest.run(f'misuse {SEED} {CASES}', 60 + CASES / 50)
    assert status == 0, output[-2000:]
    used = Used()
    for verb, done, refused in map(str.split, output.splitlines()):
        used[verb], used[f'-{verb}'] = int(done), int(refused)
    return used


@pytest.fixture
def used(stage: Stage) -> Used:
    """Done once."""
    return stage.record('misuse', lambda: use(stage.guest))


def test_whatever_is_done_with_the_files_ends_as_documented(
        used: Used, note: Note) -> None:
    """The right bytes, or the right errno."""
    counts = ', '.join(f'{verb} {number}' for verb, number in used.items()
                       if number)
    note(f'seed {SEED}: {counts}')
    assert sum(used.values()) >= CASES


def test_everything_is_tried_with_the_files(used: Used) -> None:
    """And what can be granted and refused is both."""
    never = {verb for verb, number in used.items() if not number}
    assert never <= {
        # nothing of the kind there
        'pwrite', 'splice-from', 'splice-to', 'sendfile-from', 'sendfile-to',
        # no errno of their own
        '-read-all', '-threads', '-open', '-dup', '-in-children',
        # somebody else has a lock: hardly ever
        'again', '-again'}


def test_hardly_any_use_of_the_files_finds_a_lock_taken(used: Used) -> None:
    """One in a thousand, or what is tried is not what is meant."""
    assert used['again'] <= CASES / 1000
