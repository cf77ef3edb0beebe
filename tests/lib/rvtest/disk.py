"""Disks for guests: a real page cache, swap, and one that can be stopped."""

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Iterator, List, Optional, Type, Union

from .guest import Guest

SIZE = 256 << 20


def mkfs(*arguments: Union[str, Path]) -> None:
    """Make a file system, without a journal."""
    # sbin is not in everybody's PATH; what belongs to us belongs to root there
    program = shutil.which('mkfs.ext4') or '/sbin/mkfs.ext4'
    subprocess.run(['unshare', '--map-root-user', program,
                    '-q', '-O', '^has_journal', *arguments],
                   check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)


def mkfs_of(directory: Path, image: Path) -> None:
    """Make a file system with what is in a directory, and some room."""
    used = subprocess.run(['du', '-smD', directory], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.split()[0]
    mkfs('-b', '4096', '-d', directory, image, f'{int(used) * 5 // 4 + 64}M')


class Disks:
    """Image files that QEMU serves as /dev/vda, /dev/vdb and /dev/vdc.

    vda has a file system, vdb is for swap, and vdc can be told to wait.
    A context manager: they are gone with it.
    """

    def __init__(self) -> None:
        self._dir = Path(tempfile.mkdtemp(prefix='rmapviz-disk.'))
        for name in ('vda', 'vdb', 'vdc'):
            with open(self._dir / name, 'wb') as image:
                image.truncate(SIZE)
        mkfs('-b', '4096', '-E', 'lazy_itable_init=1', self._dir / 'vda')

    def __enter__(self) -> 'Disks':
        return self

    def __exit__(self, kind: Optional[Type[BaseException]],
                 error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        shutil.rmtree(self._dir, ignore_errors=True)

    def arguments(self) -> List[str]:
        """For QEMU."""
        plain = 'file.filename'
        breakable = 'file.driver=blkdebug,file.image.filename'
        found: List[str] = []
        for name, file in ('vda', plain), ('vdb', plain), ('vdc', breakable):
            found += ['-drive', f'if=virtio,id={name},format=raw,'
                                f'cache=unsafe,{file}={self._dir}/{name}']
        return found


@contextmanager
def disk_waits(guest: Guest, what: str) -> Iterator[None]:
    """The next read or write of vdc takes until this is left."""
    _tell(guest, f'break {what}_aio held')
    try:
        yield
    finally:
        if not guest.broken:
            _tell(guest, 'remove_break held')


def _tell(guest: Guest, command: str) -> None:
    guest.qmp('human-monitor-command',
              **{'command-line': f'qemu-io vdc "{command}"'})


@contextmanager
def impatient_writeback(guest: Guest) -> Iterator[None]:
    """What is dirty is written at once, until this is left."""
    names = ('dirty_expire_centisecs', 'dirty_writeback_centisecs')
    files = [f'/proc/sys/vm/{name}' for name in names]
    usual = guest.check(f"cat {' '.join(files)}").split()
    try:
        guest.check('; '.join(f'echo 1 >{file}' for file in files))
        yield
    finally:
        guest.undo('; '.join(f'echo {value} >{file}'
                             for value, file in zip(usual, files)))


# What a guest with these disks runs first.
SETUP = ('insmod /lib/virtio_blk.ko; mkdir -p /mnt; '
         'mount -t ext4 /dev/vda /mnt; mkswap /dev/vdb >/dev/null; '
         'swapon /dev/vdb')
