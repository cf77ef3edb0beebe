#!/usr/bin/python3
"""The module's own life, and what it does when it cannot have a lock."""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest.vm import is_debug, some_kernels  # noqa: E402
from rvtest.scene import FILE, Scene  # noqa: E402

ROUNDS = 50
# Two nodes, so that a page can be moved from the one to the other.
NODES = ('-m', '2048', '-object', 'memory-backend-ram,id=near,size=1024M',
         '-object', 'memory-backend-ram,id=far,size=1024M',
         '-numa', 'node,cpus=0-1,memdev=near', '-numa', 'node,memdev=far')

# Pages of two processes each, and locks of theirs.
CONTENDED = '''
    P map M 1
    P write M
    P map F 1 shared file /tmp/data 1
    P write F
    P map H 512 shared hugetlb
    P write H 0
    P fork C
    C read F
    C read H 0
    '''
LOCKS = (
    ('folio lock', 'M', ''),
    ('rmap lock', 'M', 'rmap=1'),
    ('lock of a file', 'F', 'rmap=1'),
    ('lock of a file of hugetlb', 'H', 'rmap=1'),
)

# Pages to move.
MOVED = (
    ('a page', 'P map M 1\nP write M'),
    ('a huge page',
     'P map M 512\nP madvise M 0 512 hugepage\nP write M 0'),
)


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
    guest.check('echo 1 >/proc/sys/vm/nr_hugepages')
    with Scene(guest) as scene:
        scene.story(CONTENDED)
        for what, region, parameter in LOCKS:
            check_lock(tap, scene, what, scene.pfn('P', region), parameter)


def check_lock(tap: Tap, scene: Scene, what: str, pfn: int,
               parameter: str) -> None:
    """A page of two processes, of which somebody else has a lock."""
    guest = scene.guest
    hold = f'insmod /lib/rmapviz_hold.ko pfn={pfn} {parameter}'
    before = scene.ask(f'pfn {pfn}')
    start = time.monotonic()
    # a query that waits for the lock gets it in the end, and an answer
    status, output = guest.run(
        f'{hold}; ask {pfn} json >/tmp/late 2>&1 & for i in $(seq 300); '
        'do kill -0 $! || break; sleep 0.1; done 2>/dev/null; '
        'rmmod rmapviz_hold; wait $!; cat /tmp/late')
    took = time.monotonic() - start
    if not tap.ok('EAGAIN' in output,
                  f'EAGAIN when the {what} is never free', output):
        return
    tap.ok(took < 20, f'and in the end, not for ever ({took:.1f} s)')
    status, output = guest.run(
        f'{hold}; ask {pfn} json >/tmp/late & sleep 0.2; '
        'rmmod rmapviz_hold; wait $!; cat /tmp/late')
    tap.ok('"mapped": 2' in output,
           f'an answer when the {what} becomes free meanwhile', output)
    status, output = guest.run(
        f'{hold}; ask {pfn} & sleep 0.1; kill -9 $!; wait $!; echo $?')
    tap.ok(output.strip().endswith('137'),
           f'who waits for the {what} can be killed', output)
    guest.check('rmmod rmapviz_hold')
    after = scene.ask(f'pfn {pfn}')
    tap.is_equal((after['walk']['mapped'], after['page']['refcount']),
                 (2, before['page']['refcount']),
                 'after that the page is as before')


def check_migration(tap: Tap, guest: Guest) -> None:
    """A process has a migration entry where its page was and will be."""
    at = '/sys/module/rmapviz_migrating/parameters'
    for what, told in MOVED:
        with Scene(guest) as scene:
            scene.story(told)
            pfn = scene.pfn('P', 'M')
            query = f"pid {scene.pids['P']} 0x10000000000"
            output = guest.check(
                f'insmod /lib/rmapviz_migrating.ko pfn={pfn}; '
                'tell -t 60 P move M 0 1 1 & for i in $(seq 100); do '
                f'grep Y {at}/stopped && break; sleep 0.1; done; '
                f'ask {query}; echo 1 >{at}/go_on; wait $!; '
                'rmmod rmapviz_migrating')
            tap.ok(output.startswith('Y\n') and 'EAGAIN' in output,
                   f'EAGAIN while {what} is migrated', output)
            page = scene.ask(query)['page']
            tap.is_equal((page['pfn'], page['mapcount'], page['pfn'] != pfn),
                         (scene.pfn('P', 'M'), 1, True),
                         'and afterwards an answer')


def main() -> None:
    """On every kernel."""
    with Tap() as tap:
        with_nodes = some_kernels(tap)
        for series in kernels():
            tap.prefix = f'{series}: '
            with Guest(series) as guest:
                check_lifecycle(tap, guest)
                check_references(tap, guest)
                check_remains(tap, guest)
                check_contention(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')
            if series not in with_nodes:
                continue
            with Guest(series, append='numa_balancing=disable',
                       extra_args=NODES) as guest:
                check_migration(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'nor has it with two nodes')


if __name__ == '__main__':
    main()
