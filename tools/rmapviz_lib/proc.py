"""What /proc and /sys say of processes, their memory and their files.

Everything takes the directory that /proc is in, so that tests can give
another.  A process may exit at any time: what is gone is left out.
"""

import errno
import os
import re
from array import array
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .failure import Failure
from .libc import scan_present

PAGE = 4096

# Pages of which pagemap is read at a time.
CHUNK = 1 << 16

# /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61
FRAME = (1 << 55) - 1

# /proc/kpageflags.
KPF_BUDDY, KPF_TAIL, KPF_NOPAGE = 1 << 10, 1 << 16, 1 << 20


class Area(NamedTuple):
    """A line of /proc/PID/maps."""

    start: int
    end: int
    perms: str
    offset: int
    name: str
    inode: int


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
    frame = word & FRAME
    return Entry(bool(word & _PRESENT), swapped, bool(word & _FILE),
                 0 if swapped else frame, frame & 31 if swapped else 0,
                 frame >> 5 if swapped else 0)


def words(data: bytes) -> 'array[int]':
    """64 bits each, as pagemap and its like have them."""
    found = array('Q')
    found.frombytes(data[:len(data) & ~7])
    return found


def lines(text: str) -> List[str]:
    """The lines of a file below /proc.

    Only a line feed ends one: names in it may have what splitlines() takes
    for an end as well.
    """
    return [line for line in text.split('\n') if line]


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

    def maps(self, pid: int) -> Tuple[str, str]:
        """Its memory map, and the directory below /proc that tells of it."""
        for home in self._homes(pid):
            text = self.text(home, 'maps')
            if text:
                return text, home
        return '', str(pid)

    def _homes(self, pid: int) -> Iterator[str]:
        """The directories that tell of its memory: its own; if its first
        thread has exited before others, which leaves that empty, theirs."""
        yield str(pid)
        try:
            threads = os.listdir(self.proc / str(pid) / 'task')
        except OSError:
            return
        for thread in threads:
            if thread != str(pid):
                yield f'{pid}/task/{thread}'

    def areas(self, pid: int) -> List[Area]:
        """Its memory map."""
        return areas_of(self.maps(pid)[0])

    def area_at(self, pid: int, address: int) -> Optional[Area]:
        """The VMA that has an address."""
        return next((area for area in self.areas(pid)
                     if area.start <= address < area.end), None)

    def pagemap(self, pid: int, start: int, pages: int) -> List[Entry]:
        """What it says of some pages; may be short."""
        failure: Optional[Failure] = None
        for home in self._homes(pid):
            path = self.proc / home / 'pagemap'
            try:
                with open(path, 'rb', buffering=0) as file:
                    found = words(_read(file, start // PAGE, pages))
            except OSError as error:
                failure = failure or _failure(path, error)
                continue
            if found:
                return [entry(word) for word in found]
        if failure:
            raise failure
        return []

    def present(self, home: str, start: int, end: int, swapped: bool = False
                ) -> Iterator[Tuple[int, int]]:
        """Address and word of every page of a range that is there, or also
        of those that are swapped out; home as maps() has it.

        There are no more when the process exits meanwhile.
        """
        wanted = _PRESENT | (_SWAPPED if swapped else 0)
        path = self.proc / home / 'pagemap'
        try:
            with open(path, 'rb', buffering=0) as file:
                for at, data in _chunks(file, start, end, swapped):
                    for i, word in enumerate(words(data)):
                        if word & wanted:
                            yield at + i * PAGE, word
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):
                raise _failure(path, error) from None

    def descriptors(self, pid: int) -> List[Descriptor]:
        """Its open files."""
        directory = self.proc / str(pid) / 'fd'
        try:
            names = os.listdir(directory)
        except OSError:
            return []
        found = []
        for name in names:
            try:
                found.append(Descriptor(int(name),
                                        os.readlink(directory / name)))
            except OSError:
                pass        # it was closed meanwhile
        return sorted(found)

    def fdinfo(self, pid: int, number: int) -> str:
        """What the kernel says of an open file."""
        return self.text(pid, 'fdinfo', number)

    def swaps(self) -> List[str]:
        """The files and devices that are swapped to, in the order of their
        numbers, some of which may not be in use."""
        return [unescaped(line.split()[0])
                for line in lines(self.text('swaps'))[1:]]

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
        """The words of /proc/kpageflags, as far as there are any."""
        try:
            with open(self.proc / 'kpageflags', 'rb', buffering=0) as file:
                return list(words(_read(file, first, count)))
        except OSError:
            return []

    def last_frame(self) -> int:
        """That of memory, by /proc/iomem or /proc/zoneinfo; or 0."""
        end = 0
        for line in lines(self.text('iomem')):
            span, _, name = line.strip().partition(' : ')
            if name.startswith('System RAM'):
                end = max(end, int(span.split('-')[1], 16) // PAGE)
        return end or _last_of_zones(self.text('zoneinfo'))


def _text(path: Path) -> str:
    """As it is: to read it as text would make others of some line ends."""
    try:
        return path.read_bytes().decode('utf-8', 'surrogateescape')
    except OSError:
        return ''


def _failure(path: Path, error: OSError) -> Failure:
    return Failure(f'{path}: {os.strerror(error.errno or 0)}')


def _read(file: BinaryIO, first: int, count: int) -> bytes:
    """Some words of a file, until it ends, or fails after it has begun."""
    file.seek(first * 8)
    parts: List[bytes] = []
    wanted = count * 8
    while wanted:
        try:
            part = file.read(wanted)
        except OSError:
            if not parts:
                raise
            break
        if not part:
            break
        parts.append(part)
        wanted -= len(part)
    return b''.join(parts)


def _chunks(file: BinaryIO, start: int, end: int, swapped: bool
            ) -> Iterator[Tuple[int, bytes]]:
    """Pieces of pagemap in which something may be, by their addresses."""
    for first, last in scan_present(file.fileno(), start, end, swapped):
        for at in range(first, last, CHUNK * PAGE):
            pages = min(CHUNK, -(-(last - at) // PAGE))
            data = _read(file, at // PAGE, pages)
            if data.count(0) < len(data):
                yield at, data
            if len(data) < pages * 8:
                return


def _last_of_zones(zoneinfo: str) -> int:
    end, spanned = 0, 0
    for line in lines(zoneinfo):
        said = line.split()
        if said[:1] == ['spanned']:
            spanned = int(said[1])
        if said[:1] == ['start_pfn:'] and spanned:
            end = max(end, int(said[1]) + spanned - 1)
    return end


def unescaped(path: str) -> str:
    """A path in which the kernel writes some bytes as octal numbers."""
    return re.sub(r'\\([0-7]{3})', lambda match: chr(int(match[1], 8)), path)


_AREA = re.compile(r'([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ (\d+) *'
                   r'(.*)', re.DOTALL)


def areas_of(maps: str) -> List[Area]:
    """A /proc/PID/maps."""
    found = map(_AREA.fullmatch, lines(maps))
    return [Area(int(area[1], 16), int(area[2], 16), area[3],
                 int(area[4], 16), area[6], int(area[5]))
            for area in found if area]


def paths_of(cgroups: str) -> Dict[str, str]:
    """The paths in a /proc/PID/cgroup, by their controllers."""
    return {controllers: path for _, controllers, path in
            (line.split(':', 2) for line in lines(cgroups)
             if line.count(':') >= 2)}


def unit_of(cgroups: str) -> str:
    """The innermost unit of systemd in a /proc/PID/cgroup, else the path.

    Of the hierarchies of cgroup 1 systemd's has the units.
    """
    paths = paths_of(cgroups)
    path = paths.get('', '/')
    if path == '/':
        path = paths.get('name=systemd', path)
    units = [part for part in path.split('/')
             if part.endswith(('.service', '.scope', '.socket'))]
    if units:
        return units[-1]
    return path if path != '/' else ''
