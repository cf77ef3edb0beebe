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

# System calls of x86-64, and ioctls.
_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 434, 438
_FIONREAD, _SIOCOUTQ = 0x541b, 0x5411
_SYS_KCMP, _KCMP_VM = 312, 1

# PAGEMAP_SCAN, 6.7 and later: _IOWR('f', 16, struct pm_scan_arg), which is 12
# words; a struct page_region is 3.
_PAGEMAP_SCAN, _ARGUMENT, _REGION = 0xc0606610, '12Q', '3Q'
_PAGE_IS_PRESENT, _PAGE_IS_SWAPPED, _REGIONS = 1 << 3, 1 << 4, 1024


def bytes_in_pipe(pid: int, number: int) -> Optional[int]:
    """What a process's pipe has; None where that cannot be known."""
    return _queued(pid, number, _FIONREAD)


def bytes_in_socket(pid: int, number: int) -> Optional[int]:
    """What a process's socket has to send and to be read, of any family and
    network namespace; None where that cannot be known.

    A socket of AF_UNIX counts the memory of what it has to send.
    """
    return _queued(pid, number, _SIOCOUTQ, _FIONREAD)


def _queued(pid: int, number: int, *requests: int) -> Optional[int]:
    """The sum of what ioctls say of a process's open file."""
    copy = _copy_of(pid, number)
    if copy is None:
        return None
    try:
        said = [_ioctl(copy, request) for request in requests]
    finally:
        os.close(copy)
    known = [queued for queued in said if queued is not None]
    return sum(known) if known else None


def _ioctl(descriptor: int, request: int) -> Optional[int]:
    """A number; None where there is none, as of a socket that listens."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, request, b'\0\0\0\0'),
                              'little')
    except OSError:
        return None


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


def memory_order(task: int, other: int) -> Optional[int]:
    """Which address space comes first, in an order of the kernel's own: less
    than 0, 0 if two tasks have the same, or more; None if that is not told,
    as of one that has exited."""
    if ctypes is None:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    said = libc.syscall(_SYS_KCMP, task, other, _KCMP_VM, 0, 0)
    return {0: 0, 1: -1, 2: 1}.get(said)


def scan_present(pagemap: int, start: int, end: int, swapped: bool = False
                 ) -> Iterator[Tuple[int, int]]:
    """The parts of a range that have pages, or also those that are swapped
    out, where the kernel can tell; else all of it."""
    if ctypes is None:
        yield start, end
        return
    wanted = _PAGE_IS_PRESENT | (_PAGE_IS_SWAPPED if swapped else 0)
    regions = ctypes.create_string_buffer(
        struct.calcsize(_REGION) * _REGIONS)
    while start < end:
        argument = bytearray(struct.pack(
            _ARGUMENT, struct.calcsize(_ARGUMENT), 0, start, end, 0,
            ctypes.addressof(regions), _REGIONS, 0, 0, 0, wanted, wanted))
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


# ------------------------------------------------ open files of processes --

_SOL_SOCKET, _SO_DOMAIN = 1, 39


def family_of_socket(pid: int, number: int) -> Optional[int]:
    """The family of a process's socket, such as AF_UNIX; None where that
    cannot be known."""
    copy = _copy_of(pid, number)
    if copy is None:
        return None
    family, length = ctypes.c_int(), ctypes.c_uint32(4)
    try:
        failed = ctypes.CDLL(None, use_errno=True).getsockopt(
            copy, _SOL_SOCKET, _SO_DOMAIN, ctypes.byref(family),
            ctypes.byref(length))
    finally:
        os.close(copy)
    return None if failed else family.value


def _copy_of(pid: int, number: int) -> Optional[int]:
    """A descriptor for a process's open file; None where there can be none.

    pidfd_getfd() gives the same open file: to open /proc/PID/fd/N would make
    another end of a pipe for a moment, which others may notice.
    """
    if ctypes is None:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = libc.syscall(_SYS_PIDFD_OPEN, pid, 0)
    if pidfd < 0:
        return None
    copy = libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
    os.close(pidfd)
    return int(copy) if copy >= 0 else None
