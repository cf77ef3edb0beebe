"""A cgroup in the guest, in which somebody has memory of their own."""

from contextlib import contextmanager
from typing import Iterator

from .guest import Guest

TOP = '/tmp/cgroup'


@contextmanager
def cgroup(guest: Guest) -> Iterator[str]:
    """Its directory, until this is left; nobody may be in it any more then."""
    group = f'{TOP}/group'
    guest.check(f'mkdir {TOP}; mount -t cgroup2 none {TOP}; '
                f'echo +memory >{TOP}/cgroup.subtree_control; mkdir {group}')
    try:
        yield group
    finally:
        guest.undo(f'rmdir {group}; umount {TOP}; rmdir {TOP}')
