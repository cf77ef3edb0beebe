"""Places in memory by what people know of them: a process, an area, a file."""

import mmap
import os
import re
import stat
from contextlib import contextmanager
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .failure import ONLY_ROOT, Failure
from .libc import resident
from .proc import CHUNK, PAGE, Area, Entry, Proc, areas_of, entry
from .words import Progress, count, hexa, plain

# What may be in place of a page.
SWAPPED, ABSENT = 'swapped out', 'not there'

# No more runs are kept than these.
MOST_RUNS = 1 << 20

# Types of swap from here on are, or may be, no areas but what the kernel makes
# of pages that are on their way, poisoned, or a device's (MAX_SWAPFILES).
NO_AREA = 23


class Run(NamedTuple):
    """Pages in a row of which the same is to be said."""

    address: int
    pages: int
    gone: str       # nothing if they are there


class _Runs:
    """Runs from an address on, as they are found."""

    def __init__(self, what: str, start: int) -> None:
        self._what = what
        self._first = self._next = start
        self._gone = ABSENT
        self.found: List[Run] = []

    def add(self, address: int, gone: str) -> None:
        """The next page; what was passed over is not there."""
        self._upto(address, ABSENT)
        self._upto(address + PAGE, gone)

    def _upto(self, end: int, gone: str) -> None:
        if self._next < end and gone != self._gone:
            self._close()
            self._gone = gone
        self._next = max(end, self._next)

    def _close(self) -> None:
        if self._first == self._next:
            return
        if len(self.found) == MOST_RUNS:
            raise Failure(f'{self._what}: its pages are in more than '
                          f'{MOST_RUNS:,} pieces: ask about a part of it')
        self.found.append(Run(self._first, (self._next - self._first) // PAGE,
                              self._gone))
        self._first = self._next

    def all(self, end: int) -> List[Run]:
        """Those to the end of the range."""
        self._upto(end, ABSENT)
        self._close()
        return self.found


def names_address(words: Sequence[str]) -> bool:
    """Whether what was asked for looks like PID:ADDR, and no more."""
    return len(words) == 1 and ':' in words[0] and words[0][0].isdigit()


def address_of(word: str) -> Tuple[int, int]:
    """PID and address of PID:ADDR, which is hex, with or without 0x."""
    match = re.fullmatch(r'(\d+):(?:0x)?([0-9a-fA-F]{1,16})', word)
    if not match:
        raise Failure(f'"{word}": PID:ADDRESS is expected')
    return int(match[1]), int(match[2], 16)


def runs(proc: Proc, pid: int, start: int, end: int) -> List[Run]:
    """Every page of a range of addresses, as pagemap has it.

    Only what some VMA has is read, in pieces: a range may be all that there
    can be.
    """
    where = f'{pid}:{start:x}-{end:x}'
    if end <= start:
        raise Failure(f'{where}: it does not end behind where it begins')
    if not proc.exists(pid):
        raise Failure(f'there is no process {pid}')
    start &= ~(PAGE - 1)
    end = -(-end // PAGE) * PAGE
    made = _Runs(where, start)
    maps, home = proc.maps(pid)
    if not maps and os.geteuid() != 0:
        raise Failure(ONLY_ROOT)
    with Progress(f'reading the page tables of {pid}', end - start
                  ) as progress:
        for area in areas_of(maps):
            first, last = max(start, area.start), min(end, area.end)
            if first >= last:
                continue
            for address, word in proc.present(home, first, last, True):
                progress.at(address - start)
                made.add(address, SWAPPED if entry(word).swapped else '')
    return made.all(end)


def areas(proc: Proc, pid: int, name: str) -> List[Area]:
    """The VMAs of a process by name: heap, stack, or a part of a path."""
    if not proc.exists(pid):
        raise Failure(f'there is no process {pid}')
    maps = proc.areas(pid)
    if not maps and os.geteuid() != 0:
        raise Failure(ONLY_ROOT)
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
    kind = entry.swap_type
    names = [plain(name) for name in candidates(kind, proc.swaps())]
    if not names:
        return f'swapped out, or being migrated (swap type {kind}, offset ' \
            f'{hexa(entry.swap_offset)})'
    where = names[0] if len(names) == 1 \
        else f"swap area {kind}: {', '.join(names[:-1])} or {names[-1]}"
    return f'swapped out, to page {entry.swap_offset} of {where}'


def candidates(kind: int, swaps: List[str]) -> List[str]:
    """Which areas a type of swap may be, of those that are in use.

    /proc/swaps has them in the order of their types, and does not say which
    types are between them that nobody uses any more.
    """
    return swaps[:kind + 1] if kind < NO_AREA else []


# -------------------------------------------------------- a page of a file --

@contextmanager
def _opened(path: str, offset: int, length: int
            ) -> Iterator[Tuple[int, int, int]]:
    """A file, and the range of it that there is, from the start of a page on.

    Not to be opened is what might wait, or do something: a FIFO, a device.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Failure(f'{path}: it is no regular file')
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise Failure(f'{path}: {os.strerror(error.errno or 0)}') from None
    try:
        size = os.fstat(fd).st_size
        if offset >= size:
            raise Failure(f'{path}: it has {count(size, "byte")}, and none '
                          f'at offset {offset}')
        yield fd, offset & ~(PAGE - 1), min(size, offset + length)
    except (OSError, ValueError) as error:
        raise Failure(f'{path}: it cannot be mapped: {error}') from None
    finally:
        os.close(fd)


def file_runs(path: str, offset: int, length: int) -> List[Run]:
    """Which pages of a file are in memory, by their offsets; a page at a time
    is neither touched nor read."""
    with _opened(path, offset, length) as (fd, start, end), \
            Progress(f'looking at {plain(path)}', end - start) as progress:
        made = _Runs(path, start)
        for at in range(start, end, CHUNK * PAGE):
            progress.at(at - start)
            with _mapped(fd, at, min(CHUNK * PAGE, end - at)) as memory:
                cached = resident(_address(fd, at), len(memory))
            for i, there in enumerate(cached):
                made.add(at + i * PAGE, '' if there else ABSENT)
        return made.all(-(-end // PAGE) * PAGE)


def frames_of_file(path: str, offset: int, length: int) -> List[Optional[int]]:
    """Where the pages of a file are in memory; None for what is not cached.

    The file is mapped, and what is in the page cache touched, so that pagemap
    tells; what is not there is not read.
    """
    with _opened(path, offset, length) as (fd, start, end), \
            _mapped(fd, start, end - start) as memory:
        return _frames(fd, memory, start)


def _mapped(fd: int, start: int, length: int) -> mmap.mmap:
    return mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=start)


def _frames(fd: int, memory: mmap.mmap, start: int) -> List[Optional[int]]:
    address = _address(fd, start)
    pages = -(-len(memory) // PAGE)
    cached = resident(address, len(memory))
    for i in range(pages):
        if cached[i]:
            memory[i * PAGE]    # pylint: disable=pointless-statement
    entries = Proc().pagemap(os.getpid(), address, pages)
    return [found.pfn if cached[i] and found.present else None
            for i, found in enumerate(entries)]


def _address(fd: int, start: int) -> int:
    """Where this process has mapped a file last, from that offset on."""
    inode = os.fstat(fd).st_ino
    for area in reversed(Proc().areas(os.getpid())):
        if area.inode == inode and area.offset == start \
                and area.perms == 'r--s':
            return area.start
    raise OSError(0, 'it is not in /proc/self/maps')
