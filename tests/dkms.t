#!/usr/bin/python3
"""DKMS builds, signs, installs and removes the module; a guest runs it."""

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Set

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest.vm import (  # noqa: E402
    initramfs_with, is_debug, named, suites)
from rvtest.mok import NAME, make_key, why_not_signed  # noqa: E402
from rvtest.system import System, version  # noqa: E402


def built_for(kernel: str, state: str) -> str:
    """How DKMS says that."""
    return f'rmapviz/{version()}, {kernel}, x86_64: {state}'


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


def check_command(tap: Tap, system: System, command: str, *states: str
                  ) -> None:
    """A command of dkms works, and then DKMS says those states."""
    words = command.split()
    done = system.run('dkms', *words)
    tap.ok(done.returncode == 0, f'dkms {words[0]}', done.stdout)
    tap.is_equal(system.status(), sorted(states),
                 f'dkms status, after {words[0]}')


def prepare_signing(system: System, scratch: Path) -> Path:
    """Do what the README says for that DKMS; the certificate."""
    if system.dkms_version.startswith('2.'):
        system.bind(scratch / 'root', '/root')
        key, certificate = (scratch / 'root' / name
                            for name in ('mok.priv', 'mok.der'))
        system.fake('/etc/dkms/framework.conf',
                    'sign_tool="/etc/dkms/sign_helper.sh"\n')
    else:
        key, certificate = (scratch / 'dkms' / name
                            for name in ('mok.key', 'mok.pub'))
    make_key(key, certificate)
    return certificate


def check_install(tap: Tap, system: System) -> None:
    """It is installed by make, and by the commands of dkms anew."""
    done = system.make('dkms-install')
    tap.ok(done.returncode == 0, 'make dkms-install', done.stdout)
    tap.is_equal(system.status(), [built_for(system.release, 'installed')],
                 'it adds, builds and installs it')
    this = f'rmapviz/{version()} -k {system.release}'
    check_command(tap, system, f'uninstall {this}',
                  built_for(system.release, 'built'))
    tap.is_equal(system.modinfo('filename'), '',
                 'modprobe would not find it')
    check_command(tap, system, f'install {this}',
                  built_for(system.release, 'installed'))
    tap.ok(system.modinfo('vermagic').startswith(f'{system.release} '),
           'modprobe would find it')


def check_signature(tap: Tap, system: System, module: bytes,
                    certificate: Path) -> None:
    """DKMS signed it with the key that the owner of the system enrols."""
    tap.is_equal(system.modinfo('signer'), NAME, 'modinfo names the signer')
    tap.is_equal(why_not_signed(module, certificate), '',
                 'the signature is good')
    tap.ok(why_not_signed(b'X' + module, certificate),
           'it would not be for another module')


def check_second(tap: Tap, system: System, second: str) -> None:
    """DKMS builds for a kernel that comes later."""
    check_command(tap, system, f'autoinstall -k {second}',
                  built_for(system.release, 'installed'),
                  built_for(second, 'installed'))
    tap.ok(system.modinfo('vermagic', second).startswith(f'{second} '),
           f'modprobe would find one for {second} there',
           system.modinfo('vermagic', second))


def check_exclusive(tap: Tap, system: System) -> None:
    """DKMS does not even try to build for a kernel out of the range."""
    before = system.status()
    # DKMS 3.0.10 takes that for an error when it does so on its own account
    for kernel, command, error in (
            ('5.9.0-5-cloud-amd64', f'build rmapviz/{version()}', True),
            ('7.4.1-fake', 'autoinstall', system.dkms_version == '3.0.10')):
        fake = system.modules / kernel
        fake.mkdir()
        (fake / 'build').symlink_to(f'../{system.release}/build')
        done = system.run('dkms', *command.split(), '-k', kernel)
        (fake / 'build').unlink()
        fake.rmdir()
        tap.ok('BUILD_EXCLUSIVE' in done.stdout
               and (done.returncode != 0) == error
               and system.status() == before,
               f'it is not built for {kernel}: dkms {command.split()[0]}',
               f'status {done.returncode}\n{done.stdout}')


def check_uninstall(tap: Tap, system: System, before: Set[str]) -> None:
    """The commands of dkms remove it, and make leaves nothing at all."""
    check_command(tap, system, f'remove rmapviz/{version()} --all')
    check_command(tap, system, f'add rmapviz/{version()}',
                  f'rmapviz/{version()}: added')
    for time in 'once', 'again':
        done = system.make('dkms-uninstall')
        tap.ok(done.returncode == 0, f'make dkms-uninstall, {time}',
               done.stdout)
        tap.is_equal(sorted(system.files() ^ before), [],
                     f'nothing is left, {time}')
    tap.is_equal(system.status(), [], 'DKMS knows nothing of it')
    tap.is_equal(system.modinfo('filename'), '', 'nor does modprobe')


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
    tap.note(f'{series}: DKMS {system.dkms_version}')
    second = system.add_kernel()
    check_errors(tap, system)
    before = system.files()
    certificate = prepare_signing(system, scratch)
    check_install(tap, system)
    check_second(tap, system, second)
    module = system.installed()
    if tap.ok(module, 'there is a module'):
        assert module is not None
        if is_debug(series):
            tap.skip('DKMS signs it', 'debug kernels know no signatures')
        else:
            check_signature(tap, system, module, certificate)
        check_guest(tap, series, module, scratch)
    check_exclusive(tap, system)
    check_uninstall(tap, system, before)


def first_of_suites(tap: Tap) -> List[str]:
    """The kernels that KERNEL names, or one of each suite."""
    chosen: Dict[str, str] = {}
    if named():
        return kernels()
    for series in kernels():
        if chosen.setdefault(suites(series)[0], series) != series:
            tap.note(f'not with {series}: its suite has been tried')
    return list(chosen.values())


def main() -> None:
    """Every suite; its second kernel is built for by autoinstall."""
    with Tap() as tap:
        for series in first_of_suites(tap):
            tap.prefix = f'{series}: '
            with tempfile.TemporaryDirectory(prefix='rmapviz-dkms.') as name:
                check_series(tap, series, Path(name))


if __name__ == '__main__':
    main()
