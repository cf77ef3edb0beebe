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
from typing import (Callable, Dict, List, NamedTuple, Sequence, Set, Tuple)

import pytest

from .vm import TOP, VM, is_debug, kernels, release, root, suites

# What DKMS makes for itself when it is used the first time.
_OWN = {'dkms/mok.key', 'dkms/mok.pub', 'dkms/dkms_dbversion'}

# What dpkg and debconf write to whatever they do.
BOOKS = re.compile(r'var/(log|cache/debconf|lib/dpkg/(lock|triggers|info$'
                   r'|updates$|[a-z]+-old$|available$))')

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


def skip_unless_packaged(series: str) -> None:
    """Skip a test of what DKMS does for a kernel that no package brought.

    DKMS looks for its headers where a package has them, and for modules that
    came with it.
    """
    if is_debug(series):
        pytest.skip('DKMS is for kernels that come as packages')


Done = subprocess.CompletedProcess[str]


class System:
    """A root as a running system with that kernel."""

    def __init__(self, series: str, scratch: Path, dpkg: bool = False
                 ) -> None:
        """With dpkg, it can write wherever a package of ours has files."""
        self.root = root(series)
        self.series = series
        self.release = release(series)
        self.kernels = [self.release]
        self.scratch = scratch
        self.modules = scratch / 'modules'
        self._binds: List[str] = []
        for name, path in (('var', 'var'), ('share', 'usr/share')):
            if dpkg:
                shutil.copytree(self.root / path, scratch / name,
                                symlinks=True)
                self.bind(scratch / name, f'/{path}')
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
        self.kernels.append(kernel)
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
            ) -> Done:
        """Run a command there, the checkout being /mnt."""
        return subprocess.run(
            [VM / 'in-root', self.root, *self._binds,
             '--ro-bind', TOP, '/mnt', *options, *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)

    def make(self, target: str, options: Sequence[str] = ()
             ) -> Done:
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
        """Every file and directory that DKMS or a package has a hand in."""
        there = {str(path.relative_to(self.scratch))
                 for name in ('modules', 'src', 'dkms', 'var', 'share')
                 for path in (self.scratch / name).rglob('*')}
        return {name for name in there - _OWN if not BOOKS.match(name)}

    def modinfo(self, kernel: str) -> Dict[str, str]:
        """The module as modprobe would find it; nothing without one."""
        done = self.run('modinfo', '-k', kernel, 'rmapviz')
        if done.returncode:
            return {}
        return {field: value.strip() for field, _, value in
                (line.partition(':') for line in done.stdout.splitlines())}

    def content(self, filename: str) -> bytes:
        """A module that modinfo has found."""
        module = (self.modules / filename.split('/lib/modules/')[1]
                  ).read_bytes()
        return lzma.decompress(module) if filename.endswith('.xz') else module

    def package(self) -> str:
        """What dpkg says of the package."""
        done = self.run('dpkg-query', '-W', '-f',
                        '${db:Status-Status} ${Version}', 'rmapviz-dkms')
        return done.stdout if done.returncode == 0 else 'unknown'

    def look(self) -> 'Seen':
        """What there is now."""
        modules = {kernel: self.modinfo(kernel) for kernel in self.kernels}
        own = modules[self.release]
        return Seen(self.package(), self.status(), modules,
                    self.content(own['filename']) if own else b'',
                    self.files())


# ------------------------------------------------------------- step by step --

class Seen(NamedTuple):
    """What a system has of the module."""

    package: str
    dkms: List[str]
    modinfo: Dict[str, Dict[str, str]]      # by kernel
    module: bytes       # that of the system's own kernel; empty without one
    files: Set[str]


class Step(NamedTuple):
    """Something that is done to a system, and whether it is to fail."""

    act: Callable[[], Done]
    fails: bool = False


class Journey:
    """Steps one after another; what each did, and what was there after it.

    A step is taken when a test asks for it or for a later one.  What comes
    after a step that did not end as it should is skipped.
    """

    def __init__(self, system: System, steps: Dict[str, Step]) -> None:
        self.system = system
        self.before = system.look()
        self.steps = steps
        self._taken: Dict[str, Tuple[Done, Seen]] = {}

    def _take(self, name: str) -> Tuple[Done, Seen]:
        for earlier, step in self.steps.items():
            if earlier not in self._taken:
                done = step.act()
                self._taken[earlier] = done, self.system.look()
            if earlier == name:
                return self._taken[name]
            if not self.as_it_should(earlier):
                pytest.skip(f'{earlier}: failed already')
        raise KeyError(name)

    def as_it_should(self, name: str) -> bool:
        """Whether a step that was taken failed if and only if it was to."""
        return bool(self._taken[name][0].returncode) == self.steps[name].fails

    def done(self, name: str) -> Done:
        """What the step said, and its status."""
        return self._take(name)[0]

    def after(self, name: str) -> Seen:
        """What there was when it was done."""
        return self._take(name)[1]
