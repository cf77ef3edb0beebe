"""Who may hold references to a page that no mapping explains.

The kernel counts references and does not write down whose they are.  So this
goes through /proc for what can hold some: pipes with something in them (after
vmsplice and splice), registered buffers of io_uring, devices and sockets that
pin memory for DMA, files open for direct I/O, sockets with something in them
(after sendfile), loop devices, swap.  What is shown by this to be about the
page is `holds`, what only could be is a `candidate`.
"""

import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, \
    NamedTuple, Optional, Set, Tuple

from .libc import bytes_in_pipe, bytes_in_socket, family_of_socket
from .proc import Descriptor, Proc
from .report import Report, comm, mappings
from .words import count, hexa, kernel_name, plain, size

_O_DIRECT = 0o40000

# What an open file is called that is a ring; a path can have that in it, too.
_RING = 'anon_inode:[io_uring]'

# A socket whose memory (UMEM) is pinned, for a network card to write to it.
_AF_XDP = 44

# Devices through which memory is pinned for DMA.
_DMA_DEVICES = (
    (re.compile(r'/dev/vfio/|anon_inode:\[?vfio'), 'VFIO'),
    (re.compile(r'/dev/iommu$'), 'iommufd'),
    (re.compile(r'/dev/infiniband/|anon_inode:.*uverbs'), 'RDMA'),
    (re.compile(r'/dev/(dri|kfd|nvidia)'), 'a GPU'),
    (re.compile(r'/dev/video'), 'V4L2'),
    (re.compile(r'/dev/(vhost|vdpa)'), 'vhost'),
    (re.compile(r'/dev/udmabuf|/dmabuf:|anon_inode:.*dmabuf'), 'a dma-buf'),
)


class Holder(NamedTuple):
    """Somebody who holds references, or could."""

    sure: bool          # shown to be about this page
    near: bool          # maps it, or is of the same family
    pid: int            # 0 where it is no process
    comm: str
    how: str            # pipe, io_uring, dma, direct, socket, loop, swap
    text: str

    def as_json(self) -> Dict[str, Any]:
        """For programs."""
        return {'certainty': 'holds' if self.sure else 'candidate',
                'maps_or_related': self.near, 'pid': self.pid or None,
                'comm': self.comm or None, 'how': self.how,
                'text': self.text}


def find(report: Report, proc: Proc) -> List[Holder]:
    """Those of a page: the surest and nearest first.

    Where one is sure, others that are far from the page are left out.
    """
    page = report['page']
    pinned, extra = page['dma_pins'] or 0, page['extra_refs'] or 0
    if pinned <= 0 and extra <= 0:
        return []
    found = list(_of_files(report, proc))
    search = _Search(report, proc, pinned > 0, extra > 0)
    for pid in proc.pids():
        found += search.of_process(pid)
    found.sort(key=lambda holder: (not holder.sure, not holder.near))
    if any(holder.sure or holder.near for holder in found):
        found = [holder for holder in found if holder.sure or holder.near]
    return found


def _of_files(report: Report, proc: Proc) -> Iterator[Holder]:
    """Loop devices of the page's file, and swap to it."""
    path = report['page']['file']
    if not path:
        return
    path = kernel_name(path)
    for device, backing in proc.backing_files().items():
        if plain(backing) == path:
            yield Holder(False, True, 0, '', 'loop',
                         f'/dev/{device}, which is backed by this file')
    if path in map(plain, proc.swaps()):
        yield Holder(False, True, 0, '', 'swap', 'swap, which is this file')


class _Search:
    """One page, looked for in one process after the other."""

    def __init__(self, report: Report, proc: Proc, pinned: bool,
                 extra: bool) -> None:
        self._proc = proc
        self._pinned, self._extra = pinned, extra
        self._places: Dict[int, Set[int]] = {}
        for pid, address in mappings(report):
            self._places.setdefault(pid, set()).add(address)
        self._comms = {pid: comm(mm) for mm in report['mms']
                       for pid in mm['tasks']}
        self._said: Dict[Tuple[str, str], Optional[int]] = {}

    def of_process(self, pid: int) -> Iterator[Holder]:
        """What one process has open that could hold the page."""
        seen = set()
        for descriptor in self._proc.descriptors(pid):
            for sure, how, text in self._of_file(pid, descriptor):
                if (how, text) not in seen:
                    seen.add((how, text))
                    name = self._comms.get(pid) \
                        or plain(self._proc.comm(pid))
                    yield Holder(sure, pid in self._comms, pid, name, how,
                                 text)

    def _of_file(self, pid: int, file: Descriptor
                 ) -> Iterable[Tuple[bool, str, str]]:
        if file.target == _RING:
            return self._rings(pid, file)
        if file.target.startswith('pipe:') and self._extra:
            return self._of_queue(pid, file, 'pipe', bytes_in_pipe)
        if file.target.startswith('socket:'):
            return self._of_socket(pid, file)
        if self._pinned:
            for pattern, name in _DMA_DEVICES:
                if pattern.match(file.target):
                    return [(False, 'dma', f'{name}: {plain(file.target)}, '
                             f'fd {file.number}')]
        return self._direct(pid, file)

    def _rings(self, pid: int, file: Descriptor
               ) -> Iterator[Tuple[bool, str, str]]:
        """Registered buffers of a ring, where fdinfo lists them."""
        listed = ring_buffers(self._proc.fdinfo(pid, file.number))
        buffers = listed or []
        for index, start, length in buffers:
            places = sorted(address for address in self._places.get(pid, ())
                            if start - 4095 <= address < start + length)
            what = (f'registered buffer {index} of io_uring, fd '
                    f'{file.number}: {size(length)} at {hexa(start)}')
            if places:
                yield (self._pinned, 'io_uring',
                       f'{what}, with the page at {hexa(places[0])}')
            elif self._pinned:
                yield False, 'io_uring', what
        if not buffers and pid in self._comms:
            what = 'which did not tell its registered buffers, for it is busy'\
                if listed is None else \
                'without registered buffers: a request under way'
            yield (False, 'io_uring', f'io_uring, fd {file.number}, {what}')

    def _asked(self, pid: int, file: Descriptor,
               ask: Callable[[int, int], Optional[int]]) -> Optional[int]:
        """What a pipe or socket says, which several processes may share; None
        where that cannot be known."""
        key = file.target, ask.__name__
        if key not in self._said:
            self._said[key] = ask(pid, file.number) \
                if self._proc.is_ours else None
        return self._said[key]

    def _of_queue(self, pid: int, file: Descriptor, how: str,
                  ask: Callable[[int, int], Optional[int]]
                  ) -> Iterator[Tuple[bool, str, str]]:
        """A pipe or socket, unless it is known to be empty."""
        waiting = self._asked(pid, file, ask)
        if waiting is None and pid in self._comms:
            yield False, how, f'{file.target}, which may have pages in it'
        elif waiting:
            yield (False, how,
                   f'{file.target} with {count(waiting, "byte")} in it')

    def _of_socket(self, pid: int, file: Descriptor
                   ) -> Iterator[Tuple[bool, str, str]]:
        """A socket that has something to send, or to be read, or whose memory
        is pinned."""
        if self._pinned and self._asked(pid, file,
                                        family_of_socket) == _AF_XDP:
            yield (False, 'dma', f'AF_XDP: {file.target}, fd {file.number}')
        if self._extra:
            yield from self._of_queue(pid, file, 'socket', bytes_in_socket)

    def _direct(self, pid: int, file: Descriptor
                ) -> Iterator[Tuple[bool, str, str]]:
        """A file open for direct I/O, by who maps the page."""
        if pid not in self._comms or not file.target.startswith('/'):
            return
        flags = re.search(r'^flags:\s*([0-7]+)',
                          self._proc.fdinfo(pid, file.number), re.MULTILINE)
        if flags and int(flags[1], 8) & _O_DIRECT:
            yield (False, 'direct', 'direct I/O on '
                   f'{plain(file.target)}, fd {file.number}')


def ring_buffers(fdinfo: str) -> Optional[List[Tuple[int, int, int]]]:
    """Number, address and length of the registered buffers of io_uring; None
    where the kernel does not list them, as of a ring that is in use just now.

    Names of files come before them, on 5.10 as they are: so what counts is the
    last line that could be the title.
    """
    _, title, rest = f'\n{fdinfo}'.rpartition('\nUserBufs:\t')
    wanted, *lines = rest.splitlines() or ['']
    if not title or not wanted.isdecimal() or len(lines) < int(wanted):
        return None
    found = []
    for line in lines[:int(wanted)]:
        match = re.fullmatch(r'\s*(\d+): (?:0x([0-9a-f]+)/(\d+)|<none>)', line)
        if not match:
            return None
        if match[2]:
            found.append((int(match[1]), int(match[2], 16), int(match[3])))
    return found
