"""drgn on a dump of a guest: a witness that shares no code with the module."""

import base64
import subprocess
from pathlib import Path
from typing import List, Sequence

from .vm import TOP, VM, Unavailable, is_debug, kernels, made, named
from .disk import mkfs_of
from .guest import Guest
from .report import Report, parse


# Whose drgn knows the newest kernels, and whose is the oldest supported.
NEW_SUITE, OLD_SUITE = 'forky', 'bookworm'


def vmlinux(series: str) -> Path:
    """The debug information of exactly that kernel."""
    return made('vmlinux', series)


def drgn_root(suite: str = NEW_SUITE) -> Path:
    """A Debian root with the drgn of that suite."""
    return made('tool-root', 'drgn', suite)


def has_symbols(series: str) -> bool:
    """Whether there is debug information of that kernel."""
    try:
        vmlinux(series)
    except Unavailable:
        return False
    return True


def ends(asked: Sequence[str]) -> List[str]:
    """Of some kernels those to compare with drgn, which takes long.

    The oldest and the newest that have debug information, unless KERNEL names
    them; if none has it, one that says so.
    """
    order = [series for series in kernels() if series in asked]
    if named():
        return order
    oldest = next(filter(has_symbols, order), order[0])
    newest = next(filter(has_symbols, order[::-1]), order[0])
    return [oldest, newest]


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


def in_drgn_root(suite: str, *words: object
                 ) -> 'subprocess.CompletedProcess[str]':
    """Run a command in the root of a drgn; tools/ is in /src there."""
    return subprocess.run(
        [VM / 'in-root', drgn_root(suite), '--ro-bind', TOP / 'tools', '/src',
         '--setenv', 'PYTHONDONTWRITEBYTECODE', '1', *map(str, words)],
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)


def run_drgn(series: str, vmcore: Path, arguments: Sequence[str],
             suite: str = NEW_SUITE, symbols: bool = True
             ) -> 'subprocess.CompletedProcess[str]':
    """Run tools/drgn_dump.py on a dump; without symbols, it cannot do much."""
    where = ['--ro-bind', vmlinux(series), '/tmp/vmlinux'] if symbols else []
    give = ['--symbols', '/tmp/vmlinux'] if symbols else []
    return in_drgn_root(
        suite, '--ro-bind', vmcore, '/tmp/core', *where, 'drgn', '--quiet',
        '--core', '/tmp/core', '--no-default-symbols', *give,
        '/src/drgn_dump.py', *arguments)


def drgn_dump(series: str, vmcore: Path, arguments: Sequence[str],
              suite: str = NEW_SUITE) -> List[str]:
    """What tools/drgn_dump.py finds in a dump: a line of JSON a question.

    A question that has no answer has a line, too, which is no report.
    """
    done = run_drgn(series, vmcore, arguments, suite)
    lines = done.stdout.splitlines()
    if done.returncode not in (0, 2) or done.returncode and not lines:
        raise RuntimeError(f'drgn_dump.py: status {done.returncode}\n'
                           + done.stderr)
    return lines


def _disk(directory: Path, image: Path) -> str:
    """An image with what is in a directory, as an argument for QEMU."""
    mkfs_of(directory, image)
    return f'if=virtio,format=raw,cache=unsafe,file={image}'


def live_disks(series: str, directory: Path) -> List[str]:
    """Arguments for a guest in which drgn is to run, with two disks more."""
    return ['-drive', _disk(drgn_root(), directory / 'drgn'),
            '-drive', _disk(vmlinux(series).parent, directory / 'symbols')]


def mount_live_disks(guest: Guest) -> None:
    """So that live_command() can be run in a guest that has them."""
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


def live_command(arguments: str) -> str:
    """tools/drgn_dump.py there, about the kernel that runs."""
    return ('PYTHONDONTWRITEBYTECODE=1 chroot /tmp/drgn /usr/bin/drgn --quiet '
            '--kernel --no-default-symbols --symbols /mnt/vmlinux '
            f'/src/drgn_dump.py {arguments}')


def drgn_live(guest: Guest, arguments: str) -> Report:
    """What it answers to a question in a guest that has those two disks."""
    mount_live_disks(guest)
    return parse(guest.check(live_command(arguments), 600))
