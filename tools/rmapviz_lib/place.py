"""Places in memory by what people know of them: a process, an area, a file."""

import mmap
import os
import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

from .failure import Failure
from .libc import resident
from .proc import PAGE, Area, Entry, Proc
from .words import count, hexa, plain


class Spot(NamedTuple):
    """A page of a process, as pagemap has it."""

    pid: int
    address: int
    entry: Entry


def names_address(words: Sequence[str]) -> bool:
    """Whether what was asked for looks like PID:ADDR, and no more."""
    return len(words) == 1 and ':' in words[0] and words[0][0].isdigit()


def address_of(word: str) -> Tuple[int, int]:
    """PID and address of PID:ADDR, which is hex, with or without 0x."""
    match = re.fullmatch(r'(\d+):(?:0x)?([0-9a-fA-F]{1,16})', word)
    if not match:
        raise Failure(f'"{word}": PID:ADDRESS is expected')
    return int(match[1]), int(match[2], 16)


def spots(proc: Proc, pid: int, start: int, end: int) -> List[Spot]:
    """Every page of a range of addresses, of which pagemap says anything."""
    if not proc.exists(pid):
        raise Failure(f'there is no process {pid}')
    start &= ~(PAGE - 1)
    entries = proc.pagemap(pid, start, -(-(end - start) // PAGE))
    return [Spot(pid, start + i * PAGE, found)
            for i, found in enumerate(entries)]


def areas(proc: Proc, pid: int, name: str) -> List[Area]:
    """The VMAs of a process by name: heap, stack, or a part of a path."""
    if not proc.exists(pid):
        raise Failure(f'there is no process {pid}')
    maps = proc.areas(pid)
    exact = [area for area in maps if area.name in (f'[{name}]', name)]
    found = exact or [area for area in maps if name in area.name]
    if not found:
        known = sorted({area.name for area in maps if area.name})
        raise Failure(f'process {pid} has no VMA called {name}; it has '
                      f"{', '.join(map(plain, known))[:300] or 'none'}")
    return found


def absent(proc: Proc, pid: int, address: int) -> str:
    """Why a process maps no page at an address, by maps and pagemap."""
    area = proc.area_at(pid, address)
    if not proc.exists(pid):
        return f'there is no process {pid}'
    where = f'process {pid} at {hexa(address)}'
    if area is None:
        return f'{where}: there is no VMA; /proc/{pid}/maps has those there ' \
            'are'
    name = f' of {plain(area.name)}' if area.name else ''
    found = proc.pagemap(pid, address, 1)
    if found and found[0].swapped:
        return f'{where}{name}: {swapped(proc, found[0])}'
    if found and found[0].present:
        return f'{where}{name}: it is there now; ask again'
    return f'{where}{name}: no page is there: never touched, or dropped since'


def swapped(proc: Proc, entry: Entry) -> str:
    """Where a page has gone."""
    swaps = proc.swaps()
    kind = entry.swap_type
    if kind < len(swaps):
        return f'swapped out, to page {entry.swap_offset} of ' \
            f'{plain(swaps[kind])}'
    return f'swapped out, or being migrated (swap type {kind}, offset ' \
        f'{hexa(entry.swap_offset)})'


# -------------------------------------------------------- a page of a file --

def frames_of_file(path: str, offset: int, length: int) -> List[Optional[int]]:
    """Where the pages of a file are in memory; None for what is not cached.

    The file is mapped, and what is in the page cache touched, so that pagemap
    tells; what is not there is not read.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise Failure(f'{path}: {os.strerror(error.errno or 0)}') from None
    try:
        size = os.fstat(fd).st_size
        start = offset & ~(PAGE - 1)
        if offset >= size:
            raise Failure(f'{path}: it has {count(size, "byte")}, and none '
                          f'at offset {offset}')
        end = min(size, offset + length)
        with mmap.mmap(fd, end - start, mmap.MAP_SHARED, mmap.PROT_READ,
                       offset=start) as memory:
            return _frames(fd, memory, start)
    except (OSError, ValueError) as error:
        raise Failure(f'{path}: it cannot be mapped: {error}') from None
    finally:
        os.close(fd)


def _frames(fd: int, memory: mmap.mmap, start: int) -> List[Optional[int]]:
    address = _address(fd, start)
    pages = -(-len(memory) // PAGE)
    cached = resident(address, len(memory))
    for i in range(pages):
        if cached[i]:
            memory[i * PAGE]    # pylint: disable=pointless-statement
    entries = Proc().pagemap(os.getpid(), address, pages)
    return [entry.pfn if cached[i] and entry.present else None
            for i, entry in enumerate(entries)]


def _address(fd: int, start: int) -> int:
    """Where this process has mapped a file last, from that offset on."""
    inode = os.fstat(fd).st_ino
    for line in reversed(Proc().text('self', 'maps').splitlines()):
        span, perms, offset, _, number, *_ = line.split(None, 5)
        if int(number) == inode and int(offset, 16) == start \
                and perms.startswith('r--s'):
            return int(span.split('-')[0], 16)
    raise OSError(0, 'it is not in /proc/self/maps')
