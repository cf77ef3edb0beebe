"""Lockdown: what still works, and that the rest is refused cleanly.

A stock kernel trusts its builder's key and those that the firmware hands over.
OVMF comes with a store of variables that has a test key in it, and with that
key.  A kernel that takes no keys is locked down when the module is there.

The machine is locked down for integrity first; the tests about that come
before those about confidentiality, from which there is no way back.
"""

import re
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Iterator, List, NamedTuple

import pytest

from rvtest import vm
from rvtest.guest import Guest, Result
from rvtest.report import mappings, parse
from rvtest.scene import FILE, Scene
from rvtest.stage import Once

KERNELS = vm.some_kernels
SECONDS = 30

LOCKDOWN = '/sys/kernel/security/lockdown'
PARAMETER = '/sys/module/rmapviz/parameters/query'
ANSWER = f'{FILE}_answer'

FIRMWARE = Path('/usr/share/OVMF/OVMF_CODE_4M.fd')
VARIABLES = Path('/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd')
KEYS = Path('/usr/share/ovmf')
KEY = 'PkKek-1-snakeoil'
PASSPHRASE = 'snakeoil'
SIGNED = 'signed.ko'

EPERM = 'Operation not permitted'


def trusts_firmware(series: str) -> bool:
    """Whether that kernel takes keys over from the firmware."""
    config = (vm.root(series)
              / f'usr/src/linux-headers-{vm.release(series)}'
              / 'include/config/auto.conf').read_text()
    return 'CONFIG_INTEGRITY_PLATFORM_KEYRING=y\n' in config


def signed_module(series: str) -> bytes:
    """The module stripped, as DKMS does, and signed with the test key."""
    sign = f'/lib/modules/{vm.release(series)}/build/scripts/sign-file'
    with tempfile.TemporaryDirectory(prefix='rmapviz-sign.') as name:
        subprocess.run(
            [vm.VM / 'in-root', vm.root(series), '--bind', name, '/src',
             '--ro-bind', KEYS, '/mnt',
             '--ro-bind', vm.build(series) / 'rmapviz.ko', '/tmp/rmapviz.ko',
             '--setenv', 'KBUILD_SIGN_PIN', PASSPHRASE, 'sh', '-ec',
             'strip -g -o /src/signed.ko /tmp/rmapviz.ko; '
             f'{sign} sha256 /mnt/{KEY}.key /mnt/{KEY}.pem /src/signed.ko'],
            check=True, stdin=subprocess.DEVNULL)
        return (Path(name) / 'signed.ko').read_bytes()


def locked_guest(series: str, scratch: Path) -> Guest:
    """A guest with lockdown=integrity that trusts the key; nothing loaded."""
    initramfs = vm.initramfs_with(series, {SIGNED: signed_module(series)},
                                  scratch)
    flash = 'if=pflash,format=raw,unit={},{},file={}'
    return Guest(
        series, cpus=1, append='lockdown=integrity rmapviz.noload',
        extra_args=['-initrd', str(initramfs),
                    '-drive', flash.format(0, 'readonly=on', FIRMWARE),
                    '-drive', flash.format(1, 'snapshot=on', VARIABLES)])


def ask(guest: Guest, query: str) -> Result:
    """Ask by the parameter, and read the answer."""
    guest.check(f'echo {query} >{PARAMETER}')
    return guest.run(f'cat {ANSWER}')


def is_refused(result: Result) -> bool:
    """Whether a command failed with EPERM."""
    return result.status != 0 and EPERM in result.output


# ------------------------------------------------------------ the machine --

def unsigned_guest(series: str) -> Guest:
    """A guest with the module, then locked down for integrity."""
    guest = Guest(series, cpus=1)
    guest.check('mount -t securityfs security /sys/kernel/security; '
                f'echo integrity >{LOCKDOWN}')
    return guest


def signed_guest(series: str, scratch: Path) -> Guest:
    """A guest locked down for integrity from its start, without a module."""
    guest = locked_guest(series, scratch)
    guest.check('mount -t securityfs security /sys/kernel/security')
    return guest


@pytest.fixture(scope='module')
def machine(series: str) -> Iterator[Once[Guest]]:
    """It boots when the first test wants it; its log must be clean."""
    if vm.is_debug(series):
        pytest.skip('the debug kernel is built without lockdown')
    booted: List[Guest] = []

    def boot() -> Guest:
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix='rmapviz-lockdown.'))
        guest = signed_guest(series, Path(scratch)) \
            if trusts_firmware(series) else unsigned_guest(series)
        stack.callback(guest.kill)
        booted.append(guest)
        return guest

    with ExitStack() as stack:
        yield Once('the machine', boot)
        log = [line for guest in booted if not guest.broken
               for line in guest.kernel_complaints()]
    if log:
        pytest.fail('the kernel complained:\n' + '\n'.join(log),
                    pytrace=False)


class Loading(NamedTuple):
    """What came of it to load modules under lockdown."""

    unsigned: Result
    signed: Result
    taint: int


@pytest.fixture(scope='module')
def attempts(machine: Once[Guest]) -> Once[Loading]:
    """Made when the first test wants to know."""
    def load() -> Loading:
        guest = machine()
        return Loading(guest.run('insmod /rmapviz.ko'),
                       guest.run(f'insmod /{SIGNED}'),
                       int(guest.check('cat /proc/sys/kernel/tainted')))

    return Once('loading', load)


@pytest.fixture
def loading(series: str, attempts: Once[Loading]) -> Loading:
    """Of kernels to which a key can be given."""
    if not trusts_firmware(series):
        pytest.skip('this kernel takes no keys over from the firmware')
    return attempts()


@pytest.fixture
def locked(series: str, machine: Once[Guest], attempts: Once[Loading]
           ) -> Guest:
    """The machine, with the module."""
    if trusts_firmware(series) and attempts().signed.status:
        pytest.skip('the module was not loaded')
    return machine()


# -------------------------------------------------------------- integrity --

def test_the_kernel_is_locked_down_for_integrity(machine: Once[Guest]
                                                 ) -> None:
    """Or all that follows would show nothing."""
    assert '[integrity]' in machine().check(f'cat {LOCKDOWN}')


def test_a_module_that_is_not_signed_is_refused(loading: Loading) -> None:
    """By the kernel."""
    status, output = loading.unsigned
    assert status and (EPERM in output or 'rejected' in output)


def test_a_module_that_is_signed_is_loaded(loading: Loading) -> None:
    """Without a word."""
    assert loading.signed == (0, '')


def test_the_module_was_loaded_for_its_signature(loading: Loading) -> None:
    """E would say that the kernel has loaded one that it does not trust."""
    if loading.signed.status:
        pytest.skip('the module was not loaded')
    assert not loading.taint & 1 << 13


@pytest.mark.parametrize('command', (
    pytest.param(f'cat {FILE}', id='to-read'),
    pytest.param(f'echo 0 >{FILE}', id='to-write'),
    pytest.param('ask 0', id='for-both')))
def test_rmapviz_cannot_be_opened(locked: Guest, command: str) -> None:
    """For it is a file of debugfs that could be written."""
    assert is_refused(locked.run(command))


def test_the_survey_can_be_read_under_lockdown(family: 'Family') -> None:
    """It has the page that two processes share."""
    text = family.scene.guest.check(f'cat {FILE}_survey')
    assert f' 0x{family.pfn:x} ' in text


def test_the_families_can_be_read_under_lockdown(family: 'Family') -> None:
    """They have those of two processes."""
    text = family.scene.guest.check(f'cat {FILE}_families')
    assert [line for line in text.splitlines()[1:] if line.split()[2] == '2']


class Family(NamedTuple):
    """Two processes that share a page."""

    scene: Scene
    pid: int
    pfn: int

    def ask(self, query: str) -> Result:
        """The answer to a query by the parameter."""
        return ask(self.scene.guest,
                   query.format(pfn=self.pfn, pid=self.pid))


@pytest.fixture
def family(locked: Guest) -> Iterator[Family]:
    """For this test only."""
    with Scene(locked) as scene:
        scene.play('P map M 1\nP write M\nP fork C')
        yield Family(scene, scene.pids['P'], scene.pfn('P', 'M'))


each_target = pytest.mark.parametrize('query', (
    pytest.param('{pfn:#x}', id='PFN'),
    pytest.param('pid {pid} 0x10000000000', id='pid-PID-ADDR')))


@each_target
def test_the_parameter_is_answered_under_lockdown(family: Family, query: str
                                                  ) -> None:
    """By rmapviz_answer."""
    status, output = family.ask(query)
    assert not status and output.startswith(
        f'PFN 0x{family.pfn:x} is an anonymous page; 2 processes map it'), \
        output


@each_target
def test_the_json_under_lockdown_is_as_pagemap_says(family: Family,
                                                    query: str) -> None:
    """Page and mappings."""
    report = parse(family.ask(f'{query} json').output)
    assert (report['page']['pfn'], mappings(report)) \
        == (family.pfn, family.scene.witness(family.pfn))


@each_target
def test_the_vmas_under_lockdown_are_those_of_proc_maps(family: Family,
                                                        query: str) -> None:
    """Range, rights, offset, name, pid and command."""
    report = parse(family.ask(f'{query} json').output)
    assert family.scene.proc_faults(report) == []


@pytest.mark.parametrize('query, message', (
    pytest.param('pid 4000000', 'No such process',
                 id='a-process-that-is-not-there'),
    pytest.param('0xffffffff', 'No such device or address',
                 id='a-PFN-beyond-memory'),
    pytest.param('pid {pid} 0x1000', 'Bad address',
                 id='an-address-without-a-VMA')))
def test_the_reader_is_told_why_there_is_no_answer(
        family: Family, query: str, message: str) -> None:
    """For the parameter is only parsed."""
    status, output = family.ask(query)
    assert status and message in output


def test_the_writer_is_told_of_what_does_not_parse(locked: Guest) -> None:
    """As without lockdown."""
    assert 'Invalid argument' in locked.run(f'echo frob >{PARAMETER}').output


# -------------------------------------------------------- confidentiality --

class Sealed(NamedTuple):
    """What is left of the module when confidentiality is asked for."""

    modes: str
    still_open: Result
    half_read: Result
    answer: Result
    rmapviz: Result
    insmod: Result
    log: List[str]      # what insmod has added
    files: str          # that are there after it


def lockdown_lines(guest: Guest) -> List[str]:
    """What the log has of loading and of lockdown."""
    return [line for line in guest.check('dmesg').splitlines()
            if re.search('Lockdown|lockdown|insmod|rmapviz', line)]


def seal(guest: Guest, module: str) -> Sealed:
    """Raise it now, look at what worked, and try to load the module anew."""
    guest.check(f'echo 0 brief >{PARAMETER}')
    guest.check(f'exec 5<{ANSWER} 6<{ANSWER}; dd bs=1 count=1 <&6 2>&1; '
                f'echo confidentiality >{LOCKDOWN}')
    still_open, half_read = (guest.run(f'cat <&{n}') for n in (5, 6))
    guest.check('exec 5<&- 6<&-')
    modes = guest.check(f'cat {LOCKDOWN}')
    answer, rmapviz = (guest.run(f'cat {name}') for name in (ANSWER, FILE))
    guest.check('rmmod rmapviz')
    before = lockdown_lines(guest)
    insmod = guest.run(f'insmod {module}')
    log = lockdown_lines(guest)[len(before):]
    files = guest.run(f'ls -d /sys/module/rmapviz {FILE}* 2>/dev/null').output
    return Sealed(modes, still_open, half_read, answer, rmapviz, insmod, log,
                  files)


@pytest.fixture(scope='module')
def sealing(series: str, machine: Once[Guest]) -> Once[Sealed]:
    """Done when the first test wants it, after those of integrity."""
    return Once('confidentiality', lambda: seal(
        machine(),
        f'/{SIGNED}' if trusts_firmware(series) else '/rmapviz.ko'))


@pytest.fixture
def sealed(locked: Guest, sealing: Once[Sealed]) -> Sealed:
    """If there was a module to begin with."""
    assert locked
    return sealing()


def test_the_kernel_is_locked_down_for_confidentiality(sealed: Sealed
                                                       ) -> None:
    """It can be raised at any time."""
    assert '[confidentiality]' in sealed.modes


def test_an_answer_cannot_be_read_from_a_file_still_open(sealed: Sealed
                                                         ) -> None:
    """Whoever opened it in time."""
    assert is_refused(sealed.still_open)


def test_the_rest_of_an_answer_cannot_be_read_under_confidentiality(
        sealed: Sealed) -> None:
    """By who has begun to read it before."""
    assert is_refused(sealed.half_read)
    assert len(sealed.half_read.output.splitlines()) == 1


def test_rmapviz_answer_cannot_be_read_under_confidentiality(
        sealed: Sealed) -> None:
    """As nothing in debugfs can."""
    assert is_refused(sealed.answer)


def test_rmapviz_cannot_be_read_under_confidentiality(sealed: Sealed
                                                      ) -> None:
    """As before."""
    assert is_refused(sealed.rmapviz)


def test_insmod_is_refused_under_confidentiality(sealed: Sealed) -> None:
    """For the module takes a kprobe, which could read anything."""
    assert is_refused(sealed.insmod)


def test_a_refused_insmod_is_logged_by_the_kernel_alone(sealed: Sealed
                                                        ) -> None:
    """Once for each try; insmod of busybox tries it by two system calls."""
    assert len(sealed.log) <= 2
    assert [line for line in sealed.log if 'Lockdown: insmod' not in line] \
        == []


def test_a_refused_insmod_leaves_nothing(sealed: Sealed) -> None:
    """Neither module nor files."""
    assert sealed.files == ''
