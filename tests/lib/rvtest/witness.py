"""drgn on a dump of a guest: a witness that shares no code with the module."""

import base64
import json
import subprocess
from pathlib import Path
from typing import List, Sequence

from .vm import TOP, VM, is_debug, made
from .disk import mkfs_of
from .guest import Guest
from .report import Report


def vmlinux(series: str) -> Path:
    """The debug information of exactly that kernel."""
    return made('vmlinux', series)


def drgn_root(suite: str = 'forky') -> Path:
    """A Debian root with the drgn of that suite."""
    return made('tool-root', 'drgn', suite)


def prepare(guest: Guest) -> None:
    """Let the guest's kernel tell QEMU what a dump must say about it."""
    guest.check('test -d /sys/firmware/qemu_fw_cfg || '
                'insmod /lib/qemu_fw_cfg.ko')


def dump(guest: Guest, *paths: Path) -> None:
    """Stop the guest, write all its memory to files, and let it go on.

    With paging, QEMU tells in the file what the kernel maps where, which an
    old drgn does not find out by itself.  Of the terabytes that KASAN maps it
    would not come to an end.
    """
    paging = not is_debug(guest.series)
    guest.qmp('stop')
    try:
        for path in paths:
            guest.qmp('dump-guest-memory', paging=paging,
                      protocol=f'file:{path}')
    finally:
        guest.qmp('cont')


def drgn_dump(series: str, vmcore: Path, arguments: Sequence[str],
              suite: str = 'forky') -> List[Report]:
    """What tools/drgn_dump.py finds in a dump: one report a question."""
    done = subprocess.run(
        [VM / 'in-root', drgn_root(suite),
         '--ro-bind', TOP / 'tools', '/src', '--ro-bind', vmcore, '/tmp/core',
         '--ro-bind', vmlinux(series), '/tmp/vmlinux',
         '--setenv', 'PYTHONDONTWRITEBYTECODE', '1',
         'drgn', '--quiet', '--core', '/tmp/core', '--no-default-symbols',
         '--symbols', '/tmp/vmlinux', '/src/drgn_dump.py', *arguments],
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f'drgn_dump.py: status {done.returncode}\n'
                           + done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _disk(directory: Path, image: Path) -> str:
    """An image with what is in a directory, as an argument for QEMU."""
    mkfs_of(directory, image)
    return f'if=virtio,format=raw,cache=unsafe,file={image}'


def live_disks(series: str, directory: Path) -> List[str]:
    """Arguments for a guest in which drgn is to run, with two disks more."""
    return ['-drive', _disk(drgn_root(), directory / 'drgn'),
            '-drive', _disk(vmlinux(series).parent, directory / 'symbols')]


def drgn_live(guest: Guest, arguments: str) -> List[Report]:
    """What tools/drgn_dump.py finds in a guest that has those two disks."""
    root = '/tmp/drgn'
    guest.check(f'insmod /lib/virtio_blk.ko; mkdir -p {root}; '
                f'mount -o ro -t ext4 /dev/vda {root}; '
                f'mount -o ro -t ext4 /dev/vdb {root}/mnt; '
                f'mount -t proc proc {root}/proc; '
                f'mount -t sysfs sys {root}/sys; '
                f'mount -t tmpfs src {root}/src')
    script = base64.b64encode((TOP / 'tools' / 'drgn_dump.py').read_bytes())
    for i in range(0, len(script), 8192):
        guest.check(f'echo {script[i:i + 8192].decode()} >>/tmp/script')
    guest.check(f'base64 -d </tmp/script >{root}/src/drgn_dump.py')
    answer = guest.check(
        f'PYTHONDONTWRITEBYTECODE=1 chroot {root} /usr/bin/drgn --quiet '
        '--kernel --no-default-symbols --symbols /mnt/vmlinux '
        f'/src/drgn_dump.py {arguments}', 600)
    return [json.loads(line) for line in answer.splitlines()
            if line.startswith('{')]
