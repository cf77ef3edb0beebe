"""Blocks of memory, which a kernel can empty and switch off."""

from . import kpage, vm
from .guest import Guest

BLOCKS = '/sys/devices/system/memory'
FRAMES = 32768      # in one


def state_of(number: int) -> str:
    """The file that says whether a block is in use, and changes it."""
    return f'{BLOCKS}/memory{number}/state'


def any_reserved(guest: Guest, number: int) -> bool:
    """Whether a block has memory that was reserved at boot, and so is not
    switched off."""
    return any('reserved' in flags for flags in
               kpage.kpageflags(guest, number * FRAMES, FRAMES))


def offline(guest: Guest, number: int) -> bool:
    """Switch a block off, if the kernel can empty it in reasonable time.

    It tries for ever to move what is in use, until a signal comes.
    """
    seconds = 120 if vm.is_debug(guest.series) else 20
    return not guest.run(f"timeout {seconds} sh -c "
                         f"'echo offline >{state_of(number)}'",
                         seconds + 60).status
