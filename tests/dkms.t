#!/usr/bin/python3
"""DKMS builds, installs and removes the module; a guest runs what it made.

All of it happens in a kernel's root, with scratch directories where DKMS and
depmod write, so nothing of the host is touched and the root stays as it is.
"""

import hashlib
import lzma
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, Optional, Sequence, Set

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels, root  # noqa: E402
from rvtest.bench import (  # noqa: E402
    BENCH, TOP, initramfs_with, release)

# What DKMS makes for itself when it is used the first time.
_OWN = {'dkms/mok.key', 'dkms/mok.pub', 'dkms/dkms_dbversion'}


class System:
    """A root as a running system with that kernel, to install things on."""

    def __init__(self, series: str, scratch: Path) -> None:
        self.root = root(series)
        self.release = release(series)
        self.scratch = scratch
        self.modules = scratch / 'modules'
        self._binds: List[str] = []
        self._copy_modules()
        self._copy_sources()
        self._bind(scratch / 'dkms', '/var/lib/dkms')
        # make dkms-install asks for the running kernel
        self.fake('/usr/bin/uname', '#!/bin/sh\ncase $1 in -r) echo '
                  f'{self.release};; -s) echo Linux;; *) echo x86_64;; esac\n')

    def _bind(self, directory: Path, to: str) -> None:
        directory.mkdir(exist_ok=True)
        self._binds += ['--bind', str(directory), to]

    def _copy_modules(self) -> None:
        """/lib/modules, with the kernel's own modules read-only in it."""
        there = f'/usr/lib/modules/{self.release}'
        self._bind(self.modules, '/usr/lib/modules')
        copy = self.modules / self.release
        copy.mkdir()
        for entry in Path(f'{self.root}{there}').iterdir():
            if entry.is_symlink():
                (copy / entry.name).symlink_to(entry.readlink())
            elif entry.is_dir():
                self._binds += ['--ro-bind', str(entry),
                                f'{there}/{entry.name}']
            else:
                (copy / entry.name).write_bytes(entry.read_bytes())

    def _copy_sources(self) -> None:
        """/usr/src, with the headers read-only in it."""
        sources = self.scratch / 'src'
        self._bind(sources, '/usr/src')
        for entry in (self.root / 'usr/src').iterdir():
            if entry.is_symlink():
                (sources / entry.name).symlink_to(entry.readlink())
            else:
                self._binds += ['--ro-bind', str(entry),
                                f'/usr/src/{entry.name}']

    def fake(self, path: str, script: str) -> None:
        """Put a script in the place of a program."""
        file = self.scratch / Path(path).name
        file.write_text(script, encoding='ascii')
        file.chmod(0o755)
        self._binds += ['--ro-bind', str(file), path]

    def run(self, *command: str, options: Sequence[str] = ()
            ) -> 'subprocess.CompletedProcess[str]':
        """Run a command there, the checkout being /mnt."""
        return subprocess.run(
            [BENCH / 'in-root', self.root, *self._binds,
             '--ro-bind', TOP, '/mnt', *options, *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)

    def make(self, target: str, options: Sequence[str] = ()
             ) -> 'subprocess.CompletedProcess[str]':
        """Run make TARGET in the checkout."""
        return self.run('make', '--no-print-directory', '-C', '/mnt', target,
                        options=options)

    def status(self) -> str:
        """What DKMS says that it has of the module."""
        return self.run('dkms', 'status', 'rmapviz').stdout.strip()

    def files(self) -> Set[str]:
        """Every file that DKMS has a hand in."""
        return {str(path.relative_to(self.scratch))
                for name in ('modules', 'src', 'dkms')
                for path in (self.scratch / name).rglob('*')
                if not path.is_dir()} - _OWN

    def installed(self) -> Optional[Path]:
        """The module as modprobe would find it."""
        found = sorted(self.modules.glob(f'{self.release}/updates/**/'
                                         'rmapviz.ko*'))
        return found[0] if len(found) == 1 else None

    def modprobe_knows(self) -> bool:
        """depmod has it in its list."""
        dep = self.modules / self.release / 'modules.dep'
        return 'rmapviz.ko' in dep.read_text(encoding='ascii')


def version() -> str:
    """What dkms.conf says."""
    for line in (TOP / 'dkms.conf').read_text(encoding='ascii').splitlines():
        if line.startswith('PACKAGE_VERSION='):
            return line.split('"')[1]
    raise SystemExit('dkms.conf has no PACKAGE_VERSION')


def check_errors(tap: Tap, system: System) -> None:
    """Who cannot use DKMS is told why, in one line."""
    for options, message in (
            (['--uid', '1000'], 'must be root: sudo make {}'),
            (['--ro-bind', '/dev/null', '/usr/sbin/dkms'],
             'dkms is missing: apt-get install dkms')):
        for target in ('dkms-install', 'dkms-uninstall'):
            done = system.make(target, options)
            # bwrap remarks that there is another --uid
            lines = [line for line in done.stdout.splitlines()
                     if not line.startswith('bwrap: ')]
            expected = message.format(target)
            tap.ok(done.returncode and len(lines) == 1
                   and expected in lines[0],
                   f'make {target}: {expected}', done.stdout)


def check_command(tap: Tap, system: System, command: str, state: str,
                  *arguments: str) -> bool:
    """A command of dkms works, and then DKMS says that state."""
    done = system.run('dkms', command, f'rmapviz/{version()}', *arguments)
    return (tap.ok(done.returncode == 0, f'dkms {command}', done.stdout)
            and tap.is_equal(system.status(), state,
                             f'dkms status, after {command}'))


def check_install(tap: Tap, system: System) -> None:
    """It is installed by the commands of dkms, and anew by make."""
    name = f'rmapviz/{version()}'
    here = f'{name}, {system.release}, x86_64'
    this = ('-k', system.release)
    done = system.make('dkms-source')
    tap.ok(done.returncode == 0, 'make dkms-source', done.stdout)
    check_command(tap, system, 'add', f'{name}: added')
    check_command(tap, system, 'build', f'{here}: built', *this)
    check_command(tap, system, 'install', f'{here}: installed', *this)

    done = system.make('dkms-install')
    tap.ok(done.returncode == 0, 'make dkms-install', done.stdout)
    tap.is_equal(system.status(), f'{here}: installed', 'it is installed')
    tap.ok(system.modprobe_knows(), 'modprobe would find it')


def check_remove(tap: Tap, system: System) -> None:
    """The commands of dkms remove it."""
    here = f'rmapviz/{version()}, {system.release}, x86_64'
    check_command(tap, system, 'uninstall', f'{here}: built',
                  '-k', system.release)
    tap.ok(not system.installed() and not system.modprobe_knows(),
           'modprobe would not find it')
    check_command(tap, system, 'remove', '', '--all')


def check_exclusive(tap: Tap, system: System) -> None:
    """DKMS does not even try to build for a kernel out of the range."""
    for kernel in '5.10.0-32-cloud-amd64', '6.0.12-fake', '7.4.1-fake':
        fake = system.modules / kernel
        fake.mkdir()
        (fake / 'build').symlink_to(f'../{system.release}/build')
        done = system.run('dkms', 'build', f'rmapviz/{version()}',
                          '-k', kernel)
        (fake / 'build').unlink()
        fake.rmdir()
        tap.ok(done.returncode and 'BUILD_EXCLUSIVE' in done.stdout
               and kernel not in system.status(),
               f'it is not built for {kernel}', done.stdout)


def check_uninstall(tap: Tap, system: System, before: Set[str]) -> None:
    """make dkms-uninstall leaves nothing, however often it is run."""
    for time in 'once', 'again':
        done = system.make('dkms-uninstall')
        tap.ok(done.returncode == 0, f'make dkms-uninstall, {time}',
               done.stdout)
        tap.is_equal(sorted(system.files() ^ before), [],
                     f'nothing is left, {time}')
    tap.is_equal(system.status(), '', 'DKMS knows nothing of it')
    tap.ok(not system.modprobe_knows(), 'nor does modprobe')


def check_guest(tap: Tap, series: str, module: bytes, scratch: Path) -> None:
    """What DKMS made can be loaded and answers."""
    initramfs = initramfs_with(series, {'rmapviz.ko': module}, scratch)
    with Guest(series, extra_args=['-initrd', str(initramfs)]) as guest:
        tap.is_equal(guest.check('sha256sum /rmapviz.ko').split()[0],
                     hashlib.sha256(module).hexdigest(),
                     'the guest has the module that DKMS made')
        tap.is_equal(guest.run('cat /sys/module/rmapviz/version').output,
                     f'{version()}\n', 'it is loaded, and of this version')
        usage = guest.run('cat /sys/kernel/debug/rmapviz')
        tap.ok(usage.status == 0
               and usage.output.startswith(f'rmapviz {version()}: '),
               'it explains itself', usage.output)
        tap.is_equal(guest.kernel_complaints(), [],
                     'the kernel has nothing to complain of')


def check_series(tap: Tap, series: str, scratch: Path) -> None:
    """All of it for one kernel and the DKMS of its suite."""
    system = System(series, scratch)
    before = system.files()
    tap.note(system.run('dkms', '--version').stdout)
    check_errors(tap, system)
    check_install(tap, system)
    file = system.installed()
    if not tap.ok(file, 'there is one module, and it is where it belongs'):
        return
    assert file is not None
    module = file.read_bytes()
    if file.suffix == '.xz':
        module = lzma.decompress(module)
    check_guest(tap, series, module, scratch)
    check_exclusive(tap, system)
    check_remove(tap, system)
    check_uninstall(tap, system, before)


def main() -> None:
    """Run it all for every kernel."""
    with Tap() as tap:
        for series in kernels():
            tap.prefix = f'{series}: '
            with tempfile.TemporaryDirectory(prefix='rmapviz-dkms.') as name:
                check_series(tap, series, Path(name))


if __name__ == '__main__':
    main()
