"""Who may hold references to a page that no mapping explains.

The kernel counts references and does not write down whose they are.  So this
goes through /proc for what can hold some: pipes with something in them (after
vmsplice and splice), registered buffers of io_uring, devices that pin memory
for DMA, files open for direct I/O, sockets with something to send, loop
devices, swap.  What is shown by this to be about the page is `holds`, what
only could be is a `candidate`.
"""

import re
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, \
    Set, Tuple

from .libc import bytes_in_pipe
from .proc import Descriptor, Proc
from .report import Report, comm, mappings
from .words import count, hexa, kernel_name, plain, size

_O_DIRECT = 0o40000

# Devices through which memory is pinned for DMA.
_DMA_DEVICES = (
    (re.compile(r'/dev/vfio/|anon_inode:\[?vfio'), 'VFIO'),
    (re.compile(r'/dev/iommu$'), 'iommufd'),
    (re.compile(r'/dev/infiniband/|anon_inode:.*uverbs'), 'RDMA'),
    (re.compile(r'/dev/(dri|kfd|nvidia)'), 'a GPU'),
    (re.compile(r'/dev/video'), 'V4L2'),
    (re.compile(r'/dev/(vhost|vdpa)'), 'vhost'),
    (re.compile(r'/dev/udmabuf|^/dmabuf|anon_inode:.*dmabuf'), 'a dma-buf'),
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
        self._pipes: Dict[str, Optional[int]] = {}
        self._queues: Optional[Dict[str, int]] = None

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
        if 'io_uring' in file.target:
            return self._rings(pid, file)
        if file.target.startswith('pipe:') and self._extra:
            return self._of_pipe(pid, file)
        if file.target.startswith('socket:') and self._extra:
            return self._of_socket(file)
        if self._pinned:
            for pattern, name in _DMA_DEVICES:
                if pattern.search(file.target):
                    return [(False, 'dma', f'{name}: {plain(file.target)}, '
                             f'fd {file.number}')]
        return self._direct(pid, file)

    def _rings(self, pid: int, file: Descriptor
               ) -> Iterator[Tuple[bool, str, str]]:
        """Registered buffers of a ring, where fdinfo lists them."""
        buffers = ring_buffers(self._proc.fdinfo(pid, file.number))
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
            yield (False, 'io_uring', f'io_uring, fd {file.number}, without '
                   'registered buffers: a request under way')

    def _of_pipe(self, pid: int, file: Descriptor
                 ) -> Iterator[Tuple[bool, str, str]]:
        """A pipe, unless it is known to be empty."""
        if file.target not in self._pipes:
            self._pipes[file.target] = bytes_in_pipe(pid, file.number) \
                if self._proc.is_ours else None
        waiting = self._pipes[file.target]
        if waiting is None and pid in self._comms:
            yield False, 'pipe', f'{file.target}, which may have pages in it'
        elif waiting:
            yield (False, 'pipe',
                   f'{file.target} with {count(waiting, "byte")} in it')

    def _of_socket(self, file: Descriptor
                   ) -> Iterator[Tuple[bool, str, str]]:
        """A socket that has something to send."""
        if self._queues is None:
            self._queues = send_queues(self._proc)
        queued = self._queues.get(file.target)
        if queued:
            yield (False, 'socket', f'{file.target} with '
                   f'{count(queued, "byte")} to send')

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


def ring_buffers(fdinfo: str) -> List[Tuple[int, int, int]]:
    """Number, address and length of the registered buffers of io_uring."""
    _, _, rest = fdinfo.partition('UserBufs:')
    found = []
    for line in rest.splitlines()[1:]:
        match = re.match(r'\s*(\d+): (?:0x([0-9a-f]+)/(\d+)|<none>)\s*$',
                         line)
        if not match:
            break
        if match[2]:
            found.append((int(match[1]), int(match[2], 16), int(match[3])))
    return found


def send_queues(proc: Proc) -> Dict[str, int]:
    """Bytes that sockets have to send, by the name that an fd has."""
    found = {}
    for name in ('tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6'):
        for line in proc.text('net', name).splitlines()[1:]:
            field = line.split()
            queue = int(field[4].split(':')[0], 16)
            if queue:
                found[f'socket:[{field[9]}]'] = queue
    return found
