"""Kernels that the module is not for: what the build says to that.

With the newest kernel: it has the most that can be missed.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Iterator, Tuple

import pytest

from rvtest.system import Done
from rvtest.vm import TOP, VM, is_debug, newest_kernel, release, root

KERNELS = newest_kernel
SECONDS = 60

UNTESTED = 'rmapviz was not tested with a kernel as new as this'

# What changed in a header, and how.
CHANGES: Dict[str, Tuple[str, str, str]] = {
    'anon_vmas without parents':
        ('rmap.h', r'^\tstruct anon_vma \*parent;.*$', ''),
    'AVCs without a list': ('rmap.h', 'same_vma', 'something_else'),
    'other callbacks':
        ('rmap.h', r'(bool \(\*rmap_one\)\()', r'\1int unheard_of, '),
    'a mapping without bits':
        ('page-flags.h', r'^#define (FOLIO|PAGE)_MAPPING_ANON\b.*', ''),
}


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
        assert count, f'no {pattern} in {file}'
        copy = self._scratch / file.name
        copy.write_text(text)
        return '--ro-bind', str(copy), str(file)

    def of_version(self, major: int, minor: int) -> Tuple[str, ...]:
        """Options for in-root to make them those of another Linux."""
        return self.changed(
            self.own / 'include/generated/uapi/linux/version.h',
            r'^(#define LINUX_VERSION_CODE) .*',
            rf'\1 {major << 16 | minor << 8}')

    def make(self, *options: str, more: str = '', target: str = 'modules'
             ) -> Done:
        """Build the module, or a part of it, against them, with more at the
        end of its text reports."""
        source = self._scratch / 'module'
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for file in [TOP / 'Kbuild', *TOP.glob('*.[ch]')]:
            shutil.copy(file, source)
        with open(source / 'rmapviz_text.c', 'a', encoding='ascii') as text:
            text.write(more)
        return subprocess.run(
            [VM / 'in-root', self._root, '--bind', source, '/src', *options,
             'make', '-C', self._build, 'M=/src', target],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)


@pytest.fixture(scope='module')
def headers(series: str) -> Iterator[Headers]:
    """Those of a package."""
    if is_debug(series):
        pytest.skip('its headers are not those of a package')
    with tempfile.TemporaryDirectory(prefix='rmapviz-build.') as name:
        yield Headers(series, Path(name))


def needs() -> Tuple[str, ...]:
    """What Kbuild wants a kernel to have."""
    found = re.search('^rv-needs := (.*)$', (TOP / 'Kbuild').read_text(),
                      re.M)
    assert found
    return tuple(f'CONFIG_{name}' for name in found[1].split())


@pytest.mark.parametrize('name', needs())
def test_a_kernel_without_what_it_needs_is_told_in_one_line(
        headers: Headers, name: str) -> None:
    """And nothing is compiled."""
    config = headers.own / 'include/config/auto.conf'
    done = headers.make(*headers.changed(config, f'^{name}=y\n', ''))
    line, = [line for line in done.stdout.splitlines() if name in line]
    assert f'this kernel was built without {name}' in line
    assert done.returncode and ' CC ' not in done.stdout, done.stdout


def test_a_kernel_that_is_too_old_is_refused(headers: Headers) -> None:
    """Also by one that happens to have the same headers."""
    done = headers.make(*headers.of_version(5, 9))
    assert '#error "rmapviz supports' in done.stdout, done.stdout
    assert done.returncode


def test_a_kernel_that_counts_children_and_vmas_as_one_is_refused(
        headers: Headers) -> None:
    """As before the fix of CVE-2022-42703."""
    done = headers.make(*headers.changed(
        headers.common / 'include/linux/rmap.h', r'\bnum_children\b',
        'degree'))
    assert '#error "rmapviz needs a kernel with the fix' in done.stdout, \
        done.stdout
    assert done.returncode


@pytest.fixture(scope='module')
def future(headers: Headers) -> Done:
    """A build for Linux 99."""
    return headers.make(*headers.of_version(99, 0))


def test_a_kernel_of_the_future_is_tried(future: Done) -> None:
    """It may well do."""
    assert future.returncode == 0, future.stdout


def test_a_kernel_of_the_future_is_remarked_on_once(future: Done) -> None:
    """Not for every source."""
    assert future.stdout.count(f': {UNTESTED}') == 1, future.stdout


@pytest.mark.parametrize('change', CHANGES)
def test_what_is_not_where_it_was_is_an_error_of_the_compiler(
        headers: Headers, change: str) -> None:
    """And no module that reads something else."""
    name, pattern, by = CHANGES[change]
    done = headers.make(*headers.changed(
        headers.common / 'include/linux' / name, pattern, by))
    assert ' error: ' in done.stdout, done.stdout
    assert done.returncode


def test_without_headers_make_says_in_one_line_what_to_install(
        series: str) -> None:
    """make alone is for the running kernel, whose headers may be missing."""
    done = subprocess.run(
        [VM / 'in-root', root(series), '--ro-bind', TOP, '/mnt',
         '--tmpfs', '/usr/lib/modules', 'make', '-C', '/mnt',
         '--no-print-directory', 'KERNEL='],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False)
    line, = done.stdout.splitlines()
    assert 'apt-get install linux-headers-' in line
    assert done.returncode


@pytest.mark.parametrize('more', (
    pytest.param('#include "rmapviz_collect.h"\n', id='collect'),
    pytest.param('#include <linux/rmap.h>\n', id='rmap'),
    pytest.param('void rv_no(void);\nvoid rv_no(void)\n{\n\trcu_read_lock();'
                 '\n}\n', id='rcu'),
    pytest.param('void rv_no(void *p);\nvoid rv_no(void *p)\n{\n'
                 '\tdown_read(p);\n}\n', id='rwsem')))
def test_what_prints_cannot_lock_or_collect(headers: Headers, more: str
                                            ) -> None:
    """It is an error of the compiler, in the file that tries."""
    done = headers.make(more=more, target='rmapviz_text.o')
    assert done.returncode, done.stdout
    assert 'error: ' in done.stdout and 'rmapviz_text' in done.stdout
