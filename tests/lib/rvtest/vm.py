"""The kernels to test with, and what tests/vm makes for them."""

import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Set

TOP = Path(__file__).resolve().parents[3]
VM = TOP / 'tests' / 'vm'

# The suite in tests/kernels that is no release yet.
TESTING = 'forky'

# Of a series there are other kernels than that of tests/kernels: see
# tests/vm/root.
_VARIANT = re.compile('-(debug|generic|kcsan|rt)$')


def is_debug(series: str) -> bool:
    """Whether that kernel looks for mistakes: it is slow, and takes memory."""
    return series.endswith(('-debug', '-kcsan'))


def _known() -> Dict[str, List[str]]:
    """The series in tests/kernels, and their suites."""
    lines = (TOP / 'tests' / 'kernels').read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines
            if line.strip() and not line.startswith('#')}


def named() -> List[str]:
    """The series that KERNEL names, if any."""
    return os.environ.get('KERNEL', '').split()


def kernels() -> List[str]:
    """The series in tests/kernels, or those that KERNEL names.

    SERIES-debug and the like are too, but are tested with when they are named
    only.
    """
    known = _known()
    chosen = named() or list(known)
    for series in chosen:
        if _VARIANT.sub('', series) not in known:
            raise SystemExit(f'{series} is not in tests/kernels')
    return chosen


def some_kernels() -> List[str]:
    """Kernels for what takes long: those that KERNEL names, or else the
    oldest and the newest."""
    chosen = kernels()
    return chosen if named() else [chosen[0], *chosen[1:][-1:]]


def newest() -> str:
    """The last in tests/kernels, whatever KERNEL names."""
    return list(_known())[-1]


def newest_unless_named() -> List[str]:
    """Those that KERNEL names, or else the newest."""
    return kernels() if named() else [newest()]


def newest_kernel() -> List[str]:
    """The last of those to test with, for what is the same with all."""
    return kernels()[-1:]


def first_of_releases() -> List[str]:
    """Those that KERNEL names, or one of each release of Debian."""
    if named():
        return kernels()
    chosen: Dict[str, str] = {}
    for series in kernels():
        chosen.setdefault(suites(series)[0], series)
    return [series for suite, series in chosen.items() if suite != TESTING]


def suites(series: str) -> List[str]:
    """Debian's suite that has the compiler, and then more if need be."""
    return _known()[_VARIANT.sub('', series)]


def _script(name: str, series: str) -> str:
    """Run a script of tests/vm; its errors go to our stderr."""
    done = subprocess.run([VM / name, series], check=True, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return done.stdout.rstrip('\n')


@lru_cache(maxsize=None)
def root(series: str) -> Path:
    """A Debian root with that kernel in it."""
    return Path(_script('root', series))


@lru_cache(maxsize=None)
def release(series: str) -> str:
    """What uname -r says in a guest of that series."""
    return (root(series) / 'rmapviz-release').read_text().strip()


@lru_cache(maxsize=None)
def config(series: str) -> Set[str]:
    """The lines of the .config of that kernel."""
    headers = root(series) / f'usr/src/linux-headers-{release(series)}'
    if is_debug(series):
        headers = root(series) / 'usr/src/linux'
    return set((headers / '.config').read_text(encoding='ascii').splitlines())


@lru_cache(maxsize=None)
def build(series: str) -> Path:
    """Bring the module and the initramfs up to date; where they are."""
    _script('build', series)
    _script('initramfs', series)
    return TOP / 'build' / series


class Unavailable(Exception):
    """The mirror does not have something any more, or now; says what."""


@lru_cache(maxsize=None)
def made(script: str, *arguments: str) -> Path:
    """What a script of tests/vm has made, or found in the cache."""
    done = subprocess.run([VM / script, *arguments], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or [script])[-1])
    return Path(done.stdout.rstrip('\n'))


def initramfs_with(series: str, files: Dict[str, bytes],
                   scratch: Path) -> Path:
    """The guests' initramfs with files more, or others, in its root.

    Of two archives in one file the kernel unpacks both; what comes later wins.
    """
    for name, content in files.items():
        (scratch / name).write_bytes(content)
    added = subprocess.run(
        ['cpio', '--quiet', '-o', '-H', 'newc'], cwd=scratch, check=True,
        input='\n'.join(files).encode(), stdout=subprocess.PIPE).stdout
    both = scratch / 'initramfs.cpio'
    both.write_bytes((build(series) / 'initramfs.cpio').read_bytes() + added)
    return both
