"""DKMS builds, signs, installs and removes the module; a guest runs it."""

import hashlib
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import pytest

from rvtest.guest import Guest
from rvtest.mok import NAME, make_key, why_not_signed
from rvtest.system import (Done, Journey, Step, System, skip_unless_packaged,
                           version)
from rvtest.vm import first_of_releases, initramfs_with

KERNELS = first_of_releases
SECONDS = 100

# The steps, and the state that the module has then for the running kernel and
# for one that comes later.
STATES: Dict[str, Tuple[str, str]] = {
    'make dkms-install': ('installed', ''),
    'dkms uninstall': ('built', ''),
    'dkms install': ('installed', ''),
    'dkms autoinstall': ('installed', 'installed'),
    'dkms build, Linux 5.9': ('installed', 'installed'),
    'dkms autoinstall, Linux 7.4': ('installed', 'installed'),
    'dkms remove': ('', ''),
    'dkms add': ('added', ''),
    'make dkms-uninstall': ('', ''),
    'make dkms-uninstall again': ('', ''),
}
each_step = pytest.mark.parametrize('step', STATES)
each_refusal = pytest.mark.parametrize(
    'step', (step for step in STATES if 'Linux' in step))
each_removal = pytest.mark.parametrize(
    'step', (step for step, states in STATES.items() if states == ('', '')))


def prepare_signing(system: System) -> None:
    """Do what the documents say for that DKMS."""
    scratch = system.scratch
    certificate = scratch / 'certificate'
    if system.dkms_version.startswith('2.'):
        system.bind(scratch / 'root', '/root')
        make_key(scratch / 'root' / 'mok.priv', certificate)
        (scratch / 'root' / 'mok.der').write_bytes(certificate.read_bytes())
        system.fake('/etc/dkms/framework.conf',
                    'sign_tool="/etc/dkms/sign_helper.sh"\n')
    else:
        make_key(scratch / 'dkms' / 'mok.key', certificate)
        (scratch / 'dkms' / 'mok.pub').write_bytes(certificate.read_bytes())


def refuse(system: System, kernel: str, *command: str) -> Done:
    """Let DKMS build for a kernel out of the range, which is gone then."""
    fake = system.modules / kernel
    fake.mkdir()
    (fake / 'build').symlink_to(f'../{system.release}/build')
    done = system.run('dkms', *command, '-k', kernel)
    (fake / 'build').unlink()
    fake.rmdir()
    return done


def steps(system: System) -> Dict[str, Step]:
    """How each step is taken."""
    this = f'rmapviz/{version()}'
    here = (this, '-k', system.release)

    def dkms(*words: str) -> Step:
        return Step(lambda: system.run('dkms', *words))

    def make(target: str) -> Step:
        return Step(lambda: system.make(target))

    return {
        'make dkms-install': make('dkms-install'),
        'dkms uninstall': dkms('uninstall', *here),
        'dkms install': dkms('install', *here),
        'dkms autoinstall': dkms('autoinstall', '-k', system.kernels[1]),
        'dkms build, Linux 5.9': Step(lambda: refuse(
            system, '5.9.0-5-cloud-amd64', 'build', this), fails=True),
        # DKMS 3.0.10 takes it for an error when it does so unasked
        'dkms autoinstall, Linux 7.4': Step(lambda: refuse(
            system, '7.4.1-fake', 'autoinstall'),
            fails=system.dkms_version == '3.0.10'),
        'dkms remove': dkms('remove', this, '--all'),
        'dkms add': dkms('add', this),
        'make dkms-uninstall': make('dkms-uninstall'),
        'make dkms-uninstall again': make('dkms-uninstall'),
    }


@pytest.fixture(scope='module')
def journey(series: str) -> Iterator[Journey]:
    """From make dkms-install to make dkms-uninstall."""
    skip_unless_packaged(series)
    with tempfile.TemporaryDirectory(prefix='rmapviz-dkms.') as name:
        system = System(series, Path(name))
        system.add_kernel()
        prepare_signing(system)
        yield Journey(system, steps(system))


@each_step
def test_a_step_ends_as_it_should(journey: Journey, step: str) -> None:
    """Its status is 0, or not for a kernel out of the range."""
    done = journey.done(step)
    assert journey.as_it_should(step), f'{done.returncode}: {done.stdout}'


def states(system: System, step: str) -> List[str]:
    """How DKMS says what it is to have after a step."""
    this = f'rmapviz/{version()}'
    return sorted(f'{this}: added' if state == 'added' else
                  f'{this}, {kernel}, x86_64: {state}'
                  for kernel, state in zip(system.kernels, STATES[step])
                  if state)


@each_step
def test_dkms_knows_what_it_has(journey: Journey, step: str) -> None:
    """After each step."""
    assert journey.after(step).dkms == states(journey.system, step)


@each_step
def test_modprobe_finds_what_is_installed(journey: Journey, step: str
                                          ) -> None:
    """Of the right kernel, and nothing where nothing is installed."""
    found = journey.after(step).modinfo
    assert [found[kernel].get('vermagic', '').split(' ')[0]
            for kernel in journey.system.kernels] \
        == [kernel if state == 'installed' else ''
            for kernel, state in zip(journey.system.kernels, STATES[step])]


@each_refusal
def test_dkms_says_why_it_does_not_build(journey: Journey, step: str) -> None:
    """For a kernel out of the range it does not even try."""
    assert 'BUILD_EXCLUSIVE' in journey.done(step).stdout


@each_removal
def test_a_removal_leaves_no_module(journey: Journey, step: str) -> None:
    """In no directory of modules, for whatever kernel."""
    assert [name for name in journey.after(step).files
            if name.startswith('modules/') and 'rmapviz' in name] == []


@pytest.mark.parametrize('step', ('make dkms-uninstall',
                                  'make dkms-uninstall again'))
def test_make_leaves_nothing(journey: Journey, step: str) -> None:
    """No file and no directory that was not there before."""
    assert sorted(journey.after(step).files ^ journey.before.files) == []


# ----------------------------------------------------------- the signature --

@pytest.fixture
def signed(journey: Journey) -> bytes:
    """The module that DKMS signed with the key that the owner enrols."""
    return journey.after('dkms install').module


@pytest.mark.usefixtures('signed')
def test_modinfo_names_the_signer(journey: Journey) -> None:
    """By the name in the certificate."""
    modinfo = journey.after('dkms install').modinfo
    assert modinfo[journey.system.release].get('signer') == NAME


def test_the_signature_is_good(journey: Journey, signed: bytes) -> None:
    """By the certificate that the firmware is told of."""
    certificate = journey.system.scratch / 'certificate'
    assert why_not_signed(signed, certificate) == ''


def test_the_signature_is_of_this_module_only(journey: Journey, signed: bytes
                                              ) -> None:
    """A byte more makes it a bad one."""
    certificate = journey.system.scratch / 'certificate'
    assert why_not_signed(b'X' + signed, certificate)


# --------------------------------------------------------------- in a guest --

class Loaded(NamedTuple):
    """What a guest says of the module that DKMS made."""

    sha256: str
    version: str
    usage: str
    complaints: List[str]


@pytest.fixture(scope='module')
def loaded(journey: Journey, series: str) -> Loaded:
    """A guest whose init has loaded it."""
    module = journey.after('dkms install').module
    with tempfile.TemporaryDirectory(prefix='rmapviz-dkms.') as name:
        initramfs = initramfs_with(series, {'rmapviz.ko': module}, Path(name))
        with Guest(series, extra_args=['-initrd', str(initramfs)]) as guest:
            return Loaded(
                guest.check('sha256sum /rmapviz.ko').split()[0],
                guest.run('cat /sys/module/rmapviz/version').output,
                guest.run('cat /sys/kernel/debug/rmapviz').output,
                guest.kernel_complaints())


def test_the_guest_has_what_dkms_made(journey: Journey, loaded: Loaded
                                      ) -> None:
    """Not what the tests build for themselves."""
    module = journey.after('dkms install').module
    assert loaded.sha256 == hashlib.sha256(module).hexdigest()


def test_the_guest_has_loaded_it(loaded: Loaded) -> None:
    """And it is of this version."""
    assert loaded.version == f'{version()}\n'


def test_what_dkms_made_explains_itself(loaded: Loaded) -> None:
    """To who reads before a question."""
    assert loaded.usage.startswith(f'rmapviz {version()}: ')


def test_the_kernel_does_not_complain_of_it(loaded: Loaded) -> None:
    """In its log."""
    assert loaded.complaints == []
