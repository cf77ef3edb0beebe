#!/usr/bin/python3
"""Kernels that the module is not for: what the build says to that."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Tuple

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Tap, kernels, root  # noqa: E402
from rvtest.vm import TOP, VM, is_debug, release  # noqa: E402

UNTESTED = 'rmapviz was not tested with a kernel as new as this'


class Headers:
    """The headers of a kernel, some of them changed."""

    def __init__(self, series: str, scratch: Path) -> None:
        self._root = root(series)
        self._scratch = scratch
        self.own = Path(f'/usr/src/linux-headers-{release(series)}')
        common, = (self._root / 'usr/src').glob('linux-headers-*-common')
        self.common = Path('/usr/src') / common.name
        self._build = f'/lib/modules/{release(series)}/build'

    def changed(self, file: Path, pattern: str, by: str) -> Tuple[str, ...]:
        """Options for in-root to put a changed copy in the place of a file."""
        text = (self._root / file.relative_to('/')).read_text()
        text, count = re.subn(pattern, by, text, flags=re.M)
        if not count:
            raise RuntimeError(f'no {pattern} in {file}')
        copy = self._scratch / file.name
        copy.write_text(text)
        return '--ro-bind', str(copy), str(file)

    def make(self, *options: str) -> 'subprocess.CompletedProcess[str]':
        """Build the module against them."""
        source = self._scratch / 'module'
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for file in [TOP / 'Kbuild', *TOP.glob('*.[ch]')]:
            shutil.copy(file, source)
        return subprocess.run(
            [VM / 'in-root', self._root, '--bind', source, '/src', *options,
             'make', '-C', self._build, 'M=/src', 'modules'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)


def needs() -> Tuple[str, ...]:
    """What Kbuild wants a kernel to have."""
    found = re.search('^rv-needs := (.*)$', (TOP / 'Kbuild').read_text(),
                      re.M)
    assert found
    return tuple(f'CONFIG_{name}' for name in found[1].split())


def check_needs(tap: Tap, headers: Headers) -> None:
    """What a kernel lacks is said in one line, and nothing is compiled."""
    config = headers.own / 'include/config/auto.conf'
    for name in needs():
        done = headers.make(*headers.changed(config, f'^{name}=y\n', ''))
        lines = [line for line in done.stdout.splitlines() if name in line]
        tap.ok(done.returncode and len(lines) == 1
               and f'this kernel was built without {name}' in lines[0]
               and ' CC ' not in done.stdout,
               f'a kernel without {name}: one line says so', done.stdout)


def check_versions(tap: Tap, headers: Headers) -> None:
    """One that is too old is refused, one that is too new is tried."""
    version = headers.own / 'include/generated/uapi/linux/version.h'
    code = r'^(#define LINUX_VERSION_CODE) .*'
    done = headers.make(*headers.changed(version, code,
                                         rf'\1 {5 << 16 | 9 << 8}'))
    tap.ok(done.returncode and '#error "rmapviz supports' in done.stdout,
           'Linux 5.9 is refused', done.stdout)
    done = headers.make(*headers.changed(version, code, rf'\1 {99 << 16}'))
    tap.ok(done.returncode == 0 and done.stdout.count(f': {UNTESTED}') == 1,
           'a kernel of the future is tried, and remarked on once',
           done.stdout)


def check_layout(tap: Tap, headers: Headers) -> None:
    """What is not where it was is found out by the compiler."""
    changes: Dict[str, Tuple[str, str, str]] = {
        'anon_vmas without parents':
            ('rmap.h', r'^\tstruct anon_vma \*parent;.*$', ''),
        'AVCs without a list': ('rmap.h', 'same_vma', 'something_else'),
        'other callbacks':
            ('rmap.h', r'(bool \(\*rmap_one\)\()', r'\1int unheard_of, '),
        'a mapping without bits':
            ('page-flags.h', r'^#define (FOLIO|PAGE)_MAPPING_ANON\b.*', ''),
    }
    for what, (name, pattern, by) in changes.items():
        done = headers.make(*headers.changed(
            headers.common / 'include/linux' / name, pattern, by))
        tap.ok(done.returncode and ' error: ' in done.stdout,
               f'a kernel that has {what}: a build error', done.stdout)


def check_no_headers(tap: Tap, series: str) -> None:
    """make alone is for the running kernel, whose headers may be missing."""
    done = subprocess.run(
        [VM / 'in-root', root(series), '--ro-bind', TOP, '/mnt',
         '--tmpfs', '/usr/lib/modules', 'make', '-C', '/mnt',
         '--no-print-directory', 'KERNEL='],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False)
    tap.ok(done.returncode and len(done.stdout.splitlines()) == 1
           and 'apt-get install linux-headers-' in done.stdout,
           'without headers make says in one line what to install',
           done.stdout)


def main() -> None:
    """With the newest kernel: it has the most that can be missed."""
    with Tap() as tap, \
            tempfile.TemporaryDirectory(prefix='rmapviz-build.') as name:
        series = kernels()[-1]
        tap.prefix = f'{series}: '
        if is_debug(series):
            tap.skip('what the build says of other kernels',
                     'its headers are not those of a package')
            return
        headers = Headers(series, Path(name))
        check_needs(tap, headers)
        check_versions(tap, headers)
        check_layout(tap, headers)
        check_no_headers(tap, series)


if __name__ == '__main__':
    main()
