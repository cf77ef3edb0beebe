"""An installation by DKMS that fails, says why and leaves nothing."""

import tempfile
from pathlib import Path
from typing import Dict, Iterator, Tuple

import pytest

from rvtest.system import (Journey, Step, System, skip_unless_packaged,
                           version)
from rvtest.vm import TOP, newest_kernel

KERNELS = newest_kernel
SECONDS = 45

# Ways to fail, and what is said then; {} is the kernel.
REASONS = {
    'no headers': 'install the linux-headers-{} package',
    'an error in a source': 'error: #error broken on purpose',
    'modules cannot be written': 'Read-only file system',
}
each_way = pytest.mark.parametrize('way', REASONS)


def failures(system: System) -> Dict[str, Step]:
    """make dkms-install where it must fail, and then where it must not."""
    broken = system.scratch / 'broken.c'
    broken.write_text('#error broken on purpose\n')
    source = sorted(TOP.glob('*.c'))[0].name
    options = {
        'no headers': ('--tmpfs',
                       f'/usr/src/linux-headers-{system.release}'),
        'an error in a source': ('--ro-bind', str(broken), f'/mnt/{source}'),
        'modules cannot be written': ('--remount-ro', '/lib/modules'),
    }

    def make(way: str) -> Step:
        return Step(lambda: system.make('dkms-install', options[way]), True)

    return {**{way: make(way) for way in REASONS},
            'mended': Step(lambda: system.make('dkms-install'))}


@pytest.fixture(scope='module')
def trouble(series: str) -> Iterator[Journey]:
    """Failures one after another, on a system of their own."""
    skip_unless_packaged(series)
    with tempfile.TemporaryDirectory(prefix='rmapviz-dkms.') as name:
        system = System(series, Path(name))
        yield Journey(system, failures(system))


@pytest.mark.parametrize('target', ('dkms-install', 'dkms-uninstall'))
@pytest.mark.parametrize('options, message', (
    (('--uid', '1000'), 'must be root: sudo make {}'),
    (('--ro-bind', '/dev/null', '/usr/sbin/dkms'),
     'dkms is missing: apt-get install dkms')), ids=('no root', 'no DKMS'))
def test_who_cannot_use_dkms_is_told_in_one_line(
        trouble: Journey, target: str, options: Tuple[str, ...],
        message: str) -> None:
    """And make fails."""
    done = trouble.system.make(target, options)
    # bwrap remarks that there is another --uid
    line, = [line for line in done.stdout.splitlines()
             if not line.startswith('bwrap: ')]
    assert message.format(target) in line
    assert done.returncode


@each_way
def test_a_failed_install_is_one_of_make(trouble: Journey, way: str) -> None:
    """Its status says so."""
    assert trouble.done(way).returncode == 2, trouble.done(way).stdout


@each_way
def test_a_failed_install_says_why(trouble: Journey, way: str) -> None:
    """The compiler's words too, though its log is gone."""
    assert REASONS[way].format(trouble.system.release) \
        in trouble.done(way).stdout


@each_way
def test_a_failed_install_leaves_nothing(trouble: Journey, way: str) -> None:
    """Neither in /usr/src nor in DKMS's tree nor among the modules."""
    assert sorted(trouble.after(way).files ^ trouble.before.files) == []


@each_way
def test_dkms_knows_nothing_of_a_failed_install(trouble: Journey, way: str
                                                ) -> None:
    """Not even that it was added."""
    assert trouble.after(way).dkms == []


def test_what_failed_can_be_installed_once_that_is_mended(trouble: Journey
                                                          ) -> None:
    """By the same command."""
    assert trouble.after('mended').dkms \
        == [f'rmapviz/{version()}, {trouble.system.release}, x86_64: '
            'installed'], trouble.done('mended').stdout
