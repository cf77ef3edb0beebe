#!/usr/bin/python3
"""Lockdown: what still works, and that the rest is refused cleanly.

A stock kernel trusts its builder's key and those that the firmware hands over.
OVMF comes with a store of variables that has a test key in it, and with that
key.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Result, Tap, build, kernels, root  # noqa: E402
from rvtest.vm import (  # noqa: E402
    VM, initramfs_with, is_debug, release)
from rvtest.report import mappings  # noqa: E402
from rvtest.scene import FILE, Scene  # noqa: E402

LOCKDOWN = '/sys/kernel/security/lockdown'
PARAMETER = '/sys/module/rmapviz/parameters/query'
ANSWER = f'{FILE}_answer'

FIRMWARE = Path('/usr/share/OVMF/OVMF_CODE_4M.fd')
VARIABLES = Path('/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd')
KEYS = Path('/usr/share/ovmf')
KEY = 'PkKek-1-snakeoil'
PASSPHRASE = 'snakeoil'

EPERM = 'Operation not permitted'

# What only the reader can be told.
ERRORS = (
    ('a process that is not there', 'pid 4000000', 'No such process'),
    ('a PFN beyond memory', '0xffffffff', 'No such device or address'),
    ('an address without a VMA', 'pid {pid} 0x1000', 'Bad address'),
)


def trusts_firmware(series: str) -> bool:
    """Whether that kernel takes keys over from the firmware."""
    config = (root(series) / f'usr/src/linux-headers-{release(series)}'
              / 'include/config/auto.conf').read_text()
    return 'CONFIG_INTEGRITY_PLATFORM_KEYRING=y\n' in config


def signed_module(series: str) -> bytes:
    """The module stripped, as DKMS does, and signed with the test key."""
    sign = f'/lib/modules/{release(series)}/build/scripts/sign-file'
    with tempfile.TemporaryDirectory(prefix='rmapviz-sign.') as name:
        subprocess.run(
            [VM / 'in-root', root(series), '--bind', name, '/src',
             '--ro-bind', KEYS, '/mnt',
             '--ro-bind', build(series) / 'rmapviz.ko', '/tmp/rmapviz.ko',
             '--setenv', 'KBUILD_SIGN_PIN', PASSPHRASE, 'sh', '-ec',
             'strip -g -o /src/signed.ko /tmp/rmapviz.ko; '
             f'{sign} sha256 /mnt/{KEY}.key /mnt/{KEY}.pem /src/signed.ko'],
            check=True, stdin=subprocess.DEVNULL)
        return (Path(name) / 'signed.ko').read_bytes()


def locked_guest(series: str, scratch: Path) -> Guest:
    """A guest with lockdown=integrity that trusts the key; nothing loaded."""
    initramfs = initramfs_with(series, {'signed.ko': signed_module(series)},
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


def check_mode(tap: Tap, guest: Guest, mode: str) -> None:
    """The kernel is locked down as far as that."""
    output = guest.check(f'cat {LOCKDOWN}')
    tap.ok(f'[{mode}]' in output, f'the kernel is locked down for {mode}',
           output)


def check_refused(tap: Tap, guest: Guest, command: str, what: str) -> None:
    """A command fails with EPERM."""
    status, output = guest.run(command)
    tap.ok(status and EPERM in output, f'EPERM for {what}', output)


def check_signature(tap: Tap, guest: Guest) -> bool:
    """A module needs one; whether it is loaded then."""
    status, output = guest.run('insmod /rmapviz.ko')
    tap.ok(status and (EPERM in output or 'rejected' in output),
           'a module that is not signed is refused', output)
    status, output = guest.run('insmod /signed.ko')
    if not tap.is_equal((status, output), (0, ''),
                        'a module that is signed is loaded'):
        return False
    # E: the kernel has loaded a module without a signature that it trusts
    taint = int(guest.check('cat /proc/sys/kernel/tainted'))
    tap.ok(not taint & 1 << 13, 'and that for its signature', f'{taint:#x}')
    return True


def check_query_file(tap: Tap, guest: Guest) -> None:
    """Nobody gets at a file that could be written."""
    check_refused(tap, guest, f'cat {FILE}', 'reading rmapviz')
    check_refused(tap, guest, f'echo 0 >{FILE}', 'writing it')
    check_refused(tap, guest, 'ask 0', 'opening it for both')


def check_answers(tap: Tap, guest: Guest) -> None:
    """By parameter and rmapviz_answer everything can be asked."""
    with Scene(guest) as scene:
        scene.play('P map M 1\nP write M\nP fork C')
        pid, pfn = scene.pids['P'], scene.pfn('P', 'M')
        for kind, query in (('PFN', f'{pfn:#x}'),
                            ('pid PID ADDR', f'pid {pid} 0x10000000000')):
            output = ask(guest, query).output
            if not tap.ok(output.startswith(
                    f'PFN 0x{pfn:x} is an anonymous page; '
                    '2 processes map it'), f'{kind} is answered', output):
                continue
            report = json.loads(ask(guest, f'{query} json').output)
            tap.is_equal((report['page']['pfn'], mappings(report)),
                         (pfn, scene.witness(pfn)),
                         f'{kind} is answered in JSON, as pagemap says')
            tap.is_equal(scene.proc_faults(report), [],
                         f'{kind}: and has the VMAs of /proc/PID/maps')
        for name, query, message in ERRORS:
            status, output = ask(guest, query.format(pid=pid))
            tap.ok(status and message in output,
                   f'the reader is told of {name}', output)
        output = guest.run(f'echo frob >{PARAMETER}').output
        tap.ok('Invalid argument' in output,
               'the writer is told of what does not parse', output)


def lockdown_lines(guest: Guest) -> List[str]:
    """What the log has of loading and of lockdown."""
    return [line for line in guest.check('dmesg').splitlines()
            if re.search('Lockdown|lockdown|insmod|rmapviz', line)]


def check_confidentiality(tap: Tap, guest: Guest, module: str) -> None:
    """Raised now, it ends what worked; and then nothing can be loaded."""
    guest.check(f'echo 0 brief >{PARAMETER}')
    guest.check(f'exec 5<{ANSWER}; echo confidentiality >{LOCKDOWN}')
    check_mode(tap, guest, 'confidentiality')
    check_refused(tap, guest, 'cat <&5', 'an answer from a file still open')
    guest.check('exec 5<&-')
    check_refused(tap, guest, f'cat {ANSWER}', 'reading rmapviz_answer')
    check_refused(tap, guest, f'cat {FILE}', 'reading rmapviz')
    guest.check('rmmod rmapviz')

    before = lockdown_lines(guest)
    check_refused(tap, guest, f'insmod {module}', 'insmod')
    lines = lockdown_lines(guest)[len(before):]
    # insmod of busybox tries it by two system calls
    tap.ok(len(lines) <= 2 and all('Lockdown: insmod' in line
                                   for line in lines),
           'which is logged once for each try, by the kernel',
           '\n'.join(lines))
    tap.is_equal(guest.run(f'ls -d /sys/module/rmapviz {FILE}* 2>/dev/null')
                 .output, '', 'and which leaves nothing')


def check_signed(tap: Tap, series: str) -> None:
    """A kernel that can be given a key, locked down from its start."""
    with tempfile.TemporaryDirectory(prefix='rmapviz-lockdown.') as name:
        with locked_guest(series, Path(name)) as guest:
            guest.check('mount -t securityfs security /sys/kernel/security')
            check_mode(tap, guest, 'integrity')
            if check_signature(tap, guest):
                check_rest(tap, guest, '/signed.ko')


def check_unsigned(tap: Tap, series: str) -> None:
    """A kernel that cannot: it is locked down when the module is there."""
    for what in ('a module that is signed is loaded',
                 'and that for its signature'):
        tap.skip(what, 'this kernel takes no keys over from the firmware')
    with Guest(series, cpus=1) as guest:
        guest.check('mount -t securityfs security /sys/kernel/security; '
                    f'echo integrity >{LOCKDOWN}')
        check_mode(tap, guest, 'integrity')
        check_rest(tap, guest, '/rmapviz.ko')


def check_rest(tap: Tap, guest: Guest, module: str) -> None:
    """What does not depend on how the module got there."""
    check_query_file(tap, guest)
    check_answers(tap, guest)
    check_confidentiality(tap, guest, module)
    tap.is_equal(guest.kernel_complaints(), [],
                 'the kernel has nothing to complain of')


def main() -> None:
    """On every kernel."""
    with Tap() as tap:
        for series in kernels():
            tap.prefix = f'{series}: '
            if is_debug(series):
                tap.skip('lockdown', 'the debug kernel is built without')
            elif trusts_firmware(series):
                check_signed(tap, series)
            else:
                check_unsigned(tap, series)


if __name__ == '__main__':
    main()
