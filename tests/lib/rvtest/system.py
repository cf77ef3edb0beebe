"""A kernel's root as a system to install things on, by DKMS or dpkg.

Scratch directories are where those programs write, so nothing of the host is
touched and the root stays as it is.
"""

import lzma
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import List, Optional, Sequence, Set

from .vm import TOP, VM, is_debug, kernels, release, root, suites

# What DKMS makes for itself when it is used the first time.
_OWN = {'dkms/mok.key', 'dkms/mok.pub', 'dkms/dkms_dbversion'}

# Which files of a kernel's headers know its name.
_NAMED = ('Makefile', '.kernelvariables', 'include/generated/utsrelease.h',
          'include/config/kernel.release')


@lru_cache(maxsize=None)
def version() -> str:
    """What dkms.conf says."""
    for line in (TOP / 'dkms.conf').read_text(encoding='ascii').splitlines():
        if line.startswith('PACKAGE_VERSION='):
            return line.split('"')[1]
    raise SystemExit('dkms.conf has no PACKAGE_VERSION')


class System:
    """A root as a running system with that kernel."""

    def __init__(self, series: str, scratch: Path, var: bool = False
                 ) -> None:
        """With var, all of /var can be written to, as dpkg wants it."""
        self.root = root(series)
        self.series = series
        self.release = release(series)
        self.scratch = scratch
        self.modules = scratch / 'modules'
        self._binds: List[str] = []
        if var:
            shutil.copytree(self.root / 'var', scratch / 'var', symlinks=True)
            self.bind(scratch / 'var', '/var')
        self._copy_modules()
        self._copy_sources()
        self.bind(scratch / 'dkms', '/var/lib/dkms')
        # make dkms-install and packages ask for the running kernel
        self.fake('/bin/uname', '#!/bin/sh\ncase $1 in -r) echo '
                  f'{self.release};; -s) echo Linux;; *) echo x86_64;; esac\n')
        self.dkms_version = re.sub('^[^0-9]*', '',
                                   self.run('dkms', '--version').stdout
                                   ).strip()

    def bind(self, directory: Path, to: str) -> None:
        """Give it a place to write."""
        directory.mkdir(exist_ok=True)
        self._binds += ['--bind', str(directory), to]

    def show(self, path: Path, to: str) -> None:
        """Let it see a file or directory."""
        self._binds += ['--ro-bind', str(path), to]

    def _copy_modules(self) -> None:
        """/lib/modules, with the kernel's own modules read-only in it."""
        there = f'/lib/modules/{self.release}'
        self.bind(self.modules, '/lib/modules')
        copy = self.modules / self.release
        copy.mkdir()
        for entry in Path(f'{self.root}{there}').iterdir():
            if entry.is_symlink():
                (copy / entry.name).symlink_to(entry.readlink())
            elif entry.is_dir():
                self.show(entry, f'{there}/{entry.name}')
            elif not entry.name.startswith('vmlinuz'):
                (copy / entry.name).write_bytes(entry.read_bytes())

    def _copy_sources(self) -> None:
        """/usr/src, with the headers read-only in it."""
        sources = self.scratch / 'src'
        self.bind(sources, '/usr/src')
        for entry in (self.root / 'usr/src').iterdir():
            if entry.is_symlink():
                (sources / entry.name).symlink_to(entry.readlink())
            else:
                self.show(entry, f'/usr/src/{entry.name}')

    # ------------------------------------------------- a second kernel --

    def add_kernel(self) -> str:
        """Another kernel to build for; what uname -r would say there.

        It is one of those to test with if it is of the same suite, for that
        has the right compiler, or else the same one by another name.
        """
        partners = [other for other in kernels() if other != self.series
                    and suites(other)[0] == suites(self.series)[0]
                    and not is_debug(other)]
        if partners:
            kernel = release(partners[0])
            self._bring_headers(root(partners[0]))
        else:
            kernel = f'{self.release}-next'
            self._rename_headers(kernel)
        modules = self.modules / kernel
        modules.mkdir()
        (modules / 'build').symlink_to(f'/usr/src/linux-headers-{kernel}')
        # DKMS takes a kernel without any module for one that was removed
        own = self.root / 'lib/modules' / self.release / 'kernel'
        for path in sorted(own.rglob('*.ko*'))[:1]:
            shutil.copy(path, modules)
        self.run('depmod', kernel)
        return kernel

    def _bring_headers(self, other: Path) -> None:
        """The headers of another root.

        They link to that root's /usr/lib, so every entry for itself.
        """
        for directory in (other / 'usr/src').glob('linux-headers-*'):
            for entry in directory.iterdir():
                self.show(entry.resolve(),
                          f'/usr/src/{directory.name}/{entry.name}')

    def _rename_headers(self, kernel: str) -> None:
        """The headers of the system's own kernel as those of another."""
        link = self.modules / self.release / 'build'
        headers = self.root / 'usr/src' / link.readlink().name
        there = f'/usr/src/linux-headers-{kernel}'
        self.show(headers, there)
        for name in _NAMED:
            if (headers / name).is_file():
                file = self.scratch / f'next-{Path(name).name}'
                text = (headers / name).read_text(encoding='ascii')
                file.write_text(text.replace(self.release, kernel))
                self.show(file, f'{there}/{name}')

    # ---------------------------------------------------- what it does --

    def fake(self, path: str, text: str) -> None:
        """Put a script, or a file of settings, in the place of another."""
        file = self.scratch / Path(path).name
        file.write_text(text, encoding='ascii')
        file.chmod(0o755)
        self.show(file, path)

    def run(self, *command: str, options: Sequence[str] = ()
            ) -> 'subprocess.CompletedProcess[str]':
        """Run a command there, the checkout being /mnt."""
        return subprocess.run(
            [VM / 'in-root', self.root, *self._binds,
             '--ro-bind', TOP, '/mnt', *options, *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)

    def make(self, target: str, options: Sequence[str] = ()
             ) -> 'subprocess.CompletedProcess[str]':
        """Run make TARGET in the checkout."""
        return self.run('make', '--no-print-directory', '-C', '/mnt', target,
                        options=options)

    # ----------------------------------------------------- what it has --

    def status(self) -> List[str]:
        """What DKMS says that it has of the module, as DKMS 3 says it."""
        lines = self.run('dkms', 'status', '-m', 'rmapviz').stdout.strip()
        return sorted(re.sub('^rmapviz, ', 'rmapviz/', line)
                      for line in lines.splitlines())

    def files(self) -> Set[str]:
        """Every file that DKMS has a hand in."""
        return {str(path.relative_to(self.scratch))
                for name in ('modules', 'src', 'dkms')
                for path in (self.scratch / name).rglob('*')
                if not path.is_dir()} - _OWN

    def modinfo(self, field: str, kernel: Optional[str] = None) -> str:
        """A field of the module as modprobe would find it; '' without one."""
        done = self.run('modinfo', '-k', kernel or self.release, '-F', field,
                        'rmapviz')
        return done.stdout.strip() if done.returncode == 0 else ''

    def installed(self) -> Optional[bytes]:
        """The module as modprobe would find it."""
        found = self.modinfo('filename').split('/lib/modules/')
        if len(found) != 2:
            return None
        module = (self.modules / found[1]).read_bytes()
        return lzma.decompress(module) if found[1].endswith('.xz') else module
