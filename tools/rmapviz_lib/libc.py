"""The few calls of the C library that Python has no names for."""

import os
import struct
from typing import Iterator, List, Optional, Tuple

from .failure import Failure

try:
    import ctypes
    import fcntl
except ImportError:     # python3-minimal of Debian has no ctypes
    ctypes = None       # type: ignore[assignment]

# System calls of x86-64, and an ioctl.
_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD, _FIONREAD = 434, 438, 0x541b
_SYS_KCMP, _KCMP_VM = 312, 1

# PAGEMAP_SCAN, 6.7 and later: _IOWR('f', 16, struct pm_scan_arg), which is 12
# words; a struct page_region is 3.
_PAGEMAP_SCAN, _ARGUMENT, _REGION = 0xc0606610, '12Q', '3Q'
_PAGE_IS_PRESENT, _REGIONS = 1 << 3, 1024


def bytes_in_pipe(pid: int, number: int) -> Optional[int]:
    """What a process's pipe has; None where that cannot be known.

    pidfd_getfd() gives the same open file: to open /proc/PID/fd/N would make
    another end of the pipe for a moment, which others may notice.
    """
    if ctypes is None:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = libc.syscall(_SYS_PIDFD_OPEN, pid, 0)
    if pidfd < 0:
        return None
    copy = libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
    os.close(pidfd)
    if copy < 0:
        return None
    try:
        return int.from_bytes(fcntl.ioctl(copy, _FIONREAD, b'\0\0\0\0'),
                              'little')
    except OSError:
        return None
    finally:
        os.close(copy)


def resident(address: int, length: int) -> List[bool]:
    """Whether each page of a mapping is in memory, by mincore()."""
    if ctypes is None:
        raise Failure('pages of files take a python3 with ctypes: sudo '
                      'apt-get install python3')
    found = (ctypes.c_ubyte * -(-length // 4096))()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(length), found):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return [bool(byte & 1) for byte in found]


def same_memory(pid: int, other: int) -> bool:
    """Whether two processes have one address space, by kcmp()."""
    if ctypes is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(_SYS_KCMP, pid, other, _KCMP_VM, 0, 0) == 0)


def scan_present(pagemap: int, start: int, end: int
                 ) -> Iterator[Tuple[int, int]]:
    """The parts of an area that have pages, where the kernel can tell; else
    all of it."""
    if ctypes is None:
        yield start, end
        return
    regions = ctypes.create_string_buffer(
        struct.calcsize(_REGION) * _REGIONS)
    while start < end:
        argument = bytearray(struct.pack(
            _ARGUMENT, struct.calcsize(_ARGUMENT), 0, start, end, 0,
            ctypes.addressof(regions), _REGIONS, 0, 0, _PAGE_IS_PRESENT, 0,
            _PAGE_IS_PRESENT))
        try:
            number = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument)
        except OSError:
            yield start, end    # an older kernel, or it is not told
            return
        for i in range(number):
            first, last, _ = struct.unpack_from(
                _REGION, regions, i * struct.calcsize(_REGION))
            yield first, last
        start = max(start + 4096, struct.unpack(_ARGUMENT, argument)[4])
