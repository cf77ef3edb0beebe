"""What /proc and /sys say of processes, their memory and their files.

Everything takes the directory that /proc is in, so that tests can give
another.  A process may exit at any time: what is gone is left out.
"""

import os
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from .failure import Failure

PAGE = 4096

# /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61
_FRAME = (1 << 55) - 1

# /proc/kpageflags.
KPF_BUDDY, KPF_TAIL, KPF_NOPAGE = 1 << 10, 1 << 16, 1 << 20


class Area(NamedTuple):
    """A line of /proc/PID/maps."""

    start: int
    end: int
    perms: str
    offset: int
    name: str


class Entry(NamedTuple):
    """What pagemap says of one page of a process."""

    present: bool
    swapped: bool
    of_file: bool
    pfn: int
    swap_type: int
    swap_offset: int


class Descriptor(NamedTuple):
    """An open file of a process."""

    number: int
    target: str


def entry(word: int) -> Entry:
    """A word of pagemap."""
    swapped = bool(word & _SWAPPED)
    frame = word & _FRAME
    return Entry(bool(word & _PRESENT), swapped, bool(word & _FILE),
                 0 if swapped else frame, frame & 31 if swapped else 0,
                 frame >> 5 if swapped else 0)


def words(data: bytes) -> Iterator[int]:
    """64 bits each, as pagemap and its like have them."""
    for i in range(0, len(data) - 7, 8):
        yield int.from_bytes(data[i:i + 8], 'little')


class Proc:
    """A /proc."""

    def __init__(self, root: str = '/') -> None:
        self.root = Path(root)
        self.proc = self.root / 'proc'
        self.sys = self.root / 'sys'
        self.is_ours = root == '/'

    def text(self, *path: object) -> str:
        """A file below /proc; nothing if it cannot be read."""
        return _text(self.proc.joinpath(*map(str, path)))

    def pids(self) -> List[int]:
        """All processes."""
        return sorted(int(name) for name in os.listdir(self.proc)
                      if name.isdigit())

    def exists(self, pid: int) -> bool:
        """Whether there is such a process."""
        return (self.proc / str(pid)).is_dir()

    def comm(self, pid: int) -> str:
        """Its name."""
        return self.text(pid, 'comm').rstrip('\n')

    def unit(self, pid: int) -> str:
        """Its systemd unit, or its cgroup, or nothing."""
        return unit_of(self.text(pid, 'cgroup'))

    def areas(self, pid: int) -> List[Area]:
        """Its memory map."""
        return [_area(line) for line in self.text(pid, 'maps').splitlines()]

    def area_at(self, pid: int, address: int) -> Optional[Area]:
        """The VMA that has an address."""
        return next((area for area in self.areas(pid)
                     if area.start <= address < area.end), None)

    def pagemap(self, pid: int, start: int, pages: int) -> List[Entry]:
        """What it says of some pages; may be short."""
        path = self.proc / str(pid) / 'pagemap'
        try:
            with open(path, 'rb', buffering=0) as file:
                file.seek(start // PAGE * 8)
                return [entry(word) for word in words(file.read(pages * 8))]
        except OSError as error:
            raise Failure(f'{path}: {os.strerror(error.errno or 0)}') \
                from None

    def descriptors(self, pid: int) -> List[Descriptor]:
        """Its open files."""
        found = []
        directory = self.proc / str(pid) / 'fd'
        try:
            for name in os.listdir(directory):
                found.append(Descriptor(int(name),
                                        os.readlink(directory / name)))
        except OSError:
            pass
        return sorted(found)

    def fdinfo(self, pid: int, number: int) -> str:
        """What the kernel says of an open file."""
        return self.text(pid, 'fdinfo', number)

    def swaps(self) -> List[str]:
        """The files and devices that are swapped to, by number."""
        return [unescaped(line.split()[0])
                for line in self.text('swaps').splitlines()[1:]]

    def backing_files(self) -> Dict[str, str]:
        """The file of each loop device."""
        return {path.parts[-3]: _text(path).rstrip('\n') for path in sorted(
            (self.sys / 'block').glob('loop*/loop/backing_file'))}

    def block(self, name: str) -> Tuple[int, int]:
        """First frame and number of frames of a block of memory."""
        base = self.sys / 'devices/system/memory'
        size = _text(base / 'block_size_bytes').strip()
        index = _text(base / name / 'phys_index').strip()
        if not size:
            raise Failure(f'{base}: this kernel has no blocks of memory')
        if not index:
            raise Failure(f'{base / name}: there is no such block')
        pages = int(size, 16) // PAGE
        return int(index, 16) * pages, pages

    def page_flags(self, first: int, count: int) -> List[int]:
        """The words of /proc/kpageflags."""
        try:
            with open(self.proc / 'kpageflags', 'rb', buffering=0) as file:
                file.seek(first * 8)
                return list(words(file.read(count * 8)))
        except OSError:
            return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='surrogateescape')
    except OSError:
        return ''


def unescaped(path: str) -> str:
    """A path in which the kernel writes some bytes as octal numbers."""
    return re.sub(r'\\([0-7]{3})', lambda match: chr(int(match[1], 8)), path)


def _area(line: str) -> Area:
    span, perms, offset, _, _, *name = line.split(None, 5)
    start, end = span.split('-')
    return Area(int(start, 16), int(end, 16), perms, int(offset, 16),
                name[0] if name else '')


def unit_of(cgroups: str) -> str:
    """The innermost unit of systemd in a /proc/PID/cgroup, else the path.

    Of the hierarchies of cgroup 1 systemd's has the units.
    """
    paths = {controllers: path for _, controllers, path in
             (line.split(':', 2) for line in cgroups.splitlines()
              if line.count(':') >= 2)}
    path = paths.get('', '/')
    if path == '/':
        path = paths.get('name=systemd', path)
    units = [part for part in path.split('/')
             if part.endswith(('.service', '.scope', '.socket'))]
    if units:
        return units[-1]
    return path if path != '/' else ''
