"""Disks for guests: for a real page cache, for swap, and for slow reads."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import List, Optional, Type, Union

from .bench import is_debug

SIZE = 256 << 20


def mkfs(*arguments: Union[str, Path]) -> None:
    """Make a file system, without a journal."""
    # sbin is not in everybody's PATH
    program = shutil.which('mkfs.ext4') or '/sbin/mkfs.ext4'
    subprocess.run([program, '-q', '-O', '^has_journal', *arguments],
                   check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)


class Disks:
    """Image files that QEMU serves as /dev/vda, /dev/vdb and /dev/vdc.

    vda has a file system, vdb is for swap, and vdc does one request a second.
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

    def arguments(self, series: str = '') -> List[str]:
        """For QEMU; where the guest is slow, the slow disk is slower."""
        slow = ('throttling.bps-total=800' if is_debug(series) else
                'throttling.iops-total=1')
        found: List[str] = []
        for name, more in ('vda', ''), ('vdb', ''), ('vdc', f',{slow}'):
            found += ['-drive', f'if=virtio,format=raw,cache=unsafe,'
                                f'file={self._dir}/{name}{more}']
        return found


# What a guest with these disks runs first.
SETUP = ('insmod /lib/virtio_blk.ko; mkdir -p /mnt; '
         'mount -t ext4 /dev/vda /mnt; mkswap /dev/vdb >/dev/null; '
         'swapon /dev/vdb')
