#!/usr/bin/python3
"""The package rmapviz-dkms is installed, upgraded and purged by dpkg."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Set

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Tap  # noqa: E402
from rvtest.vm import TOP, some_kernels  # noqa: E402
from rvtest.system import System, version  # noqa: E402

_PACKAGE = 'rmapviz-dkms'
_HIGHER = '9.9.9'

# What the higher version consists of: that much is built in no time.
_STUB = f'''
#include <linux/module.h>
MODULE_LICENSE("GPL");
MODULE_VERSION("{_HIGHER}");
'''

# What dpkg and debconf write to whatever they do.
_BOOKS = re.compile(r'var/(log/|cache/debconf/|lib/dpkg/(lock|triggers/'
                    r'|[a-z]+-old$|available$))')


def make_deb() -> Path:
    """The package, made anew."""
    subprocess.run(['make', '-s', '-C', TOP, 'deb'], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return TOP / f'build/{_PACKAGE}_{version()}_all.deb'


def make_higher(deb: Path, scratch: Path) -> Path:
    """The same package with a higher version of the module."""
    tree = scratch / 'higher'
    subprocess.run(['dpkg-deb', '--raw-extract', deb, tree], check=True)
    sources = tree / f'usr/src/rmapviz-{_HIGHER}'
    (tree / f'usr/src/rmapviz-{version()}').rename(sources)
    for file in [*(tree / 'DEBIAN').iterdir(), sources / 'dkms.conf']:
        file.write_text(file.read_text().replace(version(), _HIGHER))
    for file in sources.glob('*.[ch]'):
        file.unlink()
    (sources / 'Kbuild').write_text('obj-m := rmapviz.o\n')
    (sources / 'rmapviz.c').write_text(_STUB)
    subprocess.run(['dpkg-deb', '--root-owner-group', '--build', tree,
                    scratch / 'higher.deb'], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return scratch / 'higher.deb'


def files(system: System) -> Set[str]:
    """Everything that there is, but books."""
    there = {str(path.relative_to(system.scratch))
             for name in ('var', 'doc')
             for path in (system.scratch / name).rglob('*')
             if not path.is_dir()}
    return system.files() | {name for name in there
                             if not _BOOKS.match(name)}


def dpkg(tap: Tap, system: System, option: str, what: str, why: str) -> None:
    """Let dpkg do something, which is this to those who see it."""
    done = system.run('dpkg', option, what,
                      options=['--setenv', 'DEBIAN_FRONTEND',
                               'noninteractive'])
    tap.ok(done.returncode == 0, f'dpkg {option}: {why}', done.stdout)


def package_status(system: System) -> str:
    """What dpkg says of it."""
    done = system.run('dpkg-query', '-W', '-f',
                      '${db:Status-Status} ${Version}', _PACKAGE)
    return done.stdout if done.returncode == 0 else 'unknown'


def check_version(tap: Tap, system: System, wanted: str) -> None:
    """This version of the package is there, and of the module, alone."""
    tap.is_equal(package_status(system), f'installed {wanted}',
                 f'dpkg has {wanted}')
    tap.is_equal(system.status(), [f'rmapviz/{wanted}, {system.release}, '
                                   'x86_64: installed'],
                 f'DKMS has {wanted}, and installed it')
    tap.is_equal(system.modinfo('version'), wanted,
                 'modprobe would find it')
    tap.is_equal(sorted(path.name for path in
                        (system.scratch / 'src').glob('rmapviz*')),
                 [f'rmapviz-{wanted}'], 'its sources are there, no others')


def check_make(tap: Tap, system: System) -> None:
    """make keeps off what dpkg has installed."""
    for target in 'dkms-install', 'dkms-uninstall':
        done = system.make(target)
        tap.ok(done.returncode and len(done.stdout.splitlines()) == 1
               and f'apt-get purge {_PACKAGE}' in done.stdout,
               f'make {target} leaves it to apt', done.stdout)


def check_series(tap: Tap, series: str, scratch: Path, deb: Path,
                 higher: Path) -> None:
    """All of it with the dpkg and the DKMS of a kernel's suite."""
    system = System(series, scratch, var=True)
    system.bind(scratch / 'doc', '/usr/share/doc')
    system.show(deb, '/tmp/first.deb')
    system.show(higher, '/tmp/higher.deb')
    before = files(system)

    dpkg(tap, system, '--install', '/tmp/first.deb', 'the first time')
    check_version(tap, system, version())
    check_make(tap, system)
    dpkg(tap, system, '--install', '/tmp/higher.deb', 'upgrade')
    check_version(tap, system, _HIGHER)

    dpkg(tap, system, '--purge', _PACKAGE, 'all of it')
    tap.is_equal(package_status(system), 'unknown', 'dpkg knows it no more')
    tap.is_equal(system.status(), [], 'nor does DKMS')
    tap.is_equal(system.modinfo('filename'), '', 'nor does modprobe')
    tap.is_equal(sorted(files(system) ^ before), [], 'nothing is left')


def main() -> None:
    """Make the packages, and run it all for every kernel."""
    with Tap() as tap, tempfile.TemporaryDirectory(
            prefix='rmapviz-deb.') as name:
        deb = make_deb()
        higher = make_higher(deb, Path(name))
        for series in some_kernels(tap):
            tap.prefix = f'{series}: '
            (Path(name) / series).mkdir()
            check_series(tap, series, Path(name) / series, deb, higher)


if __name__ == '__main__':
    main()
