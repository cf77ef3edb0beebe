#!/usr/bin/python3
"""The module's own life, and what it does when it cannot have a lock."""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest.bench import is_debug  # noqa: E402
from rvtest.scene import FILE, Scene  # noqa: E402

ROUNDS = 50


def check_lifecycle(tap: Tap, guest: Guest) -> None:
    """Load, unload, and unload while it is in use."""
    guest.check(f'exec 3<>{FILE}; echo 0 >&3')
    status, output = guest.run('rmmod rmapviz')
    tap.ok(status and 'unavailable' in output,
           'rmmod is refused while the file is open', output)
    tap.ok(guest.check('cat <&3').startswith('PFN 0x0'),
           'and the descriptor still answers')
    guest.check('exec 3>&-; rmmod rmapviz')
    tap.ok(guest.run(f'test -e {FILE}').status, 'rmmod takes the file along')

    before = guest.check('grep -c . /proc/modules; cat /proc/kallsyms'
                         ' | grep -c "\\[rmapviz\\]"; true')
    status, output = guest.run(
        f'for i in $(seq {ROUNDS}); do insmod /rmapviz.ko && echo $i >{FILE} '
        f'&& rmmod rmapviz || break; done; echo $i', 300)
    tap.is_equal(output, f'{ROUNDS}\n',
                 f'loaded, asked and unloaded {ROUNDS} times')
    after = guest.check('grep -c . /proc/modules; cat /proc/kallsyms'
                        ' | grep -c "\\[rmapviz\\]"; true')
    tap.is_equal(after, before, 'nothing of it is left')
    guest.check('insmod /rmapviz.ko')


def check_references(tap: Tap, guest: Guest) -> None:
    """A page, its processes and its files are let go after a query."""
    guest.check('head -c 65536 </bin/busybox >/tmp/data')
    with Scene(guest) as scene:
        scene.play('P map F 1 file /tmp/data 1\nP write F\nP fork C')
        pfn = scene.pfn('P', 'F')
        guest.check(f'for i in $(seq 100); do echo {pfn}; done | ask - '
                    '>/dev/null')
        page = scene.ask(f'pfn {pfn}')['page']
        tap.is_equal((page['mapcount'], page['refcount'], page['pins']),
                     (2, 2, 0), 'a page that was asked for 100 times has no '
                     'reference too many')
        guest.check(f'exec 3<>{FILE}; echo {pfn} >&3')
    page = json.loads(guest.check(f'ask {pfn} json'))['page']
    # it may still wait in an LRU batch, or be somebody else's by now
    tap.ok(not page['pins'],
           'an answer that nobody has read yet keeps no page', str(page))
    guest.check('exec 3>&-')


def address_spaces(guest: Guest) -> int:
    """How many the kernel has, dead ones that somebody keeps included."""
    # what is cached for each CPU would count as used
    guest.check('echo 1 >/sys/kernel/slab/mm_struct/shrink')
    return int(guest.check("sed -n 's/^mm_struct *//p' /proc/slabinfo")
               .split()[0])


def check_remains(tap: Tap, guest: Guest) -> None:
    """Files and address spaces are let go, though the answer stays."""
    guest.check('mkdir -p /tmp/fs; mount -t tmpfs fs /tmp/fs; '
                'head -c 65536 </bin/busybox >/tmp/fs/data')
    before = address_spaces(guest)
    with Scene(guest) as scene:
        scene.play('P map F 1 file /tmp/fs/data 0\nP read F\n'
                   'P map M 1\nP write M\nP forkmany 300 C')
        pid = scene.pids['P']
        guest.check(f'exec 3<>{FILE}; echo pid {pid} >&3; '
                    f'exec 4<>{FILE}; echo pid {pid} 0x10000000000 >&4')
    tap.is_equal(tuple(guest.run('umount /tmp/fs')), (0, ''),
                 'a file in an answer keeps no file system mounted')
    kept = address_spaces(guest) - before
    if is_debug(guest.series):
        tap.skip('300 processes in an answer leave no address spaces',
                 'KASAN keeps what was freed for a while')
    else:
        tap.ok(kept < 50, f'300 processes in an answer leave {max(0, kept)} '
               'address spaces, give or take the slab')
    tap.ok('/tmp/fs/data' in guest.check('cat <&3') + guest.check('cat <&4'),
           'and the answer still has the name of the file')
    guest.check('exec 3>&- 4>&-')


def check_contention(tap: Tap, guest: Guest) -> None:
    """Somebody else has the lock."""
    with Scene(guest) as scene:
        scene.play('P map M 1\nP write M\nP fork C')
        pfn = scene.pfn('P', 'M')
        for what, parameter in (('folio lock', ''), ('rmap lock', 'rmap=1')):
            guest.check(f'insmod /lib/rmapviz_hold.ko pfn={pfn} {parameter}')
            start = time.monotonic()
            status, output = guest.run(f'ask {pfn} json')
            took = time.monotonic() - start
            tap.ok(status and 'EAGAIN' in output,
                   f'EAGAIN when the {what} is never free', output)
            tap.ok(took < 20, f'and in the end, not for ever ({took:.1f} s)')
            status, output = guest.run(
                f'ask {pfn} json >/tmp/late & sleep 0.2; '
                'rmmod rmapviz_hold; wait $!; cat /tmp/late')
            tap.ok('"mapped": 2' in output,
                   f'an answer when the {what} becomes free meanwhile',
                   output)
            guest.check(f'insmod /lib/rmapviz_hold.ko pfn={pfn} {parameter}')
            status, output = guest.run(
                f'ask {pfn} & sleep 0.1; kill -9 $!; wait $!; echo $?')
            tap.ok(output.strip().endswith('137'),
                   f'who waits for the {what} can be killed', output)
            guest.check('rmmod rmapviz_hold')
        report = scene.ask(f'pfn {pfn}')
        tap.is_equal((report['walk']['mapped'], report['page']['refcount']),
                     (2, 2), 'after that the page is as before')


def main() -> None:
    """On every kernel."""
    with Tap() as tap:
        for series in kernels():
            tap.prefix = f'{series}: '
            with Guest(series) as guest:
                check_lifecycle(tap, guest)
                check_references(tap, guest)
                check_remains(tap, guest)
                check_contention(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
