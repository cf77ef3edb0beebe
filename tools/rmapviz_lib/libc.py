"""The few calls of the C library that Python has no names for."""

import os
from typing import List, Optional

from .failure import Failure

try:
    import ctypes
    import fcntl
except ImportError:     # python3-minimal of Debian has no ctypes
    ctypes = None       # type: ignore[assignment]

# System calls of x86-64, and an ioctl.
_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD, _FIONREAD = 434, 438, 0x541b


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
